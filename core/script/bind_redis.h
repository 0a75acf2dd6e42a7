/* bind_redis.h -- the module omade.redis. */
#ifndef SCRIPT_BIND_REDIS_H
#define SCRIPT_BIND_REDIS_H

#include <lua.h>

int luaopen_omade_redis(lua_State *L);

#endif
