#include "worker.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "cache/redis.h"
#include "db/pg_pool.h"
#include "figures.h"
#include "http/server.h"
#include "runtime.h"
#include "script/bind_tasks.h"
#include "script/budget.h"
#include "script/snapshot.h"
#include "script/task.h"
#include "script/web.h"

enum {
    OLD_MAX = 4,
    OLD_GRACE_MS = 10000,
    BEAT_MS = 100,
    TURN_MS = 20,
    ORPHAN_DRAIN_MS = 5000,
    SLOTS_MAX = 256,
};

struct worker {
    struct runtime rt;
    const struct worker_plan *plan;
    struct server *server;
    struct figures *figures; /* NULL without METRICS_PORT */
    struct proxies proxies;  /* of TRUSTED_PROXIES */
    uv_poll_t control;
    uv_timer_t beat, ending;
    uv_signal_t terminate;
    struct list retired;    /* old generations, the oldest first */
    int helping[SLOTS_MAX]; /* sockets of slots without a worker, + 1; 0: none */
    int64_t drain_until_ms;
    bool draining, server_drained, server_closed;
};

struct retired {
    struct list_node node;
    struct vm *vm;
    struct worker *worker;
    int64_t until_ms;
};

/* ---- old generations ------------------------------------------------------------------- */

enum which { ALL_TASKS, STREAMS, STREAMS_AND_BACKGROUND };

static void kill_tasks(struct vm *vm, enum task_kill why, enum which which)
{
    struct list_node *next;

    for (struct list_node *n = vm->tasks.first; n != NULL; n = next) {
        struct task *task = task_of_node(n);

        next = n->next;
        if (which == ALL_TASKS || web_is_stream(task) ||
            (which == STREAMS_AND_BACKGROUND && task_is_background(task)))
            task_kill(task, why);
    }
}

static void on_empty(struct vm *vm)
{
    struct worker *w = vm->owner;

    for (struct list_node *n = w->retired.first; n != NULL; n = n->next) {
        struct retired *r = LIST_ENTRY(n, struct retired, node);

        if (r->vm != vm) continue;
        list_remove(&r->node);
        mem_free(r);
        break;
    }
    vm_free(vm);
}

/* Requests in flight finish on it; background tasks and streams are ended after a grace;
 * of more than four, the oldest is ended at once. */
static void retire(struct worker *w, struct vm *vm)
{
    struct retired *r = mem_get_clear(sizeof *r);

    vm->owner = w;
    if (r == NULL) {
        kill_tasks(vm, TASK_KILLED_RELOAD, ALL_TASKS);
    } else {
        *r = (struct retired){ .vm = vm,
                               .worker = w,
                               .until_ms = clock_ms() + clock_scaled(OLD_GRACE_MS) };
        list_append(&w->retired, &r->node);
    }
    if (w->retired.count > OLD_MAX)
        kill_tasks(LIST_ENTRY(w->retired.first, struct retired, node)->vm,
                   TASK_KILLED_RELOAD, ALL_TASKS);
    vm_retire(vm, on_empty);
}

static void end_old(struct worker *w)
{
    for (struct list_node *n = w->retired.first; n != NULL; n = n->next) {
        struct retired *r = LIST_ENTRY(n, struct retired, node);

        if (r->until_ms <= clock_ms())
            kill_tasks(r->vm, TASK_KILLED_RELOAD, STREAMS_AND_BACKGROUND);
    }
}

/* ---- requests that take too long ------------------------------------------------------- */

static void end_late(struct vm *vm, int64_t limit_ms)
{
    struct list_node *next;

    for (struct list_node *n = vm->tasks.first; n != NULL; n = next) {
        struct task *task = task_of_node(n);

        next = n->next;
        if (task_age_ms(task) <= limit_ms) return; /* they stand in the order of birth */
        if (web_is_late(task, limit_ms)) task_kill(task, TASK_KILLED_LATE);
    }
}

static void end_late_in_all(struct worker *w)
{
    int64_t limit_ms = clock_scaled(w->plan->config->request_timeout);

    end_late(w->rt.env.current, limit_ms);
    for (struct list_node *n = w->retired.first; n != NULL; n = n->next)
        end_late(LIST_ENTRY(n, struct retired, node)->vm, limit_ms);
}

