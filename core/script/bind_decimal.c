#include "script/bind_decimal.h"

#include <assert.h>
#include <lauxlib.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "commerce/money.h"
#include "script/bind_money.h"
#include "script/bind_type.h"

/* Texts from scripts; what PostgreSQL sends may be longer. */
enum { TEXT_MAX = 400, EXPONENT_MAX = 9999 };

struct decimal {
    size_t n;
    char text[]; /* and a NUL */
};

static const struct bind_type type;

/* ---- the value ----------------------------------------------------------- */

void decimal_push(lua_State *L, struct slice digits)
{
    struct decimal *d = bind_type_new(L, &type, sizeof *d + digits.n + 1);

    d->n = digits.n;
    if (digits.n > 0) memcpy(d->text, digits.p, digits.n);
}

bool decimal_test(lua_State *L, int at, struct slice *digits)
{
    const struct decimal *d = bind_type_test(L, at, &type);

    if (d == NULL) return false;
    *digits = (struct slice){ d->text, d->n };
    return true;
}

static const struct decimal *self(lua_State *L)
{
    const struct decimal *d = bind_type_test(L, 1, &type);

    if (d == NULL) luaL_typeerror(L, 1, "decimal");
    return d;
}

/* ---- comparing ----------------------------------------------------------- */

static size_t integer_text(int64_t integer, char text[static DECIMAL_SCRATCH])
{
    uint64_t rest = integer < 0 ? 0 - (uint64_t)integer : (uint64_t)integer;
    char digits[DECIMAL_SCRATCH], *p = digits + sizeof digits;
    size_t n;

    do *--p = (char)('0' + rest % 10);
    while ((rest /= 10) != 0);
    if (integer < 0) *--p = '-';
    n = (size_t)(digits + sizeof digits - p);
    memcpy(text, p, n);
    return n;
}

bool decimal_operand(lua_State *L, int at, char scratch[static DECIMAL_SCRATCH],
                     struct number *number)
{
    struct slice text = { scratch, 0 };
    int64_t cents;

    _Static_assert((int)DECIMAL_SCRATCH >= (int)MONEY_TEXT_MAX, "money_text needs room");
    if (decimal_test(L, at, &text)) return number_read(text.p, text.n, number);
    if (money_test(L, at, &cents)) text.n = money_text(money_of(cents), scratch);
    else if (lua_isinteger(L, at)) text.n = integer_text(lua_tointeger(L, at), scratch);
    else return false;
    return number_read(text.p, text.n, number);
}

static int refuse_comparison(lua_State *L)
{
    const char *left = bind_type_shown(L, 1), *right = bind_type_shown(L, 2);

    if (lua_type(L, 1) == LUA_TNUMBER || lua_type(L, 2) == LUA_TNUMBER)
        return luaL_error(L,
                          "%s < %s: a float is not exact; write decimal(\"4.5\"), or "
                          "compare with :number()",
                          left, right);
    if (lua_type(L, 1) == LUA_TUSERDATA && lua_type(L, 2) == LUA_TUSERDATA)
        return luaL_error(L, "%s < %s: NaN and the infinities have no order", left,
                          right);
    return luaL_error(L, "%s < %s: only decimals, money and integers compare", left,
                      right);
}

static int compare(lua_State *L)
{
    char scratch[2][DECIMAL_SCRATCH];
    struct number a, b;

    if (!decimal_operand(L, 1, scratch[0], &a) || !decimal_operand(L, 2, scratch[1], &b))
        return refuse_comparison(L);
    return number_compare(&a, &b);
}

int decimal_equal(lua_State *L)
{
    char scratch[2][DECIMAL_SCRATCH];
    struct number a, b;
    bool equal = false;

    if (decimal_operand(L, 1, scratch[0], &a) && decimal_operand(L, 2, scratch[1], &b))
        equal = number_compare(&a, &b) == 0;
    lua_pushboolean(L, equal);
    return 1;
}

int decimal_less(lua_State *L)
{
    lua_pushboolean(L, compare(L) < 0);
    return 1;
}

int decimal_less_equal(lua_State *L)
{
    lua_pushboolean(L, compare(L) <= 0);
    return 1;
}

