#include "script/fetch.h"

#include <assert.h>
#include <uv.h>

#include "base/clock.h"
#include "base/mem.h"
#include "script/vm.h"

/* curl is entered from the loop or from a script, never from one of its own callbacks:
 * those only store, and start and stop handles of the loop. */
struct fetch_client {
    CURLM *multi;
    uv_timer_t timer;       /* curl's */
    uv_timer_t queue_timer; /* the first deadline of those that wait */
    struct list running, waiting, watches;
    int handles;     /* not closed yet */
    bool has_broken; /* a running one has an outcome that curl does not know of */
};

/* A socket of curl's. */
struct watch {
    uv_poll_t poll;
    struct list_node node;
    struct fetch_client *client;
    curl_socket_t socket;
};

/* ---- ends ------------------------------------------------------------------------ */

static void leave(struct fetch *f)
{
    if (f->state == FETCH_RUNNING) curl_multi_remove_handle(f->client->multi, f->easy);
    if (list_on(&f->node)) list_remove(&f->node);
    curl_easy_cleanup(f->easy);
    f->easy = NULL;
}

static enum fetch_outcome outcome_of(CURLcode code)
{
    switch (code) {
    case CURLE_OK: return FETCH_OK;
    case CURLE_OPERATION_TIMEDOUT: return FETCH_TIMEOUT;
    case CURLE_OUT_OF_MEMORY: return FETCH_NO_MEMORY;
    default: return FETCH_FAILED;
    }
}

static void finish(struct fetch *f, CURLcode code)
{
    long status = 0;

    if (code == CURLE_OK && !f->head_done) code = CURLE_RECV_ERROR; /* curl forgives it */
    curl_easy_getinfo(f->easy, CURLINFO_RESPONSE_CODE, &status);
    f->status = (int)status;
    f->code = code;
    if (f->outcome == FETCH_PENDING) f->outcome = outcome_of(code);
    leave(f);
    f->state = FETCH_DONE;
    f->on_done(f->ctx, f);
}

/* ---- starts ---------------------------------------------------------------------- */

static CURLcode run(struct fetch *f)
{
    int64_t left = f->deadline_ms - clock_ms();

    if (left <= 0) return CURLE_OPERATION_TIMEDOUT;
    if (curl_easy_setopt(f->easy, CURLOPT_TIMEOUT_MS, (long)left) != CURLE_OK ||
        curl_multi_add_handle(f->client->multi, f->easy) != CURLM_OK)
        return CURLE_OUT_OF_MEMORY;
    f->state = FETCH_RUNNING;
    list_append(&f->client->running, &f->node);
    return CURLE_OK;
}

static void start_more(struct fetch_client *client)
{
    while (client->running.count < FETCH_RUNNING_MAX && client->waiting.count > 0) {
        struct fetch *f = LIST_ENTRY(list_take(&client->waiting), struct fetch, node);
        CURLcode code = run(f);

        if (code != CURLE_OK) finish(f, code);
    }
}

/* ---- progress -------------------------------------------------------------------- */

static void finish_broken(struct fetch_client *client)
{
    struct list_node *next;

    client->has_broken = false;
    for (struct list_node *n = client->running.first; n != NULL; n = next) {
        struct fetch *f = LIST_ENTRY(n, struct fetch, node);

        next = n->next;
        if (f->outcome != FETCH_PENDING) finish(f, CURLE_OUT_OF_MEMORY);
    }
}

static void finish_done(struct fetch_client *client)
{
    CURLMsg *message;
    int left;

    while ((message = curl_multi_info_read(client->multi, &left)) != NULL) {
        CURLcode code = message->data.result;
        char *f = NULL;

        if (message->msg != CURLMSG_DONE) continue;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &f);
        finish((struct fetch *)(void *)f, code);
    }
}

static void go_on(struct fetch_client *client, curl_socket_t socket, int events)
{
    int running;

    curl_multi_socket_action(client->multi, socket, events, &running);
    finish_done(client);
    if (client->has_broken) finish_broken(client);
    start_more(client);
}

static void on_timer(uv_timer_t *timer) { go_on(timer->data, CURL_SOCKET_TIMEOUT, 0); }

static void on_ready(uv_poll_t *poll, int status, int events)
{
    struct watch *watch = poll->data;
    int flags = status < 0 ? CURL_CSELECT_ERR : 0;

    if (events & UV_READABLE) flags |= CURL_CSELECT_IN;
    if (events & UV_WRITABLE) flags |= CURL_CSELECT_OUT;
    go_on(watch->client, watch->socket, flags);
}

static void arm_queue_timer(struct fetch_client *client);

