#include "script/bind_tasks.h"

#include <lauxlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "script/fail.h"
#include "script/task.h"

enum { CHILDREN_MAX = 64, SPAWNED_MAX = 1000 };

/* ---- all: functions side by side ------------------------------------------------- */

/* A userdata on the parent's stack.  Children store their result (or error) in its
 * user value, a table, under their number. */
struct group {
    struct task *parent; /* NULL: it does not wait any more */
    uint32_t ticket;
    int left, count;
    int failed; /* number of the first child that failed; 0: none */
    lua_State *L;
    int ref;       /* keeps the group alive while children run */
    bool ref_kept; /* while they are started: not yet to be released */
    struct task *children[CHILDREN_MAX];
};

struct child {
    struct group *group;
    int number;
};

static void group_release(struct group *group)
{
    luaL_unref(group->L, LUA_REGISTRYINDEX, group->ref);
}

static void kill_children(struct group *group)
{
    for (int i = 0; i < group->count; i++)
        if (group->children[i] != NULL) task_kill(group->children[i], TASK_KILLED_GONE);
}

/* In the child's coroutine: true, results | false, error. */
static int child_finish(lua_State *L)
{
    struct child *child = task_context(task_current(L));
    struct group *group = child->group;
    bool ok = lua_toboolean(L, 1);

    lua_settop(L, 2);
    lua_rawgeti(L, LUA_REGISTRYINDEX, group->ref);
    lua_getiuservalue(L, -1, 1);
    lua_pushvalue(L, 2);
    lua_rawseti(L, -2, child->number);
    if (!ok && group->failed == 0) group->failed = child->number;
    return 0;
}

static void child_end(struct task *task, void *ctx)
{
    struct child *child = ctx;
    struct group *group = child->group;

    group->children[child->number - 1] = NULL;
    if (!task_ok(task) && group->failed == 0) group->failed = child->number;
    if (group->parent != NULL) task_inherit_kill(group->parent, task);
    mem_free(child);
    group->left--;
    if (group->failed != 0) kill_children(group);
    if (group->left > 0 || group->ref_kept) return;
    if (group->parent != NULL) task_wake(group->parent, group->ticket);
    group_release(group);
}

static bool start_child(lua_State *L, struct group *group, int number)
{
    struct task_plan plan = {
        .name = "all",
        .request_id = task_request_id(group->parent),
        .finish = child_finish,
        .on_end = child_end,
    };
    struct child *child = mem_get(sizeof *child);
    struct task *task;

    if (child == NULL) return false;
    *child = (struct child){ group, number };
    plan.ctx = child;
    task = task_new(vm_of(L), &plan);
    if (task == NULL) {
        mem_free(child);
        return false;
    }
    if (!task_share(group->parent, task)) {
        group->left++; /* child_end takes it back, and the child */
        group->ref_kept = true;
        task_abandon(task);
        group->ref_kept = false;
        return false;
    }
    *task_identity(task) = *task_identity(group->parent);
    group->children[number - 1] = task;
    lua_pushvalue(L, number);
    lua_xmove(L, task_lua(task), 1);
    task_start_later(task, 0);
    return true;
}

static void all_cancel(void *ctx)
{
    struct group *group = ctx;

    group->parent = NULL;
    kill_children(group);
}

static int all_finish(lua_State *L, int status, lua_KContext ctx)
{
    struct group *group = (struct group *)ctx;
    int results;

    (void)status;
    group->parent = NULL;
    task_resumed(L);
    lua_getiuservalue(L, -1, 1);
    results = lua_gettop(L);
    if (group->failed != 0) {
        if (lua_rawgeti(L, results, group->failed) == LUA_TNIL)
            return luaL_error(L,
                              "all: function %d was ended: too much CPU time or memory",
                              group->failed);
        return lua_error(L);
    }
    luaL_checkstack(L, group->count, "too many results");
    for (int i = 1; i <= group->count; i++) lua_rawgeti(L, results, i);
    return group->count;
}

static void check_room(lua_State *L, const struct task *task, const char *name, int parts)
{
    if (!task_has_room(task, parts))
        luaL_error(L, "%s: more than 250 functions of one request at a time", name);
}

/* all(fn, fn, ...): their first results, in order; the first error, and the others are
 * ended. */
int tasks_all(lua_State *L)
{
    struct task *parent = task_may_wait(L, "all");
    int count = lua_gettop(L);
    struct group *group;

    luaL_argcheck(L, count >= 1 && count <= CHILDREN_MAX, 1, "1 to 64 functions");
    for (int i = 1; i <= count; i++) luaL_checktype(L, i, LUA_TFUNCTION);
    check_room(L, parent, "all", count);
    group = lua_newuserdatauv(L, sizeof *group, 1);
    memset(group, 0, sizeof *group);
    group->parent = parent;
    group->count = count;
    group->L = vm_of(L)->L;
    lua_newtable(L);
    lua_setiuservalue(L, -2, 1);
    lua_pushvalue(L, -1);
    group->ref = luaL_ref(L, LUA_REGISTRYINDEX);
    for (int i = 1; i <= count; i++) {
        if (start_child(L, group, i)) {
            group->left++;
            continue;
        }
        group->parent = NULL;
        kill_children(group);
        if (group->left == 0) group_release(group);
        return luaL_error(L, "not enough memory");
    }
    group->ticket = task_await(parent, "all", all_cancel, group);
    return lua_yieldk(L, 0, (lua_KContext)group, all_finish);
}

