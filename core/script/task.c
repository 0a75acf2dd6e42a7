#include "script/task.h"

#include <assert.h>
#include <lauxlib.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "script/budget.h"
#include "script/vm.h"

enum task_state { NEW, RUNNING, WAITING, READY, ENDED };

/* One turn of the loop gives tasks so much time, then it looks at its sockets again. */
enum { TURN_NS = 10 * 1000 * 1000 };

/* A task's parts (all, spawn) that may be under way at a time, parts of parts included. */
enum { PARTS_MAX = 256 };

/* What a task and its parts have used together; the last of them frees it. */
struct purse {
    int64_t cpu_ns;
    int holders;
};

struct task {
    struct list_node node;  /* vm->tasks */
    struct list_node ready; /* env->ready */
    struct vm *vm;
    struct task_plan plan;
    enum task_state state;
    struct vm_coroutine co;
    int arguments; /* of the first resume */

    uint32_t ticket;
    const char *wait_name;
    void (*cancel)(void *ctx);
    void *cancel_ctx;

    enum task_kill killed;
    char killed_message[240];
    bool ok;

    int64_t cpu_ns, began_ms;
    struct purse *purse;    /* NULL: it has no parts */
    size_t memory, charged; /* Lua heap, outside of it */
    char fault_at
        [100]; /* "file:line" where Lua last got no memory, or a value was raised */
    struct task_identity identity;
    struct pg_transaction *transaction;
};

static const char *const kill_texts[] = {
    [TASK_ALIVE] = "",
    [TASK_KILLED_CPU] =
        "the script used up its CPU time (SCRIPT_CPU, SCRIPT_REQUEST_CPU)",
    [TASK_KILLED_MEMORY] = "the script used up its memory (SCRIPT_TASK_MEMORY)",
    [TASK_KILLED_GONE] = "the client is gone",
    [TASK_KILLED_SHUTDOWN] = "the server is stopping",
    [TASK_KILLED_RELOAD] = "the script was replaced",
    [TASK_KILLED_LATE] = "the request took too long (REQUEST_TIMEOUT)",
};

/* ---- coroutines --------------------------------------------------------------- */

static int make_coroutine(lua_State *L)
{
    struct vm_coroutine *co = lua_touserdata(L, 1);

    co->L = lua_newthread(L);
    co->ref = luaL_ref(L, LUA_REGISTRYINDEX);
    return 0;
}

static bool take_coroutine(struct vm *vm, struct vm_coroutine *co)
{
    if (vm->pool_count > 0) {
        *co = vm->pool[--vm->pool_count];
        return true;
    }
    lua_pushcfunction(vm->L, make_coroutine);
    lua_pushlightuserdata(vm->L, co);
    if (lua_pcall(vm->L, 1, 0, 0) == LUA_OK) return true;
    lua_pop(vm->L, 1);
    return false;
}

/* One that died is dropped: 5.4.4 leaves hooks off in it. */
static void return_coroutine(struct vm *vm, struct vm_coroutine co, bool reusable)
{
    lua_sethook(co.L, NULL, 0, 0);
    if (reusable && vm->pool_count < VM_COROUTINES_MAX && !vm->retired) {
        lua_settop(co.L, 0);
        vm->pool[vm->pool_count++] = co;
        return;
    }
    luaL_unref(vm->L, LUA_REGISTRYINDEX, co.ref);
}

/* ---- kills ------------------------------------------------------------------------ */

static void mark_killed(struct task *task, enum task_kill why)
{
    if (task->killed != TASK_ALIVE) return;
    task->killed = why;
    snprintf(task->killed_message, sizeof task->killed_message, "%s", kill_texts[why]);
}

/* "file:line" of the innermost script function; "" outside of any. */
static void write_place(char *out, size_t size, lua_State *L)
{
    lua_Debug frame;

    *out = '\0';
    for (int level = 0; lua_getstack(L, level, &frame); level++) {
        lua_getinfo(L, "Sl", &frame);
        if (frame.currentline <= 0) continue;
        snprintf(out, size, "%s:%d", frame.short_src, frame.currentline);
        return;
    }
}

