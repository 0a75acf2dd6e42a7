#include "script/bind_table.h"

#include <lauxlib.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "script/budget.h"

enum { READ = 1, WRITE = 2, LENGTH = 4 };

/* ---- arguments ----------------------------------------------------------- */

static bool has_field(lua_State *L, int table, const char *name)
{
    bool has;

    lua_pushstring(L, name);
    has = lua_rawget(L, table) != LUA_TNIL;
    lua_pop(L, 1);
    return has;
}

/* A table, or a value whose metatable lets it be used like one. */
static void check_table(lua_State *L, int at, int uses)
{
    int meta;

    if (lua_type(L, at) == LUA_TTABLE) return;
    if (lua_getmetatable(L, at)) {
        meta = lua_gettop(L);
        if ((!(uses & READ) || has_field(L, meta, "__index")) &&
            (!(uses & WRITE) || has_field(L, meta, "__newindex")) &&
            (!(uses & LENGTH) || has_field(L, meta, "__len"))) {
            lua_pop(L, 1);
            return;
        }
    }
    luaL_checktype(L, at, LUA_TTABLE);
}

static lua_Integer check_list(lua_State *L, int at, int uses)
{
    check_table(L, at, uses | LENGTH);
    return luaL_len(L, at);
}

/* ---- elements ------------------------------------------------------------ */

static inline void poll(lua_State *L, unsigned *steps)
{
    if (++*steps % 256 == 0) budget_check(L);
}

/* Copies source[from] to target[to]. */
static inline void copy(lua_State *L, int source, lua_Integer from, int target,
                        lua_Integer to, unsigned *steps)
{
    lua_geti(L, source, from);
    lua_seti(L, target, to);
    poll(L, steps);
}

/* ---- insert, remove, move ------------------------------------------------ */

static int table_insert(lua_State *L)
{
    /* One more than the largest integer is the smallest: as in stock. */
    lua_Unsigned end = (lua_Unsigned)check_list(L, 1, READ | WRITE) + 1;
    lua_Integer at = (lua_Integer)end;
    unsigned steps = 0;

    switch (lua_gettop(L)) {
    case 2: break;
    case 3:
        at = luaL_checkinteger(L, 2);
        luaL_argcheck(L, (lua_Unsigned)at - 1 < end, 2, "position out of bounds");
        for (lua_Integer i = (lua_Integer)end; i > at; i--)
            copy(L, 1, i - 1, 1, i, &steps);
        break;
    default: return luaL_error(L, "wrong number of arguments to 'insert'");
    }
    lua_seti(L, 1, at);
    return 0;
}

static int table_remove(lua_State *L)
{
    lua_Integer size = check_list(L, 1, READ | WRITE);
    lua_Integer at = luaL_optinteger(L, 2, size);
    unsigned steps = 0;

    if (at != size)
        luaL_argcheck(L, (lua_Unsigned)at - 1 <= (lua_Unsigned)size, 2,
                      "position out of bounds");
    lua_geti(L, 1, at);
    for (; at < size; at++) copy(L, 1, at + 1, 1, at, &steps);
    lua_pushnil(L);
    lua_seti(L, 1, at);
    return 1;
}

/* move(a1, from, to, at [, a2]) */
static int table_move(lua_State *L)
{
    lua_Integer from = luaL_checkinteger(L, 2), last = luaL_checkinteger(L, 3);
    lua_Integer at = luaL_checkinteger(L, 4), n;
    int target = lua_isnoneornil(L, 5) ? 1 : 5;
    unsigned steps = 0;

    check_table(L, 1, READ);
    check_table(L, target, WRITE);
    if (last >= from) {
        luaL_argcheck(L, from > 0 || last < LUA_MAXINTEGER + from, 3,
                      "too many elements to move");
        n = last - from + 1;
        luaL_argcheck(L, at <= LUA_MAXINTEGER - n + 1, 4, "destination wrap around");
        if (at > last || at <= from ||
            (target != 1 && !lua_compare(L, 1, target, LUA_OPEQ)))
            for (lua_Integer i = 0; i < n; i++)
                copy(L, 1, from + i, target, at + i, &steps);
        else /* they overlap: backwards */
            for (lua_Integer i = n - 1; i >= 0; i--)
                copy(L, 1, from + i, target, at + i, &steps);
    }
    lua_pushvalue(L, target);
    return 1;
}

/* ---- concat, unpack ------------------------------------------------------ */

static void add_element(lua_State *L, luaL_Buffer *b, lua_Integer i)
{
    lua_geti(L, 1, i);
    if (!lua_isstring(L, -1))
        luaL_error(L, "invalid value (%s) at index %I in table for 'concat'",
                   luaL_typename(L, -1), (LUAI_UACINT)i);
    luaL_addvalue(b);
}

static int table_concat(lua_State *L)
{
    lua_Integer last = check_list(L, 1, READ), i;
    unsigned steps = 0;
    luaL_Buffer b;
    size_t n;
    const char *separator = luaL_optlstring(L, 2, "", &n);

    i = luaL_optinteger(L, 3, 1);
    last = luaL_optinteger(L, 4, last);
    luaL_buffinit(L, &b);
    for (; i < last; i++) {
        add_element(L, &b, i);
        luaL_addlstring(&b, separator, n);
        poll(L, &steps);
    }
    if (i == last) add_element(L, &b, i);
    luaL_pushresult(&b);
    return 1;
}

