#include "http/conn.h"

#include <assert.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "base/mem.h"
#include "http/answer.h"

/* ---- states ---------------------------------------------------------------------------- */

#define TO(state) (1u << (state))

static const unsigned may_become[CONN_STATES] = {
    [CONN_FRESH] = TO(CONN_READING) | TO(CONN_CLOSING),
    [CONN_IDLE] = TO(CONN_READING) | TO(CONN_CLOSING),
    [CONN_READING] = TO(CONN_RUNNING) | TO(CONN_WRITING) | TO(CONN_CLOSING),
    [CONN_RUNNING] = TO(CONN_WRITING) | TO(CONN_CLOSING),
    [CONN_WRITING] = TO(CONN_WRITING) | TO(CONN_IDLE) | TO(CONN_CLOSING),
    [CONN_CLOSING] = TO(CONN_CLOSING),
};

void conn_move(struct conn *c, enum conn_state to)
{
    if (!(may_become[c->state] & TO(to))) {
        fprintf(stderr, "conn: impossible move from state %d to %d\n", (int)c->state,
                (int)to);
        abort();
    }
    if (c->state == to) return;
    list_remove(&c->node);
    c->state = to;
    c->since = server_now(c->server);
    list_append(&c->server->conns[to], &c->node);
}

void conn_later(struct conn *c)
{
    if (c->settling || c->closed || list_on(&c->later)) return;
    list_append(&c->server->later, &c->later);
    server_turn(c->server);
}

/* ---- the end --------------------------------------------------------------------------- */

static void forget_input(struct conn *c)
{
    buf_free(&c->kept);
    c->in = (struct slice){ 0 };
    c->again = false;
}

static void on_close(uv_handle_t *handle)
{
    struct conn *c = CONTAINER_OF(handle, struct conn, tcp);
    struct server *s = c->server;

    assert(c->call == NULL && !c->write_busy);
    list_remove(&c->node);
    conn_drop_output(c);
    mem_free(c);
    server_admit(s);
    if (s->draining || s->closing) server_turn(s);
}

static void close_handle(struct conn *c, bool reset)
{
    if (c->closed) return;
    conn_move(c, CONN_CLOSING);
    c->closed = true;
    if (list_on(&c->later)) list_remove(&c->later);
    forget_input(c);
    parse_end(&c->parse);
    conn_drop_output(c);
    if (reset && uv_tcp_close_reset(&c->tcp, on_close) == 0) return;
    uv_close((uv_handle_t *)&c->tcp, on_close);
}

void conn_close(struct conn *c)
{
    assert(c->call == NULL);
    close_handle(c, false);
}

static void report(const struct call *call, int status)
{
    const struct server_app *app = &call->server->app;

    if (app->on_answered != NULL)
        app->on_answered(app->ctx, &call->request, status, call->sent);
}

/* Takes the call away; tells the application when it still owes the answer. */
static void leave_call(struct conn *c, bool owed)
{
    const struct server_app *app = &c->server->app;
    struct call *call = c->call;

    owed = owed && !call->done;
    call_detach(call);
    if (owed && app->on_gone != NULL) app->on_gone(app->ctx, &call->request);
}

void conn_lose(struct conn *c)
{
    struct call *call = c->call;
    bool owed, cut;

    if (call == NULL) {
        close_handle(c, false);
        return;
    }
    owed = call->handed && !(call->answered && (call->ended || !call->streaming));
    /* Where the end of the connection is the end of the answer, half an answer must
     * not look whole.  Nor shall the kernel keep what a slow reader left. */
    cut = (call->streaming && !call->ended && !call->chunked) || c->write_busy;
    if (call->handed) report(call, 0);
    close_handle(c, cut);
    leave_call(c, owed);
}

/* Our end is said; what the client still sends is thrown away, so that no reset
 * overtakes the answer.  A client that announced its end sends nothing more. */