/* ---- scripts ------------------------------------------------------------------------------ */

/* In development every answer tells that the scripts on the disk do not load. */
static void note_fault(struct worker *w, const char *fault)
{
    struct buf *headers = &w->rt.env.answer_headers;
    size_t n = strcspn(fault, "\r\n");

    buf_clear(headers);
    mem_free(w->rt.env.fault);
    w->rt.env.fault = *fault == '\0' ? NULL : mem_copy_text(fault, strlen(fault));
    if (n == 0 || !w->plan->config->development) return;
    BUF_ADD(headers, "X-Omade-Reload-Error: ");
    for (size_t i = 0; i < n && i < 500; i++)
        buf_add_byte(headers, fault[i] >= ' ' && fault[i] < 0x7f ? fault[i] : '?');
    BUF_ADD(headers, "\r\n");
    if (headers->failed) buf_clear(headers);
}

static bool load(struct worker *w, int fd, uint64_t number, struct buf *fault)
{
    struct snapshot *snapshot = snapshot_map(fd);
    struct vm *before;
    bool ok;

    if (snapshot == NULL) {
        buf_add_text(fault, "out of memory");
        return false;
    }
    heartbeat_excuse(w->plan->heartbeat,
                     clock_scaled(w->plan->config->script_load_cpu) * 2);
    ok = runtime_load(&w->rt, snapshot, number, &before, fault);
    heartbeat_now(w->plan->heartbeat);
    snapshot_release(snapshot);
    if (ok && before != NULL) retire(w, before);
    return ok;
}

static void swap(struct worker *w, int fd, uint64_t number)
{
    struct buf fault = { 0 };

    if (load(w, fd, number, &fault)) {
        note_fault(w, "");
        if (!control_send(w->plan->control, CONTROL_READY, w->plan->slot, number, "", -1))
            log_warn("the supervisor does not listen");
        log_debug("scripts swapped", log_int("generation", (int64_t)number));
    } else {
        buf_add_byte(&fault, '\0');
        note_fault(w, fault.failed ? "out of memory" : fault.p);
        if (!control_send(w->plan->control, CONTROL_REFUSED, w->plan->slot, number,
                          fault.failed ? "out of memory" : fault.p, -1))
            log_warn("the supervisor does not listen");
    }
    buf_free(&fault);
}

/* ---- the end ------------------------------------------------------------------------------- */

static void on_server_closed(void *ctx) { ((struct worker *)ctx)->server_closed = true; }
static void on_drained(void *ctx) { ((struct worker *)ctx)->server_drained = true; }

static void kill_in_all(struct worker *w, enum which which)
{
    kill_tasks(w->rt.env.current, TASK_KILLED_SHUTDOWN, which);
    for (struct list_node *n = w->retired.first; n != NULL; n = n->next)
        kill_tasks(LIST_ENTRY(n, struct retired, node)->vm, TASK_KILLED_SHUTDOWN, which);
}

static void on_ending(uv_timer_t *timer)
{
    struct worker *w = timer->data;

    if (w->server_drained && w->rt.env.tasks_live == 0) uv_stop(&w->rt.loop);
    else if (clock_ms() > w->drain_until_ms) {
        kill_in_all(w, ALL_TASKS);
        if (clock_ms() > w->drain_until_ms + 1000) uv_stop(&w->rt.loop);
    }
}

/* ---- the supervisor -------------------------------------------------------------------------- */

/* Accepts for a slot that has no worker just now. */
static void help(struct worker *w, uint32_t slot, int fd)
{
    int own = fd < 0 || slot >= SLOTS_MAX || w->helping[slot] != 0 ? -1 : dup(fd);

    if (own < 0) return;
    if (server_listen(w->server, own) == 0) {
        w->helping[slot] = own + 1;
        return;
    }
    log_warn("cannot accept for another slot", log_int("slot", slot));
    close(own);
}

