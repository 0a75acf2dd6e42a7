/* money and decimal as scripts see them: each line is Lua. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <lauxlib.h>
#include <lualib.h>

#include "base/check.h"
#include "script/bind_bytes.h"
#include "script/bind_decimal.h"
#include "script/bind_money.h"

static lua_State *open_state(void)
{
    lua_State *L = luaL_newstate();

    assert_non_null(L);
    luaL_openlibs(L);
    luaL_requiref(L, "money", luaopen_omade_money, 1);
    luaL_requiref(L, "decimal", luaopen_omade_decimal, 1);
    lua_settop(L, 0);
    return L;
}

static int setup(void **state)
{
    *state = open_state();
    return 0;
}

static int teardown(void **state)
{
    lua_close(*state);
    return 0;
}

/* ---- what holds ---------------------------------------------------------- */

static const char *const truths[] = {
    /* making */
    "tostring(money('25.99')) == '25.99'",
    "tostring(money('25.9')) == '25.90'",
    "tostring(money(25)) == '25.00'",
    "tostring(money(-3)) == '-3.00'",
    "tostring(money.of_cents(2599)) == '25.99'",
    "tostring(money.of_cents(-5)) == '-0.05'",
    "tostring(money.of_cents(math.mininteger)) == '-92233720368547758.08'",
    "tostring(money('2599e-2')) == '25.99'",
    "tostring(money(decimal('25.990'))) == '25.99'",
    "money(money('1')) == money('1')",
    "money.parse('25.99') == money('25.99')",
    "money.parse(decimal('25.99')) == money('25.99')",
    "money.parse('25.991') == nil",
    "select(2, money.parse('25.991')) == '\"25.991\" has more than two decimals'",
    "select(2, money.parse('1e99')) == '\"1e99\" is too large'",
    "select(2, money.parse('abc')) == '\"abc\" is no amount'",
    "select(2, money.parse('')) == '\"\" is no amount'",
    "money.is(money(1)) and not money.is(1) and not money.is(decimal(1)) and not money.is()",
    /* operators */
    "money('25.99') + money('0.01') == money(26)",
    "money('25.99') - money(26) == money('-0.01')",
    "-money('5') == money(-5)",
    "money('25.99') * 3 == money('77.97')",
    "3 * money('25.99') == money('77.97')",
    "money('25.99') * -1 == money('-25.99')",
    "money('25.99'):times(3) == money('77.97')",
    "money(1) < money(2) and not (money(2) < money(2)) and money(2) <= money(2)",
    "money(3) > money(2) and money(3) >= money(2)",
    "money(1) ~= money(2) and money(1) ~= 1 and money(1) ~= '1.00'",
    "money.of_cents(math.mininteger) < money.of_cents(math.maxinteger)",
    "('total %s!'):format(money(5)) == 'total 5.00!'",
    /* parts */
    "money('25.99'):cents() == 2599 and math.type(money(1):cents()) == 'integer'",
    "money('19.99'):percent('7.25') == money('1.45')",
    "money('25.99'):percent(10) == money('2.60')",
    "money('16.00'):percent('8.875') == money('1.42')",
    "money('25.99'):percent(decimal('10.00')) == money('2.60')",
    "money('0.50'):percent(1) == money('0.01')",
    "money('0.49'):percent(1) == money(0)",
    "money('-0.50'):percent(1) == money('-0.01')",
    "money('10'):percent(-20) == money(-2)",
    "money('10'):percent(100) == money('10')",
    "#money('10'):share(3) == 3",
    "same(money('10.00'):share(3), { '3.33', '3.33', '3.34' })",
    "same(money('-10.00'):share(3), { '-3.33', '-3.33', '-3.34' })",
    "money(10):share(1)[1] == money(10)",
    "#money('0.01'):share(1000) == 1000",
    "#money.of_cents(math.mininteger):share(100000) == 100000",
    "same(money('1.00'):split { 1, 0, money('0.01') }, { '0.50', '0.00', '0.50' })",
    "same(money('0.05'):split { 1, 1, 1 }, { '0.01', '0.02', '0.02' })",
    "same(money('-0.05'):split { 1, 1, 1 }, { '-0.01', '-0.02', '-0.02' })",
    "same(money('9.99'):split { money('20'), money('10') }, { '6.66', '3.33' })",
    "money(0):split({ 1, 2 })[2] == money(0)",
    /* decimals */
    "tostring(decimal('12.3450')) == '12.3450'",
    "tostring(decimal('1e2')) == '1e2'",
    "tostring(decimal(12)) == '12' and tostring(decimal(money('1.5'))) == '1.50'",
    "tostring(decimal(math.mininteger)) == '-9223372036854775808'",
    "decimal('1.50') == decimal('1.5') and decimal('1.50') ~= decimal('1.51')",
    "decimal('1e2') == decimal('100.00') and decimal('-0') == decimal('0.0')",
    "decimal('1.5') ~= 1.5 and decimal('1.5') ~= '1.5'",
    "decimal('0.1') < decimal('0.10000000000000000001')",
    "decimal('9.9') < decimal('10') and decimal('-10') < decimal('-9.9')",
    "decimal('9007199254740993') > decimal('9007199254740992')",
    "decimal('4.5') > 4 and 5 > decimal('4.5') and decimal('4.0') <= 4",
    "decimal('25.99') == money('25.99') and money('25.99') == decimal('25.990')",
    "money('25.98') < decimal('25.99') and decimal('25.99') <= money('25.99')",
    "decimal('25.99'):money() == money('25.99')",
    "decimal('25.990000'):money() == money('25.99')",
    "decimal('4.67'):number() == 4.67 and math.type(decimal('5'):number()) == 'float'",
    "decimal('1e2'):number() == 100.0",
    "decimal.parse('1.50') == decimal('1.5')",
    "decimal.parse('1.') == nil and select(2, decimal.parse('1.')) == '\"1.\" is no number'",
    "decimal.parse('NaN') == nil and decimal.parse('1e10000') == nil",
    "decimal.parse(('1'):rep(400)) and not decimal.parse(('1'):rep(401))",
    "decimal.is(decimal(1)) and not decimal.is(money(1)) and not decimal.is()",
    /* out of reach */
    "getmetatable(money(1)) == false and getmetatable(decimal(1)) == false",
    "getmetatable(money) == false and getmetatable(decimal) == false",
    "not pcall(function() money(1).cents = 5 end)",
    "not pcall(function() decimal(1).x = 5 end)",
    "money(1).nothing == nil",
    "not pcall(setmetatable, money, {})",
};

