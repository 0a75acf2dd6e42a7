/* Queries and urlencoded forms. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/buf.h"
#include "base/check.h"
#include "base/mem.h"
#include "http/message.h"

/* "key=value|", one a pair, and how it ended. */
static int read_all(struct slice text, struct arena *arena, struct buf *out)
{
    struct slice key, value;
    int got;

    while ((got = form_next(arena, &text, &key, &value)) == 1) {
        buf_add_slice(out, key);
        BUF_ADD(out, "=");
        buf_add_slice(out, value);
        BUF_ADD(out, "|");
    }
    return got;
}

struct example {
    struct slice text;
    int end;
    const char *pairs;
};

static const struct example examples[] = {
    { SLICE(""), 0, "" },
    { SLICE("a=1"), 0, "a=1|" },
    { SLICE("a=1&b=2"), 0, "a=1|b=2|" },
    { SLICE("a=1&a=2"), 0, "a=1|a=2|" },
    { SLICE("a"), 0, "a=|" },
    { SLICE("a="), 0, "a=|" },
    { SLICE("=a"), 0, "=a|" },
    { SLICE("a=b=c"), 0, "a=b=c|" },
    { SLICE("&&a=1&&b&"), 0, "a=1|b=|" },
    { SLICE("&"), 0, "" },
    { SLICE("a+b=c+d"), 0, "a b=c d|" },
    { SLICE("a%2Bb=%26%3d%25"), 0, "a+b=&=%|" },
    { SLICE("%61=%C3%A9"), 0, "a=\xc3\xa9|" },
    { SLICE("a=%2541"), 0, "a=%41|" },
    { SLICE("a=\xc3\xa9"), 0, "a=\xc3\xa9|" },
    { SLICE("a=1;b=2"), 0, "a=1;b=2|" },
    { SLICE("a=%0a"), 0, "a=\n|" },
    { SLICE("a=1&b=%"), -1, "a=1|" },
    { SLICE("a=%4"), -1, "" },
    { SLICE("a=%4&b=1"), -1, "" },
    { SLICE("a=%zz"), -1, "" },
    { SLICE("%=1"), -1, "" },
    { SLICE("a=% 41"), -1, "" },
    { SLICE("a=%00"), -1, "" },
    { SLICE("%00a=1"), -1, "" },
    { SLICE("a=\0"), -1, "" },
    { SLICE("a=%ff"), -1, "" },
    { SLICE("a=%c0%80"), -1, "" },
    { SLICE("a=%ed%a0%80"), -1, "" },
    { SLICE("a=%c3&b=%a9"), -1, "" },
    { SLICE("a=\xff"), -1, "" },
};

static void pairs(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(examples); i++) {
        const struct example *e = &examples[i];
        struct arena arena = { 0 };
        struct buf out = { 0 };

        assert_int_equal(read_all(e->text, &arena, &out), e->end);
        buf_add_byte(&out, '\0');
        assert_string_equal(out.p, e->pairs);
        buf_free(&out);
        arena_end(&arena);
    }
    assert_int_equal(mem_live(), 0);
}

/* An absent query is an empty one; and the pairs do not point into the text. */
static void odds(void **state)
{
    struct arena arena = { 0 };
    struct slice none = { NULL, 0 }, key, value, rest;
    char text[] = "key=value";

    (void)state;
    assert_int_equal(form_next(&arena, &none, &key, &value), 0);
    rest = slice_of(text);
    assert_int_equal(form_next(&arena, &rest, &key, &value), 1);
    memset(text, '?', sizeof text - 1);
    assert_true(slice_equal(key, SLICE("key")));
    assert_true(slice_equal(value, SLICE("value")));
    arena_end(&arena);
    assert_int_equal(mem_live(), 0);
}

static void out_of_memory(void **state)
{
    bool failed = true;

    (void)state;
    for (long n = 0; failed; n++) {
        struct arena arena = { 0 };
        struct slice text = SLICE("key=value&other=x"), key, value;
        int pair_count = 0, got;

        mem_fail_after(n);
        while ((got = form_next(&arena, &text, &key, &value)) == 1) pair_count++;
        failed = mem_failed();
        mem_fail_after(-1);
        assert_int_equal(got, failed ? -1 : 0);
        if (!failed) assert_int_equal(pair_count, 2);
        arena_end(&arena);
        assert_int_equal(mem_live(), 0);
        assert_true(n < 10);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(pairs),
        cmocka_unit_test(odds),
        cmocka_unit_test(out_of_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