static void stop_helping(struct worker *w, uint32_t slot)
{
    if (slot >= SLOTS_MAX || w->helping[slot] == 0) return;
    server_unlisten(w->server, w->helping[slot] - 1);
    close(w->helping[slot] - 1);
    w->helping[slot] = 0;
}

/* ---- the drain ------------------------------------------------------------------------- */

/* All copies of the sockets go: who comes now is refused, and does not wait in vain. */
static void unlisten(struct worker *w)
{
    for (uint32_t i = 0; i < SLOTS_MAX; i++) stop_helping(w, i);
    close(w->plan->listen_fd);
    if (w->figures == NULL) return;
    figures_drain(w->figures);
    close(w->plan->metrics_fd);
}

static void drain(struct worker *w, int64_t limit_ms)
{
    if (w->draining) return;
    w->draining = true;
    w->rt.env.draining = true;
    w->drain_until_ms = clock_ms() + clock_scaled(limit_ms);
    jobs_pause(&w->rt.env);
    kill_in_all(w, STREAMS);
    server_drain(w->server, on_drained, w);
    unlisten(w);
    uv_timer_start(&w->ending, on_ending, 1, TURN_MS);
}

static void handle_message(struct worker *w, const struct control_message *m, int fd)
{
    switch ((enum control_type)m->type) {
    case CONTROL_SCRIPTS:
        if (fd >= 0 && m->number != w->rt.env.current->generation) swap(w, fd, m->number);
        break;
    case CONTROL_FAULT: note_fault(w, m->text); break;
    case CONTROL_LISTEN: help(w, m->slot, fd); break;
    case CONTROL_UNLISTEN: stop_helping(w, m->slot); break;
    case CONTROL_DRAIN: drain(w, w->plan->config->drain_timeout); break;
    default: break;
    }
}

static void on_control(uv_poll_t *poll, int status, int events)
{
    struct worker *w = poll->data;
    struct control_message message;
    int fd, got = -1;

    (void)events;
    if (status == 0)
        while ((got = control_receive(w->plan->control, &message, &fd)) == 1) {
            handle_message(w, &message, fd);
            if (fd >= 0) close(fd);
        }
    if (got >= 0) return;
    uv_poll_stop(poll); /* the supervisor is gone: no orphan stays */
    drain(w, ORPHAN_DRAIN_MS);
}

static void on_terminate(uv_signal_t *handle, int number)
{
    struct worker *w = handle->data;

    (void)number;
    drain(w, w->plan->config->drain_timeout);
}

/* ---- figures ---------------------------------------------------------------------- */

static int64_t resident_bytes(void)
{
    char text[64];
    long long pages = 0;
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);

    if (fd >= 0) close(fd);
    if (n <= 0) return 0;
    text[n] = '\0';
    return sscanf(text, "%*s %lld", &pages) == 1 ? pages * sysconf(_SC_PAGESIZE) : 0;
}

static void measure_pools(struct worker *w, struct metrics *m)
{
    struct pg_stats pg = { 0 };
    struct redis_stats redis = { 0 };

    if (w->rt.env.pg != NULL) pg_pool_stats(w->rt.env.pg, &pg);
    if (w->rt.env.redis != NULL) redis_stats(w->rt.env.redis, &redis);
    metrics_set(m, METRICS_PG_IDLE, (int64_t)pg.idle);
    metrics_set(m, METRICS_PG_BUSY, (int64_t)pg.busy);
    metrics_set(m, METRICS_PG_PINNED, (int64_t)pg.pinned);
    metrics_set(m, METRICS_PG_BROKEN, (int64_t)pg.broken);
    metrics_set(m, METRICS_PG_IN_FLIGHT, (int64_t)pg.in_flight);
    metrics_set(m, METRICS_PG_WAITING, (int64_t)pg.waiting);
    metrics_set(m, METRICS_PG_PINS, (int64_t)pg.pins_waiting);
    metrics_set(m, METRICS_PG_OPERATIONS, pg.operations);
    metrics_set(m, METRICS_PG_FAILURES, pg.failures);
    metrics_set(m, METRICS_REDIS_UP, redis.connected);
    metrics_set(m, METRICS_REDIS_IN_FLIGHT, (int64_t)redis.in_flight);
    metrics_set(m, METRICS_REDIS_COMMANDS, redis.commands);
    metrics_set(m, METRICS_REDIS_FAILURES, redis.failures);
}

