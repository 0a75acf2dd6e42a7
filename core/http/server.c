#include "http/server.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "http/conn.h"
#include "http/pack.h"

enum { SWEEP_MS = 250, SWEEP_DRAIN_MS = 50, READ_MIN = 16 };
enum { OUT_FIRST = 32 * 1024, TEXT_FIRST = 1024 }; /* bytes kept from the start */

struct listener {
    struct list_node node;
    struct server *server;
    int fd;       /* the caller's */
    bool waiting; /* holds a client that there is no room for */
    uv_tcp_t tcp;
};

/* ---- coming in --------------------------------------------------------------------------- */

size_t server_conns(const struct server *s)
{
    size_t count = 0;

    for (int i = 0; i < CONN_STATES; i++) count += s->conns[i].count;
    return count;
}

/* False when there is no memory: the next sweep tries again. */
static bool let_in(struct listener *l)
{
    struct server *s = l->server;

    if (conn_accept(s, (uv_stream_t *)&l->tcp) == NULL) return false;
    l->waiting = false;
    s->waiting--;
    return true;
}

/* A new client gets the time to say something. */
static struct conn *longest_waiting(const struct server *s)
{
    struct conn *idle = LIST_ENTRY(s->conns[CONN_IDLE].first, struct conn, node);
    struct conn *fresh = LIST_ENTRY(s->conns[CONN_FRESH].first, struct conn, node);

    if (fresh != NULL && server_now(s) - fresh->since < s->fresh_grace) fresh = NULL;
    if (idle == NULL || fresh == NULL) return idle != NULL ? idle : fresh;
    return idle->since <= fresh->since ? idle : fresh;
}

/* One idle client for each that waits goes; closing takes until its callback. */
static void shed(struct server *s)
{
    struct conn *c;

    while (s->conns[CONN_CLOSING].count < s->waiting &&
           (c = longest_waiting(s)) != NULL) {
        s->stat_shed++;
        conn_close(c);
    }
}

void server_admit(struct server *s)
{
    size_t room = (size_t)s->settings.max_connections;
    struct list_node *next;

    for (struct list_node *n = s->listeners.first; n != NULL && s->waiting > 0;
         n = next) {
        struct listener *l = LIST_ENTRY(n, struct listener, node);

        next = n->next;
        if (l->waiting && server_conns(s) < room && !let_in(l)) return;
    }
    if (server_conns(s) >= room) shed(s);
}

static void on_connection(uv_stream_t *stream, int status)
{
    struct listener *l = CONTAINER_OF(stream, struct listener, tcp);

    if (status < 0) return; /* that client left again */
    l->waiting = true;
    l->server->waiting++;
    server_admit(l->server);
}

/* ---- listeners --------------------------------------------------------------------------- */

static void on_listener_closed(uv_handle_t *handle)
{
    struct listener *l = CONTAINER_OF(handle, struct listener, tcp);
    struct server *s = l->server;

    mem_free(l);
    s->handles--;
    server_turn(s);
}

/* A client that it holds comes in, over the limit: it is out of the backlog already. */
static void close_listener(struct listener *l)
{
    struct server *s = l->server;

    if (l->waiting && (s->closing || !let_in(l))) s->waiting--;
    list_remove(&l->node);
    uv_close((uv_handle_t *)&l->tcp, on_listener_closed);
}

int server_listen(struct server *s, int fd)
{
    struct listener *l;
    int result, own;

    if (s->draining || s->closing) return UV_EINVAL;
    l = mem_get_clear(sizeof *l);
    if (l == NULL) return UV_ENOMEM;
    l->server = s;
    l->fd = fd;
    result = uv_tcp_init(s->loop, &l->tcp);
    if (result != 0) {
        mem_free(l);
        return result;
    }
    s->handles++;
    list_append(&s->listeners, &l->node);
    own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (own < 0) result = -errno;
    else if ((result = uv_tcp_open(&l->tcp, own)) != 0) close(own);
    if (result == 0) result = uv_listen((uv_stream_t *)&l->tcp, SOMAXCONN, on_connection);
    if (result != 0) close_listener(l);
    return result;
}

