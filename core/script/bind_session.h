/* bind_session.h -- omade.core.session: blocking SQL for commands of the command line. */
#ifndef SCRIPT_BIND_SESSION_H
#define SCRIPT_BIND_SESSION_H

#include <lua.h>

void session_open(lua_State *L);

#endif
