/* From method and path to a target: by example, and against a matcher that simply tries
 * every pattern. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/buf.h"
#include "base/check.h"
#include "base/mem.h"
#include "http/route.h"

enum { GET = 1u << METHOD_GET, HEAD = 1u << METHOD_HEAD, POST = 1u << METHOD_POST };

static void add(struct route_tree *t, unsigned methods, const char *pattern)
{
    assert_int_equal(route_add(t, methods, slice_of(pattern), (void *)(uintptr_t)pattern),
                     ROUTE_ADDED);
}

/* "pattern name=value ...", "no method", or "not found". */
static void assert_route(const struct route_tree *t, enum method method, const char *path,
                         const char *expected)
{
    struct route_match match;
    struct buf out = { 0 };

    switch (route_find(t, method, slice_of(path), &match)) {
    case ROUTE_FOUND:
        buf_add_text(&out, match.target);
        for (int i = 0; i < match.param_count; i++) {
            buf_add_byte(&out, ' ');
            buf_add_slice(&out, match.names[i]);
            buf_add_byte(&out, '=');
            buf_add_slice(&out, match.values[i]);
        }
        break;
    case ROUTE_NO_METHOD: BUF_ADD(&out, "no method"); break;
    case ROUTE_NOT_FOUND:
        BUF_ADD(&out, "not found");
        assert_int_equal(match.allowed, 0);
        break;
    }
    buf_add_byte(&out, '\0');
    assert_string_equal(out.p, expected);
    buf_free(&out);
}

/* ---- examples ------------------------------------------------------------------------ */

static const char *const patterns[] = {
    "/",
    "/health",
    "/api/v1/products",
    "/api/v1/products/",
    "/api/v1/products/stats",
    "/api/v1/products/:id",
    "/api/v1/products/:id/reviews/:review",
    "/api/:version/products/popular",
    "/files/readme",
    "/files/:name",
    "/files/*path",
    "/deep/:a/x",
    "/deep/*all",
    "/:any/end",
};

static const struct {
    const char *path, *expected;
} found[] = {
    { "/", "/" },
    { "/health", "/health" },
    /* one slash behind a path makes no other path of it */
    { "/health/", "/health" },
    { "/health//", "not found" },
    { "/api/v1/products/7/", "/api/v1/products/:id id=7" },
    { "/api/v1/products/stats/", "/api/v1/products/stats" },
    { "/Health", "not found" },
    { "/healt", "not found" },
    { "/healthy", "not found" },
    { "", "not found" },
    { "health", "not found" },
    { "*", "not found" },
    { "//", "not found" },
    { "//health", "not found" },
    { "/api/v1/products", "/api/v1/products" },
    { "/api/v1/products/", "/api/v1/products/" },
    { "/api/v1//products", "not found" },
    /* a literal wins over a parameter, whatever follows is tried after it */
    { "/api/v1/products/stats", "/api/v1/products/stats" },
    { "/api/v1/products/7", "/api/v1/products/:id id=7" },
    { "/api/v1/products/popular", "/api/v1/products/:id id=popular" },
    { "/api/v2/products/popular", "/api/:version/products/popular version=v2" },
    { "/api/v1/products/stats/reviews/1",
      "/api/v1/products/:id/reviews/:review id=stats review=1" },
    { "/api/v1/products/7/reviews/", "not found" },
    { "/api/v1/products//reviews/1", "not found" },
    { "/api/v1/products/7/reviews/8/9", "not found" },
    /* a parameter over a rest */
    { "/files", "not found" },
    { "/files/", "/files/*path path=" },
    { "/files/readme", "/files/readme" },
    { "/files/x", "/files/:name name=x" },
    { "/files/readme/x", "/files/*path path=readme/x" },
    { "/files/x/y//z/", "/files/*path path=x/y//z/" },
    { "/files//", "/files/*path path=/" },
    { "/deep/1/x", "/deep/:a/x a=1" },
    { "/deep/1/y", "/deep/*all all=1/y" },
    { "/deep/1/x/z", "/deep/*all all=1/x/z" },
    { "/health/end", "/:any/end any=health" },
    { "/other/end", "/:any/end any=other" },
    { "//end", "not found" },
};

static void examples(void **state)
{
    (void)state;
    for (int backwards = 0; backwards < 2; backwards++) {
        struct route_tree *t = route_tree_new();

        assert_non_null(t);
        for (size_t i = 0; i < COUNT_OF(patterns); i++)
            add(t, GET, patterns[backwards ? COUNT_OF(patterns) - 1 - i : i]);
        for (size_t i = 0; i < COUNT_OF(found); i++)
            assert_route(t, METHOD_GET, found[i].path, found[i].expected);
        route_tree_free(t);
    }
    assert_int_equal(mem_live(), 0);
}

