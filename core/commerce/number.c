#include "commerce/number.h"

/* ---- reading ------------------------------------------------------------- */

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

static size_t count_digits(const char *p, const char *end)
{
    const char *from = p;

    while (p < end && is_digit(*p)) p++;
    return (size_t)(p - from);
}

/* Steps over "e-12" when there is one; false when it breaks off. */
static bool scan_exponent(const char **at, const char *end, int64_t *exponent)
{
    const char *p = *at;
    bool negative = false;
    size_t n;

    if (p == end || (*p != 'e' && *p != 'E')) return true;
    p++;
    if (p < end && (*p == '+' || *p == '-')) negative = *p++ == '-';
    n = count_digits(p, end);
    if (n == 0) return false;
    for (; n > 0; n--, p++)
        if (*exponent < NUMBER_EXPONENT_MAX) *exponent = *exponent * 10 + (*p - '0');
    if (*exponent > NUMBER_EXPONENT_MAX) *exponent = NUMBER_EXPONENT_MAX;
    if (negative) *exponent = -*exponent;
    *at = p;
    return true;
}

size_t number_scan(const char *text, size_t n, struct number *number)
{
    struct number found = { 0 };
    const char *p = text, *end = text + n, *mark;

    if (p < end && *p == '-') {
        found.negative = true;
        p++;
    }
    found.whole = p;
    found.whole_n = count_digits(p, end);
    if (found.whole_n == 0 || (*p == '0' && found.whole_n > 1)) return 0;
    p += found.whole_n;
    mark = p;
    found.fraction = p;
    if (p < end && *p == '.') {
        found.fraction = ++p;
        found.fraction_n = count_digits(p, end);
        if (found.fraction_n == 0) return 0;
        p += found.fraction_n;
    }
    if (!scan_exponent(&p, end, &found.exponent)) return 0;
    found.integer = p == mark;
    *number = found;
    return (size_t)(p - text);
}

bool number_read(const char *text, size_t n, struct number *number)
{
    struct number found;

    if (n == 0 || number_scan(text, n, &found) != n) return false;
    *number = found;
    return true;
}

/* ---- digits -------------------------------------------------------------- */

static size_t all_digits(const struct number *a) { return a->whole_n + a->fraction_n; }

/* The digit at place i of whole and fraction together; 0 behind their end. */
static int digit_at(const struct number *a, size_t i)
{
    if (i < a->whole_n) return a->whole[i] - '0';
    i -= a->whole_n;
    return i < a->fraction_n ? a->fraction[i] - '0' : 0;
}

/* The place of the first digit that is not 0; all_digits() for a zero. */
static size_t first_digit(const struct number *a)
{
    size_t i = 0, n = all_digits(a);

    while (i < n && digit_at(a, i) == 0) i++;
    return i;
}

bool number_power(const struct number *a, int64_t *power)
{
    size_t first = first_digit(a);

    if (first == all_digits(a)) return false;
    *power = a->exponent + (int64_t)a->whole_n - 1 - (int64_t)first;
    return true;
}

/* ---- comparing ----------------------------------------------------------- */

/* Neither is a zero; the signs do not count. */
static int compare_sizes(const struct number *a, const struct number *b)
{
    int64_t power_a = 0, power_b = 0;
    size_t i = first_digit(a), j = first_digit(b);

    (void)number_power(a, &power_a);
    (void)number_power(b, &power_b);
    if (power_a != power_b) return power_a < power_b ? -1 : 1;
    for (; i < all_digits(a) || j < all_digits(b); i++, j++) {
        int difference = digit_at(a, i) - digit_at(b, j);
        if (difference != 0) return difference;
    }
    return 0;
}

static int sign_of(const struct number *a)
{
    if (first_digit(a) == all_digits(a)) return 0;
    return a->negative ? -1 : 1;
}

int number_compare(const struct number *a, const struct number *b)
{
    int sign = sign_of(a), other = sign_of(b);

    if (sign != other) return sign - other;
    return sign == 0 ? 0 : sign * compare_sizes(a, b);
}

/* ---- whole counts -------------------------------------------------------- */

bool number_scaled(const struct number *a, int places, int64_t *units, bool *fits)
{
    size_t used = all_digits(a);
    int64_t sum = 0; /* kept negative: int64 reaches one further below zero */
    int64_t shift;

    while (used > 0 && digit_at(a, used - 1) == 0) used--;
    *fits = true;
    if (used > 0) {
        shift = a->exponent + places + (int64_t)a->whole_n - (int64_t)used;
        if (shift < 0) return false;
        *fits = false;
        for (size_t i = 0; i < used; i++) {
            if (__builtin_mul_overflow(sum, (int64_t)10, &sum)) return false;
            if (__builtin_sub_overflow(sum, (int64_t)digit_at(a, i), &sum)) return false;
        }
        for (; shift > 0; shift--)
            if (__builtin_mul_overflow(sum, (int64_t)10, &sum)) return false;
        if (!a->negative && __builtin_sub_overflow((int64_t)0, sum, &sum)) return false;
        *fits = true;
    }
    *units = sum;
    return true;
}
