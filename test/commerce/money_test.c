/* Money against 128-bit arithmetic, and its text against itself. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/check.h"
#include "commerce/money.h"
#include "commerce/number.h"

enum { ROUNDS = 200000, PARTS = 12 };

/* ---- random amounts ------------------------------------------------------ */

static uint64_t seed = 0x9e3779b97f4a7c15u;

static uint64_t random64(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

/* Small, large and near the limits, about as often. */
static int64_t random_amount(void)
{
    int64_t any = (int64_t)random64();

    switch (random64() % 5) {
    case 0: return any % 1000;
    case 1: return any % 100000000;
    case 2: return any >> random64() % 63;
    case 3: return INT64_MAX - (any & 3);
    default: return INT64_MIN + (any & 3);
    }
}

static bool in_range(__int128 n) { return n >= INT64_MIN && n <= INT64_MAX; }

/* ---- sums ---------------------------------------------------------------- */

static void check(bool done, money result, __int128 exact)
{
    assert_int_equal(done, in_range(exact));
    assert_true(result.cents == (done ? (int64_t)exact : 77));
}

static void sums_equal_wide_arithmetic(void **state)
{
    (void)state;
    for (int i = 0; i < ROUNDS; i++) {
        int64_t a = random_amount(), b = random_amount();
        money result = { 77 };

        check(money_add(money_of(a), money_of(b), &result), result, (__int128)a + b);
        result = money_of(77);
        check(money_sub(money_of(a), money_of(b), &result), result, (__int128)a - b);
        result = money_of(77);
        check(money_times(money_of(a), b, &result), result, (__int128)a * b);
        assert_int_equal(money_compare(money_of(a), money_of(b)), (a > b) - (a < b));
    }
}

/* Half away from zero, by another way: twice the size, plus one, halved. */
static __int128 wide_share(int64_t cents, int32_t ppm)
{
    __int128 product = (__int128)cents * ppm, size = product < 0 ? -product : product;
    __int128 rounded = (2 * size + 1000000) / 2000000;

    return product < 0 ? -rounded : rounded;
}

static void shares_equal_wide_arithmetic(void **state)
{
    (void)state;
    for (int i = 0; i < ROUNDS; i++) {
        int64_t a = random_amount();
        int32_t ppm =
            i % 3 == 0 ? (int32_t)random64() : (int32_t)(random64() % 2000001) - 1000000;
        money result = { 77 };

        check(money_share(money_of(a), (rate){ ppm }, &result), result,
              wide_share(a, ppm));
    }
}

static void shares_round_half_away_from_zero(void **state)
{
    static const struct {
        int64_t cents;
        const char *percent;
        int64_t share;
    } cases[] = {
        { 50, "1", 1 },          { 49, "1", 0 },          { -50, "1", -1 },
        { -49, "1", 0 },         { 150, "1", 2 },         { 250, "1", 3 },
        { 50, "-1", -1 },        { -50, "-1", 1 },        { 12345, "100", 12345 },
        { 12345, "0", 0 },       { 1999, "7.25", 145 },   { 2599, "10.00", 260 },
        { 1600, "8.875", 142 },  { 1599, "8.875", 142 },  { 1583, "8.875", 140 },
        { 500000, "0.0001", 1 }, { 499999, "0.0001", 0 },
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        money share = { 77 };
        rate r;

        assert_int_equal(rate_parse(cases[i].percent, strlen(cases[i].percent), &r),
                         MONEY_OK);
        assert_true(money_share(money_of(cases[i].cents), r, &share));
        assert_int_equal(share.cents, cases[i].share);
    }
}

static void rates_have_four_decimals(void **state)
{
    rate r = { 77 };

    (void)state;
    assert_int_equal(rate_parse("0.00001", 7, &r), MONEY_TOO_FINE);
    assert_int_equal(rate_parse("214748.3648", 11, &r), MONEY_TOO_LARGE);
    assert_int_equal(rate_parse("1e300", 5, &r), MONEY_TOO_LARGE);
    assert_int_equal(rate_parse("7,25", 4, &r), MONEY_NO_NUMBER);
    assert_int_equal(r.ppm, 77);
    assert_int_equal(rate_parse("-8.8750", 7, &r), MONEY_OK);
    assert_int_equal(r.ppm, -88750);
}

/* ---- splits -------------------------------------------------------------- */

static void splits_lose_no_cent(void **state)
{
    money parts[PARTS];
    int64_t weights[PARTS];

    (void)state;
    for (int round = 0; round < ROUNDS; round++) {
        size_t n = 1 + random64() % PARTS;
        int64_t total = random_amount(), all = 0;
        __int128 sum = 0;

        for (size_t i = 0; i < n; i++) {
            weights[i] = (int64_t)(random64() % (round % 2 ? 200000000 : 4));
            all += weights[i];
        }
        if (!money_split(money_of(total), weights, n, parts)) {
            assert_int_equal(all, 0);
            continue;
        }
        for (size_t i = 0; i < n; i++) {
            __int128 off = (__int128)parts[i].cents * all - (__int128)total * weights[i];

            sum += parts[i].cents;
            assert_true(off > -all && off < all); /* less than a cent away */
            if (weights[i] == 0) assert_int_equal(parts[i].cents, 0);
        }
        assert_true(sum == total);
    }
}

static void splits_that_cannot_be(void **state)
{
    money parts[3];

    (void)state;
    assert_false(money_split(money_of(10), NULL, 0, parts));
    assert_false(money_split(money_of(10), (int64_t[]){ 0, 0 }, 2, parts));
    assert_false(money_split(money_of(10), (int64_t[]){ INT64_MAX, 1 }, 2, parts));
    assert_false(
        money_split(money_of(INT64_MAX - 1), (int64_t[]){ INT64_MAX }, 1, parts));
    assert_true(money_split(money_of(INT64_MIN), (int64_t[]){ 1500000000, 1500000000 }, 2,
                            parts));
    assert_true(parts[0].cents == INT64_MIN / 2 && parts[1].cents == INT64_MIN / 2);
}

/* ---- text ---------------------------------------------------------------- */

static void text_and_back(void **state)
{
    (void)state;
    for (int i = 0; i < ROUNDS; i++) {
        money a = money_of(random_amount()), back = { 77 };
        char text[MONEY_TEXT_MAX], wide[64];
        size_t n = money_text(a, text);
        unsigned long long size =
            a.cents < 0 ? 0 - (unsigned long long)a.cents : (unsigned long long)a.cents;

        snprintf(wide, sizeof wide, "%s%llu.%02llu", a.cents < 0 ? "-" : "", size / 100,
                 size % 100);
        assert_string_equal(text, wide);
        assert_int_equal(n, strlen(text));
        assert_int_equal(money_parse(text, n, &back), MONEY_OK);
        assert_true(back.cents == a.cents);
    }
}

static const struct {
    const char *text;
    enum money_parsed parsed;
    int64_t cents;
} texts[] = {
    { "25.99", MONEY_OK, 2599 },
    { "25", MONEY_OK, 2500 },
    { "25.9", MONEY_OK, 2590 },
    { "-3.5", MONEY_OK, -350 },
    { "0", MONEY_OK, 0 },
    { "-0", MONEY_OK, 0 },
    { "-0.00", MONEY_OK, 0 },
    { "0.01", MONEY_OK, 1 },
    { "-0.01", MONEY_OK, -1 },
    { "25.990", MONEY_OK, 2599 },
    { "25.99000000000000000000000000000000000", MONEY_OK, 2599 },
    { "2599e-2", MONEY_OK, 2599 },
    { "2599E-02", MONEY_OK, 2599 },
    { "1e2", MONEY_OK, 10000 },
    { "1E+2", MONEY_OK, 10000 },
    { "1.5e0", MONEY_OK, 150 },
    { "0.0000259900e6", MONEY_OK, 2599 },
    { "2599000e-5", MONEY_OK, 2599 },
    { "0e999999999999999999999", MONEY_OK, 0 },
    { "0e-999999999999999999999", MONEY_OK, 0 },
    { "92233720368547758.07", MONEY_OK, INT64_MAX },
    { "-92233720368547758.08", MONEY_OK, INT64_MIN },
    { "92233720368547758.08", MONEY_TOO_LARGE, 0 },
    { "-92233720368547758.09", MONEY_TOO_LARGE, 0 },
    { "1e30", MONEY_TOO_LARGE, 0 },
    { "-1e999999999999999999999", MONEY_TOO_LARGE, 0 },
    { "100000000000000000000000000000", MONEY_TOO_LARGE, 0 },
    { "25.991", MONEY_TOO_FINE, 0 },
    { "25.990000000000000001", MONEY_TOO_FINE, 0 },
    { "0.001", MONEY_TOO_FINE, 0 },
    { "1e-3", MONEY_TOO_FINE, 0 },
    { "1e-999999999999999999999", MONEY_TOO_FINE, 0 },
    { "2599e-3", MONEY_TOO_FINE, 0 },
    { "", MONEY_NO_NUMBER, 0 },
    { "-", MONEY_NO_NUMBER, 0 },
    { "+1", MONEY_NO_NUMBER, 0 },
    { "--1", MONEY_NO_NUMBER, 0 },
    { "01", MONEY_NO_NUMBER, 0 },
    { "-01", MONEY_NO_NUMBER, 0 },
    { "00", MONEY_NO_NUMBER, 0 },
    { ".5", MONEY_NO_NUMBER, 0 },
    { "5.", MONEY_NO_NUMBER, 0 },
    { "5.e1", MONEY_NO_NUMBER, 0 },
    { "1e", MONEY_NO_NUMBER, 0 },
    { "1e+", MONEY_NO_NUMBER, 0 },
    { "e1", MONEY_NO_NUMBER, 0 },
    { "1e1.5", MONEY_NO_NUMBER, 0 },
    { "1.2.3", MONEY_NO_NUMBER, 0 },
    { " 1", MONEY_NO_NUMBER, 0 },
    { "1 ", MONEY_NO_NUMBER, 0 },
    { "1,5", MONEY_NO_NUMBER, 0 },
    { "0x10", MONEY_NO_NUMBER, 0 },
    { "NaN", MONEY_NO_NUMBER, 0 },
    { "Infinity", MONEY_NO_NUMBER, 0 },
    { "1_000", MONEY_NO_NUMBER, 0 },
};

static void texts_are_read_or_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        size_t n = strlen(texts[i].text);
        char *exact = malloc(n == 0 ? 1 : n); /* no NUL: a read beyond is seen by ASan */
        money a = { 77 };

        assert_non_null(exact);
        memcpy(exact, texts[i].text, n);
        enum money_parsed parsed = money_parse(exact, n, &a);
        if (parsed != texts[i].parsed) fail_msg("%s: %d", texts[i].text, (int)parsed);
        assert_true(a.cents == (parsed == MONEY_OK ? texts[i].cents : 77));
        free(exact);
    }
    money a;
    assert_int_equal(money_parse(NULL, 0, &a), MONEY_NO_NUMBER);
    assert_int_equal(money_parse("1\0", 2, &a), MONEY_NO_NUMBER);
}

