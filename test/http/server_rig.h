/* server_rig.h -- a server, an application and clients on one loop in one thread, for
 * the tests of http/.  pump() turns the loop; clients use plain sockets. */
#ifndef TEST_HTTP_SERVER_RIG_H
#define TEST_HTTP_SERVER_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#include "base/arena.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/list.h"
#include "base/mem.h"
#include "http/server.h"

enum {
    PATIENCE_MS = 20000, /* of a test that waits for what must come */
    BIG = 1024 * 1024,
    STREAM_PIECE = 16 * 1024,
    STREAM_TOTAL = 8 * 1024 * 1024,
    INPUT_MAX = 12 * 1024 * 1024,
};

/* ---- the application ------------------------------------------------------------------- */

/* In the arena of its request. */
struct exchange {
    struct list_node node; /* on rig.held */
    struct request *request;
    bool later;   /* answers in another turn */
    size_t bytes; /* of a streamed body, in or out */
    uint32_t sum;
};

static struct {
    uv_loop_t loop;
    uv_timer_t timer;
    struct server *server;
    struct server_settings settings;
    int listen_fd, file_fd;
    uint16_t port;
    struct list held;
    long live;
    bool closed, drained, paused_once, answers_gone;
    int gone, released, requests, answered, last_status, drains, stalls;
    int64_t last_bytes;
    size_t queued_most; /* of a streamed answer, ahead of its client */
    char last_id[40];
    uintptr_t stack_top, stack_bottom; /* of the handlers */
    struct request *streaming;
} rig;

static char big_body[BIG];
static char text_body[4096];

static void on_released(void *owner)
{
    assert_ptr_equal(owner, &rig);
    rig.released++;
}

static inline void give_text(struct request *r, int status, struct slice body)
{
    struct response a = { .status = status,
                          .content_type = SLICE("text/plain"),
                          .body = body };

    request_answer(r, &a);
    request_done(r);
}

static inline void release_exchange(struct exchange *x)
{
    if (list_on(&x->node)) list_remove(&x->node);
}

/* Goes on until the server tells it to wait. */
static inline void stream_on(struct exchange *x)
{
    struct request *r = x->request;

    while (x->bytes < STREAM_TOTAL) {
        x->bytes += STREAM_PIECE;
        if (!request_stream(r, (struct slice){ big_body, STREAM_PIECE })) {
            rig.stalls++;
            return;
        }
    }
    request_stream_end(r);
    release_exchange(x);
    request_done(r);
}

static inline void answer_length(struct exchange *x)
{
    char text[64];
    int n = snprintf(text, sizeof text, "%zu %u", x->bytes, x->sum);
    struct request *r = x->request;
    struct slice body = arena_copy(&r->arena, text, (size_t)n);

    release_exchange(x);
    if (body.p == NULL) request_done(r);
    else give_text(r, 200, body);
}

static inline void count_file(struct exchange *x)
{
    unsigned char bytes[4096];
    ssize_t n;

    while ((n = read(x->request->body_fd, bytes, sizeof bytes)) > 0) {
        x->bytes += (size_t)n;
        for (ssize_t i = 0; i < n; i++) x->sum = x->sum * 31 + bytes[i];
    }
    answer_length(x);
}

static inline bool is(const struct request *r, const char *path)
{
    return slice_equal(r->path, slice_of(path));
}

static inline void answer_special(struct exchange *x)
{
    struct request *r = x->request;
    struct response a = { .status = 200, .content_type = SLICE("text/plain") };

    if (is(r, "/text")) {
        a.etag = true;
        a.prefix = SLICE("<<");
        a.body = (struct slice){ text_body, sizeof text_body };
        a.suffix = SLICE(">>");
    } else if (is(r, "/big")) {
        a.no_gzip = true;
        a.body = (struct slice){ big_body, sizeof big_body };
        a.release = on_released;
        a.owner = &rig;
    } else if (is(r, "/empty")) {
        a = (struct response){ .status = 204 };
    } else if (is(r, "/file")) {
        request_answer_file(r, &a, dup(rig.file_fd));
        request_done(r);
        return;
    } else {
        a.status = 404;
        a.body = SLICE("none");
    }
    request_answer(r, &a);
    request_done(r);
}

