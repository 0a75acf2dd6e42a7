/* Totals by hand, and 100,000 random orders against a model in 128-bit integers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/check.h"
#include "commerce/totals.h"
#include "order_rig.h"

enum { ORDERS = 100000 };

static struct totals_line two_lines[] = { { { 2599 }, 2 }, { { 450 }, 3 } }; /* 65.48 */

static struct promo percent = { .kind = PROMO_PERCENT,
                                .amount = { 1000 },
                                .limit = PROMO_UNLIMITED,
                                .user_limit = PROMO_UNLIMITED };

static struct totals_order plain_order(void)
{
    return (struct totals_order){ .lines = two_lines,
                                  .n = COUNT_OF(two_lines),
                                  .hundred_points = { 100 } };
}

static struct totals price(const struct totals_order *order)
{
    struct totals totals;
    enum promo_status status = PROMO_INVALID;

    assert_int_equal(totals_of(order, &totals, &status), TOTALS_OK);
    assert_int_equal(status, PROMO_OK);
    return totals;
}

static enum totals_result result_of(const struct totals_order *order)
{
    struct totals totals;
    enum promo_status status;

    return totals_of(order, &totals, &status);
}

/* ---- by hand ------------------------------------------------------------- */

static void an_order_with_everything(void **state)
{
    struct totals_order order = plain_order();
    struct totals t;

    (void)state;
    order.promo = &percent;
    order.points = 500;
    order.points_available = 800;
    order.delivery = true;
    order.fee = money_of(599);
    order.tip = money_of(300);
    order.tax.ppm = 72500;
    t = price(&order);
    assert_int_equal(t.subtotal.cents, 6548);
    assert_int_equal(t.discount.cents, 655); /* 654.8 */
    assert_int_equal(t.line_subtotals[0].cents, 5198);
    assert_int_equal(t.line_discounts[0].cents, 519); /* floor of 519.96 */
    assert_int_equal(t.line_discounts[1].cents, 136);
    assert_int_equal(t.points, 500);
    assert_int_equal(t.points_amount.cents, 500);
    assert_int_equal(t.fee.cents, 599);
    assert_int_equal(t.tip.cents, 300);
    assert_int_equal(t.tax.cents, 427); /* 7.25 % of 58.93 = 4.272 */
    assert_int_equal(t.total.cents, 5893 - 500 + 599 + 300 + 427);
}

static void nothing_costs_nothing(void **state)
{
    struct totals_order order = { .n = 0, .promo = &percent };
    struct totals_line gift = { { 0 }, 3 };

    (void)state;
    assert_int_equal(price(&order).total.cents, 0);
    order.lines = &gift;
    order.n = 1;
    assert_int_equal(price(&order).total.cents, 0);
    assert_int_equal(price(&order).line_discounts[0].cents, 0);
}

static void delivery_is_free_from_an_amount_after_discount(void **state)
{
    struct totals_order order = plain_order();

    (void)state;
    order.fee = money_of(599);
    assert_int_equal(price(&order).fee.cents, 0); /* pickup */
    order.delivery = true;
    assert_int_equal(price(&order).fee.cents, 599);
    order.has_free_from = true;
    order.free_from = money_of(6548);
    assert_int_equal(price(&order).fee.cents, 0);
    order.free_from = money_of(6549);
    assert_int_equal(price(&order).fee.cents, 599);
    order.free_from = money_of(5893);
    order.promo = &percent;
    assert_int_equal(price(&order).fee.cents, 0);
    order.free_from = money_of(5894);
    assert_int_equal(price(&order).fee.cents, 599);
    order.points = order.points_available = 1000; /* points are a payment */
    order.free_from = money_of(5893);
    assert_int_equal(price(&order).fee.cents, 0);
}

static void points_pay_goods_only(void **state)
{
    struct totals_order order = plain_order();
    struct totals t;

    (void)state;
    order.delivery = true;
    order.fee = money_of(599);
    order.points = order.points_available = 100000;
    t = price(&order);
    assert_true(t.points == 6548 && t.points_amount.cents == 6548);
    assert_int_equal(t.total.cents, 599);
    order.hundred_points = money_of(250); /* 2619 pay 65.475 */
    t = price(&order);
    assert_true(t.points == 2619 && t.points_amount.cents == 6547);
    order.hundred_points = money_of(0);
    t = price(&order);
    assert_true(t.points == 0 && t.points_amount.cents == 0);
    order.points_available--;
    assert_int_equal(result_of(&order), TOTALS_POINTS);
}

