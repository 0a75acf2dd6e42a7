/* Who asks, when proxies stand between: what anybody may write counts for nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/check.h"
#include "base/mem.h"
#include "http/proxy.h"

#define TRUSTED "10.0.0.0/8, 192.0.2.7,2001:db8:1::/48 ,::1"

/* ---- the setting --------------------------------------------------------------------- */

static void settings(void **state)
{
    static const struct {
        const char *text;
        int count;
    } good[] = {
        { "", 0 },
        { " , ,", 0 },
        { "127.0.0.1", 1 },
        { TRUSTED, 4 },
        { "0.0.0.0/0", 1 },
        { "::/0", 1 },
        { "10.1.2.3/8", 1 },
        { "::ffff:10.0.0.0/104", 1 },
        { "192.0.2.1/32,\t::1/128", 2 },
    };
    static const char *const bad[][2] = {
        { "10.0.0.0/33", "10.0.0.0/33" },
        { "127.0.0.1, proxy.example", "proxy.example" },
        { "10.0.0.0/", "10.0.0.0/" },
        { "/8", "/8" },
        { "10.0.0.0/-1", "10.0.0.0/-1" },
        { "10.0.0.0/8x", "10.0.0.0/8x" },
        { "10.0.0.0/0008", "10.0.0.0/0008" },
        { "::/129", "::/129" },
        { "10.0.0", "10.0.0" },
        { "1.2.3.4.5", "1.2.3.4.5" },
        { "127.0.0.1 10.0.0.1", "127.0.0.1 10.0.0.1" },
        { "[::1]", "[::1]" },
        { "*", "*" },
        { "1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb:cccc",
          "1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb:cccc" },
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(good); i++) {
        struct proxies proxies;
        struct slice wrong;

        assert_true(proxies_read(&proxies, slice_of(good[i].text), &wrong));
        assert_int_equal(proxies.count, good[i].count);
    }
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        struct proxies proxies;
        struct slice wrong;

        assert_false(proxies_read(&proxies, slice_of(bad[i][0]), &wrong));
        assert_true(slice_equal(wrong, slice_of(bad[i][1])));
    }
}

static void too_many(void **state)
{
    char list[(PROXIES_MAX + 1) * 10 + 1] = "";
    struct proxies proxies;
    struct slice wrong;

    (void)state;
    for (int i = 0; i < PROXIES_MAX; i++) strcat(list, "10.0.0.1,");
    assert_true(proxies_read(&proxies, slice_of(list), &wrong));
    strcat(list, "10.0.0.1");
    assert_false(proxies_read(&proxies, slice_of(list), &wrong));
    assert_null(wrong.p);
}

/* ---- requests ------------------------------------------------------------------------ */

struct example {
    const char *peer;
    const char *lists[3]; /* X-Forwarded-For, in order */
    const char *client;
};

static void apply(const char *trusted, const char *name, const struct example *e,
                  struct request *r, struct header headers[3])
{
    struct proxies proxies;
    struct slice wrong;

    assert_true(proxies_read(&proxies, slice_of(trusted), &wrong));
    *r = (struct request){ .headers = headers, .peer_port = 5 };
    snprintf(r->peer, sizeof r->peer, "%s", e->peer);
    for (int i = 0; i < 3 && e->lists[i] != NULL; i++)
        headers[r->header_count++] =
            (struct header){ slice_of(name), slice_of(e->lists[i]) };
    proxies_apply(&proxies, r);
}

static void check(const char *trusted, const struct example *e)
{
    struct header headers[3];
    struct request r;

    apply(trusted, "x-FORWARDED-for", e, &r, headers);
    assert_string_equal(r.peer, e->client);
    assert_int_equal(r.peer_port, strcmp(e->peer, e->client) == 0 ? 5 : 0);
    assert_false(r.https);
}

