/* Tasks and their budgets: whatever a script does, its task ends and the next one runs. */
#include "script/task.h"

#include <lauxlib.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "script/bind_tasks.h"
#include "script/bind_time.h"
#include "script/budget.h"
#include "script/vm.h"

enum { CPU_MS = 50, GIVE_UP_S = 600 };

struct fixture {
    uv_loop_t loop;
    struct script_env env;
    struct vm *vm;
};

struct outcome {
    bool ended, ok, finished;
    enum task_kill killed;
    char message[400], result[400];
};

static struct fixture f;

/* ---- running a script -------------------------------------------------------------- */

static int finish(lua_State *L)
{
    struct outcome *o = task_context(task_current(L));

    o->finished = true;
    strncpy(o->result, luaL_tolstring(L, 2, NULL), sizeof o->result - 1);
    return 0;
}

static void on_end(struct task *task, void *ctx)
{
    struct outcome *o = ctx;

    o->ended = true;
    o->ok = task_ok(task);
    o->killed = task_killed(task);
    strncpy(o->message, task_killed_message(task), sizeof o->message - 1);
}

static struct task *start(const char *script, struct outcome *o)
{
    struct task_plan plan = {
        .name = "test", .finish = finish, .on_end = on_end, .ctx = o
    };
    struct task *task = task_new(f.vm, &plan);

    memset(o, 0, sizeof *o);
    assert_non_null(task);
    if (luaL_loadbuffer(task_lua(task), script, strlen(script), "=script") != LUA_OK)
        fail_msg("%s", lua_tostring(task_lua(task), -1));
    task_start(task, 0);
    return task;
}

static void turn_until(struct outcome *o)
{
    while (!o->ended) {
        uv_run(&f.loop, UV_RUN_NOWAIT);
        task_run_ready(&f.env);
    }
}

static struct outcome run(const char *script)
{
    struct outcome o;

    alarm(GIVE_UP_S);
    start(script, &o);
    turn_until(&o);
    alarm(0);
    return o;
}

static void assert_result(const char *script, const char *expected)
{
    struct outcome o = run(script);

    if (!o.ok) fail_msg("%s\nfailed: %s %s", script, o.result, o.message);
    assert_string_equal(o.result, expected);
}

static void set_up_vm(void)
{
    const int64_t ms = 1000000;

    uv_loop_init(&f.loop);
    f.env = (struct script_env){ .loop = &f.loop,
                                 .limits = { .stretch_ns = clock_scaled(CPU_MS) * ms,
                                             .request_ns = clock_scaled(CPU_MS * 4) * ms,
                                             .load_ns = clock_scaled(CPU_MS) * ms,
                                             .vm_memory = 128 << 20,
                                             .task_memory = 16 << 20 } };
    f.vm = vm_new(&f.env, NULL, 1);
    assert_non_null(f.vm);
    f.vm->baseline = f.vm->used;
    f.env.current = f.vm;
}

static int set_up(void **state)
{
    (void)state;
    log_setup(LOG_OFF, LOG_KEY_VALUE, "test");
    set_up_vm();
    return budget_start() ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    assert_int_equal(f.env.tasks_live, 0);
    vm_free(f.vm);
    uv_run(&f.loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&f.loop), 0);
    budget_stop();
    return 0;
}

/* ---- good scripts -------------------------------------------------------------------- */