/* ---- numbers by value ---------------------------------------------------- */

static struct number number_of(const char *text)
{
    struct number number;

    if (!number_read(text, strlen(text), &number)) fail_msg("%s", text);
    return number;
}

static void numbers_compare_by_value(void **state)
{
    /* Each is less than the next; equal ones share a line. */
    static const char *const lines[][4] = {
        { "-1e300" },
        { "-9223372036854775809" },
        { "-10", "-1e1", "-10.00", "-100e-1" },
        { "-9.99" },
        { "-0.001" },
        { "0", "-0", "0.000", "0e5" },
        { "1e-9999" },
        { "0.0099999999999999999999999999" },
        { "0.01", "1e-2", "0.010", "0.1e-1" },
        { "1.5", "1.50", "15e-1", "0.15e1" },
        { "1.50000000000000000001" },
        { "1.6" },
        { "9" },
        { "10", "1e1" },
        { "9223372036854775807" },
        { "9223372036854775808" },
        { "1e300" },
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(lines); i++)
        for (size_t j = 0; j < COUNT_OF(lines); j++)
            for (int k = 0; k < 16; k++) {
                const char *left = lines[i][k / 4], *right = lines[j][k % 4];
                if (left == NULL || right == NULL) continue;
                struct number a = number_of(left), b = number_of(right);
                int order = number_compare(&a, &b), right_order = (i > j) - (i < j);
                if ((order > 0) - (order < 0) != right_order)
                    fail_msg("%s, %s", left, right);
            }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_equal_wide_arithmetic),
        cmocka_unit_test(shares_equal_wide_arithmetic),
        cmocka_unit_test(shares_round_half_away_from_zero),
        cmocka_unit_test(rates_have_four_decimals),
        cmocka_unit_test(splits_lose_no_cent),
        cmocka_unit_test(splits_that_cannot_be),
        cmocka_unit_test(text_and_back),
        cmocka_unit_test(texts_are_read_or_refused),
        cmocka_unit_test(numbers_compare_by_value),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