static void linger(struct conn *c, bool announced)
{
    bool quiet = c->eof || (announced && c->in.n == 0);
    uv_os_fd_t fd;

    conn_move(c, CONN_CLOSING);
    forget_input(c);
    if (quiet || uv_fileno((uv_handle_t *)&c->tcp, &fd) != 0 ||
        shutdown(fd, SHUT_WR) != 0)
        close_handle(c, false);
}

/* ---- answers end ------------------------------------------------------------------------- */

static bool is_answered(const struct conn *c)
{
    return c->state == CONN_WRITING && conn_is_flushed(c) &&
           (c->call == NULL || c->call->ended);
}

static void finish(struct conn *c)
{
    struct call *call = c->call;
    bool close = call == NULL || call->close;
    bool announced = call != NULL && call->body_done && !call->request.keep_alive;

    if (call != NULL) {
        report(call, call->status);
        call_detach(call);
    }
    c->paused = c->held = c->drain_due = c->again = false;
    if (close) {
        linger(c, announced);
        return;
    }
    conn_move(c, CONN_IDLE);
    if (c->server->waiting > 0 && c->in.n == 0) server_admit(c->server);
}

/* ---- answers of the engine's own ------------------------------------------------------------ */

void conn_refuse(struct conn *c, int status, const char *code, const char *message)
{
    struct call *call = c->call;

    c->server->stat_refused++;
    if (call->answered) {
        conn_lose(c);
        return;
    }
    upload_drop(call);
    answer_error(c, call, status, code, message, true);
    forget_input(c);
    if (call->done) return; /* finish() ends it */
    report(call, status);
    call->answered = call->ended = false; /* the application's answer goes nowhere */
    leave_call(c, true);
}

/* ---- requests begin ------------------------------------------------------------------------- */

static void learn_peer(struct conn *c)
{
    struct sockaddr_storage address;
    int n = (int)sizeof address;

    c->peer_known = true;
    if (uv_tcp_getpeername(&c->tcp, (struct sockaddr *)&address, &n) != 0) return;
    if (address.ss_family == AF_INET) {
        const struct sockaddr_in *in = (const void *)&address;

        c->peer_port = ntohs(in->sin_port);
        if (uv_ip4_name(in, c->peer, sizeof c->peer) != 0) c->peer[0] = '\0';
    } else if (address.ss_family == AF_INET6) {
        const struct sockaddr_in6 *in = (const void *)&address;
        bool mapped = IN6_IS_ADDR_V4MAPPED(&in->sin6_addr);
        const unsigned char *bytes = in->sin6_addr.s6_addr + (mapped ? 12 : 0);

        c->peer_port = ntohs(in->sin6_port);
        if (uv_inet_ntop(mapped ? AF_INET : AF_INET6, bytes, c->peer, sizeof c->peer) !=
            0)
            c->peer[0] = '\0';
    }
}

static void begin(struct conn *c)
{
    struct call *call = call_new(c->server);
    struct request *r;

    if (call == NULL) {
        conn_break(c);
        return;
    }
    if (!c->peer_known) learn_peer(c);
    r = &call->request;
    r->conn = c;
    r->peer_port = c->peer_port;
    _Static_assert(sizeof r->peer == sizeof c->peer, "the text fits");
    memcpy(r->peer, c->peer, sizeof r->peer);
    c->call = call;
    c->again = false;
    conn_move(c, CONN_READING);
    parse_begin(&c->parse, r, &parse_default_limits);
}

static void on_head(struct conn *c)
{
    const struct server *s = c->server;
    struct call *call = c->call;
    struct parse *p = &c->parse;
    struct body_plan plan = { BODY_WHOLE, s->settings.body_limit };

    call->head_done = true;
    if (s->settings.proxies != NULL) proxies_apply(s->settings.proxies, &call->request);
    if (s->app.on_head != NULL) s->app.on_head(s->app.ctx, &call->request, &plan);
    call->mode = plan.mode;
    p->body_limit = plan.limit;
    if (p->content_length > plan.limit) return; /* the parser refuses it */
    body_begin(c);
    if (p->expect_continue && call->request.minor > 0 && p->content_length != 0 &&
        c->in.n == 0 && c->state == CONN_READING)
        conn_send(c, &SLICE("HTTP/1.1 100 Continue\r\n\r\n"), 1);
}

