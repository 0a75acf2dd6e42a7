/* A function, a place to begin, a subject, a pattern and a replacement: the same
 * answer or the same error as in the stock library, unless it takes too long.
 *
 * An input is "f1subject\npattern\nreplacement": f find, p plain find, m match, g
 * gmatch, s gsub; then a digit, or a letter for negative places. */
#include <lauxlib.h>
#include <lualib.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/slice.h"
#include "script/bind_string.h"
#include "script/budget.h"

enum { BUDGET_NS = 10 * 1000 * 1000, LONGEST = 300 };

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* All that there is to know of one call, as text. */
static const char calls[] =
    "local pack, format, pcall, type = table.pack, string.format, pcall, type\n"
    "local concat, tostring = table.concat, tostring\n"
    "local function show(list)\n"
    "  for i = 1, list.n do\n"
    "    local v = list[i]\n"
    "    list[i] = type(v) == 'string' and format('%q', v) or tostring(v)\n"
    "  end\n"
    "  return concat(list, ' ', 1, list.n)\n"
    "end\n"
    "local function each(gmatch, ...)\n"
    "  local all, step = {}, gmatch(...)\n"
    "  while true do\n"
    "    local found = pack(step())\n"
    "    if found[1] == nil then return concat(all, ';') end\n"
    "    all[#all + 1] = show(found)\n"
    "  end\n"
    "end\n"
    "local function call(string, kind, at, s, p, r)\n"
    "  if kind == 'p' then return string.find(s, p, at, true) end\n"
    "  if kind == 'm' then return string.match(s, p, at) end\n"
    "  if kind == 'g' then return each(string.gmatch, s, p, at) end\n"
    "  if kind == 's' then return string.gsub(s, p, r, at) end\n"
    "  return string.find(s, p, at)\n"
    "end\n"
    "stock = {}\n"
    "for name, f in pairs(string) do stock[name] = f end\n"
    "function outcome(string, ...) return show(pack(pcall(call, string, ...))) end\n";

static void require(bool holds)
{
    if (!holds) abort();
}

static void over(lua_State *L, lua_Debug *at)
{
    (void)at;
    luaL_error(L, "over");
}

static struct slice take_line(struct slice *rest)
{
    const char *end = memchr(rest->p, '\n', rest->n);
    struct slice line = { rest->p, end == NULL ? rest->n : (size_t)(end - rest->p) };
    size_t taken = end == NULL ? line.n : line.n + 1;

    rest->p += taken;
    rest->n -= taken;
    if (line.n > LONGEST) line.n = LONGEST;
    return line;
}

/* Leaves the outcome of one library's function on the stack.  False: the time was over
 * outside of it. */
static bool try(lua_State *L, const char *library, struct slice input)
{
    char kind = input.p[0];
    int at = input.p[1] <= '9' ? input.p[1] - '0' : '@' - input.p[1];

    input.p += 2;
    input.n -= 2;
    lua_getglobal(L, "outcome");
    lua_getglobal(L, library);
    lua_pushlstring(L, &kind, 1);
    lua_pushinteger(L, at);
    for (int i = 0; i < 3; i++) {
        struct slice line = take_line(&input);

        lua_pushlstring(L, line.p, line.n);
    }
    return lua_pcall(L, 6, 1, 0) == LUA_OK;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    require(budget_start());
    return 0;
}

static void compare(lua_State *L, struct slice input)
{
    bool in_time;

    budget_enter(L, BUDGET_NS, over);
    in_time = try(L, "string", input) && !budget_used_up();
    budget_leave();
    lua_sethook(L, NULL, 0, 0);
    if (!in_time) return;
    require(try(L, "stock", input));
    if (lua_rawequal(L, -1, -2)) return;
    fprintf(stderr, "ours:  %s\nstock: %s\n", lua_tostring(L, -2), lua_tostring(L, -1));
    abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    lua_State *L;

    if (size < 2) return 0;
    L = luaL_newstate();
    require(L != NULL);
    luaL_openlibs(L);
    require(luaL_dostring(L, calls) == LUA_OK);
    string_install(L);
    compare(L, (struct slice){ (const char *)data, size });
    lua_close(L);
    return 0;
}