static void on_queue_due(uv_timer_t *timer)
{
    struct fetch_client *client = timer->data;
    struct list_node *next;
    int64_t now = clock_ms();

    for (struct list_node *n = client->waiting.first; n != NULL; n = next) {
        struct fetch *f = LIST_ENTRY(n, struct fetch, node);

        next = n->next;
        if (f->deadline_ms <= now) finish(f, CURLE_OPERATION_TIMEDOUT);
    }
    arm_queue_timer(client);
}

static void arm_queue_timer(struct fetch_client *client)
{
    int64_t first = INT64_MAX, left;

    for (struct list_node *n = client->waiting.first; n != NULL; n = n->next) {
        struct fetch *f = LIST_ENTRY(n, struct fetch, node);

        if (f->deadline_ms < first) first = f->deadline_ms;
    }
    uv_timer_stop(&client->queue_timer);
    if (first == INT64_MAX) return;
    left = first - clock_ms();
    uv_timer_start(&client->queue_timer, on_queue_due, left < 1 ? 1 : (uint64_t)left, 0);
}

/* ---- what curl wants from the loop ----------------------------------------------- */

static void client_closed(struct fetch_client *client)
{
    if (--client->handles == 0) mem_free(client);
}

static void watch_closed(uv_handle_t *handle)
{
    struct watch *watch = handle->data;

    client_closed(watch->client);
    mem_free(watch);
}

static void watch_end(struct watch *watch)
{
    list_remove(&watch->node);
    uv_close((uv_handle_t *)&watch->poll, watch_closed);
}

static struct watch *watch_new(struct fetch_client *client, curl_socket_t socket)
{
    struct watch *watch = mem_get_clear(sizeof *watch);

    if (watch == NULL) return NULL;
    if (uv_poll_init_socket(client->timer.loop, &watch->poll, socket) != 0) {
        mem_free(watch);
        return NULL;
    }
    watch->poll.data = watch;
    watch->client = client;
    watch->socket = socket;
    list_append(&client->watches, &watch->node);
    client->handles++;
    return watch;
}

/* Without its socket watched a request would hang.  The end waits until curl is left;
 * telling curl of the failure would end all the others, too. */
static void break_off(struct fetch_client *client, CURL *easy)
{
    char *private = NULL;
    struct fetch *f;

    curl_easy_getinfo(easy, CURLINFO_PRIVATE, &private);
    f = (struct fetch *)(void *)private;
    if (f == NULL || f->state != FETCH_RUNNING) return;
    f->outcome = FETCH_NO_MEMORY;
    client->has_broken = true;
}

static int on_socket(CURL *easy, curl_socket_t socket, int what, void *ctx,
                     void *of_socket)
{
    struct fetch_client *client = ctx;
    struct watch *watch = of_socket;
    int events = (what & CURL_POLL_IN ? UV_READABLE : 0) |
                 (what & CURL_POLL_OUT ? UV_WRITABLE : 0);

    if (what == CURL_POLL_REMOVE) {
        if (watch != NULL) watch_end(watch);
        return 0;
    }
    if (watch == NULL) {
        watch = watch_new(client, socket);
        if (watch != NULL) curl_multi_assign(client->multi, socket, watch);
    }
    if (watch == NULL || uv_poll_start(&watch->poll, events, on_ready) != 0)
        break_off(client, easy);
    return 0;
}

static int on_timeout(CURLM *multi, long ms, void *ctx)
{
    struct fetch_client *client = ctx;

    (void)multi;
    if (ms < 0) {
        uv_timer_stop(&client->timer);
        return 0;
    }
    uv_update_time(client->timer.loop);
    uv_timer_start(&client->timer, on_timer, (uint64_t)ms, 0);
    return 0;
}

/* ---- what arrives ---------------------------------------------------------------- */

static size_t keep(struct fetch *f, struct buf *b, size_t max, const char *p, size_t n)
{
    if (n > max || b->n > max - n) {
        f->outcome = FETCH_TOO_LARGE;
        return CURL_WRITEFUNC_ERROR;
    }
    buf_add(b, p, n);
    if (!b->failed) return n;
    f->outcome = FETCH_NO_MEMORY;
    return CURL_WRITEFUNC_ERROR;
}

/* Line by line; again from the start for each answer (1xx, redirects).  What comes
 * behind the empty line are trailers, which count for nothing. */
static size_t on_head(char *p, size_t size, size_t n, void *ctx)
{
    struct fetch *f = ctx;

    n *= size;
    if (n >= 5 && memcmp(p, "HTTP/", 5) == 0) {
        buf_clear(&f->head);
        buf_clear(&f->body);
        f->head_done = false;
        return n;
    }
    if (n > 0 && (p[0] == '\r' || p[0] == '\n')) f->head_done = true;
    return f->head_done ? n : keep(f, &f->head, FETCH_HEAD_MAX, p, n);
}