static void start_eof_clock(struct conn *c)
{
    c->eof_ms = server_now(c->server);
    c->eof_accepted = c->accepted;
}

void conn_hand_over(struct conn *c)
{
    struct server *s = c->server;
    struct call *call = c->call;

    call->handed = true;
    call->done = false;
    s->live++;
    s->stat_requests++;
    if (c->eof) start_eof_clock(c);
    conn_move(c, CONN_RUNNING);
    s->app.on_request(s->app.ctx, &call->request);
}

/* ---- bytes become requests --------------------------------------------------------------------- */

static bool streams_in(const struct conn *c)
{
    return c->state == CONN_RUNNING && !c->call->body_done;
}

static bool may_parse(const struct conn *c)
{
    switch (c->state) {
    case CONN_FRESH:
    case CONN_IDLE: return true;
    case CONN_READING: return !c->call->body_done && !c->held;
    case CONN_RUNNING: return streams_in(c) && !c->paused;
    default: return false;
    }
}

/* One event of the parser. */
static void step(struct conn *c)
{
    size_t used = 0, n = c->in.n;
    enum parse_result result;

    if (c->call == NULL) {
        begin(c);
        if (c->call == NULL) return;
    }
    result = parse_feed(&c->parse, c->in.p, n, &used);
    assert(used <= n);
    c->in.n = result == PARSE_MORE ? 0 : n - used;
    if (n > 0) c->in.p += used;
    c->again = result == PARSE_HEAD || result == PARSE_DATA;
    switch (result) {
    case PARSE_MORE: break;
    case PARSE_HEAD: on_head(c); break;
    case PARSE_DATA: body_add(c, c->parse.data); break;
    case PARSE_DONE: body_end(c); break;
    case PARSE_BAD:
        conn_refuse(c, c->parse.status, c->parse.code, c->parse.message);
        break;
    }
    if (c->in.n == 0 && c->kept.cap > 0) buf_free(&c->kept);
}

/* The client said its end, and all that it sent is parsed.  False: go on waiting. */
static bool at_eof(struct conn *c)
{
    switch (c->state) {
    case CONN_FRESH:
    case CONN_IDLE: conn_close(c); return true;
    case CONN_READING:
        if (c->call->body_done || c->held) return false;
        if (!parse_started(&c->parse)) conn_lose(c);
        else
            conn_refuse(c, 400, "BAD_REQUEST",
                        "The request ended before it was complete");
        return true;
    case CONN_RUNNING:
        if (!streams_in(c) || c->paused) return false;
        conn_refuse(c, 400, "BAD_REQUEST", "The body ended before it was complete");
        return true;
    default: return false;
    }
}

/* ---- what is due ---------------------------------------------------------------------------------- */

static void meet_fate(struct conn *c)
{
    enum conn_fate fate = c->fate;

    c->fate = FATE_NONE;
    switch (fate) {
    case FATE_NONE: break;
    case FATE_BROKEN: conn_lose(c); break;
    case FATE_CLOSE:
        if (c->call == NULL) conn_close(c);
        break;
    case FATE_TIMED_OUT:
        if (c->state != CONN_READING && !streams_in(c)) break;
        if (!parse_started(&c->parse) && !c->call->head_done) conn_lose(c);
        else
            conn_refuse(c, 408, "REQUEST_TIMEOUT", "The request took too long to arrive");
        break;
    }
}

static bool may_drain(const struct conn *c)
{
    return c->drain_due && c->state == CONN_RUNNING && c->server->app.on_drain != NULL &&
           (int64_t)conn_pending(c) <= c->server->settings.write_buffer / 2;
}

