/* URLs and what is read from them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "cache/redis.h"
#include "cache/redis_url.h"

static void urls(void **state)
{
    static const struct {
        const char *url;
        bool right;
        struct redis_address a;
    } lines[] = {
        { "redis://h", true, { .host = "h", .port = 6379 } },
        { "REDIS://h:1/", true, { .host = "h", .port = 1 } },
        { "redis://h:65535/15", true, { .host = "h", .port = 65535, .db = 15 } },
        { "redis://h?db=3", true, { .host = "h", .port = 6379, .db = 3 } },
        { "redis://[::1]:7000/2", true, { .host = "::1", .port = 7000, .db = 2 } },
        { "redis://[::1]", true, { .host = "::1", .port = 6379 } },
        { "redis://:p@h", true, { .password = "p", .host = "h", .port = 6379 } },
        { "redis://u:p%2f%25@h",
          true,
          { .user = "u", .password = "p/%", .host = "h", .port = 6379 } },
        { "redis://u:p:q@h",
          true,
          { .user = "u", .password = "p:q", .host = "h", .port = 6379 } },
        { "unix:///a/b.sock", true, { .path = "/a/b.sock" } },
        { "redis+unix:///a%20b?db=1", true, { .path = "/a b", .db = 1 } },
        { "unix://:p@/a", true, { .path = "/a", .password = "p" } },
        { "", false, { .port = 0 } },
        { "h:6379", false, { .port = 0 } },
        { "http://h", false, { .port = 0 } },
        { "rediss://h", false, { .port = 0 } },
        { "redis://", false, { .port = 0 } },
        { "redis:///1", false, { .port = 0 } },
        { "redis://h:", false, { .port = 0 } },
        { "redis://h:0", false, { .port = 0 } },
        { "redis://h:65536", false, { .port = 0 } },
        { "redis://h:6379x", false, { .port = 0 } },
        { "redis://h/x", false, { .port = 0 } },
        { "redis://h/-1", false, { .port = 0 } },
        { "redis://h/1/2", false, { .port = 0 } },
        { "redis://h/99999999999999999999", false, { .port = 0 } },
        { "redis://h?x=1", false, { .port = 0 } },
        { "redis://h?db=", false, { .port = 0 } },
        { "redis://[::1", false, { .port = 0 } },
        { "redis://[::1]x", false, { .port = 0 } },
        { "redis://secret@h", false, { .port = 0 } },
        { "redis://secret:@h", false, { .port = 0 } },
        { "redis://:secret%@h", false, { .port = 0 } },
        { "redis://:secret%4@h", false, { .port = 0 } },
        { "redis://:secret%00@h", false, { .port = 0 } },
        { "redis://:secret%zz@h", false, { .port = 0 } },
        { "unix://a/b", false, { .port = 0 } },
        { "unix://", false, { .port = 0 } },
        { "unix:///a?secret=1", false, { .port = 0 } },
    };
    char message[160], longer[700];

    (void)state;
    for (size_t i = 0; i < COUNT_OF(lines); i++) {
        struct redis_address a;

        message[0] = '\0';
        if (redis_url_parse(lines[i].url, &a, message) != lines[i].right)
            fail_msg("%s: %s", lines[i].url, message);
        if (!lines[i].right) {
            assert_true(message[0] != '\0');
            assert_null(strstr(message, "secret"));
            continue;
        }
        assert_string_equal(a.user, lines[i].a.user);
        assert_string_equal(a.password, lines[i].a.password);
        assert_string_equal(a.host, lines[i].a.host);
        assert_string_equal(a.path, lines[i].a.path);
        assert_int_equal(a.port, lines[i].a.port);
        assert_int_equal(a.db, lines[i].a.db);
    }
    /* The longest path of a socket has 107 bytes. */
    snprintf(longer, sizeof longer, "unix:///%0106d", 0);
    assert_true(redis_url_check(longer, message));
    snprintf(longer, sizeof longer, "unix:///%0107d", 0);
    assert_false(redis_url_check(longer, message));
    snprintf(longer, sizeof longer, "redis://:%0513d@h", 0);
    assert_false(redis_url_check(longer, message));
    snprintf(longer, sizeof longer, "redis://%0256d", 0);
    assert_false(redis_url_check(longer, message));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(urls),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
