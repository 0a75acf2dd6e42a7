/* Our string and table functions against the stock ones, and against time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include <lauxlib.h>
#include <lualib.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/mem.h"
#include "script/bind_string.h"
#include "script/budget.h"

enum { GUARD_S = 300, BUDGET_MS = 50, LATEST_MS = 10 * BUDGET_MS };

/* ---- a state with both ---------------------------------------------------- */

static const char helpers[] =
    "local pack, stock_gsub, format = table.pack, string.gsub, string.format\n"
    /* The names of functions and the numbers of arguments may differ. */
    "local function outcome(f, ...)\n"
    "  local r = pack(pcall(f, ...))\n"
    "  if not r[1] then r[2] = stock_gsub(tostring(r[2]), \"#%d to '[^']*'\", '') end\n"
    "  return r\n"
    "end\n"
    "local function show(list)\n"
    "  local text = ''\n"
    "  for i = 1, list.n do\n"
    "    local v = list[i]\n"
    "    text = text .. (type(v) == 'string' and format('%q', v) or tostring(v)) .. ' '\n"
    "  end\n"
    "  return text\n"
    "end\n"
    "function same(name, ours, theirs, ...)\n"
    "  local a, b = outcome(ours, ...), outcome(theirs, ...)\n"
    "  local equal = a.n == b.n\n"
    "  for i = 1, a.n do equal = equal and a[i] == b[i] end\n"
    "  for i = 1, a.n do equal = equal and math.type(a[i]) == math.type(b[i]) end\n"
    "  if not equal then\n"
    "    error(name .. ': ' .. show(pack(...)) .. '\\nours: ' .. show(a) ..\n"
    "          '\\nstock: ' .. show(b), 0)\n"
    "  end\n"
    "end\n"
    /* All that the iterator gives, as one text. */
    "function walk(gmatch)\n"
    "  return function(...)\n"
    "    local all, n = {}, 0\n"
    "    local step = gmatch(...)\n"
    "    while true do\n"
    "      local found = pack(step())\n"
    "      if found[1] == nil then return table.concat(all, ';') end\n"
    "      n = n + 1\n"
    "      all[n] = show(found)\n"
    "    end\n"
    "  end\n"
    "end\n"
    "local function copy(t)\n"
    "  local c = {}\n"
    "  for k, v in pairs(t) do c[k] = v end\n"
    "  return c\n"
    "end\n"
    "stock = { string = copy(string), table = copy(table) }\n"
    "stock.gmatch = walk(string.gmatch)\n";

static void run(lua_State *L, const char *script)
{
    if (luaL_dostring(L, script) != LUA_OK) fail_msg("%s", lua_tostring(L, -1));
    lua_settop(L, 0);
}

static int cpu_ns(lua_State *L)
{
    lua_pushinteger(L, clock_thread_cpu_ns());
    return 1;
}

static lua_State *open_both(lua_State *L)
{
    assert_non_null(L);
    luaL_openlibs(L);
    run(L, helpers);
    string_install(L);
    assert_int_equal(lua_gettop(L), 0);
    lua_register(L, "cpu_ns", cpu_ns);
    return L;
}

static int setup(void **state)
{
    *state = open_both(luaL_newstate());
    alarm(0);
    return 0;
}

static int teardown(void **state)
{
    alarm(0);
    lua_close(*state);
    return mem_live() == 0 ? 0 : -1;
}

/* ---- what is there --------------------------------------------------------- */

static void the_library_is_ours(void **state)
{
    run(*state, "for _, name in ipairs { 'find', 'match', 'gmatch', 'gsub', 'rep' } do\n"
                "  assert(string[name] ~= stock.string[name], name)\n"
                "end\n"
                "for _, name in ipairs { 'concat', 'insert', 'move', 'remove', 'sort',\n"
                "                        'unpack' } do\n"
                "  assert(table[name] ~= stock.table[name], name)\n"
                "end\n"
                "assert(string.dump == nil)\n"
                "assert(string.format == stock.string.format)\n"
                "assert(getmetatable('').__index == string)\n"
                "assert(('a.b'):find('.', 1, true) == 2)\n");
}

/* ---- one by one against the stock functions -------------------------------- */

