/* vm.h -- one generation of the scripts: a lua_State, its memory account, its routes.
 *
 * State and routes are one unit, made from one snapshot and swapped by one pointer.
 * An old generation lives until its last task ends.
 */
#ifndef SCRIPT_VM_H
#define SCRIPT_VM_H

#include <lua.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "base/buf.h"
#include "base/check.h"
#include "base/list.h"
#include "base/slice.h"
#include "script/heap.h"

struct metrics;
struct pg_pool;
struct redis;
struct route_tree;
struct shared;
struct server;
struct snapshot;
struct task;
struct vm;

/* Limits of scripts; times in ns of CPU, sizes in bytes.  0: none. */
struct script_limits {
    int64_t stretch_ns; /* between two awaits */
    int64_t request_ns; /* a request in all */
    int64_t load_ns;    /* loading all scripts */
    size_t vm_memory;   /* the Lua heap of a generation */
    size_t task_memory; /* a task's share of it */
};

/* What all generations of a worker share; the worker's, lives as long as it. */
struct script_env {
    uv_loop_t *loop;    /* NULL in the process that only tries the scripts */
    struct pg_pool *pg; /* NULL where there is none, likewise 'redis' */
    struct redis *redis;
    struct shared *shared; /* omade.shared */
    struct script_limits limits;
    bool development;         /* error texts reach the client */
    const char *cors_origins; /* CORS_ORIGINS; "": none */
    const char *(*setting)(void *ctx, const char *name); /* NULL: not set */
    void *setting_ctx;
    const char *home;          /* the folder that holds lua/, migrations/ ... */
    const char *app;           /* the app folder */
    const char *upload_dir;    /* UPLOAD_DIR */
    struct list ready;         /* tasks to resume, of all generations */
    struct list jobs;          /* every(...) timers by name: see bind_jobs */
    struct buf scratch;        /* for answers; empty between uses */
    struct buf answer_headers; /* lines that every answer carries: a reload's error */
    size_t tasks_live, spawned;
    void *curl, *crypto, *mail; /* bindings' own state, made when first used */
    struct vm *current;         /* the generation that new work goes to */
    struct server *server;      /* NULL where there is none */
    struct metrics *metrics;    /* this worker's figures; NULL where nobody counts */
    const struct metrics *all_metrics; /* of all workers */
    int workers;
    char *fault; /* why the scripts on the disk do not load; NULL */
    bool draining;
};

/* A coroutine that waits for its next task. */
struct vm_coroutine {
    lua_State *L;
    int ref;
};

enum { VM_COROUTINES_MAX = 256 };

struct vm {
    lua_State *L;
    struct script_env *env;
    struct snapshot *snapshot; /* shared, counted */
    uint64_t generation;

    struct heap heap;
    size_t used, cap;    /* the Lua heap */
    size_t baseline;     /* 'used' when loading was done */
    size_t used_before;  /* 'used' when the running task was last accounted */
    size_t interrupt_at; /* 'used' above it: the running task is looked at */

    struct task *running; /* whose coroutine runs; NULL while loading */
    bool loading, load_killed;
    struct list tasks; /* all that have not ended */
    bool retired;      /* ends with its last task */
    void (*on_empty)(struct vm *vm);
    void *owner; /* for on_empty */

    struct vm_coroutine pool[VM_COROUTINES_MAX];
    int pool_count;
    int closing_depth; /* nested coroutine.close */

    struct route_tree *routes;
    struct web_route **route_list;
    size_t route_count;
};

/* A new state with the safe libraries; no script has run yet.  NULL: no memory. */
MUST_CHECK struct vm *vm_new(struct script_env *env, struct snapshot *snapshot,
                             uint64_t generation);

/* Runs the app's app.lua, and what it requires, under the load limits, and builds the
 * routes.  On failure 'fault' holds "file:line: message" (and the traceback). */
MUST_CHECK bool vm_load(struct vm *vm, struct buf *fault);

/* Frees the state; no task may be left. */
void vm_free(struct vm *vm);

/* No new work; freed by on_empty once its last task has ended. */
void vm_retire(struct vm *vm, void (*on_empty)(struct vm *vm));

/* The generation that L belongs to. */
static inline struct vm *vm_of(lua_State *L)
{
    return *(struct vm **)lua_getextraspace(L);
}
static inline struct script_env *vm_env(const struct vm *vm) { return vm->env; }
static inline size_t vm_memory(const struct vm *vm) { return vm->used; }

/* The value of a setting of the app or the engine; NULL if there is none. */
const char *vm_setting(const struct vm *vm, const char *name);

#endif