static void methods(void **state)
{
    struct route_tree *t = route_tree_new();
    struct route_match match;

    (void)state;
    assert_non_null(t);
    add(t, GET, "/a");
    add(t, POST | 1u << METHOD_PUT, "/a");
    add(t, POST, "/a/new");
    add(t, GET, "/a/:id");
    add(t, 1u << METHOD_DELETE, "/a/:other");
    add(t, HEAD, "/b");
    add(t, GET, "/b");
    assert_route(t, METHOD_PUT, "/a", "/a");
    assert_route(t, METHOD_POST, "/a/new", "/a/new");
    assert_route(t, METHOD_GET, "/a/new", "/a/:id id=new");
    assert_route(t, METHOD_DELETE, "/a/1", "/a/:other other=1");
    assert_route(t, METHOD_UNKNOWN, "/a", "no method");

    assert_int_equal(route_find(t, METHOD_PATCH, SLICE("/a"), &match), ROUTE_NO_METHOD);
    assert_int_equal(match.allowed, GET | POST | 1u << METHOD_PUT);
    /* the methods of every pattern that fits */
    assert_int_equal(route_find(t, METHOD_PUT, SLICE("/a/new"), &match), ROUTE_NO_METHOD);
    assert_int_equal(match.allowed, GET | POST | 1u << METHOD_DELETE);

    /* HEAD is served by GET, unless it has a route of its own */
    assert_route(t, METHOD_HEAD, "/a/1", "/a/:id id=1");
    assert_int_equal(route_find(t, METHOD_HEAD, SLICE("/b"), &match), ROUTE_FOUND);
    assert_int_equal(route_find(t, METHOD_HEAD, SLICE("/c"), &match), ROUTE_NOT_FOUND);
    add(t, POST, "/c");
    assert_route(t, METHOD_HEAD, "/c", "no method");
    route_tree_free(t);
    route_tree_free(NULL);
    assert_int_equal(mem_live(), 0);
}

static void head_has_its_own(void **state)
{
    struct route_tree *t = route_tree_new();
    struct route_match match;
    char get[] = "get", head[] = "head";

    (void)state;
    assert_non_null(t);
    assert_int_equal(route_add(t, GET, SLICE("/b"), get), ROUTE_ADDED);
    assert_int_equal(route_add(t, HEAD, SLICE("/b"), head), ROUTE_ADDED);
    assert_int_equal(route_find(t, METHOD_HEAD, SLICE("/b"), &match), ROUTE_FOUND);
    assert_string_equal(match.target, "head");
    route_tree_free(t);
}

static void refused_patterns(void **state)
{
    static const struct {
        const char *pattern;
        enum route_added expected;
    } tries[] = {
        { "", ROUTE_MALFORMED },
        { "a", ROUTE_MALFORMED },
        { "*", ROUTE_MALFORMED },
        { ":id", ROUTE_MALFORMED },
        { "/:", ROUTE_MALFORMED },
        { "/*", ROUTE_MALFORMED },
        { "/:1a", ROUTE_MALFORMED },
        { "/:a-b", ROUTE_MALFORMED },
        { "/*rest/more", ROUTE_MALFORMED },
        { "/*rest/", ROUTE_MALFORMED },
        { "/:a/:a", ROUTE_MALFORMED },
        { "/:a/*a", ROUTE_MALFORMED },
        { "/:a/:b/:c/:d/:e/:f/:g/:h/:i", ROUTE_MALFORMED },
        { "/:a/:b/:c/:d/:e/:f/:g/:h", ROUTE_ADDED },
        { "/x", ROUTE_ADDED },
        { "/x", ROUTE_DUPLICATE },
        { "/x/:a", ROUTE_ADDED },
        { "/x/:b", ROUTE_DUPLICATE },
        { "/x/:a/y", ROUTE_ADDED },
        { "/x/:b/y", ROUTE_DUPLICATE },
        { "/x/*a", ROUTE_ADDED },
        { "/x/*b", ROUTE_DUPLICATE },
    };
    struct route_tree *t = route_tree_new();

    (void)state;
    assert_non_null(t);
    for (size_t i = 0; i < COUNT_OF(tries); i++)
        assert_int_equal(route_add(t, GET, slice_of(tries[i].pattern), NULL),
                         tries[i].expected);
    assert_int_equal(route_add(t, GET | POST, SLICE("/x"), NULL), ROUTE_DUPLICATE);
    assert_int_equal(route_add(t, POST, SLICE("/x"), NULL), ROUTE_ADDED);
    route_tree_free(t);
    assert_int_equal(mem_live(), 0);
}

