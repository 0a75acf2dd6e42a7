/* The words that every layer uses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/list.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/utf8.h"

/* ---- buf ------------------------------------------------------------------------ */

static void a_buffer_grows_and_drops(void **state)
{
    struct buf b = { 0 };

    (void)state;
    for (int i = 0; i < 1000; i++) buf_addf(&b, "%d,", i);
    buf_add_int(&b, INT64_MIN);
    buf_add_int(&b, 0);
    assert_false(b.failed);
    assert_memory_equal(b.p, "0,1,2,", 6);
    buf_drop(&b, b.n - 21);
    assert_int_equal(b.n, 21);
    assert_memory_equal(b.p, "-92233720368547758080", 21);
    buf_free(&b);
    assert_null(b.p);
}

static void a_failed_buffer_adds_nothing_more(void **state)
{
    struct buf b = { 0 };

    (void)state;
    BUF_ADD(&b, "kept");
    mem_fail_after(0);
    for (int i = 0; i < 300; i++) BUF_ADD(&b, "x");
    BUF_ADD(&b, "more");
    mem_fail_after(-1);
    assert_true(b.failed);
    assert_int_equal(b.n, 256);
    BUF_ADD(&b, "later");
    assert_int_equal(b.n, 256);
    assert_null(buf_room(&b, SIZE_MAX));
    buf_free(&b);
}

/* ---- arena -------------------------------------------------------------------------- */

static int order[4], ended;

static void note(void *what) { order[ended++] = *(int *)what; }

static void an_arena_ends_in_reverse(void **state)
{
    static int one = 1, two = 2, three = 3;
    struct arena a = { 0 };

    (void)state;
    ended = 0;
    assert_true(arena_defer(&a, note, &one));
    char *big = arena_get(&a, 100000);
    assert_non_null(big);
    memset(big, 1, 100000);
    assert_true(arena_defer(&a, note, &two));
    struct slice s = arena_copy(&a, "text", 4);
    assert_string_equal(s.p, "text");
    for (size_t n = 1; n < 200; n++) {
        void *p = arena_get(&a, n);

        assert_non_null(p);
        assert_int_equal((uintptr_t)p % 16, 0);
        memset(p, 2, n);
    }
    arena_reset(&a);
    assert_int_equal(ended, 2);
    assert_int_equal(order[0], 2);
    assert_int_equal(order[1], 1);
    assert_true(arena_defer(&a, note, &three));
    arena_end(&a);
    assert_int_equal(order[2], 3);
    assert_null(arena_get(&a, SIZE_MAX));
}

static void an_arena_may_run_out(void **state)
{
    struct arena a = { 0 };

    (void)state;
    mem_fail_after(0);
    assert_null(arena_get(&a, 10));
    mem_fail_after(0);
    assert_null(arena_copy(&a, "x", 1).p);
    mem_fail_after(0);
    assert_false(arena_defer(&a, note, NULL));
    mem_fail_after(-1);
    arena_end(&a);
}

/* ---- list --------------------------------------------------------------------------- */

struct thing {
    int number;
    struct list_node node;
};

static void a_list_keeps_order_and_count(void **state)
{
    struct thing t[4] = {
        { .number = 0 }, { .number = 1 }, { .number = 2 }, { .number = 3 }
    };
    struct list l = { 0 };

    (void)state;
    list_append(&l, &t[1].node);
    list_append(&l, &t[2].node);
    list_prepend(&l, &t[0].node);
    list_append(&l, &t[3].node);
    assert_int_equal(l.count, 4);
    list_remove(&t[2].node);
    assert_false(list_on(&t[2].node));
    int expected[] = { 0, 1, 3 };
    for (int i = 0; i < 3; i++)
        assert_int_equal(LIST_ENTRY(list_take(&l), struct thing, node)->number,
                         expected[i]);
    assert_null(LIST_ENTRY(list_take(&l), struct thing, node));
    assert_int_equal(l.count, 0);
    assert_null(l.last);
}

/* ---- texts ---------------------------------------------------------------------------- */

static void utf8_is_what_the_rfc_says(void **state)
{
    static const struct {
        const char *text;
        bool valid;
    } cases[] = {
        { "plain ASCII text, long enough", true },
        { "\xc3\xa4", true },
        { "\xe2\x82\xac", true },
        { "\xf0\x9f\x8d\xb0", true },
        { "\xf4\x8f\xbf\xbf", true },
        { "12345678\xc3", false },
        { "\xc0\xaf", false },
        { "\xc1\xbf", false },
        { "\xe0\x9f\xbf", false },
        { "\xed\xa0\x80", false },
        { "\xf0\x8f\xbf\xbf", false },
        { "\xf4\x90\x80\x80", false },
        { "\xf5\x80\x80\x80", false },
        { "\x80", false },
        { "\xe2\x82", false },
        { "\xff", false },
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        assert_int_equal(utf8_valid(cases[i].text, strlen(cases[i].text)),
                         cases[i].valid);
    assert_int_equal(utf8_length("a\xc3\xa4\xf0\x9f\x8d\xb0", 7), 3);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct buf out = { 0 };

        utf8_repair(&out, slice_of(cases[i].text));
        assert_true(utf8_valid(out.p, out.n));
        assert_int_equal(slice_equal(buf_slice(&out), slice_of(cases[i].text)),
                         utf8_valid(cases[i].text, strlen(cases[i].text)));
        buf_free(&out);
    }
}

static void json_strings_are_escaped(void **state)
{
    struct buf b = { 0 };

    (void)state;
    json_add_string(&b, SLICE("a\"b\\c\n\x01\x7f\xc3\xa4"));
    buf_add_byte(&b, '\0');
    assert_string_equal(b.p, "\"a\\\"b\\\\c\\n\\u0001\\u007f\xc3\xa4\"");
    buf_free(&b);
}

