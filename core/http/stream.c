/* Answers in pieces. */
#include <assert.h>

#include "http/answer.h"

enum { KEEPALIVE_S = 60 };

void request_stream_begin(struct request *r, struct response *a)
{
    struct call *call = call_of(r);
    struct conn *c = r->conn;
    struct answer_head head = { .status = a->status };

    assert(call->handed && !call->answered && !call->done);
    call->answered = call->streaming = true;
    if (a->release != NULL) a->release(a->owner);
    a->release = NULL;
    if (c == NULL) return;
    /* A stream may say nothing for hours: the kernel looks whether the client lives. */
    (void)uv_tcp_keepalive(&c->tcp, 1, KEEPALIVE_S);
    call->status = a->status;
    call->no_body = r->method == METHOD_HEAD || answer_is_bare(a->status);
    call->chunked = r->minor > 0 && !answer_is_bare(a->status);
    head.framing = call->chunked ? FRAMING_CHUNKED : FRAMING_NONE;
    answer_decide_close(c, call, a->close || (r->minor == 0 && !call->no_body));
    answer_write_head(c, call, a, &head);
    if (c->server->out.failed) conn_break(c);
    else conn_send(c, &(struct slice){ c->server->out.p, c->server->out.n }, 1);
}

/* "1f40\r\n" */
static struct slice size_line(size_t n, char text[static 24])
{
    char *p = text + 24;

    *--p = '\n';
    *--p = '\r';
    do *--p = "0123456789abcdef"[n & 15];
    while ((n >>= 4) != 0);
    return (struct slice){ p, (size_t)(text + 24 - p) };
}

static void send_piece(struct conn *c, const struct call *call, struct slice bytes)
{
    char text[24];

    if (call->chunked)
        conn_send(c, (struct slice[]){ size_line(bytes.n, text), bytes, SLICE("\r\n") },
                  3);
    else conn_send(c, &bytes, 1);
}

bool request_stream(struct request *r, struct slice bytes)
{
    struct call *call = call_of(r);
    struct conn *c = r->conn;

    assert(call->streaming && !call->ended && !call->done);
    if (c == NULL || c->fate == FATE_BROKEN) return false;
    if (call->no_body || bytes.n == 0) return true;
    send_piece(c, call, bytes);
    if ((int64_t)conn_pending(c) <= c->server->settings.write_buffer) return true;
    c->drain_due = true;
    return false;
}

size_t request_stream_pending(const struct request *r)
{
    return r->conn == NULL ? 0 : conn_pending(r->conn);
}

void request_stream_end(struct request *r)
{
    struct call *call = call_of(r);
    struct conn *c = r->conn;

    assert(call->streaming && !call->ended && !call->done);
    call->ended = true;
    if (c == NULL) return;
    if (call->chunked && !call->no_body) conn_send(c, &SLICE("0\r\n\r\n"), 1);
    answer_end(c, call);
}