/* ---- leaving ------------------------------------------------------------- */

static int to_string(lua_State *L)
{
    const struct decimal *d = self(L);

    lua_pushlstring(L, d->text, d->n);
    return 1;
}

static int to_money(lua_State *L)
{
    const struct decimal *d = self(L);

    if (money_push_text(L, (struct slice){ d->text, d->n })) return 1;
    return luaL_error(L, "decimal:money(): %s", lua_tostring(L, -1));
}

static int to_number(lua_State *L)
{
    lua_pushnumber(L, strtod(self(L)->text, NULL));
    return 1;
}

static int no_arithmetic(lua_State *L)
{
    return luaL_error(L, "a decimal has no arithmetic: write d:money() for an exact "
                         "amount, or d:number() for a float");
}

/* No __concat: in Debian's Lua 5.4.4 a .. loses its result, or crashes, when calling
 * the metamethod moves the stack.  Scripts write tostring(x), or "%s" in a format. */
static const luaL_Reg meta[] = {
    { "__eq", decimal_equal },
    { "__lt", decimal_less },
    { "__le", decimal_less_equal },
    { "__tostring", to_string },
    { "__add", no_arithmetic },
    { "__sub", no_arithmetic },
    { "__mul", no_arithmetic },
    { "__div", no_arithmetic },
    { "__mod", no_arithmetic },
    { "__pow", no_arithmetic },
    { "__idiv", no_arithmetic },
    { "__unm", no_arithmetic },
    { NULL, NULL },
};

static const luaL_Reg methods[] = {
    { "money", to_money },
    { "number", to_number },
    { NULL, NULL },
};

static const struct bind_type type = { "omade.decimal", "decimal", meta, methods };

/* ---- the module ---------------------------------------------------------- */

/* Pushes the decimal that the text says, or nil and why not. */
static bool push_text(lua_State *L, struct slice text)
{
    struct number number;
    const char *why = NULL;

    if (text.n > TEXT_MAX) why = "is too long";
    else if (!number_read(text.p, text.n, &number)) why = "is no number";
    else if (number.exponent > EXPONENT_MAX || number.exponent < -EXPONENT_MAX)
        why = "has too large an exponent";
    if (why == NULL) {
        decimal_push(L, text);
        return true;
    }
    lua_pushnil(L);
    lua_pushstring(L, "\"");
    lua_pushlstring(L, text.p, text.n < 40 ? text.n : 40);
    lua_pushfstring(L, "\" %s", why);
    lua_concat(L, 3);
    return false;
}

static int parse(lua_State *L)
{
    struct slice text;

    luaL_checktype(L, 1, LUA_TSTRING);
    text.p = lua_tolstring(L, 1, &text.n);
    return push_text(L, text) ? 1 : 2;
}

/* decimal("12.345"), decimal(12), decimal(a money), decimal(a decimal) */
static int call(lua_State *L)
{
    char scratch[DECIMAL_SCRATCH];
    struct slice text = { scratch, 0 };
    int64_t cents;

    if (decimal_test(L, 2, &text)) {
        lua_settop(L, 2);
        return 1;
    }
    if (lua_type(L, 2) == LUA_TSTRING) text.p = lua_tolstring(L, 2, &text.n);
    else if (lua_isinteger(L, 2)) text.n = integer_text(lua_tointeger(L, 2), scratch);
    else if (money_test(L, 2, &cents)) text.n = money_text(money_of(cents), scratch);
    else if (lua_type(L, 2) == LUA_TNUMBER)
        return luaL_error(L, "decimal: a float is not exact; write decimal(\"12.345\")");
    else
        return luaL_error(L, "decimal: a string was expected, not %s",
                          bind_type_shown(L, 2));
    if (push_text(L, text)) return 1;
    return luaL_error(L, "decimal: %s", lua_tostring(L, -1));
}

static int is(lua_State *L)
{
    struct slice digits;

    lua_pushboolean(L, decimal_test(L, 1, &digits));
    return 1;
}

static const luaL_Reg functions[] = {
    { "parse", parse },
    { "is", is },
    { NULL, NULL },
};

int luaopen_omade_decimal(lua_State *L)
{
    bind_type_module(L, functions, call);
    return 1;
}
