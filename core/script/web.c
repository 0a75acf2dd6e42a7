#include "script/web.h"

#include <assert.h>
#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "script/cors.h"
#include "script/task.h"

/* ---- routing ------------------------------------------------------------------ */

/* All methods of the path: there is none of this name. */
static unsigned methods_at(const struct script_env *env, struct slice path)
{
    struct route_match match;

    route_find(env->current->routes, METHOD_UNKNOWN, path, &match);
    return match.allowed;
}

/* A preflight is the engine's to answer, also where a route takes OPTIONS. */
static void find_route(struct exchange *x)
{
    struct vm *vm = x->env->current;

    x->generation = vm->generation;
    x->found = route_find(vm->routes, x->request->method, x->request->path, &x->match);
    if (x->found == ROUTE_FOUND && cors_is_preflight(x->env->cors_origins, x->request)) {
        x->found = ROUTE_NO_METHOD;
        x->match.allowed = methods_at(x->env, x->request->path);
    }
    x->route = x->found == ROUTE_FOUND ? x->match.target : NULL;
    x->metric = x->route == NULL ? -1 : x->route->metric;
}

#ifdef OMADE_OOM
static bool failed_before; /* did the failure that the last request asked for come? */

static long number_in(const struct request *r, struct slice name)
{
    struct slice value = request_header(r, name);
    char digits[16] = "-1";

    if (value.n > 0 && value.n < sizeof digits)
        snprintf(digits, sizeof digits, "%.*s", (int)value.n, value.p);
    return strtol(digits, NULL, 10);
}

/* X-Omade-Fail-After: N makes the allocation after N others fail, once. */
static void plan_failure(const struct request *r)
{
    failed_before = mem_failed() != 0;
    mem_fail_after(number_in(r, SLICE("X-Omade-Fail-After")));
}

/* X-Omade-Fail-Next: N does so once this request is answered. */
static void plan_next_failure(const struct request *r)
{
    long after = number_in(r, SLICE("X-Omade-Fail-Next"));

    if (after >= 0) mem_fail_after(after);
}
#endif

static bool is_multipart(const struct request *r)
{
    struct slice type = request_header(r, SLICE("Content-Type"));
    const struct slice wanted = SLICE("multipart/form-data");

    return type.n >= wanted.n &&
           slice_equal_fold((struct slice){ type.p, wanted.n }, wanted);
}

static void plan_body(const struct exchange *x, struct body_plan *plan)
{
    plan->mode = x->route->body_mode;
    if (x->route->body_limit >= 0) plan->limit = x->route->body_limit;
    if (x->route->files_limit == 0 || !is_multipart(x->request)) return;
    plan->mode = BODY_FILE;
    plan->limit = x->route->files_limit;
}

static void on_head(void *ctx, struct request *r, struct body_plan *plan)
{
#ifdef OMADE_OOM
    plan_failure(r);
#endif
    struct exchange *x = arena_get(&r->arena, sizeof *x);

    if (x == NULL) return; /* on_request answers 503 */
    memset(x, 0, offsetof(struct exchange, match));
    x->request = r;
    x->env = ctx;
    x->task = NULL;
    x->answered = x->streaming = x->body_ended = x->gone = x->client_waits = false;
    x->handle = NULL;
    x->reader = NULL;
    x->stream = NULL;
    x->headers = (struct slice){ 0 };
    x->body_ms = 0;
    r->owner = x;
    find_route(x);
    if (x->route != NULL) plan_body(x, plan);
}

/* ---- the answers that need no script -------------------------------------------- */

static void allow_text(unsigned allowed, struct buf *b)
{
    bool first = true;

    if (allowed & 1u << METHOD_GET) allowed |= 1u << METHOD_HEAD;
    allowed |= 1u << METHOD_OPTIONS;
    allowed &= ~(1u << METHOD_CONNECT | 1u << METHOD_TRACE);
    for (int m = 0; m < METHOD_COUNT; m++) {
        if (!(allowed & 1u << m)) continue;
        if (!first) BUF_ADD(b, ", ");
        first = false;
        buf_add_slice(b, method_name((enum method)m));
    }
}

static bool add_allow(struct exchange *x, struct response *a, struct slice methods)
{
    if (!response_header(a, SLICE("Allow"), methods)) return false;
    if (!cors_is_preflight(x->env->cors_origins, x->request)) return true;
    return response_header(a, SLICE("Access-Control-Allow-Methods"), methods) &&
           response_header(
               a, SLICE("Access-Control-Allow-Headers"),
               SLICE("Authorization, Content-Type, Idempotency-Key, If-None-Match, "
                     "Last-Event-ID, X-Session-Id, X-Tracking-Token")) &&
           response_header(a, SLICE("Access-Control-Max-Age"), SLICE("600"));
}

