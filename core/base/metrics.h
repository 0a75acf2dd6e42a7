/* metrics.h -- figures of all workers, in memory that they share.
 *
 * Each worker writes its own block and nobody else's; whoever is asked reads all.  A
 * worker's successor goes on with the block, so that counters only grow.  Nothing here
 * allocates but the text.
 */
#ifndef BASE_METRICS_H
#define BASE_METRICS_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/check.h"
#include "base/slice.h"

/* GAUGE(id, name, meaning): what a worker has just now, or has counted (_total) */
/* clang-format off */
#define METRICS_GAUGES(GAUGE)                                                             \
    GAUGE(GENERATION, "omade_scripts_generation", "of the scripts that it serves")        \
    GAUGE(TASKS, "omade_tasks", "requests and background tasks under way")                \
    GAUGE(LUA_BYTES, "omade_lua_heap_bytes", "of its scripts")                            \
    GAUGE(RESIDENT, "omade_resident_bytes", "of the process")                             \
    GAUGE(CLIENTS, "omade_http_connections", "clients connected")                         \
    GAUGE(RUNNING, "omade_http_requests_running", "requests that are worked for")         \
    GAUGE(ACCEPTED, "omade_http_accepted_total", "connections accepted")                  \
    GAUGE(SHED, "omade_http_shed_total", "connections closed for lack of room")           \
    GAUGE(PG_IDLE, "omade_pg_connections_idle", "PostgreSQL connections without work")    \
    GAUGE(PG_BUSY, "omade_pg_connections_busy", "PostgreSQL connections at work")         \
    GAUGE(PG_PINNED, "omade_pg_connections_pinned", "in transactions")                    \
    GAUGE(PG_BROKEN, "omade_pg_connections_broken", "that wait to be made anew")          \
    GAUGE(PG_IN_FLIGHT, "omade_pg_operations_in_flight", "sent and not answered")         \
    GAUGE(PG_WAITING, "omade_pg_operations_waiting", "not sent yet")                      \
    GAUGE(PG_PINS, "omade_pg_transactions_waiting", "for a connection")                   \
    GAUGE(PG_OPERATIONS, "omade_pg_operations_total", "asked of PostgreSQL")              \
    GAUGE(PG_FAILURES, "omade_pg_failures_total", "operations that failed")               \
    GAUGE(REDIS_UP, "omade_redis_up", "1 when Redis is connected")                        \
    GAUGE(REDIS_IN_FLIGHT, "omade_redis_commands_in_flight", "sent and not answered")     \
    GAUGE(REDIS_COMMANDS, "omade_redis_commands_total", "asked of Redis")                 \
    GAUGE(REDIS_FAILURES, "omade_redis_failures_total", "commands that failed")
/* clang-format on */

enum metrics_gauge {
#define METRICS_ID(id, ...) METRICS_##id,
    METRICS_GAUGES(METRICS_ID)
#undef METRICS_ID
        METRICS_GAUGE_COUNT
};

enum {
    METRICS_ROUTES_MAX = 400, /* the last one stands for all that do not fit */
    METRICS_NAME_MAX = 96,
    METRICS_CLASSES = 6, /* 2xx is 2; 0: the client left before */
    METRICS_BUCKETS = 12,
};

struct metrics_route {
    char name[METRICS_NAME_MAX];
    _Atomic int64_t answers[METRICS_CLASSES];
};

/* A worker's block; zeroed memory is a fresh one. */
struct metrics {
    _Atomic int route_count; /* of names that are complete */
    struct metrics_route routes[METRICS_ROUTES_MAX];
    _Atomic int64_t buckets[METRICS_BUCKETS + 1]; /* of answers, the last one: slower */
    _Atomic int64_t microseconds;                 /* of all answers */
    _Atomic int64_t gauges[METRICS_GAUGE_COUNT];
};

/* The number of a route's name, the same for the same name for ever. */
int metrics_route(struct metrics *m, struct slice name);

/* An answer to a route was sent. */
void metrics_answer(struct metrics *m, int route, int status, int64_t microseconds);

void metrics_set(struct metrics *m, enum metrics_gauge gauge, int64_t value);

/* All workers' figures in the text format of Prometheus. */
void metrics_text(const struct metrics all[], int workers, struct buf *out);

#endif
