/* pattern.h -- Lua's patterns (reference manual, 6.4.1), in a form that always ends.
 *
 * A match can take exponential time, and the hook that ends a script does not reach C.
 * This matcher counts its steps and polls budget_check(), which raises.  It matches
 * what Lua 5.4 matches, in the same order and with the same errors; like there, what
 * is malformed raises only when the match gets to it.
 *
 * Nothing here allocates; a struct pattern is to lie on the C stack.
 */
#ifndef SCRIPT_PATTERN_H
#define SCRIPT_PATTERN_H

#include <lua.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/check.h"
#include "base/slice.h"

enum {
    PATTERN_CAPTURES_MAX = 32,
    PATTERN_DEPTH_MAX = 200, /* nested calls; above it: "pattern too complex" */
};

struct pattern {
    lua_State *L;
    const char *subject, *subject_end;
    const char *text, *text_end;
    int lead;      /* the byte that every match begins with; -1: any */
    int depth;     /* calls that may still be nested */
    unsigned work; /* steps since the last poll */
    int captures;
    struct {
        const char *at;
        ptrdiff_t length; /* or a mark below 0: open, or only a position */
    } capture[PATTERN_CAPTURES_MAX];
};

/* Both texts need a NUL behind their end, as Lua's strings have it, and must stay.
 * An anchor '^' is the caller's: here it is an ordinary byte. */
void pattern_begin(struct pattern *m, lua_State *L, struct slice subject,
                   struct slice text);

/* The end of the match that begins at 'at', or NULL. */
MUST_CHECK const char *pattern_match(struct pattern *m, const char *at);

/* The first match that begins at '*at' or later and does not end at 'not_end' (NULL:
 * any will do).  Sets '*at' to its begin and returns its end, or NULL. */
MUST_CHECK const char *pattern_search(struct pattern *m, const char **at,
                                      const char *not_end);

/* Counts n steps of the caller's own. */
void pattern_work(struct pattern *m, size_t n);

/* The captures of the last match.  Number 0 of a pattern without captures is the
 * match itself, 'whole'.  A position has no bytes: then '*position' is not 0. */
struct slice pattern_capture(struct pattern *m, int number, struct slice whole,
                             lua_Integer *position);
void pattern_push(struct pattern *m, int number, struct slice whole);

/* Pushes all captures, or the whole match if there are none; returns how many. */
int pattern_push_all(struct pattern *m, struct slice whole);

#endif