static void mark_killed_at(struct task *task, enum task_kill why, const char *place)
{
    if (task->killed != TASK_ALIVE) return;
    mark_killed(task, why);
    if (*place != '\0')
        snprintf(task->killed_message, sizeof task->killed_message, "%s: %s", place,
                 kill_texts[why]);
}

static void mark_killed_in(struct task *task, enum task_kill why, lua_State *L)
{
    char place[sizeof task->fault_at];

    write_place(place, sizeof place, L);
    mark_killed_at(task, why, place);
}

void task_memory_refused(struct task *task, lua_State *L)
{
    write_place(task->fault_at, sizeof task->fault_at, L);
}

static int raise_killed(lua_State *L, const struct task *task)
{
    lua_pushstring(L, task == NULL ? "the scripts took too long to load"
                                   : task->killed_message);
    return lua_error(L);
}

/* ---- memory ----------------------------------------------------------------------- */

static struct task *task_of(struct list_node *node)
{
    return LIST_ENTRY(node, struct task, node);
}

/* The estimates hold garbage too; after a collection they must not add up to more than
 * what is held. */
static void scale_estimates(struct vm *vm, size_t held)
{
    size_t sum = 0;

    for (struct list_node *n = vm->tasks.first; n != NULL; n = n->next)
        sum += task_of(n)->memory;
    if (sum <= held) return;
    for (struct list_node *n = vm->tasks.first; n != NULL; n = n->next) {
        double share = (double)task_of(n)->memory / (double)sum;

        task_of(n)->memory = (size_t)(share * (double)held);
    }
}

static size_t pressure_at(const struct vm *vm)
{
    return vm->cap == SIZE_MAX ? SIZE_MAX : vm->cap - vm->cap / 4;
}

/* Before the generation runs out of memory, and innocent tasks fail, the one that holds
 * most of it ends.  NULL: none holds much. */
static struct task *greediest(struct vm *vm)
{
    struct task *most = NULL;
    size_t least = vm->env->limits.task_memory / 4;

    for (struct list_node *n = vm->tasks.first; n != NULL; n = n->next) {
        struct task *task = task_of(n);

        if (task->killed == TASK_KILLED_MEMORY)
            return NULL; /* its memory is on its way */
        if (task->killed != TASK_ALIVE || task->plan.unlimited || task->memory < least)
            continue;
        if (most == NULL || task->memory > most->memory) most = task;
    }
    return most;
}

static size_t memory_interrupt_at(const struct task *task)
{
    const struct vm *vm = task->vm;
    size_t share = vm->env->limits.task_memory, held = task->memory + task->charged;
    size_t own, pressure = pressure_at(vm);

    if (share == 0 || task->plan.unlimited) return SIZE_MAX;
    own = vm->used + (held < share ? share - held : 0);
    if (vm->used >= pressure) pressure = vm->used + share / 4;
    return own < pressure ? own : pressure;
}

static void account(struct task *task)
{
    struct vm *vm = task->vm;

    if (vm->used >= vm->used_before) task->memory += vm->used - vm->used_before;
    else if (vm->used_before - vm->used < task->memory)
        task->memory -= vm->used_before - vm->used;
    else task->memory = 0;
    vm->used_before = vm->used;
}

/* The running task is over its share, or the generation is short of memory: garbage
 * does not count, so collect before judging. */
static bool memory_over(struct task *task, lua_State *L)
{
    struct vm *vm = task->vm;
    struct task *most;

    lua_gc(L, LUA_GCCOLLECT);
    account(task);
    scale_estimates(vm, vm->used > vm->baseline ? vm->used - vm->baseline : 0);
    if (task->memory + task->charged > vm->env->limits.task_memory) return true;
    if (vm->used >= pressure_at(vm)) {
        most = greediest(vm);
        if (most == task) return true;
        if (most != NULL) task_kill(most, TASK_KILLED_MEMORY);
    }
    vm->interrupt_at = memory_interrupt_at(task);
    return false;
}

