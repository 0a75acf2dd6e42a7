#include "script/bind_commerce.h"

#include <lauxlib.h>
#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "commerce/totals.h"
#include "script/bind_cart.h"
#include "script/bind_decimal.h"
#include "script/bind_json.h"
#include "script/bind_money.h"
#include "script/bind_type.h"

enum { SECOND = 1000000 }; /* promotions run on microseconds, as PostgreSQL does */

static const struct bind_type promo_type;

/* ---- fields of the table at 1 -------------------------------------------- */

/* A money, or the decimal that a column is. */
static bool test_amount(lua_State *L, int at, money *amount)
{
    struct slice digits;

    if (money_test(L, at, &amount->cents)) return true;
    return decimal_test(L, at, &digits) &&
           money_parse(digits.p, digits.n, amount) == MONEY_OK;
}

static money amount_at(lua_State *L, int at, const char *name, money otherwise)
{
    money amount = otherwise;

    if (lua_isnil(L, at)) return otherwise;
    if (!test_amount(L, at, &amount) || amount.cents < 0)
        luaL_error(L, "commerce: %s must be a money that is not negative", name);
    return amount;
}

static money amount_field(lua_State *L, const char *name, int64_t otherwise)
{
    money amount;

    lua_getfield(L, 1, name);
    amount = amount_at(L, -1, name, money_of(otherwise));
    lua_pop(L, 1);
    return amount;
}

static int64_t count_field(lua_State *L, const char *name, int64_t otherwise)
{
    int64_t count = otherwise;

    if (lua_getfield(L, 1, name) != LUA_TNIL) {
        count = lua_isinteger(L, -1) ? lua_tointeger(L, -1) : -1;
        if (count < 0)
            luaL_error(L, "commerce: %s must be an integer that is not negative", name);
    }
    lua_pop(L, 1);
    return count;
}

/* Seconds, with a fraction or without. */
static int64_t time_at(lua_State *L, int at, const char *name)
{
    double seconds = lua_type(L, at) == LUA_TNUMBER ? lua_tonumber(L, at) : NAN;

    if (!(fabs(seconds) < 1e12))
        luaL_error(L, "commerce: %s must be a time in seconds", name);
    return llround(seconds * SECOND);
}

static int64_t time_field(lua_State *L, const char *name)
{
    int64_t time;

    lua_getfield(L, 1, name);
    time = time_at(L, -1, name);
    lua_pop(L, 1);
    return time;
}

static int64_t now_at(lua_State *L, int at)
{
    return lua_isnoneornil(L, at) ? clock_wall_us() : time_at(L, at, "now");
}

/* ---- promotions ---------------------------------------------------------- */

static enum promo_kind kind_field(lua_State *L)
{
    enum promo_kind kind = 0;
    const char *name;

    lua_getfield(L, 1, "discount_type");
    name = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "";
    while (kind < PROMO_KINDS && strcmp(name, promo_kind_names[kind]) != 0) kind++;
    if (kind == PROMO_KINDS)
        luaL_error(L, "commerce.promo: unknown discount_type \"%s\"", name);
    lua_pop(L, 1);
    return kind;
}

/* commerce.promo{discount_type=, amount=, valid_from=, ...} */
static int make_promo(lua_State *L)
{
    struct promo promo = { 0 };

    luaL_checktype(L, 1, LUA_TTABLE);
    promo.kind = kind_field(L);
    promo.amount = amount_field(L, "amount", 0);
    promo.valid_from = time_field(L, "valid_from");
    promo.valid_to = time_field(L, "valid_to");
    promo.limit = count_field(L, "usage_limit", PROMO_UNLIMITED);
    promo.used = count_field(L, "used_count", 0);
    promo.user_limit = count_field(L, "per_user_limit", PROMO_UNLIMITED);
    promo.user_used = count_field(L, "used_by_user", 0);
    promo.minimum = amount_field(L, "minimum_order", 0);
    memcpy(bind_type_new(L, &promo_type, sizeof promo), &promo, sizeof promo);
    return 1;
}

static const struct promo *check_promo(lua_State *L, int at)
{
    const struct promo *promo = bind_type_test(L, at, &promo_type);

    if (promo == NULL) luaL_typeerror(L, at, "promo");
    return promo;
}

