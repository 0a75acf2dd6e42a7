/* budget.h -- CPU limits of scripts.
 *
 * A watchdog thread only compares clocks and signals the loop thread; the handler
 * there sets a hook on the coroutine that runs, and the hook raises.  (lua_sethook
 * from another thread corrupts call frames.)  What a hook cannot reach - a long loop
 * in C on a script's behalf - polls budget_check().
 */
#ifndef SCRIPT_BUDGET_H
#define SCRIPT_BUDGET_H

#include <lua.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/check.h"

/* Starts and ends the watchdog for the calling thread, the loop's; once a process. */
MUST_CHECK bool budget_start(void);
void budget_stop(void);

/* A stretch: from here until budget_leave(), at most 'limit_ns' of CPU time.  When it
 * is used up, on_expired comes as a Lua hook, again and again until the stretch ends;
 * it raises. */
void budget_enter(lua_State *L, int64_t limit_ns, lua_Hook on_expired);

/* Another coroutine runs within the stretch; returns the one that ran. */
lua_State *budget_switch(lua_State *L);

/* The coroutine that runs in the stretch; NULL outside. */
lua_State *budget_running(void);

/* For on_expired: whether the stretch's time is over (not only budget_interrupt). */
bool budget_used_up(void);

/* CPU time that the stretch took, to 1 ms. */
int64_t budget_leave(void);

/* Makes on_expired come at the next instruction of the running coroutine. */
void budget_interrupt(void);

/* For C loops that may run long: raises when the stretch is used up.  Costs one load
 * of a flag; outside of any stretch (scripts in a tool, unit tests) it does nothing. */
void budget_check(lua_State *L);

#endif
