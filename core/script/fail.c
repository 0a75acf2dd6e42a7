#include "script/fail.h"

#include <lauxlib.h>

#include "base/check.h"
#include "script/bind_json.h"

const char *fail_code(int status)
{
    static const struct {
        int status;
        const char *code;
    } codes[] = {
        { 400, "BAD_REQUEST" },
        { 401, "UNAUTHENTICATED" },
        { 403, "FORBIDDEN" },
        { 404, "NOT_FOUND" },
        { 405, "METHOD_NOT_ALLOWED" },
        { 408, "REQUEST_TIMEOUT" },
        { 409, "CONFLICT" },
        { 413, "PAYLOAD_TOO_LARGE" },
        { 414, "URI_TOO_LONG" },
        { 415, "UNSUPPORTED_MEDIA_TYPE" },
        { 417, "EXPECTATION_FAILED" },
        { 422, "UNPROCESSABLE" },
        { 429, "RATE_LIMITED" },
        { 431, "HEADERS_TOO_LARGE" },
        { 501, "NOT_IMPLEMENTED" },
        { 503, "UNAVAILABLE" },
        { 504, "TIMEOUT" },
        { 505, "HTTP_VERSION_NOT_SUPPORTED" },
        { 507, "STORAGE_FULL" },
    };

    for (size_t i = 0; i < COUNT_OF(codes); i++)
        if (codes[i].status == status) return codes[i].code;
    return status >= 500 ? "INTERNAL" : "BAD_REQUEST";
}

static int fail_text(lua_State *L)
{
    lua_getfield(L, 1, "message");
    luaL_tolstring(L, -1, NULL);
    if (lua_getfield(L, 1, "detail") != LUA_TSTRING) {
        lua_pop(L, 1);
        return 1;
    }
    lua_pushliteral(L, ": ");
    lua_insert(L, -2);
    lua_concat(L, 3);
    return 1;
}

void fail_open(lua_State *L)
{
    luaL_newmetatable(L, FAIL_TYPE);
    lua_pushcfunction(L, fail_text);
    lua_setfield(L, -2, "__tostring");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
}

void fail_push(lua_State *L, int status, const char *code, const char *message,
               const char *detail)
{
    lua_createtable(L, 0, 4);
    lua_pushinteger(L, status);
    lua_setfield(L, -2, "status");
    lua_pushstring(L, code);
    lua_setfield(L, -2, "code");
    lua_pushstring(L, message);
    lua_setfield(L, -2, "message");
    if (detail != NULL) {
        lua_pushstring(L, detail);
        lua_setfield(L, -2, "detail");
    }
    luaL_setmetatable(L, FAIL_TYPE);
}

void fail_push_fields(lua_State *L)
{
    fail_push(L, 400, "VALIDATION_ERROR", "", NULL);
    lua_newtable(L);
    json_push_array_mark(L);
    lua_setmetatable(L, -2);
    lua_setfield(L, -2, "errors");
    lua_newtable(L);
    lua_setfield(L, -2, "fields");
}

/* "unit_price" as people write it. */
static void push_label(lua_State *L, struct slice name)
{
    luaL_Buffer b;
    char *label = luaL_buffinitsize(L, &b, name.n);

    for (size_t i = 0; i < name.n; i++) label[i] = name.p[i] == '_' ? ' ' : name.p[i];
    if (name.n > 0 && label[0] >= 'a' && label[0] <= 'z')
        label[0] = (char)(label[0] & ~0x20);
    luaL_pushresultsize(&b, name.n);
}

void fail_add_field(lua_State *L, struct slice name, const char *fault)
{
    int fail = lua_gettop(L), message = fail + 1;
    lua_Integer count;

    push_label(L, name);
    lua_pushfstring(L, "%s %s", lua_tostring(L, message), fault);
    lua_replace(L, message);
    lua_getfield(L, fail, "errors");
    count = (lua_Integer)lua_rawlen(L, -1) + 1;
    lua_pushvalue(L, message);
    lua_rawseti(L, -2, count);
    lua_getfield(L, fail, "fields");
    lua_pushlstring(L, name.p, name.n);
    lua_pushvalue(L, message);
    lua_rawset(L, -3);
    lua_settop(L, message);
    if (count > 1) lua_pop(L, 1);
    else lua_setfield(L, fail, "message");
}

bool fail_test(lua_State *L, int at)
{
    bool is;

    if (!lua_istable(L, at) || !lua_getmetatable(L, at)) return false;
    luaL_getmetatable(L, FAIL_TYPE);
    is = lua_rawequal(L, -1, -2);
    lua_pop(L, 2);
    return is;
}