static void on_expired(lua_State *L, lua_Debug *at)
{
    struct task *task = vm_of(L)->running;

    (void)at;
    assert(task != NULL);
    if (task->killed == TASK_ALIVE) {
        if (budget_used_up()) {
            mark_killed_in(task, TASK_KILLED_CPU, L);
        } else {
            lua_sethook(L, NULL, 0, 0);
            if (!memory_over(task, L)) return;
            mark_killed_in(task, TASK_KILLED_MEMORY, L);
            budget_interrupt();
        }
    }
    raise_killed(L, task);
}

void task_kill(struct task *task, enum task_kill why)
{
    if (task->killed != TASK_ALIVE || task->state == ENDED) return;
    if (task->state == WAITING) mark_killed_in(task, why, task->co.L);
    else mark_killed(task, why);
    if (task->state == RUNNING) budget_interrupt();
    if (task->state != WAITING) return;
    task->cancel(task->cancel_ctx);
    task_wake(task, task->ticket);
}

/* ---- waits ------------------------------------------------------------------------ */

/* The name of the C function that stands between the task's script and us. */
static const char *blocker(lua_State *L)
{
    lua_Debug frame;

    for (int level = 1; lua_getstack(L, level, &frame); level++) {
        lua_getinfo(L, "Sn", &frame);
        if (*frame.what == 'C' && frame.name != NULL) return frame.name;
    }
    return "a C function";
}

struct task *task_may_wait(lua_State *L, const char *name)
{
    struct task *task = vm_of(L)->running;

    if (task == NULL) {
        luaL_error(L,
                   "%s cannot wait while scripts load; call it in a handler, or in "
                   "every() or spawn()",
                   name);
        return NULL;
    }
    if (task->killed != TASK_ALIVE) raise_killed(L, task);
    if (L != task->co.L)
        luaL_error(L,
                   "%s cannot wait inside a coroutine of your own; use all() or spawn()",
                   name);
    if (!lua_isyieldable(L))
        luaL_error(L, "%s cannot wait inside %s; collect first", name, blocker(L));
    return task;
}

struct task *task_current(lua_State *L) { return vm_of(L)->running; }

uint32_t task_await(struct task *task, const char *name, void (*cancel)(void *ctx),
                    void *ctx)
{
    assert(task->state == RUNNING);
    task->state = WAITING;
    task->wait_name = name;
    task->cancel = cancel;
    task->cancel_ctx = ctx;
    return ++task->ticket;
}

void task_wake(struct task *task, uint32_t ticket)
{
    if (task->ticket != ticket || task->state != WAITING) return;
    task->state = READY;
    task->wait_name = NULL;
    task->cancel = NULL;
    list_append(&task->vm->env->ready, &task->ready);
}

void task_resumed(lua_State *L)
{
    struct vm *vm = vm_of(L);

    if (vm->running == NULL ? vm->load_killed : vm->running->killed != TASK_ALIVE)
        raise_killed(L, vm->running);
}

bool task_is_killed(lua_State *L)
{
    struct vm *vm = vm_of(L);

    return vm->running == NULL ? vm->load_killed : vm->running->killed != TASK_ALIVE;
}

bool task_owns(lua_State *L)
{
    struct task *task = vm_of(L)->running;

    return task != NULL && task->co.L == L;
}

bool task_charge(struct task *task, size_t bytes)
{
    size_t share = task->vm->env->limits.task_memory;

    task->charged += bytes;
    if (share == 0 || task->plan.unlimited || task->charged <= share) return true;
    mark_killed_in(task, TASK_KILLED_MEMORY, task->co.L);
    if (task->state == RUNNING) budget_interrupt();
    return false;
}

/* ---- the body ----------------------------------------------------------------------- */

/* Message handler: a string gets its traceback, other values stay what they are, and the
 * task knows where they were raised. */
static int explain(lua_State *L)
{
    struct task *task = vm_of(L)->running;

    if (task_is_killed(L)) return 1;
    write_place(task->fault_at, sizeof task->fault_at, L);
    if (lua_type(L, 1) != LUA_TSTRING) return 1;
    luaL_traceback(L, L, lua_tostring(L, 1), 1);
    return 1;
}

