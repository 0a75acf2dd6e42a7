/* bind_http.h -- the module omade.http: requests to other servers. */
#ifndef SCRIPT_BIND_HTTP_H
#define SCRIPT_BIND_HTTP_H

#include <lua.h>

struct script_env;

int luaopen_omade_http(lua_State *L);

/* Closes the connections; no task may be left.  The loop has to run once more. */
void http_end(struct script_env *env);

#endif
