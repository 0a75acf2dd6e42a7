/* Figures of several workers, added up. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/metrics.h"

static void assert_holds(const struct buf *text, const char *line, int times)
{
    int found = 0;

    for (const char *p = text->p; (p = strstr(p, line)) != NULL; p++) found++;
    if (found != times) fail_msg("%d times, not %d: %s", found, times, line);
}

static struct metrics *blocks(size_t n)
{
    struct metrics *m = calloc(n, sizeof *m);

    assert_non_null(m);
    return m;
}

static void workers_are_added_up(void **state)
{
    struct metrics *m = blocks(2);
    struct buf text = { 0 };

    (void)state;
    int a = metrics_route(&m[0], SLICE("GET /a"));
    int b = metrics_route(&m[0], SLICE("GET /\"b\\"));
    int b2 = metrics_route(&m[1], SLICE("GET /\"b\\")); /* in another order */
    int a2 = metrics_route(&m[1], SLICE("GET /a"));
    assert_int_equal(metrics_route(&m[0], SLICE("GET /a")), a);
    assert_int_not_equal(a, a2);
    metrics_answer(&m[0], a, 200, 100);
    metrics_answer(&m[1], a2, 204, 2000000);
    metrics_answer(&m[1], a2, 503, 900000000);
    metrics_answer(&m[0], b, 404, 100);
    metrics_answer(&m[1], b2, 0, 100);
    metrics_answer(&m[1], b2, 9999, 100); /* no such class: as if it had left */
    metrics_set(&m[1], METRICS_PG_WAITING, 7);
    metrics_text(m, 2, &text);
    buf_add_byte(&text, '\0');
    assert_false(text.failed);
    assert_holds(&text, "omade_http_answers_total{route=\"GET /a\",class=\"2xx\"} 2\n",
                 1);
    assert_holds(&text, "omade_http_answers_total{route=\"GET /a\",class=\"5xx\"} 1\n",
                 1);
    assert_holds(&text, "{route=\"GET /\\\"b\\\\\",class=\"4xx\"} 1\n", 1);
    assert_holds(&text, "{route=\"GET /\\\"b\\\\\",class=\"left\"} 2\n", 1);
    assert_holds(&text, "_bucket{le=\"0.00025\"} 4\n", 1);
    assert_holds(&text, "_bucket{le=\"5\"} 5\n", 1);
    assert_holds(&text, "_bucket{le=\"+Inf\"} 6\n", 1);
    assert_holds(&text, "omade_http_answer_seconds_count 6\n", 1);
    assert_holds(&text, "omade_http_answer_seconds_sum 902.000400\n", 1);
    assert_holds(&text, "omade_pg_operations_waiting{worker=\"1\"} 0\n", 1);
    assert_holds(&text, "omade_pg_operations_waiting{worker=\"2\"} 7\n", 1);
    buf_free(&text);
    free(m);
}

static void names_that_do_not_fit_share_one(void **state)
{
    struct metrics *m = blocks(1);
    char name[METRICS_NAME_MAX * 2];
    int last = 0;

    (void)state;
    for (int i = 0; i < METRICS_ROUTES_MAX + 50; i++) {
        int n = snprintf(name, sizeof name, "GET /%d", i);

        last = metrics_route(m, (struct slice){ name, (size_t)n });
        assert_true(last < METRICS_ROUTES_MAX);
    }
    assert_int_equal(last, METRICS_ROUTES_MAX - 1);
    assert_string_equal(m->routes[last].name, "others");
    assert_int_equal(metrics_route(m, SLICE("GET /7")), 7);
    free(m);

    m = blocks(1);
    memset(name, 'x', sizeof name);
    assert_int_equal(metrics_route(m, (struct slice){ name, sizeof name }), 0);
    assert_int_equal(metrics_route(m, (struct slice){ name, sizeof name }), 0);
    assert_int_equal(strlen(m->routes[0].name), METRICS_NAME_MAX - 1);
    free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(workers_are_added_up),
        cmocka_unit_test(names_that_do_not_fit_share_one),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
