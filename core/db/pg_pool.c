#include "db/pg_pool.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "db/pg_pool_parts.h"

enum { SWEEP_MS = 25, RETRY_FIRST_MS = 100, RETRY_MOST_MS = 500, CANCELS_MAX = 2 };
enum { VALUES_MAX = 65535 }; /* of the protocol */

/* ---- for the connections --------------------------------------------------------------- */

uint64_t pool_generation(const struct pg_pool *pool) { return pool->generation; }
const struct pg_settings *pool_settings(const struct pg_pool *pool)
{
    return &pool->settings;
}
uv_loop_t *pool_loop(const struct pg_pool *pool) { return pool->loop; }

void pool_finish(struct pg_pool *pool, struct pg_op *op, enum pg_outcome outcome)
{
    op->outcome = outcome;
    if (outcome != PG_OK) pool->failures++;
    op->on_done(op->ctx, op);
}

static void on_soon(uv_idle_t *handle);

void pool_tell_soon(struct pg_pool *pool)
{
    if (!uv_is_active((uv_handle_t *)&pool->soon)) uv_idle_start(&pool->soon, on_soon);
}

void pool_finish_later(struct pg_pool *pool, struct pg_op *op, enum pg_outcome outcome)
{
    op->stage = (uint64_t)outcome << 8;
    list_append(&pool->finished, &op->node);
    pool_tell_soon(pool);
}

/* ---- what is told on the next turn -------------------------------------------------------- */

/* What is added meanwhile waits for the turn after it: who asks again and again must not
 * hold the loop. */
static void tell(struct pg_pool *pool)
{
    struct list_node *node;

    for (size_t n = pool->finished.count;
         n > 0 && (node = list_take(&pool->finished)) != NULL; n--) {
        struct pg_op *op = LIST_ENTRY(node, struct pg_op, node);
        enum pg_outcome outcome = (enum pg_outcome)(op->stage >> 8);

        op->stage = 0;
        pool_finish(pool, op, outcome);
    }
    pins_tell(pool);
}

static void on_soon(uv_idle_t *handle)
{
    struct pg_pool *pool = handle->data;

    uv_idle_stop(handle);
    tell(pool);
    if (pool->finished.count + pool->granted.count > 0) pool_tell_soon(pool);
}

/* ---- connections ------------------------------------------------------------------------------ */

static struct pg_conn *of(struct pg_link *link)
{
    return CONTAINER_OF(link, struct pg_conn, link);
}

bool pool_any_up(const struct pg_pool *pool)
{
    for (int i = 0; i < pool->count; i++)
        if (pool->conns[i].state > CONN_CONNECTING) return true;
    return false;
}

bool pg_pool_up(const struct pg_pool *pool)
{
    for (int i = 0; i < pool->shared; i++)
        if (pool->conns[i].state == CONN_READY) return true;
    return false;
}

void pool_connect(struct pg_conn *c)
{
    if (c->state != CONN_DOWN) return;
    pg_conn_move(c, CONN_CONNECTING);
    pg_link_connect(&c->link);
}

/* PostgreSQL is away: nobody waits for it. */
static void fail_waiting(struct pg_pool *pool)
{
    struct list_node *node;

    while ((node = list_take(&pool->waiting)) != NULL)
        pool_finish_later(pool, LIST_ENTRY(node, struct pg_op, node), PG_NOT_SENT);
    pins_fail(pool);
}

static void plan_retry(struct pg_conn *c)
{
    int64_t wait = RETRY_FIRST_MS;

    for (int i = 0; i < c->failures && wait < RETRY_MOST_MS; i++) wait *= 2;
    if (wait > RETRY_MOST_MS) wait = RETRY_MOST_MS;
    c->failures++;
    c->retry_at_ms = clock_ms() + wait * 3 / 4 + random() % (wait / 2);
}

static void on_failed(struct pg_link *link)
{
    struct pg_conn *c = of(link);
    struct pg_pool *pool = c->pool;

    if (c->state != CONN_DOWN) pg_conn_move(c, CONN_DOWN);
    if (c->failures == 0)
        log_error("PostgreSQL cannot be reached", log_text("error", link->fault));
    plan_retry(c);
    if (pool_any_up(pool)) return;
    pool->away = true;
    fail_waiting(pool);
}

static void pump(struct pg_pool *pool);

