#include "base/arena.h"

#include <stdint.h>
#include <string.h>

#include "base/mem.h"

enum { BLOCK_SIZE = 4096, ALIGN = 16 };

struct arena_block {
    struct arena_block *next;
    size_t cap, n;
    _Alignas(ALIGN) char bytes[];
};

struct arena_deferred {
    struct arena_deferred *next;
    void (*run)(void *what);
    void *what;
};

static struct arena_block *block_new(size_t size)
{
    size_t cap = size > BLOCK_SIZE - sizeof(struct arena_block)
                     ? size
                     : BLOCK_SIZE - sizeof(struct arena_block);
    struct arena_block *block;

    if (cap > SIZE_MAX - sizeof *block) return NULL;
    block = mem_get(sizeof *block + cap);
    if (block == NULL) return NULL;
    block->cap = cap;
    block->n = 0;
    return block;
}

void *arena_get(struct arena *a, size_t size)
{
    struct arena_block *block = a->blocks;
    size_t rounded;

    if (size > SIZE_MAX - ALIGN) return NULL;
    rounded = (size + ALIGN - 1) & ~(size_t)(ALIGN - 1);
    if (block == NULL || block->cap - block->n < rounded) {
        block = block_new(rounded);
        if (block == NULL) return NULL;
        block->next = a->blocks;
        a->blocks = block;
    }
    void *p = block->bytes + block->n;
    block->n += rounded;
    a->used += rounded;
    return p;
}

struct slice arena_copy(struct arena *a, const char *bytes, size_t n)
{
    char *p = n == SIZE_MAX ? NULL : arena_get(a, n + 1);

    if (p == NULL) return (struct slice){ NULL, 0 };
    if (n > 0) memcpy(p, bytes, n);
    p[n] = '\0';
    return (struct slice){ p, n };
}

int arena_defer(struct arena *a, void (*run)(void *what), void *what)
{
    struct arena_deferred *d = arena_get(a, sizeof *d);

    if (d == NULL) return 0;
    *d = (struct arena_deferred){ a->deferred, run, what };
    a->deferred = d;
    return 1;
}

static void run_deferred(struct arena *a)
{
    while (a->deferred != NULL) {
        struct arena_deferred *d = a->deferred;

        a->deferred = d->next;
        d->run(d->what);
    }
}

static void free_blocks(struct arena *a, struct arena_block *but)
{
    struct arena_block *next;

    for (struct arena_block *block = a->blocks; block != NULL; block = next) {
        next = block->next;
        if (block != but) mem_free(block);
    }
    a->blocks = but;
    a->used = 0;
    if (but != NULL) {
        but->next = NULL;
        but->n = 0;
    }
}

void arena_reset(struct arena *a)
{
    struct arena_block *oldest = a->blocks;

    run_deferred(a);
    while (oldest != NULL && oldest->next != NULL) oldest = oldest->next;
    if (oldest != NULL && oldest->cap > BLOCK_SIZE) oldest = NULL;
    free_blocks(a, oldest);
}

void arena_end(struct arena *a)
{
    run_deferred(a);
    free_blocks(a, NULL);
}
