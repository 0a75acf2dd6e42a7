#include "http/answer.h"

#include <assert.h>

#include "base/clock.h"
#include "base/mem.h"
#include "http/etag.h"
#include "http/pack.h"

enum { GZIP_MIN = 1024, GZIP_MAX = 1024 * 1024 };

/* ---- the head ------------------------------------------------------------------------ */

/* Made once a second, by the loop's clock. */
static void add_date(struct server *s)
{
    if (server_now(s) >= s->date_until) {
        int64_t us = clock_wall_us();
        char text[HTTP_DATE_MAX];
        struct slice date = http_date_write(us / 1000000, text);

        s->date_until = server_now(s) + 1000 - us / 1000 % 1000;
        memcpy(s->date, "Date: ", 6);
        memcpy(s->date + 6, date.p, date.n);
        memcpy(s->date + 6 + date.n, "\r\n", 2);
        s->date_n = date.n + 8;
    }
    buf_add(&s->out, s->date, s->date_n);
}

static void add_line(struct buf *b, struct slice name, struct slice value)
{
    char *room = buf_room(b, name.n + value.n + 4);

    if (room == NULL) return;
    memcpy(room, name.p, name.n);
    memcpy(room + name.n, ": ", 2);
    if (value.n > 0) memcpy(room + name.n + 2, value.p, value.n);
    memcpy(room + name.n + 2 + value.n, "\r\n", 2);
    b->n += name.n + value.n + 4;
}

static bool has_header(const struct response *a, struct slice name)
{
    for (size_t i = 0; i < a->header_count; i++)
        if (slice_equal_fold(a->headers[i].name, name)) return true;
    return false;
}

/* What tells where an answer ends, and when it was made, is the engine's to say. */
static bool is_ours(struct slice name)
{
    switch (name.n == 0 ? 0 : name.p[0] | 0x20) {
    case 'c':
        return slice_equal_fold(name, SLICE("Content-Length")) ||
               slice_equal_fold(name, SLICE("Connection"));
    case 'd': return slice_equal_fold(name, SLICE("Date"));
    case 't': return slice_equal_fold(name, SLICE("Transfer-Encoding"));
    default: return false;
    }
}

static void add_status(struct buf *b, int status)
{
    if (status == 200) {
        BUF_ADD(b, "HTTP/1.1 200 OK\r\n");
        return;
    }
    BUF_ADD(b, "HTTP/1.1 ");
    buf_add_int(b, status);
    BUF_ADD(b, " ");
    buf_add_text(b, status_text(status));
    BUF_ADD(b, "\r\n");
}

static void add_framing(struct buf *b, const struct answer_head *head)
{
    if (head->framing == FRAMING_CHUNKED) BUF_ADD(b, "Transfer-Encoding: chunked\r\n");
    if (head->framing != FRAMING_LENGTH) return;
    BUF_ADD(b, "Content-Length: ");
    buf_add_int(b, head->length);
    BUF_ADD(b, "\r\n");
}

void answer_write_head(struct conn *c, const struct call *call, const struct response *a,
                       const struct answer_head *head)
{
    struct server *s = c->server;
    struct buf *b = &s->out;

    buf_clear(b);
    add_status(b, head->status);
    if (s->settings.server_name != NULL)
        add_line(b, SLICE("Server"), slice_of(s->settings.server_name));
    add_date(s);
    if (a->content_type.p != NULL && !answer_is_bare(head->status) &&
        !has_header(a, SLICE("Content-Type")))
        add_line(b, SLICE("Content-Type"), a->content_type);
    add_framing(b, head);
    if (call->close) BUF_ADD(b, "Connection: close\r\n");
    else if (call->request.minor == 0) BUF_ADD(b, "Connection: keep-alive\r\n");
    if (head->etag.p != NULL) add_line(b, SLICE("ETag"), head->etag);
    if (head->modified.p != NULL) add_line(b, SLICE("Last-Modified"), head->modified);
    if (head->vary) BUF_ADD(b, "Vary: Accept-Encoding\r\n");
    if (head->gzip) BUF_ADD(b, "Content-Encoding: gzip\r\n");
    for (size_t i = 0; i < a->header_count; i++)
        if (!is_ours(a->headers[i].name))
            add_line(b, a->headers[i].name, a->headers[i].value);
    if (s->app.add_headers != NULL)
        s->app.add_headers(s->app.ctx, &call->request, head->status, b);
    BUF_ADD(b, "\r\n");
}

void answer_decide_close(struct conn *c, struct call *call, bool wanted)
{
    const struct server *s = c->server;
    bool room_needed = s->waiting > s->conns[CONN_CLOSING].count;

    call->close = wanted || !call->request.keep_alive || !call->body_done ||
                  s->draining || s->closing || room_needed || (c->eof && c->in.n == 0);
}

/* ---- the body ------------------------------------------------------------------------ */

static bool is_get(const struct call *call)
{
    return call->request.method == METHOD_GET || call->request.method == METHOD_HEAD;
}

bool answer_is_known(const struct request *r, struct slice etag)
{
    for (size_t i = 0; i < r->header_count; i++)
        if (slice_equal_fold(r->headers[i].name, SLICE("If-None-Match")) &&
            etag_listed(r->headers[i].value, etag))
            return true;
    return false;
}

