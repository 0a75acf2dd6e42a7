/* bind_string.h -- string and table functions that can always be interrupted.
 *
 * The hook that ends a script over its budget does not reach C, where the stock
 * functions may loop for hours: a pattern with many choices, a table with a lying
 * __len.  These behave the same but poll budget_check().  The rest of the stock library
 * is linear in what it gets, which the cap on memory bounds.
 *
 * Differences on purpose: string.rep makes at most 64 MiB; string.dump is gone;
 * table.remove blames argument 2, not 1, for a position out of bounds.
 */
#ifndef SCRIPT_BIND_STRING_H
#define SCRIPT_BIND_STRING_H

#include <lua.h>

/* Replaces functions in the globals 'string' and 'table', which must be there. */
void string_install(lua_State *L);

#endif
