#include "script/bind_json.h"

#include <lauxlib.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "script/bind_bytes.h"
#include "script/bind_type.h"
#include "script/json_read.h"
#include "script/json_write.h"

/* ---- marks --------------------------------------------------------------- */

static const struct bind_type array_type = { "omade.json.array", "json.array", NULL,
                                             NULL };
static const struct bind_type object_type = { "omade.json.object", "json.object", NULL,
                                              NULL };

void json_push_null(lua_State *L) { lua_pushlightuserdata(L, NULL); }

bool json_is_null(lua_State *L, int at)
{
    return lua_islightuserdata(L, at) && lua_touserdata(L, at) == NULL;
}

void json_push_array_mark(lua_State *L) { bind_type_push(L, &array_type); }
void json_push_object_mark(lua_State *L) { bind_type_push(L, &object_type); }

bool json_is_array(lua_State *L, int at)
{
    return lua_istable(L, at) && bind_type_marks(L, at, &array_type);
}

bool json_is_object(lua_State *L, int at)
{
    return lua_istable(L, at) && bind_type_marks(L, at, &object_type);
}

/* ---- json.decode, json.encode --------------------------------------------- */

static bool wants_exact(lua_State *L, int options)
{
    bool exact;

    if (lua_isnoneornil(L, options)) return false;
    luaL_checktype(L, options, LUA_TTABLE);
    lua_getfield(L, options, "exact");
    exact = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return exact;
}

static int decode(lua_State *L)
{
    struct json_limits limits = json_script_limits;
    const struct bytes *bytes = bytes_test(L, 1);
    struct json_fault fault;
    struct slice text;

    limits.floats = !wants_exact(L, 2);
    if (bytes != NULL) text = bytes->s;
    else {
        luaL_checktype(L, 1, LUA_TSTRING);
        text.p = lua_tolstring(L, 1, &text.n);
    }
    if (json_read(L, text, &limits, &fault)) return 1;
    lua_pushnil(L);
    lua_pushfstring(L, "%s (line %d, column %d)", fault.message, fault.line,
                    fault.column);
    return 2;
}

static int encode(lua_State *L)
{
    struct bytes *guard; /* frees the text if pushing it raises */
    struct buf out = { 0 };
    const char *fault;

    luaL_checkany(L, 1);
    guard = bytes_push_empty(L);
    if (!json_write(L, 1, &out, &fault)) {
        buf_free(&out);
        return luaL_error(L, "json.encode: %s", fault);
    }
    *guard = (struct bytes){ buf_slice(&out), mem_free, out.p, true };
    lua_pushlstring(L, guard->s.p, guard->s.n);
    bytes_clear(guard);
    return 1;
}

/* json.text(bytes): the same string when it is UTF-8 */
static int text(lua_State *L)
{
    struct bytes *guard; /* frees the text if pushing it raises */
    struct buf out = { 0 };
    struct slice bytes;

    bytes.p = luaL_checklstring(L, 1, &bytes.n);
    if (utf8_valid(bytes.p, bytes.n)) {
        lua_settop(L, 1);
        return 1;
    }
    guard = bytes_push_empty(L);
    utf8_repair(&out, bytes);
    *guard = (struct bytes){ buf_slice(&out), mem_free, out.p, false };
    if (out.failed) return luaL_error(L, "not enough memory");
    lua_pushlstring(L, guard->s.p, guard->s.n);
    bytes_clear(guard);
    return 1;
}

/* ---- json.array, json.object ---------------------------------------------- */

static int mark(lua_State *L, const struct bind_type *type)
{
    if (lua_isnoneornil(L, 1)) {
        lua_settop(L, 0);
        lua_createtable(L, 0, 0);
    }
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    if (lua_getmetatable(L, 1)) {
        lua_pop(L, 1);
        if (bind_type_marks(L, 1, type)) return 1;
        return luaL_error(L, "%s: the table has a metatable already", type->shown);
    }
    bind_type_push(L, type);
    lua_setmetatable(L, 1);
    return 1;
}

static int array(lua_State *L) { return mark(L, &array_type); }
static int object(lua_State *L) { return mark(L, &object_type); }

static int is_array(lua_State *L)
{
    lua_pushboolean(L, json_is_array(L, 1));
    return 1;
}

static const luaL_Reg functions[] = {
    { "decode", decode }, { "encode", encode },     { "array", array },
    { "object", object }, { "is_array", is_array }, { "text", text },
    { NULL, NULL },
};

int luaopen_omade_json(lua_State *L)
{
    lua_createtable(L, 0, 8);
    luaL_setfuncs(L, functions, 0);
    json_push_null(L);
    lua_setfield(L, -2, "null");
    return 1;
}