/* Whether the moneys of a list have these texts. */
static const char same[] = "function same(parts, texts)\n"
                           "  for i, text in ipairs(texts) do\n"
                           "    if tostring(parts[i]) ~= text then return false end\n"
                           "  end\n"
                           "  return #parts == #texts\n"
                           "end";

static void truths_hold(void **state)
{
    lua_State *L = *state;

    assert_int_equal(luaL_dostring(L, same), LUA_OK);
    for (size_t i = 0; i < COUNT_OF(truths); i++) {
        lua_pushfstring(L, "return %s", truths[i]);
        if (luaL_dostring(L, lua_tostring(L, -1)) != LUA_OK)
            fail_msg("%s: %s", truths[i], lua_tostring(L, -1));
        if (lua_type(L, -1) != LUA_TBOOLEAN || !lua_toboolean(L, -1)) {
            /* a truthy table is what parse returns */
            if (lua_type(L, -1) != LUA_TUSERDATA)
                fail_msg("does not hold: %s", truths[i]);
        }
        lua_settop(L, 0);
    }
}

/* ---- what raises, and what it says --------------------------------------- */

static const struct {
    const char *code, *message;
} errors[] = {
    { "money('1') + 1", "money + number: write money(\"5\") or use :times" },
    { "1 + money('1')", "number + money: write money(\"5\") or use :times" },
    { "money('1') - 1.5", "money - number: write money(\"5\")" },
    { "money('1') + '1'", "money + string: both must be money" },
    { "'1' + money('1')", "string + money: both must be money" },
    { "money('1') + nil", "money + nil" },
    { "money('1') + decimal('1')", "money + decimal: write d:money()" },
    { "decimal('1') + money('1')", "a decimal has no arithmetic" },
    { "decimal('1') * 2", "a decimal has no arithmetic" },
    { "2 - decimal('1')", "a decimal has no arithmetic" },
    { "-decimal('1')", "a decimal has no arithmetic" },
    { "money(1) < 1", "money < number: write money(\"5\")" },
    { "1 < money(1)", "number < money: write money(\"5\")" },
    { "money(1) <= 1", "money <= number" },
    { "money(1) < 'x'", "money < string" },
    { "decimal('1') < 1.5", "a float is not exact" },
    { "decimal('1') < '2'", "only decimals, money and integers compare" },
    { "money(1) < decimal('1') < 3", "attempt to compare" },
    { "money(1) * 1.5", "money * float: a quantity is an integer" },
    { "1.0 * money(1)", "money * float" },
    { "money(1) * '2'", "money * string" },
    { "'2' * money(1)", "money * string" },
    { "money(1) * money(1)", "money * money" },
    { "money(1):times(0.5)", "money * float" },
    { "money(1):times()", "money * nil" },
    { "'x' .. money(1)", "attempt to concatenate a money value" },
    { "'x' .. decimal(1)", "attempt to concatenate a decimal value" },
    { "money(1) / 2", "money has no division: use :share(n)" },
    { "money(1) // 2", "money has no division" },
    { "money(1) % 2", "money has no division" },
    { "money(1) ^ 2", "money has no division" },
    { "money(25.99)", "a float is not exact; write money(\"25.99\")" },
    { "money(1.0)", "a float is not exact" },
    { "money('25.991')", "money: \"25.991\" has more than two decimals" },
    { "money('1,5')", "money: \"1,5\" is no amount" },
    { "money(' 1')", "is no amount" },
    { "money()", "was expected, not no value" },
    { "money({})", "was expected, not table" },
    { "money(math.maxinteger)", "too large" },
    { "money.of_cents(1.5)", "an integer was expected, not a float" },
    { "money.of_cents('1')", "an integer was expected, not string" },
    { "money.of_cents(math.maxinteger) + money.of_cents(1)", "too large" },
    { "money.of_cents(math.mininteger) - money.of_cents(1)", "too large" },
    { "-money.of_cents(math.mininteger)", "too large" },
    { "money.of_cents(math.maxinteger) * 2", "too large" },
    { "money.of_cents(math.maxinteger):percent(101)", "too large" },
    { "money(1):percent(7.25)", "not a float" },
    { "money(1):percent('7.25555')", "7.25555 is no percentage" },
    { "money(1):percent(math.maxinteger)", "is no percentage" },
    { "money(1):percent(30000000)", "30000000 is no percentage" },
    { "money(1):percent(money(1))", "not money" },
    { "money(1):percent()", "not no value" },
    { "money(1):share(0)", "number of parts from 1 to 100000" },
    { "money(1):share(100001)", "number of parts from 1 to 100000" },
    { "money(1):share(2.0)", "number of parts" },
    { "money(1):split {}", "a list of 1 to 100000 weights" },
    { "money(1):split { 0, 0 }", "the weights are all zero" },
    { "money(1):split { 1, -1 }", "weight 2 must be" },
    { "money(1):split { 1, 1.5 }", "weight 2 must be" },
    { "money(1):split { money(-1) }", "weight 1 must be" },
    { "money(1):split { math.maxinteger, 1 }", "too large" },
    { "money(1):split(3)", "table expected" },
    { "money(1).cents(5)", "money expected" },
    { "money(1).cents(decimal('5'))", "money expected" },
    { "money.parse(5)", "string expected" },
    { "decimal('1.234'):money()",
      "decimal:money(): \"1.234\" has more than two decimals" },
    { "decimal('x')", "decimal: \"x\" is no number" },
    { "decimal(1.5)", "a float is not exact" },
    { "decimal(nil)", "a string was expected, not nil" },
    { "decimal(1).money('5')", "decimal expected" },
    { "setmetatable(money(1), {})", "table expected" },
};