/* [1] explain, [2..] the results or the error */
static int body_finish(lua_State *L, int status, lua_KContext ctx)
{
    struct task *task = vm_of(L)->running;
    int count = lua_gettop(L) - 1;

    (void)ctx;
    if (status == LUA_ERRMEM) mark_killed_at(task, TASK_KILLED_MEMORY, task->fault_at);
    task->ok = status == LUA_OK || status == LUA_YIELD;
    if (task->killed != TASK_ALIVE || task->plan.finish == NULL) return 0;
    lua_pushcfunction(L, task->plan.finish);
    lua_pushboolean(L, task->ok);
    lua_rotate(L, 2, 2);
    if (lua_pcall(L, count + 1, 0, 0) != LUA_OK) {
        task->ok = false;
        log_error("task could not finish", log_text("request", task_request_id(task)),
                  log_text("task", task->plan.name),
                  log_text("error", luaL_tolstring(L, -1, NULL)));
    }
    return 0;
}

/* Every task's body: nothing escapes it, so the coroutine stays usable. */
static int body(lua_State *L)
{
    int arguments = lua_gettop(L) - 1;

    if (vm_of(L)->running->killed != TASK_ALIVE) return 0; /* before its first turn */
    lua_pushcfunction(L, explain);
    lua_insert(L, 1);
    return body_finish(L, lua_pcallk(L, arguments, LUA_MULTRET, 1, 0, body_finish), 0);
}

/* ---- life ----------------------------------------------------------------------------- */

struct task *task_new(struct vm *vm, const struct task_plan *plan)
{
    struct task *task = mem_get_clear(sizeof *task);

    if (task == NULL) return NULL;
    task->vm = vm;
    task->plan = *plan;
    task->began_ms = clock_ms();
    if (!take_coroutine(vm, &task->co)) {
        mem_free(task);
        return NULL;
    }
    lua_pushcfunction(task->co.L, body);
    list_append(&vm->tasks, &task->node);
    vm->env->tasks_live++;
    return task;
}

bool task_share(struct task *task, struct task *part)
{
    if (task->purse == NULL) {
        task->purse = mem_get(sizeof *task->purse);
        if (task->purse == NULL) return false;
        *task->purse = (struct purse){ task->cpu_ns, 1 };
    }
    part->purse = task->purse;
    part->purse->holders++;
    return true;
}

bool task_has_room(const struct task *task, int parts)
{
    return task->purse == NULL || task->purse->holders + parts <= PARTS_MAX;
}

void task_inherit_kill(struct task *task, const struct task *part)
{
    if (part->killed != TASK_KILLED_CPU && part->killed != TASK_KILLED_MEMORY) return;
    if (task->killed != TASK_ALIVE) return;
    task->killed = part->killed;
    memcpy(task->killed_message, part->killed_message, sizeof task->killed_message);
}

static void task_end(struct task *task, bool reusable)
{
    struct vm *vm = task->vm;

    task->state = ENDED;
    return_coroutine(vm, task->co, reusable);
    list_remove(&task->node);
    vm->env->tasks_live--;
    if (task->purse != NULL && --task->purse->holders == 0) mem_free(task->purse);
    if (task->plan.on_end != NULL) task->plan.on_end(task, task->plan.ctx);
    mem_free(task);
    if (vm->retired && vm->tasks.count == 0 && vm->on_empty != NULL) vm->on_empty(vm);
}

void task_abandon(struct task *task) { task_end(task, false); }

/* Not above 0: the request has used up its time. */
static int64_t stretch_limit(const struct task *task)
{
    const struct script_limits *limits = &task->vm->env->limits;
    int64_t used = task->purse == NULL ? task->cpu_ns : task->purse->cpu_ns, left;

    if (task->plan.unlimited || limits->stretch_ns == 0) return INT64_MAX / 2;
    left = limits->request_ns == 0 ? limits->stretch_ns : limits->request_ns - used;
    return left < limits->stretch_ns ? left : limits->stretch_ns;
}

