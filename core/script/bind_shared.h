/* bind_shared.h -- omade.shared: values that all requests of a worker share and that
 * survive reloads (not crashes): strings, integers and booleans by key, bounded. */
#ifndef SCRIPT_BIND_SHARED_H
#define SCRIPT_BIND_SHARED_H

#include <lua.h>
#include <stddef.h>

#include "base/check.h"

struct shared;

MUST_CHECK struct shared *shared_new(size_t byte_max);
void shared_free(struct shared *shared); /* may be NULL */

int luaopen_omade_shared(lua_State *L);

#endif
