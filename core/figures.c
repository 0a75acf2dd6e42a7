#include "figures.h"

#include "base/buf.h"
#include "base/mem.h"

enum { CLIENTS_MAX = 64 };

struct figures {
    struct server *server;
    const struct metrics *all;
    int workers;
    bool closed;
};

static void release(void *owner)
{
    buf_free(owner);
    mem_free(owner);
}

static void answer_figures(struct figures *figures, struct request *r)
{
    struct response a = { .status = 503, .content_type = SLICE("text/plain") };
    struct buf *text = mem_get_clear(sizeof *text);

    if (text != NULL) metrics_text(figures->all, figures->workers, text);
    if (text == NULL || text->failed) {
        a.body = SLICE("Out of memory\n");
    } else {
        a.status = 200;
        a.content_type = SLICE("text/plain; version=0.0.4; charset=utf-8");
        a.body = buf_slice(text);
    }
    a.release = text == NULL ? NULL : release;
    a.owner = text;
    request_answer(r, &a);
}

static void on_request(void *ctx, struct request *r)
{
    struct response a = { .status = 404,
                          .content_type = SLICE("text/plain"),
                          .body = SLICE("Only GET /metrics is here\n") };

    if ((r->method == METHOD_GET || r->method == METHOD_HEAD) &&
        slice_equal(r->path, SLICE("/metrics")))
        answer_figures(ctx, r);
    else request_answer(r, &a);
    request_done(r);
}

static void on_gone(void *ctx, struct request *r)
{
    (void)ctx;
    (void)r;
}

struct figures *figures_new(uv_loop_t *loop, const struct server_settings *settings,
                            int fd, const struct metrics all[], int workers)
{
    struct server_settings own = *settings;
    struct figures *figures = mem_get_clear(sizeof *figures);
    struct server_app app = { .ctx = figures,
                              .on_request = on_request,
                              .on_gone = on_gone };

    if (figures == NULL) return NULL;
    own.max_connections = CLIENTS_MAX;
    own.body_limit = 0;
    own.proxies = NULL;
    figures->all = all;
    figures->workers = workers;
    figures->server = server_new(loop, &own, &app);
    if (figures->server != NULL && server_listen(figures->server, fd) == 0)
        return figures;
    figures_free(figures, loop);
    return NULL;
}

static void on_drained(void *ctx) { (void)ctx; }

void figures_drain(struct figures *figures)
{
    server_drain(figures->server, on_drained, figures);
}

static void on_closed(void *ctx) { ((struct figures *)ctx)->closed = true; }

void figures_free(struct figures *figures, uv_loop_t *loop)
{
    if (figures == NULL) return;
    if (figures->server != NULL) {
        server_close(figures->server, on_closed, figures);
        while (!figures->closed) uv_run(loop, UV_RUN_ONCE);
    }
    mem_free(figures);
}