static void misuse_says_what_to_do(void **state)
{
    lua_State *L = *state;

    for (size_t i = 0; i < COUNT_OF(errors); i++) {
        lua_pushfstring(L, "return %s", errors[i].code);
        if (luaL_dostring(L, lua_tostring(L, -1)) == LUA_OK)
            fail_msg("does not raise: %s", errors[i].code);
        if (strstr(lua_tostring(L, -1), errors[i].message) == NULL)
            fail_msg("%s: %s", errors[i].code, lua_tostring(L, -1));
        lua_settop(L, 0);
    }
}

/* ---- from C -------------------------------------------------------------- */

static void values_from_c(void **state)
{
    lua_State *L = *state;
    struct slice digits = { 0 };
    int64_t cents = 0;

    money_push(L, -1234);
    decimal_push(L, SLICE("NaN"));
    decimal_push(L, (struct slice){ NULL, 0 });
    lua_pushinteger(L, 5);
    lua_newuserdatauv(L, 8, 0);

    assert_true(money_test(L, 1, &cents) && cents == -1234);
    assert_true(money_test(L, 1, NULL) && money_test(L, -5, NULL));
    assert_true(decimal_test(L, 2, &digits) && slice_equal(digits, SLICE("NaN")));
    assert_true(decimal_test(L, 3, &digits) && digits.n == 0);
    assert_false(decimal_test(L, 1, &digits) || decimal_test(L, 4, &digits));
    for (int i = 2; i <= 7; i++) assert_false(money_test(L, i, &cents));
    assert_false(decimal_test(L, 5, &digits) || decimal_test(L, 6, &digits));
    assert_int_equal(lua_gettop(L), 5);
    assert_false(lua_compare(L, 2, 3, LUA_OPEQ));
    lua_settop(L, 0);
}