/* The tree keeps its own copy of a pattern. */
static void patterns_are_copied(void **state)
{
    struct route_tree *t = route_tree_new();
    char pattern[] = "/lists/:id";
    struct route_match match;

    (void)state;
    assert_non_null(t);
    assert_int_equal(route_add(t, GET, slice_of(pattern), NULL), ROUTE_ADDED);
    memset(pattern, '?', sizeof pattern - 1);
    assert_int_equal(route_find(t, METHOD_GET, SLICE("/lists/9"), &match), ROUTE_FOUND);
    assert_true(slice_equal(match.names[0], SLICE("id")));
    assert_true(slice_equal(match.values[0], SLICE("9")));
    route_tree_free(t);
}

/* A path of very many segments is an ordinary one. */
static void long_paths(void **state)
{
    struct route_tree *t = route_tree_new();
    struct buf path = { 0 };
    struct route_match match;

    (void)state;
    assert_non_null(t);
    add(t, GET, "/x/*rest");
    for (int i = 0; i < 100000; i++) BUF_ADD(&path, "/x");
    assert_int_equal(route_find(t, METHOD_GET, buf_slice(&path), &match), ROUTE_FOUND);
    assert_int_equal(match.values[0].n, path.n - 3);
    buf_free(&path);
    route_tree_free(t);
    assert_int_equal(mem_live(), 0);
}

static void lookups_allocate_nothing(void **state)
{
    struct route_tree *t = route_tree_new();

    (void)state;
    assert_non_null(t);
    for (size_t i = 0; i < COUNT_OF(patterns); i++) add(t, GET, patterns[i]);
    mem_fail_after(0);
    for (size_t i = 0; i < COUNT_OF(found); i++) {
        struct route_match match;

        (void)route_find(t, METHOD_HEAD, slice_of(found[i].path), &match);
    }
    assert_false(mem_failed());
    mem_fail_after(-1);
    route_tree_free(t);
}

/* ---- against every pattern, one by one ------------------------------------------------- */

enum { NAIVE_MAX = 24, NAIVE_SEGMENTS = 12 };

struct naive {
    char pattern[NAIVE_MAX][64];
    unsigned methods[NAIVE_MAX];
    int count;
};

static int split(const char *text, char segments[][8])
{
    int n = 0;

    for (const char *p = text; *p == '/'; n++) {
        size_t length = strcspn(p + 1, "/");

        assert_true(n < NAIVE_SEGMENTS && length < 8);
        memcpy(segments[n], p + 1, length);
        segments[n][length] = '\0';
        p += length + 1;
    }
    return n;
}

/* How well a pattern fits, one letter a segment: 'a' literal, 'b' parameter, 'c' rest; the
 * least in the order of the alphabet is the best.  False when it does not. */
static bool fit(const char *pattern, const char *path, char grade[NAIVE_SEGMENTS + 1])
{
    char want[NAIVE_SEGMENTS][8], have[NAIVE_SEGMENTS][8];
    int wants = split(pattern, want), haves = split(path, have);

    for (int i = 0; i < wants; i++) {
        grade[i + 1] = '\0';
        if (i < haves && want[i][0] == '*') {
            grade[i] = 'c';
            return true;
        }
        if (i >= haves) return false;
        if (want[i][0] == ':' && have[i][0] != '\0') grade[i] = 'b';
        else if (want[i][0] != ':' && strcmp(want[i], have[i]) == 0) grade[i] = 'a';
        else return false;
    }
    return wants == haves;
}

static int naive_find_as_is(const struct naive *all, unsigned bit, const char *path,
                            unsigned *allowed)
{
    char best[NAIVE_SEGMENTS + 1] = "z";
    int which = -1;

    *allowed = 0;
    for (int i = 0; i < all->count; i++) {
        char grade[NAIVE_SEGMENTS + 1];

        if (!fit(all->pattern[i], path, grade)) continue;
        *allowed |= all->methods[i];
        if (!(all->methods[i] & bit) || strcmp(grade, best) >= 0) continue;
        which = i;
        memcpy(best, grade, sizeof best);
    }
    return which;
}

static int naive_find(const struct naive *all, unsigned bit, const char *path,
                      unsigned *allowed)
{
    size_t n = strlen(path);
    char shorter[128];
    int which = naive_find_as_is(all, bit, path, allowed);

    if (*allowed != 0 || n < 2 || strcmp(path + n - 1, "/") != 0) return which;
    if (path[n - 2] == '/') return which;
    assert_true(n < sizeof shorter);
    memcpy(shorter, path, n - 1);
    shorter[n - 1] = '\0';
    return naive_find_as_is(all, bit, shorter, allowed);
}

