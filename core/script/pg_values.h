/* pg_values.h -- Lua values to parameters and results to Lua values. */
#ifndef SCRIPT_PG_VALUES_H
#define SCRIPT_PG_VALUES_H

#include <lua.h>

#include "db/pg_pool.h"

/* The text form of the value at 'at' (an absolute index), which stays on the stack and
 * so alive; NULL for NULL.  Tables become JSON.  Raises for what cannot be one. */
const char *pg_value_text(lua_State *L, int at);

/* {name = value, ...} with a metatable that lists the columns; 'sql' names its shape. */
void pg_push_row(lua_State *L, struct slice sql, const PGresult *result, int row);
void pg_push_rows(lua_State *L, struct slice sql, const PGresult *result);

/* Pushes the error of a failed operation, as web.fail raises it, with sqlstate and
 * constraint. */
void pg_push_error(lua_State *L, const struct pg_op *op);

#endif
