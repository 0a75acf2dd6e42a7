#include "script/heap.h"

#include <stdlib.h>
#include <string.h>

/* With a sanitizer every block comes from malloc in its exact size, so that misuse shows. */
#ifdef __SANITIZE_ADDRESS__
enum { SPARE_MAX = 0 };
#else
enum { SPARE_MAX = 1024 * 1024 };
#endif

/* The list for blocks of this size (not 0); HEAP_CLASSES or more: there is none. */
static size_t class_of(size_t size) { return (size - 1) / HEAP_STEP; }

static void *get(struct heap *h, size_t size)
{
    size_t class = class_of(size);
    void *block;

    if (SPARE_MAX == 0 || class >= HEAP_CLASSES) return malloc(size);
    block = h->spare[class];
    if (block == NULL) return malloc((class + 1) * HEAP_STEP);
    h->spare[class] = *(void **)block;
    h->spare_bytes -= (class + 1) * HEAP_STEP;
    return block;
}

static void give(struct heap *h, void *block, size_t size)
{
    size_t class = class_of(size), bytes = (class + 1) * HEAP_STEP;

    if (class >= HEAP_CLASSES || h->spare_bytes + bytes > SPARE_MAX) {
        free(block);
        return;
    }
    *(void **)block = h->spare[class];
    h->spare[class] = block;
    h->spare_bytes += bytes;
}

void *heap_resize(struct heap *h, void *block, size_t before, size_t after)
{
    void *moved;

    if (block == NULL) return after == 0 ? NULL : get(h, after);
    if (after == 0) {
        give(h, block, before);
        return NULL;
    }
    if (class_of(before) >= HEAP_CLASSES && class_of(after) >= HEAP_CLASSES)
        return realloc(block, after);
    if (SPARE_MAX > 0 && class_of(before) == class_of(after)) return block;
    moved = get(h, after);
    if (moved == NULL) return NULL;
    memcpy(moved, block, before < after ? before : after);
    give(h, block, before);
    return moved;
}

void heap_end(struct heap *h)
{
    for (size_t i = 0; i < HEAP_CLASSES; i++)
        while (h->spare[i] != NULL) {
            void *block = h->spare[i];

            h->spare[i] = *(void **)block;
            free(block);
        }
    h->spare_bytes = 0;
}