static void random_path(unsigned *seed, bool pattern, char *out)
{
    static const char *const words[] = { "a", "b", "aa", "ab", "", "c", ":", ":", "*" };
    int segments = 1 + rand_r(seed) % 5, n = 0;

    for (int i = 0; i < segments; i++) {
        const char *word = words[rand_r(seed) % (pattern ? 9 : 6)];

        if (*word == '*' && i < segments - 1) word = ":";
        n += sprintf(out + n, *word == ':' || *word == '*' ? "/%sp%d" : "/%s", word, i);
    }
}

static void random_tree(struct route_tree *t, struct naive *all, unsigned *seed)
{
    while (all->count < NAIVE_MAX) {
        char *pattern = all->pattern[all->count];
        unsigned bits = 1u + (unsigned)rand_r(seed) % 7;

        random_path(seed, true, pattern);
        switch (route_add(t, bits, slice_of(pattern), pattern)) {
        case ROUTE_ADDED: all->methods[all->count++] = bits; break;
        case ROUTE_DUPLICATE: break;
        case ROUTE_MALFORMED:
        case ROUTE_NO_MEMORY: fail_msg("%s was refused", pattern);
        }
    }
}

/* The parameter "p3" is the third segment, counted from 0; or all from there on. */
static void check_values(const struct route_match *match, const char *path)
{
    const char *pattern = match->target;
    int count = 0;

    for (int i = 0; *pattern == '/'; i++) {
        size_t length = strcspn(pattern + 1, "/"), have = strcspn(path + 1, "/");
        char kind = pattern[1];

        if (kind == ':' || kind == '*') {
            struct slice value = { path + 1, kind == '*' ? strlen(path + 1) : have };

            assert_true(count < match->param_count);
            assert_int_equal(match->names[count].p[1], '0' + i);
            assert_true(slice_equal(match->values[count], value));
            count++;
        }
        pattern += length + 1;
        path += have + 1;
    }
    assert_int_equal(count, match->param_count);
}

static void compare(const struct route_tree *t, const struct naive *all, const char *path,
                    enum method method)
{
    unsigned bit = 1u << method, allowed;
    struct route_match match;
    enum route_found got = route_find(t, method, slice_of(path), &match);
    int which = naive_find(all, bit, path, &allowed);

    if (which < 0 && method == METHOD_HEAD) which = naive_find(all, GET, path, &allowed);
    if (which >= 0) {
        assert_int_equal(got, ROUTE_FOUND);
        assert_ptr_equal(match.target, all->pattern[which]);
        check_values(&match, path);
        return;
    }
    assert_int_equal(got, allowed == 0 ? ROUTE_NOT_FOUND : ROUTE_NO_METHOD);
    assert_int_equal(match.allowed, allowed);
}

static void random_trees(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= 300; seed++) {
        struct route_tree *t = route_tree_new();
        static struct naive all;
        unsigned random = seed;

        assert_non_null(t);
        all.count = 0;
        random_tree(t, &all, &random);
        for (int i = 0; i < 200; i++) {
            char path[64];

            random_path(&random, false, path);
            for (int m = METHOD_GET; m <= METHOD_POST; m++)
                compare(t, &all, path, (enum method)m);
        }
        route_tree_free(t);
    }
    assert_int_equal(mem_live(), 0);
}

/* ---- no memory ------------------------------------------------------------------------------ */

/* A tree of which one allocation failed holds the other routes, and takes the lost one
 * afterwards. */
static void out_of_memory(void **state)
{
    bool failed = true;

    (void)state;
    for (long n = 0; failed; n++) {
        struct route_tree *t;
        int lost = -1;

        mem_fail_after(n);
        t = route_tree_new();
        for (size_t i = 0; t != NULL && i < COUNT_OF(patterns); i++) {
            enum route_added added =
                route_add(t, GET, slice_of(patterns[i]), (void *)(uintptr_t)patterns[i]);

            if (added != ROUTE_ADDED) {
                assert_int_equal(added, ROUTE_NO_MEMORY);
                assert_int_equal(lost, -1);
                lost = (int)i;
            }
        }
        failed = mem_failed();
        mem_fail_after(-1);
        assert_int_equal(failed, t == NULL || lost >= 0);
        if (lost >= 0) add(t, GET, patterns[lost]);
        for (size_t i = 0; t != NULL && i < COUNT_OF(found); i++)
            assert_route(t, METHOD_GET, found[i].path, found[i].expected);
        route_tree_free(t);
        assert_int_equal(mem_live(), 0);
        assert_true(n < 1000);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(examples),
        cmocka_unit_test(methods),
        cmocka_unit_test(head_has_its_own),
        cmocka_unit_test(refused_patterns),
        cmocka_unit_test(patterns_are_copied),
        cmocka_unit_test(long_paths),
        cmocka_unit_test(lookups_allocate_nothing),
        cmocka_unit_test(random_trees),
        cmocka_unit_test(out_of_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
