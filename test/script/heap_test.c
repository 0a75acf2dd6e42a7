/* Blocks for Lua: used again, never mixed up, all given back. */
#include "script/heap.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { BLOCKS = 200, ROUNDS = 50000, SIZE_MAX_TRIED = 3000 };

struct block {
    unsigned char *p, mark;
    size_t n;
};

static bool is_whole(const struct block *b)
{
    for (size_t i = 0; i < b->n; i++)
        if (b->p[i] != b->mark) return false;
    return true;
}

static void resize(struct heap *h, struct block *b, size_t n)
{
    size_t kept = n < b->n ? n : b->n;
    unsigned char *p = heap_resize(h, b->p, b->n, n);

    assert_true(n == 0 ? p == NULL : p != NULL);
    assert_true(n == 0 || (uintptr_t)p % HEAP_STEP == 0);
    *b = (struct block){ p, b->mark, kept };
    assert_true(is_whole(b));
    if (n > 0) memset(p, b->mark, n);
    b->n = n;
}

static void bytes_stay_what_they_are(void **state)
{
    struct heap heap = { 0 };
    struct block blocks[BLOCKS] = { { 0 } };

    (void)state;
    srandom(1);
    for (int i = 0; i < BLOCKS; i++) blocks[i].mark = (unsigned char)(i + 1);
    for (int round = 0; round < ROUNDS; round++) {
        struct block *b = &blocks[random() % BLOCKS];

        assert_true(is_whole(b));
        resize(&heap, b, random() % 3 == 0 ? 0 : (size_t)random() % SIZE_MAX_TRIED);
    }
    for (int i = 0; i < BLOCKS; i++) resize(&heap, &blocks[i], 0);
    heap_end(&heap);
}

/* Whatever a script once held, little of it stays. */
static void spare_blocks_are_bounded(void **state)
{
    enum { COUNT = 40000 };
    struct heap heap = { 0 };
    void **blocks = calloc(COUNT, sizeof *blocks);

    (void)state;
    assert_non_null(blocks);
    for (int i = 0; i < COUNT; i++)
        assert_non_null(blocks[i] = heap_resize(&heap, NULL, 0, 100));
    for (int i = 0; i < COUNT; i++) heap_resize(&heap, blocks[i], 100, 0);
    assert_in_range(heap.spare_bytes, 0, 1024 * 1024);
    heap_end(&heap);
    assert_int_equal(heap.spare_bytes, 0);
    free(blocks);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_stay_what_they_are),
        cmocka_unit_test(spare_blocks_are_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