static inline void answer(struct exchange *x)
{
    struct request *r = x->request;

    if (is(r, "/stream")) {
        struct response a = { .status = 200, .content_type = SLICE("text/plain") };

        request_stream_begin(r, &a);
        list_append(&rig.held, &x->node);
        rig.streaming = r;
        stream_on(x);
    } else if (is(r, "/hello") || is(r, "/later")) give_text(r, 200, SLICE("hello"));
    else if (is(r, "/echo")) give_text(r, 200, r->body);
    else if (is(r, "/query")) give_text(r, 200, r->query);
    else if (is(r, "/peer")) give_text(r, 200, slice_of(r->peer));
    else if (is(r, "/none")) request_done(r);
    else if (is(r, "/to-file")) count_file(x);
    else answer_special(x);
}

static inline void on_timer(uv_timer_t *timer)
{
    struct list_node *next;

    (void)timer;
    for (struct list_node *n = rig.held.first; n != NULL; n = next) {
        struct exchange *x = LIST_ENTRY(n, struct exchange, node);

        next = n->next;
        if (!x->later) continue;
        x->later = false;
        list_remove(n);
        answer(x);
    }
}

static inline void app_head(void *ctx, struct request *r, struct body_plan *plan)
{
    assert_ptr_equal(ctx, &rig);
    if (is(r, "/to-handler") || is(r, "/pauses")) plan->mode = BODY_STREAM;
    if (is(r, "/to-file")) plan->mode = BODY_FILE;
    if (plan->mode != BODY_WHOLE) plan->limit = 64 * 1024 * 1024;
}

static inline void app_request(void *ctx, struct request *r)
{
    struct exchange *x = arena_get(&r->arena, sizeof *x);

    uintptr_t frame = (uintptr_t)__builtin_frame_address(0);

    assert_ptr_equal(ctx, &rig);
    if (rig.requests++ == 0) rig.stack_top = rig.stack_bottom = frame;
    if (frame > rig.stack_top) rig.stack_top = frame;
    if (frame < rig.stack_bottom) rig.stack_bottom = frame;
    memcpy(rig.last_id, r->id, sizeof rig.last_id);
    if (x == NULL) {
        request_done(r);
        return;
    }
    *x = (struct exchange){ .request = r };
    r->owner = x;
    if (is(r, "/later") || slice_equal(r->query, SLICE("later"))) {
        x->later = true;
        list_append(&rig.held, &x->node);
        uv_timer_start(&rig.timer, on_timer, 0, 0);
    } else if (is(r, "/hang") || is(r, "/to-handler") || is(r, "/pauses"))
        list_append(&rig.held, &x->node);
    else answer(x);
}

static inline void app_body(void *ctx, struct request *r, struct slice bytes, bool last)
{
    struct exchange *x = r->owner;

    assert_ptr_equal(ctx, &rig);
    x->bytes += bytes.n;
    for (size_t i = 0; i < bytes.n; i++) x->sum = x->sum * 31 + (unsigned char)bytes.p[i];
    if (last) answer_length(x);
    else if (is(r, "/pauses") && !rig.paused_once) {
        rig.paused_once = true;
        request_pause(r, true);
    }
}

static inline void app_gone(void *ctx, struct request *r)
{
    assert_ptr_equal(ctx, &rig);
    assert_null(r->conn);
    rig.gone++;
    if (r->owner != NULL) release_exchange(r->owner);
    if (rig.answers_gone) request_answer(r, &(struct response){ .status = 500 });
    request_done(r);
}

static inline void app_drain(void *ctx, struct request *r)
{
    assert_ptr_equal(ctx, &rig);
    rig.drains++;
    stream_on(r->owner);
}

static inline void app_error(void *ctx, int status, const char *code, const char *message,
                             const char *id, struct buf *body)
{
    assert_ptr_equal(ctx, &rig);
    assert_non_null(message);
    assert_int_equal(strlen(id), 24);
    buf_addf(body, "{\"code\":\"%s\",\"status\":%d}", code, status);
}

static inline void app_headers(void *ctx, const struct request *r, int status,
                               struct buf *head)
{
    assert_ptr_equal(ctx, &rig);
    assert_in_range(status, 200, 599);
    BUF_ADD(head, "X-Request-Id: ");
    buf_add_text(head, r->id);
    BUF_ADD(head, "\r\n");
}

static inline void app_answered(void *ctx, const struct request *r, int status,
                                int64_t bytes)
{
    assert_ptr_equal(ctx, &rig);
    assert_int_equal(strlen(r->id), 24);
    rig.answered++;
    rig.last_status = status;
    rig.last_bytes = bytes;
}

/* ---- life -------------------------------------------------------------------------------- */

static inline int listen_anywhere(uint16_t *port)
{
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t n = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (void *)&address, n), 0);
    assert_int_equal(listen(fd, 512), 0);
    assert_int_equal(getsockname(fd, (void *)&address, &n), 0);
    *port = ntohs(address.sin_port);
    return fd;
}

