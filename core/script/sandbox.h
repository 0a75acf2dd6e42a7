/* sandbox.h -- the standard library that scripts get.
 *
 * Text chunks only; no os, io, debug, package, dofile, loadfile; no finalizers or weak
 * tables in scripts' metatables; pcall, xpcall and the coroutine functions are ours:
 * once a task is killed they re-raise, so that it always ends.  Globals and the tables
 * of modules are read-only: what one request writes the next never sees.
 */
#ifndef SCRIPT_SANDBOX_H
#define SCRIPT_SANDBOX_H

#include <lua.h>

/* Opens the library in a fresh state and freezes it. */
void sandbox_open(lua_State *L);

/* Makes the table at 'at' read-only, in place: its fields move to a hidden table. */
void sandbox_freeze(lua_State *L, int at);

/* Adds 'function' as a global, also when the globals are frozen. */
void sandbox_global(lua_State *L, const char *name); /* pops the value */

/* Raises "cannot change NAME, it is shared ..." if the table at 'at' is frozen. */
void sandbox_check_writable(lua_State *L, int at);

#endif