static void good_scripts_return(void **state)
{
    (void)state;
    assert_result("local s = 0 for i = 1, 1000 do s = s + i end return s", "500500");
    assert_result("return select('#', pcall(error, 'x'))", "2");
    assert_result(
        "local ok, e = xpcall(error, function(m) return m .. '!' end, 'x') return e",
        "x!");
    assert_result(
        "local co = coroutine.wrap(function(a) local b = coroutine.yield(a + 1) "
        "return b * 2 end) co(1) return co(21)",
        "42");
    assert_result(
        "local t = {} for k in pairs(string) do t[#t + 1] = k end return #t > 10",
        "true");
    assert_result("return tostring(io or os or debug or package or dofile or loadfile or "
                  "string.dump)",
                  "nil");
    assert_result("sleep(0.001) return 'slept'", "slept");
    assert_result("return pcall(sleep, 0.001)", "true");
    assert_result("return table.concat({all(function() sleep(0.002) return 'a' end, "
                  "function() return 'b' end)}, ',')",
                  "a,b");
    assert_result(
        "local log = {} do local c <close> = setmetatable({}, {__close = function() "
        "sleep(0.001) log[1] = 'closed' end}) end return log[1]",
        "closed");
}

static void errors_have_their_place(void **state)
{
    struct outcome o = run("local t = nil\nreturn t.x");

    (void)state;
    assert_false(o.ok);
    assert_true(o.finished);
    assert_non_null(strstr(o.result, "script:2:"));
    assert_non_null(strstr(o.result, "stack traceback"));
    o = run("all(function() error('inner') end, function() sleep(10) end)");
    assert_non_null(strstr(o.result, "inner"));
}

static void misuse_says_what_to_do(void **state)
{
    static const struct {
        const char *script, *message;
    } cases[] = {
        { "table.sort({3, 2, 1}, function() sleep(0) end)",
          "sleep cannot wait inside sort; collect first" },
        { "coroutine.wrap(function() sleep(0) end)()", "inside a coroutine of your own" },
        { "x = 1", "'x' is not declared: write 'local x'" },
        { "string.format = nil", "read-only" },
        { "rawset(string, 'format', nil)", "read-only" },
        { "setmetatable({}, {__gc = print})", "__gc is not for scripts" },
        { "setmetatable({}, {__mode = 'k'})", "__mode is not for scripts" },
        { "setmetatable(string, nil)", "protected" },
        { "getmetatable('').__index = nil", "attempt to index a boolean" },
        { "return os.time()", "global 'os'" },
        { "collectgarbage('stop')", "not for scripts" },
        { "assert(load('\\27Lua'))", "attempt to load a binary chunk" },
        { "load(('x'):rep(2000000))", "at most 1 MiB" },
        { "setmetatable({}, {__concat = print})", "__concat is not for scripts" },
        { "coroutine.yield()", "outside a coroutine" },
        { "local m = {} local t = setmetatable({}, m) m.__concat = function() return 'x' end "
          "return 'a' .. t",
          "attempt to concatenate" },
        { "local function f(n) pcall(error) return 1 + f(n + 1) end f(1)",
          "stack overflow" },
        { "local function f() return all(f, f) end f()", "all: more than 250 functions" },
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct outcome o = run(cases[i].script);

        if (o.ok || strstr(o.result, cases[i].message) == NULL)
            fail_msg("%s\nexpected: %s\ngot: %s", cases[i].script, cases[i].message,
                     o.result);
    }
}

static void globals_do_not_leak(void **state)
{
    (void)state;
    run("rawset(_G, 'leak', 1)");
    run("_G.leak = 1");
    run("_ENV.leak = 1");
    assert_result("return tostring(rawget(_G, 'leak')) .. tostring(_G.leak)", "nilnil");
}

/* Nor does a metatable get weak behind setmetatable's back. */
static void tables_stay_strong(void **state)
{
    (void)state;
    assert_result("local m = {} local t = setmetatable({{}, {}}, m) m.__mode = 'kv' "
                  "for i = 1, 100000 do local _ = {} end return #t",
                  "2");
}

/* ---- scripts that never end ------------------------------------------------------------- */