static money check_subtotal(lua_State *L)
{
    luaL_argexpected(L, !lua_isnoneornil(L, 2), 2, "money");
    return amount_at(L, 2, "subtotal", money_of(0));
}

static int push_status(lua_State *L, enum promo_status status)
{
    static const char *const codes[] = {
        [PROMO_INVALID] = "PROMO_INVALID",
        [PROMO_NOT_STARTED] = "PROMO_NOT_STARTED",
        [PROMO_EXPIRED] = "PROMO_EXPIRED",
        [PROMO_EXHAUSTED] = "PROMO_EXHAUSTED",
        [PROMO_ALREADY_USED] = "PROMO_ALREADY_USED",
        [PROMO_MINIMUM] = "PROMO_MINIMUM",
    };

    lua_pushnil(L);
    lua_pushstring(L, codes[status]);
    return 2;
}

/* promo:discount(subtotal [, now]) */
static int discount(lua_State *L)
{
    const struct promo *promo = check_promo(L, 1);
    money subtotal = check_subtotal(L), off;
    enum promo_status status = promo_check(promo, subtotal, now_at(L, 3));

    if (status == PROMO_OK && !promo_discount(promo, subtotal, &off))
        status = PROMO_INVALID;
    if (status != PROMO_OK) return push_status(L, status);
    money_push(L, off.cents);
    return 1;
}

static const luaL_Reg promo_methods[] = {
    { "discount", discount },
    { NULL, NULL },
};

static const struct bind_type promo_type = { "omade.promo", "promo", NULL,
                                             promo_methods };

/* ---- totals: what goes in ------------------------------------------------ */

/* What one call reads, and what it points to. */
struct question {
    struct totals_order order;
    struct totals_line lines[TOTALS_LINES_MAX];
};

static void read_cart(const struct cart *cart, struct question *q)
{
    for (size_t i = 0; i < cart->n; i++)
        q->lines[i] =
            (struct totals_line){ cart->lines[i].unit_price, cart->lines[i].quantity };
    q->order.n = cart->n;
}

/* The list on top of the stack. */
static void read_lines(lua_State *L, struct question *q)
{
    lua_Integer n;

    luaL_argexpected(L, lua_istable(L, -1), 1, "table with a cart or lines");
    n = luaL_len(L, -1);
    if (n > TOTALS_LINES_MAX) luaL_error(L, "commerce.totals: more than 50 lines");
    for (lua_Integer i = 0; i < n; i++) {
        struct totals_line *line = &q->lines[i];

        if (lua_geti(L, -1, i + 1) != LUA_TTABLE)
            luaL_error(L, "commerce.totals: line %d is no table", (int)i + 1);
        lua_getfield(L, -1, "unit_price");
        line->unit_price = amount_at(L, -1, "unit_price", money_of(0));
        lua_getfield(L, -2, "quantity");
        line->quantity = lua_isinteger(L, -1) ? lua_tointeger(L, -1) : 0;
        if (lua_isnil(L, -2) || line->quantity < 1)
            luaL_error(L,
                       "commerce.totals: line %d needs a unit_price and a quantity "
                       "above 0",
                       (int)i + 1);
        lua_pop(L, 3);
    }
    q->order.n = (size_t)n;
}

static void read_goods(lua_State *L, struct question *q)
{
    const struct cart *cart;

    q->order.lines = q->lines;
    lua_getfield(L, 1, "cart");
    cart = cart_test(L, -1);
    if (cart != NULL) read_cart(cart, q);
    else {
        lua_getfield(L, 1, "lines");
        read_lines(L, q);
    }
}

static void read_promo(lua_State *L, struct totals_order *order)
{
    if (lua_getfield(L, 1, "promo") == LUA_TNIL) return;
    order->promo = bind_type_test(L, -1, &promo_type); /* it stays on the stack */
    if (order->promo == NULL) luaL_error(L, "commerce.totals: promo must be a promo");
    lua_getfield(L, 1, "now");
    order->now = now_at(L, -1);
}

static void read_fulfilment(lua_State *L, struct totals_order *order)
{
    static const char *const names[] = { "pickup", "delivery", NULL };

    lua_getfield(L, 1, "fulfilment");
    order->delivery = luaL_checkoption(L, lua_gettop(L), "pickup", names) == 1;
    order->fee = amount_field(L, "delivery_fee", 0);
    order->has_free_from = lua_getfield(L, 1, "free_from") != LUA_TNIL;
    order->free_from = amount_at(L, -1, "free_from", money_of(0));
}

