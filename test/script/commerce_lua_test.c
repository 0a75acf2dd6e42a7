/* Carts, promotions and totals as scripts see them: each case is Lua. */
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
#include "base/mem.h"
#include "script/bind_commerce.h"
#include "script/bind_decimal.h"
#include "script/bind_json.h"
#include "script/bind_money.h"

/* What every case may use. */
static const char prelude[] =
    "A = '10000000-0000-0000-0000-00000000000a'\n"
    "B = '10000000-0000-0000-0000-00000000000b'\n"
    "C = '20000000-0000-0000-0000-00000000000c'\n"
    "USER = { user_id = '30000000-0000-0000-0000-000000000001' }\n"
    "GUEST = { session_id = 'a-b_c' }\n"
    "function filled(owner)\n"
    "  local cart = commerce.cart(nil, owner or USER)\n"
    "  cart:add { product_id = A, name = 'Scone', unit_price = money('25.99'), quantity = 2 }\n"
    "  cart:add { product_id = B, name = 'Caf\xc3\xa9 \"Noir\"', unit_price = money('4.50'),\n"
    "    quantity = 3, custom_cake = { layers = 2, message = 'Hi' } }\n"
    "  return cart\n"
    "end\n"
    "function promo(fields)\n"
    "  local row = { discount_type = 'percent', amount = decimal('10.00'),\n"
    "    valid_from = 100, valid_to = 200 }\n"
    "  for k, v in pairs(fields or {}) do row[k] = v end\n"
    "  return commerce.promo(row)\n"
    "end\n"
    "function fails(expected, value, code) return value == nil and code == expected end\n"
    "function text(cart) return tostring(cart:bytes()) end\n"
    "function totals(fields) fields.cart = fields.cart or filled(); fields.now = 150\n"
    "  return commerce.totals(fields) end\n";

static lua_State *open_state(void)
{
    lua_State *L = luaL_newstate();

    assert_non_null(L);
    luaL_openlibs(L);
    luaL_requiref(L, "money", luaopen_omade_money, 1);
    luaL_requiref(L, "decimal", luaopen_omade_decimal, 1);
    luaL_requiref(L, "json", luaopen_omade_json, 1);
    luaL_requiref(L, "commerce", luaopen_omade_commerce, 1);
    if (luaL_dostring(L, prelude) != LUA_OK) fail_msg("%s", lua_tostring(L, -1));
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
    assert_int_equal(mem_live(), 0);
    return 0;
}

/* ---- what holds ---------------------------------------------------------- */