static const char subjects_and_patterns[] =
    "local deep = ('('):rep(32) .. (')'):rep(32)\n"
    "cases = {\n"
    "  { 'hello world from Lua', '%a+' }, { 'hello world', '^h' }, { 'hello', '^e' },\n"
    "  { 'key = value', '(%w+)%s*=%s*(%w+)' }, { 'hello', 'l+' }, { 'hello', '()ll()' },\n"
    "  { 'THE (quick) fox', '%((%a+)%)' }, { 'THE (quick) fox', '%f[%a]%a+%f[%A]' },\n"
    "  { 'f(a(b)c)d', '%b()' }, { '((((', '%b()' }, { 'xaax', '%bxx' }, { 'x', '%bxx' },\n"
    "  { 'f(a(b)c', '%b()' }, { ')(', '%b()' }, { 'a\\0b\\0', '%b\\0\\0' },\n"
    "  { '', '%b\\0x' }, { 'THE END', '%f[%w]%w+' }, { '[[x]]', '%[(%[.-%])%]' },\n"
    "  { 'aaa', 'a-' }, { 'aaa', 'a-$' }, { 'aaa', '^a-$' }, { 'aaab', 'a-b' },\n"
    "  { 'aaab', '.-(a*)b' }, { 'abc', '' }, { '', '' }, { '', '^$' }, { '', '$' },\n"
    "  { 'abc', '$' }, { 'abc', '^' }, { 'a$b', 'a$b' }, { 'a^b', 'a^b' },\n"
    "  { 'a$', '%$$' }, { 'abc', 'b*' }, { 'abc', 'x*' }, { 'abc', '[a-c]+' },\n"
    "  { 'a-c', '[a%-c]+' }, { 'a-c', '[a-]+' }, { 'a]c', '[]]' }, { 'a]c', '[^]]+' },\n"
    "  { 'a]-^%', '[]-a]+' }, { 'a^', '[a^]+' }, { 'b%', '[%%]' }, { 'az%', '[a-%z]+' },\n"
    "  { 'az%-', '[%a-z]+' }, { 'a-b', '[%a-%]+' }, { '09af', '%x+' }, { 'a1', '[%d%a]+' },\n"
    "  { 'a1', '[^%d%a]' }, { 'a\\0b', '%z' }, { 'a\\0b', 'a\\0b' }, { 'a\\0b', '[\\0]' },\n"
    "  { 'a\\0b', '.-b' }, { 'abcabc', '(abc)%1' }, { 'abab', '(a)(b)%1%2' },\n"
    "  { 'aa', '()a%1' }, { '\"it\\'s\"', '([\"\\'])(.-)%1' }, { 'x', '(x)(%1)' },\n"
    "  { 'a', '(a%1)' }, { 'a', '%1' }, { 'a', '%0' }, { 'a', '%9' }, { 'a', '%' },\n"
    "  { 'b', 'a%' }, { 'a', 'a%' }, { 'a', '[' }, { 'a', '[]' }, { 'a', '[^' },\n"
    "  { 'a', '[^]' }, { 'a', '[a' }, { 'a', '[a%' }, { 'a', '[%]' }, { 'a', '[a-' },\n"
    "  { 'a', '%f' }, { 'a', '%fa' }, { 'a', '%f[' }, { 'a', '%b' }, { 'a', '%ba' },\n"
    "  { 'a', '(' }, { 'a', ')' }, { 'a', 'a)' }, { 'a', '(a' }, { 'a', '(()' },\n"
    "  { 'a', '())' }, { 'x', deep }, { 'x', deep .. '()' }, { 'x', ('()'):rep(33) },\n"
    "  { 'x', ('()'):rep(32) }, { ('x'):rep(400), ('x?'):rep(400) },\n"
    "  { ('x'):rep(199), ('x?'):rep(199) }, { ('x'):rep(200), ('x?'):rep(200) },\n"
    "  { ('x'):rep(201), ('x?'):rep(201) }, { ('x'):rep(60), ('x-'):rep(300) .. 'y' },\n"
    "  { 'xy', ('z*'):rep(500) .. 'x' }, { 'a*b', '*b' }, { '+', '+' }, { '-', '-' },\n"
    "  { '?', '?' }, { 'a**', 'a**' }, { 'a+', 'a++' }, { 'aaa-', 'a--' }, { 'a?', 'a?' .. '?' },\n"
    "  { '(a)', '(%()(a)(%))' }, { 'a.b', 'a%.b' }, { 'a.b', '%.' }, { 'aXb', '%u' },\n"
    "  { 'a b\\tc\\n', '%s+' }, { 'a,b;c', '%p' }, { 'a\\1b', '%c' }, { 'a b', '%g+' },\n"
    "  { 'a b', '%G' }, { '\\200\\255', '%A+' }, { '\\200\\255', '[\\128-\\255]+' },\n"
    "  { '\\200\\255', '[^\\1-\\127]+' }, { 'ab', '%q' }, { 'q', '%q' }, { '@', '%@' },\n"
    "  { 'aab', 'a-%f[b]' }, { 'aab', '%f[b]b%f[\\0]' }, { 'b\\0', '%f[\\0]' },\n"
    "  { 12345, 34 }, { 'a12', 1 }, { 1.5, '%.' }, { {}, 'a' }, { 'a', {} }, { 'a' }, {},\n"
    "}\n"
    "inits = { 1, 0, 2, 3, 5, 100, -1, -2, -3, -100, math.maxinteger,\n"
    "          math.mininteger, '2', 2.0, 1.5, 'x', {} }\n";

static const char try_searches[] =
    "for _, c in ipairs(cases) do\n"
    "  for _, name in ipairs { 'find', 'match', 'gmatch' } do\n"
    "    local ours, theirs = string[name], stock.string[name]\n"
    "    if name == 'gmatch' then ours, theirs = walk(ours), stock.gmatch end\n"
    "    same(name, ours, theirs, table.unpack(c, 1, #c))\n"
    "    for _, init in ipairs(inits) do\n"
    "      same(name, ours, theirs, c[1], c[2], init)\n"
    "      if c[2] then same(name, ours, theirs, c[1], '^' .. tostring(c[2]), init) end\n"
    "      if name == 'find' then\n"
    "        same(name, ours, theirs, c[1], c[2], init, true)\n"
    "        same(name, ours, theirs, c[1], c[2], init, false)\n"
    "      end\n"
    "    end\n"
    "  end\n"
    "end\n";

