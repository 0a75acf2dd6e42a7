/* fail.h -- errors that become an answer: what web.fail raises.
 *
 * A table with the metatable "omade.fail": status, code, message; errors and fields of
 * a validation; headers; 'extra', whose fields join the body; 'detail' for the log
 * only.
 */
#ifndef SCRIPT_FAIL_H
#define SCRIPT_FAIL_H

#include <lua.h>
#include <stdbool.h>

#include "base/slice.h"

#define FAIL_TYPE "omade.fail"

void fail_open(lua_State *L); /* makes the metatable */

/* Pushes one; 'detail' may be NULL. */
void fail_push(lua_State *L, int status, const char *code, const char *message,
               const char *detail);

/* Pushes a 400 without fields; adds a field and what is wrong with it to the one on top.
 * The message, "Unit price must be given once", is the fail's own, too, if it is the first. */
void fail_push_fields(lua_State *L);
void fail_add_field(lua_State *L, struct slice name, const char *fault);

bool fail_test(lua_State *L, int at);

/* The usual code of a status: 404 is "NOT_FOUND". */
const char *fail_code(int status);

#endif
