/* Requests of the server: taken, handed over, given back. */
#include "http/conn.h"

#include <assert.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"

enum { BODY_KEEP = 4096, ID_DIGITS = 12 };

/* ---- ids ------------------------------------------------------------------------ */

/* The last digits count; the first are random, and another for each server. */
static void next_id(struct server *s, char id[static sizeof s->id])
{
    static const char order[] = "0123456789abcdefghjkmnpqrstvwxyz";
    const size_t last = sizeof s->id - 2;

    for (size_t i = last; i > last - ID_DIGITS; i--) {
        const char *at = memchr(order, s->id[i], sizeof order - 2);

        if (at != NULL) {
            s->id[i] = at[1];
            break;
        }
        s->id[i] = order[0];
    }
    memcpy(id, s->id, sizeof s->id);
}

/* ---- memory --------------------------------------------------------------------- */

static struct call *take(struct server *s)
{
    struct call *call = LIST_ENTRY(list_take(&s->spare), struct call, node);

    return call != NULL ? call : mem_get_clear(sizeof *call);
}

struct call *call_new(struct server *s)
{
    struct call *call = take(s);
    struct arena arena;
    struct buf body;

    if (call == NULL) return NULL;
    arena = call->request.arena;
    body = call->body;
    *call = (struct call){ .server = s, .mode = BODY_WHOLE, .done = true, .body = body };
    call->request.method = METHOD_UNKNOWN;
    call->request.body_fd = -1;
    call->request.arena = arena;
    next_id(s, call->request.id);
    call->request.began_ns = clock_ns();
    return call;
}

static void recycle(struct call *call)
{
    struct server *s = call->server;

    assert(call->done && call->request.conn == NULL);
    upload_drop(call);
    file_send_drop(call);
    if (call->request.body_fd >= 0) close(call->request.body_fd);
    if (call->body.cap > BODY_KEEP) buf_free(&call->body);
    buf_clear(&call->body);
    if (s->spare.count < SPARE_CALLS_MAX) {
        arena_reset(&call->request.arena);
        list_prepend(&s->spare, &call->node);
        return;
    }
    arena_end(&call->request.arena);
    buf_free(&call->body);
    mem_free(call);
}

void call_detach(struct call *call)
{
    struct conn *c = call->request.conn;

    if (c != NULL) {
        parse_end(&c->parse);
        c->call = NULL;
        call->request.conn = NULL;
    }
    if (call->done) recycle(call);
}

/* ---- the application's end of it ----------------------------------------------------- */

/* With an answer under way the request's memory stays until that is written: the
 * answer may point into it, and the access log is still to come. */
void request_done(struct request *r)
{
    struct call *call = call_of(r);
    struct conn *c = r->conn;
    struct server *s = call->server;

    assert(call->handed && !call->done);
    call->done = true;
    s->live--;
    if (s->draining || s->closing) server_turn(s);
    if (c == NULL) {
        recycle(call);
        return;
    }
    if (call->answered && (call->ended || !call->streaming)) return;
    if (c->fate == FATE_NONE) c->fate = FATE_BROKEN;
    conn_later(c);
}

void request_pause(struct request *r, bool pause)
{
    struct conn *c = r->conn;

    if (c == NULL || c->paused == pause) return;
    c->paused = pause;
    conn_read_update(c);
    if (!pause) conn_later(c);
}