static void answer_allow(struct exchange *x)
{
    struct request *r = x->request;
    struct response a = { .status = 204 };
    struct buf allow = { 0 }, body = { 0 };

    allow_text(x->match.allowed, &allow);
    struct slice text = arena_copy(&r->arena, allow.p, allow.n);
    if (r->method != METHOD_OPTIONS) {
        a.status = 405;
        web_error_body(&body, "METHOD_NOT_ALLOWED", "This path does not take this method",
                       r->id);
        a.content_type = SLICE("application/json; charset=utf-8");
        a.body = arena_copy(&r->arena, body.p, body.n);
    }
    if (allow.failed || body.failed || text.p == NULL || !add_allow(x, &a, text))
        web_answer_no_memory(x);
    else request_answer(r, &a);
    buf_free(&allow);
    buf_free(&body);
}

/* "path" is part of the contract for an unknown one. */
static void answer_unknown(struct exchange *x)
{
    struct request *r = x->request;
    struct response a = { .status = 404,
                          .content_type = SLICE("application/json; charset=utf-8") };
    struct buf body = { 0 };

    web_error_body(&body, "ROUTE_NOT_FOUND", "There is nothing at this path", r->id);
    if (body.n > 0) body.n--;
    BUF_ADD(&body, ",\"path\":");
    json_add_string(&body, r->path);
    BUF_ADD(&body, "}");
    a.body = arena_copy(&r->arena, body.p, body.n);
    if (body.failed || a.body.p == NULL) web_answer_no_memory(x);
    else request_answer(r, &a);
    buf_free(&body);
}

static void answer_no_route(struct exchange *x)
{
    x->answered = true;
    if (x->found == ROUTE_NO_METHOD) answer_allow(x);
    else if (x->request->method == METHOD_OPTIONS &&
             slice_equal(x->request->path, SLICE("*"))) {
        x->match.allowed = (1u << METHOD_COUNT) - 1;
        answer_allow(x);
    } else answer_unknown(x);
}

/* ---- tasks ------------------------------------------------------------------------ */

static void log_killed(const struct exchange *x, const struct task *task)
{
    log_warn("request killed", log_text("request", x->request->id),
             log_text("route", x->route->name),
             log_text("reason", task_killed_message(task)));
}

/* It ended without an answer: most often it was killed.  In development the answer tells
 * where, as the log does. */
static void answer_ended(struct exchange *x, const struct task *task)
{
    enum task_kill why = task_killed(task);
    const char *told = x->env->development ? task_killed_message(task) : "";

    if (why == TASK_ALIVE) web_answer_error(x, 500, "INTERNAL", "Something went wrong");
    else if (why == TASK_KILLED_LATE)
        web_answer_error(x, 504, "TIMEOUT",
                         *told == '\0' ? "The request took too long" : told);
    else
        web_answer_error(x, 503, "UNAVAILABLE",
                         *told == '\0' ? "The request took too much; try again later"
                                       : told);
}

static void on_end(struct task *task, void *ctx)
{
    struct exchange *x = ctx;
    struct request *r = x->request;

    x->task = NULL;
    if (task_killed(task) != TASK_ALIVE && task_killed(task) != TASK_KILLED_GONE)
        log_killed(x, task);
    if (x->streaming) {
        request_stream_end(r);
        x->answered = true;
    }
    if (!x->answered) answer_ended(x, task);
    web_body_gone(x);
    web_stream_over(x);
    web_request_over(x);
    x->request = NULL;
    request_done(r);
}

bool web_is_stream(const struct task *task)
{
    return task_is_of(task, on_end) && ((struct exchange *)task_context(task))->streaming;
}

bool web_is_late(const struct task *task, int64_t limit_ms)
{
    const struct exchange *x;

    if (!task_is_of(task, on_end) || task_age_ms(task) <= limit_ms) return false;
    x = task_context(task);
    return !x->streaming && clock_ms() - x->body_ms > limit_ms;
}

/* [1] exchange (light) -> [1] the route's function [2] req */
static int prepare(lua_State *L)
{
    struct exchange *x = lua_touserdata(L, 1);

    lua_rawgeti(L, LUA_REGISTRYINDEX, x->route->run_ref);
    web_request_push(L, x);
    return 2;
}

/* NULL: the request was answered and given back. */
static struct task *make_task(struct exchange *x)
{
    struct task_plan plan = {
        .name = x->route->name,
        .request_id = x->request->id,
        .finish = web_finish,
        .on_end = on_end,
        .ctx = x,
    };
    struct task *task = task_new(x->env->current, &plan);
    lua_State *L;

    if (task == NULL) {
        web_answer_no_memory(x);
        web_body_gone(x);
        request_done(x->request);
        return NULL;
    }
    L = task_lua(task);
    lua_pushcfunction(L, prepare);
    lua_pushlightuserdata(L, x);
    if (lua_pcall(L, 1, 2, 0) == LUA_OK) {
        x->task = task;
        return task;
    }
    web_answer_error(x, 503, "UNAVAILABLE", "Not enough memory; try again later");
    task_abandon(task); /* on_end gives the request back */
    return NULL;
}