static rate tax_field(lua_State *L)
{
    rate tax = { 0 };
    struct slice text;

    if (lua_getfield(L, 1, "tax_rate") == LUA_TNIL) return tax;
    text.p = luaL_tolstring(L, -1, &text.n);
    if (rate_parse(text.p, text.n, &tax) != MONEY_OK || tax.ppm < 0)
        luaL_error(L, "commerce.totals: tax_rate must be percent such as \"7.25\"");
    return tax;
}

/* ---- totals: what comes out ---------------------------------------------- */

static void set_money(lua_State *L, const char *name, money amount)
{
    money_push(L, amount.cents);
    lua_setfield(L, -2, name);
}

static void push_lines(lua_State *L, const struct totals *totals, size_t n)
{
    lua_createtable(L, (int)n, 0);
    json_push_array_mark(L);
    lua_setmetatable(L, -2);
    for (size_t i = 0; i < n; i++) {
        lua_createtable(L, 0, 2);
        set_money(L, "subtotal", totals->line_subtotals[i]);
        set_money(L, "discount_amount", totals->line_discounts[i]);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
}

static int push_totals(lua_State *L, const struct totals *totals, size_t n)
{
    lua_createtable(L, 0, 9);
    set_money(L, "subtotal", totals->subtotal);
    set_money(L, "discount_amount", totals->discount);
    set_money(L, "points_amount", totals->points_amount);
    set_money(L, "delivery_fee", totals->fee);
    set_money(L, "tip_amount", totals->tip);
    set_money(L, "tax_amount", totals->tax);
    set_money(L, "total_amount", totals->total);
    lua_pushinteger(L, totals->points);
    lua_setfield(L, -2, "points_redeemed");
    push_lines(L, totals, n);
    lua_setfield(L, -2, "lines");
    return 1;
}

static int push_failure(lua_State *L, enum totals_result result, enum promo_status status)
{
    if (result == TOTALS_PROMO) return push_status(L, status);
    if (result == TOTALS_INVALID) return luaL_error(L, "commerce.totals: bad input");
    lua_pushnil(L);
    lua_pushstring(L,
                   result == TOTALS_POINTS ? "INSUFFICIENT_POINTS" : "TOTAL_TOO_LARGE");
    return 2;
}

/* commerce.totals{cart= or lines=, promo=, ...} */
static int make_totals(lua_State *L)
{
    struct question q = { .order.n = 0 };
    struct totals totals;
    enum promo_status status;
    enum totals_result result;

    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    read_goods(L, &q);
    read_promo(L, &q.order);
    q.order.points = count_field(L, "redeem_points", 0);
    q.order.points_available = count_field(L, "points_available", 0);
    q.order.hundred_points = amount_field(L, "hundred_points", 100);
    read_fulfilment(L, &q.order);
    q.order.tip = amount_field(L, "tip_amount", 0);
    q.order.tax = tax_field(L);
    result = totals_of(&q.order, &totals, &status);
    if (result != TOTALS_OK) return push_failure(L, result, status);
    return push_totals(L, &totals, q.order.n);
}

/* commerce.points_earned{total_amount=, tip_amount=, ...} */
static int points_earned(lua_State *L)
{
    struct totals_paid paid;

    luaL_checktype(L, 1, LUA_TTABLE);
    paid.total = amount_field(L, "total_amount", 0);
    paid.tip = amount_field(L, "tip_amount", 0);
    paid.fee = amount_field(L, "delivery_fee", 0);
    paid.tax = amount_field(L, "tax_amount", 0);
    paid.refunded = amount_field(L, "refunded_amount", 0);
    lua_pushinteger(L, totals_points_earned(&paid));
    return 1;
}

/* ---- the module ---------------------------------------------------------- */

int luaopen_omade_commerce(lua_State *L)
{
    static const luaL_Reg functions[] = {
        { "cart", cart_open },   { "points_earned", points_earned },
        { "promo", make_promo }, { "totals", make_totals },
        { NULL, NULL },
    };

    luaL_newlib(L, functions);
    return 1;
}
