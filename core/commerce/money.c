#include "commerce/money.h"

#include <assert.h>
#include <string.h>

#include "commerce/number.h"

enum { PLACES = 2, RATE_PLACES = 4 };

/* ---- sums ---------------------------------------------------------------- */

bool money_add(money a, money b, money *sum)
{
    int64_t cents;

    if (__builtin_add_overflow(a.cents, b.cents, &cents)) return false;
    *sum = money_of(cents);
    return true;
}

bool money_sub(money a, money b, money *difference)
{
    int64_t cents;

    if (__builtin_sub_overflow(a.cents, b.cents, &cents)) return false;
    *difference = money_of(cents);
    return true;
}

bool money_times(money price, int64_t quantity, money *total)
{
    int64_t cents;

    if (__builtin_mul_overflow(price.cents, quantity, &cents)) return false;
    *total = money_of(cents);
    return true;
}

/* ---- shares -------------------------------------------------------------- */

/* Rounds n / RATE_WHOLE half away from zero. */
static int64_t round_to_cents(int64_t n)
{
    int64_t half = n < 0 ? -RATE_WHOLE / 2 : RATE_WHOLE / 2;

    return (n + half) / RATE_WHOLE;
}

bool money_share(money a, rate r, money *share)
{
    /* Multiplying first would overflow for large amounts, so the part that
     * divides evenly goes one way and the remainder, which is small enough
     * never to overflow, goes the other.  Both products have the same sign,
     * hence rounding the second alone rounds their sum. */
    int64_t even = a.cents / RATE_WHOLE;
    int64_t rest = a.cents % RATE_WHOLE;
    int64_t cents;

    if (__builtin_mul_overflow(even, (int64_t)r.ppm, &cents)) return false;
    if (__builtin_add_overflow(cents, round_to_cents(rest * r.ppm), &cents)) return false;
    *share = money_of(cents);
    return true;
}

/* ---- splits -------------------------------------------------------------- */

bool money_split(money total, const int64_t weights[], size_t n, money parts[])
{
    int64_t all = 0;

    for (size_t i = 0; i < n; i++) {
        assert(weights[i] >= 0);
        if (__builtin_add_overflow(all, weights[i], &all)) return false;
    }
    if (all == 0) return false;

    /* Each part is the distance between two running totals, and the last
     * running total is 'total' itself: no cent can be lost or invented.  As in
     * money_share, what divides evenly never overflows; the remainder is below
     * 'all', so its product fits unless the weights are huge. */
    int64_t even = total.cents / all, rest = total.cents % all;
    int64_t weight = 0, given = 0;

    for (size_t i = 0; i < n; i++) {
        int64_t due;

        weight += weights[i];
        if (__builtin_mul_overflow(rest, weight, &due)) return false;
        due = even * weight + due / all;
        parts[i] = money_of(due - given);
        given = due;
    }
    assert(given == total.cents);
    return true;
}

/* ---- text ---------------------------------------------------------------- */

size_t money_text(money a, char text[static MONEY_TEXT_MAX])
{
    uint64_t rest = a.cents < 0 ? 0 - (uint64_t)a.cents : (uint64_t)a.cents;
    char digits[MONEY_TEXT_MAX], *p = digits + sizeof digits;
    size_t n;

    *--p = '\0';
    for (int place = 0; place <= PLACES || rest != 0; place++) {
        if (place == PLACES) *--p = '.';
        *--p = (char)('0' + rest % 10);
        rest /= 10;
    }
    if (a.cents < 0) *--p = '-';
    n = (size_t)(digits + sizeof digits - p);
    memcpy(text, p, n);
    return n - 1;
}

/* The number in units of 10^-'places'. */
static enum money_parsed parse(const char *text, size_t n, int places, int64_t *units)
{
    struct number number;
    bool fits;

    if (!number_read(text, n, &number)) return MONEY_NO_NUMBER;
    if (number_scaled(&number, places, units, &fits)) return MONEY_OK;
    return fits ? MONEY_TOO_FINE : MONEY_TOO_LARGE;
}

enum money_parsed money_parse(const char *text, size_t n, money *a)
{
    int64_t cents = 0;
    enum money_parsed parsed = parse(text, n, PLACES, &cents);

    if (parsed == MONEY_OK) *a = money_of(cents);
    return parsed;
}

enum money_parsed rate_parse(const char *text, size_t n, rate *r)
{
    int64_t ppm = 0;
    enum money_parsed parsed = parse(text, n, RATE_PLACES, &ppm);

    if (parsed != MONEY_OK) return parsed;
    if (ppm > INT32_MAX || ppm < -INT32_MAX) return MONEY_TOO_LARGE;
    *r = (rate){ (int32_t)ppm };
    return MONEY_OK;
}
