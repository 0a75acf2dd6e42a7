#include "script/sandbox.h"

#include <lauxlib.h>
#include <lualib.h>
#include <string.h>
#include <sys/random.h>

#include "base/log.h"
#include "script/bind_string.h"
#include "script/coroutines.h"
#include "script/require.h"
#include "script/task.h"
#include "script/vm.h"

static const char FROZEN[] = "__frozen"; /* in a metatable: the hidden table */

/* ---- read-only tables ------------------------------------------------------- */

static int refuse_write(lua_State *L)
{
    if (lua_rawequal(L, 1, lua_upvalueindex(1)))
        return luaL_error(
            L, "'%s' is not declared: write 'local %s' (globals are read-only)",
            luaL_tolstring(L, 2, NULL), luaL_tolstring(L, 2, NULL));
    return luaL_error(
        L, "cannot set '%s': the table is shared by all requests and read-only",
        luaL_tolstring(L, 2, NULL));
}

/* Pushes the hidden table of a frozen one and returns true, or pushes nothing. */
static bool push_hidden(lua_State *L, int at)
{
    return lua_istable(L, at) && luaL_getmetafield(L, at, FROZEN) != LUA_TNIL;
}

static int safe_next(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 2);
    if (push_hidden(L, 1)) lua_replace(L, 1);
    if (lua_next(L, 1)) return 2;
    lua_pushnil(L);
    return 1;
}

static int frozen_pairs(lua_State *L)
{
    luaL_getmetafield(L, 1, FROZEN);
    lua_pushcfunction(L, safe_next);
    lua_insert(L, -2);
    lua_pushnil(L);
    return 3;
}

static int frozen_length(lua_State *L)
{
    luaL_getmetafield(L, 1, FROZEN);
    lua_pushinteger(L, luaL_len(L, -1));
    return 1;
}

static void copy_fields(lua_State *L, int from, int to)
{
    from = lua_absindex(L, from);
    to = lua_absindex(L, to);
    lua_pushnil(L);
    while (lua_next(L, from)) {
        lua_pushvalue(L, -2);
        lua_insert(L, -2);
        lua_rawset(L, to);
    }
}

static void move_fields(lua_State *L, int from, int to)
{
    copy_fields(L, from, to);
    lua_pushnil(L);
    while (lua_next(L, from)) {
        lua_pop(L, 1);
        lua_pushvalue(L, -1);
        lua_pushnil(L);
        lua_rawset(L, from); /* clearing a field is allowed while traversing */
    }
}

void sandbox_freeze(lua_State *L, int at)
{
    int table = lua_absindex(L, at), hidden, meta;

    if (push_hidden(L, table)) {
        lua_pop(L, 1);
        return;
    }
    lua_newtable(L);
    hidden = lua_gettop(L);
    lua_newtable(L);
    meta = lua_gettop(L);
    if (lua_getmetatable(L, table)) {
        copy_fields(L, -1, meta);
        if (lua_getfield(L, -1, "__index") != LUA_TNIL) { /* inherited fields stay */
            lua_createtable(L, 0, 1);
            lua_insert(L, -2);
            lua_setfield(L, -2, "__index");
            lua_setmetatable(L, hidden);
        } else {
            lua_pop(L, 1);
        }
        lua_pop(L, 1);
    }
    move_fields(L, table, hidden);
    lua_pushvalue(L, hidden);
    lua_setfield(L, meta, "__index");
    lua_pushvalue(L, hidden);
    lua_setfield(L, meta, FROZEN);
    lua_pushglobaltable(L);
    lua_pushcclosure(L, refuse_write, 1);
    lua_setfield(L, meta, "__newindex");
    lua_pushcfunction(L, frozen_pairs);
    lua_setfield(L, meta, "__pairs");
    lua_pushcfunction(L, frozen_length);
    lua_setfield(L, meta, "__len");
    lua_pushboolean(L, 0);
    lua_setfield(L, meta, "__metatable");
    lua_setmetatable(L, table);
    lua_settop(L, hidden - 1);
}

void sandbox_global(lua_State *L, const char *name)
{
    lua_pushglobaltable(L);
    if (push_hidden(L, -1)) lua_remove(L, -2);
    lua_insert(L, -2);
    lua_setfield(L, -2, name);
    lua_pop(L, 1);
}

void sandbox_check_writable(lua_State *L, int at)
{
    if (push_hidden(L, at))
        luaL_error(L, "the table is shared by all requests and read-only");
}

/* ---- replaced functions of the base library ------------------------------------ */

static int safe_rawset(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    luaL_checkany(L, 2);
    luaL_checkany(L, 3);
    sandbox_check_writable(L, 1);
    lua_settop(L, 3);
    lua_rawset(L, 1);
    return 1;
}

static int safe_setmetatable(lua_State *L)
{
    static const char *const refused[] = { "__gc", "__mode", "__concat", FROZEN };

    luaL_checktype(L, 1, LUA_TTABLE);
    luaL_argexpected(L, lua_isnoneornil(L, 2) || lua_istable(L, 2), 2, "nil or table");
    if (luaL_getmetafield(L, 1, "__metatable") != LUA_TNIL)
        return luaL_error(L, "cannot change a protected metatable");
    for (size_t i = 0; lua_istable(L, 2) && i < COUNT_OF(refused); i++) {
        lua_pushstring(L, refused[i]);
        if (lua_rawget(L, 2) != LUA_TNIL)
            return luaL_error(L, "%s is not for scripts", refused[i]);
        lua_pop(L, 1);
    }
    lua_settop(L, 2);
    lua_setmetatable(L, 1);
    return 1;
}

