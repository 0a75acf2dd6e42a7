/* script_rig.h -- a loop with a generation of scripts, for the tests of bindings that
 * wait. */
#ifndef TEST_SCRIPT_RIG_H
#define TEST_SCRIPT_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <lauxlib.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "cache/redis.h"
#include "script/budget.h"
#include "script/task.h"
#include "script/vm.h"

enum { GIVE_UP_S = 600, OUTCOMES_MAX = 300 };

struct outcome {
    bool begun, ended, ok;
    enum task_kill killed;
    char result[1000]; /* what the script returned, or its error */
    struct task *task; /* until it ended */
};

static struct {
    uv_loop_t loop;
    uv_prepare_t before_wait;
    uv_timer_t tick; /* so that the loop never waits long for what is no event */
    struct script_env env;
    struct vm *vm;
    bool hold; /* tasks that are ready stay so */
    long live;
    struct outcome outcomes[OUTCOMES_MAX];
} engine;

/* ---- tasks ----------------------------------------------------------------------- */

static inline int engine_finish(lua_State *L)
{
    struct outcome *o = task_context(task_current(L));

    snprintf(o->result, sizeof o->result, "%s", luaL_tolstring(L, 2, NULL));
    return 0;
}

static inline void engine_on_end(struct task *task, void *ctx)
{
    struct outcome *o = ctx;

    o->ended = true;
    o->ok = task_ok(task);
    o->killed = task_killed(task);
    o->task = NULL;
}

/* The script goes on until its first wait; false: no memory even to start it. */
static inline bool engine_begin(struct outcome *o, const char *script)
{
    struct task_plan plan = {
        .name = "test", .finish = engine_finish, .on_end = engine_on_end, .ctx = o
    };

    memset(o, 0, sizeof *o);
    o->task = task_new(engine.vm, &plan);
    if (o->task == NULL) return false;
    o->begun = true;
    if (luaL_loadstring(task_lua(o->task), script) != LUA_OK) {
        snprintf(o->result, sizeof o->result, "%s", lua_tostring(task_lua(o->task), -1));
        task_abandon(o->task);
        return false;
    }
    task_start(o->task, 0);
    return true;
}

static inline void engine_turn(void) { uv_run(&engine.loop, UV_RUN_ONCE); }

static inline struct outcome *engine_run(const char *script)
{
    struct outcome *o = &engine.outcomes[OUTCOMES_MAX - 1];

    if (!engine_begin(o, script)) fail_msg("%s", o->result);
    while (!o->ended) engine_turn();
    return o;
}

static inline void engine_returns(const char *script, const char *expected)
{
    struct outcome *o = engine_run(script);

    if (!o->ok) fail_msg("%s\nfailed: %s", script, o->result);
    assert_string_equal(o->result, expected);
}

static inline void engine_raises(const char *script, const char *part)
{
    struct outcome *o = engine_run(script);

    if (o->ok) fail_msg("%s\ndid not raise but returned %s", script, o->result);
    if (strstr(o->result, part) == NULL)
        fail_msg("%s\nexpected: %s\ngot: %s", script, part, o->result);
}

/* ---- life ------------------------------------------------------------------------ */

static inline void engine_before_wait(uv_prepare_t *handle)
{
    (void)handle;
    if (!engine.hold) task_run_ready(&engine.env);
    if (engine.env.redis != NULL) redis_flush(engine.env.redis);
}

static inline void engine_tick(uv_timer_t *timer) { (void)timer; }

static inline int engine_start(void **state)
{
    const int64_t ms = 1000000;

    (void)state;
    signal(SIGPIPE, SIG_IGN);
    alarm(GIVE_UP_S);
    log_setup(LOG_OFF, LOG_KEY_VALUE, "test");
    memset(&engine, 0, sizeof engine);
    engine.live = mem_live();
    uv_loop_init(&engine.loop);
    uv_prepare_init(&engine.loop, &engine.before_wait);
    uv_prepare_start(&engine.before_wait, engine_before_wait);
    uv_timer_init(&engine.loop, &engine.tick);
    uv_timer_start(&engine.tick, engine_tick, 10, 10);
    engine.env.loop = &engine.loop;
    engine.env.limits = (struct script_limits){ .stretch_ns = clock_scaled(2000) * ms,
                                                .request_ns = clock_scaled(20000) * ms,
                                                .vm_memory = 128 << 20,
                                                .task_memory = 16 << 20 };
    engine.vm = vm_new(&engine.env, NULL, 1);
    if (engine.vm == NULL) return -1;
    engine.vm->baseline = engine.vm->used;
    engine.env.current = engine.vm;
    return budget_start() ? 0 : -1;
}

/* The test has ended what it added to the environment.  Nothing may be left. */
static inline int engine_stop(void **state)
{
    (void)state;
    uv_close((uv_handle_t *)&engine.before_wait, NULL);
    uv_close((uv_handle_t *)&engine.tick, NULL);
    uv_run(&engine.loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&engine.loop), 0);
    assert_int_equal(mem_live(), engine.live);
    budget_stop();
    alarm(0);
    return 0;
}

#endif
