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

enum { GIVE_UP_S = 120, OUTCOMES_MAX = 300 };

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
} rig;

/* ---- tasks ----------------------------------------------------------------------- */

static inline int rig_finish(lua_State *L)
{
    struct outcome *o = task_context(task_current(L));

    snprintf(o->result, sizeof o->result, "%s", luaL_tolstring(L, 2, NULL));
    return 0;
}

static inline void rig_on_end(struct task *task, void *ctx)
{
    struct outcome *o = ctx;

    o->ended = true;
    o->ok = task_ok(task);
    o->killed = task_killed(task);
    o->task = NULL;
}

/* The script goes on until its first wait; false: no memory even to start it. */
static inline bool rig_begin(struct outcome *o, const char *script)
{
    struct task_plan plan = {
        .name = "test", .finish = rig_finish, .on_end = rig_on_end, .ctx = o
    };

    memset(o, 0, sizeof *o);
    o->task = task_new(rig.vm, &plan);
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

static inline void rig_turn(void) { uv_run(&rig.loop, UV_RUN_ONCE); }

static inline struct outcome *rig_run(const char *script)
{
    struct outcome *o = &rig.outcomes[OUTCOMES_MAX - 1];

    if (!rig_begin(o, script)) fail_msg("%s", o->result);
    while (!o->ended) rig_turn();
    return o;
}

static inline void rig_returns(const char *script, const char *expected)
{
    struct outcome *o = rig_run(script);

    if (!o->ok) fail_msg("%s\nfailed: %s", script, o->result);
    assert_string_equal(o->result, expected);
}

static inline void rig_raises(const char *script, const char *part)
{
    struct outcome *o = rig_run(script);

    if (o->ok) fail_msg("%s\ndid not raise but returned %s", script, o->result);
    if (strstr(o->result, part) == NULL)
        fail_msg("%s\nexpected: %s\ngot: %s", script, part, o->result);
}

/* ---- life ------------------------------------------------------------------------ */

static inline void rig_before_wait(uv_prepare_t *handle)
{
    (void)handle;
    if (!rig.hold) task_run_ready(&rig.env);
    if (rig.env.redis != NULL) redis_flush(rig.env.redis);
}

static inline void rig_tick(uv_timer_t *timer) { (void)timer; }

static inline int rig_start(void **state)
{
    const int64_t ms = 1000000;

    (void)state;
    signal(SIGPIPE, SIG_IGN);
    alarm(GIVE_UP_S);
    log_setup(LOG_OFF, LOG_KEY_VALUE, "test");
    memset(&rig, 0, sizeof rig);
    rig.live = mem_live();
    uv_loop_init(&rig.loop);
    uv_prepare_init(&rig.loop, &rig.before_wait);
    uv_prepare_start(&rig.before_wait, rig_before_wait);
    uv_timer_init(&rig.loop, &rig.tick);
    uv_timer_start(&rig.tick, rig_tick, 10, 10);
    rig.env.loop = &rig.loop;
    rig.env.limits = (struct script_limits){ .stretch_ns = clock_scaled(2000) * ms,
                                             .request_ns = clock_scaled(20000) * ms,
                                             .vm_memory = 128 << 20,
                                             .task_memory = 16 << 20 };
    rig.vm = vm_new(&rig.env, NULL, 1);
    if (rig.vm == NULL) return -1;
    rig.vm->baseline = rig.vm->used;
    rig.env.current = rig.vm;
    return budget_start() ? 0 : -1;
}

/* The test has ended what it added to the environment.  Nothing may be left. */
static inline int rig_stop(void **state)
{
    (void)state;
    uv_close((uv_handle_t *)&rig.before_wait, NULL);
    uv_close((uv_handle_t *)&rig.tick, NULL);
    uv_run(&rig.loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&rig.loop), 0);
    assert_int_equal(mem_live(), rig.live);
    budget_stop();
    alarm(0);
    return 0;
}

#endif
