/* bind_files.h -- omade.core.files: the disk and the terminal, for commands of the
 * command line only.  Scripts that serve never get it. */
#ifndef SCRIPT_BIND_FILES_H
#define SCRIPT_BIND_FILES_H

#include <lua.h>

void files_open(lua_State *L);

#endif