static void on_up(struct pg_link *link)
{
    struct pg_conn *c = of(link);
    struct pg_pool *pool = c->pool;

    if (!pg_conn_up(c)) {
        if (c->state == CONN_READY) pg_conn_lose(c);
        else pg_link_down(link);
        on_failed(link);
        return;
    }
    if (pool->away) log_info("PostgreSQL is back");
    pool->away = false;
    pool->reconnects += c->was_up;
    c->was_up = true;
    for (int i = 0; i < pool->shared; i++)
        if (clock_ms() >= pool->conns[i].retry_at_ms) pool_connect(&pool->conns[i]);
    pump(pool);
    pins_grant(pool);
}

/* One connection tries to come back at once, and with it the others. */
void pool_lose(struct pg_conn *c)
{
    struct pg_pool *pool = c->pool;

    if (c->pin != NULL) c->pin->conn = NULL;
    c->pin = NULL;
    pg_conn_lose(c);
    c->retry_at_ms = clock_ms();
    if (pool->closing) return;
    log_warn("connection to PostgreSQL lost");
    if (!pool_any_up(pool)) pool_connect(&pool->conns[0]);
}

static void on_ready(struct pg_link *link, bool writable)
{
    struct pg_conn *c = of(link);
    struct pg_pool *pool = c->pool;

    /* Reading in any case: while it cannot write, libpq reads by itself, and what it read
     * then is announced by nothing else. */
    if ((writable && !pg_conn_flush(c)) || !pg_conn_read(c)) pool_lose(c);
    pump(pool);
    pins_grant(pool);
}

/* ---- cancels ------------------------------------------------------------------------------------ */

static void maybe_closed(struct pg_pool *pool);

bool pool_cancel_may_start(const struct pg_pool *pool)
{
    return pool->cancels < CANCELS_MAX;
}

void pool_cancel_started(struct pg_pool *pool) { pool->cancels++; }

void pool_cancel_ended(struct pg_pool *pool, struct pg_conn *c)
{
    pool->cancels--;
    if (c != NULL && !pg_conn_step_reset(c)) pool_lose(c);
    maybe_closed(pool);
}

/* ---- operations on shared connections ----------------------------------------------------------- */

static struct pg_conn *least_busy(struct pg_pool *pool)
{
    struct pg_conn *best = NULL;

    for (int i = 0; i < pool->shared; i++) {
        struct pg_conn *c = &pool->conns[i];

        if (c->state != CONN_READY ||
            pg_conn_in_flight(c) >= (size_t)pool->settings.in_flight_max)
            continue;
        if (best == NULL || pg_conn_in_flight(c) < pg_conn_in_flight(best)) best = c;
    }
    return best;
}

static void pump(struct pg_pool *pool)
{
    struct pg_conn *c;

    while (pool->waiting.count > 0 && (c = least_busy(pool)) != NULL)
        pg_conn_queue(c, LIST_ENTRY(list_take(&pool->waiting), struct pg_op, node));
}

/* Such an op would cost its neighbours the connection. */
static int first_impossible(const struct pg_op *op)
{
    for (int i = 0; i < op->statement_count; i++)
        if (op->statements[i].value_count > VALUES_MAX) return i;
    return -1;
}

bool pool_begin_op(struct pg_pool *pool, struct pg_op *op)
{
    const struct pg_settings *s = &pool->settings;
    int64_t now = clock_ms();
    int64_t timeout = op->timeout_ms > 0 ? op->timeout_ms : s->query_timeout;
    int impossible = first_impossible(op);

    assert(op->statement_count >= 1 && op->statement_count <= PG_STATEMENTS_MAX);
    op->outcome = PG_WAITING;
    op->failed_at = -1;
    op->too_large = false;
    op->conn = NULL;
    op->stage = 0;
    op->node = (struct list_node){ 0 };
    op->deadline_ms = now + clock_scaled(timeout);
    op->queue_until_ms = now + clock_scaled(s->queue_timeout);
    if (op->queue_until_ms > op->deadline_ms) op->queue_until_ms = op->deadline_ms;
    pool->operations++;
    if (impossible < 0) return true;
    op->failed_at = impossible;
    pool_finish_later(pool, op, PG_ERROR);
    return false;
}