static void a_promotion_that_may_not_be_used(void **state)
{
    struct totals_order order = plain_order();
    struct promo promo = percent;
    struct totals totals;
    enum promo_status status;

    (void)state;
    order.promo = &promo;
    promo.minimum = money_of(6549);
    assert_int_equal(totals_of(&order, &totals, &status), TOTALS_PROMO);
    assert_int_equal(status, PROMO_MINIMUM);
    promo.minimum = money_of(6548);
    order.now = 1;
    assert_int_equal(totals_of(&order, &totals, &status), TOTALS_PROMO);
    assert_int_equal(status, PROMO_EXPIRED);
}

static void the_limit_is_that_of_the_columns(void **state)
{
    struct totals_line line = { { 99999999 }, 1 };
    struct totals_order order = { .lines = &line, .n = 1 };

    (void)state;
    assert_int_equal(price(&order).total.cents, 99999999);
    order.tip = money_of(1);
    assert_int_equal(result_of(&order), TOTALS_TOO_LARGE);
    order.tip = money_of(INT64_MAX);
    assert_int_equal(result_of(&order), TOTALS_TOO_LARGE);
    order.tip = money_of(0);
    order.tax.ppm = INT32_MAX;
    assert_int_equal(result_of(&order), TOTALS_TOO_LARGE);
    order.tax.ppm = 0;
    line.quantity = 2;
    assert_int_equal(result_of(&order), TOTALS_TOO_LARGE);
    line.quantity = INT64_MAX;
    assert_int_equal(result_of(&order), TOTALS_TOO_LARGE);
    line = (struct totals_line){ { INT64_MAX }, 1 };
    order.promo = &percent; /* no discount makes a subtotal fit */
    assert_int_equal(result_of(&order), TOTALS_TOO_LARGE);
}

static void what_is_negative_is_invalid(void **state)
{
    struct totals_line line = { { 100 }, 1 };
    struct totals_order good = { .lines = &line, .n = 1 }, order;

    (void)state;
#define INVALID(change)                                                                  \
    do {                                                                                 \
        order = good;                                                                    \
        change;                                                                          \
        assert_int_equal(result_of(&order), TOTALS_INVALID);                             \
    } while (0)
    INVALID(order.n = TOTALS_LINES_MAX + 1);
    INVALID(order.points = -1);
    INVALID(order.points_available = -1);
    INVALID(order.hundred_points.cents = -1);
    INVALID(order.fee.cents = -1);
    INVALID(order.free_from.cents = -1);
    INVALID(order.tip.cents = -1);
    INVALID(order.tax.ppm = -1);
    INVALID(line.quantity = 0);
    line.quantity = 1;
    INVALID(line.unit_price.cents = -1);
}

