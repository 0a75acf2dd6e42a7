/* task.h -- one coroutine that belongs to one piece of work.
 *
 *   RUNNING --await--> WAITING --wake--> READY --resume--> RUNNING --> ENDED
 *
 * task.c holds the only lua_resume.  A callback of the loop never touches a Lua
 * stack: it stores its answer and calls task_wake().
 *
 * Every wait is a triple in one file - start, cancel, finish:
 *
 *   start    struct task *task = task_may_wait(L, "db.rows");    may raise
 *            ... read the arguments                               may raise
 *            op->ticket = task_await(task, "db.rows", op_cancel, op);
 *            submit(op, on_answer);
 *            return lua_yieldk(L, 0, (lua_KContext)op, op_finish);
 *   answer   store; task_wake(op->task, op->ticket);
 *   cancel   cuts the answer off: after it, on_answer never comes
 *   finish   task_resumed(L) first: raises when the task was killed meanwhile; then
 *            pushes results or raises.  The op is a userdata on the coroutine's
 *            stack, whose __gc releases what is left.
 *
 * Every wait has a ticket; a wake-up with an old one is dropped.
 */
#ifndef SCRIPT_TASK_H
#define SCRIPT_TASK_H

#include <lua.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/check.h"
#include "base/list.h"
#include "base/slice.h"

struct script_env;
struct task;
struct vm;

/* ---- for bindings ----------------------------------------------------------- */

/* The task that runs now.  Raises "NAME cannot wait ..." where a wait is impossible:
 * no task (a script is loading), a coroutine of the script's own, inside
 * table.sort and the like. */
struct task *task_may_wait(lua_State *L, const char *name);

/* The task that runs now; NULL while scripts load. */
struct task *task_current(lua_State *L);

/* Registers the wait and its cancel, and returns its ticket.  'name' is static. */
uint32_t task_await(struct task *task, const char *name, void (*cancel)(void *ctx),
                    void *ctx);

/* Queues the task to be resumed; does nothing if the ticket is not the current one.
 * Never resumes by itself. */
void task_wake(struct task *task, uint32_t ticket);

/* First call of every continuation: raises when the task was killed. */
void task_resumed(lua_State *L);

/* Charges bytes outside of Lua's heap (bodies, results, replies) to the task, until
 * it ends.  False when it is over its share and so killed: the caller raises. */
bool task_charge(struct task *task, size_t bytes);

/* For the allocator: notes where in L the task just got no memory. */
void task_memory_refused(struct task *task, lua_State *L);

/* Whether L's task was killed, and whether L is the coroutine of the task itself (not
 * one of the script's own). */
bool task_is_killed(lua_State *L);
bool task_owns(lua_State *L);

/* ---- who the task works for --------------------------------------------------- */

/* The user and role that row-level security sees ("" for none). */
struct task_identity {
    char user_id[37], role[17], order_id[37];
};
struct task_identity *task_identity(struct task *task);

/* The transaction that the task is in; NULL outside.  bind_pg's. */
struct pg_transaction;
struct pg_transaction *task_transaction(const struct task *task);
void task_set_transaction(struct task *task, struct pg_transaction *transaction);

/* The request's id for log lines; "-" for background work. */
bool task_is_background(const struct task *task);
const char *task_request_id(const struct task *task);
struct vm *task_vm(const struct task *task);

/* ---- for those who start tasks -------------------------------------------------- */

enum task_kill {
    TASK_ALIVE,
    TASK_KILLED_CPU,
    TASK_KILLED_MEMORY,
    TASK_KILLED_GONE, /* its client, or whoever waited for it */
    TASK_KILLED_SHUTDOWN,
    TASK_KILLED_RELOAD, /* its generation is too old */
    TASK_KILLED_LATE,   /* REQUEST_TIMEOUT */
};

struct task_plan {
    const char *name;       /* what it is, for people; lives as long as the task */
    const char *request_id; /* NULL: background */

    /* Called in the coroutine at the end, protected, with true and the results, or
     * false and the error (a string carries the traceback).  Never when killed. */
    lua_CFunction finish;

    /* Last of all, whatever happened; 'killed' and 'ok' tell.  The task is gone behind
     * it.  No Lua. */
    void (*on_end)(struct task *task, void *ctx);
    void *ctx;
    bool unlimited; /* a command of the command line: no budgets */
};

/* A new task and its empty coroutine; NULL: no memory.  The caller pushes a function
 * and its arguments to task_lua(), protected or without raising, then starts it. */
MUST_CHECK struct task *task_new(struct vm *vm, const struct task_plan *plan);
lua_State *task_lua(const struct task *task);

/* 'part' and the task use one budget of CPU time from now on (all, spawn).  False: no
 * memory.  Before it: whether so many more parts may be under way. */
MUST_CHECK bool task_share(struct task *task, struct task *part);
bool task_has_room(const struct task *task, int parts);

/* A part that used up the common budget, or its share of the memory, takes the waiting
 * task with it: it goes on only to end. */
void task_inherit_kill(struct task *task, const struct task *part);

/* Resumes at once; the task may be over behind it. */
void task_start(struct task *task, int arguments);

/* Instead of task_start. */
void task_abandon(struct task *task);

/* Queues it instead, for starts from inside another task. */
void task_start_later(struct task *task, int arguments);

/* Ends it as soon as it can be: its wait is cancelled and raises.  The first reason
 * counts. */
void task_kill(struct task *task, enum task_kill why);

enum task_kill task_killed(const struct task *task);
const char *task_killed_message(const struct task *task); /* with file:line */
bool task_ok(const struct task *task);                    /* the body returned */
void *task_context(const struct task *task);              /* plan.ctx */

/* "file:line" of the error that ended the body; "" when it returned, or raised in C. */
const char *task_raised_at(const struct task *task);

/* Whether it was planned with this on_end: what task_context() then is, is known. */
bool task_is_of(const struct task *task, void (*on_end)(struct task *task, void *ctx));
struct task *task_of_node(struct list_node *node); /* in vm.tasks */

/* Resumes what is ready, also what becomes ready meanwhile, for some milliseconds:
 * what is left waits for the next turn of the loop. */
void task_run_ready(struct script_env *env);

/* For the list of running tasks: what it waits for (NULL: it runs), since when. */
const char *task_waits_for(const struct task *task);
const char *task_name(const struct task *task);
void task_push_traceback(lua_State *L, const struct task *task);
int64_t task_age_ms(const struct task *task);

#endif