void pg_submit(struct pg_pool *pool, struct pg_op *op)
{
    struct pg_conn *c;

    if (!pool_begin_op(pool, op)) return;
    if (pool->closing || pool->away) {
        pool_finish_later(pool, op, PG_NOT_SENT);
        return;
    }
    c = pool->waiting.count == 0 ? least_busy(pool) : NULL;
    if (c != NULL) pg_conn_queue(c, op);
    else if (pool->waiting.count < (size_t)pool->settings.queue_max)
        list_append(&pool->waiting, &op->node);
    else pool_finish_later(pool, op, PG_BUSY);
}

void pg_cancel(struct pg_op *op)
{
    if (op->conn != NULL) pg_conn_forget(op);
    else if (list_on(&op->node)) list_remove(&op->node);
}

const char *pg_op_sqlstate(const struct pg_op *op)
{
    const char *state =
        op->failed_at < 0
            ? NULL
            : PQresultErrorField(op->statements[op->failed_at].result, PG_DIAG_SQLSTATE);

    return state == NULL ? "" : state;
}

/* ---- LISTEN --------------------------------------------------------------------------------------------- */

struct pg_listener *pg_listen(struct pg_pool *pool, struct slice channel,
                              void (*on_notify)(void *ctx, struct slice payload),
                              void *ctx)
{
    if (pool->listening == NULL)
        pool->listening = listening_new(pool->loop, &pool->settings);
    return pool->listening == NULL
               ? NULL
               : listening_add(pool->listening, channel, on_notify, ctx);
}

/* ---- deadlines -------------------------------------------------------------------------------------------- */

static void check_waiting(struct pg_pool *pool, int64_t now)
{
    struct list_node *next;

    for (struct list_node *n = pool->waiting.first; n != NULL; n = next) {
        struct pg_op *op = LIST_ENTRY(n, struct pg_op, node);

        next = n->next;
        if (now < op->queue_until_ms) continue;
        list_remove(n);
        pool_finish_later(pool, op, PG_BUSY);
    }
}

/* The asker is answered at once; what it sent is drained. */
static void check_ops(struct pg_conn *c, struct list *ops, enum pg_outcome late,
                      int64_t now)
{
    struct list_node *next;

    for (struct list_node *n = ops->first; n != NULL; n = next) {
        struct pg_op *op = LIST_ENTRY(n, struct pg_op, node);

        next = n->next;
        if (now < op->deadline_ms) continue;
        pg_conn_forget(op);
        pool_finish_later(c->pool, op, late);
    }
}

/* Of what runs too long, whether or not somebody still waits for it: only the head of the
 * queue is running. */
static void check_head(struct pg_conn *c, int64_t now)
{
    struct answer *a = LIST_ENTRY(c->answers.first, struct answer, node);

    if (a == NULL || a->deadline_ms == 0 || now < a->deadline_ms ||
        now < c->cancel_again_ms)
        return;
    pg_cancel_running(c);
}

static void check_conn(struct pg_conn *c, int64_t now)
{
    struct pg_pool *pool = c->pool;

    pg_link_check(&c->link, now);
    if (c->state > CONN_CONNECTING) {
        check_ops(c, &c->running, PG_TIMEOUT, now);
        check_ops(c, &c->queued, PG_BUSY, now);
        if (c->state != CONN_RESETTING) check_head(c, now);
        else if (now > c->reset_until_ms || !pg_conn_step_reset(c)) pool_lose(c);
    }
    if (c->state != CONN_DOWN || now < c->retry_at_ms) return;
    if (c == &pool->conns[0] || (!c->for_transactions && pool_any_up(pool)) ||
        (c->for_transactions && pool->pins.count > 0 && pool_any_up(pool)))
        pool_connect(c);
}

static void on_sweep(uv_timer_t *timer)
{
    struct pg_pool *pool = timer->data;
    int64_t now = clock_ms();

    check_waiting(pool, now);
    pins_check(pool, now);
    for (int i = 0; i < pool->count; i++) check_conn(&pool->conns[i], now);
    pump(pool);
    pins_grant(pool);
    if (pool->listening != NULL) listening_check(pool->listening, now);
}

/* ---- life ----------------------------------------------------------------------------------------------------- */