/* The parser cannot be interrupted, so what it gets is bounded. */
enum { LOAD_MAX = 1 << 20 };

/* load(text [, name [, "t" [, env]]]): text only. */
static int safe_load(lua_State *L)
{
    size_t n;
    const char *text = luaL_checklstring(L, 1, &n);
    const char *name = luaL_optstring(L, 2, "=(load)");
    const char *mode = luaL_optstring(L, 3, "t");
    bool has_env = !lua_isnone(L, 4);

    luaL_argcheck(L, n <= LOAD_MAX, 1, "at most 1 MiB");
    if (strchr(mode, 't') == NULL) return luaL_error(L, "load: only text is for scripts");
    if (luaL_loadbufferx(L, text, n, name, "t") != LUA_OK) {
        lua_pushnil(L);
        lua_insert(L, -2);
        return 2;
    }
    if (has_env) {
        lua_pushvalue(L, 4);
        if (lua_setupvalue(L, -2, 1) == NULL) lua_pop(L, 1);
    }
    return 1;
}

static int safe_collectgarbage(lua_State *L)
{
    const char *what = luaL_optstring(L, 1, "count");

    if (strcmp(what, "count") != 0)
        return luaL_error(L, "collectgarbage(\"%s\") is not for scripts", what);
    lua_pushnumber(L, (lua_Number)vm_of(L)->used / 1024);
    return 1;
}

static int print_to_log(lua_State *L)
{
    struct task *task = task_current(L);
    int n = lua_gettop(L);
    luaL_Buffer b;

    luaL_buffinit(L, &b);
    for (int i = 1; i <= n; i++) {
        if (i > 1) luaL_addchar(&b, '\t');
        luaL_tolstring(L, i, NULL);
        luaL_addvalue(&b);
    }
    luaL_pushresult(&b);
    size_t length;
    const char *text = lua_tolstring(L, -1, &length);
    log_info("print", log_text("request", task == NULL ? "-" : task_request_id(task)),
             log_slice("text", (struct slice){ text, length }));
    return 0;
}

/* ---- events that are not for scripts -------------------------------------------- */

/* A field that is added to a metatable later escapes setmetatable's check.  So Lua's own
 * (interned, never collected) name of the event gets other bytes: what scripts write is
 * another string from then on, which means nothing to Lua. */
static void hide_event(lua_State *L, const char *name)
{
    char *own = (char *)(uintptr_t)lua_pushstring(L, name);

    if (getrandom(own, strlen(name), 0) != (ssize_t)strlen(name))
        luaL_error(L, "no randomness");
    lua_pop(L, 1);
}

/* __mode: 5.4.4 uses weak tables after it freed them, when memory is short.
 * __concat: it loses the result, or crashes, when the call moves the stack. */
static void hide_events(lua_State *L)
{
    hide_event(L, "__mode");
    hide_event(L, "__concat");
}

/* ---- all together -------------------------------------------------------------- */

static void open_stock(lua_State *L)
{
    static const luaL_Reg stock[] = {
        { LUA_GNAME, luaopen_base },        { LUA_TABLIBNAME, luaopen_table },
        { LUA_STRLIBNAME, luaopen_string }, { LUA_MATHLIBNAME, luaopen_math },
        { LUA_UTF8LIBNAME, luaopen_utf8 },
    };

    for (size_t i = 0; i < COUNT_OF(stock); i++) {
        luaL_requiref(L, stock[i].name, stock[i].func, 1);
        lua_pop(L, 1);
    }
}

static void replace_base(lua_State *L)
{
    static const luaL_Reg ours[] = {
        { "next", safe_next },     { "rawset", safe_rawset },
        { "load", safe_load },     { "setmetatable", safe_setmetatable },
        { "print", print_to_log }, { "collectgarbage", safe_collectgarbage },
    };
    static const char *const gone[] = { "dofile", "loadfile", "warn" };

    lua_pushglobaltable(L);
    for (size_t i = 0; i < COUNT_OF(ours); i++) {
        lua_pushcfunction(L, ours[i].func);
        lua_setfield(L, -2, ours[i].name);
    }
    for (size_t i = 0; i < COUNT_OF(gone); i++) {
        lua_pushnil(L);
        lua_setfield(L, -2, gone[i]);
    }
    lua_pop(L, 1);
}

static void freeze_string_metatable(lua_State *L)
{
    lua_pushliteral(L, "");
    lua_getmetatable(L, -1);
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 2);
}

void sandbox_open(lua_State *L)
{
    static const char *const shared[] = { "string", "table", "math", "utf8",
                                          "coroutine" };

    open_stock(L);
    hide_events(L);
    replace_base(L);
    string_install(L);
    coroutines_install(L);
    require_install(L);
    freeze_string_metatable(L);
    for (size_t i = 0; i < COUNT_OF(shared); i++) {
        lua_getglobal(L, shared[i]);
        sandbox_freeze(L, -1);
        lua_pop(L, 1);
    }
    lua_pushglobaltable(L);
    sandbox_freeze(L, -1);
    lua_pop(L, 1);
}