void server_unlisten(struct server *s, int fd)
{
    for (struct list_node *n = s->listeners.first; n != NULL; n = n->next) {
        struct listener *l = LIST_ENTRY(n, struct listener, node);

        if (l->fd != fd) continue;
        close_listener(l);
        return;
    }
}

static void close_listeners(struct server *s)
{
    while (s->listeners.first != NULL)
        close_listener(LIST_ENTRY(s->listeners.first, struct listener, node));
}

/* ---- the end ----------------------------------------------------------------------------- */

static void free_calls(struct server *s)
{
    struct call *call;

    while ((call = LIST_ENTRY(list_take(&s->spare), struct call, node)) != NULL) {
        arena_end(&call->request.arena);
        buf_free(&call->body);
        mem_free(call);
    }
}

static void free_server(struct server *s)
{
    free_calls(s);
    pack_end(s);
    buf_free(&s->out);
    buf_free(&s->text);
    mem_free(s->read_buffer);
    mem_free(s);
}

static void on_turn_closed(uv_handle_t *handle)
{
    struct server *s = CONTAINER_OF(handle, struct server, turn);
    void (*on_closed)(void *ctx) = s->on_closed;
    void *ctx = s->closed_ctx;

    free_server(s);
    if (on_closed != NULL) on_closed(ctx);
}

static void on_sweep_closed(uv_handle_t *handle)
{
    struct server *s = CONTAINER_OF(handle, struct server, sweep);

    s->handles--;
    server_turn(s);
}

static void lose_all(struct server *s)
{
    for (int state = 0; state < CONN_STATES; state++) {
        struct list_node *n;

        if (state == CONN_CLOSING) continue;
        while ((n = s->conns[state].first) != NULL)
            conn_lose(LIST_ENTRY(n, struct conn, node));
    }
    for (struct list_node *n = s->conns[CONN_CLOSING].first; n != NULL; n = n->next)
        conn_close(LIST_ENTRY(n, struct conn, node));
}

/* The handle that runs this is the last to close. */
static void end_if_over(struct server *s)
{
    if (s->draining && !s->drained && server_conns(s) == 0 && s->live == 0) {
        s->drained = true;
        if (s->on_drained != NULL) s->on_drained(s->drained_ctx);
    }
    if (!s->closing || s->freeing) return;
    lose_all(s);
    if (server_conns(s) > 0 || s->live > 0 || s->works > 0 || s->handles > 0) return;
    s->freeing = true;
    uv_close((uv_handle_t *)&s->turn, on_turn_closed);
}

static void on_turn(uv_idle_t *turn)
{
    struct server *s = CONTAINER_OF(turn, struct server, turn);
    size_t count = s->later.count;

    uv_idle_stop(turn);
    while (count-- > 0 && s->later.first != NULL)
        conn_settle(LIST_ENTRY(list_take(&s->later), struct conn, later));
    if (s->draining || s->closing) end_if_over(s);
    if (s->later.count > 0) server_turn(s);
}

void server_turn(struct server *s)
{
    if (!s->freeing) uv_idle_start(&s->turn, on_turn); /* never fails */
}

/* ---- drain and close --------------------------------------------------------------------- */

/* After a stall of the whole process clients seem slow whose bytes are only not read
 * yet: they are judged the next time. */
static void on_sweep(uv_timer_t *timer)
{
    struct server *s = CONTAINER_OF(timer, struct server, sweep);
    int64_t gap = server_now(s) - s->swept_ms;

    s->swept_ms = server_now(s);
    s->stalled = !s->stalled && gap > 4 * (int64_t)uv_timer_get_repeat(timer);
    if (!s->stalled) server_sweep(s);
}

void server_drain(struct server *s, void (*on_drained)(void *ctx), void *ctx)
{
    if (s->draining || s->closing) return;
    s->draining = true;
    s->drain_ms = server_now(s);
    s->on_drained = on_drained;
    s->drained_ctx = ctx;
    close_listeners(s);
    uv_timer_start(&s->sweep, on_sweep, SWEEP_DRAIN_MS, SWEEP_DRAIN_MS);
    server_turn(s);
}

