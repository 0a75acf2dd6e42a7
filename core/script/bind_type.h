/* bind_type.h -- metatables of our userdata, one of each kind in a lua_State.
 *
 * A metatable is made at its first use and reaches the registry only when it is
 * whole, so an allocation that fails meanwhile leaves none that is half made.
 * Scripts cannot get or replace one: its __metatable is false.
 */
#ifndef SCRIPT_BIND_TYPE_H
#define SCRIPT_BIND_TYPE_H

#include <lauxlib.h>
#include <lua.h>
#include <stdbool.h>

#include "base/check.h"

/* Static, one for each kind: its address is the key in the registry. */
struct bind_type {
    const char *name;        /* in the registry, too: "omade.money" */
    const char *shown;       /* in messages: "money" */
    const luaL_Reg *meta;    /* ends with { NULL, NULL }; may be NULL, like 'methods' */
    const luaL_Reg *methods; /* what __index finds */
};

/* Pushes the metatable. */
void bind_type_push(lua_State *L, const struct bind_type *type);

/* Pushes a userdata of the type with room for 'size' cleared bytes. */
void *bind_type_new(lua_State *L, const struct bind_type *type, size_t size);

/* Whether the value's metatable is this one.  Never raises, needs two free slots. */
MUST_CHECK bool bind_type_marks(lua_State *L, int at, const struct bind_type *type);

/* The userdata's bytes, or NULL when it is none of the type.  Never raises. */
MUST_CHECK void *bind_type_test(lua_State *L, int at, const struct bind_type *type);

/* What a message calls the value: "money", "decimal", "number", "table" ... */
const char *bind_type_shown(lua_State *L, int at);

/* Pushes a module that can be called: module(...) is call(module, ...). */
void bind_type_module(lua_State *L, const luaL_Reg *functions, lua_CFunction call);

#endif
