/* form_fields.h -- what the fields of a form must be, whatever the route makes of them. */
#ifndef SCRIPT_FORM_FIELDS_H
#define SCRIPT_FORM_FIELDS_H

#include <lua.h>

#include "http/message.h"

/* Raises 400, naming the parts that come twice, or are no file and no text: UTF-8 without
 * NUL. */
void form_fields_check(lua_State *L, const struct form_part parts[], int count);

/* Raises 400 for a field that comes twice. */
int form_field_twice(lua_State *L, struct slice name);

#endif
