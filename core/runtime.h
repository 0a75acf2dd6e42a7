/* runtime.h -- a loop with PostgreSQL, Redis and scripts: what a worker and a command
 * of the command line have in common. */
#ifndef RUNTIME_H
#define RUNTIME_H

#include <stdbool.h>
#include <uv.h>

#include "base/buf.h"
#include "base/check.h"
#include "config.h"
#include "script/vm.h"

struct snapshot;

struct runtime {
    uv_loop_t loop;
    uv_prepare_t before_wait;
    uv_check_t after_wait;
    uv_idle_t more; /* active while tasks are ready: the loop does not wait */
    struct script_env env;
    const struct config *config;
    int closing; /* handles and pools that are not closed yet */
    bool started;
};

/* As app_user with Redis; as the owner of the database; with neither. */
enum runtime_role { RUNTIME_SERVER, RUNTIME_OWNER, RUNTIME_PLAIN };

/* The settings of scripts from the configuration; no loop, no pools. */
void runtime_env(const struct config *config, struct script_env *env);

/* Starts loop and pools.  False with a message; runtime_stop() is due in any case. */
MUST_CHECK bool runtime_start(struct runtime *rt, const struct config *config,
                              enum runtime_role role, struct buf *fault);

/* Loads a generation and makes it the current one; the one before it, if any, is
 * returned in '*before' for the caller to retire. */
MUST_CHECK bool runtime_load(struct runtime *rt, struct snapshot *snapshot,
                             uint64_t number, struct vm **before, struct buf *fault);

/* Ends pools and loop; no task may be left.  Runs the loop until all is closed. */
void runtime_stop(struct runtime *rt);

#endif
