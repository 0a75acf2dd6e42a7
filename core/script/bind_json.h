/* bind_json.h -- the module omade.json, and the marks that its values carry.
 *
 * json.null is the light userdata NULL, as lua-cjson's is.
 */
#ifndef SCRIPT_BIND_JSON_H
#define SCRIPT_BIND_JSON_H

#include <lua.h>
#include <stdbool.h>

#include "base/check.h"

void json_push_null(lua_State *L);
MUST_CHECK bool json_is_null(lua_State *L, int at);

/* Pushes the metatable that marks lists, or objects. */
void json_push_array_mark(lua_State *L);
void json_push_object_mark(lua_State *L);

/* Whether a table is marked.  Never raise. */
MUST_CHECK bool json_is_array(lua_State *L, int at);
MUST_CHECK bool json_is_object(lua_State *L, int at);

int luaopen_omade_json(lua_State *L);

#endif
