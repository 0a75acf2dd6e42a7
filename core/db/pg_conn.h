/* pg_conn.h -- one connection in pipeline mode and the queue of answers that are due.
 *
 *   DOWN -> CONNECTING -> READY -> PINNED -> RESETTING -> READY      any -> DOWN: lost
 *
 * (READY is the architecture's IDLE and BUSY: which of the two, in_flight tells.)
 *
 * An op is queued here first and handed to libpq by pg_conn_flush(), once per turn of the
 * loop and only while the socket takes it: what is still queued when the connection
 * breaks was certainly not executed.  From then on every entry of the queue of answers is
 * one answer that PostgreSQL owes; an op whose asker is gone leaves its entries behind,
 * which are drained.
 *
 * PQcancel hits whatever runs when it arrives.  On a shared connection an op that it hits
 * by mistake has done nothing (its Sync is one transaction) and is sent again; a pinned
 * connection goes back to the pool only after the cancel is over. */
#ifndef DB_PG_CONN_H
#define DB_PG_CONN_H

#include "base/buf.h"
#include "db/pg_cache.h"
#include "db/pg_link.h"
#include "db/pg_pool.h"

enum conn_state { CONN_DOWN, CONN_CONNECTING, CONN_READY, CONN_PINNED, CONN_RESETTING };

/* Debian's libpq 15 has no way to unprepare: DEALLOCATE is a statement like others. */
enum answer_kind { ANSWER_PREPARE, ANSWER_STATEMENT, ANSWER_OWN, ANSWER_SYNC };

struct answer {
    struct list_node node;
    enum answer_kind kind;
    struct pg_op *op;          /* NULL: its asker is gone, or it is our own */
    int index;                 /* of the statement */
    struct prepared *prepared; /* held while the answer is due */
    uint64_t number;           /* in the order of sending */
    int64_t deadline_ms;       /* from then on it may be cancelled; 0: never */
    bool ends_op, ends_reset;  /* the Sync of an op, of our ROLLBACK */
};

struct pg_conn {
    struct pg_pool *pool;
    struct pg_link link;
    enum conn_state state;
    bool for_transactions;
    struct list queued;  /* ops that libpq has not seen */
    struct list running; /* ops handed over and not finished */
    struct list answers; /* struct answer, in the order of sending */
    struct list spare;   /* struct answer, for the next ops */
    size_t syncs;        /* of ops, due: also of those whose asker is gone */
    struct pg_cache cache;
    struct buf scratch;   /* SQL text with its NUL */
    struct pg_pin *pin;   /* CONN_PINNED */
    bool dirty;           /* there is something to flush */
    bool got_result;      /* of the answer at the head */
    uint64_t sent;        /* the number of the last answer */
    uint64_t stray_until; /* a cancel may have hit answers up to this number */
    struct cancel *cancel;
    int64_t cancel_again_ms;
    bool reset_sent;
    int64_t reset_until_ms, retry_at_ms;
    int failures; /* attempts to connect that failed in a row */
    bool was_up;
};

/* ---- pg_conn.c --------------------------------------------------------------------- */

/* Moves it to another state; aborts on an impossible move. */
void pg_conn_move(struct pg_conn *c, enum conn_state to);

/* What limits the operations under way: abandoned ones count until they are answered. */
static inline size_t pg_conn_in_flight(const struct pg_conn *c)
{
    return c->queued.count + c->syncs;
}

/* The handshake is over: CONN_READY.  False: give it up. */
MUST_CHECK bool pg_conn_up(struct pg_conn *c);

void pg_conn_queue(struct pg_conn *c, struct pg_op *op);

/* Hands over and writes what was queued, as far as the socket takes it.  False: the
 * connection is lost. */
MUST_CHECK bool pg_conn_flush(struct pg_conn *c);

/* Reads what arrived.  False: the connection is lost. */
MUST_CHECK bool pg_conn_read(struct pg_conn *c);

/* Forgets the asker of an op that was queued or sent. */
void pg_conn_forget(struct pg_op *op);

/* The owner left: from CONN_PINNED back to CONN_READY, at once or, by way of
 * CONN_RESETTING, after a ROLLBACK.  False: give it up. */
MUST_CHECK bool pg_conn_reset(struct pg_conn *c);

/* The next step of that, if there is one; to be called now and then. */
MUST_CHECK bool pg_conn_step_reset(struct pg_conn *c);

/* Fails every op on it and closes it. */
void pg_conn_lose(struct pg_conn *c);

/* After pg_conn_lose(), or if it never was up: its memory. */
void pg_conn_free(struct pg_conn *c);

/* ---- pg_send.c ----------------------------------------------------------------------- */

enum send_outcome {
    SEND_DONE,
    SEND_REFUSED, /* no memory for it: nothing was sent, the connection is as before */
    SEND_NOT,     /* the connection broke, the op is certainly not executed */
    SEND_UNKNOWN, /* the connection broke */
};

/* Hands the op's statements and its Sync to libpq. */
MUST_CHECK enum send_outcome pg_send_op(struct pg_conn *c, struct pg_op *op);

/* Hands over ROLLBACK if asked for, DEALLOCATEs and a Sync that ends the reset. */
MUST_CHECK bool pg_send_reset(struct pg_conn *c, bool rollback);

/* What the connection's start packet could not say. */
MUST_CHECK bool pg_send_greeting(struct pg_conn *c);

/* Whether it has more prepared statements than it should, or some to DEALLOCATE. */
bool pg_send_wants_trim(const struct pg_conn *c);

/* ---- pg_cancel.c ---------------------------------------------------------------------- */

/* Asks PostgreSQL, off the loop, to stop what runs now.  False: not now (another one is
 * under way, no memory). */
bool pg_cancel_running(struct pg_conn *c);

/* The connection is gone: the request ends by itself. */
void pg_cancel_abandon(struct pg_conn *c);

/* ---- pg_pool.c, for the connection ---------------------------------------------------- */

uint64_t pool_generation(const struct pg_pool *pool);
const struct pg_settings *pool_settings(const struct pg_pool *pool);
uv_loop_t *pool_loop(const struct pg_pool *pool);

/* The op is answered: on_done comes now (from the loop), or on the next turn. */
void pool_finish(struct pg_pool *pool, struct pg_op *op, enum pg_outcome outcome);
void pool_finish_later(struct pg_pool *pool, struct pg_op *op, enum pg_outcome outcome);

/* Few at a time: each holds one of libuv's threads, for long when PostgreSQL hangs. */
bool pool_cancel_may_start(const struct pg_pool *pool);
void pool_cancel_started(struct pg_pool *pool);
void pool_cancel_ended(struct pg_pool *pool, struct pg_conn *c); /* c NULL: gone */

#endif
