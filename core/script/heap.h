/* heap.h -- memory for one Lua state: small blocks that were freed wait for their next use.
 *
 * A request makes and drops dozens of small blocks, which the collector frees many at a
 * time: more than malloc's own caches hold.  Lua tells the size of what it frees, so a
 * list for each size is all it takes.
 */
#ifndef SCRIPT_HEAP_H
#define SCRIPT_HEAP_H

#include <stddef.h>

enum { HEAP_STEP = 16, HEAP_CLASSES = 64 }; /* blocks of up to 1 KiB */

struct heap {
    void *spare[HEAP_CLASSES]; /* [i]: blocks of at least (i + 1) * HEAP_STEP bytes */
    size_t spare_bytes;        /* of all of them; bounded */
};

/* Like realloc; 'before' is the size that 'block' was asked for (0 when it is NULL).
 * 'after' 0 frees, and returns NULL. */
void *heap_resize(struct heap *h, void *block, size_t before, size_t after);

/* Frees what is spare; blocks in use stay valid. */
void heap_end(struct heap *h);

#endif