static void forwarded(void **state)
{
    static const struct example examples[] = {
        /* Not from a proxy of ours: nothing counts. */
        { "203.0.113.9", { "198.51.100.1" }, "203.0.113.9" },
        { "192.0.2.8", { "198.51.100.1" }, "192.0.2.8" },
        { "11.0.0.1", { "198.51.100.1" }, "11.0.0.1" },
        { "", { "198.51.100.1" }, "" },
        /* From one: the rightmost that is none. */
        { "10.0.0.1", { NULL }, "10.0.0.1" },
        { "10.0.0.1", { "198.51.100.1" }, "198.51.100.1" },
        { "10.255.0.1", { "1.1.1.1, 198.51.100.1" }, "198.51.100.1" },
        { "10.0.0.1", { "1.1.1.1,198.51.100.1 ,\t10.9.9.9, 192.0.2.7" }, "198.51.100.1" },
        { "10.0.0.1", { "1.1.1.1", "198.51.100.1", "10.2.2.2" }, "198.51.100.1" },
        { "10.0.0.1", { "198.51.100.1, 10.3.3.3", "10.2.2.2" }, "198.51.100.1" },
        { "10.0.0.1", { "10.3.3.3, 10.2.2.2" }, "10.3.3.3" },
        /* Spoofed from outside: what our proxy appended counts, not what it was given. */
        { "10.0.0.1", { "10.0.0.5, 127.0.0.1, 203.0.113.9" }, "203.0.113.9" },
        { "10.0.0.1", { "10.0.0.5, , 203.0.113.9" }, "203.0.113.9" },
        /* Beyond what is no address nothing counts. */
        { "10.0.0.1", { "198.51.100.1, unknown" }, "10.0.0.1" },
        { "10.0.0.1", { "198.51.100.1, _hidden, 10.2.2.2" }, "10.2.2.2" },
        { "10.0.0.1", { "198.51.100.1, 10.2.2.2," }, "10.0.0.1" },
        { "10.0.0.1", { "" }, "10.0.0.1" },
        { "10.0.0.1", { "," }, "10.0.0.1" },
        { "10.0.0.1", { "198.51.100.1", "" }, "10.0.0.1" },
        { "10.0.0.1", { "' OR 1=1 --" }, "10.0.0.1" },
        { "10.0.0.1", { "198.51.100.256" }, "10.0.0.1" },
        { "10.0.0.1", { "198.51.100.1 10.0.0.1" }, "10.0.0.1" },
        { "10.0.0.1", { "\"198.51.100.1\"" }, "10.0.0.1" },
        { "10.0.0.1", { "[2001:db8::1" }, "10.0.0.1" },
        { "10.0.0.1", { "[]" }, "10.0.0.1" },
        /* Both kinds of address, with ports as well. */
        { "10.0.0.1", { "198.51.100.1:8443" }, "198.51.100.1" },
        { "10.0.0.1", { "[2001:db8::1]:443" }, "2001:db8::1" },
        { "10.0.0.1", { "[2001:db8::1]" }, "2001:db8::1" },
        { "::1", { "2001:0DB8:0::1" }, "2001:db8::1" },
        { "2001:db8:1:2::3", { "2001:db8:2::4, 2001:db8:1::9" }, "2001:db8:2::4" },
        { "10.0.0.1", { "::ffff:198.51.100.1" }, "198.51.100.1" },
        { "10.0.0.1", { "198.51.100.1, ::ffff:10.2.2.2" }, "198.51.100.1" },
        { "10.0.0.1", { "fe80::1%eth0" }, "10.0.0.1" },
        { "10.0.0.1", { "::ffff:0:198.51.100.1" }, "::ffff:0:c633:6401" },
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(examples); i++) check(TRUSTED, &examples[i]);
}

static void ranges(void **state)
{
    static const struct example odd[] = {
        { "172.31.255.255", { "198.51.100.1" }, "198.51.100.1" },
        { "172.32.0.0", { "198.51.100.1" }, "172.32.0.0" },
        { "172.15.255.255", { "198.51.100.1" }, "172.15.255.255" },
    };
    static const struct example all[] = {
        { "172.32.0.0", { "198.51.100.1, 1.1.1.1" }, "198.51.100.1" },
        { "::1", { "198.51.100.1" }, "::1" },
    };
    static const struct example nobody = { "127.0.0.1", { "198.51.100.1" }, "127.0.0.1" };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(odd); i++) check("172.16.0.0/12", &odd[i]);
    for (size_t i = 0; i < COUNT_OF(all); i++) check("0.0.0.0/0", &all[i]);
    check("", &nobody);
}

/* The last proxy's word, and only a proxy's. */
static void scheme(void **state)
{
    static const struct {
        struct example e;
        bool https;
    } examples[] = {
        { { "10.0.0.1", { "https" }, "" }, true },
        { { "10.0.0.1", { "HTTPS" }, "" }, true },
        { { "10.0.0.1", { "http" }, "" }, false },
        { { "10.0.0.1", { NULL }, "" }, false },
        { { "10.0.0.1", { "http, https" }, "" }, true },
        { { "10.0.0.1", { "https, http" }, "" }, false },
        { { "10.0.0.1", { "https", "http" }, "" }, false },
        { { "10.0.0.1", { "httpsx" }, "" }, false },
        { { "10.0.0.1", { "" }, "" }, false },
        { { "203.0.113.9", { "https" }, "" }, false },
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(examples); i++) {
        struct header headers[3];
        struct request r;

        apply(TRUSTED, "X-Forwarded-Proto", &examples[i].e, &r, headers);
        assert_int_equal(r.https, examples[i].https);
        assert_string_equal(r.peer, examples[i].e.peer);
    }
}

/* 8 KiB of addresses of ours, and of commas: read to the end, or not, but quickly. */
static void long_lists(void **state)
{
    static char text[8192];
    struct example e = { "10.0.0.1", { text }, "10.0.0.2" };

    (void)state;
    for (size_t i = 0; i + 9 < sizeof text; i += 9) memcpy(text + i, "10.0.0.2,", 9);
    text[strlen(text) - 1] = '\0';
    check(TRUSTED, &e);
    memset(text, ',', sizeof text - 1);
    e.client = "10.0.0.1";
    check(TRUSTED, &e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(settings),  cmocka_unit_test(too_many),
        cmocka_unit_test(forwarded), cmocka_unit_test(ranges),
        cmocka_unit_test(scheme),    cmocka_unit_test(long_lists),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
