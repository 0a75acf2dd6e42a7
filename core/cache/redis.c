#include "cache/redis.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "cache/redis_link.h"
#include "cache/redis_protocol.h"
#include "cache/redis_pubsub.h"

enum {
    SWEEP_MS = 10,
    SPARE_MAX = 1024,      /* places in the queue that are kept for later */
    OUTPUT_MAX = 64 << 20, /* bytes that wait to be sent */
    OWN_HANDLES = 3        /* sweep, later, and the link's */
};

/* A place in the queue of replies.  It outlives its op: replies are positional. */
struct slot {
    struct list_node node;
    struct redis_op *op; /* NULL: nobody waits any more, or it is a probe */
    int due;             /* replies that are still to come */
    bool probe;
    int64_t sent_ms;
};

struct redis {
    uv_loop_t *loop;
    struct redis_settings settings; /* times are scaled */
    struct redis_address address;
    struct redis_link link;
    struct redis_pubsub pubsub;

    struct list queue; /* slots, in the order in which replies come */
    struct list spare; /* slots to be used again */
    size_t in_flight;  /* replies due in all slots */
    struct list done;  /* ops whose on_done is to be called */

    uv_timer_t sweep; /* runs while replies are due, or a probe is */
    int64_t swept_ms;
    bool sweep_skipped;
    int64_t heard_ms; /* the last reply, or the first command after silence */
    uv_idle_t later;  /* calls on_done for what failed outside the loop's callbacks */

    int failures_in_row;
    bool open; /* the breaker: nothing is sent but probes */
    int64_t probed_ms;

    int64_t commands, failures;

    bool closing;
    int handles;
    void (*on_closed)(void *ctx);
    void *on_closed_ctx;
};

/* ---- answers ---------------------------------------------------------------------- */

static void on_later(uv_idle_t *later);

static void finish(struct redis *r, struct redis_op *op, enum redis_outcome outcome)
{
    if (outcome != REDIS_OK_REPLY) r->failures++;
    op->decided = outcome;
    op->slot = NULL;
    list_append(&r->done, &op->node);
}

/* An idle handle makes the loop turn again without waiting. */
static void finish_later(struct redis *r, struct redis_op *op, enum redis_outcome outcome)
{
    finish(r, op, outcome);
    uv_idle_start(&r->later, on_later);
}

/* The one place where on_done is called.  What fails meanwhile has the next turn. */
static void call_done(struct redis *r)
{
    struct redis_op *op;

    for (size_t n = r->done.count; n > 0; n--) {
        op = LIST_ENTRY(list_take(&r->done), struct redis_op, node);
        if (op == NULL) break;
        op->outcome = op->decided;
        op->on_done(op->ctx, op);
    }
    if (r->done.count > 0) uv_idle_start(&r->later, on_later);
}

/* ---- the queue of replies ------------------------------------------------------------ */

static struct slot *slot_take(struct redis *r)
{
    struct list_node *spare = list_take(&r->spare);

    if (spare != NULL) return LIST_ENTRY(spare, struct slot, node);
    return mem_get(sizeof(struct slot));
}

static void slot_give(struct redis *r, struct slot *slot)
{
    if (list_on(&slot->node)) list_remove(&slot->node);
    if (r->spare.count < SPARE_MAX) list_append(&r->spare, &slot->node);
    else mem_free(slot);
}

static void on_sweep(uv_timer_t *timer);

static void sweep_start(struct redis *r, int64_t now)
{
    if (uv_is_active((uv_handle_t *)&r->sweep)) return;
    r->swept_ms = now;
    r->sweep_skipped = false;
    uv_timer_start(&r->sweep, on_sweep, SWEEP_MS, SWEEP_MS);
}

/* Writes the commands and queues a slot for their replies; false, with nothing done,
 * when there is no memory or too much waits to be sent. */
static bool enqueue(struct redis *r, struct redis_op *op, int count, const int argc[],
                    const struct slice argv[])
{
    struct buf *b = redis_conn_output(r->link.conn);
    struct slot *slot = slot_take(r);
    size_t before = b->n;
    int64_t now = clock_ms();

    if (slot == NULL) return false;
    for (int i = 0; i < count; argv += argc[i++]) redis_command_add(b, argc[i], argv);
    if (b->failed || b->n > OUTPUT_MAX) {
        b->n = before;
        b->failed = false;
        *slot = (struct slot){ 0 };
        slot_give(r, slot);
        return false;
    }
    *slot = (struct slot){ .op = op, .due = count, .probe = op == NULL, .sent_ms = now };
    if (r->queue.count == 0) r->heard_ms = now;
    list_append(&r->queue, &slot->node);
    r->in_flight += (size_t)count;
    if (op != NULL) op->slot = slot;
    sweep_start(r, now);
    return true;
}

/* ---- the breaker ------------------------------------------------------------------------ */