static const char try_replacements[] =
    "local odd = setmetatable({}, { __index = function(_, k) return '<' .. k .. '>' end })\n"
    "local replacements = { '', 'x', '%0', '<%0>', '%1', '%2%1', '%%', '%', 'x%', '%x',\n"
    "  '%1%1%1', '%9', 12, 1.5, true, { a = 'A', hello = 1, l = false }, odd, {},\n"
    "  { a = true }, { a = {} },\n"
    "  function() end, function() return false end, function(a) return a .. '!' end,\n"
    "  function(...) return select('#', ...) end, function() return {} end,\n"
    "  function() error('stop', 0) end, string.upper, string.len }\n"
    "for _, c in ipairs(cases) do\n"
    "  same('gsub', string.gsub, stock.string.gsub, table.unpack(c, 1, #c))\n"
    "  for _, r in ipairs(replacements) do\n"
    "    same('gsub', string.gsub, stock.string.gsub, c[1], c[2], r)\n"
    "    if c[2] then\n"
    "      same('gsub', string.gsub, stock.string.gsub, c[1], '^' .. tostring(c[2]), r)\n"
    "    end\n"
    "    for _, n in ipairs { 0, 1, 2, -1, math.maxinteger, '1', 1.5, 'x' } do\n"
    "      same('gsub', string.gsub, stock.string.gsub, c[1], c[2], r, n)\n"
    "    end\n"
    "  end\n"
    "end\n"
    "same('gsub', string.gsub, stock.string.gsub, 'hello world', '%w+', '%0 %0', 1)\n"
    "same('gsub', string.gsub, stock.string.gsub, 'abc', '%w', '%%%0')\n"
    "same('gsub', string.gsub, stock.string.gsub, ('ab '):rep(999), '%w', '%0%0', 500)\n";

static void searches_are_as_in_stock(void **state)
{
    run(*state, subjects_and_patterns);
    run(*state, try_searches);
}

static void replacements_are_as_in_stock(void **state)
{
    run(*state, subjects_and_patterns);
    run(*state, try_replacements);
}

static void a_replacement_cannot_yield(void **state)
{
    run(*state,
        "for _, gsub in ipairs { string.gsub, stock.string.gsub } do\n"
        "  local co = coroutine.create(function() gsub('a', 'a', coroutine.yield) end)\n"
        "  local ok, why = coroutine.resume(co)\n"
        "  assert(not ok and why == 'attempt to yield across a C-call boundary', why)\n"
        "end\n");
}

/* An iterator may be called by another coroutine than its maker. */
static void an_iterator_walks_in_any_coroutine(void **state)
{
    run(*state,
        "local step = string.gmatch('one two three', '(%w)(%w+)')\n"
        "assert(step() == 'o')\n"
        "local t = table.pack(coroutine.wrap(function() return step() end)())\n"
        "assert(t.n == 2 and t[1] == 't' and t[2] == 'wo')\n"
        "collectgarbage()\n"
        "assert(select(2, step()) == 'hree' and step() == nil and step() == nil)\n");
}

static void plain_text_is_found_across_windows(void **state)
{
    run(*state,
        "local window = 256 * 1024\n"
        "for _, length in ipairs { 1, 2, 7, 1000, window - 1, window, window + 1 } do\n"
        "  local text = ('b'):rep(length)\n"
        "  for _, at in ipairs { 0, 1, window - length, window - 1, window, window + 1,\n"
        "                        2 * window - 1, 2 * window, 3 * window } do\n"
        "    if at >= 0 then\n"
        "      local s = ('a'):rep(at) .. text .. 'a'\n"
        "      local from, to = s:find(text, 1, true)\n"
        "      assert(from == at + 1 and to == at + length)\n"
        "      assert(not s:find(text, at + 2, true))\n"
        "      assert(not s:find(text .. 'b', 1, true))\n"
        "    end\n"
        "  end\n"
        "end\n");
}

static void rep_is_as_in_stock(void **state)
{
    run(*state,
        "for _, s in ipairs { '', 'a', 'ab', ('x'):rep(1000), 12 } do\n"
        "  for _, n in ipairs { 0, 1, 2, 3, 7, 8, 100, -1, math.mininteger, '2', 1.5 } do\n"
        "    same('rep', string.rep, stock.string.rep, s, n)\n"
        "    for _, sep in ipairs { '', ',', ', ', ('y'):rep(77), 5, {} } do\n"
        "      same('rep', string.rep, stock.string.rep, s, n, sep)\n"
        "    end\n"
        "  end\n"
        "end\n"
        "same('rep', string.rep, stock.string.rep)\n"
        "same('rep', string.rep, stock.string.rep, 'a')\n"
        "same('rep', string.rep, stock.string.rep, 'ab', math.maxinteger)\n");
}

