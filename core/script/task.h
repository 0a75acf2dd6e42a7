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

#include "base/slice.h"

struct task;
struct vm;

/* ---- for bindings ----------------------------------------------------------- */

/* The task that runs now.  Raises "NAME cannot wait ..." where a wait is impossible:
 * no task (a script is loading), a coroutine of the script's own, inside
 * table.sort and the like. */
struct task *task_may_wait(lua_State *L, const char *name);

/* The task that runs now; NULL while scripts load. */
struct task *task_current(lua_State *L);

/* Registers the wait and its cancel, and returns its ticket. */
uint32_t task_await(struct task *task, const char *name, void (*cancel)(void *ctx), void *ctx);

/* Queues the task to be resumed; does nothing if the ticket is not the current one.
 * Never resumes by itself. */
void task_wake(struct task *task, uint32_t ticket);

/* First call of every continuation: raises when the task was killed. */
void task_resumed(lua_State *L);

/* Charges bytes outside of Lua's heap (bodies, results, replies) to the task, until
 * it ends.  False when it is over its share: the caller raises "not enough memory". */
bool task_charge(struct task *task, size_t bytes);

/* ---- who the task works for --------------------------------------------------- */

/* The user and role that row-level security sees ("" for none); kept by the task. */
struct task_identity {
    char user_id[37], role[17], order_id[37];
};
struct task_identity *task_identity(struct task *task);

/* The request's id for log lines; "-" for background work. */
const char *task_request_id(const struct task *task);
struct vm *task_vm(const struct task *task);

#endif
