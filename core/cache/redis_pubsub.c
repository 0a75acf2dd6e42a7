#include "cache/redis_pubsub.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"

enum { BEAT_MS = 10000 };

struct redis_subscription {
    struct list_node node;
    struct redis_pubsub *pubsub; /* NULL once the client is closed */
    void (*on_message)(void *ctx, struct slice text);
    void *ctx;
    bool asked;  /* on the connection that there is */
    bool missed; /* to be told so when Redis confirms */
    bool over;   /* to be freed after the delivery that is under way */
    struct slice channel;
};

static struct redis_subscription *first_of(const struct redis_pubsub *p)
{
    return LIST_ENTRY(p->subscriptions.first, struct redis_subscription, node);
}

static struct redis_subscription *next_of(const struct redis_subscription *s)
{
    return LIST_ENTRY(s->node.next, struct redis_subscription, node);
}

/* ---- to Redis ---------------------------------------------------------------------- */

/* A command that does not fit into memory is taken back whole. */
static bool send_words(struct redis_pubsub *p, int count, const struct slice words[])
{
    struct buf *b = redis_conn_output(p->link.conn);
    size_t before = b->n;

    redis_command_add(b, count, words);
    if (!b->failed) return true;
    b->n = before;
    b->failed = false;
    return false;
}

/* Asking twice for one channel does no harm. */
static bool ask(struct redis_pubsub *p, struct redis_subscription *s)
{
    s->asked = send_words(p, 2, (struct slice[]){ SLICE("SUBSCRIBE"), s->channel });
    return s->asked;
}

static void on_beat(uv_timer_t *timer)
{
    struct redis_pubsub *p = timer->data;

    if (!p->link.ready) return;
    if (!p->heard || !send_words(p, 1, (struct slice[]){ SLICE("PING") }))
        redis_link_break(&p->link, "no answer in time");
    p->heard = false;
}

/* ---- deliveries ----------------------------------------------------------------------- */

/* Calls everybody on 'channel' with 'text', or tells those who missed some.  Callbacks
 * may subscribe, unsubscribe and close: nothing leaves the list meanwhile, and what
 * was not there before gets nothing. */
static void deliver(struct redis_pubsub *p, struct slice channel,
                    const struct slice *text)
{
    struct list_node *last = p->subscriptions.last;
    struct redis_subscription *s = first_of(p);
    bool more = s != NULL;

    p->delivering = true;
    for (; more; s = next_of(s)) {
        more = &s->node != last;
        if (s->over || !slice_equal(s->channel, channel)) continue;
        if (text != NULL) {
            s->on_message(s->ctx, *text);
        } else if (s->missed) {
            s->missed = false;
            s->on_message(s->ctx, (struct slice){ 0 });
        }
    }
    p->delivering = false;
}

static void subscription_free(struct redis_subscription *s)
{
    if (list_on(&s->node)) list_remove(&s->node);
    mem_free(s);
}

/* What ended during a delivery. */
static void free_those_over(struct redis_pubsub *p)
{
    struct redis_subscription *next;

    for (struct redis_subscription *s = first_of(p); s != NULL; s = next) {
        next = next_of(s);
        if (s->over) subscription_free(s);
    }
    if (p->subscriptions.count == 0) redis_link_stop(&p->link);
}

static bool is_text(const struct redis_reply *reply, const char *word)
{
    return reply->type == REDIS_STRING && slice_equal(reply->text, slice_of(word));
}

/* ["message", channel, text] or ["subscribe", channel, count]; anything else, such as
 * the answer to PING, tells only that Redis is there. */
static void take(struct redis_pubsub *p, const struct redis_reply *reply)
{
    if (reply->type == REDIS_ERROR_TEXT)
        log_warn("redis subscription refused", log_slice("error", reply->text));
    if (reply->type != REDIS_LIST || reply->item_count != 3 ||
        reply->items[1]->type != REDIS_STRING)
        return;
    if (is_text(reply->items[0], "message") && reply->items[2]->type == REDIS_STRING)
        deliver(p, reply->items[1]->text, &reply->items[2]->text);
    else if (is_text(reply->items[0], "subscribe"))
        deliver(p, reply->items[1]->text, NULL);
}