/* Does one thing that is due; false when nothing is. */
static bool advance(struct conn *c)
{
    const struct server_app *app = &c->server->app;

    if (c->closed || (c->state == CONN_CLOSING && c->fate == FATE_NONE)) return false;
    if (c->fate != FATE_NONE) {
        meet_fate(c);
    } else if (is_answered(c)) {
        finish(c);
    } else if (may_drain(c)) {
        c->drain_due = false;
        app->on_drain(app->ctx, &c->call->request);
    } else if (c->call != NULL && c->call->file != NULL && conn_is_flushed(c)) {
        return file_send_next(c);
    } else if (may_parse(c) && (c->again || c->in.n > 0)) {
        step(c);
    } else {
        return c->eof && c->in.n == 0 && !c->again && at_eof(c);
    }
    return true;
}

void conn_settle(struct conn *c)
{
    c->settling = true;
    while (advance(c)) continue;
    c->settling = false;
    if (c->closed) return;
    conn_read_update(c);
    if (c->fate != FATE_NONE) conn_later(c);
}

/* ---- reading ------------------------------------------------------------------------------------------ */

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    struct conn *c = CONTAINER_OF(handle, struct conn, tcp);
    size_t room = (size_t)c->server->settings.read_buffer;

    (void)suggested;
    if (c->in.n > 0 && room > KEPT_MAX - c->in.n) room = KEPT_MAX - c->in.n;
    *buf = uv_buf_init(c->server->read_buffer, (unsigned)room);
}

/* What is not parsed yet moves out of the shared read buffer. */
static void keep(struct conn *c)
{
    if (c->in.n == 0 || c->kept.n > 0) return;
    buf_add_slice(&c->kept, c->in);
    if (c->kept.failed) {
        forget_input(c);
        conn_break(c);
    } else c->in = buf_slice(&c->kept);
}

static void take_bytes(struct conn *c, const char *bytes, size_t n)
{
    if (c->in.n > 0) {
        buf_drop(&c->kept, c->kept.n - c->in.n);
        buf_add(&c->kept, bytes, n);
        c->in = buf_slice(&c->kept);
        if (c->kept.failed) conn_break(c);
    } else c->in = (struct slice){ bytes, n };
}

static void on_read_closing(struct conn *c, ssize_t n)
{
    if (n > 0) c->lingered += (size_t)n;
    if (n < 0 || c->lingered > LINGER_MAX) close_handle(c, false);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct conn *c = CONTAINER_OF(stream, struct conn, tcp);

    if (c->closed || n == 0) return;
    if (c->state == CONN_CLOSING) {
        on_read_closing(c, n);
        return;
    }
    c->settling = true;
    if (n > 0) take_bytes(c, buf->base, (size_t)n);
    else if (n == UV_EOF) {
        c->eof = true;
        c->reading = false;
        start_eof_clock(c);
    } else conn_break(c);
    conn_settle(c);
    keep(c);
}

static bool wants_bytes(const struct conn *c)
{
    if (c->eof || c->held) return false;
    if (c->paused && c->call != NULL && !c->call->body_done) return false;
    return c->in.n < KEPT_MAX;
}

void conn_read_update(struct conn *c)
{
    bool wanted = !c->closed && wants_bytes(c);

    if (wanted == c->reading || c->closed) return;
    c->reading = wanted;
    if (!wanted) uv_read_stop((uv_stream_t *)&c->tcp);
    else if (uv_read_start((uv_stream_t *)&c->tcp, on_alloc, on_read) != 0) {
        c->reading = false;
        conn_break(c);
    }
}

/* ---- the beginning ------------------------------------------------------------------------------------ */

struct conn *conn_accept(struct server *s, uv_stream_t *listener)
{
    struct conn *c = mem_get_clear(sizeof *c);

    if (c == NULL) return NULL;
    c->server = s;
    c->state = CONN_FRESH;
    c->since = server_now(s);
    list_append(&s->conns[CONN_FRESH], &c->node);
    s->stat_accepted++;
    if (uv_tcp_init(s->loop, &c->tcp) != 0 ||
        uv_accept(listener, (uv_stream_t *)&c->tcp) != 0) {
        close_handle(c, false);
        return c;
    }
    uv_tcp_nodelay(&c->tcp, 1); /* a failure costs speed only */
    conn_read_update(c);
    return c;
}