/* ---- spawn ------------------------------------------------------------------------- */

static int background_finish(lua_State *L)
{
    if (lua_toboolean(L, 1)) return 0;
    size_t n;
    const char *text = luaL_tolstring(L, 2, &n);
    log_error("background task failed", log_text("task", task_name(task_current(L))),
              log_text("at", task_raised_at(task_current(L))),
              log_slice("error", (struct slice){ text, n }));
    return 0;
}

static void background_end(struct task *task, void *ctx)
{
    (void)ctx;
    if (task_killed(task) != TASK_ALIVE)
        log_warn("background task ended", log_text("task", task_name(task)),
                 log_text("reason", task_killed_message(task)));
}

static void spawn_end(struct task *task, void *ctx)
{
    background_end(task, NULL);
    ((struct script_env *)ctx)->spawned--;
}

/* spawn(fn): runs it beside the request, within the request's CPU time, and logs its
 * error. */
int tasks_spawn(lua_State *L)
{
    struct task_plan plan = {
        .name = "spawn",
        .finish = background_finish,
        .on_end = spawn_end,
        .ctx = vm_of(L)->env,
    };
    struct vm *vm = vm_of(L);
    struct task *task, *parent = task_current(L);

    luaL_checktype(L, 1, LUA_TFUNCTION);
    if (parent == NULL)
        return luaL_error(L, "spawn is for handlers and tasks; at load, use every()");
    check_room(L, parent, "spawn", 1);
    if (vm->env->spawned >= SPAWNED_MAX) {
        fail_push(L, 503, "UNAVAILABLE", "The server is busy; try again later",
                  "too many spawned tasks (1,000)");
        return lua_error(L);
    }
    task = task_new(vm, &plan);
    if (task == NULL) return luaL_error(L, "not enough memory");
    vm->env->spawned++;
    if (!task_share(parent, task)) {
        task_abandon(task);
        return luaL_error(L, "not enough memory");
    }
    lua_pushvalue(L, 1);
    lua_xmove(L, task_lua(task), 1);
    task_start_later(task, 0);
    return 0;
}

/* ---- every: declared while scripts load ---------------------------------------------- */

static const char JOBS[] = "omade.jobs"; /* registry: name -> {seconds, fn, where} */

struct job {
    struct list_node node; /* env->jobs */
    uv_timer_t timer;
    struct script_env *env;
    char *name;
    uint64_t ms;
    bool cluster, running, declared;
};

/* every(seconds, name, fn [, {where = "cluster" | "worker"}]) */
int tasks_every(lua_State *L)
{
    static const char *const places[] = { "cluster", "worker", NULL };
    double seconds = luaL_checknumber(L, 1);

    luaL_argcheck(L, seconds >= 0.05 && seconds <= 86400 * 31, 1,
                  "0.05 seconds to 31 days");
    luaL_checkstring(L, 2);
    luaL_checktype(L, 3, LUA_TFUNCTION);
    if (!vm_of(L)->loading)
        return luaL_error(L, "every() stands at the top of a file, not in a handler");
    lua_settop(L, 4);
    if (lua_istable(L, 4)) lua_getfield(L, 4, "where");
    else lua_pushnil(L);
    luaL_checkoption(L, 5, "cluster", places);
    luaL_getsubtable(L, LUA_REGISTRYINDEX, JOBS);
    lua_pushvalue(L, 2);
    if (lua_rawget(L, -2) != LUA_TNIL)
        return luaL_error(L, "every: there is a job '%s' already", lua_tostring(L, 2));
    lua_pop(L, 1);
    lua_createtable(L, 3, 0);
    lua_pushvalue(L, 1);
    lua_rawseti(L, -2, 1);
    lua_pushvalue(L, 3);
    lua_rawseti(L, -2, 2);
    lua_pushvalue(L, 5);
    lua_rawseti(L, -2, 3);
    lua_pushvalue(L, 2);
    lua_insert(L, -2);
    lua_rawset(L, -3);
    return 0;
}

/* ---- every: running -------------------------------------------------------------------- */

static void job_end(struct task *task, void *ctx)
{
    struct job *job = ctx;

    background_end(task, NULL);
    job->running = false;
}

/* [1] name -> the function to run: for a cluster job, omade.jobs makes sure that it is
 * run once for all. */
