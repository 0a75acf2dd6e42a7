/* Promotions: when they count, and what they take off. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/check.h"
#include "cart_rig.h"
#include "commerce/promo.h"

static struct promo tenth(void)
{
    return (struct promo){ .kind = PROMO_PERCENT,
                           .amount = { 1000 },
                           .valid_from = 100,
                           .valid_to = 200,
                           .limit = PROMO_UNLIMITED,
                           .user_limit = PROMO_UNLIMITED };
}

/* ---- status -------------------------------------------------------------- */

static void the_window_includes_both_ends(void **state)
{
    static const struct {
        int64_t now;
        enum promo_status status;
    } cases[] = { { 99, PROMO_NOT_STARTED },
                  { 100, PROMO_OK },
                  { 200, PROMO_OK },
                  { 201, PROMO_EXPIRED },
                  { INT64_MIN, PROMO_NOT_STARTED },
                  { INT64_MAX, PROMO_EXPIRED } };
    struct promo promo = tenth();

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        assert_int_equal(promo_check(&promo, money_of(0), cases[i].now), cases[i].status);
}

static void limits_are_reached(void **state)
{
    struct promo promo = tenth();

    (void)state;
    promo.used = 1000000;
    promo.user_used = 1000000;
    assert_int_equal(promo_check(&promo, money_of(0), 150), PROMO_OK);
    promo.user_limit = 1000001;
    promo.limit = 1000001;
    assert_int_equal(promo_check(&promo, money_of(0), 150), PROMO_OK);
    promo.user_limit = 1000000;
    assert_int_equal(promo_check(&promo, money_of(0), 150), PROMO_ALREADY_USED);
    promo.limit = 1000000;
    assert_int_equal(promo_check(&promo, money_of(0), 150), PROMO_EXHAUSTED);
    promo.limit = 0;
    assert_int_equal(promo_check(&promo, money_of(0), 150), PROMO_EXHAUSTED);
}

static void a_minimum_is_reached(void **state)
{
    struct promo promo = tenth();

    (void)state;
    promo.minimum = money_of(3000);
    assert_int_equal(promo_check(&promo, money_of(2999), 150), PROMO_MINIMUM);
    assert_int_equal(promo_check(&promo, money_of(3000), 150), PROMO_OK);
}

static void the_earlier_reason_is_told(void **state)
{
    struct promo promo = tenth();

    (void)state;
    promo.limit = promo.user_limit = 0;
    promo.minimum = money_of(1);
    assert_int_equal(promo_check(&promo, money_of(0), 201), PROMO_EXPIRED);
    assert_int_equal(promo_check(&promo, money_of(0), 150), PROMO_EXHAUSTED);
    promo.amount = money_of(0);
    assert_int_equal(promo_check(&promo, money_of(0), 201), PROMO_INVALID);
}

static void what_is_no_promotion_is_invalid(void **state)
{
    static const struct {
        int kind;
        int64_t cents;
    } cases[] = { { PROMO_PERCENT, 0 },       { PROMO_PERCENT, -1 },
                  { PROMO_PERCENT, 10001 },   { PROMO_FIXED, 0 },
                  { PROMO_FIXED, -100 },      { PROMO_FIXED, 100000000 },
                  { PROMO_FIXED, INT64_MAX }, { PROMO_KINDS, 100 },
                  { PROMO_KINDS + 5, 100 } };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct promo promo = tenth();
        money discount = { 77 };

        promo.kind = (enum promo_kind)cases[i].kind;
        promo.amount = money_of(cases[i].cents);
        assert_int_equal(promo_check(&promo, money_of(100), 150), PROMO_INVALID);
        assert_false(promo_discount(&promo, money_of(100), &discount));
        assert_int_equal(discount.cents, 77);
    }
}

/* ---- discounts ----------------------------------------------------------- */

static void discounts_by_hand(void **state)
{
    static const struct {
        enum promo_kind kind;
        int64_t amount, subtotal, discount;
    } cases[] = {
        { PROMO_PERCENT, 1000, 2599, 260 },
        { PROMO_PERCENT, 1000, 2594, 259 },
        { PROMO_PERCENT, 1000, 5, 1 },
        { PROMO_PERCENT, 1000, 4, 0 },
        { PROMO_PERCENT, 10000, 2599, 2599 },
        { PROMO_PERCENT, 1, 4999, 0 },
        { PROMO_PERCENT, 1, 5000, 1 },
        { PROMO_PERCENT, 1250, 10000, 1250 },
        { PROMO_FIXED, 500, 2599, 500 },
        { PROMO_FIXED, 500, 499, 499 },
        { PROMO_FIXED, 500, 0, 0 },
        { PROMO_FIXED, 99999999, 99999999, 99999999 },
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct promo promo = tenth();
        money discount = { 77 };

        promo.kind = cases[i].kind;
        promo.amount = money_of(cases[i].amount);
        assert_true(promo_discount(&promo, money_of(cases[i].subtotal), &discount));
        assert_int_equal(discount.cents, cases[i].discount);
    }
}

/* Half up, by another way: twice the size, plus one, halved. */
static __int128 wide_discount(const struct promo *promo, int64_t subtotal)
{
    __int128 off = promo->amount.cents;

    if (promo->kind == PROMO_PERCENT)
        off = (2 * (__int128)subtotal * promo->amount.cents + 10000) / 20000;
    return off < subtotal ? off : subtotal;
}

static void discounts_equal_wide_arithmetic(void **state)
{
    (void)state;
    for (int i = 0; i < 200000; i++) {
        struct promo promo = tenth();
        int64_t subtotal = (int64_t)(rig_random() >> (1 + rig_random() % 63));
        money discount = { 77 };

        promo.kind = i % 2 == 0 ? PROMO_PERCENT : PROMO_FIXED;
        promo.amount.cents =
            1 + (int64_t)(rig_random() % (i % 2 == 0 ? 10000 : 99999999));
        assert_true(promo_discount(&promo, money_of(subtotal), &discount));
        assert_true(discount.cents == wide_discount(&promo, subtotal));
    }
}

static void a_negative_subtotal_has_no_discount(void **state)
{
    struct promo promo = tenth();
    money discount = { 77 };

    (void)state;
    assert_false(promo_discount(&promo, money_of(-1), &discount));
    assert_int_equal(discount.cents, 77);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_window_includes_both_ends),
        cmocka_unit_test(limits_are_reached),
        cmocka_unit_test(a_minimum_is_reached),
        cmocka_unit_test(the_earlier_reason_is_told),
        cmocka_unit_test(what_is_no_promotion_is_invalid),
        cmocka_unit_test(discounts_by_hand),
        cmocka_unit_test(discounts_equal_wide_arithmetic),
        cmocka_unit_test(a_negative_subtotal_has_no_discount),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
