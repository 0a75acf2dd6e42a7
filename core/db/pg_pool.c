#include "db/pg_pool.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "db/pg_conn.h"
#include "db/pg_listen.h"

enum { SWEEP_MS = 25, RETRY_FIRST_MS = 100, RETRY_MOST_MS = 500 };

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
    bool tried, was_up; /* the first attempt to connect is over; log state */
    int open_handles, cancels;
    bool closing;
    void (*on_closed)(void *ctx);
    void *closed_ctx;
    int64_t operations, failures, reconnects;
};

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

static void soon(struct pg_pool *pool)
{
    if (!uv_is_active((uv_handle_t *)&pool->soon)) uv_idle_start(&pool->soon, on_soon);
}

void pool_finish_later(struct pg_pool *pool, struct pg_op *op, enum pg_outcome outcome)
{
    op->stage = (uint64_t)outcome << 8;
    list_append(&pool->finished, &op->node);
    soon(pool);
}

static void maybe_closed(struct pg_pool *pool);

void pool_cancel_started(struct pg_pool *pool) { pool->cancels++; }

void pool_cancel_ended(struct pg_pool *pool)
{
    pool->cancels--;
    maybe_closed(pool);
}

/* ---- what is told on the next turn -------------------------------------------------------- */

static void on_soon(uv_idle_t *handle)
{
    struct pg_pool *pool = handle->data;
    struct list_node *node;

    uv_idle_stop(handle);
    while ((node = list_take(&pool->finished)) != NULL) {
        struct pg_op *op = LIST_ENTRY(node, struct pg_op, node);
        enum pg_outcome outcome = (enum pg_outcome)(op->stage >> 8);

        op->stage = 0;
        pool_finish(pool, op, outcome);
    }
    while ((node = list_take(&pool->granted)) != NULL) {
        struct pg_pin *pin = LIST_ENTRY(node, struct pg_pin, node);

        pin->on_ready(pin->ctx, pin);
    }
}

/* ---- connections ------------------------------------------------------------------------------ */

static struct pg_conn *of(struct pg_link *link)
{
    return CONTAINER_OF(link, struct pg_conn, link);
}

static bool any_up(const struct pg_pool *pool)
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

static void connect_conn(struct pg_conn *c)
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
    while ((node = list_take(&pool->pins)) != NULL) {
        struct pg_pin *pin = LIST_ENTRY(node, struct pg_pin, node);

        pin->outcome = PG_NOT_SENT;
        list_append(&pool->granted, &pin->node);
        soon(pool);
    }
}

static void plan_retry(struct pg_conn *c)
{
    int64_t wait = RETRY_FIRST_MS;

    for (int i = 0; i < c->failures && wait < RETRY_MOST_MS; i++) wait *= 2;
    if (wait > RETRY_MOST_MS) wait = RETRY_MOST_MS;
    c->failures++;
    c->retry_at_ms = clock_ms() + wait / 2 + random() % wait;
}

static void on_failed(struct pg_link *link)
{
    struct pg_conn *c = of(link);
    struct pg_pool *pool = c->pool;

    pg_conn_move(c, CONN_DOWN);
    plan_retry(c);
    if (!pool->tried || pool->was_up)
        log_error("PostgreSQL cannot be reached", log_text("error", link->fault));
    pool->tried = true;
    if (any_up(pool)) return;
    pool->was_up = false;
    fail_waiting(pool);
}

static void grant(struct pg_pool *pool);
static void pump(struct pg_pool *pool);

static void on_up(struct pg_link *link)
{
    struct pg_conn *c = of(link);
    struct pg_pool *pool = c->pool;

    if (PQenterPipelineMode(link->pg) != 1) {
        pg_link_down(link);
        on_failed(link);
        return;
    }
    pg_conn_move(c, CONN_READY);
    c->failures = 0;
    c->sent = c->flushed = 0;
    if (pool->tried && !pool->was_up) log_info("PostgreSQL is back");
    pool->tried = pool->was_up = true;
    pool->reconnects++;
    for (int i = 0; i < pool->shared; i++) connect_conn(&pool->conns[i]);
    pump(pool);
    grant(pool);
}

static void lose(struct pg_conn *c)
{
    struct pg_pool *pool = c->pool;

    if (c->pin != NULL) c->pin->conn = NULL;
    c->pin = NULL;
    pg_conn_lose(c);
    c->retry_at_ms = clock_ms();
    if (pool->closing) return;
    log_warn("connection to PostgreSQL lost");
    if (!any_up(pool)) connect_conn(&pool->conns[0]);
}