static int push_job(lua_State *L)
{
    struct job *job = lua_touserdata(L, 1);

    luaL_getsubtable(L, LUA_REGISTRYINDEX, JOBS);
    if (lua_getfield(L, -1, job->name) != LUA_TTABLE) return luaL_error(L, "no such job");
    lua_rawgeti(L, -1, 2);
    if (!job->cluster) return 1;
    lua_getglobal(L, "require");
    lua_pushliteral(L, "omade.jobs");
    lua_call(L, 1, 1);
    lua_pushvalue(L, -2);
    lua_pushstring(L, job->name);
    lua_pushnumber(L, (lua_Number)job->ms / 1000);
    lua_call(L, 3, 1);
    return 1;
}

static void on_due(uv_timer_t *timer)
{
    struct job *job = timer->data;
    struct vm *vm = job->env->current;
    struct task_plan plan = {
        .name = job->name,
        .finish = background_finish,
        .on_end = job_end,
        .ctx = job,
    };
    struct task *task;

    if (job->running) return; /* the last run goes on: skip this one */
    task = task_new(vm, &plan);
    if (task == NULL) return;
    job->running = true;
    lua_pushcfunction(task_lua(task), push_job);
    lua_pushlightuserdata(task_lua(task), job);
    if (lua_pcall(task_lua(task), 1, 1, 0) == LUA_OK) {
        task_start_later(task, 0);
        return;
    }
    const char *why = lua_tostring(task_lua(task), -1);
    log_error("job could not start", log_text("job", job->name),
              log_text("error", why == NULL ? "(no text)" : why));
    task_abandon(task);
}

static void job_closed(uv_handle_t *handle)
{
    struct job *job = handle->data;

    mem_free(job->name);
    mem_free(job);
}

static void job_stop(struct job *job)
{
    list_remove(&job->node);
    uv_close((uv_handle_t *)&job->timer, job_closed);
}

static struct job *job_find(struct script_env *env, const char *name)
{
    for (struct list_node *n = env->jobs.first; n != NULL; n = n->next) {
        struct job *job = LIST_ENTRY(n, struct job, node);

        if (strcmp(job->name, name) == 0) return job;
    }
    return NULL;
}

static struct job *job_new(struct script_env *env, const char *name)
{
    struct job *job = mem_get_clear(sizeof *job);

    if (job == NULL) return NULL;
    job->name = mem_copy_text(name, strlen(name));
    if (job->name == NULL || uv_timer_init(env->loop, &job->timer) != 0) {
        mem_free(job->name);
        mem_free(job);
        return NULL;
    }
    job->timer.data = job;
    job->env = env;
    list_append(&env->jobs, &job->node);
    return job;
}

/* [top-1] name [top] {seconds, fn, where} */
static bool job_declare(lua_State *L, struct script_env *env)
{
    const char *name = lua_tostring(L, -2);
    struct job *job = job_find(env, name);
    uint64_t ms;

    lua_rawgeti(L, -1, 1);
    ms = (uint64_t)(lua_tonumber(L, -1) * 1000);
    lua_rawgeti(L, -2, 3);
    bool cluster = lua_isnil(L, -1) || strcmp(lua_tostring(L, -1), "cluster") == 0;
    lua_pop(L, 2);
    if (job == NULL && (job = job_new(env, name)) == NULL) return false;
    if (job->ms != ms) uv_timer_start(&job->timer, on_due, ms, ms);
    job->ms = ms;
    job->cluster = cluster;
    job->declared = true;
    return true;
}

static int declare_all(lua_State *L)
{
    struct script_env *env = lua_touserdata(L, 1);

    luaL_getsubtable(L, LUA_REGISTRYINDEX, JOBS);
    lua_pushnil(L);
    while (lua_next(L, -2)) {
        if (!job_declare(L, env)) return luaL_error(L, "not enough memory");
        lua_pop(L, 1);
    }
    return 0;
}

bool jobs_swap(struct script_env *env, struct vm *vm)
{
    struct list_node *next;
    bool ok;

    for (struct list_node *n = env->jobs.first; n != NULL; n = n->next)
        LIST_ENTRY(n, struct job, node)->declared = false;
    lua_pushcfunction(vm->L, declare_all);
    lua_pushlightuserdata(vm->L, env);
    ok = lua_pcall(vm->L, 1, 0, 0) == LUA_OK;
    if (!ok) lua_pop(vm->L, 1);
    for (struct list_node *n = env->jobs.first; n != NULL; n = next) {
        struct job *job = LIST_ENTRY(n, struct job, node);

        next = n->next;
        if (!job->declared && !job->running) job_stop(job);
        else if (!job->declared) {
            uv_timer_stop(&job->timer);
            job->ms = 0; /* declared again, it starts anew */
        }
    }
    return ok;
}

void jobs_pause(struct script_env *env)
{
    for (struct list_node *n = env->jobs.first; n != NULL; n = n->next)
        uv_timer_stop(&LIST_ENTRY(n, struct job, node)->timer);
}

void jobs_stop(struct script_env *env)
{
    struct list_node *node;

    while ((node = env->jobs.first) != NULL) job_stop(LIST_ENTRY(node, struct job, node));
}
