/* bind_tasks.h -- work beside the request: all, spawn, every. */
#ifndef SCRIPT_BIND_TASKS_H
#define SCRIPT_BIND_TASKS_H

#include <lua.h>

#include "script/vm.h"

int tasks_all(lua_State *L);   /* all(fn, fn, ...) */
int tasks_spawn(lua_State *L); /* spawn(fn) */
int tasks_every(lua_State *L); /* every(seconds, name, fn [, {where=}]) */

/* The jobs that the scripts of 'vm' declared take the place of those of the generation
 * before: by name, without resetting the clocks of those that stay. */
MUST_CHECK bool jobs_swap(struct script_env *env, struct vm *vm);

/* No job starts any more. */
void jobs_pause(struct script_env *env);

/* Forgets them; none may be running. */
void jobs_stop(struct script_env *env);

#endif
