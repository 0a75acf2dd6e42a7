#include "cache/redis_conn.h"

#include <stdio.h>

#include "base/mem.h"
#include "cache/redis_protocol.h"

#ifdef OMADE_HOSTILE
enum { READ_SIZE = 16 };
#else
enum { READ_SIZE = 64 << 10 };
#endif

enum {
    OUTPUT_KEPT = 1 << 20, /* an output buffer that has grown beyond is given back */
    REPLY_MAX = 64 << 20,  /* bytes that may come without being a whole reply */
    LOOK_AGAIN_MS = 20,
    KEEPALIVE_S = 15
};

enum state { RESOLVING, CONNECTING, GREETING, READY, CLOSED };

struct redis_conn {
    uv_loop_t *loop;
    const struct redis_address *address;
    const struct redis_conn_events *events;
    void *ctx;

    enum state state;
    int holds; /* handles and requests that libuv still knows */
    const char *why;

    uv_timer_t timer; /* of the stage */
    int64_t timeout;
    bool looked_again;

    uv_getaddrinfo_t resolve;
    bool resolving;
    struct addrinfo *found, *next; /* 'next': the one to try when this one fails */

    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } socket;
    bool socket_open;
    uv_connect_t connect;
    int greetings_due;

    redisReader *reader;
    size_t unread; /* bytes since the last whole reply */

    struct buf output;  /* commands to be sent */
    struct buf writing; /* what libuv is sending */
    uv_write_t write;
    bool write_under_way;

    char input[READ_SIZE];
};

/* ---- end ------------------------------------------------------------------------ */

static void release(struct redis_conn *conn)
{
    if (--conn->holds > 0) return;
    if (conn->reader != NULL) redisReaderFree(conn->reader);
    if (conn->found != NULL) uv_freeaddrinfo(conn->found);
    buf_free(&conn->output);
    buf_free(&conn->writing);
    mem_free(conn);
}

static void on_closed(uv_handle_t *handle) { release(handle->data); }

static void close_socket(struct redis_conn *conn, uv_close_cb then)
{
    if (!conn->socket_open) return;
    conn->socket_open = false;
    uv_close(&conn->socket.handle, then);
}

void redis_conn_drop(struct redis_conn *conn)
{
    if (conn->state == CLOSED) return;
    conn->state = CLOSED;
    close_socket(conn, on_closed);
    if (conn->resolving) uv_cancel((uv_req_t *)&conn->resolve); /* its callback comes */
    uv_close((uv_handle_t *)&conn->timer, on_closed);
}

static void lose(struct redis_conn *conn, const char *why)
{
    if (conn->state == CLOSED) return;
    redis_conn_drop(conn);
    conn->events->on_lost(conn->ctx, why);
}

/* ---- output --------------------------------------------------------------------- */

static void on_written(uv_write_t *write, int status)
{
    struct redis_conn *conn = write->data;

    conn->write_under_way = false;
    if (conn->writing.cap > OUTPUT_KEPT) buf_free(&conn->writing);
    buf_clear(&conn->writing);
    if (conn->state == CLOSED) return;
    if (status < 0) lose(conn, uv_strerror(status));
    else redis_conn_flush(conn);
}

/* Lets libuv send 'writing' from 'offset' on. */
static bool write_rest(struct redis_conn *conn, size_t offset)
{
    uv_buf_t rest =
        uv_buf_init(conn->writing.p + offset, (unsigned)(conn->writing.n - offset));
    int status;

    conn->write.data = conn;
    status = uv_write(&conn->write, &conn->socket.stream, &rest, 1, on_written);
    if (status < 0) lose(conn, uv_strerror(status));
    else conn->write_under_way = true;
    return status == 0;
}

struct buf *redis_conn_output(struct redis_conn *conn) { return &conn->output; }

void redis_conn_flush(struct redis_conn *conn)
{
    struct buf swap;
    uv_buf_t all;
    int written;

    if (conn->state != READY || conn->write_under_way || conn->output.n == 0) return;
    all = uv_buf_init(conn->output.p, (unsigned)conn->output.n);
    written = uv_try_write(&conn->socket.stream, &all, 1);
    if (written == UV_EAGAIN) written = 0;
    if (written < 0) {
        lose(conn, uv_strerror(written));
        return;
    }
    swap = conn->writing;
    conn->writing = conn->output;
    conn->output = swap;
    if ((size_t)written < conn->writing.n) {
        (void)!write_rest(conn, (size_t)written);
        return;
    }
    if (conn->writing.cap > OUTPUT_KEPT) buf_free(&conn->writing);
    buf_clear(&conn->writing);
}

