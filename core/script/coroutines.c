#include "script/coroutines.h"

#include <lauxlib.h>
#include <stdbool.h>

#include "script/budget.h"
#include "script/task.h"
#include "script/vm.h"

/* A chain of 100,000 nested coroutine.close crashes 5.4.4.  An error walks the whole
 * stack at every pcall that it passes, so deep chains of them would take minutes. */
enum { CLOSE_DEPTH_MAX = 50, CALL_DEPTH_MAX = 1000 };

/* ---- pcall, xpcall ---------------------------------------------------------- */

static int call_finish(lua_State *L, int status, lua_KContext first)
{
    task_resumed(L);
    if (status != LUA_OK && status != LUA_YIELD) {
        lua_pushboolean(L, 0);
        lua_pushvalue(L, -2);
        return 2;
    }
    return lua_gettop(L) - (int)first;
}

static void check_depth(lua_State *L, const char *name)
{
    lua_Debug frame;

    if (lua_getstack(L, CALL_DEPTH_MAX, &frame))
        luaL_error(L, "%s: stack overflow (more than %d calls)", name, CALL_DEPTH_MAX);
}

static int safe_pcall(lua_State *L)
{
    luaL_checkany(L, 1);
    check_depth(L, "pcall");
    lua_pushboolean(L, 1);
    lua_insert(L, 1);
    return call_finish(
        L, lua_pcallk(L, lua_gettop(L) - 2, LUA_MULTRET, 0, 0, call_finish), 0);
}

/* The handler of the script runs only for errors of its own. */
static int guarded_handler(lua_State *L)
{
    if (task_is_killed(L)) return 1;
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, 1, 1);
    return 1;
}

static int safe_xpcall(lua_State *L)
{
    int arguments = lua_gettop(L);

    luaL_checktype(L, 2, LUA_TFUNCTION);
    check_depth(L, "xpcall");
    lua_pushvalue(L, 2);
    lua_pushcclosure(L, guarded_handler, 1);
    lua_replace(L, 2);
    lua_pushboolean(L, 1);
    lua_pushvalue(L, 1);
    lua_rotate(L, 3, 2);
    return call_finish(L, lua_pcallk(L, arguments - 2, LUA_MULTRET, 2, 2, call_finish),
                       2);
}

/* ---- coroutines of scripts ----------------------------------------------------- */

static lua_State *coroutine_at(lua_State *L, int at)
{
    lua_State *co = lua_tothread(L, at);

    luaL_argexpected(L, co != NULL, at, "coroutine");
    return co;
}

static const char *status_of(lua_State *L, lua_State *co)
{
    lua_Debug frame;

    if (L == co) return "running";
    switch (lua_status(co)) {
    case LUA_YIELD: return "suspended";
    case LUA_OK:
        if (lua_getstack(co, 0, &frame)) return "normal";
        return lua_gettop(co) == 0 ? "dead" : "suspended";
    default: return "dead";
    }
}

/* Moves the arguments over, resumes, and moves the results (or the error) back.
 * Returns their number, or -1 for an error. */
static int resume(lua_State *L, lua_State *co, int arguments)
{
    int results, status;
    lua_State *outer;

    if (!lua_checkstack(co, arguments)) {
        lua_pushliteral(L, "too many arguments to resume");
        return -1;
    }
    lua_xmove(L, co, arguments);
    outer = budget_switch(co);
    status = lua_resume(co, L, arguments, &results);
    budget_switch(outer);
    task_resumed(L);
    if (status != LUA_OK && status != LUA_YIELD) {
        lua_xmove(co, L, 1);
        return -1;
    }
    if (!lua_checkstack(L, results + 1)) {
        lua_pop(co, results);
        lua_pushliteral(L, "too many results to resume");
        return -1;
    }
    lua_xmove(co, L, results);
    return results;
}

static int safe_create(lua_State *L)
{
    lua_State *co;

    luaL_checktype(L, 1, LUA_TFUNCTION);
    co = lua_newthread(L);
    lua_pushvalue(L, 1);
    lua_xmove(L, co, 1);
    return 1;
}

static int safe_resume(lua_State *L)
{
    int results = resume(L, coroutine_at(L, 1), lua_gettop(L) - 1);

    if (results < 0) {
        lua_pushboolean(L, 0);
        lua_insert(L, -2);
        return 2;
    }
    lua_pushboolean(L, 1);
    lua_insert(L, -(results + 1));
    return results + 1;
}

/* Runs what is to be closed in 'co'; true, or false and the error on L. */
static bool close_coroutine(lua_State *L, lua_State *co)
{
    struct vm *vm = vm_of(L);
    lua_State *outer;
    int status;

    if (vm->closing_depth >= CLOSE_DEPTH_MAX)
        return luaL_error(L, "coroutine.close: nested too deeply") != 0;
    vm->closing_depth++;
    outer = budget_switch(co);
    status = lua_resetthread(co);
    budget_switch(outer);
    vm->closing_depth--;
    task_resumed(L);
    if (status == LUA_OK) return true;
    lua_xmove(co, L, 1);
    return false;
}

static int wrap_call(lua_State *L)
{
    lua_State *co = lua_tothread(L, lua_upvalueindex(1));
    int results = resume(L, co, lua_gettop(L));

    if (results >= 0) return results;
    int status = lua_status(co);
    if (status != LUA_OK && status != LUA_YIELD && !close_coroutine(L, co))
        lua_remove(L, -2);
    if (lua_type(L, -1) == LUA_TSTRING) {
        luaL_where(L, 1);
        lua_insert(L, -2);
        lua_concat(L, 2);
    }
    return lua_error(L);
}

static int safe_wrap(lua_State *L)
{
    safe_create(L);
    lua_pushcclosure(L, wrap_call, 1);
    return 1;
}

static int safe_yield(lua_State *L)
{
    if (task_owns(L)) return luaL_error(L, "attempt to yield from outside a coroutine");
    return lua_yield(L, lua_gettop(L));
}

static int safe_status(lua_State *L)
{
    lua_pushstring(L, status_of(L, coroutine_at(L, 1)));
    return 1;
}

static int safe_isyieldable(lua_State *L)
{
    lua_pushboolean(L, !task_owns(L) && lua_isyieldable(L));
    return 1;
}

static int safe_running(lua_State *L)
{
    int is_main = lua_pushthread(L);

    lua_pushboolean(L, is_main || task_owns(L));
    return 2;
}

static int safe_close(lua_State *L)
{
    lua_State *co = coroutine_at(L, 1);
    const char *status = status_of(L, co);

    if (*status != 'd' && *status != 's')
        return luaL_error(L, "cannot close a %s coroutine", status);
    if (close_coroutine(L, co)) {
        lua_pushboolean(L, 1);
        return 1;
    }
    lua_pushboolean(L, 0);
    lua_insert(L, -2);
    return 2;
}

void coroutines_install(lua_State *L)
{
    static const luaL_Reg library[] = {
        { "create", safe_create },
        { "resume", safe_resume },
        { "wrap", safe_wrap },
        { "yield", safe_yield },
        { "status", safe_status },
        { "isyieldable", safe_isyieldable },
        { "running", safe_running },
        { "close", safe_close },
        { NULL, NULL },
    };

    luaL_newlib(L, library);
    lua_setglobal(L, "coroutine");
    lua_pushcfunction(L, safe_pcall);
    lua_setglobal(L, "pcall");
    lua_pushcfunction(L, safe_xpcall);
    lua_setglobal(L, "xpcall");
}
