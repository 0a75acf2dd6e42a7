#include "script/bind_money.h"

#include <lauxlib.h>
#include <string.h>

#include "commerce/money.h"
#include "script/bind_type.h"

enum { PARTS_MAX = 100000 };

static const struct bind_type type;

/* ---- the value ----------------------------------------------------------- */

void money_push(lua_State *L, int64_t cents)
{
    money *a = bind_type_new(L, &type, sizeof *a);

    *a = money_of(cents);
}

bool money_test(lua_State *L, int at, int64_t *cents)
{
    const money *a = bind_type_test(L, at, &type);

    if (a == NULL) return false;
    if (cents != NULL) *cents = a->cents;
    return true;
}

static money self(lua_State *L)
{
    const money *a = bind_type_test(L, 1, &type);

    if (a == NULL) luaL_typeerror(L, 1, "money");
    return *a;
}

static int push_result(lua_State *L, bool fits, money result)
{
    if (!fits) return luaL_error(L, "money: the result is too large");
    money_push(L, result.cents);
    return 1;
}

/* ---- operators ----------------------------------------------------------- */

/* Both operands are money, or an error says what to write instead. */
static void operands(lua_State *L, const char *operator, money * a, money *b)
{
    int other = money_test(L, 1, &a->cents) ? 2 : 1;
    const char *left, *right;
    struct slice digits;

    if (other == 2 && money_test(L, 2, &b->cents)) return;
    left = bind_type_shown(L, 1);
    right = bind_type_shown(L, 2);
    if (lua_type(L, other) == LUA_TNUMBER)
        luaL_error(L, "%s %s %s: write money(\"5\") or use :times", left, operator,
                   right);
    if (decimal_test(L, other, &digits))
        luaL_error(L, "%s %s %s: write d:money()", left, operator, right);
    luaL_error(L, "%s %s %s: both must be money", left, operator, right);
}

static int add(lua_State *L)
{
    money a, b, sum = { 0 };

    operands(L, "+", &a, &b);
    return push_result(L, money_add(a, b, &sum), sum);
}

static int subtract(lua_State *L)
{
    money a, b, difference = { 0 };

    operands(L, "-", &a, &b);
    return push_result(L, money_sub(a, b, &difference), difference);
}

static int negate(lua_State *L)
{
    money opposite = { 0 };

    return push_result(L, money_sub(money_of(0), self(L), &opposite), opposite);
}

static int multiply(lua_State *L)
{
    int at = money_test(L, 1, NULL) ? 1 : 2, other = 3 - at;
    money price = { 0 }, total = { 0 };

    (void)money_test(L, at, &price.cents);
    if (!lua_isinteger(L, other))
        return luaL_error(L,
                          "money * %s: a quantity is an integer; for a proportion "
                          "use :percent",
                          lua_type(L, other) == LUA_TNUMBER ? "float"
                                                            : bind_type_shown(L, other));
    return push_result(L, money_times(price, lua_tointeger(L, other), &total), total);
}

static int no_division(lua_State *L)
{
    return luaL_error(L, "money has no division: use :share(n), whose parts add up, or "
                         ":percent(p)");
}

static bool both(lua_State *L, money *a, money *b)
{
    return money_test(L, 1, &a->cents) && money_test(L, 2, &b->cents);
}

/* A money and a decimal compare by value; a bare number does not. */
static bool comparable(lua_State *L)
{
    struct slice digits;

    return decimal_test(L, 1, &digits) || decimal_test(L, 2, &digits);
}

static int equal(lua_State *L)
{
    money a, b;

    if (!both(L, &a, &b)) return decimal_equal(L);
    lua_pushboolean(L, money_compare(a, b) == 0);
    return 1;
}

static int less(lua_State *L)
{
    money a, b;

    if (comparable(L)) return decimal_less(L);
    operands(L, "<", &a, &b);
    lua_pushboolean(L, money_compare(a, b) < 0);
    return 1;
}

static int less_equal(lua_State *L)
{
    money a, b;

    if (comparable(L)) return decimal_less_equal(L);
    operands(L, "<=", &a, &b);
    lua_pushboolean(L, money_compare(a, b) <= 0);
    return 1;
}

static int to_string(lua_State *L)
{
    char text[MONEY_TEXT_MAX];

    lua_pushlstring(L, text, money_text(self(L), text));
    return 1;
}

/* ---- methods ------------------------------------------------------------- */

static int cents(lua_State *L)
{
    lua_pushinteger(L, self(L).cents);
    return 1;
}

static int times(lua_State *L)
{
    (void)self(L);
    lua_settop(L, 2);
    return multiply(L);
}

static rate check_percent(lua_State *L, int at)
{
    struct slice text = { 0 };
    rate r = { 0 };

    if (lua_isinteger(L, at)) text.p = luaL_tolstring(L, at, &text.n);
    else if (lua_type(L, at) == LUA_TSTRING) text.p = lua_tolstring(L, at, &text.n);
    else if (!decimal_test(L, at, &text))
        luaL_error(L,
                   "money:percent: an integer or a string such as \"7.25\" was "
                   "expected, not %s",
                   lua_type(L, at) == LUA_TNUMBER ? "a float" : bind_type_shown(L, at));
    if (rate_parse(text.p, text.n, &r) != MONEY_OK)
        luaL_error(L, "money:percent: %s is no percentage with at most four decimals",
                   luaL_tolstring(L, at, NULL));
    return r;
}

static int percent(lua_State *L)
{
    money whole = self(L), share = { 0 };

    return push_result(L, money_share(whole, check_percent(L, 2), &share), share);
}

