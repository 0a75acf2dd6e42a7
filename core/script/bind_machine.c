#include "script/bind_machine.h"

#include <errno.h>
#include <lauxlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "script/require.h"

/* machine.memory(): bytes */
static int machine_memory(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE));
    return 1;
}

/* machine.cores() */
static int machine_cores(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)sysconf(_SC_NPROCESSORS_ONLN));
    return 1;
}

/* machine.clock(): seconds since 1970, and the zone's offset from UTC in seconds */
static int machine_clock(lua_State *L)
{
    struct timespec now;
    struct tm local;

    if (clock_gettime(CLOCK_REALTIME, &now) != 0 ||
        localtime_r(&now.tv_sec, &local) == NULL)
        return luaL_error(L, "no clock: %s", strerror(errno));
    lua_pushnumber(L, (lua_Number)now.tv_sec + (lua_Number)now.tv_nsec / 1e9);
    lua_pushinteger(L, local.tm_gmtoff);
    return 2;
}

/* machine.disk(path): bytes in all, bytes free for users, and the device as
 * "major:minor"; or nil and a message */
static int machine_disk(lua_State *L)
{
    const char *path = luaL_checkstring(L, 1);
    struct statvfs fs;
    struct stat st;

    if (statvfs(path, &fs) != 0 || stat(path, &st) != 0)
        return luaL_fileresult(L, 0, path);
    lua_pushinteger(L, (lua_Integer)(fs.f_blocks * fs.f_frsize));
    lua_pushinteger(L, (lua_Integer)(fs.f_bavail * fs.f_frsize));
    lua_pushfstring(L, "%d:%d", (int)major(st.st_dev), (int)minor(st.st_dev));
    return 3;
}

static int open_module(lua_State *L)
{
    static const luaL_Reg functions[] = {
        { "memory", machine_memory },
        { "cores", machine_cores },
        { "clock", machine_clock },
        { "disk", machine_disk },
        { NULL, NULL },
    };

    luaL_newlib(L, functions);
    return 1;
}

void machine_open(lua_State *L) { require_native(L, "omade.core.machine", open_module); }
