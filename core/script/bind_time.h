/* bind_time.h -- the module omade.time, and pauses. */
#ifndef SCRIPT_BIND_TIME_H
#define SCRIPT_BIND_TIME_H

#include <lua.h>
#include <stdint.h>

int luaopen_omade_time(lua_State *L);
int time_sleep(lua_State *L); /* sleep(seconds) */

/* Suspends the running task for 'ms', then goes on in 'finish' with 'ctx'.  A binding
 * ends with `return time_pause(...)`. */
int time_pause(lua_State *L, const char *name, int64_t ms, lua_KContext ctx,
               lua_KFunction finish);

/* 0 to ms, at random. */
int64_t time_jitter(int64_t ms);

#endif
