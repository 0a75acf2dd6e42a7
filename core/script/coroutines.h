/* coroutines.h -- pcall, xpcall and the coroutine library of scripts: as in the manual,
 * but once the task is killed they re-raise instead of returning. */
#ifndef SCRIPT_COROUTINES_H
#define SCRIPT_COROUTINES_H

#include <lua.h>

void coroutines_install(lua_State *L);

#endif
