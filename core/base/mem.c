#include "base/mem.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static atomic_long live;
static atomic_long countdown = -1; /* negative: never fail */
static atomic_int failed;

int mem_fails_now(void)
{
    if (atomic_load_explicit(&countdown, memory_order_relaxed) < 0) return 0;
    if (atomic_fetch_sub(&countdown, 1) != 0) return 0;
    atomic_store(&failed, 1);
    return 1;
}

static void *count(void *block)
{
    if (block != NULL) atomic_fetch_add_explicit(&live, 1, memory_order_relaxed);
    return block;
}

void *mem_get(size_t size)
{
    return mem_fails_now() ? NULL : count(malloc(size == 0 ? 1 : size));
}

void *mem_get_clear(size_t size)
{
    return mem_fails_now() ? NULL : count(calloc(1, size == 0 ? 1 : size));
}

void *mem_resize(void *block, size_t size)
{
    if (block == NULL) return mem_get(size);
    return mem_fails_now() ? NULL : realloc(block, size == 0 ? 1 : size);
}

void mem_free(void *block)
{
    if (block == NULL) return;
    atomic_fetch_sub_explicit(&live, 1, memory_order_relaxed);
    free(block);
}

char *mem_copy_text(const char *text, size_t n)
{
    char *copy = mem_get(n + 1);

    if (copy == NULL) return NULL;
    if (n > 0) memcpy(copy, text, n);
    copy[n] = '\0';
    return copy;
}

long mem_live(void) { return atomic_load(&live); }

void mem_fail_after(long successes)
{
    atomic_store(&failed, 0);
    atomic_store(&countdown, successes);
}

int mem_failed(void) { return atomic_load(&failed); }