/* PostgreSQL's NaN and Infinity: no amount, no order, equal to nothing. */
static void what_is_no_number(void **state)
{
    static const char code[] =
        "local nan, inf = ...\n"
        "assert(nan ~= decimal(1) and tostring(nan) == 'NaN')\n"
        "assert(nan:number() ~= nan:number() and inf:number() == math.huge)\n"
        "assert(not pcall(nan.money, nan))\n"
        "assert(not pcall(function() return nan < inf end))\n"
        "assert(not pcall(function() return money(1) < nan end))\n";
    lua_State *L = *state;

    assert_int_equal(luaL_loadstring(L, code), LUA_OK);
    decimal_push(L, SLICE("NaN"));
    decimal_push(L, SLICE("Infinity"));
    if (lua_pcall(L, 2, 0, 0) != LUA_OK) fail_msg("%s", lua_tostring(L, -1));
}

/* ---- bytes --------------------------------------------------------------- */

static int released;

static void release(void *owner)
{
    assert_ptr_equal(owner, &released);
    released++;
}

static void bytes_are_released_once(void **state)
{
    lua_State *L = open_state();

    (void)state;
    released = 0;
    bytes_push(L, SLICE("[1,2]"), true, release, &released);
    lua_setglobal(L, "b");
    assert_int_equal(
        luaL_dostring(
            L, "assert(#b == 5 and tostring(b) == '[1,2]' and b:string() == '[1,2]')\n"
               "assert(getmetatable(b) == false)\n"
               "assert(not pcall(b.string, 5))"),
        LUA_OK);
    lua_getglobal(L, "b");
    assert_non_null(bytes_test(L, -1));
    bytes_clear(bytes_test(L, -1));
    assert_int_equal(released, 1);
    assert_int_equal(bytes_test(L, -1)->s.n, 0);
    bytes_push(L, SLICE("x"), false, release, &released);
    lua_settop(L, 0);
    lua_gc(L, LUA_GCCOLLECT, 0);
    assert_int_equal(released, 2);
    struct bytes *later = bytes_push_empty(L);
    *later = (struct bytes){ SLICE("y"), release, &released, false };
    lua_close(L);
    assert_int_equal(released, 3);
}

/* ---- every allocation fails once ----------------------------------------- */

static struct {
    long left, live; /* left: allocations that succeed; -1: all of them */
} heap;

/* Once one has failed all do: Lua tries again after a full collection. */
static bool failing(void)
{
    if (heap.left > 0) heap.left--;
    return heap.left == 0;
}

static void *failing_alloc(void *ud, void *block, size_t old_size, size_t size)
{
    (void)ud;
    if (size == 0) {
        if (block != NULL) heap.live--;
        free(block);
        return NULL;
    }
    if ((block == NULL || size > old_size) && failing()) return NULL;
    void *p = realloc(block, size);
    if (p != NULL && block == NULL) heap.live++;
    return p;
}

static int everything(lua_State *L)
{
    static const char code[] =
        "local a = money('25.99') + money(1) * 3 - money.of_cents(5)\n"
        "local s = a:share(3) a:split { 1, money(2), 3 }\n"
        "local d = decimal('1.50') local t = tostring(a) .. tostring(d) .. tostring(s[1])\n"
        "money.parse('x') decimal.parse('x') pcall(money, 'x') a:percent('7.25')\n"
        "return d:money() == a or d < decimal(3)";

    luaL_requiref(L, "_G", luaopen_base, 1);
    luaL_requiref(L, "money", luaopen_omade_money, 1);
    luaL_requiref(L, "decimal", luaopen_omade_decimal, 1);
    bytes_push(L, SLICE("abc"), false, NULL, NULL);
    if (luaL_loadstring(L, code) != LUA_OK) return lua_error(L);
    lua_call(L, 0, 1);
    return 1;
}

static void memory_may_end_anywhere(void **state)
{
    bool done = false;

    (void)state;
    for (long n = 0; !done; n++) {
        heap.left = -1;
        heap.live = 0;
        lua_State *L = lua_newstate(failing_alloc, NULL);
        assert_non_null(L);
        lua_pushcfunction(L, everything);
        heap.left = n + 1;
        int status = lua_pcall(L, 0, 1, 0);
        done = heap.left > 0; /* the failure was not reached any more */
        heap.left = -1;
        if (done && status != LUA_OK) fail_msg("%s", lua_tostring(L, -1));

        /* A metatable that was being made is whole afterwards. */
        lua_settop(L, 0);
        lua_pushcfunction(L, everything);
        if (lua_pcall(L, 0, 1, 0) != LUA_OK) fail_msg("%ld: %s", n, lua_tostring(L, -1));
        lua_close(L);
        assert_int_equal(heap.live, 0);
        assert_true(n < 10000);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(truths_hold, setup, teardown),
        cmocka_unit_test_setup_teardown(misuse_says_what_to_do, setup, teardown),
        cmocka_unit_test_setup_teardown(values_from_c, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_no_number, setup, teardown),
        cmocka_unit_test(bytes_are_released_once),
        cmocka_unit_test(memory_may_end_anywhere),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