static inline struct server_settings usual_settings(void)
{
    const char *read_buffer = getenv("OMADE_TEST_READ_BUFFER");

    return (struct server_settings){
        .head_timeout = 10000,
        .idle_timeout = 60000,
        .write_timeout = 30000,
        .body_min_rate = 1024,
        .body_limit = BIG,
        .write_buffer = 256 * 1024,
        .max_connections = 1000,
        .read_buffer = read_buffer == NULL ? 65536 : atoi(read_buffer),
        .upload_dir = "/tmp",
    };
}

static inline void start(struct server_settings settings)
{
    struct server_app app = {
        .ctx = &rig,
        .on_head = app_head,
        .on_request = app_request,
        .on_body = app_body,
        .on_gone = app_gone,
        .on_drain = app_drain,
        .make_error = app_error,
        .add_headers = app_headers,
        .on_answered = app_answered,
    };

    signal(SIGPIPE, SIG_IGN);
    memset(&rig, 0, sizeof rig);
    rig.live = mem_live();
    rig.settings = settings;
    rig.file_fd = -1;
    for (size_t i = 0; i < sizeof text_body; i++) text_body[i] = "omade "[i % 6];
    for (size_t i = 0; i < sizeof big_body; i++) big_body[i] = (char)('a' + i % 23);
    assert_int_equal(uv_loop_init(&rig.loop), 0);
    assert_int_equal(uv_timer_init(&rig.loop, &rig.timer), 0);
    rig.server = server_new(&rig.loop, &settings, &app);
    assert_non_null(rig.server);
    rig.listen_fd = listen_anywhere(&rig.port);
    assert_int_equal(server_listen(rig.server, rig.listen_fd), 0);
}

static inline void set_true(void *flag) { *(bool *)flag = true; }

/* Everything ends, and nothing is left over. */
static inline void stop(void)
{
    server_close(rig.server, set_true, &rig.closed);
    uv_close((uv_handle_t *)&rig.timer, NULL);
    assert_int_equal(uv_run(&rig.loop, UV_RUN_DEFAULT), 0);
    assert_true(rig.closed);
    assert_int_equal(rig.held.count, 0);
    assert_int_equal(uv_loop_close(&rig.loop), 0);
    close(rig.listen_fd);
    if (rig.file_fd >= 0) close(rig.file_fd);
    assert_int_equal(mem_live(), rig.live);
}

static inline struct server_stats stats(void)
{
    struct server_stats s;

    server_stats(rig.server, &s);
    return s;
}

static inline void pump(void) { uv_run(&rig.loop, UV_RUN_NOWAIT); }

/* Turns the loop until 'what' holds. */
#define WAIT_FOR(what)                                                                   \
    for (int64_t until_ = clock_ms() + clock_scaled(PATIENCE_MS); !(what);) {            \
        if (clock_ms() > until_) fail_msg("never came: %s", #what);                      \
        pump();                                                                          \
    }

/* ---- clients ------------------------------------------------------------------------------- */

struct client {
    int fd;
    char *in; /* what came and is not yet looked at */
    size_t n;
    bool ended, reset;
};

static inline struct client dial(void)
{
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_port = htons(rig.port),
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    struct client c = { .fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0),
                        .in = malloc(INPUT_MAX) };

    assert_true(c.fd >= 0);
    assert_non_null(c.in);
    assert_int_equal(connect(c.fd, (void *)&address, sizeof address), 0);
    assert_int_equal(setsockopt(c.fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int)),
                     0);
    return c;
}

static inline void hang_up(struct client *c)
{
    close(c->fd);
    free(c->in);
}

/* A reset instead of an orderly end. */
static inline void slam(struct client *c)
{
    struct linger now = { 1, 0 };

    assert_int_equal(setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now), 0);
    hang_up(c);
}

static inline void listen_up(struct client *c)
{
    ssize_t n;

    pump();
    if (c->ended) return;
    n = recv(c->fd, c->in + c->n, INPUT_MAX - c->n, MSG_DONTWAIT);
    if (n > 0) c->n += (size_t)n;
    else if (n == 0) c->ended = true;
    else if (errno != EAGAIN) c->ended = c->reset = true;
}

