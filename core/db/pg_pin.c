/* Transactions: connections of their own, each pinned to one owner at a time. */
#include "db/pg_pool_parts.h"

#include "base/clock.h"

/* ---- waiting and its end --------------------------------------------------------------- */

static void settle(struct pg_pool *pool, struct pg_pin *pin, enum pg_outcome outcome)
{
    pin->outcome = outcome;
    list_append(&pool->granted, &pin->node);
    pool_tell_soon(pool);
}

void pins_tell(struct pg_pool *pool)
{
    struct list_node *node;

    for (size_t n = pool->granted.count;
         n > 0 && (node = list_take(&pool->granted)) != NULL; n--) {
        struct pg_pin *pin = LIST_ENTRY(node, struct pg_pin, node);

        pin->on_ready(pin->ctx, pin);
    }
}

void pins_fail(struct pg_pool *pool)
{
    struct list_node *node;

    while ((node = list_take(&pool->pins)) != NULL)
        settle(pool, LIST_ENTRY(node, struct pg_pin, node), PG_NOT_SENT);
}

void pins_check(struct pg_pool *pool, int64_t now_ms)
{
    struct list_node *next;

    for (struct list_node *n = pool->pins.first; n != NULL; n = next) {
        struct pg_pin *pin = LIST_ENTRY(n, struct pg_pin, node);

        next = n->next;
        if (now_ms < pin->deadline_ms) continue;
        list_remove(n);
        settle(pool, pin, PG_BUSY);
    }
}

/* ---- connections --------------------------------------------------------------------------- */

static struct pg_conn *first_in(struct pg_pool *pool, enum conn_state state)
{
    for (int i = pool->shared; i < pool->count; i++) {
        struct pg_conn *c = &pool->conns[i];

        if (c->state == state && (state != CONN_DOWN || clock_ms() >= c->retry_at_ms))
            return c;
    }
    return NULL;
}

void pins_grant(struct pg_pool *pool)
{
    struct pg_conn *c;

    while (pool->pins.count > 0 && (c = first_in(pool, CONN_READY)) != NULL) {
        struct pg_pin *pin = LIST_ENTRY(list_take(&pool->pins), struct pg_pin, node);

        pg_conn_move(c, CONN_PINNED);
        c->pin = pin;
        pin->conn = c;
        settle(pool, pin, PG_OK);
    }
}

/* ---- for the owners --------------------------------------------------------------------------- */

void pg_pin(struct pg_pool *pool, struct pg_pin *pin)
{
    struct pg_conn *c;

    pin->outcome = PG_WAITING;
    pin->pool = pool;
    pin->conn = NULL;
    pin->node = (struct list_node){ 0 };
    pin->deadline_ms = clock_ms() + clock_scaled(pool->settings.queue_timeout);
    if (pool->closing || pool->away) {
        settle(pool, pin, PG_NOT_SENT);
        return;
    }
    list_append(&pool->pins, &pin->node);
    pins_grant(pool);
    if (pool->pins.count > (size_t)pool->settings.queue_max) {
        list_remove(&pin->node);
        settle(pool, pin, PG_BUSY);
    } else if (pool->pins.count > 0 && (c = first_in(pool, CONN_DOWN)) != NULL) {
        pool_connect(c);
    }
}

void pg_submit_pinned(struct pg_pin *pin, struct pg_op *op)
{
    if (!pool_begin_op(pin->pool, op)) return;
    if (pin->conn == NULL) pool_finish_later(pin->pool, op, PG_NOT_SENT); /* it broke */
    else pg_conn_queue(pin->conn, op);
}

void pg_unpin(struct pg_pin *pin)
{
    struct pg_conn *c = pin->conn;

    if (list_on(&pin->node)) list_remove(&pin->node);
    pin->conn = NULL;
    if (c == NULL) return;
    if (!pg_conn_reset(c)) pool_lose(c);
    pins_grant(pin->pool);
}

char pg_pin_status(const struct pg_pin *pin)
{
    if (pin->conn == NULL) return '?';
    switch (PQtransactionStatus(pin->conn->link.pg)) {
    case PQTRANS_IDLE: return 'I';
    case PQTRANS_INTRANS: return 'T';
    case PQTRANS_INERROR: return 'E';
    default: return '?';
    }
}
