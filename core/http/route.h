/* route.h -- from method and path to who answers.
 *
 * A radix tree, built once when the routes load and read-only from then on.
 * Patterns: "/a/:id/b" (one segment, never empty), "/files/" and "*rest" (all that is
 * left, at the end only, may be empty).  A literal segment wins over a
 * parameter, a parameter over a rest.  "/a/" is "/a" where it is no route of its own.
 * Lookups allocate nothing.
 */
#ifndef HTTP_ROUTE_H
#define HTTP_ROUTE_H

#include "http/message.h"

enum { ROUTE_PARAMS_MAX = 8 };

struct route_tree;

struct route_match {
    void *target;
    int param_count;
    struct slice names[ROUTE_PARAMS_MAX];  /* point into the tree */
    struct slice values[ROUTE_PARAMS_MAX]; /* point into the path */
    unsigned allowed;                      /* bit 1 << method: methods of this path */
};

enum route_found { ROUTE_FOUND, ROUTE_NO_METHOD, ROUTE_NOT_FOUND };
enum route_added { ROUTE_ADDED, ROUTE_DUPLICATE, ROUTE_MALFORMED, ROUTE_NO_MEMORY };

MUST_CHECK struct route_tree *route_tree_new(void);
void route_tree_free(struct route_tree *t); /* t may be NULL */

/* 'methods' is a set of bits 1 << method.  Two patterns that differ in the names
 * of their parameters only are duplicates if they share a method. */
enum route_added route_add(struct route_tree *t, unsigned methods, struct slice pattern,
                           void *target);

/* HEAD finds what is registered for GET when it has no route of its own. */
enum route_found route_find(const struct route_tree *t, enum method method,
                            struct slice path, struct route_match *match);

#endif