/* False when the server does not take all of it. */
static inline bool say_bytes(struct client *c, const char *bytes, size_t n)
{
    for (int64_t until = clock_ms() + clock_scaled(PATIENCE_MS); n > 0;) {
        ssize_t sent = send(c->fd, bytes, n, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (sent < 0 && errno != EAGAIN) return false;
        if (sent > 0) {
            bytes += sent;
            n -= (size_t)sent;
        }
        if (clock_ms() > until) fail_msg("the server does not read");
        pump();
    }
    return true;
}

static inline void say(struct client *c, const char *text)
{
    assert_true(say_bytes(c, text, strlen(text)));
}

struct heard {
    int status; /* 0: the connection ended instead */
    char head[8192];
    char *body; /* of the client's buffer, valid until the next one */
    size_t n;
};

static inline const char *header_of(const struct heard *h, const char *name)
{
    static char value[1024];
    const char *at = strcasestr(h->head, name);

    if (at == NULL) return NULL;
    at += strlen(name);
    assert_true(at[0] == ':' && at[1] == ' ');
    snprintf(value, sizeof value, "%.*s", (int)strcspn(at + 2, "\r"), at + 2);
    return value;
}

static inline void drop(struct client *c, size_t n)
{
    c->n -= n;
    memmove(c->in, c->in + n, c->n);
}

/* Undoes the chunks in place; true once the last one is there. */
static inline bool take_chunks(struct client *c, struct heard *h, size_t *used)
{
    size_t at = 0, out = 0;

    for (;;) {
        char *line = memmem(c->in + at, c->n - at, "\r\n", 2), *end;
        size_t size;

        if (line == NULL) return false;
        size = strtoul(c->in + at, &end, 16);
        assert_ptr_equal(end, line);
        at = (size_t)(line - c->in) + 2;
        if (c->n - at < size + 2) return false;
        assert_memory_equal(c->in + at + size, "\r\n", 2);
        at += size + 2;
        if (size == 0) break;
        out += size;
    }
    at = out = 0;
    for (;;) {
        char *end;
        size_t size = strtoul(c->in + at, &end, 16);

        at = (size_t)(end - c->in) + 2;
        if (size == 0) break;
        memmove(c->in + out, c->in + at, size);
        out += size;
        at += size + 2;
    }
    *used = at + 2;
    h->body = c->in;
    h->n = out;
    return true;
}

/* The next answer; 'to_head': to a HEAD request.  Its body stays in c->in until skip(). */
static inline size_t hear_more(struct client *c, struct heard *h, bool to_head)
{
    int64_t until = clock_ms() + clock_scaled(PATIENCE_MS);
    char *end;
    const char *length;
    size_t used = 0;

    memset(h, 0, sizeof *h);
    while ((end = memmem(c->in, c->n, "\r\n\r\n", 4)) == NULL) {
        if (c->ended) return 0;
        if (clock_ms() > until) fail_msg("no answer came");
        listen_up(c);
    }
    used = (size_t)(end - c->in) + 4;
    assert_true(used < sizeof h->head);
    memcpy(h->head, c->in, used);
    drop(c, used);
    assert_memory_equal(h->head, "HTTP/1.1 ", 9);
    h->status = atoi(h->head + 9);
    h->body = c->in;
    if (to_head || h->status == 204 || h->status == 304 || h->status < 200) return 0;
    until = clock_ms() + clock_scaled(PATIENCE_MS);
    length = header_of(h, "\nContent-Length");
    if (length != NULL) h->n = used = strtoul(length, NULL, 10);
    for (;;) {
        if (length != NULL && c->n >= h->n) return used;
        if (strcasestr(h->head, "\nTransfer-Encoding: chunked")) {
            if (take_chunks(c, h, &used)) return used;
        } else if (length == NULL && c->ended) return h->n = c->n;
        if (c->ended) {
            h->status = 0; /* cut short */
            return c->n;
        }
        if (clock_ms() > until) fail_msg("the answer does not end");
        listen_up(c);
    }
}

static inline struct heard *hear_to(struct client *c, bool to_head)
{
    static struct heard h;
    static char body[INPUT_MAX];
    size_t used = hear_more(c, &h, to_head);

    if (h.n > 0 && h.status != 0) memcpy(body, h.body, h.n);
    h.body = body;
    drop(c, used);
    return &h;
}

static inline struct heard *hear(struct client *c) { return hear_to(c, false); }

static inline bool body_is(const struct heard *h, const char *text)
{
    return h->n == strlen(text) && memcmp(h->body, text, h->n) == 0;
}

/* Nothing more comes but the end. */
static inline void expect_end(struct client *c)
{
    WAIT_FOR((listen_up(c), c->ended));
    assert_int_equal(c->n, 0);
    assert_false(c->reset);
}

#endif