static void rep_has_a_bound(void **state)
{
    run(*state,
        "local M <const> = 64 * 1024 * 1024\n"
        "local function fails(...)\n"
        "  local ok, why = pcall(string.rep, ...)\n"
        "  return not ok and why == 'resulting string too large'\n"
        "end\n"
        "assert(#('x'):rep(M) == M and fails('x', M + 1))\n"
        "assert(#('x'):rep(M // 4, 'yyy') == M - 3 and fails('x', M // 4 + 1, 'yyy'))\n"
        "assert(fails('xy', math.maxinteger) and fails('', math.maxinteger, 'x'))\n"
        "assert(#('x'):rep((M + 2) // 3, 'yy') == M and fails(('x'):rep(M // 2), 3))\n"
        "assert(('').rep('', 10^15) == '' and (''):rep(math.maxinteger, '') == '')\n");
}

static const char try_tables[] =
    "local function both(name, make, ...)\n"
    "  local a, b = make(), make()\n"
    "  local function told(f, t)\n"
    "    return function(...)\n"
    "      local r = table.pack(f(t, ...))\n"
    "      for i = 1, r.n do if r[i] == t then r[i] = 'the table' end end\n"
    "      return stock.table.unpack(r, 1, r.n)\n"
    "    end\n"
    "  end\n"
    "  same(name, told(table[name], a), told(stock.table[name], b), ...)\n"
    "  if type(a) ~= 'table' then return end\n"
    "  for i = -5, 20 do assert(rawget(a, i) == rawget(b, i), name) end\n"
    "  if a.log then assert(stock.table.concat(a.log) == stock.table.concat(b.log), name) end\n"
    "end\n"
    "local function watched()\n"
    "  local log, values = {}, { 'p', 'q', 'r', 's' }\n"
    "  return setmetatable({}, {\n"
    "    __len = function() log[#log + 1] = '#'; return 4 end,\n"
    "    __index = function(_, k)\n"
    "      if k == 'log' then return log end\n"
    "      log[#log + 1] = 'get ' .. tostring(k) .. ';'; return values[k]\n"
    "    end,\n"
    "    __newindex = function(_, k, v)\n"
    "      log[#log + 1] = 'set ' .. tostring(k) .. '=' .. tostring(v) .. ';'\n"
    "      values[k] = v\n"
    "    end })\n"
    "end\n"
    "local function length(n)\n"
    "  return function() return setmetatable({}, { __len = function() return n end }) end\n"
    "end\n"
    "local element = {}\n"
    "local makers = { function() return {} end, function() return { 1, 2, 3, 4, 5 } end,\n"
    "  function() return { 'a', 2, 'c', 4.5 } end, function() return { 1, element, 3 } end,\n"
    "  function() return { 1, 2, nil, 4 } end, watched, length(0), length(-3),\n"
    "  length(math.maxinteger), length(math.mininteger), length('x'), length(2.0),\n"
    "  length(2.5), function() return 5 end, function() return 'text' end,\n"
    "  function() return nil end }\n"
    "local n = { 0, 1, 2, 3, 5, 6, 7, -1, math.maxinteger, math.mininteger, 1.5, '2' }\n"
    "for k, make in ipairs(makers) do\n"
    "  local long = k == 9 or k == 10\n"
    "  for _, name in ipairs { 'insert', 'remove', 'concat', 'unpack', 'move' } do\n"
    "    if not long then both(name, make) end\n"
    "    if not (long and name == 'remove') then both(name, make, 1, 2, 3, 4) end\n"
    "    for _, i in ipairs(n) do\n"
    "      local short = not long and not (k == 8 and i == math.mininteger)\n"
    "      if short then both(name, make, i) end\n"
    "      if short and name == 'insert' then both(name, make, i, 'x') end\n"
    "      if name == 'concat' then both(name, make, ', ', i, 3) end\n"
    "      if name == 'concat' and not long then both(name, make, ', ', i) end\n"
    "      if name == 'unpack' then both(name, make, i, 3) end\n"
    "      for _, j in ipairs { 0, 1, 3, -2, 4, math.maxinteger } do\n"
    "        for _, to in ipairs(n) do\n"
    "          local few = i == 1.5 or (j < 10 and i + 0 > -10) or j <= i + 0\n"
    "          if name == 'move' and few then\n"
    "            both(name, make, i, j, to)\n"
    "            both(name, make, i, j, to, { 8, 9 })\n"
    "            both(name, make, i, j, to, 'x')\n"
    "          end\n"
    "        end\n"
    "      end\n"
    "    end\n"
    "  end\n"
    "end\n"
    "both('insert', length(math.maxinteger), math.maxinteger, 'x')\n"
    "both('insert', length(math.maxinteger), 'x')\n"
    "both('remove', length(math.maxinteger))\n"
    "both('move', makers[2], -1, math.maxinteger, 2)\n"
    "both('move', makers[2], math.mininteger, -1, 2)\n"
    "both('move', makers[2], 1, math.maxinteger, 2)\n"
    "both('unpack', makers[1], 1, 10^7)\n"
    "both('unpack', makers[1], math.mininteger, math.maxinteger)\n"
    "both('unpack', makers[2], math.maxinteger - 1, math.maxinteger)\n"
    "both('concat', makers[1], '', math.maxinteger, math.maxinteger)\n"
    "both('concat', makers[2], {})\n";