static const char *const endless[] = {
    "while true do end",
    "while true do pcall(function() while true do end end) end",
    "while true do xpcall(error, function() while true do end end) end",
    "local function f() return xpcall(f, f) end f() while true do pcall(f) end",
    "while true do coroutine.resume(coroutine.create(function() while true do end end)) end",
    "local w = coroutine.wrap(function() while true do end end) while true do pcall(w) end",
    "string.gsub('a', 'a', function() while true do pcall(function() while true do end end) end end)",
    "table.sort({3, 2, 1}, function() while true do pcall(function() while true do end end) end end)",
    "local c <close> = setmetatable({}, {__close = function() while true do pcall(function() "
    "while true do end end) end end})",
    "local c <close> = setmetatable({}, {__close = function() while true do end end}) error('x')",
    "local co = coroutine.create(function() local c <close> = setmetatable({}, {__close = "
    "function() while true do end end}) coroutine.yield() end) coroutine.resume(co) "
    "coroutine.close(co)",
    "local t = setmetatable({}, {__index = function() while true do end end}) return t.x",
    "tostring(setmetatable({}, {__tostring = function() while true do end end}))",
    "for _ in setmetatable({}, {__call = function() return 1 end}) do end",
    "while true do pcall(error) end",
    "while true do pcall(string.rep, 'x', 1000000) end",
    "local function f() return f() end f()",
    "local function f() pcall(f) f() end f()",
    "while true do pcall(sleep, 'no number') end",
    "while true do load('while true do end')() end",
    "goto a ::a:: goto a",
    "while true do coroutine.wrap(function() error('x') end)() end",
    "repeat local ok = pcall(coroutine.wrap(function() error('x') end)) until ok",
    "while true do pcall(all, 1) end",
    "while true do pcall(all, function() while true do end end) end",
    "local function f() pcall(f) pcall(f) end f()",
    "local function f() return all(f, f) end f()",
};

static void endless_scripts_end(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(endless); i++) {
        struct outcome o = run(endless[i]);

        if (o.killed != TASK_KILLED_CPU && o.killed != TASK_KILLED_MEMORY && o.ok)
            fail_msg("%s\nwas not ended", endless[i]);
        assert_result("return 1 + 1", "2");
    }
}

static void a_killed_task_names_its_line(void **state)
{
    struct outcome o = run("local x = 1\nwhile true do\n  x = x + 1\nend");

    (void)state;
    assert_int_equal(o.killed, TASK_KILLED_CPU);
    assert_false(o.finished);
    assert_non_null(strstr(o.message, "script:"));
    assert_non_null(strstr(o.message, "CPU"));
}

/* Short stretches count together. */
static void cpu_time_adds_up_over_waits(void **state)
{
    struct outcome o = run("while true do for i = 1, 100000 do end sleep(0) end");

    (void)state;
    assert_int_equal(o.killed, TASK_KILLED_CPU);
}

/* What all() and spawn() start uses the CPU time of who started it. */
static void parts_share_the_budget(void **state)
{
    struct outcome o = run(
        "local n = 0 while true do all(function() for i = 1, 300000 do n = n + i end end) end");

    (void)state;
    assert_int_equal(o.killed, TASK_KILLED_CPU);
    o = run("local function f() spawn(f) end f() return 'begun'");
    assert_true(o.ok);
    while (f.env.tasks_live > 0) {
        uv_run(&f.loop, UV_RUN_NOWAIT);
        task_run_ready(&f.env);
    }
    o = run("all(function() while true do end end, function() sleep(1000) end)");
    assert_int_equal(o.killed, TASK_KILLED_CPU);
    assert_non_null(strstr(o.message, "script:1: "));
}

/* It is CPU time, to 1 ms: neither a pause within the stretch nor one before it counts. */
static void a_stretch_is_cpu_time(void **state)
{
    const int64_t ms = 1000000, limit = INT64_MAX / 2;
    struct timespec pause = { 0, 30 * ms };
    int64_t until;

    (void)state;
    for (int i = 0; i < 3; i++) {
        nanosleep(&pause, NULL);
        budget_enter(f.vm->L, limit, NULL);
        nanosleep(&pause, NULL);
        assert_in_range(budget_leave(), 0, 15 * ms);
        budget_enter(f.vm->L, limit, NULL);
        until = clock_thread_cpu_ns() + 10 * ms;
        while (clock_thread_cpu_ns() < until) continue;
        assert_in_range(budget_leave(), 9 * ms, 20 * ms);
    }
}

