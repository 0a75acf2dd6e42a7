/* Who is too slow.  One timer walks the lists and marks; nothing ends in here, so no
 * callback can change a list under way. */
#include "http/conn.h"

#include <sys/socket.h>

static void condemn(struct conn *c, enum conn_fate fate)
{
    if (c->fate == FATE_NONE) c->fate = fate;
    conn_later(c);
}

/* ---- waiting clients --------------------------------------------------------------------- */

/* Their lists are in the order of their waiting. */
static void sweep_waiting(struct server *s, enum conn_state state, int64_t limit)
{
    int64_t now = server_now(s);

    if (s->draining) {
        if (now - s->drain_ms < s->drain_grace) return;
        if (limit > s->drain_grace) limit = s->drain_grace;
    }
    for (struct list_node *n = s->conns[state].first; n != NULL; n = n->next) {
        struct conn *c = LIST_ENTRY(n, struct conn, node);

        if (now - c->since < limit) break;
        condemn(c, FATE_CLOSE);
    }
}

/* ---- pace -------------------------------------------------------------------------------- */

/* Whether fewer bytes came in the last whole window than they should; 'bytes' is the
 * running total. */
static bool fell_behind(struct pace *pace, int64_t now, int64_t bytes, int64_t window,
                        int64_t least)
{
    bool behind;

    if (now - pace->since < window) return false;
    behind = bytes - pace->bytes < least;
    *pace = (struct pace){ now, bytes };
    return behind;
}

static void check_body(struct conn *c, int64_t now)
{
    const struct server_settings *settings = &c->server->settings;
    int64_t window = settings->head_timeout;
    bool ours = c->held || c->paused; /* it is not the client who is slow */

    if (ours) c->in_pace = (struct pace){ now, c->call->body_bytes };
    else if (fell_behind(&c->in_pace, now, c->call->body_bytes, window,
                         settings->body_min_rate * window / 1000))
        condemn(c, FATE_TIMED_OUT);
}

static void check_output(struct conn *c, int64_t now)
{
    const struct server_settings *settings = &c->server->settings;
    int64_t window = settings->write_timeout;
    int64_t least = settings->body_min_rate * window / 1000;
    int64_t taken = c->accepted - (int64_t)conn_pending(c);

    if (c->write_busy &&
        fell_behind(&c->out_pace, now, taken, window, least > 0 ? least : 1))
        condemn(c, FATE_BROKEN);
}

/* ---- the others ---------------------------------------------------------------------------- */

static void check_reading(struct conn *c, int64_t now)
{
    if (c->call->body_done) return;
    if (c->call->head_done) check_body(c, now);
    else if (now - c->since >= c->server->settings.head_timeout)
        condemn(c, FATE_TIMED_OUT);
}

static bool was_reset(const struct conn *c)
{
    uv_os_fd_t fd;
    int error = 0;
    socklen_t n = sizeof error;

    return uv_fileno((const uv_handle_t *)&c->tcp, &fd) == 0 &&
           getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &n) == 0 && error != 0;
}

/* Only bytes tell half a close from a whole one: who has left meets them with a reset.
 * An interim answer is such bytes where HTTP has one; a stream that says nothing has no
 * reader whom it would miss. */
static void check_half_closed(struct conn *c, int64_t now)
{
    const struct call *call = c->call;

    if (was_reset(c)) condemn(c, FATE_BROKEN);
    else if (now - c->eof_ms < c->server->half_closed || c->accepted > c->eof_accepted)
        return;
    else if (call->answered) condemn(c, FATE_BROKEN);
    else if (call->request.minor > 0)
        conn_send(c, &SLICE("HTTP/1.1 100 Continue\r\n\r\n"), 1);
}

static void check_running(struct conn *c, int64_t now)
{
    if (!c->call->body_done) check_body(c, now);
    if (c->eof) check_half_closed(c, now);
}

static void check_conn(struct conn *c, int64_t now)
{
    switch (c->state) {
    case CONN_READING: check_reading(c, now); break;
    case CONN_RUNNING: check_running(c, now); break;
    case CONN_CLOSING:
        if (now - c->since >= c->server->linger) condemn(c, FATE_CLOSE);
        return;
    default: break;
    }
    check_output(c, now);
}

void server_sweep(struct server *s)
{
    static const enum conn_state busy[] = { CONN_READING, CONN_RUNNING, CONN_WRITING,
                                            CONN_CLOSING };
    int64_t now = server_now(s);

    sweep_waiting(s, CONN_FRESH, s->settings.head_timeout);
    sweep_waiting(s, CONN_IDLE, s->settings.idle_timeout);
    for (size_t i = 0; i < COUNT_OF(busy); i++)
        for (struct list_node *n = s->conns[busy[i]].first; n != NULL; n = n->next)
            check_conn(LIST_ENTRY(n, struct conn, node), now);
    if (s->waiting > 0) server_admit(s);
}