static void doubles_read_back_the_same(void **state)
{
    static const double numbers[] = { 0.1, 1.0 / 3, 1e300, 5e-324, -2.5, 123456789.123 };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(numbers); i++) {
        struct buf b = { 0 };

        json_add_double(&b, numbers[i]);
        buf_add_byte(&b, '\0');
        assert_true(strtod(b.p, NULL) == numbers[i]);
        buf_free(&b);
    }
}

static void json_is_told_from_what_is_none(void **state)
{
    static const char *const good[] = {
        "{}",      " [ ] ",
        "null",    "true",
        "false",   "0",
        "-0.5e+3", "1E2",
        "\"\"",    "{\"a\":[1,{\"b\":null}],\"c\":\"\\u00e4\\n\xc3\xa4\"}\n",
    };
    static const char *const bad[] = {
        "",         " ",        "garbage",    "{",   "[1", "[1,]",    "{\"a\"}",
        "{\"a\":}", "{a:1}",    "{\"a\":1}x", "01",  "1.", ".5",      "-",
        "1e",       "+1",       "NaN",        "nul", "\"", "\"\\x\"", "\"\\u00g0\"",
        "\"\n\"",   "\"\xff\"", "{\"a\":1,}", "[1}", "{]",
    };
    char deep[202];

    (void)state;
    for (size_t i = 0; i < COUNT_OF(good); i++)
        assert_true(json_is_text(slice_of(good[i])));
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        assert_false(json_is_text(slice_of(bad[i])));
    assert_false(json_is_text((struct slice){ "1\0", 2 }));
    memset(deep, '[', 101);
    memset(deep + 101, ']', 101);
    assert_true(json_is_text((struct slice){ deep + 1, 200 }));
    assert_false(json_is_text((struct slice){ deep, 202 }));
}

static void times_are_iso(void **state)
{
    char text[CLOCK_ISO_MAX];

    (void)state;
    assert_int_equal(clock_iso(1768473000123456, text), 24);
    assert_string_equal(text, "2026-01-15T10:30:00.123Z");
    clock_iso(0, text);
    assert_string_equal(text, "1970-01-01T00:00:00.000Z");
}

/* ---- log -------------------------------------------------------------------------------- */

static char *logged(enum log_format format, int *fds, int saved)
{
    static char text[4096];
    ssize_t n;

    log_setup(LOG_INFO, format, "test");
    dup2(fds[1], STDERR_FILENO);
    log_debug("hidden");
    log_info("event one", log_text("plain", "x"), log_text("odd", "a b\n\"c\""),
             log_int("n", -5));
    log_flush_all();
    dup2(saved, STDERR_FILENO);
    n = read(fds[0], text, sizeof text - 1);
    assert_true(n > 0);
    text[n] = '\0';
    return text;
}

static void a_line_is_a_line(void **state)
{
    int fds[2], saved = dup(STDERR_FILENO);
    char *text;

    (void)state;
    assert_int_equal(pipe(fds), 0);
    text = logged(LOG_KEY_VALUE, fds, saved);
    assert_non_null(
        strstr(text, "info  [test] event one plain=x odd=\"a b\\n\\\"c\\\"\" n=-5\n"));
    assert_null(strstr(text, "hidden"));
    assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
    text = logged(LOG_JSON, fds, saved);
    assert_non_null(strstr(
        text,
        "\"event\":\"event one\",\"plain\":\"x\",\"odd\":\"a b\\n\\\"c\\\"\",\"n\":-5}\n"));
    close(fds[0]);
    close(fds[1]);
    close(saved);
}

/* A pipe that nobody reads costs memory up to a bound, and never time. */
static void a_full_pipe_never_blocks(void **state)
{
    int fds[2], saved = dup(STDERR_FILENO);

    (void)state;
    assert_int_equal(pipe(fds), 0);
    log_setup(LOG_INFO, LOG_KEY_VALUE, "test");
    dup2(fds[1], STDERR_FILENO);
    for (int i = 0; i < 50000; i++) {
        log_info("a line that takes some room in the buffer", log_int("number", i));
        if (i % 100 == 0) log_flush();
    }
    dup2(saved, STDERR_FILENO);
    log_forget();
    log_flush_all();
    close(fds[0]);
    close(fds[1]);
    close(saved);
}

/* ---- leftovers ------------------------------------------------------------------------------ */

static int nothing_is_left(void **state)
{
    (void)state;
    assert_int_equal(mem_live(), 0);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(a_buffer_grows_and_drops, nothing_is_left),
        cmocka_unit_test_teardown(a_failed_buffer_adds_nothing_more, nothing_is_left),
        cmocka_unit_test_teardown(an_arena_ends_in_reverse, nothing_is_left),
        cmocka_unit_test_teardown(an_arena_may_run_out, nothing_is_left),
        cmocka_unit_test(a_list_keeps_order_and_count),
        cmocka_unit_test(utf8_is_what_the_rfc_says),
        cmocka_unit_test_teardown(json_strings_are_escaped, nothing_is_left),
        cmocka_unit_test_teardown(json_is_told_from_what_is_none, nothing_is_left),
        cmocka_unit_test_teardown(doubles_read_back_the_same, nothing_is_left),
        cmocka_unit_test(times_are_iso),
        cmocka_unit_test_teardown(a_line_is_a_line, nothing_is_left),
        cmocka_unit_test_teardown(a_full_pipe_never_blocks, nothing_is_left),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