static int table_unpack(lua_State *L)
{
    lua_Integer i = luaL_optinteger(L, 2, 1);
    lua_Integer last = lua_isnoneornil(L, 3) ? luaL_len(L, 1) : luaL_checkinteger(L, 3);
    lua_Unsigned n = (lua_Unsigned)last - (lua_Unsigned)i;
    unsigned steps = 0;

    if (i > last) return 0;
    if (n >= INT_MAX || !lua_checkstack(L, (int)++n))
        return luaL_error(L, "too many results to unpack");
    for (; i < last; i++) {
        lua_geti(L, 1, i);
        poll(L, &steps);
    }
    lua_geti(L, 1, last);
    return (int)n;
}

/* ---- sort: quicksort in place, in the table at 1 by the function at 2 ------ */

enum { SMALL = 6 }; /* elements that are sorted by insertion */

/* Whether the value at 'a' comes before the one at 'b'.  Polls each time, because one
 * comparison of long strings takes long enough. */
static bool before(lua_State *L, int a, int b)
{
    bool is;

    budget_check(L);
    if (lua_isnil(L, 2)) return lua_compare(L, a, b, LUA_OPLT);
    a = lua_absindex(L, a);
    b = lua_absindex(L, b);
    lua_pushvalue(L, 2);
    lua_pushvalue(L, a);
    lua_pushvalue(L, b);
    lua_call(L, 2, 1);
    is = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return is;
}

/* Pops the values of j and i, in this order. */
static void store_two(lua_State *L, lua_Integer i, lua_Integer j)
{
    lua_seti(L, 1, j);
    lua_seti(L, 1, i);
}

/* Exchanges t[i] and t[j] if they are in the wrong order. */
static void order_two(lua_State *L, lua_Integer i, lua_Integer j)
{
    lua_geti(L, 1, i);
    lua_geti(L, 1, j);
    if (before(L, -1, -2)) store_two(L, j, i);
    else lua_pop(L, 2);
}

static void sort_small(lua_State *L, lua_Integer low, lua_Integer high)
{
    for (lua_Integer i = low + 1; i <= high; i++) {
        lua_Integer j = i;

        lua_geti(L, 1, i);
        for (; j > low; j--) {
            lua_geti(L, 1, j - 1);
            if (!before(L, -2, -1)) {
                lua_pop(L, 1);
                break;
            }
            lua_seti(L, 1, j);
        }
        lua_seti(L, 1, j);
    }
}

/* The middle, but for large ranges somewhere near it: so no simple shape of the input
 * meets bad pivots all the way. */
static lua_Integer pivot_place(lua_Integer low, lua_Integer high)
{
    uint64_t half = (uint64_t)(high - low) / 2, mixed;

    if (half < 100) return low + (lua_Integer)half;
    mixed = ((uint64_t)low * 31 + (uint64_t)high) * UINT64_C(0x9E3779B97F4A7C15);
    return low + (lua_Integer)(half / 2 + (mixed >> 33) % half);
}

/* With the pivot on the stack and in t[high - 1], t[low] not above and t[high] not
 * below it: moves both halves to their sides and returns the pivot's place. */
static lua_Integer partition(lua_State *L, lua_Integer low, lua_Integer high)
{
    lua_Integer i = low, j = high - 1;
    int pivot = lua_gettop(L);

    for (;;) {
        while (lua_geti(L, 1, ++i), before(L, -1, pivot)) {
            if (i >= high - 1) luaL_error(L, "invalid order function for sorting");
            lua_pop(L, 1);
        }
        while (lua_geti(L, 1, --j), before(L, pivot, -1)) {
            if (j <= low) luaL_error(L, "invalid order function for sorting");
            lua_pop(L, 1);
        }
        if (j < i) break;
        store_two(L, j, i);
    }
    lua_pop(L, 2);
    lua_geti(L, 1, high - 1);
    lua_geti(L, 1, i);
    store_two(L, i, high - 1);
    return i;
}

static lua_Integer split(lua_State *L, lua_Integer low, lua_Integer high)
{
    lua_Integer middle = pivot_place(low, high), place;

    order_two(L, low, high);
    order_two(L, low, middle);
    order_two(L, middle, high);
    lua_geti(L, 1, middle);
    lua_pushvalue(L, -1);
    lua_geti(L, 1, high - 1);
    store_two(L, high - 1, middle);
    place = partition(L, low, high);
    lua_pop(L, 1);
    return place;
}

/* Recurses only into the smaller half: the depth is logarithmic. */
static void sort_range(lua_State *L, lua_Integer low, lua_Integer high)
{
    while (high - low >= SMALL) {
        lua_Integer place = split(L, low, high);

        if (place - low < high - place) {
            sort_range(L, low, place - 1);
            low = place + 1;
        } else {
            sort_range(L, place + 1, high);
            high = place - 1;
        }
    }
    sort_small(L, low, high);
}

static int table_sort(lua_State *L)
{
    lua_Integer n = check_list(L, 1, READ | WRITE);

    if (n < 2) return 0;
    luaL_argcheck(L, n < INT_MAX, 1, "array too big");
    if (!lua_isnoneornil(L, 2)) luaL_checktype(L, 2, LUA_TFUNCTION);
    lua_settop(L, 2);
    sort_range(L, 1, n);
    return 0;
}

/* ---- all together -------------------------------------------------------- */

void table_install(lua_State *L)
{
    static const luaL_Reg ours[] = {
        { "concat", table_concat },
        { "insert", table_insert },
        { "move", table_move },
        { "remove", table_remove },
        { "sort", table_sort },
        { "unpack", table_unpack },
        { NULL, NULL },
    };

    lua_getglobal(L, "table");
    luaL_setfuncs(L, ours, 0);
    lua_pop(L, 1);
}
