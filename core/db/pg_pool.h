/* pg_pool.h -- PostgreSQL for one worker: few connections, all requests.
 *
 * Shared connections run in pipeline mode, one Sync per operation: an operation
 * is what one call of one request sends, and it alone fails when it fails.
 * Transactions have a pool of their own, where a connection is pinned to one
 * owner from pg_pin() to pg_unpin().
 *
 * Nothing here answers synchronously: on_done comes from a later turn of the
 * loop, also for failures.
 */
#ifndef DB_PG_POOL_H
#define DB_PG_POOL_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "base/check.h"
#include "base/list.h"
#include "base/slice.h"

struct pg_pool;
struct pg_conn;

/* ---- one operation --------------------------------------------------------- */

enum pg_outcome {
    PG_WAITING,
    PG_OK,       /* every statement's result is a success */
    PG_ERROR,    /* PostgreSQL refused: the first bad result tells (SQLSTATE) */
    PG_LOST,     /* the connection broke; whether it was executed is unknown */
    PG_NOT_SENT, /* the connection broke before it was sent, or none is to be had */
    PG_BUSY,     /* not sent: the queue is full, its time in it is over, no memory: 503 */
    PG_TIMEOUT,  /* our own timer: 504; a cancel was sent */
};

/* One statement.  'sql' and 'values' must stay valid until on_done or pg_cancel;
 * the memory is the asker's. */
struct pg_statement {
    struct slice sql;
    int value_count;
    const char *const *values; /* text form; NULL is NULL */
    bool unprepared;           /* sent once, never kept as a prepared statement */
    PGresult *result;          /* set before on_done; the asker clears it */
};

enum { PG_STATEMENTS_MAX = 64 };

struct pg_op {
    /* filled in by the asker */
    struct pg_statement *statements;
    int statement_count;       /* 1 .. PG_STATEMENTS_MAX: one Sync for all */
    int64_t timeout_ms;        /* of waiting and running together; 0: the pool's */
    int64_t row_max, byte_max; /* of all results together; 0: the pool's */
    void (*on_done)(void *ctx, struct pg_op *op);
    void *ctx;

    /* the pool's, readable in on_done */
    enum pg_outcome outcome;
    int failed_at;  /* PG_ERROR: index of the statement; else -1 */
    bool too_large; /* PG_ERROR because of row_max or byte_max */

    /* the pool's own */
    struct list_node node;
    struct pg_conn *conn;
    int64_t deadline_ms, queue_until_ms;
    uint64_t stage; /* free for the implementation */
};

/* What PG_OK does not say: COMMIT of a failed transaction succeeds, with the tag ROLLBACK.
 * Who commits compares PQcmdStatus() with "COMMIT". */

/* SQLSTATE of the first bad result, "" if there is none (a lost connection). */
const char *pg_op_sqlstate(const struct pg_op *op);

/* Runs 'op' on a shared connection. */
void pg_submit(struct pg_pool *pool, struct pg_op *op);

/* The asker loses interest: on_done is never called, the op may be freed at once
 * by the caller.  What was sent is drained (and stopped at its deadline); what was not is
 * forgotten. */
void pg_cancel(struct pg_op *op);

/* ---- transactions ------------------------------------------------------------ */

struct pg_pin {
    /* filled in by the asker */
    void (*on_ready)(void *ctx, struct pg_pin *pin);
    void *ctx;

    /* readable: PG_OK in on_ready, or PG_NOT_SENT, PG_BUSY */
    enum pg_outcome outcome;

    /* the pool's own */
    struct list_node node;
    struct pg_pool *pool;
    struct pg_conn *conn;
    int64_t deadline_ms;
};

/* Waits for a connection of the transaction pool. */
void pg_pin(struct pg_pool *pool, struct pg_pin *pin);

/* Runs 'op' on the pinned connection, in order; several may be under way. */
void pg_submit_pinned(struct pg_pin *pin, struct pg_op *op);

/* In any state, from waiting to the middle of a transaction; the pin may be freed
 * at once.  The connection goes back when it is idle outside a transaction;
 * otherwise what runs is interrupted and all rolled back first, or it is dropped.  Ops that
 * are still under way are forgotten, as by pg_cancel(). */
void pg_unpin(struct pg_pin *pin);

/* 'T' in a transaction, 'E' in a failed one, 'I' outside, '?' unknown. */
char pg_pin_status(const struct pg_pin *pin);

/* ---- LISTEN -------------------------------------------------------------------- */

/* One more connection, made at the first call, for all channels.  on_notify comes
 * with each payload; and with p == NULL ("you may have missed some") when PostgreSQL
 * listens, at first and after each reconnect: who looks then misses nothing.
 * Returns NULL when there is no memory.  'channel' is a plain identifier. */
struct pg_listener;
MUST_CHECK struct pg_listener *pg_listen(struct pg_pool *pool, struct slice channel,
                                         void (*on_notify)(void *ctx,
                                                           struct slice payload),
                                         void *ctx);
void pg_unlisten(struct pg_listener *listener);

/* ---- life ------------------------------------------------------------------------ */

/* Times in milliseconds. */
struct pg_settings {
    const char *url;             /* postgres://..., or a libpq connection string */
    const char *listen_url;      /* NULL: url */
    int connections;             /* shared, pipelined: 2 */
    int transaction_connections; /* 2 */
    int queue_max;               /* operations, and pins, that wait: 1000 each */
    int in_flight_max;           /* operations under way on one connection: 200 */
    int statements_max;          /* prepared statements per connection: 500 */
    bool named_statements;       /* off behind PgBouncer in transaction mode */
    int64_t connect_timeout, query_timeout, queue_timeout;
    /* Of one operation's results; looked at when these are in memory, so they bound what is
     * made of them, not what PostgreSQL sends. */
    int64_t row_max, byte_max;
    const char *application_name;
    const char
        *timezone; /* of the business: app.timezone of each session; a zone's name */
};

/* The strings of 'settings' must live as long as the pool.  Connections are made
 * as needed, from the first turn of the loop on. */
MUST_CHECK struct pg_pool *pg_pool_new(uv_loop_t *loop,
                                       const struct pg_settings *settings);

/* Sends what was queued since the last call: once per turn of the loop, before it
 * waits. */
void pg_pool_flush(struct pg_pool *pool);

/* Whether at least one shared connection is usable. */
bool pg_pool_up(const struct pg_pool *pool);

/* Prepared statements whose text was not used since 'generation' counts of
 * pg_pool_new_generation() go first when room is needed. */
void pg_pool_new_generation(struct pg_pool *pool);

/* Closes all; waiting operations are answered PG_NOT_SENT or PG_LOST first; then
 * frees the pool and calls on_closed from the loop. */
void pg_pool_close(struct pg_pool *pool, void (*on_closed)(void *ctx), void *ctx);

struct pg_stats {
    size_t connecting, idle, busy, pinned, broken;
    size_t waiting, pins_waiting, in_flight;
    int64_t operations, failures, reconnects;
};
void pg_pool_stats(const struct pg_pool *pool, struct pg_stats *stats);

#endif
