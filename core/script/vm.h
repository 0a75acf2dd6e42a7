/* vm.h -- one generation of the scripts: a lua_State, its memory account, its routes.
 *
 * State and routes are one unit, made from one snapshot and swapped by one pointer.
 */
#ifndef SCRIPT_VM_H
#define SCRIPT_VM_H

#include <lua.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "base/list.h"
#include "base/slice.h"

struct vm;
struct pg_pool;
struct redis;
struct route_tree;
struct snapshot;
struct config;
struct shared;

/* What all generations of a worker share; lives as long as the worker. */
struct script_env {
    uv_loop_t *loop;              /* NULL in the process that only tries the scripts */
    struct pg_pool *pg;           /* NULL where there is none, likewise 'redis' */
    struct redis *redis;
    const struct config *config;
    struct shared *shared;        /* omade.shared */
};

/* The generation that L belongs to. */
struct vm *vm_of(lua_State *L);
const struct script_env *vm_env(const struct vm *vm);

/* Bytes of the Lua heap now, and the cap. */
size_t vm_memory(const struct vm *vm);

#endif