/* Fills in ETag, and turns the answer into a 304 when the client has the body. */
static void validate(const struct call *call, const struct response *a,
                     const struct slice body[static BODY_SLICES],
                     struct answer_head *head, char text[static ETAG_MAX])
{
    if (!a->etag || head->status != 200 || !is_get(call) || has_header(a, SLICE("ETag")))
        return;
    head->etag = etag_of_bytes(body, BODY_SLICES, text);
    if (answer_is_known(&call->request, head->etag)) head->status = 304;
}

/* The body becomes its gzip form in s->packed when that is worth it. */
static void compress_body(struct conn *c, const struct call *call,
                          const struct response *a, struct slice body[static BODY_SLICES],
                          struct answer_head *head)
{
    struct server *s = c->server;

    if (head->length < GZIP_MIN || head->length > GZIP_MAX || a->no_gzip ||
        has_header(a, SLICE("Content-Encoding")))
        return;
    head->vary = true;
    if (answer_is_bare(head->status) || !pack_accepted(&call->request)) return;
    if (!pack(s, body, BODY_SLICES)) return;
    head->gzip = true;
    head->length = (int64_t)s->packed.n;
    body[0] = buf_slice(&s->packed);
    body[1] = body[2] = (struct slice){ 0 };
}

static void release_now(struct response *a)
{
    if (a->release != NULL) a->release(a->owner);
    a->release = NULL;
}

/* Small answers leave in one piece, and their body is free again at once. */
static void send_small(struct conn *c, struct response *a,
                       const struct slice body[static BODY_SLICES])
{
    struct buf *out = &c->server->out;

    for (int i = 0; i < BODY_SLICES; i++) buf_add_slice(out, body[i]);
    release_now(a);
    if (out->failed) conn_break(c);
    else conn_send(c, &(struct slice){ out->p, out->n }, 1);
}

static void send_large(struct conn *c, struct response *a, bool packed,
                       const struct slice body[static BODY_SLICES])
{
    struct server *s = c->server;
    void *owner = a->owner;
    void (*release)(void *owner) = a->release;

    if (packed) {
        release_now(a);
        owner = s->packed.p;
        release = mem_free;
        s->packed = (struct buf){ 0 };
    }
    a->release = NULL;
    if (!s->out.failed) {
        conn_send_owned(c, buf_slice(&s->out), body, release, owner);
        return;
    }
    if (release != NULL) release(owner);
    conn_break(c);
}

void answer_give(struct conn *c, struct call *call, struct response *a)
{
    struct slice body[BODY_SLICES] = { a->prefix, a->body, a->suffix };
    struct answer_head head = { .status = a->status };
    char tag[ETAG_MAX];

    if (a->content_type.p == NULL)
        for (int i = 0; i < BODY_SLICES; i++) body[i] = (struct slice){ 0 };
    for (int i = 0; i < BODY_SLICES; i++) head.length += (int64_t)body[i].n;
    answer_decide_close(c, call, a->close);
    validate(call, a, body, &head, tag);
    compress_body(c, call, a, body, &head);
    head.framing = answer_is_bare(head.status) ? FRAMING_NONE : FRAMING_LENGTH;
    if (head.framing == FRAMING_NONE || call->request.method == METHOD_HEAD)
        for (int i = 0; i < BODY_SLICES; i++) body[i] = (struct slice){ 0 };
    call->answered = true;
    call->status = head.status;
    answer_write_head(c, call, a, &head);
    if (body[0].n + body[1].n + body[2].n <= COPY_MAX) send_small(c, a, body);
    else send_large(c, a, head.gzip, body);
    answer_end(c, call);
}

void answer_error(struct conn *c, struct call *call, int status, const char *code,
                  const char *message, bool close)
{
    struct server *s = c->server;
    struct response a = { .status = status, .close = close, .no_gzip = true };

    buf_clear(&s->text);
    if (s->app.make_error != NULL)
        s->app.make_error(s->app.ctx, status, code, message, call->request.id, &s->text);
    if (s->text.n > 0 && s->text.n <= COPY_MAX && !s->text.failed) {
        a.content_type = SLICE("application/json; charset=utf-8");
        a.body = buf_slice(&s->text);
    }
    if (status == 503 && !response_header(&a, SLICE("Retry-After"), SLICE("1")))
        a.close = true;
    answer_give(c, call, &a);
}

void answer_end(struct conn *c, struct call *call)
{
    call->ended = true;
    if (c->state != CONN_CLOSING) conn_move(c, CONN_WRITING);
    if (!c->settling) conn_later(c);
}

void request_answer(struct request *r, struct response *a)
{
    struct call *call = call_of(r);

    assert(call->handed && !call->answered && !call->done);
    if (r->conn != NULL) {
        answer_give(r->conn, call, a);
        return;
    }
    call->answered = true;
    release_now(a);
}

void request_answer_error(struct request *r, int status, const char *code,
                          const char *message)
{
    struct call *call = call_of(r);

    assert(call->handed && !call->answered && !call->done);
    if (r->conn != NULL) answer_error(r->conn, call, status, code, message, false);
    call->answered = true;
}
