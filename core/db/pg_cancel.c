#include "db/pg_conn.h"

#include "base/clock.h"
#include "base/mem.h"

enum { AGAIN_MS = 500 };

struct cancel {
    uv_work_t work;
    struct pg_pool *pool;
    struct pg_conn *conn; /* NULL: the connection is gone meanwhile */
    PGcancel *request;
};

static void on_thread(uv_work_t *work)
{
    struct cancel *cancel = work->data;
    char ignored[256];

    (void)PQcancel(cancel->request, ignored, sizeof ignored);
}

/* PostgreSQL has signalled the backend before it closed PQcancel's connection: what is sent
 * from now on is safe. */
static void on_end(uv_work_t *work, int status)
{
    struct cancel *cancel = work->data;
    struct pg_pool *pool = cancel->pool;
    struct pg_conn *c = cancel->conn;

    (void)status;
    if (c != NULL) {
        c->cancel = NULL;
        c->stray_until = c->sent;
    }
    PQfreeCancel(cancel->request);
    mem_free(cancel);
    pool_cancel_ended(pool, c);
}

bool pg_cancel_running(struct pg_conn *c)
{
    struct cancel *cancel;

    if (c->cancel != NULL || c->link.state != LINK_UP || !pool_cancel_may_start(c->pool))
        return false;
    cancel = mem_get_clear(sizeof *cancel);
    if (cancel == NULL) return false;
    cancel->request = PQgetCancel(c->link.pg);
    cancel->pool = c->pool;
    cancel->conn = c;
    cancel->work.data = cancel;
    if (cancel->request == NULL ||
        uv_queue_work(pool_loop(c->pool), &cancel->work, on_thread, on_end) != 0) {
        PQfreeCancel(cancel->request);
        mem_free(cancel);
        return false;
    }
    c->cancel = cancel;
    c->cancel_again_ms = clock_ms() + clock_scaled(AGAIN_MS);
    pool_cancel_started(c->pool);
    return true;
}

void pg_cancel_abandon(struct pg_conn *c)
{
    if (c->cancel != NULL) {
        c->cancel->conn = NULL;
        uv_cancel((uv_req_t *)&c->cancel->work); /* if no thread has begun with it */
    }
    c->cancel = NULL;
}