/* ---- scripts that want all memory ----------------------------------------------------------- */

static const char *const hungry[] = {
    "local t = {} for i = 1, 1e9 do t[i] = i end",
    "local t = {} for i = 1, 1e9 do t[i] = {} end",
    "local s = 'x' while true do s = s .. s end",
    "local t = {} while true do t[#t + 1] = ('x'):rep(100000) .. #t end",
    "local t = {} while true do pcall(function() t[#t + 1] = ('x'):rep(1000000) .. #t end) end",
    "local function f() return f, f() end f()",
    "local function f(...) return f(1, ...) end f()",
    "local t = {} while true do t = {t, t, t} t[4] = ('y'):rep(1000) .. tostring(t) end",
    "local t = {} while true do t[#t + 1] = coroutine.create(function() end) end",
    "string.rep('x', 1 << 40)",
    "local t = {} for i = 1, 1e8 do t[i] = function() return t end end",
    "local t = {} while true do t[#t + 1] = ('z'):rep(10000):upper():reverse() .. #t sleep(0) end",
};

static void hungry_scripts_end(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(hungry); i++) {
        struct outcome o = run(hungry[i]);

        if (o.ok) fail_msg("%s\nwas not ended", hungry[i]);
        assert_result("return #('x'):rep(1000)", "1000");
        assert_true(f.vm->used < f.vm->cap);
    }
}

static void garbage_is_no_crime(void **state)
{
    (void)state;
    assert_result(
        "local n = 0 for i = 1, 300 do n = n + #('x'):rep(200000) sleep(0) end return n",
        "60000000");
}

/* A neighbour's appetite does not end a modest task. */
static void the_hungry_one_is_ended(void **state)
{
    struct outcome modest, hungry_one;

    (void)state;
    start(
        "local t = {} for i = 1, 1000 do t[i] = i end sleep(0.05) for i = 1, 1000 do t[i] = {} end "
        "return #t",
        &modest);
    start("local t = {} for i = 1, 1e9 do t[i] = {} end", &hungry_one);
    turn_until(&modest);
    turn_until(&hungry_one);
    assert_true(modest.ok);
    assert_false(hungry_one.ok);
}

/* Before the generation's memory is used up, the task that holds most of it ends, not the
 * one that happens to ask. */
static void short_of_memory_the_greediest_ends(void **state)
{
    enum { OTHERS = 4 };
    struct outcome others[OTHERS], greedy, last;

    (void)state;
    alarm(GIVE_UP_S);
    f.vm->cap = f.vm->used + (40 << 20);
    start("local t = {} for i = 1, 14 do t[i] = ('x'):rep(1000000) .. i end sleep(1000)",
          &greedy);
    for (int i = 0; i < OTHERS; i++)
        start(
            "local t = {} for i = 1, 5 do t[i] = ('x'):rep(1000000) .. i end sleep(0.05) "
            "return #t",
            &others[i]);
    start("local n = 0 for i = 1, 300 do n = n + #('y'):rep(100000) end return n", &last);
    turn_until(&greedy);
    assert_int_equal(greedy.killed, TASK_KILLED_MEMORY);
    for (int i = 0; i < OTHERS; i++) {
        turn_until(&others[i]);
        assert_true(others[i].ok);
    }
    turn_until(&last);
    assert_true(last.ok);
    alarm(0);
}

/* ---- kills from outside ---------------------------------------------------------------------- */