static void init_conn(struct pg_pool *pool, int i)
{
    struct pg_conn *c = &pool->conns[i];
    const struct pg_settings *s = &pool->settings;

    c->pool = pool;
    c->for_transactions = i >= pool->shared;
    c->link = (struct pg_link){
        .loop = pool->loop,
        .url = s->url,
        .application_name = s->application_name,
        .timezone = s->timezone,
        .connect_timeout = clock_scaled(s->connect_timeout),
        .bare = !s->named_statements,
        .statement_timeout = clock_scaled(s->query_timeout) + 1000,
        .on_up = on_up,
        .on_failed = on_failed,
        .on_ready = on_ready,
    };
}

static void on_first(uv_timer_t *timer)
{
    struct pg_pool *pool = timer->data;

    pool_connect(&pool->conns[0]);
    uv_timer_start(timer, on_sweep, SWEEP_MS, SWEEP_MS);
}

struct pg_pool *pg_pool_new(uv_loop_t *loop, const struct pg_settings *settings)
{
    struct pg_pool *pool = mem_get_clear(sizeof *pool);

    if (pool == NULL) return NULL;
    pool->loop = loop;
    pool->settings = *settings;
    pool->shared = settings->connections;
    pool->count = settings->connections + settings->transaction_connections;
    pool->conns = mem_get_clear((size_t)pool->count * sizeof *pool->conns);
    if (pool->conns == NULL) {
        mem_free(pool);
        return NULL;
    }
    for (int i = 0; i < pool->count; i++) init_conn(pool, i);
    uv_timer_init(loop, &pool->sweep);
    uv_idle_init(loop, &pool->soon);
    pool->sweep.data = pool->soon.data = pool;
    pool->open_handles = 2;
    uv_timer_start(&pool->sweep, on_first, 0, 0);
    return pool;
}

void pg_pool_flush(struct pg_pool *pool)
{
    for (int i = 0; i < pool->count; i++) {
        struct pg_conn *c = &pool->conns[i];

        if (c->dirty && !c->link.writing && !pg_conn_flush(c)) pool_lose(c);
    }
}

void pg_pool_new_generation(struct pg_pool *pool) { pool->generation++; }

static void maybe_closed(struct pg_pool *pool)
{
    if (!pool->closing || pool->open_handles > 0 || pool->cancels > 0) return;
    for (int i = 0; i < pool->count; i++) pg_conn_free(&pool->conns[i]);
    listening_free(pool->listening);
    pool->on_closed(pool->closed_ctx);
    mem_free(pool->conns);
    mem_free(pool);
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct pg_pool *pool = handle->data;

    pool->open_handles--;
    maybe_closed(pool);
}

/* Says what is to be said while the asker still listens, then closes the handles. */
static void on_last(uv_timer_t *timer)
{
    struct pg_pool *pool = timer->data;

    do tell(pool);
    while (pool->finished.count + pool->granted.count > 0);
    uv_close((uv_handle_t *)&pool->sweep, on_handle_closed);
    uv_close((uv_handle_t *)&pool->soon, on_handle_closed);
}

void pg_pool_close(struct pg_pool *pool, void (*on_closed)(void *ctx), void *ctx)
{
    pool->closing = true;
    pool->on_closed = on_closed;
    pool->closed_ctx = ctx;
    listening_stop(pool->listening);
    for (int i = 0; i < pool->count; i++) {
        struct pg_conn *c = &pool->conns[i];

        if (c->state > CONN_CONNECTING) pool_lose(c);
        else pg_link_down(&c->link);
    }
    fail_waiting(pool);
    uv_timer_start(&pool->sweep, on_last, 0, 0);
}

void pg_pool_stats(const struct pg_pool *pool, struct pg_stats *stats)
{
    *stats = (struct pg_stats){ .waiting = pool->waiting.count,
                                .pins_waiting = pool->pins.count,
                                .operations = pool->operations,
                                .failures = pool->failures,
                                .reconnects = pool->reconnects };
    for (int i = 0; i < pool->count; i++) {
        const struct pg_conn *c = &pool->conns[i];

        stats->in_flight += pg_conn_in_flight(c);
        stats->connecting += c->state == CONN_CONNECTING;
        stats->broken += c->state == CONN_DOWN;
        stats->pinned += c->state == CONN_PINNED || c->state == CONN_RESETTING;
        stats->idle += c->state == CONN_READY && pg_conn_in_flight(c) == 0;
        stats->busy += c->state == CONN_READY && pg_conn_in_flight(c) > 0;
    }
}
