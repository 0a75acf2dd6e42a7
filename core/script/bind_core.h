/* bind_core.h -- small native modules: omade.log, omade.uuid, and omade.core.engine for
 * lua/omade itself. */
#ifndef SCRIPT_BIND_CORE_H
#define SCRIPT_BIND_CORE_H

#include <lua.h>

int luaopen_omade_log(lua_State *L);
int luaopen_omade_uuid(lua_State *L);
int luaopen_omade_engine(lua_State *L);

#endif