/* ---- the connection's events ----------------------------------------------------------- */

static void on_ready(void *ctx)
{
    struct redis_pubsub *p = ctx;

    p->heard = true;
    uv_timer_start(&p->beat, on_beat, (uint64_t)clock_scaled(BEAT_MS),
                   (uint64_t)clock_scaled(BEAT_MS));
    for (struct redis_subscription *s = first_of(p); s != NULL; s = next_of(s))
        if (!ask(p, s)) {
            redis_link_break(&p->link, "no memory");
            return;
        }
}

static void on_input(void *ctx)
{
    struct redis_pubsub *p = ctx;
    struct redis_conn *conn = p->link.conn;
    struct redis_reply *reply;

    while ((reply = redis_conn_next(conn)) != NULL) {
        p->heard = true;
        take(p, reply);
        redis_reply_free(reply);
        free_those_over(p);
    }
}

static void on_lost(void *ctx, bool was_ready)
{
    struct redis_pubsub *p = ctx;

    (void)was_ready;
    uv_timer_stop(&p->beat);
    for (struct redis_subscription *s = first_of(p); s != NULL; s = next_of(s)) {
        s->missed |= s->asked;
        s->asked = false;
    }
}

/* ---- the interface ----------------------------------------------------------------------- */

void redis_pubsub_init(struct redis_pubsub *p, uv_loop_t *loop,
                       const struct redis_address *address, int64_t timeout)
{
    static const struct redis_link_events events = { on_ready, on_input, on_lost };

    *p = (struct redis_pubsub){ 0 };
    redis_link_init(&p->link, loop, "messages", address, timeout, &events, p);
    uv_timer_init(loop, &p->beat);
    p->beat.data = p;
}

struct redis_subscription *redis_pubsub_add(struct redis_pubsub *p, struct slice channel,
                                            void (*on_message)(void *ctx,
                                                               struct slice text),
                                            void *ctx)
{
    struct redis_subscription *s = mem_get_clear(sizeof *s + channel.n + 1);
    char *name;

    if (s == NULL || p->closed) {
        mem_free(s);
        return NULL;
    }
    name = (char *)(s + 1);
    if (channel.n > 0) memcpy(name, channel.p, channel.n);
    s->channel = (struct slice){ name, channel.n };
    s->pubsub = p;
    s->missed = true; /* until Redis listens */
    s->on_message = on_message;
    s->ctx = ctx;
    if (p->link.ready && !ask(p, s)) {
        mem_free(s);
        return NULL;
    }
    list_append(&p->subscriptions, &s->node);
    redis_link_start(&p->link);
    return s;
}

static bool is_wanted(const struct redis_pubsub *p, struct slice channel)
{
    for (const struct redis_subscription *s = first_of(p); s != NULL; s = next_of(s))
        if (!s->over && slice_equal(s->channel, channel)) return true;
    return false;
}

void redis_unsubscribe(struct redis_subscription *s)
{
    struct redis_pubsub *p = s->pubsub;

    s->over = true;
    /* Without memory for the command its messages come and are dropped. */
    if (p != NULL && p->link.ready && !is_wanted(p, s->channel))
        (void)!send_words(p, 2, (struct slice[]){ SLICE("UNSUBSCRIBE"), s->channel });
    if (p == NULL) {
        subscription_free(s);
    } else if (!p->delivering) {
        subscription_free(s);
        if (p->subscriptions.count == 0) redis_link_stop(&p->link);
    }
}

void redis_pubsub_flush(struct redis_pubsub *p)
{
    if (p->link.ready) redis_conn_flush(p->link.conn);
}

void redis_pubsub_stop(struct redis_pubsub *p)
{
    p->closed = true;
    redis_link_stop(&p->link);
    uv_timer_stop(&p->beat);
}

void redis_pubsub_close(struct redis_pubsub *p, uv_close_cb then, void *data)
{
    struct redis_subscription *s;

    assert(p->closed && !p->delivering);
    while ((s = LIST_ENTRY(list_take(&p->subscriptions), struct redis_subscription,
                           node)) != NULL)
        s->pubsub = NULL;
    redis_link_close(&p->link, then, data);
    p->beat.data = data;
    uv_close((uv_handle_t *)&p->beat, then);
}
