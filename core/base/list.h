/* list.h -- an intrusive, counted, doubly linked list.
 *
 * The node is a member of the listed struct, so nothing is allocated and an
 * object leaves its list in constant time.  A node is on at most one list and
 * remembers which, so that a double insertion is caught by an assertion.
 */
#ifndef BASE_LIST_H
#define BASE_LIST_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/check.h"

struct list;

struct list_node {
    struct list_node *prev, *next;
    struct list *list; /* NULL while on none */
};

struct list {
    struct list_node *first, *last;
    size_t count;
};

static inline bool list_on(const struct list_node *node) { return node->list != NULL; }

static inline void list_append(struct list *list, struct list_node *node)
{
    assert(node->list == NULL);
    node->list = list;
    node->prev = list->last;
    node->next = NULL;
    if (list->last != NULL) list->last->next = node;
    else list->first = node;
    list->last = node;
    list->count++;
}

static inline void list_prepend(struct list *list, struct list_node *node)
{
    assert(node->list == NULL);
    node->list = list;
    node->next = list->first;
    node->prev = NULL;
    if (list->first != NULL) list->first->prev = node;
    else list->last = node;
    list->first = node;
    list->count++;
}

static inline void list_remove(struct list_node *node)
{
    struct list *list = node->list;

    assert(list != NULL && list->count > 0);
    if (node->prev != NULL) node->prev->next = node->next;
    else list->first = node->next;
    if (node->next != NULL) node->next->prev = node->prev;
    else list->last = node->prev;
    list->count--;
    *node = (struct list_node){ 0 };
}

/* Takes the first node off; NULL when the list is empty. */
static inline struct list_node *list_take(struct list *list)
{
    struct list_node *node = list->first;

    if (node != NULL) list_remove(node);
    return node;
}

/* The struct that holds 'node' as its member 'name'; NULL for NULL. */
#define LIST_ENTRY(node, type, name)                                                     \
    ({                                                                                   \
        struct list_node *entry_node = (node);                                           \
        entry_node == NULL ? NULL : CONTAINER_OF(entry_node, type, name);                \
    })

#endif
