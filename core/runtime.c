#include "runtime.h"

#include <assert.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "cache/redis.h"
#include "db/pg_pool.h"
#include "script/bind_crypto.h"
#include "script/bind_http.h"
#include "script/bind_mail.h"
#include "script/bind_shared.h"
#include "script/bind_tasks.h"
#include "script/task.h"

/* ---- settings ----------------------------------------------------------------------- */

static const char *setting(void *ctx, const char *name) { return config_text(ctx, name); }

void runtime_env(const struct config *config, struct script_env *env)
{
    const int64_t ms = 1000000;

    *env = (struct script_env){
        .limits = { .stretch_ns = clock_scaled(config->script_cpu) * ms,
                    .request_ns = clock_scaled(config->script_request_cpu) * ms,
                    .load_ns = clock_scaled(config->script_load_cpu) * ms,
                    .vm_memory = (size_t)config->script_memory,
                    .task_memory = (size_t)config->script_task_memory },
        .development = config->development,
        .cors_origins = config->cors_origins,
        .setting = setting,
        .setting_ctx = (void *)(uintptr_t)config,
        .home = config->home,
        .app = config->app,
        .upload_dir = config->upload_dir,
    };
}

static struct pg_settings pg_settings_of(const struct config *c, enum runtime_role role)
{
    return (struct pg_settings){
        .url = role == RUNTIME_OWNER ? c->database_url : c->app_database_url,
        .listen_url = c->listen_url,
        .connections = (int)c->db_connections,
        /* A job that runs holds one for its lock (lua/omade/jobs.lua), and needs another. */
        .transaction_connections = c->db_transactions < 2 ? 2 : (int)c->db_transactions,
        .queue_max = (int)c->db_queue_max,
        .in_flight_max = (int)c->db_in_flight_max,
        .statements_max = (int)c->db_statements_max,
        .named_statements = c->db_named,
        .connect_timeout = c->db_connect_timeout,
        .query_timeout = role == RUNTIME_OWNER ? 3600 * 1000 : c->db_query_timeout,
        .queue_timeout = c->db_queue_timeout,
        .row_max = c->db_row_max,
        .byte_max = c->db_byte_max,
        .application_name = role == RUNTIME_OWNER ? "omade command" : "omade",
        .timezone = c->shop_timezone,
    };
}

static struct redis_settings redis_settings_of(const struct config *c)
{
    return (struct redis_settings){
        .url = c->redis_url,
        .connect_timeout = c->redis_connect_timeout,
        .command_timeout = c->redis_timeout,
        .silence_timeout = c->redis_timeout > 1000 ? c->redis_timeout : 1000,
        .breaker_failures = 5,
        .breaker_probe = 200,
        .in_flight_max = 10000,
    };
}

/* ---- the turn of the loop --------------------------------------------------------------- */

static void keep_turning(uv_idle_t *handle) { (void)handle; }

static void run_ready(struct runtime *rt)
{
    task_run_ready(&rt->env);
    if (rt->env.ready.count > 0) uv_idle_start(&rt->more, keep_turning);
    else uv_idle_stop(&rt->more);
}

static void after_wait(uv_check_t *handle) { run_ready(handle->data); }

/* Tasks woken by timers run now; what all queued in this turn leaves in one write. */
static void before_wait(uv_prepare_t *handle)
{
    struct runtime *rt = handle->data;

    run_ready(rt);
    if (rt->env.pg != NULL) pg_pool_flush(rt->env.pg);
    if (rt->env.redis != NULL) redis_flush(rt->env.redis);
    log_flush();
}

/* ---- start ---------------------------------------------------------------------------------- */

/* Europe/Rome, UTC, Etc/GMT+3: it goes into a start packet as it is. */
static bool is_zone_name(const char *name)
{
    return *name != '\0' && name[strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnop"
                                              "qrstuvwxyz0123456789_/+-")] == '\0';
}

