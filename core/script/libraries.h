/* libraries.h -- the native modules of omade.* for a fresh state. */
#ifndef SCRIPT_LIBRARIES_H
#define SCRIPT_LIBRARIES_H

#include <lua.h>

/* Registers the makers ("omade.core.db" ...) and the globals all, spawn, every, sleep. */
void libraries_open(lua_State *L);

#endif
