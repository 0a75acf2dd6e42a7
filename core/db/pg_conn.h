/* pg_conn.h -- one connection in pipeline mode and the queue of answers that are due.
 *
 *   CONN_DOWN -> CONN_CONNECTING -> CONN_READY <-> CONN_PINNED -> CONN_RESETTING -> CONN_READY
 *
 * Every entry of the queue is one answer that PostgreSQL owes; an op whose asker is gone
 * leaves its entries behind, which are drained. */
#ifndef DB_PG_CONN_H
#define DB_PG_CONN_H

#include "db/pg_cache.h"
#include "db/pg_link.h"
#include "db/pg_pool.h"

enum conn_state { CONN_DOWN, CONN_CONNECTING, CONN_READY, CONN_PINNED, CONN_RESETTING };

struct pg_conn {
    struct pg_pool *pool;
    struct pg_link link;
    enum conn_state state;
    bool for_transactions;
    struct list answers; /* struct answer, in the order of sending */
    struct list running; /* ops sent and not finished */
    struct pg_cache cache;
    struct pg_pin *pin;     /* CONN_PINNED */
    bool dirty;             /* something was queued since the last flush */
    bool got_result;        /* of the answer at the head */
    uint64_t sent, flushed; /* numbers of the answers that were queued, written */
    struct cancel *cancel;  /* one under way */
    bool stray_cancel;      /* it may still hit somebody else's statement */
    int64_t retry_at_ms, reset_until_ms;
    int failures; /* attempts to connect that failed in a row */
};

/* ---- pg_conn.c --------------------------------------------------------------------- */

/* Moves it to another state; aborts on an impossible move. */
void pg_conn_move(struct pg_conn *c, enum conn_state to);

/* Queues the op's statements and its Sync; false when libpq refused or there was no memory:
 * the op is untouched, the connection is to be given up. */
MUST_CHECK bool pg_conn_send(struct pg_conn *c, struct pg_op *op);
void pg_conn_flush(struct pg_conn *c);

/* Forgets the asker of an op that was sent. */
void pg_conn_forget(struct pg_op *op);

/* Asks PostgreSQL to stop what runs now; off the loop. */
void pg_conn_cancel_running(struct pg_conn *c);

/* ROLLBACK for a connection whose owner left; false: give it up. */
MUST_CHECK bool pg_conn_reset(struct pg_conn *c);

/* Reads what arrived.  False: the connection is lost. */
MUST_CHECK bool pg_conn_read(struct pg_conn *c);

/* Fails every op on it and closes it. */
void pg_conn_lose(struct pg_conn *c);

/* ---- pg_pool.c, for the connection ---------------------------------------------------- */

uint64_t pool_generation(const struct pg_pool *pool);
const struct pg_settings *pool_settings(const struct pg_pool *pool);
uv_loop_t *pool_loop(const struct pg_pool *pool);

/* The op is answered: on_done comes now (from the loop), or on the next turn. */
void pool_finish(struct pg_pool *pool, struct pg_op *op, enum pg_outcome outcome);
void pool_finish_later(struct pg_pool *pool, struct pg_op *op, enum pg_outcome outcome);
void pool_cancel_started(struct pg_pool *pool);
void pool_cancel_ended(struct pg_pool *pool);

#endif
