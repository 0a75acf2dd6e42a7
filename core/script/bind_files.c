#include "script/bind_files.h"

#include <dirent.h>
#include <errno.h>
#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "script/require.h"
#include "script/vm.h"

/* files.home(): the folder with lua/, migrations/ and seeds/ */
static int files_home(lua_State *L)
{
    lua_pushstring(L, vm_of(L)->env->home);
    return 1;
}

/* files.read(path): the whole text, or nil and a message */
static int files_read(lua_State *L)
{
    const char *path = luaL_checkstring(L, 1);
    FILE *f = fopen(path, "re");
    luaL_Buffer b;
    size_t n;

    if (f == NULL) return luaL_fileresult(L, 0, path);
    luaL_buffinit(L, &b);
    do {
        char *room = luaL_prepbuffer(&b);

        n = fread(room, 1, LUAL_BUFFERSIZE, f);
        luaL_addsize(&b, n);
    } while (n > 0);
    if (ferror(f)) {
        fclose(f);
        return luaL_fileresult(L, 0, path);
    }
    fclose(f);
    luaL_pushresult(&b);
    return 1;
}

/* files.list(folder): the names in it, sorted, or nil and a message */
static int files_list(lua_State *L)
{
    const char *folder = luaL_checkstring(L, 1);
    struct dirent **names = NULL;
    int count = scandir(folder, &names, NULL, alphasort), at = 0;

    if (count < 0) return luaL_fileresult(L, 0, folder);
    lua_createtable(L, count, 0);
    for (int i = 0; i < count; i++) {
        if (names[i]->d_name[0] != '.') {
            lua_pushstring(L, names[i]->d_name);
            lua_rawseti(L, -2, ++at);
        }
        free(names[i]);
    }
    free(names);
    return 1;
}

static int write_to(lua_State *L, FILE *f)
{
    size_t n;
    const char *text = luaL_checklstring(L, 1, &n);

    if (fwrite(text, 1, n, f) == n && fflush(f) == 0) return 0;
    lua_pushfstring(L, "cannot write: %s", strerror(errno));
    return lua_error(L);
}

static int files_print(lua_State *L) { return write_to(L, stdout); }
static int files_warn(lua_State *L) { return write_to(L, stderr); }

static int files_is_terminal(lua_State *L)
{
    lua_pushboolean(L, isatty(STDOUT_FILENO));
    return 1;
}

/* files.terminal_size(): columns and lines of the terminal on standard output; nothing
 * when there is none, or it does not say */
static int files_terminal_size(lua_State *L)
{
    struct winsize size;

    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return 0;
    lua_pushinteger(L, size.ws_col);
    lua_pushinteger(L, size.ws_row);
    return 2;
}

static int open_module(lua_State *L)
{
    static const luaL_Reg functions[] = {
        { "home", files_home },
        { "read", files_read },
        { "list", files_list },
        { "print", files_print },
        { "warn", files_warn },
        { "is_terminal", files_is_terminal },
        { "terminal_size", files_terminal_size },
        { NULL, NULL },
    };

    luaL_newlib(L, functions);
    return 1;
}

void files_open(lua_State *L) { require_native(L, "omade.core.files", open_module); }
