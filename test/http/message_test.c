/* Methods, headers, cookies, and what an answer may say. */
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

static void methods(void **state)
{
    static const char *const names[] = { "GET",    "HEAD",    "POST",    "PUT",  "PATCH",
                                         "DELETE", "OPTIONS", "CONNECT", "TRACE" };
    static const char *const others[] = { "", "get", "GETS", "GE", "Post", "QUERY" };

    (void)state;
    assert_int_equal(COUNT_OF(names), METHOD_COUNT);
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        assert_int_equal(method_of(slice_of(names[i])), i);
        assert_true(slice_equal(method_name((enum method)i), slice_of(names[i])));
    }
    for (size_t i = 0; i < COUNT_OF(others); i++)
        assert_int_equal(method_of(slice_of(others[i])), METHOD_UNKNOWN);
    assert_int_equal(method_of((struct slice){ NULL, 0 }), METHOD_UNKNOWN);
    assert_int_equal(method_name(METHOD_UNKNOWN).n, 0);
}

static void headers(void **state)
{
    struct header list[] = {
        { SLICE("Accept"), SLICE("a") },    { SLICE("X_One"), SLICE("twin") },
        { SLICE("x-one"), SLICE("first") }, { SLICE("X-One"), SLICE("second") },
        { SLICE("Empty"), SLICE("") },
    };
    struct request r = { .headers = list, .header_count = COUNT_OF(list) };

    (void)state;
    assert_true(slice_equal(request_header(&r, SLICE("ACCEPT")), SLICE("a")));
    assert_true(slice_equal(request_header(&r, SLICE("X-One")), SLICE("first")));
    assert_true(slice_equal(request_header(&r, SLICE("x_one")), SLICE("twin")));
    assert_non_null(request_header(&r, SLICE("empty")).p);
    assert_null(request_header(&r, SLICE("Accep")).p);
    assert_null(request_header(&r, SLICE("Accepts")).p);
    assert_null(request_header(&r, SLICE("")).p);
    assert_null(request_header(&(struct request){ 0 }, SLICE("Accept")).p);
}

static void cookies(void **state)
{
    static const struct {
        struct slice text;
        const char *pairs;
    } examples[] = {
        { SLICE(""), "" },
        { SLICE("a=1"), "a=1|" },
        { SLICE("a=1; b=2"), "a=1|b=2|" },
        { SLICE("a=1;b=2;"), "a=1|b=2|" },
        { SLICE(" a = 1 ;\tb\t=\t2 "), "a=1|b=2|" },
        { SLICE("a=b=c=="), "a=b=c==|" },
        { SLICE("a=\"x y\"; b=\"; c=\"\""), "a=x y|b=\"|c=|" },
        { SLICE("a="), "a=|" },
        { SLICE("a; b=2"), "b=2|" },
        { SLICE(";; ;a;"), "" },
        { SLICE("a=1; a=2"), "a=1|a=2|" },
        { SLICE("=x"), "=x|" },
        { SLICE("a=%20+"), "a=%20+|" },
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(examples); i++) {
        struct slice rest = examples[i].text, key, value;
        struct buf out = { 0 };

        while (cookie_next(&rest, &key, &value) == 1) {
            buf_add_slice(&out, key);
            BUF_ADD(&out, "=");
            buf_add_slice(&out, value);
            BUF_ADD(&out, "|");
        }
        buf_add_byte(&out, '\0');
        assert_string_equal(out.p, examples[i].pairs);
        buf_free(&out);
    }
    assert_int_equal(mem_live(), 0);
}

/* Every status that the engine answers by itself has its reason. */
static void statuses(void **state)
{
    static const int known[] = { 100, 200, 201, 204, 206, 301, 302, 303, 304, 307, 308,
                                 400, 401, 403, 404, 405, 408, 409, 412, 413, 414, 415,
                                 416, 417, 422, 429, 431, 500, 501, 503, 504, 505, 507 };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(known); i++)
        assert_string_not_equal(status_text(known[i]), status_text(999));
    assert_string_equal(status_text(200), "OK");
    assert_string_equal(status_text(404), "Not Found");
    assert_string_equal(status_text(431), "Request Header Fields Too Large");
    assert_true(strlen(status_text(999)) > 0);
}

/* Nothing that a script says can split a response. */
static void no_response_splitting(void **state)
{
    static const struct {
        struct slice name, value;
        bool good;
    } examples[] = {
        { SLICE("X-One"), SLICE("1"), true },
        { SLICE("x_!#$%&'*+-.^`|~9"), SLICE(""), true },
        { SLICE("X"), SLICE(" \ttabs and \xc3\xa9 "), true },
        { SLICE("X"), { NULL, 0 }, true },
        { SLICE("X"), SLICE("a\rb"), false },
        { SLICE("X"), SLICE("a\nb"), false },
        { SLICE("X"), SLICE("a\r\nSet-Cookie: b"), false },
        { SLICE("X"), SLICE("\n"), false },
        { SLICE("X"), SLICE("a\0"), false },
        { SLICE("X"), SLICE("a\x1b"), false },
        { SLICE("X"), SLICE("a\x7f"), false },
        { SLICE(""), SLICE("a"), false },
        { { NULL, 0 }, SLICE("a"), false },
        { SLICE("X:"), SLICE("a"), false },
        { SLICE("X Y"), SLICE("a"), false },
        { SLICE(" X"), SLICE("a"), false },
        { SLICE("X\r\nY"), SLICE("a"), false },
        { SLICE("X\0"), SLICE("a"), false },
        { SLICE("X\t"), SLICE("a"), false },
        { SLICE("X\x7f"), SLICE("a"), false },
        { SLICE("\xc3\xa9"), SLICE("a"), false },
        { SLICE("X\""), SLICE("a"), false },
        { SLICE("X("), SLICE("a"), false },
        { SLICE("X/Y"), SLICE("a"), false },
        { SLICE("{X}"), SLICE("a"), false },
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(examples); i++) {
        struct response a = { 0 };

        assert_int_equal(response_header(&a, examples[i].name, examples[i].value),
                         examples[i].good);
        assert_int_equal(a.header_count, examples[i].good ? 1 : 0);
        if (!examples[i].good) continue;
        assert_true(slice_equal(a.headers[0].name, examples[i].name));
        assert_true(slice_equal(a.headers[0].value, examples[i].value));
    }
}

static void full_list(void **state)
{
    struct response a = { 0 };

    (void)state;
    for (int i = 0; i < RESPONSE_HEADERS_MAX; i++)
        assert_true(response_header(&a, SLICE("X"), SLICE("1")));
    assert_false(response_header(&a, SLICE("X"), SLICE("1")));
    assert_int_equal(a.header_count, RESPONSE_HEADERS_MAX);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(methods),
        cmocka_unit_test(headers),
        cmocka_unit_test(cookies),
        cmocka_unit_test(statuses),
        cmocka_unit_test(no_response_splitting),
        cmocka_unit_test(full_list),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
