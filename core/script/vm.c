#include "script/vm.h"

#include <assert.h>
#include <lauxlib.h>
#include <lualib.h>
#include <string.h>

#include "base/mem.h"
#include "script/budget.h"
#include "script/libraries.h"
#include "script/sandbox.h"
#include "script/snapshot.h"
#include "script/task.h"
#include "script/web.h"

/* ---- memory ---------------------------------------------------------------- */

/* In the build for it a failure strikes twice: Lua collects after the first and tries
 * again. */
static bool fails_on_purpose(void)
{
#ifdef OMADE_OOM
    static bool again;
    bool second = again;

    again = mem_fails_now() != 0;
    return again || second;
#else
    return mem_fails_now() != 0;
#endif
}

/* The account of a generation.  Over the cap Lua is told that there is no memory: it
 * collects at once and, if that does not help, raises.  Over a task's share the task
 * is interrupted, which looks again after a collection (see task.c). */
static void *account(void *context, void *block, size_t before, size_t after)
{
    struct vm *vm = context;

    if (block == NULL) before = 0;
    if (after == 0) {
        vm->used -= before;
        return heap_resize(&vm->heap, block, before, 0);
    }
    if (after > before && vm->used + (after - before) > vm->cap) {
        if (vm->running != NULL) task_memory_refused(vm->running, budget_running());
        return NULL;
    }
    if (fails_on_purpose()) return NULL;

    void *moved = heap_resize(&vm->heap, block, before, after);
    if (moved == NULL) return NULL;
    vm->used = vm->used - before + after;
    if (vm->used > vm->interrupt_at) {
        vm->interrupt_at = SIZE_MAX;
        budget_interrupt();
    }
    return moved;
}

/* ---- life -------------------------------------------------------------------- */

/* What has a finaliser - the handles of requests, queries and bytes - outlives one cycle of
 * the collector, which then takes it for live and lets as much again come before it begins
 * the next.  With Lua's own pause of 200 % the heap of a busy worker settles at many times
 * what is live, outside of the processor's caches (and with 400 % it grows without end). */
enum { GC_PAUSE = 150, GC_STEP_MUL = 200 };

static int open_all(lua_State *L)
{
    lua_gc(L, LUA_GCINC, GC_PAUSE, GC_STEP_MUL, 0);
    sandbox_open(L);
    libraries_open(L);
    return 0;
}

struct vm *vm_new(struct script_env *env, struct snapshot *snapshot, uint64_t generation)
{
    struct vm *vm = mem_get_clear(sizeof *vm);

    if (vm == NULL) return NULL;
    vm->env = env;
    vm->generation = generation;
    vm->cap = env->limits.vm_memory == 0 ? SIZE_MAX : env->limits.vm_memory;
    vm->interrupt_at = SIZE_MAX;
    vm->snapshot = snapshot_hold(snapshot);
    vm->L = lua_newstate(account, vm);
    if (vm->L == NULL) goto fail;
    *(struct vm **)lua_getextraspace(vm->L) = vm;
    lua_pushcfunction(vm->L, open_all);
    if (lua_pcall(vm->L, 0, 0, 0) != LUA_OK) goto fail;
    return vm;

fail:
    vm_free(vm);
    return NULL;
}

void vm_free(struct vm *vm)
{
    assert(vm->tasks.count == 0);
    vm->retired = true;
    if (vm->L != NULL) lua_close(vm->L);
    assert(vm->used == 0);
    heap_end(&vm->heap);
    web_routes_free(vm);
    snapshot_release(vm->snapshot);
    mem_free(vm);
}

void vm_retire(struct vm *vm, void (*on_empty)(struct vm *vm))
{
    vm->retired = true;
    vm->on_empty = on_empty;
    if (vm->tasks.count == 0) on_empty(vm);
}

/* ---- loading -------------------------------------------------------------------- */

static void load_expired(lua_State *L, lua_Debug *at)
{
    (void)at;
    vm_of(L)->load_killed = true;
    luaL_where(L, 1);
    lua_pushliteral(L, "the scripts took too long to load (SCRIPT_LOAD_CPU)");
    lua_concat(L, 2);
    lua_error(L);
}

/* A traceback that names no script tells nothing. */
static int traceback(lua_State *L)
{
    size_t n;
    const char *message = luaL_tolstring(L, 1, &n);

    luaL_traceback(L, L, message, 1);
    if (strstr(lua_tostring(L, -1) + n, ".lua:") == NULL) lua_pop(L, 1);
    return 1;
}

static int load_app(lua_State *L)
{
    struct vm *vm = vm_of(L);

    lua_getglobal(L, "require");
    lua_pushliteral(L, "app");
    lua_call(L, 1, 1);
    web_routes_build(L, vm);
    return 0;
}

static void add_fault(lua_State *L, struct buf *fault)
{
    size_t n;
    const char *text = lua_tolstring(L, -1, &n);

    if (text != NULL) buf_add(fault, text, n);
    else BUF_ADD(fault, "the scripts could not be loaded");
}

bool vm_load(struct vm *vm, struct buf *fault)
{
    lua_State *L = vm->L;
    int64_t limit = vm->env->limits.load_ns;
    bool ok;

    lua_pushcfunction(L, traceback);
    lua_pushcfunction(L, load_app);
    vm->loading = true;
    budget_enter(L, limit == 0 ? INT64_MAX / 2 : limit, load_expired);
    ok = lua_pcall(L, 0, 0, -2) == LUA_OK;
    budget_leave();
    lua_sethook(L, NULL, 0, 0);
    vm->loading = false;
    if (!ok) add_fault(L, fault);
    lua_settop(L, 0);
    if (!ok) return false;

    lua_gc(L, LUA_GCCOLLECT);
    vm->baseline = vm->used;
    return true;
}

const char *vm_setting(const struct vm *vm, const char *name)
{
    return vm->env->setting == NULL ? NULL : vm->env->setting(vm->env->setting_ctx, name);
}