static void tables_are_as_in_stock(void **state) { run(*state, try_tables); }

/* ---- sort ------------------------------------------------------------------ */

static void sort_orders(void **state)
{
    run(*state,
        "math.randomseed(7)\n"
        "local shapes = {\n"
        "  function(i) return i end, function(_, n) return n - _ end,\n"
        "  function() return 5 end, function(i) return i % 3 end,\n"
        "  function(i, n) return i < n / 2 and i or n - i end,\n"
        "  function() return math.random(1000000) end,\n"
        "  function() return math.random() end,\n"
        "  function(i) return tostring(i * 7919 % 1009) end,\n"
        "}\n"
        "local sizes = { 3000 }\n"
        "for n = 0, 40 do sizes[#sizes + 1] = n end\n"
        "for k, shape in ipairs(shapes) do\n"
        "  for _, n in ipairs(sizes) do\n"
        "    for _, order in ipairs { false, function(a, b) return a > b end } do\n"
        "      local a, b = {}, {}\n"
        "      for i = 1, n do a[i] = shape(i, n); b[i] = a[i] end\n"
        "      table.sort(a, order or nil)\n"
        "      stock.table.sort(b, order or nil)\n"
        "      for i = 1, n do assert(a[i] == b[i], k .. ' ' .. n) end\n"
        "      assert(#a == n)\n"
        "    end\n"
        "  end\n"
        "end\n");
}

/* What no input may do: take quadratically many comparisons. */
static void sort_meets_no_simple_bad_case(void **state)
{
    run(*state,
        "local n, shapes = 20000, {\n"
        "  function(i) return i end, function(i) return -i end, function() return 0 end,\n"
        "  function(i) return i < 10000 and i or 20000 - i end,\n"
        "  function(i) return i % 2 == 0 and i or -i end, function(i) return i % 100 end,\n"
        "  function(i) return (i * 7919) % 20000 end }\n"
        "for k, shape in ipairs(shapes) do\n"
        "  local t, calls = {}, 0\n"
        "  for i = 1, n do t[i] = shape(i) end\n"
        "  table.sort(t, function(a, b) calls = calls + 1; return a < b end)\n"
        "  assert(calls < n * 15 * 4, k .. ': ' .. calls)\n"
        "end\n");
}

static void sort_errs_like_stock(void **state)
{
    run(*state,
        "local sorts = { table.sort, stock.table.sort }\n"
        "local function both(make, ...)\n"
        "  local r = {}\n"
        "  for i, sort in ipairs(sorts) do r[i] = table.pack(pcall(sort, make(), ...)) end\n"
        "  assert(r[1][1] == r[2][1], tostring(r[1][2]) .. tostring(r[2][2]))\n"
        "  return r[1][2]\n"
        "end\n"
        "local function list() return { 3, 1, 2 } end\n"
        "local function long(n)\n"
        "  return function()\n"
        "    return setmetatable({}, { __len = function() return n end })\n"
        "  end\n"
        "end\n"
        "both(list) both(list, nil) both(list, 5) both(list, {}) both(list, string.rep)\n"
        "both(list, function() error('stop', 0) end)\n"
        "both(function() return { 1, 'a' } end) both(function() return { 1, {} } end)\n"
        "both(function() return 'x' end) both(function() end)\n"
        "both(function() return { 1 } end, 5)\n"
        "assert(both(long(2^31)):find('array too big', 1, true))\n"
        "both(long(-5)) both(long(1), 5)\n");
}

/* Whatever the function says, it ends, with all elements in the table or an error. */
static void sort_survives_a_senseless_order(void **state)
{
    run(*state,
        "math.randomseed(3)\n"
        "local orders = { function() return true end, function() return false end,\n"
        "  function() return math.random(2) == 1 end, rawequal,\n"
        "  function(a, b) return a <= b end, function(a, b) return a ~= b end }\n"
        "for _, order in ipairs(orders) do\n"
        "  for n = 0, 300, 7 do\n"
        "    local t, sum = {}, 0\n"
        "    for i = 1, n do t[i] = i * 7919 % 101 + i * 1000 end\n"
        "    local ok, why = pcall(table.sort, t, order)\n"
        "    assert(ok or why == 'invalid order function for sorting', why)\n"
        "    table.sort(t)\n"
        "    for i = 1, n do assert(t[i] // 1000 == i) end\n"
        "    assert(#t == n)\n"
        "  end\n"
        "end\n");
}

/* ---- random patterns ------------------------------------------------------- */