static size_t on_body(char *p, size_t size, size_t n, void *ctx)
{
    struct fetch *f = ctx;

    return keep(f, &f->body, f->byte_max, p, n * size);
}

/* ---- the client ------------------------------------------------------------------ */

static void timer_closed(uv_handle_t *handle) { client_closed(handle->data); }

static void close_timers(struct fetch_client *client)
{
    uv_close((uv_handle_t *)&client->timer, timer_closed);
    uv_close((uv_handle_t *)&client->queue_timer, timer_closed);
}

static struct fetch_client *client_new(uv_loop_t *loop)
{
    struct fetch_client *client = mem_get_clear(sizeof *client);

    if (client == NULL) return NULL;
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) goto fail;
    client->multi = curl_multi_init();
    if (client->multi == NULL) goto fail_global;
    curl_multi_setopt(client->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
    curl_multi_setopt(client->multi, CURLMOPT_SOCKETDATA, client);
    curl_multi_setopt(client->multi, CURLMOPT_TIMERFUNCTION, on_timeout);
    curl_multi_setopt(client->multi, CURLMOPT_TIMERDATA, client);
    curl_multi_setopt(client->multi, CURLMOPT_MAXCONNECTS, (long)FETCH_RUNNING_MAX);
    uv_timer_init(loop, &client->timer);
    uv_timer_init(loop, &client->queue_timer);
    client->timer.data = client->queue_timer.data = client;
    client->handles = 2;
    return client;

fail_global:
    curl_global_cleanup();
fail:
    mem_free(client);
    return NULL;
}

static struct fetch_client *client_of(struct script_env *env)
{
    if (env->curl == NULL) env->curl = client_new(env->loop);
    return env->curl;
}

/* Does not wait for a resolver thread when it is given up (QUICK_EXIT), which could
 * hold the loop for seconds.  Over HTTP/1.1 each request has its connection alone. */
static bool set_common(CURL *easy)
{
    return curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https") == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_REDIR_PROTOCOLS_STR, "http,https") ==
               CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1) ==
               CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 1L) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 2L) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_USERAGENT, "omade") == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_head) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body) == CURLE_OK;
}

CURL *fetch_easy(struct script_env *env)
{
    CURL *easy = client_of(env) == NULL ? NULL : curl_easy_init();

    if (easy == NULL || set_common(easy)) return easy;
    curl_easy_cleanup(easy);
    return NULL;
}

enum fetch_begun fetch_start(struct script_env *env, struct fetch *f)
{
    struct fetch_client *client = env->curl;

    assert(f->state == FETCH_NEW && f->easy != NULL && client != NULL);
    if (curl_easy_setopt(f->easy, CURLOPT_PRIVATE, f) != CURLE_OK ||
        curl_easy_setopt(f->easy, CURLOPT_HEADERDATA, f) != CURLE_OK ||
        curl_easy_setopt(f->easy, CURLOPT_WRITEDATA, f) != CURLE_OK)
        return FETCH_NOT_BEGUN;
    f->client = client;
    f->deadline_ms = clock_ms() + clock_scaled(f->timeout_ms);
    if (client->running.count < FETCH_RUNNING_MAX)
        return run(f) == CURLE_OK ? FETCH_BEGUN : FETCH_NOT_BEGUN;
    if (client->waiting.count >= FETCH_WAITING_MAX) return FETCH_FULL;
    f->state = FETCH_WAITING;
    list_append(&client->waiting, &f->node);
    arm_queue_timer(client);
    return FETCH_BEGUN;
}

void fetch_clear(struct fetch *f)
{
    struct fetch_client *client = f->client;
    bool makes_room = f->state == FETCH_RUNNING;

    if (f->easy != NULL) leave(f);
    buf_free(&f->head);
    buf_free(&f->body);
    f->state = FETCH_NEW;
    if (makes_room) start_more(client);
}

void fetch_end(struct script_env *env)
{
    struct fetch_client *client = env->curl;
    struct list_node *node;

    if (client == NULL) return;
    env->curl = NULL;
    while ((node = client->waiting.first) != NULL)
        fetch_clear(LIST_ENTRY(node, struct fetch, node));
    while ((node = client->running.first) != NULL)
        fetch_clear(LIST_ENTRY(node, struct fetch, node));
    curl_multi_cleanup(client->multi);
    while ((node = client->watches.first) != NULL)
        watch_end(LIST_ENTRY(node, struct watch, node));
    curl_global_cleanup();
    close_timers(client);
}
