/* bind_money.h -- userdata "omade.money": an exact amount, see commerce/money.h. */
#ifndef SCRIPT_BIND_MONEY_H
#define SCRIPT_BIND_MONEY_H

#include <lua.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/check.h"
#include "script/bind_decimal.h"

void money_push(lua_State *L, int64_t cents);

/* Whether the value is a money; never raises.  'cents' may be NULL. */
bool money_test(lua_State *L, int at, int64_t *cents);

/* Reads a text as commerce/money.h does and pushes a money; otherwise pushes nil and
 * a message that names the text. */
MUST_CHECK bool money_push_text(lua_State *L, struct slice text);

int luaopen_omade_money(lua_State *L);

#endif
