#include "command.h"

#include <lauxlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "runtime.h"
#include "script/bind_files.h"
#include "script/bind_machine.h"
#include "script/bind_session.h"
#include "script/fail.h"
#include "script/require.h"
#include "script/snapshot.h"
#include "script/task.h"

struct command {
    const char *name;
    char *const *arguments;
    int argument_count;
    int exit_code;
    bool over;
    struct buf *fault;
};

/* [1] command (light): the module's main, with the arguments */
static int prepare(lua_State *L)
{
    struct command *c = lua_touserdata(L, 1);

    lua_getglobal(L, "require");
    lua_pushfstring(L, "omade.cli.%s", c->name);
    lua_call(L, 1, 1);
    lua_getfield(L, -1, "main");
    luaL_checktype(L, -1, LUA_TFUNCTION);
    lua_createtable(L, c->argument_count, 0);
    for (int i = 0; i < c->argument_count; i++) {
        lua_pushstring(L, c->arguments[i]);
        lua_rawseti(L, -2, i + 1);
    }
    return 2;
}

/* "file.lua:12: ..." is an error of the program; other texts are failures it reports. */
static bool has_position(const char *text)
{
    const char *at = strstr(text, ".lua:");

    return at != NULL && at < text + strcspn(text, " \n");
}

/* [1] ok [2] exit code or error: a failure is one line, an error has its traceback */
static int finish(lua_State *L)
{
    struct command *c = task_context(task_current(L));

    if (lua_toboolean(L, 1)) {
        c->exit_code = (int)luaL_optinteger(L, 2, 0);
        return 0;
    }
    c->exit_code = 1;
    const char *text = luaL_tolstring(L, 2, NULL);
    buf_add(c->fault, text, has_position(text) ? strlen(text) : strcspn(text, "\n"));
    return 0;
}

static void on_end(struct task *task, void *ctx)
{
    struct command *c = ctx;

    c->over = true;
    if (!task_ok(task) && c->exit_code == 0) c->exit_code = 1;
}

static void add_error(lua_State *L, struct buf *fault)
{
    const char *text = lua_tostring(L, -1);

    buf_add_text(fault, text == NULL ? "the command could not start" : text);
}

static void start(struct runtime *rt, struct command *c)
{
    struct task_plan plan = {
        .name = c->name,
        .finish = finish,
        .on_end = on_end,
        .ctx = c,
        .unlimited = true,
    };
    struct task *task = task_new(rt->env.current, &plan);
    lua_State *L;

    if (task == NULL) {
        buf_add_text(c->fault, "out of memory");
        c->over = true;
        return;
    }
    L = task_lua(task);
    rt->env.current->loading = true; /* a command requires what it wants, when it wants */
    lua_pushcfunction(L, prepare);
    lua_pushlightuserdata(L, c);
    if (lua_pcall(L, 1, 2, 0) == LUA_OK) {
        task_start(task, 1);
        return;
    }
    add_error(L, c->fault);
    task_abandon(task);
}

/* A generation without an app: commands have no routes. */
static bool load(struct runtime *rt, const struct config *config, struct buf *fault)
{
    int fd = snapshot_write(config->app, config->home, 1, fault);
    struct snapshot *snapshot = fd < 0 ? NULL : snapshot_map(fd);

    if (fd >= 0) close(fd);
    if (snapshot == NULL) return false;
    rt->env.limits = (struct script_limits){ 0 };
    rt->env.current = vm_new(&rt->env, snapshot, 1);
    snapshot_release(snapshot);
    if (rt->env.current == NULL) {
        buf_add_text(fault, "out of memory");
        return false;
    }
    files_open(rt->env.current->L);
    machine_open(rt->env.current->L);
    session_open(rt->env.current->L);
    return true;
}

int command_run(const struct config *config, const char *name, char *const arguments[],
                int argument_count, enum runtime_role role, struct buf *fault)
{
    struct command c = { .name = name,
                         .arguments = arguments,
                         .argument_count = argument_count,
                         .exit_code = 0,
                         .fault = fault };
    struct runtime rt;

    if (runtime_start(&rt, config, role, fault) && load(&rt, config, fault)) {
        start(&rt, &c);
        while (!c.over) uv_run(&rt.loop, UV_RUN_ONCE);
    } else {
        c.exit_code = 1;
    }
    if (fault->n > 0 && c.exit_code == 0) c.exit_code = 1;
    runtime_stop(&rt);
    log_flush_all();
    return c.exit_code;
}
