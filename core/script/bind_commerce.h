/* bind_commerce.h -- the module omade.commerce: carts, promotions, totals. */
#ifndef SCRIPT_BIND_COMMERCE_H
#define SCRIPT_BIND_COMMERCE_H

#include <lua.h>

int luaopen_omade_commerce(lua_State *L);

#endif