#ifdef OMADE_HOSTILE
enum { HOSTILE = 1 };
#else
enum { HOSTILE = 0 };
#endif

/* The only resume of a task. */
static void resume(struct task *task, int arguments)
{
    struct vm *vm = task->vm;
    lua_State *co = task->co.L;
    int64_t limit = stretch_limit(task), took;
    int results = 0, status;

    assert(vm->running == NULL);
    if (limit <= 0) mark_killed_in(task, TASK_KILLED_CPU, co);
    task->state = RUNNING;
    vm->running = task;
    vm->used_before = vm->used;
    vm->interrupt_at = memory_interrupt_at(task);
    budget_enter(co, limit > 0 ? limit : 1, on_expired);
    status = lua_resume(co, NULL, arguments, &results);
    took = budget_leave();
    task->cpu_ns += took;
    if (task->purse != NULL) task->purse->cpu_ns += took;
    vm->interrupt_at = SIZE_MAX;
    vm->running = NULL;
    account(task);
    if (HOSTILE) lua_gc(vm->L, LUA_GCCOLLECT);
    if (status == LUA_YIELD) {
        assert(task->state == WAITING || task->state == READY);
        if (task->killed != TASK_ALIVE && task->state == WAITING) {
            task->cancel(task->cancel_ctx);
            task_wake(task, task->ticket);
        }
        return;
    }
    if (status != LUA_OK) {
        task->ok = false;
        log_error("task ended outside of its body",
                  log_text("request", task_request_id(task)),
                  log_text("task", task->plan.name),
                  log_text("error", lua_type(co, -1) == LUA_TSTRING ? lua_tostring(co, -1)
                                                                    : "(no text)"));
    }
    task_end(task, status == LUA_OK);
}

void task_start(struct task *task, int arguments)
{
    assert(task->state == NEW);
    resume(task, arguments + 1);
}

void task_start_later(struct task *task, int arguments)
{
    assert(task->state == NEW);
    task->arguments = arguments + 1;
    task->state = READY;
    list_append(&task->vm->env->ready, &task->ready);
}

void task_run_ready(struct script_env *env)
{
    int64_t until = clock_ns() + TURN_NS;
    struct task *task;

    while ((task = LIST_ENTRY(list_take(&env->ready), struct task, ready)) != NULL) {
        int arguments = task->arguments;

        task->arguments = 0;
        resume(task, arguments);
        if (env->ready.count > 0 && clock_ns() > until) return;
    }
}

/* ---- questions -------------------------------------------------------------------------- */

lua_State *task_lua(const struct task *task) { return task->co.L; }
struct task_identity *task_identity(struct task *task) { return &task->identity; }
struct pg_transaction *task_transaction(const struct task *task)
{
    return task->transaction;
}

void task_set_transaction(struct task *task, struct pg_transaction *transaction)
{
    task->transaction = transaction;
}

struct vm *task_vm(const struct task *task) { return task->vm; }
enum task_kill task_killed(const struct task *task) { return task->killed; }
const char *task_killed_message(const struct task *task) { return task->killed_message; }
bool task_ok(const struct task *task) { return task->ok && task->killed == TASK_ALIVE; }
void *task_context(const struct task *task) { return task->plan.ctx; }
bool task_is_of(const struct task *task, void (*on_end)(struct task *task, void *ctx))
{
    return task->plan.on_end == on_end;
}

const char *task_raised_at(const struct task *task) { return task->fault_at; }

const char *task_waits_for(const struct task *task) { return task->wait_name; }
void task_push_traceback(lua_State *L, const struct task *task)
{
    luaL_traceback(L, task->co.L, NULL, 0);
}

const char *task_name(const struct task *task) { return task->plan.name; }
int64_t task_age_ms(const struct task *task) { return clock_ms() - task->began_ms; }

const char *task_request_id(const struct task *task)
{
    return task->plan.request_id == NULL ? "-" : task->plan.request_id;
}

bool task_is_background(const struct task *task) { return task->plan.request_id == NULL; }

struct task *task_of_node(struct list_node *node) { return task_of(node); }
