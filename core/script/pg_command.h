/* pg_command.h -- which SQL commands scripts may send.
 *
 * Connections are shared by all requests: what would change them for those who follow
 * is refused, with what to write instead.
 */
#ifndef SCRIPT_PG_COMMAND_H
#define SCRIPT_PG_COMMAND_H

#include <lua.h>
#include <stdbool.h>

#include "base/slice.h"

/* Raises for BEGIN, SET, LISTEN and the like; 'inside' a db.transaction some are fine. */
void pg_command_check(lua_State *L, struct slice sql, bool inside);

#endif
