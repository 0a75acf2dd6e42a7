#include "script/bind_bytes.h"

#include <lauxlib.h>

#include "script/bind_type.h"

static const struct bind_type type;

struct bytes *bytes_push_empty(lua_State *L)
{
    return bind_type_new(L, &type, sizeof(struct bytes));
}

void bytes_push(lua_State *L, struct slice s, bool json, void (*release)(void *owner),
                void *owner)
{
    struct bytes *bytes = bytes_push_empty(L);

    *bytes = (struct bytes){ s, release, owner, json };
}

void bytes_clear(struct bytes *bytes)
{
    struct bytes old = *bytes;

    *bytes = (struct bytes){ 0 };
    if (old.release != NULL) old.release(old.owner);
}

struct bytes *bytes_test(lua_State *L, int at) { return bind_type_test(L, at, &type); }

/* ---- for scripts --------------------------------------------------------- */

static struct bytes *self(lua_State *L)
{
    struct bytes *bytes = bytes_test(L, 1);

    if (bytes == NULL) luaL_typeerror(L, 1, "bytes");
    return bytes;
}

static int to_string(lua_State *L)
{
    struct slice s = self(L)->s;

    lua_pushlstring(L, s.p, s.n);
    return 1;
}

static int length(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)self(L)->s.n);
    return 1;
}

static int collect(lua_State *L)
{
    bytes_clear(self(L));
    return 0;
}

static const luaL_Reg meta[] = {
    { "__gc", collect },
    { "__len", length },
    { "__tostring", to_string },
    { NULL, NULL },
};

static const luaL_Reg methods[] = {
    { "string", to_string },
    { NULL, NULL },
};

static const struct bind_type type = { "omade.bytes", "bytes", meta, methods };
