/* pg_pool_parts.h -- the pool's inside, for pg_pool.c and pg_pin.c. */
#ifndef DB_PG_POOL_PARTS_H
#define DB_PG_POOL_PARTS_H

#include "db/pg_conn.h"
#include "db/pg_listen.h"

struct pg_pool {
    uv_loop_t *loop;
    struct pg_settings settings;
    struct pg_conn *conns; /* shared ones first, then those for transactions */
    int shared, count;
    struct list waiting;  /* ops without a connection */
    struct list finished; /* ops whose failure is told on the next turn */
    struct list pins;     /* pins without a connection */
    struct list granted;  /* pins whose on_ready comes on the next turn */
    struct pg_listening *listening;
    uv_timer_t sweep;
    uv_idle_t soon;
    uint64_t generation;
    bool away; /* no connection is up, and the last attempt failed */
    int open_handles, cancels;
    bool closing;
    void (*on_closed)(void *ctx);
    void *closed_ctx;
    int64_t operations, failures, reconnects;
};

/* ---- pg_pool.c ------------------------------------------------------------------------ */

/* What is to be told is told on the next turn. */
void pool_tell_soon(struct pg_pool *pool);

/* False: it cannot be sent and is answered on the next turn. */
MUST_CHECK bool pool_begin_op(struct pg_pool *pool, struct pg_op *op);
void pool_connect(struct pg_conn *c);
bool pool_any_up(const struct pg_pool *pool);

/* Fails what is under way on the connection, and plans its return. */
void pool_lose(struct pg_conn *c);

/* ---- pg_pin.c ------------------------------------------------------------------------- */

/* Gives free connections to those who wait. */
void pins_grant(struct pg_pool *pool);

/* Tells those whose waiting is over. */
void pins_tell(struct pg_pool *pool);
void pins_fail(struct pg_pool *pool); /* all who wait: PostgreSQL is away */
void pins_check(struct pg_pool *pool, int64_t now_ms);

#endif