static void on_request(void *ctx, struct request *r)
{
    struct exchange *x = r->owner;
    struct script_env *env = ctx;
    struct task *task;

    if (x != NULL && x->generation != env->current->generation) {
        struct web_route *before = x->route;
        enum body_mode mode = before == NULL ? BODY_WHOLE : before->body_mode;

        find_route(x);
        if (x->route != NULL && x->route->body_mode != mode) x = NULL;
    }
    if (x == NULL ||
        (x->route != NULL && x->route->body_mode == BODY_STREAM && !web_body_begin(x))) {
        struct response a = { .status = 503, .close = true };

        request_answer(r, &a);
        request_done(r);
        return;
    }
    if (x->route == NULL) {
        answer_no_route(x);
        request_done(r);
        return;
    }
    task = make_task(x);
    if (task == NULL) return;
    if (!task_charge(task, r->body.n)) task_kill(task, TASK_KILLED_MEMORY);
    task_start(task, 1);
}

static void on_body(void *ctx, struct request *r, struct slice bytes, bool last)
{
    (void)ctx;
    if (r->owner != NULL) web_body_arrived(r->owner, bytes, last);
}

/* A reader that left is not worked for; a write goes on to its end (an order is placed
 * or not, but never because of a lost connection), its answer is discarded. */
static void on_gone(void *ctx, struct request *r)
{
    struct exchange *x = r->owner;

    (void)ctx;
    if (x == NULL || x->task == NULL) return;
    x->gone = true;
    web_body_gone(x);
    if (x->streaming || x->reader != NULL || r->method == METHOD_GET ||
        r->method == METHOD_HEAD)
        task_kill(x->task, TASK_KILLED_GONE);
}

static void on_drain(void *ctx, struct request *r)
{
    (void)ctx;
    if (r->owner != NULL) web_stream_drained(r->owner);
}

/* ---- every answer -------------------------------------------------------------------- */

static void make_error(void *ctx, int status, const char *code, const char *message,
                       const char *request_id, struct buf *body)
{
    (void)ctx;
    (void)status;
    web_error_body(body, code, message, request_id);
}

static bool is_private(const struct request *r)
{
    const struct exchange *x = r == NULL ? NULL : r->owner;

    return x == NULL || x->route == NULL || !x->route->is_public;
}

static void add_headers(void *ctx, const struct request *r, int status, struct buf *head)
{
    struct script_env *env = ctx;
    const struct exchange *x = r == NULL ? NULL : r->owner;

    BUF_ADD(head, "X-Content-Type-Options: nosniff\r\nX-Frame-Options: DENY\r\n"
                  "Referrer-Policy: no-referrer\r\n");
    if (r != NULL) {
        BUF_ADD(head, "X-Request-Id: ");
        buf_add_text(head, r->id);
        BUF_ADD(head, "\r\n");
    }
#ifdef OMADE_OOM
    buf_addf(head, "X-Omade-Failed-Before: %d\r\n", failed_before);
#endif
    cors_headers(env->cors_origins, r, head);
    if (status >= 400 || is_private(r)) BUF_ADD(head, "Cache-Control: no-store\r\n");
    if (x != NULL && x->route != NULL && r->method == METHOD_OPTIONS) {
        BUF_ADD(head, "Allow: ");
        allow_text(methods_at(env, r->path), head);
        BUF_ADD(head, "\r\n");
    }
    if (env->answer_headers.n > 0) buf_add_slice(head, buf_slice(&env->answer_headers));
    if (x != NULL && x->headers.n > 0) buf_add_slice(head, x->headers);
}

static void count_answer(struct metrics *m, const struct request *r, int status,
                         int64_t us)
{
    const struct exchange *x = r->owner;
    int route = x == NULL ? -1 : x->metric;

    if (route < 0) route = metrics_route(m, SLICE("none"));
    metrics_answer(m, route, status, us);
}

static void on_answered(void *ctx, const struct request *r, int status, int64_t bytes)
{
    struct script_env *env = ctx;
    int64_t us = (clock_ns() - r->began_ns) / 1000;

    if (env->metrics != NULL) count_answer(env->metrics, r, status, us);
#ifdef OMADE_OOM
    plan_next_failure(r);
#endif
    if (!log_wants(LOG_INFO)) return;
    log_info("request", log_text("request", r->id), log_text("ip", r->peer),
             log_slice("method", method_name(r->method)), log_slice("path", r->path),
             log_int("status", status), log_int("bytes", bytes), log_int("us", us));
}

void web_app(struct script_env *env, struct server_app *app)
{
    *app = (struct server_app){
        .ctx = env,
        .on_head = on_head,
        .on_request = on_request,
        .on_body = on_body,
        .on_gone = on_gone,
        .on_drain = on_drain,
        .make_error = make_error,
        .add_headers = add_headers,
        .on_answered = on_answered,
    };
}