/* ---- input ------------------------------------------------------------------------ */

struct redis_reply *redis_conn_next(struct redis_conn *conn)
{
    struct redis_reply *reply;

    if (conn->state == CLOSED) return NULL;
    reply = redis_reader_next(conn->reader);
    if (reply != NULL) conn->unread = conn->reader->len - conn->reader->pos;
    return reply;
}

/* Takes the replies to the greeting. */
static void read_greeting(struct redis_conn *conn)
{
    struct redis_reply *reply;
    char why[128];

    while (conn->greetings_due > 0) {
        reply = redis_conn_next(conn);
        if (reply == NULL) return;
        conn->greetings_due--;
        if (reply->type == REDIS_ERROR_TEXT) {
            snprintf(why, sizeof why, "%s", reply->text.p);
            redis_reply_free(reply);
            lose(conn, why);
            return;
        }
        redis_reply_free(reply);
    }
    uv_timer_stop(&conn->timer);
    conn->state = READY;
    conn->events->on_ready(conn->ctx);
}

static void on_room(uv_handle_t *handle, size_t suggested, uv_buf_t *room)
{
    struct redis_conn *conn = handle->data;

    (void)suggested;
    *room = uv_buf_init(conn->input, sizeof conn->input);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *bytes)
{
    struct redis_conn *conn = stream->data;

    if (n == 0 || conn->state == CLOSED) return;
    if (n < 0) {
        lose(conn, n == UV_EOF ? "closed by the server" : uv_strerror((int)n));
        return;
    }
    if (!redis_reader_feed(conn->reader, bytes->base, (size_t)n)) {
        lose(conn, "no memory");
        return;
    }
    conn->unread += (size_t)n;
    if (conn->state == GREETING) read_greeting(conn);
    if (conn->state == READY) conn->events->on_input(conn->ctx);
    if (conn->state == CLOSED) return;
    if (conn->reader->err != 0) lose(conn, conn->reader->errstr);
    else if (conn->unread > REPLY_MAX) lose(conn, "a reply is too large");
}

/* ---- greeting ---------------------------------------------------------------------- */

static void greet(struct redis_conn *conn)
{
    const struct redis_address *address = conn->address;
    struct buf *b = &conn->writing;
    struct slice auth[3] = { SLICE("AUTH") };
    int n = 1;

    if (address->password[0] != '\0') {
        if (address->user[0] != '\0') auth[n++] = slice_of(address->user);
        auth[n++] = slice_of(address->password);
        redis_command_add(b, n, auth);
        conn->greetings_due++;
    }
    if (address->db != 0) {
        char db[16];

        snprintf(db, sizeof db, "%d", address->db);
        redis_command_add(b, 2, (struct slice[]){ SLICE("SELECT"), slice_of(db) });
        conn->greetings_due++;
    }
    redis_command_add(b, 1, (struct slice[]){ SLICE("PING") });
    conn->greetings_due++;
    if (b->failed) lose(conn, "no memory");
    else (void)!write_rest(conn, 0);
}

/* ---- connecting ---------------------------------------------------------------------- */

static void stage_begin(struct redis_conn *conn, enum state state);
static void connect_to(struct redis_conn *conn, const struct sockaddr *address);

static void try_next(struct redis_conn *conn)
{
    const struct addrinfo *address = conn->next;

    conn->next = address->ai_next;
    connect_to(conn, address->ai_addr);
}

static void on_socket_given_up(uv_handle_t *handle)
{
    struct redis_conn *conn = handle->data;

    if (conn->state != CLOSED) {
        conn->holds--; /* the timer's remains */
        try_next(conn);
    } else {
        release(conn);
    }
}

/* A host may have several addresses, of which one answers ("localhost": ::1 first). */
static void attempt_failed(struct redis_conn *conn, const char *why)
{
    if (conn->state != CONNECTING || conn->next == NULL) lose(conn, why);
    else if (conn->socket_open) close_socket(conn, on_socket_given_up);
    else try_next(conn);
}

static void on_stage_over(uv_timer_t *timer)
{
    struct redis_conn *conn = timer->data;

    /* The loop itself may have been held up, and what is waited for lies ready. */
    if (!conn->looked_again) {
        conn->looked_again = true;
        uv_timer_start(timer, on_stage_over, LOOK_AGAIN_MS, 0);
        return;
    }
    attempt_failed(conn, conn->state == GREETING ? "no answer in time"
                                                 : "not connected in time");
}

static void on_failed_at_once(uv_timer_t *timer)
{
    struct redis_conn *conn = timer->data;

    attempt_failed(conn, conn->why);
}

