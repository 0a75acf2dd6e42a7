#include "script/bind_type.h"

#include <string.h>

/* ---- metatables ---------------------------------------------------------- */

static void make(lua_State *L, const struct bind_type *type)
{
    lua_createtable(L, 0, 16);
    lua_pushstring(L, type->shown);
    lua_setfield(L, -2, "__name");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    if (type->meta != NULL) luaL_setfuncs(L, type->meta, 0);
    if (type->methods != NULL) {
        lua_createtable(L, 0, 16);
        luaL_setfuncs(L, type->methods, 0);
        lua_setfield(L, -2, "__index");
    }
    lua_pushvalue(L, -1);
    lua_setfield(L, LUA_REGISTRYINDEX, type->name);
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, type);
}

void bind_type_push(lua_State *L, const struct bind_type *type)
{
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, type) == LUA_TTABLE) return;
    lua_pop(L, 1);
    luaL_checkstack(L, 5, NULL);
    make(L, type);
}

void *bind_type_new(lua_State *L, const struct bind_type *type, size_t size)
{
    void *value = lua_newuserdatauv(L, size, 0);

    memset(value, 0, size);
    bind_type_push(L, type);
    lua_setmetatable(L, -2);
    return value;
}

/* ---- recognising --------------------------------------------------------- */

bool bind_type_marks(lua_State *L, int at, const struct bind_type *type)
{
    bool same;

    if (!lua_getmetatable(L, at)) return false;
    lua_rawgetp(L, LUA_REGISTRYINDEX, type);
    same = lua_rawequal(L, -1, -2);
    lua_pop(L, 2);
    return same;
}

void *bind_type_test(lua_State *L, int at, const struct bind_type *type)
{
    if (lua_type(L, at) != LUA_TUSERDATA) return NULL;
    return bind_type_marks(L, at, type) ? lua_touserdata(L, at) : NULL;
}

const char *bind_type_shown(lua_State *L, int at)
{
    const char *name = NULL;

    if (luaL_getmetafield(L, at, "__name") != LUA_TNIL) {
        name = lua_tostring(L, -1); /* the metatable keeps it alive */
        lua_pop(L, 1);
    }
    return name != NULL ? name : luaL_typename(L, at);
}

/* ---- modules ------------------------------------------------------------- */

void bind_type_module(lua_State *L, const luaL_Reg *functions, lua_CFunction call)
{
    lua_createtable(L, 0, 8);
    luaL_setfuncs(L, functions, 0);
    lua_createtable(L, 0, 2);
    lua_pushcfunction(L, call);
    lua_setfield(L, -2, "__call");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_setmetatable(L, -2);
}