static const char *const truths[] = {
    /* an empty cart */
    "local c = commerce.cart(nil, USER) return #c == 0 and c:count() == 0",
    "local c = commerce.cart(nil, USER) return c:total() == money(0) and c:version() == 0",
    "local c = commerce.cart(nil, USER) return #c:id() == 36 and c:id():sub(15, 15) == '4'",
    "return commerce.cart(nil, USER):id() ~= commerce.cart(nil, USER):id()",
    "local t = json.decode(text(commerce.cart(nil, USER)))"
    " return t.user_id == USER.user_id and #t.items == 0 and t.total_amount == 0"
    " and t.item_count == 0 and #t.updated_at == 24 and t.session_id == nil",
    "local t = json.decode(text(commerce.cart(nil, GUEST))) return t.session_id == 'a-b_c'",
    /* adding */
    "local c = filled() return #c == 2 and c:count() == 5 and c:total() == money('65.48')",
    "local c = filled() return c:count(A) == 2 and c:count(B) == 3 and c:count(C) == 0",
    "local c = filled() local i = c:add { product_id = A:upper(), name = 'Scone',"
    " unit_price = money(1), quantity = 49 }"
    " return i == 1 and c:line(1).quantity == 50 and c:line(1).unit_price == money(1)",
    "local c = filled() local i = c:add { product_id = B, name = 'x', unit_price = money(1) }"
    " return i == 3 and c:line(3).quantity == 1",
    "local c = commerce.cart(nil, USER) for i = 1, 50 do c:add { product_id ="
    " ('%08x-0000-0000-0000-000000000000'):format(i), name = 'x', unit_price = money(1) } end"
    " return #c == 50 and fails('CART_FULL', c:add { product_id = A, name = 'x',"
    " unit_price = money(1) })",
    "local c = commerce.cart(nil, USER) c:add { product_id = A, name = 'x', line_id = C,"
    " unit_price = money(1) } return c:line(1).line_id == C",
    /* looking */
    "local l = filled():line(2) return l.product_id == B and l.name == 'Caf\xc3\xa9 \"Noir\"'"
    " and l.quantity == 3 and l.unit_price == money('4.5') and l.subtotal == money('13.5')"
    " and l.custom_cake.layers == 2 and l.custom_cake.message == 'Hi'",
    "local l = filled():lines() return #l == 2 and l[1].custom_cake == nil and"
    " l[1].line_id ~= l[2].line_id",
    /* changing */
    "local c = filled() return c:set(A, 7) and c:count(A) == 7",
    "local c = filled() return c:set(A, 0) and #c == 1 and c:line(1).product_id == B",
    "local c = filled() return fails('NO_LINE', c:set(C, 1))",
    "local c = filled() return fails('NO_LINE', c:set(A, 1, C))",
    "local c = filled() c:add { product_id = B, name = 'x', unit_price = money(1) }"
    " return fails('SEVERAL', c:set(B, 1)) and c:set(B, 9, c:line(3).line_id) and"
    " c:line(3).quantity == 9",
    "local c = filled() c:add { product_id = B, name = 'x', unit_price = money(1) }"
    " return c:remove(B, c:line(3).line_id) == 1 and c:count(B) == 3",
    "local c = filled() c:add { product_id = B, name = 'x', unit_price = money(1) }"
    " return c:remove(B) == 2 and #c == 1 and c:remove(B) == 0",
    "local c = filled() c:clear() return #c == 0 and c:total() == money(0)",
    "local c = filled() local id = c:id() c:clear() return c:id() ~= id and #c:id() == 36",
    "local c = commerce.cart(nil, USER) return json.encode(c:lines()) == '[]' and"
    " json.encode(c:merge(filled())) == '[]'",
    "return json.encode(commerce.totals { lines = {} }.lines) == '[]'",
    "local c = filled() return c:reprice(1, money('25.99')) == false and"
    " c:reprice(1, money('26.99')) == true and c:total() == money('67.48')",
    "local c = filled() return c:touch():touch():version() == 2",
    /* bytes */
    "local c = filled() return text(commerce.cart(text(c))) == text(c)",
    "local c = filled() return text(commerce.cart(c:bytes(), USER)) == text(c)",
    "local c = filled(GUEST) return text(commerce.cart(text(c), GUEST)) == text(c)",
    "return commerce.cart(text(filled()), GUEST) == nil",
    "return commerce.cart(text(filled()), { user_id = 'other' }) == nil",
    "return commerce.cart('') == nil and commerce.cart('{}', USER) == nil",
    "return commerce.cart(text(filled()):sub(1, -2)) == nil",
    "local bad = text(filled()):gsub('Scone', 'Sc\\xffne') return commerce.cart(bad) == nil",
    "return commerce.cart(filled():bytes { a = 1 }) == nil",
    "local t = json.decode(tostring(filled():bytes { adjusted = json.array(), a = 1 }))"
    " return #t.adjusted == 0 and t.a == 1 and t.item_count == 5 and #t.items == 2",
    "local c = filled() return tostring(c:bytes {}) == text(c)",
    "return json.encode { data = filled():bytes() }:sub(1, 20) == '{\"data\":{\"user_id\":\"'",
    /* texts outlive what they came from */
    "local c = commerce.cart(text(filled())) for i = 1, 20 do collectgarbage() end"
    " return c:line(1).name == 'Scone' and c:line(2).custom_cake.message == 'Hi'",
    "local c = commerce.cart(nil, USER) c:merge(filled(GUEST)) collectgarbage()"
    " collectgarbage() return c:line(2).name == 'Caf\xc3\xa9 \"Noir\"'",
    /* merging */
    "local c = filled() local a = c:merge(filled(GUEST))"
    " return #a == 0 and #c == 3 and c:count(A) == 4 and c:count(B) == 6",
    "local c, g = filled(), filled(GUEST) g:set(A, 49) local a = c:merge(g)"
    " return #a == 1 and a[1].product_id == A and a[1].requested == 51 and"
    " a[1].quantity == 50 and a[1].line_id == c:line(1).line_id and #g == 2",
    /* promotions */
    "return promo():discount(money('25.99'), 150) == money('2.60')",
    "return promo():discount(decimal('25.99'), 200.0) == money('2.60')",
    "return promo { discount_type = 'fixed', amount = money(5) }:discount(money(3), 150)"
    " == money(3)",
    "return fails('PROMO_EXPIRED', promo():discount(money(1)))",
    "return fails('PROMO_EXPIRED', promo():discount(money(1), 200.000001))",
    "return fails('PROMO_NOT_STARTED', promo():discount(money(1), 99.999999))",
    "return fails('PROMO_EXHAUSTED', promo { usage_limit = 3, used_count = 3 }:discount(money(1), 150))",
    "return fails('PROMO_ALREADY_USED', promo { per_user_limit = 1, used_by_user = 1 }:discount(money(1), 150))",
    "return fails('PROMO_MINIMUM', promo { minimum_order = decimal('1.01') }:discount(money(1), 150))",
    "return fails('PROMO_INVALID', promo { amount = money(101) }:discount(money(1), 150))",
    /* totals */
    "local t = totals { promo = promo(), redeem_points = 500, points_available = 800,"
    " fulfilment = 'delivery', delivery_fee = money('5.99'), free_from = money(500),"
    " tip_amount = money(3), tax_rate = '7.25' }"
    " return t.subtotal == money('65.48') and t.discount_amount == money('6.55') and"
    " t.points_redeemed == 500 and t.points_amount == money(5) and"
    " t.delivery_fee == money('5.99') and t.tip_amount == money(3) and"
    " t.tax_amount == money('4.27') and t.total_amount == money('67.19') and"
    " #t.lines == 2 and t.lines[1].subtotal == money('51.98') and"
    " t.lines[1].discount_amount == money('5.19') and t.lines[2].discount_amount == money('1.36')",
    "return totals { fulfilment = 'delivery', delivery_fee = money('5.99'),"
    " free_from = money('65.48') }.delivery_fee == money(0)",
    "return totals { delivery_fee = money('5.99') }.total_amount == money('65.48')",
    "local t = commerce.totals { lines = { { unit_price = decimal('2.50'), quantity = 3 } } }"
    " return t.total_amount == money('7.5') and t.tax_amount == money(0)",
    "return commerce.totals { lines = {} }.total_amount == money(0)",
    "return totals { redeem_points = 9, points_available = 9, hundred_points = money(10) }"
    ".points_amount == money('0.90')",
    "return fails('INSUFFICIENT_POINTS', totals { redeem_points = 1 })",
    "return fails('PROMO_MINIMUM', totals { promo = promo { minimum_order = money(66) } })",
    "return fails('TOTAL_TOO_LARGE', totals { tip_amount = money(999999) })",
    /* points */
    "return commerce.points_earned { total_amount = decimal('65.48'), tip_amount = money(3),"
    " delivery_fee = decimal('5.99'), tax_amount = decimal('4.27') } == 52",
    "return commerce.points_earned { total_amount = money(10), refunded_amount = money('9.01') } == 0",
    /* out of reach */
    "return getmetatable(filled()) == false and getmetatable(promo()) == false",
    "return not pcall(function() filled().n = 5 end)",
};