static const char try_random[] =
    "math.randomseed(20240229)\n"
    "local random, concat = math.random, stock.table.concat\n"
    "local tokens = { 'a', 'a', 'b', 'b', '.', '%a', '%d', '%w', '%s', '%A', '%x', '%S',\n"
    "  '[ab]', '[^a]', '[a-b1]', '[%d ]', '[^%w]', '[]', '[^]', '%b()', '%bab', '%f[a]',\n"
    "  '%f[%W]', '%1', '%2', '(', '(', ')', ')', '()', '*', '*', '+', '-', '-', '?', '$',\n"
    "  '^', '[', ']', '%', '%%', '-', '1', ' ', '\\0', '%z', '%(' }\n"
    "local letters = { 'a', 'a', 'a', 'b', 'b', '1', ' ', '(', ')', '\\0', '-', ']' }\n"
    "local results = { '', '<%0>', '%1', '%2%1', '%%', '[%1%0]', { a = 'A', b = false },\n"
    "  function(a, b) return b end }\n"
    "local function draw(from, most)\n"
    "  local t = {}\n"
    "  for i = 1, random(0, most) do t[i] = from[random(#from)] end\n"
    "  return concat(t)\n"
    "end\n"
    "local ours, theirs, our_walk = string, stock.string, walk(string.gmatch)\n"
    "for i = 1, count do\n"
    "  local s, p = draw(letters, 10), draw(tokens, 7)\n"
    "  local init = i % 4 == 0 and random(-12, 12) or 1\n"
    "  if i % 5 == 0 then p = '^' .. p end\n"
    "  same('find', ours.find, theirs.find, s, p, init)\n"
    "  same('match', ours.match, theirs.match, s, p, init)\n"
    "  same('gmatch', our_walk, stock.gmatch, s, p, init)\n"
    "  same('gsub', ours.gsub, theirs.gsub, s, p, results[random(#results)],\n"
    "       i % 3 == 0 and random(0, 3) or nil)\n"
    "end\n";

static void random_patterns(void **state)
{
    lua_pushinteger(*state, 200000);
    lua_setglobal(*state, "count");
    run(*state, try_random);
}

/* ---- time ------------------------------------------------------------------ */

static bool over_in_c;

/* The poll calls it without an activation record, a hook comes with one. */
static void over(lua_State *L, lua_Debug *at)
{
    over_in_c = at == NULL;
    luaL_error(L, "over");
}

static const struct {
    const char *name, *script;
} endless[] = {
    { "many choices", "('a'):rep(100000):find(('a-'):rep(30) .. 'b')" },
    { "match", "('a'):rep(30000):match('.-.-.-.-b')" },
    { "gmatch", "('a'):rep(30000):gmatch('.*.*.*.*b')()" },
    { "gsub", "('a'):rep(30000):gsub('.-.-.-.-b', '')" },
    { "optional", "('a'):rep(60):find(('a?'):rep(60) .. ('a'):rep(60) .. 'b')" },
    { "captures", "('a'):rep(30000):find('(.-)(.-)(.-)(.-)b')" },
    { "balance", "('('):rep(10000000):find('%b()')" },
    { "long set", "('a'):rep(1000000):find('[' .. ('b'):rep(8000000) .. ']')" },
    { "run of a long set",
      "('a'):rep(1000000):find('^[' .. ('b'):rep(8000000) .. 'a]*')" },
    { "frontier", "('a'):rep(1000000):find('%f[' .. ('b'):rep(1000000) .. ']')" },
    { "back reference", "('a'):rep(4000000):find('^(a*).-%1b')" },
    { "template", "('a'):rep(1000000):gsub('', ('%0'):rep(1000000))" },
    { "move", "table.move({}, 1, 1e15, 2)" },
    { "move down", "table.move({}, 2, 1e15, 1)" },
    { "move over", "table.move({}, 1, 1e15, 1, {})" },
    { "insert", "table.insert(lying(1 << 50), 1, 'x')" },
    { "remove", "table.remove(lying(1 << 50), 1)" },
    { "concat", "table.concat(lying(1 << 50, tostring))" },
    { "concat of nothing",
      "table.concat(setmetatable({}, { __index = table.concat }), '', 1, 1 << 50)" },
    { "sort", "table.sort(lying(1 << 30), rawequal)" },
    { "sort of long texts", "local a, t = ('a'):rep(4000000), {}\n"
                            "a = { a .. 'x', a .. 'y', a .. 'z' }\n"
                            "for i = 1, 10000 do t[i] = a[i % 3 + 1] end\n"
                            "table.sort(t)" },
};

static const char lying[] =
    "function lying(n, index)\n"
    "  local meta = { __len = function() return n end, __index = index }\n"
    "  return setmetatable(index and {} or { 'a', 'b' }, meta)\n"
    "end\n";

static void expect_over(lua_State *L, const char *name, const char *script)
{
    int64_t took;
    int status;

    assert_int_equal(luaL_loadstring(L, script), LUA_OK);
    alarm(GUARD_S);
    over_in_c = false;
    budget_enter(L, clock_scaled(BUDGET_MS) * 1000000, over);
    status = lua_pcall(L, 0, 0, 0);
    took = budget_leave() / 1000000;
    lua_sethook(L, NULL, 0, 0);
    alarm(0);
    if (status != LUA_ERRRUN) fail_msg("%s: not ended", name);
    if (strstr(lua_tostring(L, -1), "over") == NULL)
        fail_msg("%s: %s", name, lua_tostring(L, -1));
    if (!over_in_c) fail_msg("%s: did not last", name);
    if (took > clock_scaled(LATEST_MS)) fail_msg("%s: %ld ms", name, (long)took);
    lua_settop(L, 0);
}

