#include "cache/redis_link.h"

#include "base/clock.h"
#include "base/log.h"

enum { WAIT_FIRST_MS = 50, WAIT_MOST_MS = 500 };

static const struct redis_conn_events conn_events;

static void attempt(struct redis_link *link);

/* ---- attempts -------------------------------------------------------------------- */

static void on_again(uv_timer_t *timer) { attempt(timer->data); }

/* Three to five quarters of 'wait', so that workers do not come all at once. */
static int64_t with_jitter(int64_t wait)
{
    uint32_t number = 0;

    if (uv_random(NULL, NULL, &number, sizeof number, 0, NULL) != 0)
        number = (uint32_t)uv_hrtime();
    return wait * 3 / 4 + (int64_t)number % (wait / 2 + 1);
}

static void plan(struct redis_link *link)
{
    int64_t wait = link->steady_wait != 0 ? link->steady_wait : link->wait;

    uv_timer_start(&link->again, on_again, (uint64_t)with_jitter(wait), 0);
    link->wait *= 2;
    if (link->wait > WAIT_MOST_MS) link->wait = WAIT_MOST_MS;
}

static void lost(struct redis_link *link, const char *why)
{
    bool was_ready = link->ready;

    if (!link->told_down)
        log_warn("redis down", log_text("connection", link->name),
                 log_text("error", why));
    link->told_down = true;
    link->conn = NULL;
    link->ready = false;
    link->tried = true;
    link->events->on_lost(link->ctx, was_ready);
    plan(link);
}

static void attempt(struct redis_link *link)
{
    link->conn =
        redis_conn_open(link->loop, link->address, link->timeout, &conn_events, link);
    if (link->conn == NULL) lost(link, "no memory");
}

/* ---- what the connection tells ------------------------------------------------------ */

static void on_ready(void *ctx)
{
    struct redis_link *link = ctx;

    link->ready = true;
    link->tried = true;
    link->told_down = false;
    link->wait = WAIT_FIRST_MS;
    link->connects++;
    log_info("redis up", log_text("connection", link->name));
    link->events->on_ready(link->ctx);
}

static void on_input(void *ctx)
{
    struct redis_link *link = ctx;

    link->events->on_input(link->ctx);
}

static void on_lost(void *ctx, const char *why) { lost(ctx, why); }

static const struct redis_conn_events conn_events = { on_ready, on_input, on_lost };

/* ---- life --------------------------------------------------------------------------- */

void redis_link_init(struct redis_link *link, uv_loop_t *loop, const char *name,
                     const struct redis_address *address, int64_t timeout,
                     const struct redis_link_events *events, void *ctx)
{
    *link = (struct redis_link){ .loop = loop,
                                 .name = name,
                                 .address = address,
                                 .timeout = timeout,
                                 .events = events,
                                 .ctx = ctx,
                                 .wait = WAIT_FIRST_MS };
    uv_timer_init(loop, &link->again);
    link->again.data = link;
}

void redis_link_start(struct redis_link *link)
{
    if (link->conn == NULL && !uv_is_active((uv_handle_t *)&link->again)) attempt(link);
}

void redis_link_break(struct redis_link *link, const char *why)
{
    redis_conn_drop(link->conn);
    lost(link, why);
}

void redis_link_stop(struct redis_link *link)
{
    if (link->conn != NULL) redis_conn_drop(link->conn);
    link->conn = NULL;
    link->ready = false;
    uv_timer_stop(&link->again);
}

void redis_link_close(struct redis_link *link, uv_close_cb then, void *data)
{
    redis_link_stop(link);
    link->again.data = data;
    uv_close((uv_handle_t *)&link->again, then);
}