/* Splits by the n weights and pushes the list; the weights are on top of the stack. */
static int push_split(lua_State *L, money total, const int64_t *weights, lua_Integer n)
{
    money *parts = lua_newuserdatauv(L, (size_t)n * sizeof *parts, 0);

    if (!money_split(total, weights, (size_t)n, parts))
        return luaL_error(L, "money:split: the weights are all zero, or too large");
    lua_createtable(L, (int)n, 0);
    for (lua_Integer i = 0; i < n; i++) {
        money_push(L, parts[i].cents);
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

static int share(lua_State *L)
{
    money total = self(L);
    int64_t *weights;
    lua_Integer n;

    if (!lua_isinteger(L, 2) || (n = lua_tointeger(L, 2)) < 1 || n > PARTS_MAX)
        return luaL_error(L, "money:share: a number of parts from 1 to %d was expected",
                          PARTS_MAX);
    weights = lua_newuserdatauv(L, (size_t)n * sizeof *weights, 0);
    for (lua_Integer i = 0; i < n; i++) weights[i] = 1;
    return push_split(L, total, weights, n);
}

static int split(lua_State *L)
{
    money total = self(L);
    int64_t *weights;
    lua_Unsigned n;

    luaL_checktype(L, 2, LUA_TTABLE);
    n = lua_rawlen(L, 2);
    if (n < 1 || n > PARTS_MAX)
        return luaL_error(L, "money:split: a list of 1 to %d weights was expected",
                          PARTS_MAX);
    weights = lua_newuserdatauv(L, (size_t)n * sizeof *weights, 0);
    for (lua_Unsigned i = 0; i < n; i++) {
        lua_rawgeti(L, 2, (lua_Integer)i + 1);
        if (lua_isinteger(L, -1)) weights[i] = lua_tointeger(L, -1);
        else if (!money_test(L, -1, &weights[i])) weights[i] = -1;
        if (weights[i] < 0)
            return luaL_error(L,
                              "money:split: weight %d must be an integer or a money "
                              "that is not negative",
                              (int)i + 1);
        lua_pop(L, 1);
    }
    return push_split(L, total, weights, (lua_Integer)n);
}

/* No __concat: in Debian's Lua 5.4.4 a .. loses its result, or crashes, when calling
 * the metamethod moves the stack.  Scripts write tostring(x), or "%s" in a format. */
static const luaL_Reg meta[] = {
    { "__add", add },         { "__sub", subtract },    { "__unm", negate },
    { "__mul", multiply },    { "__div", no_division }, { "__idiv", no_division },
    { "__mod", no_division }, { "__pow", no_division }, { "__eq", equal },
    { "__lt", less },         { "__le", less_equal },   { "__tostring", to_string },
    { NULL, NULL },
};

static const luaL_Reg methods[] = {
    { "cents", cents }, { "times", times }, { "percent", percent },
    { "share", share }, { "split", split }, { NULL, NULL },
};

static const struct bind_type type = { "omade.money", "money", meta, methods };

/* ---- the module ---------------------------------------------------------- */

bool money_push_text(lua_State *L, struct slice text)
{
    static const char *const why[] = {
        [MONEY_NO_NUMBER] = "is no amount",
        [MONEY_TOO_FINE] = "has more than two decimals",
        [MONEY_TOO_LARGE] = "is too large",
    };
    money a;
    enum money_parsed parsed = money_parse(text.p, text.n, &a);

    if (parsed == MONEY_OK) {
        money_push(L, a.cents);
        return true;
    }
    lua_pushnil(L);
    lua_pushstring(L, "\"");
    lua_pushlstring(L, text.p, text.n < 40 ? text.n : 40);
    lua_pushfstring(L, "\" %s", why[parsed]);
    lua_concat(L, 3);
    return false;
}

static int parse(lua_State *L)
{
    struct slice text;

    if (!decimal_test(L, 1, &text)) {
        luaL_checktype(L, 1, LUA_TSTRING);
        text.p = lua_tolstring(L, 1, &text.n);
    }
    return money_push_text(L, text) ? 1 : 2;
}

static int of_cents(lua_State *L)
{
    if (!lua_isinteger(L, 1))
        return luaL_error(L, "money.of_cents: an integer was expected, not %s",
                          lua_type(L, 1) == LUA_TNUMBER ? "a float"
                                                        : bind_type_shown(L, 1));
    money_push(L, lua_tointeger(L, 1));
    return 1;
}

static int is(lua_State *L)
{
    lua_pushboolean(L, money_test(L, 1, NULL));
    return 1;
}

/* money("25.99"), money(25): whole units, money(a decimal), money(a money) */
static int call(lua_State *L)
{
    struct slice text;
    money units = { 0 };

    if (money_test(L, 2, NULL)) {
        lua_settop(L, 2);
        return 1;
    }
    if (lua_isinteger(L, 2))
        return push_result(L, money_times(money_of(100), lua_tointeger(L, 2), &units),
                           units);
    if (lua_type(L, 2) == LUA_TNUMBER)
        return luaL_error(L, "money: a float is not exact; write money(\"25.99\")");
    if (lua_type(L, 2) == LUA_TSTRING) text.p = lua_tolstring(L, 2, &text.n);
    else if (!decimal_test(L, 2, &text))
        return luaL_error(L, "money: a string such as \"25.99\" was expected, not %s",
                          bind_type_shown(L, 2));
    if (money_push_text(L, text)) return 1;
    return luaL_error(L, "money: %s", lua_tostring(L, -1));
}

static const luaL_Reg functions[] = {
    { "of_cents", of_cents },
    { "parse", parse },
    { "is", is },
    { NULL, NULL },
};

int luaopen_omade_money(lua_State *L)
{
    bind_type_module(L, functions, call);
    return 1;
}