static void on_ready(struct pg_link *link, bool readable, bool writable)
{
    struct pg_conn *c = of(link);
    struct pg_pool *pool = c->pool;

    if (writable) pg_conn_flush(c);
    if (readable && link->state == LINK_UP && !pg_conn_read(c)) lose(c);
    pump(pool);
    grant(pool);
}

/* ---- operations on shared connections ----------------------------------------------------------- */

static struct pg_conn *least_busy(struct pg_pool *pool)
{
    struct pg_conn *best = NULL;

    for (int i = 0; i < pool->shared; i++) {
        struct pg_conn *c = &pool->conns[i];

        if (c->state != CONN_READY ||
            c->running.count >= (size_t)pool->settings.in_flight_max)
            continue;
        if (best == NULL || c->running.count < best->running.count) best = c;
    }
    return best;
}

static void send_on(struct pg_conn *c, struct pg_op *op)
{
    c->pool->operations++;
    if (!pg_conn_send(c, op)) lose(c);
}

static void pump(struct pg_pool *pool)
{
    struct pg_conn *c;

    while (pool->waiting.count > 0 && (c = least_busy(pool)) != NULL)
        send_on(c, LIST_ENTRY(list_take(&pool->waiting), struct pg_op, node));
}

static void begin_op(struct pg_pool *pool, struct pg_op *op, int64_t timeout)
{
    assert(op->statement_count >= 1 && op->statement_count <= PG_STATEMENTS_MAX);
    op->outcome = PG_WAITING;
    op->failed_at = -1;
    op->too_large = false;
    op->conn = NULL;
    op->stage = 0;
    op->node = (struct list_node){ 0 };
    op->deadline_ms =
        clock_ms() + clock_scaled(op->timeout_ms > 0 ? op->timeout_ms : timeout);
    (void)pool;
}

void pg_submit(struct pg_pool *pool, struct pg_op *op)
{
    struct pg_conn *c;

    begin_op(pool, op, pool->settings.query_timeout);
    if (pool->closing || (pool->tried && !any_up(pool))) {
        pool_finish_later(pool, op, PG_NOT_SENT);
        return;
    }
    c = pool->waiting.count == 0 ? least_busy(pool) : NULL;
    if (c != NULL) send_on(c, op);
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

/* ---- pins --------------------------------------------------------------------------------------------- */

static struct pg_conn *idle_for_transaction(struct pg_pool *pool)
{
    for (int i = pool->shared; i < pool->count; i++)
        if (pool->conns[i].state == CONN_READY) return &pool->conns[i];
    return NULL;
}

static void connect_more(struct pg_pool *pool)
{
    for (int i = pool->shared; i < pool->count; i++)
        if (pool->conns[i].state == CONN_DOWN &&
            clock_ms() >= pool->conns[i].retry_at_ms) {
            connect_conn(&pool->conns[i]);
            return;
        }
}

static void grant(struct pg_pool *pool)
{
    struct pg_conn *c;

    while (pool->pins.count > 0 && (c = idle_for_transaction(pool)) != NULL) {
        struct pg_pin *pin = LIST_ENTRY(list_take(&pool->pins), struct pg_pin, node);

        pg_conn_move(c, CONN_PINNED);
        c->pin = pin;
        pin->conn = c;
        pin->outcome = PG_OK;
        list_append(&pool->granted, &pin->node);
        soon(pool);
    }
}

void pg_pin(struct pg_pool *pool, struct pg_pin *pin)
{
    pin->outcome = PG_WAITING;
    pin->pool = pool;
    pin->conn = NULL;
    pin->node = (struct list_node){ 0 };
    pin->deadline_ms = clock_ms() + clock_scaled(pool->settings.queue_timeout);
    if (pool->closing || (pool->tried && !any_up(pool))) pin->outcome = PG_NOT_SENT;
    else if (pool->pins.count >= (size_t)pool->settings.queue_max) pin->outcome = PG_BUSY;
    if (pin->outcome != PG_WAITING) {
        list_append(&pool->granted, &pin->node);
        soon(pool);
        return;
    }
    list_append(&pool->pins, &pin->node);
    grant(pool);
    if (pool->pins.count > 0) connect_more(pool);
}

void pg_submit_pinned(struct pg_pin *pin, struct pg_op *op)
{
    struct pg_conn *c = pin->conn;

    if (c == NULL) { /* the connection broke under the pin */
        op->outcome = PG_WAITING;
        op->failed_at = -1;
        op->conn = NULL;
        op->node = (struct list_node){ 0 };
        pool_finish_later(pin->pool, op, PG_NOT_SENT);
        return;
    }
    begin_op(c->pool, op, c->pool->settings.query_timeout);
    send_on(c, op);
}

void pg_unpin(struct pg_pin *pin)
{
    struct pg_conn *c = pin->conn;

    if (list_on(&pin->node)) list_remove(&pin->node);
    pin->conn = NULL;
    if (c == NULL) return;
    c->pin = NULL;
    while (c->running.first != NULL)
        pg_conn_forget(LIST_ENTRY(c->running.first, struct pg_op, node));
    if (c->answers.count == 0 && PQtransactionStatus(c->link.pg) == PQTRANS_IDLE) {
        pg_conn_move(c, CONN_READY);
        grant(c->pool);
        return;
    }
    if (c->answers.count > 0) pg_conn_cancel_running(c);
    if (!pg_conn_reset(c)) lose(c);
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
        if (now < op->deadline_ms) continue;
        list_remove(n);
        pool_finish_later(pool, op, PG_BUSY);
    }
    for (struct list_node *n = pool->pins.first; n != NULL; n = next) {
        struct pg_pin *pin = LIST_ENTRY(n, struct pg_pin, node);

        next = n->next;
        if (now < pin->deadline_ms) continue;
        list_remove(n);
        pin->outcome = PG_BUSY;
        list_append(&pool->granted, &pin->node);
        soon(pool);
    }
}

