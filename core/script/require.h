/* require.h -- require() for scripts: text from the snapshot, never from the disk. */
#ifndef SCRIPT_REQUIRE_H
#define SCRIPT_REQUIRE_H

#include <lua.h>

void require_install(lua_State *L);

/* Makes open() the maker of the native module 'name' ("omade.core.db"), run at its
 * first require. */
void require_native(lua_State *L, const char *name, lua_CFunction open);

#endif