static void a_waiting_task_can_be_killed(void **state)
{
    struct outcome o;
    struct task *task = start("local ok = pcall(sleep, 1000) return 'went on'", &o);

    (void)state;
    assert_string_equal(task_waits_for(task), "sleep");
    task_kill(task, TASK_KILLED_GONE);
    task_kill(task, TASK_KILLED_CPU);
    turn_until(&o);
    assert_int_equal(o.killed, TASK_KILLED_GONE);
    assert_false(o.finished);

    task =
        start("all(function() sleep(1000) end, function() pcall(sleep, 1000) end)", &o);
    task_run_ready(&f.env);
    task_kill(task, TASK_KILLED_SHUTDOWN);
    turn_until(&o);
    while (f.env.tasks_live > 0) task_run_ready(&f.env);
    assert_int_equal(o.killed, TASK_KILLED_SHUTDOWN);

    task = start(
        "local c <close> = setmetatable({}, {__close = function() sleep(1000) end}) "
        "sleep(1000)",
        &o);
    task_kill(task, TASK_KILLED_GONE);
    turn_until(&o);
    assert_int_equal(o.killed, TASK_KILLED_GONE);
}

static void spawned_tasks_run_and_are_bounded(void **state)
{
    (void)state;
    assert_result("local n = 0 for i = 1, 100 do spawn(function() n = n + 1 end) end "
                  "while n < 100 do sleep(0.001) end return n",
                  "100");
    assert_result(
        "local ok, e for i = 1, 2000 do ok, e = pcall(spawn, function() sleep(0.05) end) "
        "if not ok then break end end return e",
        "spawn: more than 250 functions of one request at a time");
    while (f.env.tasks_live > 0) {
        uv_run(&f.loop, UV_RUN_ONCE);
        task_run_ready(&f.env);
    }
}

/* ---- no memory ---------------------------------------------------------------------------------- */

static void every_allocation_may_fail(void **state)
{
    struct task_plan plan = { .name = "test", .finish = finish, .on_end = on_end };
    long failed = 0;

    (void)state;
    for (long n = 0; n < 3000; n++) {
        struct outcome o = { 0 };
        static const char script[] =
            "local t = {} for i = 1, 20 do t[i] = {tostring(i)} end "
            "local ok, a = pcall(all, function() sleep(0) return 1 end) "
            "return #t";

        plan.ctx = &o;
        mem_fail_after(n);
        struct task *task = task_new(f.vm, &plan);
        if (task != NULL && luaL_loadbuffer(task_lua(task), script, sizeof script - 1,
                                            "=script") == LUA_OK) {
            task_start(task, 0);
            turn_until(&o);
        } else if (task != NULL) {
            task_abandon(task);
        }
        while (f.env.tasks_live > 0) {
            uv_run(&f.loop, UV_RUN_NOWAIT);
            task_run_ready(&f.env);
        }
        failed += mem_failed();
        int happened = mem_failed();
        mem_fail_after(-1);
        if (!happened) break;
    }
    assert_true(failed > 20);
    assert_result("return 'alive'", "alive");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(good_scripts_return, set_up, tear_down),
        cmocka_unit_test_setup_teardown(errors_have_their_place, set_up, tear_down),
        cmocka_unit_test_setup_teardown(misuse_says_what_to_do, set_up, tear_down),
        cmocka_unit_test_setup_teardown(globals_do_not_leak, set_up, tear_down),
        cmocka_unit_test_setup_teardown(tables_stay_strong, set_up, tear_down),
        cmocka_unit_test_setup_teardown(endless_scripts_end, set_up, tear_down),
        cmocka_unit_test_setup_teardown(parts_share_the_budget, set_up, tear_down),
        cmocka_unit_test_setup_teardown(short_of_memory_the_greediest_ends, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_killed_task_names_its_line, set_up, tear_down),
        cmocka_unit_test_setup_teardown(cpu_time_adds_up_over_waits, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_stretch_is_cpu_time, set_up, tear_down),
        cmocka_unit_test_setup_teardown(hungry_scripts_end, set_up, tear_down),
        cmocka_unit_test_setup_teardown(garbage_is_no_crime, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_hungry_one_is_ended, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_waiting_task_can_be_killed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(spawned_tasks_run_and_are_bounded, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(every_allocation_may_fail, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