/* The asker is answered at once; what it sent is drained, and stopped if it is what runs. */
static void check_running(struct pg_conn *c, int64_t now)
{
    struct list_node *next;

    for (struct list_node *n = c->running.first; n != NULL; n = next) {
        struct pg_op *op = LIST_ENTRY(n, struct pg_op, node);
        bool first = n == c->running.first;

        next = n->next;
        if (now < op->deadline_ms) continue;
        if (first) pg_conn_cancel_running(c);
        pg_conn_forget(op);
        pool_finish_later(c->pool, op, PG_TIMEOUT);
    }
}

static void check_conn(struct pg_conn *c, int64_t now)
{
    struct pg_pool *pool = c->pool;

    pg_link_check(&c->link, now);
    if (c->state > CONN_CONNECTING) check_running(c, now);
    if (c->state == CONN_RESETTING && now > c->reset_until_ms) lose(c);
    if (c->state != CONN_DOWN || now < c->retry_at_ms) return;
    if (c == &pool->conns[0] || (!c->for_transactions && any_up(pool)) ||
        (c->for_transactions && pool->pins.count > 0 && any_up(pool)))
        connect_conn(c);
}

static void on_sweep(uv_timer_t *timer)
{
    struct pg_pool *pool = timer->data;
    int64_t now = clock_ms();

    check_waiting(pool, now);
    for (int i = 0; i < pool->count; i++) check_conn(&pool->conns[i], now);
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
        .connect_timeout = clock_scaled(s->connect_timeout),
        .statement_timeout =
            s->named_statements ? clock_scaled(s->query_timeout) + 1000 : 0,
        .on_up = on_up,
        .on_failed = on_failed,
        .on_ready = on_ready,
    };
}

static void on_first(uv_timer_t *timer)
{
    struct pg_pool *pool = timer->data;

    connect_conn(&pool->conns[0]);
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
    for (int i = 0; i < pool->count; i++)
        if (pool->conns[i].dirty) pg_conn_flush(&pool->conns[i]);
}

void pg_pool_new_generation(struct pg_pool *pool) { pool->generation++; }

static void maybe_closed(struct pg_pool *pool)
{
    if (!pool->closing || pool->open_handles > 0 || pool->cancels > 0) return;
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

    on_soon(&pool->soon);
    uv_close((uv_handle_t *)&pool->sweep, on_handle_closed);
    uv_close((uv_handle_t *)&pool->soon, on_handle_closed);
}

void pg_pool_close(struct pg_pool *pool, void (*on_closed)(void *ctx), void *ctx)
{
    pool->closing = true;
    pool->on_closed = on_closed;
    pool->closed_ctx = ctx;
    listening_free(pool->listening);
    pool->listening = NULL;
    for (int i = 0; i < pool->count; i++) {
        struct pg_conn *c = &pool->conns[i];

        if (c->state > CONN_CONNECTING) lose(c);
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

        stats->in_flight += c->running.count;
        stats->connecting += c->state == CONN_CONNECTING;
        stats->broken += c->state == CONN_DOWN;
        stats->pinned += c->state == CONN_PINNED || c->state == CONN_RESETTING;
        stats->idle += c->state == CONN_READY && c->running.count == 0;
        stats->busy += c->state == CONN_READY && c->running.count > 0;
    }
}