static void every_loop_ends(void **state)
{
    run(*state, lying);
    assert_true(budget_start());
    for (size_t i = 0; i < COUNT_OF(endless); i++) {
        expect_over(*state, endless[i].name, endless[i].script);
        lua_gc(*state, LUA_GCCOLLECT);
    }
    budget_stop();
}

/* Long only in the stock library, or never: these return. */
static void these_are_short(void **state)
{
    alarm(GUARD_S);
    run(*state, "assert(('').rep('', 1e15) == '')\n"
                "local a = ('a'):rep(2000000)\n"
                "assert(not a:find(('a'):rep(1000000) .. 'b', 1, true))\n"
                "assert(not a:find('b' .. ('a'):rep(200), 1, true))\n"
                "assert(not a:find(('a'):rep(100) .. 'b' .. ('a'):rep(100), 1, true))\n"
                "assert(a:gsub('', '-'):len() == 4000001)\n"
                "assert(a:find('^a*$') == 1 and not a:find('^a*b'))\n");
}

/* The rest of the library at its extremes: it neither loops nor overflows. */
static void format_is_bounded(void **state)
{
    alarm(GUARD_S);
    run(*state, "assert(#('%.99f'):format(-math.maxinteger * 1e289) >= 400)\n"
                "assert(#('%99.99d'):format(1) == 99 and #('%-99d'):format(1) == 99)\n"
                "assert(not pcall(string.format, '%100d', 1))\n"
                "assert(not pcall(string.format, '%.100f', 1))\n"
                "assert(not pcall(string.format, '%' .. ('0'):rep(1000000) .. 'd', 1))\n"
                "assert(not pcall(string.format, ('%d'):rep(1000000), 1))\n"
                "assert(#(('%%'):rep(1000000)):format() == 1000000)\n"
                "assert(#('%s'):format(('x'):rep(10000000)) == 10000000)\n"
                "assert(#('%q'):format(('\\0'):rep(1000000)) == 2000002)\n"
                "assert(not pcall(string.pack, 'c' .. ('9'):rep(30), ''))\n");
}

/* ---- memory ---------------------------------------------------------------- */

struct account {
    long until_failure; /* allocations; negative: none fails */
    bool once;
    long failed;
};

static void *allocate(void *ud, void *block, size_t old, size_t size)
{
    struct account *account = ud;

    (void)old;
    if (size == 0) {
        free(block);
        return NULL;
    }
    if (account->until_failure == 0 && (block == NULL || size > old)) {
        if (account->once) account->until_failure = -1;
        account->failed++;
        return NULL;
    }
    if (account->until_failure > 0) account->until_failure--;
    return realloc(block, size);
}

static const char all_kinds[] =
    "local s = ('key=value; '):rep(200)\n"
    "local parts = {}\n"
    "for k, v in s:gmatch('(%w+)=(%w+)') do table.insert(parts, 1, k .. v .. #parts) end\n"
    "table.sort(parts)\n"
    "table.sort(parts, function(a, b) return a > b end)\n"
    "local text = table.concat(parts, (','):rep(50))\n"
    "text = text:gsub('%d+', '<%0%0>'):gsub('key', { key = ('long'):rep(40) })\n"
    "text = text:gsub('()value', function(at) return ('v'):rep(at % 50) end)\n"
    "assert(text:find('(l)(o)(n)(g)') and text:match('^.-(<%d+>).-()$'))\n"
    "table.move(parts, 1, #parts, #parts + 1, {})\n"
    "while table.remove(parts, 1) do end\n"
    "return #text + select('#', table.unpack({}, 1, 300))\n";

static void all_with_failures(bool once)
{
    struct account account = { -1, once, 0 };
    lua_State *L = open_both(lua_newstate(allocate, &account));
    lua_Integer right;

    assert_int_equal(luaL_dostring(L, all_kinds), LUA_OK);
    right = lua_tointeger(L, -1);
    lua_settop(L, 0);
    for (long n = 0; account.failed > 0 || n == 0; n += 1 + n / 60) {
        int status;

        lua_gc(L, LUA_GCCOLLECT);
        assert_int_equal(luaL_loadstring(L, all_kinds), LUA_OK);
        account = (struct account){ n, once, 0 };
        status = lua_pcall(L, 0, 1, 0);
        account.until_failure = -1;
        if (status == LUA_OK) assert_true(lua_tointeger(L, -1) == right);
        else assert_int_equal(status, LUA_ERRMEM);
        assert_true(status == LUA_OK || account.failed > 0);
        lua_settop(L, 0);
    }
    lua_close(L);
}

static void memory_may_end_anywhere(void **state)
{
    (void)state;
    all_with_failures(true);
    all_with_failures(false);
}

/* ---- speed: printed, not judged -------------------------------------------- */