static void measure(struct worker *w)
{
    struct metrics *m = w->rt.env.metrics;
    struct server_stats server;

    server_stats(w->server, &server);
    metrics_set(m, METRICS_GENERATION, (int64_t)w->rt.env.current->generation);
    metrics_set(m, METRICS_TASKS, (int64_t)w->rt.env.tasks_live);
    metrics_set(m, METRICS_LUA_BYTES, (int64_t)vm_memory(w->rt.env.current));
    metrics_set(m, METRICS_RESIDENT, resident_bytes());
    metrics_set(
        m, METRICS_CLIENTS,
        (int64_t)(server.reading + server.running + server.writing + server.idle));
    metrics_set(m, METRICS_RUNNING, (int64_t)server.running);
    metrics_set(m, METRICS_ACCEPTED, server.accepted);
    metrics_set(m, METRICS_SHED, server.shed);
    measure_pools(w, m);
}

static void on_beat(uv_timer_t *timer)
{
    struct worker *w = timer->data;

    heartbeat_now(w->plan->heartbeat);
    measure(w);
    end_old(w);
    end_late_in_all(w);
}

/* ---- life -------------------------------------------------------------------------------------- */

/* Out of descriptors, libuv would accept clients and close them: what is not theirs keeps
 * room for the database, files, uploads and requests that go out. */
static int64_t most_clients(int64_t wanted)
{
    struct rlimit limit;
    int64_t room;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= INT64_MAX)
        return wanted;
    room = (int64_t)limit.rlim_cur - (int64_t)limit.rlim_cur / 8 - 64;
    if (room < 16) room = 16;
    if (wanted <= room) return wanted;
    log_warn("HTTP_MAX_CONNECTIONS is lowered: raise the limit of open files (ulimit -n)",
             log_int("clients", room), log_int("files", (int64_t)limit.rlim_cur));
    return room;
}

static struct server_settings server_settings_of(const struct config *c,
                                                 const struct proxies *proxies)
{
    return (struct server_settings){
        .head_timeout = c->head_timeout,
        .idle_timeout = c->idle_timeout,
        .write_timeout = c->write_timeout,
        .body_min_rate = c->body_min_rate,
        .body_limit = c->body_limit,
        .write_buffer = c->write_buffer,
        .max_connections = most_clients(c->max_connections),
#ifdef OMADE_HOSTILE
        .read_buffer = 16,
#else
        .read_buffer = 65536,
#endif
        .upload_dir = c->upload_dir,
        .proxies = proxies,
    };
}

static bool start_handles(struct worker *w)
{
    uv_timer_init(&w->rt.loop, &w->beat);
    uv_timer_init(&w->rt.loop, &w->ending);
    w->beat.data = w->ending.data = w->control.data = w->terminate.data = w;
    return uv_poll_init(&w->rt.loop, &w->control, w->plan->control) == 0 &&
           uv_signal_init(&w->rt.loop, &w->terminate) == 0 &&
           uv_signal_start(&w->terminate, on_terminate, SIGTERM) == 0 &&
           uv_timer_start(&w->beat, on_beat, 0, BEAT_MS) == 0 &&
           uv_poll_start(&w->control, UV_READABLE, on_control) == 0;
}

static bool start_figures(struct worker *w, const struct server_settings *settings)
{
    const struct worker_plan *plan = w->plan;

    if (plan->metrics_fd < 0) return true;
    w->figures = figures_new(&w->rt.loop, settings, plan->metrics_fd, plan->metrics,
                             plan->slot_count);
    return w->figures != NULL;
}