static void succeeded(struct redis *r)
{
    r->failures_in_row = 0;
    if (!r->open) return;
    r->open = false;
    r->link.steady_wait = 0;
    log_info("redis breaker closed");
}

static void failed(struct redis *r)
{
    if (r->failures_in_row < r->settings.breaker_failures) r->failures_in_row++;
    if (r->open || r->failures_in_row < r->settings.breaker_failures) return;
    r->open = true;
    r->probed_ms = clock_ms();
    r->link.steady_wait = r->settings.breaker_probe;
    log_warn("redis breaker open", log_int("failures", r->failures_in_row));
}

/* Without a connection the next attempt to make one is the probe. */
static void probe(struct redis *r, int64_t now)
{
    if (!r->open || !r->link.ready || now - r->probed_ms < r->settings.breaker_probe)
        return;
    r->probed_ms = now;
    (void)!enqueue(r, NULL, 1, (int[]){ 1 }, (struct slice[]){ SLICE("PING") });
}

/* ---- deadlines --------------------------------------------------------------------------- */

static void give_up_late(struct redis *r, int64_t now)
{
    for (struct list_node *node = r->queue.first; node != NULL; node = node->next) {
        struct slot *slot = LIST_ENTRY(node, struct slot, node);

        if (slot->op == NULL || slot->op->deadline_ms > now) continue;
        finish_later(r, slot->op, REDIS_LOST);
        slot->op = NULL;
        failed(r);
    }
}

/* When the loop itself was held up, replies may lie ready that it had no chance to
 * read: then one sweep is left out. */
static bool held_up(struct redis *r, int64_t now)
{
    bool late = now - r->swept_ms > 3 * SWEEP_MS && !r->sweep_skipped;

    r->swept_ms = now;
    r->sweep_skipped = late;
    return late;
}

static void on_sweep(uv_timer_t *timer)
{
    struct redis *r = timer->data;
    int64_t now = clock_ms();

    if (held_up(r, now)) return;
    give_up_late(r, now);
    if (r->link.ready && r->queue.count > 0 &&
        now - r->heard_ms >= r->settings.silence_timeout)
        redis_link_break(&r->link, "no reply in time");
    probe(r, now);
    if (r->queue.count == 0 && !(r->open && r->link.ready)) uv_timer_stop(timer);
}

/* ---- the connection's events ---------------------------------------------------------------- */

static void on_ready(void *ctx)
{
    struct redis *r = ctx;

    r->heard_ms = clock_ms();
    succeeded(r);
}

static void take_reply(struct redis *r, struct slot *slot, struct redis_reply *reply,
                       int64_t now)
{
    struct redis_op *op = slot->op;

    r->heard_ms = now;
    r->in_flight--;
    if (op != NULL) {
        op->replies[op->answered++] = reply;
        succeeded(r);
    } else {
        redis_reply_free(reply);
        if (slot->probe && r->heard_ms - slot->sent_ms <= r->settings.command_timeout)
            succeeded(r);
    }
    if (--slot->due > 0) return;
    slot_give(r, slot);
    if (op != NULL) finish(r, op, REDIS_OK_REPLY);
}

static void on_input(void *ctx)
{
    struct redis *r = ctx;
    struct redis_conn *conn = r->link.conn;
    struct redis_reply *reply;
    int64_t now = clock_ms();

    while ((reply = redis_conn_next(conn)) != NULL) {
        if (r->queue.count > 0) {
            take_reply(r, LIST_ENTRY(r->queue.first, struct slot, node), reply, now);
        } else {
            redis_reply_free(reply);
            redis_link_break(&r->link, "a reply that nobody asked for");
        }
    }
    call_done(r);
}

static void fail_all(struct redis *r, enum redis_outcome outcome)
{
    struct slot *slot;

    while ((slot = LIST_ENTRY(list_take(&r->queue), struct slot, node)) != NULL) {
        if (slot->op != NULL) finish_later(r, slot->op, outcome);
        slot_give(r, slot);
    }
    r->in_flight = 0;
}

static void on_lost(void *ctx, bool was_ready)
{
    struct redis *r = ctx;

    fail_all(r, was_ready ? REDIS_LOST : REDIS_DOWN);
    failed(r);
}

/* ---- commands ---------------------------------------------------------------------------------- */

static bool accepts(const struct redis *r, const struct redis_op *op)
{
    if (r->closing || r->open || r->link.conn == NULL) return false;
    if (!r->link.ready && r->link.tried) return false;
    return r->in_flight + (size_t)op->command_count <= (size_t)r->settings.in_flight_max;
}

/* Each command gets the refusal as its reply. */
static enum redis_outcome refuse(struct redis_op *op, const char *why)
{
    for (int i = 0; i < op->command_count; i++) {
        op->replies[i] = redis_reply_error(slice_of(why));
        if (op->replies[i] == NULL) return REDIS_DOWN;
    }
    return REDIS_OK_REPLY;
}