static bool start_pools(struct runtime *rt, enum runtime_role role, struct buf *fault)
{
    struct pg_settings pg = pg_settings_of(rt->config, role);
    struct redis_settings redis = redis_settings_of(rt->config);
    char message[160];

    if (!is_zone_name(rt->config->shop_timezone)) {
        buf_addf(fault, "SHOP_TIMEZONE is '%s', which is no name of a time zone",
                 rt->config->shop_timezone);
        return false;
    }
    if (role == RUNTIME_PLAIN) return true;
    if (pg.url != NULL) {
        rt->env.pg = pg_pool_new(&rt->loop, &pg);
        if (rt->env.pg == NULL) goto no_memory;
        rt->closing++;
    }
    if (redis.url != NULL && role == RUNTIME_SERVER) {
        if (!redis_url_check(redis.url, message)) {
            buf_addf(fault, "REDIS_URL: %s", message);
            return false;
        }
        rt->env.redis = redis_new(&rt->loop, &redis);
        if (rt->env.redis == NULL) goto no_memory;
        rt->closing++;
    }
    return true;

no_memory:
    buf_add_text(fault, "out of memory");
    return false;
}

bool runtime_start(struct runtime *rt, const struct config *config,
                   enum runtime_role role, struct buf *fault)
{
    memset(rt, 0, sizeof *rt);
    rt->config = config;
    runtime_env(config, &rt->env);
    if (uv_loop_init(&rt->loop) != 0) {
        buf_add_text(fault, "no event loop");
        return false;
    }
    rt->started = true;
    rt->env.loop = &rt->loop;
    uv_prepare_init(&rt->loop, &rt->before_wait);
    uv_check_init(&rt->loop, &rt->after_wait);
    uv_idle_init(&rt->loop, &rt->more);
    rt->before_wait.data = rt->after_wait.data = rt;
    uv_prepare_start(&rt->before_wait, before_wait);
    uv_check_start(&rt->after_wait, after_wait);
    uv_unref((uv_handle_t *)&rt->before_wait);
    uv_unref((uv_handle_t *)&rt->after_wait);
    uv_unref((uv_handle_t *)&rt->more);
    rt->env.shared = shared_new((size_t)config->shared_memory);
    if (rt->env.shared == NULL) {
        buf_add_text(fault, "out of memory");
        return false;
    }
    return start_pools(rt, role, fault);
}

bool runtime_load(struct runtime *rt, struct snapshot *snapshot, uint64_t number,
                  struct vm **before, struct buf *fault)
{
    struct vm *vm = vm_new(&rt->env, snapshot, number);

    *before = NULL;
    if (vm == NULL) {
        buf_add_text(fault, "out of memory");
        return false;
    }
    if (!vm_load(vm, fault)) goto fail;
    if (!jobs_swap(&rt->env, vm)) {
        buf_add_text(fault, "out of memory");
        goto fail;
    }
    *before = rt->env.current;
    rt->env.current = vm;
    if (rt->env.pg != NULL) pg_pool_new_generation(rt->env.pg);
    return true;

fail:
    vm_free(vm);
    return false;
}

/* ---- stop ------------------------------------------------------------------------------------ */

/* Each is forgotten when it is gone: the loop may turn on, and flushes what is there. */
static void on_redis_closed(void *ctx)
{
    struct runtime *rt = ctx;

    rt->env.redis = NULL;
    rt->closing--;
}

static void on_pg_closed(void *ctx)
{
    struct runtime *rt = ctx;

    rt->env.pg = NULL;
    rt->closing--;
}

void runtime_stop(struct runtime *rt)
{
    if (!rt->started) return;
    assert(rt->env.tasks_live == 0);
    jobs_stop(&rt->env);
    if (rt->env.current != NULL) vm_free(rt->env.current);
    http_end(&rt->env);
    mail_end(&rt->env);
    if (rt->env.redis != NULL) redis_close(rt->env.redis, on_redis_closed, rt);
    if (rt->env.pg != NULL) pg_pool_close(rt->env.pg, on_pg_closed, rt);
    while (rt->closing > 0) uv_run(&rt->loop, UV_RUN_ONCE);
    uv_close((uv_handle_t *)&rt->more, NULL);
    uv_close((uv_handle_t *)&rt->before_wait, NULL);
    uv_close((uv_handle_t *)&rt->after_wait, NULL);
    uv_run(&rt->loop, UV_RUN_DEFAULT);
    crypto_end(&rt->env);
    shared_free(rt->env.shared);
    buf_free(&rt->env.scratch);
    buf_free(&rt->env.answer_headers);
    if (uv_loop_close(&rt->loop) != 0) log_error("handles are left open at the end");
    rt->started = false;
}
