/* bind_machine.h -- omade.core.machine: what commands of the command line ask about the
 * machine that they run on. */
#ifndef SCRIPT_BIND_MACHINE_H
#define SCRIPT_BIND_MACHINE_H

#include <lua.h>

void machine_open(lua_State *L);

#endif
