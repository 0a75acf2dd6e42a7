/* Bytes to the client: at once if the socket takes them, else kept and counted. */
#include "http/conn.h"

#include <assert.h>

#include "base/mem.h"

static void kick(struct conn *c);

void conn_break(struct conn *c)
{
    if (c->fate == FATE_NONE) c->fate = FATE_BROKEN;
    conn_later(c);
}

size_t conn_pending(const struct conn *c)
{
    size_t busy = c->write_busy ? uv_stream_get_write_queue_size((void *)&c->tcp) : 0;

    return c->out.n + busy;
}

/* ---- what uv_write works on ---------------------------------------------------------- */

static void release_body(struct conn *c)
{
    void (*release)(void *owner) = c->release;

    c->release = NULL;
    for (int i = 0; i < BODY_SLICES; i++) c->body[i] = (struct slice){ 0 };
    if (release != NULL) release(c->owner);
}

static void on_written(uv_write_t *write, int status)
{
    struct conn *c = CONTAINER_OF(write, struct conn, write);

    c->write_busy = false;
    buf_free(&c->sending);
    release_body(c);
    if (c->closed) return;
    c->settling = true;
    if (status < 0) conn_break(c);
    else kick(c);
    conn_settle(c);
}

static void begin_write(struct conn *c)
{
    uv_buf_t bufs[1 + BODY_SLICES];
    unsigned count = 0;

    if (c->sending.n > 0)
        bufs[count++] = uv_buf_init(c->sending.p, (unsigned)c->sending.n);
    for (int i = 0; i < BODY_SLICES; i++)
        if (c->body[i].n > 0)
            bufs[count++] =
                uv_buf_init((char *)(uintptr_t)c->body[i].p, (unsigned)c->body[i].n);
    assert(count > 0);
    if (uv_write(&c->write, (uv_stream_t *)&c->tcp, bufs, count, on_written) == 0) {
        c->write_busy = true;
        c->out_pace = (struct pace){ server_now(c->server),
                                     c->accepted - (int64_t)conn_pending(c) };
        return;
    }
    buf_free(&c->sending);
    release_body(c);
    conn_break(c);
}

static void kick(struct conn *c)
{
    if (c->write_busy || c->out.n == 0) return;
    c->sending = c->out;
    c->out = (struct buf){ 0 };
    begin_write(c);
}

void conn_drop_output(struct conn *c)
{
    buf_free(&c->out);
    if (c->write_busy) return; /* uv still has the rest; on_written comes */
    buf_free(&c->sending);
    release_body(c);
}

/* ---- sending ------------------------------------------------------------------------- */

/* The bytes that the socket took. */
static size_t try_write(struct conn *c, const struct slice slices[], size_t count)
{
    uv_buf_t bufs[1 + BODY_SLICES];
    unsigned used = 0;
    int sent;

    assert(count <= COUNT_OF(bufs));
    if (c->write_busy || c->out.n > 0 || c->fate == FATE_BROKEN) return 0;
    for (size_t i = 0; i < count; i++)
        if (slices[i].n > 0)
            bufs[used++] =
                uv_buf_init((char *)(uintptr_t)slices[i].p, (unsigned)slices[i].n);
    if (used == 0) return 0;
    sent = uv_try_write((uv_stream_t *)&c->tcp, bufs, used);
    if (sent >= 0) return (size_t)sent;
    if (sent != UV_EAGAIN) conn_break(c);
    return 0;
}

static size_t count_bytes(struct conn *c, const struct slice slices[], size_t count)
{
    size_t total = 0;

    for (size_t i = 0; i < count; i++) total += slices[i].n;
    c->accepted += (int64_t)total;
    if (c->call != NULL) c->call->sent += (int64_t)total;
    return total;
}

/* Steps over the first 'n' bytes of all slices. */
static struct slice without(struct slice s, size_t *n)
{
    size_t gone = *n < s.n ? *n : s.n;

    *n -= gone;
    return (struct slice){ s.p == NULL ? NULL : s.p + gone, s.n - gone };
}

void conn_send(struct conn *c, const struct slice slices[], size_t count)
{
    size_t total = count_bytes(c, slices, count);
    size_t sent = try_write(c, slices, count);

    if (sent == total || c->fate == FATE_BROKEN) return;
    for (size_t i = 0; i < count; i++) buf_add_slice(&c->out, without(slices[i], &sent));
    if (c->out.failed) conn_break(c);
    else kick(c);
}

void conn_send_owned(struct conn *c, struct slice head,
                     const struct slice body[static BODY_SLICES],
                     void (*release)(void *owner), void *owner)
{
    struct slice all[1 + BODY_SLICES] = { head, body[0], body[1], body[2] };
    size_t total, sent;

    if (c->write_busy || c->out.n > 0) { /* rare: a "100 Continue" is still on its way */
        conn_send(c, all, COUNT_OF(all));
        if (release != NULL) release(owner);
        return;
    }
    total = count_bytes(c, all, COUNT_OF(all));
    sent = try_write(c, all, COUNT_OF(all));
    if (sent < total && c->fate != FATE_BROKEN) {
        buf_add_slice(&c->sending, without(head, &sent));
        if (!c->sending.failed) {
            for (int i = 0; i < BODY_SLICES; i++) c->body[i] = without(body[i], &sent);
            c->release = release;
            c->owner = owner;
            begin_write(c);
            return;
        }
        buf_free(&c->sending);
        conn_break(c);
    }
    if (release != NULL) release(owner);
}
