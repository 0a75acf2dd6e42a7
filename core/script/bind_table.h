/* bind_table.h -- the table functions of bind_string.h. */
#ifndef SCRIPT_BIND_TABLE_H
#define SCRIPT_BIND_TABLE_H

#include <lua.h>

/* Replaces functions in the global 'table'. */
void table_install(lua_State *L);

#endif