static void truths_hold(void **state)
{
    lua_State *L = *state;

    for (size_t i = 0; i < COUNT_OF(truths); i++) {
        if (luaL_dostring(L, truths[i]) != LUA_OK)
            fail_msg("%s: %s", truths[i], lua_tostring(L, -1));
        if (!lua_toboolean(L, -1)) fail_msg("does not hold: %s", truths[i]);
        lua_settop(L, 0);
    }
}

/* ---- what raises, and what it says --------------------------------------- */

static const struct {
    const char *code, *message;
} errors[] = {
    { "commerce.cart()", "table expected" },
    { "commerce.cart(nil, {})", "needs a user_id or a session_id" },
    { "commerce.cart(nil, { user_id = 'a b' })", "needs a user_id or a session_id" },
    { "commerce.cart(5, USER)", "string expected" },
    { "filled():add()", "table expected" },
    { "filled():add { product_id = 'x' }", "product_id must be a UUID, not x" },
    { "filled():add { product_id = A, name = 'x' }", "unit_price must be a money" },
    { "filled():add { product_id = A, name = 'x', unit_price = 1 }",
      "unit_price must be a money" },
    { "filled():add { product_id = A, unit_price = money(1) }", "name must be a text" },
    { "filled():add { product_id = A, name = 'x', unit_price = money(-1) }",
      "0 to 999999.99" },
    { "filled():add { product_id = A, name = 'x\\xff', unit_price = money(1) }",
      "not UTF-8" },
    { "filled():add { product_id = A, name = 'x', unit_price = money(1), quantity = 51 }",
      "quantity must be 1 to 50" },
    { "filled():add { product_id = A, name = 'x', unit_price = money(1), quantity = 1.5 }",
      "quantity must be 1 to 50" },
    { "filled():add { product_id = A, name = 'x', unit_price = money(1), custom_cake = 7 }",
      "custom_cake an object" },
    { "filled():add { product_id = A, name = 'x', unit_price = money(1), custom_cake = print }",
      "custom_cake: a function" },
    { "filled():add { product_id = A, name = 'x', unit_price = money(1), line_id = 1 }",
      "line_id must be a UUID" },
    { "filled():set(A, 51)", "quantity must be 0 to 50" },
    { "filled():set(A, -1)", "quantity must be 0 to 50" },
    { "filled():set('x', 1)", "product_id must be a UUID" },
    { "filled():remove(A, 'x')", "line_id must be a UUID" },
    { "filled():line(3)", "there is no line 3, only 2" },
    { "filled():line(0)", "there is no line 0" },
    { "filled():reprice(1, 5)", "a money from 0 to 999999.99" },
    { "filled():reprice(1, money(1000000))", "a money from 0 to 999999.99" },
    { "filled():reprice(9, money(1))", "there is no line 9" },
    { "filled():merge({})", "another cart expected" },
    { "(function() local c = filled() c:merge(c) end)()", "another cart expected" },
    { "filled():bytes { f = print }", "a function cannot be JSON" },
    { "filled():bytes(5)", "an object was expected" },
    { "filled().total(money(1))", "cart expected" },
    { "commerce.promo()", "table expected" },
    { "promo { discount_type = 'gift' }", "unknown discount_type \"gift\"" },
    { "promo { amount = 10 }", "amount must be a money" },
    { "promo { amount = money(-1) }", "amount must be a money that is not negative" },
    { "promo { valid_to = 'x' }", "valid_to must be a time in seconds" },
    { "promo { valid_to = 0/0 }", "valid_to must be a time in seconds" },
    { "promo { usage_limit = -1 }", "usage_limit must be an integer" },
    { "promo():discount()", "money expected" },
    { "promo():discount(5, 150)", "subtotal must be a money" },
    { "promo().discount(filled(), money(1))", "promo expected" },
    { "commerce.totals {}", "a cart or lines" },
    { "commerce.totals { lines = { 5 } }", "line 1 is no table" },
    { "commerce.totals { lines = { { quantity = 1 } } }", "line 1 needs a unit_price" },
    { "commerce.totals { lines = { { unit_price = money(1), quantity = 0 } } }",
      "line 1 needs a unit_price and a quantity above 0" },
    { "totals { promo = {} }", "promo must be a promo" },
    { "totals { fulfilment = 'rocket' }", "invalid option 'rocket'" },
    { "totals { tip_amount = 3 }", "tip_amount must be a money" },
    { "totals { tax_rate = '7.25555' }", "tax_rate must be percent" },
    { "totals { tax_rate = -1 }", "tax_rate must be percent" },
    { "totals { redeem_points = 1.5 }", "redeem_points must be an integer" },
    { "(function() local t = {} for i = 1, 51 do t[i] = { unit_price = money(1), quantity = 1 }"
      " end return commerce.totals { lines = t } end)()",
      "more than 50 lines" },
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

/* ---- when memory ends ---------------------------------------------------- */

/* Every allocation of ours fails once: an error, or the right answer, and no leak. */
static void a_failed_allocation_is_an_error(void **state)
{
    static const char code[] = "local c = filled() return #tostring(c:bytes { a = 1 })";
    lua_State *L = *state;
    bool failed = true;
    long n = 0;

    for (; failed; n++) {
        int status;

        assert_int_equal(luaL_loadstring(L, code), LUA_OK);
        mem_fail_after(n);
        status = lua_pcall(L, 0, 1, 0);
        failed = mem_failed();
        mem_fail_after(-1);
        if (status != LUA_OK)
            assert_non_null(strstr(lua_tostring(L, -1), "not enough memory"));
        else assert_false(failed);
        lua_settop(L, 0);
        lua_gc(L, LUA_GCCOLLECT, 0);
        assert_int_equal(mem_live(), 0);
    }
    assert_true(n > 4); /* three texts and the bytes */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(truths_hold, setup, teardown),
        cmocka_unit_test_setup_teardown(misuse_says_what_to_do, setup, teardown),
        cmocka_unit_test_setup_teardown(a_failed_allocation_is_an_error, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