void server_close(struct server *s, void (*on_closed)(void *ctx), void *ctx)
{
    assert(!s->closing);
    s->closing = true;
    s->on_closed = on_closed;
    s->closed_ctx = ctx;
    close_listeners(s);
    uv_close((uv_handle_t *)&s->sweep, on_sweep_closed);
    server_turn(s);
}

/* ---- the beginning ----------------------------------------------------------------------- */

static void scale_times(struct server *s)
{
    struct server_settings *settings = &s->settings;

    settings->head_timeout = clock_scaled(settings->head_timeout);
    settings->idle_timeout = clock_scaled(settings->idle_timeout);
    settings->write_timeout = clock_scaled(settings->write_timeout);
    s->drain_grace = clock_scaled(DRAIN_GRACE_MS);
    s->fresh_grace = clock_scaled(FRESH_GRACE_MS);
    s->linger = clock_scaled(LINGER_MS);
    s->half_closed = clock_scaled(HALF_CLOSED_MS);
}

/* Often enough for the shortest limit. */
static uint64_t sweep_interval(const struct server_settings *settings)
{
    int64_t limits[] = { settings->head_timeout, settings->idle_timeout,
                         settings->write_timeout };
    int64_t interval = SWEEP_MS;

    for (size_t i = 0; i < COUNT_OF(limits); i++)
        if (limits[i] / 4 < interval) interval = limits[i] / 4;
    return interval < 5 ? 5 : (uint64_t)interval;
}

static bool begin_ids(struct server *s)
{
    static const char letters[] = "0123456789abcdefghjkmnpqrstvwxyz";
    const size_t n = sizeof s->id - 1;
    unsigned char random[sizeof s->id - 1];

    if (getrandom(random, n / 2, 0) != (ssize_t)(n / 2)) return false;
    for (size_t i = 0; i < n; i++) s->id[i] = i < n / 2 ? letters[random[i] & 31] : '0';
    return true;
}

static void init_handles(struct server *s)
{
    uint64_t interval = sweep_interval(&s->settings);

    uv_timer_init(s->loop, &s->sweep); /* none of these can fail */
    uv_idle_init(s->loop, &s->turn);
    uv_timer_start(&s->sweep, on_sweep, interval, interval);
    s->swept_ms = server_now(s);
    s->handles = 1;
}

struct server *server_new(uv_loop_t *loop, const struct server_settings *settings,
                          const struct server_app *app)
{
    struct server *s = mem_get_clear(sizeof *s);

    if (s == NULL) return NULL;
    s->loop = loop;
    s->settings = *settings;
    s->app = *app;
    if (s->settings.read_buffer < READ_MIN) s->settings.read_buffer = READ_MIN;
    if (s->settings.read_buffer > KEPT_MAX) s->settings.read_buffer = KEPT_MAX;
    scale_times(s);
    s->read_buffer = mem_get((size_t)s->settings.read_buffer);
    if (s->read_buffer == NULL || buf_room(&s->out, OUT_FIRST) == NULL ||
        buf_room(&s->text, TEXT_FIRST) == NULL || !begin_ids(s)) {
        free_server(s);
        return NULL;
    }
    init_handles(s);
    return s;
}

void server_stats(const struct server *s, struct server_stats *stats)
{
    *stats = (struct server_stats){
        .reading = s->conns[CONN_READING].count,
        .running = s->conns[CONN_RUNNING].count,
        .writing = s->conns[CONN_WRITING].count,
        .closing = s->conns[CONN_CLOSING].count,
        .idle = s->conns[CONN_IDLE].count + s->conns[CONN_FRESH].count,
        .accepted = s->stat_accepted,
        .requests = s->stat_requests,
        .refused = s->stat_refused,
        .shed = s->stat_shed,
        .requests_live = s->live,
    };
}