static void points_are_earned_for_goods(void **state)
{
    static const struct {
        struct totals_paid paid;
        int64_t points;
    } cases[] = {
        { { { 6548 }, { 0 }, { 0 }, { 0 }, { 0 } }, 65 },
        { { { 6548 }, { 300 }, { 599 }, { 427 }, { 0 } }, 52 },
        { { { 6548 }, { 0 }, { 0 }, { 0 }, { 49 } }, 64 },
        { { { 6548 }, { 0 }, { 0 }, { 0 }, { 48 } }, 65 },
        { { { 6548 }, { 300 }, { 599 }, { 427 }, { 6548 } }, 0 },
        { { { 99 }, { 0 }, { 0 }, { 0 }, { 0 } }, 0 },
        { { { INT64_MIN }, { 1 }, { 0 }, { 0 }, { 0 } }, 0 },
        { { { INT64_MAX }, { 0 }, { 0 }, { 0 }, { 0 } }, INT64_MAX / 100 },
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        assert_int_equal(totals_points_earned(&cases[i].paid), cases[i].points);
}

/* ---- against a model ----------------------------------------------------- */

typedef __int128 wide;

static wide half_up(wide amount, wide ppm)
{
    return (2 * amount * ppm + 1000000) / 2000000;
}

static wide smaller(wide a, wide b) { return a < b ? a : b; }

struct model {
    wide subtotal, discount, points, points_amount, fee, tax, total;
};

/* The rules of the contract, written down once more. */
static enum totals_result model_of(const struct totals_order *o, struct model *m)
{
    wide goods;

    *m = (struct model){ 0 };
    for (size_t i = 0; i < o->n; i++)
        m->subtotal += (wide)o->lines[i].unit_price.cents * o->lines[i].quantity;
    if (m->subtotal > 99999999) return TOTALS_TOO_LARGE;
    if (o->promo != NULL) {
        if (m->subtotal < o->promo->minimum.cents) return TOTALS_PROMO;
        m->discount = o->promo->kind == PROMO_FIXED
                          ? o->promo->amount.cents
                          : half_up(m->subtotal, o->promo->amount.cents * 100);
        m->discount = smaller(m->discount, m->subtotal);
    }
    if (o->points > o->points_available) return TOTALS_POINTS;
    goods = m->subtotal - m->discount;
    for (m->points = o->hundred_points.cents == 0 ? 0 : o->points;
         m->points > 0 && m->points * o->hundred_points.cents > goods * 100;)
        m->points--;
    m->points_amount = m->points * o->hundred_points.cents / 100;
    if (o->delivery && !(o->has_free_from && goods >= o->free_from.cents))
        m->fee = o->fee.cents;
    m->tax = half_up(goods, o->tax.ppm);
    m->total = goods - m->points_amount + m->fee + o->tip.cents + m->tax;
    return m->total > 99999999 ? TOTALS_TOO_LARGE : TOTALS_OK;
}

static void check_shares(const struct totals_order *o, const struct totals *t)
{
    wide running = 0, given = 0;

    for (size_t i = 0; i < o->n; i++) {
        wide line = (wide)o->lines[i].unit_price.cents * o->lines[i].quantity, due;

        assert_true(t->line_subtotals[i].cents == line);
        running += line;
        due =
            t->discount.cents == 0 ? 0 : t->discount.cents * running / t->subtotal.cents;
        assert_true(t->line_discounts[i].cents == due - given);
        assert_true(t->line_discounts[i].cents >= 0 &&
                    t->line_discounts[i].cents <= line);
        given = due;
    }
    assert_true(given == t->discount.cents);
}

static void orders_equal_wide_arithmetic(void **state)
{
    int seen[TOTALS_TOO_LARGE + 1] = { 0 };

    (void)state;
    for (int i = 0; i < ORDERS; i++) {
        static struct rig_order r;
        struct model m;
        struct totals t;
        enum promo_status status;
        enum totals_result result;

        rig_order(&r);
        result = totals_of(&r.order, &t, &status);
        assert_int_equal(result, model_of(&r.order, &m));
        seen[result]++;
        if (result != TOTALS_OK) continue;
        assert_true(t.subtotal.cents == m.subtotal && t.discount.cents == m.discount);
        assert_true(t.points == m.points && t.points_amount.cents == m.points_amount);
        assert_true(t.fee.cents == m.fee && t.tax.cents == m.tax);
        assert_true(t.tip.cents == r.order.tip.cents && t.total.cents == m.total);
        check_shares(&r.order, &t);
    }
    assert_true(seen[TOTALS_OK] > ORDERS / 2 && seen[TOTALS_PROMO] > 0);
    assert_true(seen[TOTALS_POINTS] > 0 && seen[TOTALS_TOO_LARGE] > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_order_with_everything),
        cmocka_unit_test(nothing_costs_nothing),
        cmocka_unit_test(delivery_is_free_from_an_amount_after_discount),
        cmocka_unit_test(points_pay_goods_only),
        cmocka_unit_test(a_promotion_that_may_not_be_used),
        cmocka_unit_test(the_limit_is_that_of_the_columns),
        cmocka_unit_test(what_is_negative_is_invalid),
        cmocka_unit_test(points_are_earned_for_goods),
        cmocka_unit_test(orders_equal_wide_arithmetic),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