/* For failures inside redis_conn_open(), which has no events. */
static void fail_soon(struct redis_conn *conn, int status)
{
    conn->why = uv_strerror(status);
    uv_timer_start(&conn->timer, on_failed_at_once, 0, 0);
}

static void stage_begin(struct redis_conn *conn, enum state state)
{
    conn->state = state;
    conn->looked_again = false;
    uv_timer_start(&conn->timer, on_stage_over, (uint64_t)conn->timeout, 0);
}

static void on_connect(uv_connect_t *connect, int status)
{
    struct redis_conn *conn = connect->data;

    if (conn->state == CLOSED || status == UV_ECANCELED) return;
    if (status < 0) {
        attempt_failed(conn, uv_strerror(status));
        return;
    }
    if (conn->address->path[0] == '\0') {
        uv_tcp_nodelay(&conn->socket.tcp, 1);
        uv_tcp_keepalive(&conn->socket.tcp, 1, KEEPALIVE_S);
    }
    stage_begin(conn, GREETING);
    status = uv_read_start(&conn->socket.stream, on_room, on_read);
    if (status < 0) lose(conn, uv_strerror(status));
    else greet(conn);
}

static void socket_opened(struct redis_conn *conn)
{
    conn->socket.handle.data = conn->connect.data = conn;
    conn->socket_open = true;
    conn->holds++;
}

static void connect_to(struct redis_conn *conn, const struct sockaddr *address)
{
    int status = uv_tcp_init(conn->loop, &conn->socket.tcp);

    stage_begin(conn, CONNECTING);
    if (status == 0) {
        socket_opened(conn);
        status = uv_tcp_connect(&conn->connect, &conn->socket.tcp, address, on_connect);
    }
    if (status < 0) fail_soon(conn, status);
}

static void connect_to_path(struct redis_conn *conn)
{
    int status = uv_pipe_init(conn->loop, &conn->socket.pipe, 0);

    stage_begin(conn, CONNECTING);
    if (status < 0) {
        fail_soon(conn, status);
        return;
    }
    socket_opened(conn);
    uv_pipe_connect(&conn->connect, &conn->socket.pipe, conn->address->path, on_connect);
}

/* ---- names ------------------------------------------------------------------------------ */

static void on_resolved(uv_getaddrinfo_t *resolve, int status, struct addrinfo *found)
{
    struct redis_conn *conn = resolve->data;

    conn->resolving = false;
    conn->found = conn->next = found;
    if (conn->state == CLOSED) {
        release(conn);
        return;
    }
    conn->holds--; /* the timer's remains */
    if (status < 0 || found == NULL) {
        lose(conn, status < 0 ? uv_strerror(status) : "the host has no address");
    } else {
        try_next(conn);
    }
}

static void look_up(struct redis_conn *conn)
{
    struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM };
    char port[16];
    int status;

    snprintf(port, sizeof port, "%d", conn->address->port);
    stage_begin(conn, RESOLVING);
    conn->resolve.data = conn;
    status = uv_getaddrinfo(conn->loop, &conn->resolve, on_resolved, conn->address->host,
                            port, &hints);
    if (status < 0) {
        fail_soon(conn, status);
        return;
    }
    conn->resolving = true;
    conn->holds++;
}

static void begin(struct redis_conn *conn)
{
    const struct redis_address *address = conn->address;
    struct sockaddr_storage numeric = { 0 };

    if (address->path[0] != '\0') connect_to_path(conn);
    else if (uv_ip4_addr(address->host, address->port, (struct sockaddr_in *)&numeric) ==
                 0 ||
             uv_ip6_addr(address->host, address->port, (struct sockaddr_in6 *)&numeric) ==
                 0)
        connect_to(conn, (struct sockaddr *)&numeric);
    else look_up(conn);
}

struct redis_conn *redis_conn_open(uv_loop_t *loop, const struct redis_address *address,
                                   int64_t timeout,
                                   const struct redis_conn_events *events, void *ctx)
{
    struct redis_conn *conn = mem_get_clear(sizeof *conn);

    if (conn == NULL) return NULL;
    conn->reader = redis_reader_new();
    if (conn->reader == NULL) {
        mem_free(conn);
        return NULL;
    }
    conn->loop = loop;
    conn->address = address;
    conn->timeout = timeout;
    conn->events = events;
    conn->ctx = ctx;
    uv_timer_init(loop, &conn->timer);
    conn->timer.data = conn;
    conn->holds = 1;
    begin(conn);
    return conn;
}
