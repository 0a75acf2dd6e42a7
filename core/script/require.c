#include "script/require.h"

#include <ctype.h>
#include <lauxlib.h>
#include <stdbool.h>
#include <string.h>

#include "script/sandbox.h"
#include "script/snapshot.h"
#include "script/task.h"
#include "script/vm.h"

/* Registry tables: by path (or native name) what a module returned; its maker. */
static const char LOADED[] = "omade.loaded", NATIVE[] = "omade.native";
static const char LOADING; /* its address marks a module that is being loaded */

/* [top] the module's value: kept under 'key', read-only if it is a table */
static void keep(lua_State *L, const char *key)
{
    if (lua_istable(L, -1)) sandbox_freeze(L, -1);
    if (lua_isnil(L, -1)) {
        lua_pop(L, 1);
        lua_pushboolean(L, 1);
    }
    lua_getfield(L, LUA_REGISTRYINDEX, LOADED);
    lua_pushvalue(L, -2);
    lua_setfield(L, -2, key);
    lua_pop(L, 1);
}

/* Pushes what is loaded under 'key' and returns true, or pushes nothing. */
static bool push_loaded(lua_State *L, const char *key, const char *name)
{
    lua_getfield(L, LUA_REGISTRYINDEX, LOADED);
    lua_getfield(L, -1, key);
    lua_remove(L, -2);
    if (lua_touserdata(L, -1) == &LOADING)
        luaL_error(L, "module '%s' requires itself, directly or through others", name);
    if (!lua_isnil(L, -1)) return true;
    lua_pop(L, 1);
    return false;
}

static void mark_loading(lua_State *L, const char *key, bool loading)
{
    lua_getfield(L, LUA_REGISTRYINDEX, LOADED);
    if (loading) lua_pushlightuserdata(L, (void *)&LOADING);
    else lua_pushnil(L);
    lua_setfield(L, -2, key);
    lua_pop(L, 1);
}

static bool push_native(lua_State *L, const char *name)
{
    if (push_loaded(L, name, name)) return true;
    lua_getfield(L, LUA_REGISTRYINDEX, NATIVE);
    lua_getfield(L, -1, name);
    lua_remove(L, -2);
    if (lua_isnil(L, -1)) {
        lua_pop(L, 1);
        return false;
    }
    lua_call(L, 0, 1);
    keep(L, name);
    return true;
}

/* Behind the string, long bracket or comment at 'p', or 'p' itself. */
static const char *skip_text(const char *p, const char *end)
{
    const char *open = p, *q = p;
    bool comment = end - p > 1 && p[0] == '-' && p[1] == '-';
    size_t level = 0;

    if (*p == '"' || *p == '\'') {
        for (p++; p < end && *p != *open; p++)
            if (*p == '\\') p++;
        return p < end ? p + 1 : end;
    }
    if (comment) q = p += 2;
    if (q < end && *q == '[') {
        for (q++; q < end && *q == '='; q++) level++;
        if (q < end && *q == '[') {
            for (p = q + 1; p < end; p++) {
                size_t n = 0;

                if (*p != ']') continue;
                while (p + 1 + n < end && p[1 + n] == '=') n++;
                if (n == level && p + 1 + n < end && p[1 + n] == ']') return p + n + 2;
            }
            return end;
        }
    }
    while (comment && p < end && *p != '\n') p++;
    return p;
}

/* Assigning to _ENV would take the globals from all requests that follow. */
static void check_env(lua_State *L, struct slice path, struct slice text)
{
    const char *p = text.p, *end = text.p + text.n;
    int line = 1;

    while (p < end) {
        const char *word = p, *behind = skip_text(p, end);

        if (behind != p) {
            for (; p < behind; p++) line += *p == '\n';
            continue;
        }
        while (p < end && (isalnum((unsigned char)*p) || *p == '_')) p++;
        if (p - word == 4 && memcmp(word, "_ENV", 4) == 0)
            luaL_error(L, "%s:%d: _ENV is not for scripts: pass a table instead", path.p,
                       line);
        if (p == word) line += *p++ == '\n';
    }
}

static void compile(lua_State *L, struct slice path, struct slice text)
{
    check_env(L, path, text);
    lua_pushliteral(L, "@");
    lua_pushlstring(L, path.p, path.n);
    lua_concat(L, 2);
    if (luaL_loadbufferx(L, text.p, text.n, lua_tostring(L, -1), "t") != LUA_OK)
        lua_error(L);
    lua_remove(L, -2);
}

static int safe_require(lua_State *L)
{
    size_t n;
    const char *name = luaL_checklstring(L, 1, &n), *key;
    struct snapshot *snapshot = vm_of(L)->snapshot;
    struct slice path, text;
    int status;

    if (push_native(L, name)) return 1;
    if (snapshot == NULL ||
        !snapshot_module(snapshot, (struct slice){ name, n }, &path, &text))
        return luaL_error(
            L, "module '%s' not found: looked in the app folder, its parent and lua/",
            name);
    key = lua_pushlstring(L, path.p, path.n);
    if (push_loaded(L, key, name)) return 1;
    if (!vm_of(L)->loading)
        return luaL_error(L, "require '%s' at the top of the file, not in a handler",
                          name);
    compile(L, (struct slice){ key, path.n }, text); /* key ends with a NUL */
    mark_loading(L, key, true);
    lua_pushvalue(L, 1);
    status = lua_pcall(L, 1, 1, 0);
    mark_loading(L, key, false);
    task_resumed(L);
    if (status != LUA_OK) return lua_error(L);
    keep(L, key);
    return 1;
}

void require_native(lua_State *L, const char *name, lua_CFunction open)
{
    luaL_getsubtable(L, LUA_REGISTRYINDEX, NATIVE);
    lua_pushcfunction(L, open);
    lua_setfield(L, -2, name);
    lua_pop(L, 1);
}

void require_install(lua_State *L)
{
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LOADED);
    luaL_getsubtable(L, LUA_REGISTRYINDEX, NATIVE);
    lua_pop(L, 2);
    lua_pushcfunction(L, safe_require);
    lua_setglobal(L, "require");
}
