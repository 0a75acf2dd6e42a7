/* arena.h -- memory that ends together, with clean-ups that end with it. */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include <stddef.h>

#include "base/check.h"
#include "base/slice.h"

struct arena_block;
struct arena_deferred;

struct arena {
    struct arena_block *blocks;      /* newest first */
    struct arena_deferred *deferred; /* newest first */
    size_t used;                     /* bytes given out */
};

/* Aligned for any type, not cleared; NULL when there is no memory. */
MUST_CHECK void *arena_get(struct arena *a, size_t size);

/* A copy with a NUL behind it; p is NULL when there is no memory. */
MUST_CHECK struct slice arena_copy(struct arena *a, const char *bytes, size_t n);

/* Calls run(what) when the arena ends, the newest first.  False, and nothing
 * is registered, when there is no memory: the caller then cleans up itself. */
MUST_CHECK int arena_defer(struct arena *a, void (*run)(void *what), void *what);

/* Runs the clean-ups and frees everything but one block of the usual size,
 * which the next use of the arena starts with. */
void arena_reset(struct arena *a);

/* Runs the clean-ups and frees everything. */
void arena_end(struct arena *a);

#endif
