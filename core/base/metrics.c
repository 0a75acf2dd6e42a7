#include "base/metrics.h"

#include <string.h>

/* Upper bounds of the buckets, in microseconds, and as text in seconds. */
static const struct {
    int64_t us;
    const char *seconds;
} bounds[METRICS_BUCKETS] = {
    { 250, "0.00025" }, { 500, "0.0005" }, { 1000, "0.001" },  { 2500, "0.0025" },
    { 5000, "0.005" },  { 10000, "0.01" }, { 25000, "0.025" }, { 50000, "0.05" },
    { 100000, "0.1" },  { 500000, "0.5" }, { 1000000, "1" },   { 5000000, "5" },
};

/* ---- writing: one worker, its own block ---------------------------------------------- */

static void add(_Atomic int64_t *counter, int64_t n)
{
    atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

int metrics_route(struct metrics *m, struct slice name)
{
    int count = atomic_load(&m->route_count);
    size_t n = name.n < METRICS_NAME_MAX - 1 ? name.n : METRICS_NAME_MAX - 1;

    for (int i = 0; i < count; i++)
        if (strlen(m->routes[i].name) == n && memcmp(m->routes[i].name, name.p, n) == 0)
            return i;
    if (count == METRICS_ROUTES_MAX) return count - 1;
    if (count == METRICS_ROUTES_MAX - 1) {
        name = SLICE("others");
        n = name.n;
    }
    memcpy(m->routes[count].name, name.p, n);
    m->routes[count].name[n] = '\0';
    atomic_store(&m->route_count, count + 1);
    return count;
}

void metrics_answer(struct metrics *m, int route, int status, int64_t microseconds)
{
    int at = status / 100, bucket = 0;

    if (at < 0 || at >= METRICS_CLASSES) at = 0;
    while (bucket < METRICS_BUCKETS && microseconds > bounds[bucket].us) bucket++;
    add(&m->routes[route].answers[at], 1);
    add(&m->buckets[bucket], 1);
    add(&m->microseconds, microseconds);
}

void metrics_set(struct metrics *m, enum metrics_gauge gauge, int64_t value)
{
    atomic_store_explicit(&m->gauges[gauge], value, memory_order_relaxed);
}

/* ---- reading: all blocks --------------------------------------------------------------- */

static int64_t value_of(const _Atomic int64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

static void describe(struct buf *out, const char *name, const char *type,
                     const char *meaning)
{
    buf_addf(out, "# HELP %s %s\n# TYPE %s %s\n", name, meaning, name, type);
}

static void add_label(struct buf *out, const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\') buf_add_byte(out, '\\');
        buf_add_byte(out, *text);
    }
}

/* The same route may have another number in another worker. */
static int64_t answers_of(const struct metrics all[], int workers, const char *name,
                          int at)
{
    int64_t sum = 0;

    for (int w = 0; w < workers; w++) {
        int count = atomic_load(&all[w].route_count);

        for (int i = 0; i < count; i++)
            if (strcmp(all[w].routes[i].name, name) == 0)
                sum += value_of(&all[w].routes[i].answers[at]);
    }
    return sum;
}

/* Whether a worker before 'w' has that route: it was written with it. */
static bool is_known(const struct metrics all[], int w, const char *name)
{
    for (int before = 0; before < w; before++) {
        int count = atomic_load(&all[before].route_count);

        for (int i = 0; i < count; i++)
            if (strcmp(all[before].routes[i].name, name) == 0) return true;
    }
    return false;
}

static void add_route(const struct metrics all[], int workers, const char *name,
                      struct buf *out)
{
    static const char *const classes[] = { "left", "1xx", "2xx", "3xx", "4xx", "5xx" };

    for (int at = 0; at < METRICS_CLASSES; at++) {
        int64_t sum = answers_of(all, workers, name, at);

        if (sum == 0) continue;
        BUF_ADD(out, "omade_http_answers_total{route=\"");
        add_label(out, name);
        buf_addf(out, "\",class=\"%s\"} %lld\n", classes[at], (long long)sum);
    }
}

static void add_routes(const struct metrics all[], int workers, struct buf *out)
{
    describe(out, "omade_http_answers_total", "counter", "by route and class of status");
    for (int w = 0; w < workers; w++) {
        int count = atomic_load(&all[w].route_count);

        for (int i = 0; i < count; i++)
            if (!is_known(all, w, all[w].routes[i].name))
                add_route(all, workers, all[w].routes[i].name, out);
    }
}

static void add_histogram(const struct metrics all[], int workers, struct buf *out)
{
    int64_t count = 0, microseconds = 0;

    describe(out, "omade_http_answer_seconds", "histogram",
             "from a request's first byte to its answer's last");
    for (int bucket = 0; bucket <= METRICS_BUCKETS; bucket++) {
        for (int w = 0; w < workers; w++) count += value_of(&all[w].buckets[bucket]);
        buf_addf(out, "omade_http_answer_seconds_bucket{le=\"%s\"} %lld\n",
                 bucket == METRICS_BUCKETS ? "+Inf" : bounds[bucket].seconds,
                 (long long)count);
    }
    for (int w = 0; w < workers; w++) microseconds += value_of(&all[w].microseconds);
    buf_addf(out, "omade_http_answer_seconds_sum %lld.%06lld\n",
             (long long)(microseconds / 1000000), (long long)(microseconds % 1000000));
    buf_addf(out, "omade_http_answer_seconds_count %lld\n", (long long)count);
}

static const char *type_of(const char *name)
{
    size_t n = strlen(name);

    return n > 6 && strcmp(name + n - 6, "_total") == 0 ? "counter" : "gauge";
}

static void add_gauges(const struct metrics all[], int workers, struct buf *out)
{
    static const struct {
        const char *name, *meaning;
    } gauges[] = {
#define METRICS_TEXT(id, name, meaning) { name, meaning },
        METRICS_GAUGES(METRICS_TEXT)
#undef METRICS_TEXT
    };

    for (int g = 0; g < METRICS_GAUGE_COUNT; g++) {
        describe(out, gauges[g].name, type_of(gauges[g].name), gauges[g].meaning);
        for (int w = 0; w < workers; w++)
            buf_addf(out, "%s{worker=\"%d\"} %lld\n", gauges[g].name, w + 1,
                     (long long)value_of(&all[w].gauges[g]));
    }
}

void metrics_text(const struct metrics all[], int workers, struct buf *out)
{
    describe(out, "omade_workers", "gauge", "processes that serve");
    buf_addf(out, "omade_workers %d\n", workers);
    add_routes(all, workers, out);
    add_histogram(all, workers, out);
    add_gauges(all, workers, out);
}
