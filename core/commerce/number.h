/* number.h -- the text of a decimal number, taken apart and never rounded.
 *
 *   -12.050e3     negative  whole "12"  fraction "050"  exponent 3
 *
 * The grammar is that of JSON: no leading '+', no leading zeros, digits on both
 * sides of the point.  The parts point into the caller's text.
 */
#ifndef COMMERCE_NUMBER_H
#define COMMERCE_NUMBER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* An exponent beyond it is kept as this much, with its sign. */
#define NUMBER_EXPONENT_MAX 1000000000

struct number {
    bool negative;
    bool integer; /* neither a point nor an exponent */
    const char *whole, *fraction;
    size_t whole_n, fraction_n;
    int64_t exponent;
};

/* Reads the number at the beginning of 'text' and returns its length; 0 when there
 * is none, or when what follows spoils it ("2.", "1e", "01"). */
size_t number_scan(const char *text, size_t n, struct number *number);

/* Whether all of 'text' is one number. */
bool number_read(const char *text, size_t n, struct number *number);

/* By value: 1.50 equals 15e-1.  Negative, 0 or positive. */
int number_compare(const struct number *a, const struct number *b);

/* The power of ten of the first digit that is not 0: 2 for 123.4, -2 for 0.05.
 * False for a zero. */
bool number_power(const struct number *number, int64_t *power);

/* The number as digits * 10^'places' smaller units; false when it is not a whole
 * count of them ('*fits' is true) or beyond int64 ('*fits' is false). */
bool number_scaled(const struct number *number, int places, int64_t *units, bool *fits);

#endif