/* What did not come to pass is undone by stop(). */
static bool start(struct worker *w, struct buf *fault)
{
    const struct worker_plan *plan = w->plan;
    struct server_settings settings = server_settings_of(plan->config, &w->proxies);
    struct server_app app;
    struct slice wrong;

    if (!proxies_read(&w->proxies, slice_of(plan->config->trusted_proxies), &wrong)) {
        buf_add_text(fault, "TRUSTED_PROXIES is wrong");
        return false;
    }
    if (!runtime_start(&w->rt, plan->config, RUNTIME_SERVER, fault)) return false;
    w->rt.env.all_metrics = plan->metrics;
    w->rt.env.workers = plan->slot_count;
    w->rt.env.metrics = &plan->metrics[plan->slot];
    web_app(&w->rt.env, &app);
    w->server = server_new(&w->rt.loop, &settings, &app);
    if (w->server == NULL) {
        buf_add_text(fault, "out of memory");
        return false;
    }
    w->rt.env.server = w->server;
    if (!load(w, plan->snapshot_fd, plan->generation, fault)) return false;
    note_fault(w, plan->fault);
    if (!start_handles(w)) {
        buf_add_text(fault, "cannot wait for events");
        return false;
    }
    if (server_listen(w->server, plan->listen_fd) == 0 && start_figures(w, &settings))
        return true;
    buf_add_text(fault, "cannot accept on the socket");
    return false;
}

static void close_handle(uv_handle_t *handle)
{
    if (handle->type != UV_UNKNOWN_HANDLE) uv_close(handle, NULL);
}

static void stop(struct worker *w)
{
    close_handle((uv_handle_t *)&w->beat);
    close_handle((uv_handle_t *)&w->ending);
    close_handle((uv_handle_t *)&w->control);
    close_handle((uv_handle_t *)&w->terminate);
    for (uint32_t slot = 0; slot < SLOTS_MAX; slot++) stop_helping(w, slot);
    if (w->rt.env.current != NULL) kill_in_all(w, ALL_TASKS);
    while (w->rt.env.ready.count > 0) task_run_ready(&w->rt.env);
    figures_free(w->figures, &w->rt.loop);
    if (w->server != NULL) {
        server_close(w->server, on_server_closed, w);
        while (!w->server_closed) uv_run(&w->rt.loop, UV_RUN_ONCE);
    }
    mem_free(w->rt.env.fault);
    runtime_stop(&w->rt);
}

static void setup_log(const struct worker_plan *plan)
{
    char name[32];
    enum log_level level = LOG_INFO;

    snprintf(name, sizeof name, "worker %u", plan->slot + 1);
    (void)log_level_of(slice_of(plan->config->log_level), &level);
    log_setup(level,
              strcmp(plan->config->log_format, "json") == 0 ? LOG_JSON : LOG_KEY_VALUE,
              name);
}

static void report(const struct worker_plan *plan, struct buf *fault)
{
    const char *why;

    buf_add_byte(fault, '\0');
    why = fault->failed ? "out of memory" : fault->p;
    if (!control_send(plan->control, CONTROL_REFUSED, plan->slot, plan->generation, why,
                      -1))
        log_error("worker could not start", log_text("error", why));
    buf_free(fault);
}

#ifdef OMADE_OOM
/* OMADE_FAIL_AFTER=N: the first worker's allocation after N others fails, once. */
static void plan_failure(void)
{
    const char *after = getenv("OMADE_FAIL_AFTER");

    if (after != NULL) mem_fail_after(strtol(after, NULL, 10));
}
#endif

int worker_run(const struct worker_plan *plan)
{
    struct worker w = { .plan = plan };
    struct buf fault = { 0 };
    bool serves;

    setup_log(plan);
#ifdef OMADE_OOM
    plan_failure();
#endif
    if (!budget_start()) {
        buf_add_text(&fault, "no watchdog thread");
        report(plan, &fault);
        log_flush_all();
        return 1;
    }
    serves = start(&w, &fault);
    if (!serves) report(plan, &fault);
    else if (!control_send(plan->control, CONTROL_READY, plan->slot, plan->generation, "",
                           -1))
        drain(&w, ORPHAN_DRAIN_MS);
#ifdef OMADE_OOM
    log_info("start-up", log_int("allocation_failed", mem_failed()));
    mem_fail_after(-1);
#endif
    if (serves) uv_run(&w.rt.loop, UV_RUN_DEFAULT);
    stop(&w);
    budget_stop();
    log_flush_all();
    return serves ? 0 : 1;
}
