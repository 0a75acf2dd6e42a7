/* bind_decimal.h -- userdata "omade.decimal": the exact digits of a number.
 *
 * What a NUMERIC column holds, and what a JSON body says that is no int64.  The text
 * stays as it came (1.50 is written as 1.50) and compares by value.  There is no
 * arithmetic: :money() and :number() lead to it.
 */
#ifndef SCRIPT_BIND_DECIMAL_H
#define SCRIPT_BIND_DECIMAL_H

#include <lua.h>
#include <stdbool.h>

#include "base/check.h"
#include "base/slice.h"
#include "commerce/number.h"

/* Pushes a copy of the digits: a number as commerce/number.h reads it, or what else
 * PostgreSQL sends for a NUMERIC (NaN, Infinity), which stays a text. */
void decimal_push(lua_State *L, struct slice digits);

/* The digits, valid as long as the value; a NUL follows them.  Never raises. */
MUST_CHECK bool decimal_test(lua_State *L, int at, struct slice *digits);

/* For comparisons: the number that a decimal, a money or an integer at 'at' is.  Its
 * parts point to the value or into 'scratch'.  Never raises. */
enum { DECIMAL_SCRATCH = 24 };
MUST_CHECK bool decimal_operand(lua_State *L, int at,
                                char scratch[static DECIMAL_SCRATCH],
                                struct number *number);

/* The metamethods that money shares: both operands exact, else an error. */
int decimal_equal(lua_State *L);
int decimal_less(lua_State *L);
int decimal_less_equal(lua_State *L);

int luaopen_omade_decimal(lua_State *L);

#endif