void redis_submit(struct redis *r, struct redis_op *op, const int argc[],
                  const struct slice argv[])
{
    int count = op->command_count;
    const char *why = redis_commands_refused(count, argc, argv);
    int64_t timeout =
        op->timeout_ms > 0 ? clock_scaled(op->timeout_ms) : r->settings.command_timeout;

    assert(count >= 1 && count <= REDIS_COMMANDS_MAX);
    op->outcome = REDIS_WAITING;
    op->node = (struct list_node){ 0 };
    op->answered = 0;
    op->deadline_ms = clock_ms() + timeout;
    op->slot = NULL;
    for (int i = 0; i < count; i++) op->replies[i] = NULL;
    r->commands += count;
    if (why != NULL) finish_later(r, op, refuse(op, why));
    else if (!accepts(r, op) || !enqueue(r, op, count, argc, argv))
        finish_later(r, op, REDIS_DOWN);
}

void redis_cancel(struct redis_op *op)
{
    struct slot *slot = op->slot;

    if (slot != NULL) slot->op = NULL;
    op->slot = NULL;
    if (list_on(&op->node)) list_remove(&op->node);
}

void redis_flush(struct redis *r)
{
    if (r->link.ready) redis_conn_flush(r->link.conn);
    redis_pubsub_flush(&r->pubsub);
}

struct redis_subscription *redis_subscribe(struct redis *r, struct slice channel,
                                           void (*on_message)(void *ctx,
                                                              struct slice text),
                                           void *ctx)
{
    return redis_pubsub_add(&r->pubsub, channel, on_message, ctx);
}

/* ---- life ------------------------------------------------------------------------------------------ */

struct redis *redis_new(uv_loop_t *loop, const struct redis_settings *settings)
{
    static const struct redis_link_events events = { on_ready, on_input, on_lost };
    struct redis *r = mem_get_clear(sizeof *r);
    char message[160];

    if (r == NULL) return NULL;
    if (!redis_url_parse(settings->url, &r->address, message)) {
        mem_free(r);
        return NULL;
    }
    r->loop = loop;
    r->settings = *settings;
    r->settings.connect_timeout = clock_scaled(settings->connect_timeout);
    r->settings.command_timeout = clock_scaled(settings->command_timeout);
    r->settings.silence_timeout = clock_scaled(settings->silence_timeout);
    r->settings.breaker_probe = clock_scaled(settings->breaker_probe);
    uv_timer_init(loop, &r->sweep);
    uv_idle_init(loop, &r->later);
    r->sweep.data = r->later.data = r;
    redis_link_init(&r->link, loop, "commands", &r->address, r->settings.connect_timeout,
                    &events, r);
    redis_pubsub_init(&r->pubsub, loop, &r->address, r->settings.connect_timeout);
    redis_link_start(&r->link);
    return r;
}

bool redis_up(const struct redis *r) { return r->link.ready && !r->open; }

void redis_stats(const struct redis *r, struct redis_stats *stats)
{
    int64_t connects = r->link.connects;

    *stats = (struct redis_stats){
        .connected = r->link.ready,
        .breaker_open = r->open,
        .in_flight = r->in_flight,
        .subscriptions = r->pubsub.subscriptions.count,
        .commands = r->commands,
        .failures = r->failures,
        .reconnects = connects > 0 ? connects - 1 : 0,
    };
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct redis *r = handle->data;
    void (*on_closed)(void *ctx) = r->on_closed;
    void *ctx = r->on_closed_ctx;
    struct list_node *spare;

    if (--r->handles > 0) return;
    while ((spare = list_take(&r->spare)) != NULL)
        mem_free(LIST_ENTRY(spare, struct slot, node));
    mem_free(r);
    on_closed(ctx);
}

static void on_later(uv_idle_t *later)
{
    struct redis *r = later->data;

    uv_idle_stop(later);
    call_done(r);
    if (!r->closing || r->done.count > 0) return;
    r->handles = OWN_HANDLES + REDIS_PUBSUB_HANDLES;
    redis_link_close(&r->link, on_handle_closed, r);
    redis_pubsub_close(&r->pubsub, on_handle_closed, r);
    uv_close((uv_handle_t *)&r->sweep, on_handle_closed);
    uv_close((uv_handle_t *)later, on_handle_closed);
}

void redis_close(struct redis *r, void (*on_closed)(void *ctx), void *ctx)
{
    assert(!r->closing);
    r->closing = true;
    r->on_closed = on_closed;
    r->on_closed_ctx = ctx;
    redis_link_stop(&r->link);
    redis_pubsub_stop(&r->pubsub);
    fail_all(r, REDIS_LOST);
    uv_timer_stop(&r->sweep);
    uv_idle_start(&r->later, on_later);
}