static const char compare_speed[] =
    "local text = ('The quick brown fox, id=12345; jumps over the lazy dog. '):rep(40)\n"
    "local list = {}\n"
    "for i = 1, 300 do list[i] = i * 7919 % 1009 end\n"
    "local cases = {\n"
    "  { 'find, short', function(s) return s.find('key=value', '=') end, 1000 },\n"
    "  { 'find, plain, long', function(s) return s.find(text, 'nowhere', 1, true) end },\n"
    "  { 'find, word', function(s) return s.find(text, 'cats') end },\n"
    "  { 'find, class', function(s) return s.find(text, '%d%d%d%d%d%d') end },\n"
    "  { 'find, .-', function(s) return s.find(text, 'q.-zzz') end, 3 },\n"
    "  { 'match, short', function(s) return s.match('/api/v1/x', '^/(%w+)/(%w+)') end, 1000 },\n"
    "  { 'match, trim', function(s) return s.match('  some text ', '^%s*(.-)%s*$') end, 300 },\n"
    "  { 'match, set', function(s) return s.match(text, '^[%w%s,=;.]*$') end },\n"
    "  { 'gmatch, words', function(s) for _ in s.gmatch(text, '%a+') do end end },\n"
    "  { 'gmatch, set', function(s) for _ in s.gmatch(text, '([^=;]+)=(%d+)') do end end },\n"
    "  { 'gsub, text', function(s) return s.gsub(text, 'fox', 'cat') end },\n"
    "  { 'gsub, escape', function(s) return s.gsub(text, '[<>&\"]', '?') end },\n"
    "  { 'gsub, %1', function(s) return s.gsub(text, '(%a)(%a*)', '%2%1') end },\n"
    "  { 'gsub, function', function(s) return s.gsub(text, '%a+', s.upper) end },\n"
    "  { 'gsub, table', function(s) return s.gsub(text, '%a+', { fox = 'cat' }) end },\n"
    "  { 'rep', function(s) return s.rep('ab', 1000) end, 100 },\n"
    "  { 'insert', function(_, t) local x = {} for i = 1, 100 do t.insert(x, i) end end },\n"
    "  { 'insert, remove at 1', function(_, t) t.insert(list, 1, 0) t.remove(list, 1) end },\n"
    "  { 'concat', function(_, t) return t.concat(list, ',') end },\n"
    "  { 'unpack', function(_, t) return t.unpack(list, 1, 20) end, 300 },\n"
    "  { 'move', function(_, t) return t.move(list, 1, 300, 1, {}) end },\n"
    "  { 'sort', function(_, t)\n"
    "      local x = table.pack(table.unpack(list)) t.sort(x) end },\n"
    "  { 'sort, function', function(_, t)\n"
    "      local x = table.pack(table.unpack(list))\n"
    "      t.sort(x, function(a, b) return a > b end) end },\n"
    "}\n"
    "local function best(f, n, s, t)\n"
    "  local least = math.huge\n"
    "  for _ = 1, 7 do\n"
    "    local began = cpu_ns()\n"
    "    for _ = 1, n do f(s, t) end\n"
    "    least = math.min(least, cpu_ns() - began)\n"
    "  end\n"
    "  return least / n\n"
    "end\n"
    "for _, c in ipairs(cases) do\n"
    "  local n = c[3] or 30\n"
    "  local theirs = best(c[2], n, stock.string, stock.table)\n"
    "  local ours = best(c[2], n, string, table)\n"
    "  print(('  %-20s ours %9.0f ns, stock %9.0f ns: %.2f times')\n"
    "    :format(c[1], ours, theirs, ours / theirs))\n"
    "end\n";

static void speed(void **state) { run(*state, compare_speed); }

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_library_is_ours),
        cmocka_unit_test(searches_are_as_in_stock),
        cmocka_unit_test(replacements_are_as_in_stock),
        cmocka_unit_test(a_replacement_cannot_yield),
        cmocka_unit_test(an_iterator_walks_in_any_coroutine),
        cmocka_unit_test(plain_text_is_found_across_windows),
        cmocka_unit_test(rep_is_as_in_stock),
        cmocka_unit_test(rep_has_a_bound),
        cmocka_unit_test(tables_are_as_in_stock),
        cmocka_unit_test(sort_orders),
        cmocka_unit_test(sort_meets_no_simple_bad_case),
        cmocka_unit_test(sort_errs_like_stock),
        cmocka_unit_test(sort_survives_a_senseless_order),
        cmocka_unit_test(random_patterns),
        cmocka_unit_test(every_loop_ends),
        cmocka_unit_test(these_are_short),
        cmocka_unit_test(format_is_bounded),
        cmocka_unit_test(memory_may_end_anywhere),
        cmocka_unit_test(speed),
    };
    struct CMUnitTest with_state[COUNT_OF(tests)];

    for (size_t i = 0; i < COUNT_OF(tests); i++) {
        with_state[i] = tests[i];
        with_state[i].setup_func = setup;
        with_state[i].teardown_func = teardown;
    }
    return cmocka_run_group_tests(with_state, NULL, NULL);
}
