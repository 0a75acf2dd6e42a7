/* money.h -- exact amounts of one currency.
 *
 * A money is a whole number of cents, wrapped in a struct so that the
 * compiler refuses to add it to a quantity or a product id.  Nothing here
 * allocates, does I/O or keeps state; every function may be called from
 * any thread.  A bool function returns false when the result would not
 * fit, and then leaves its output alone.
 */
#ifndef COMMERCE_MONEY_H
#define COMMERCE_MONEY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MONEY_MUST_CHECK __attribute__((warn_unused_result))

typedef struct money {
    int64_t cents;
} money;

/* A proportion in millionths: RATE_WHOLE is the whole, 88750 is 8.875 %. */
typedef struct rate {
    int32_t ppm;
} rate;

/* A hundredth of a percent, RATE_CENT, is what a cent is to money. */
enum { RATE_WHOLE = 1000000, RATE_CENT = RATE_WHOLE / 10000 };

#define MONEY_TEXT_MAX 24 /* "-92233720368547758.08" and its NUL fit */

static inline money money_of(int64_t cents) { return (money){ cents }; }

/* -1, 0 or 1. */
static inline int money_compare(money a, money b)
{
    return (a.cents > b.cents) - (a.cents < b.cents);
}

MONEY_MUST_CHECK bool money_add(money a, money b, money *sum);
MONEY_MUST_CHECK bool money_sub(money a, money b, money *difference);
MONEY_MUST_CHECK bool money_times(money price, int64_t quantity, money *total);

/* The share of 'a' at rate 'r', rounded half away from zero. */
MONEY_MUST_CHECK bool money_share(money a, rate r, money *share);

/* Divides 'total' among 'n' lines in proportion to 'weights', which are not
 * negative.  The parts add up to 'total' to the cent, and each is less than a cent
 * from its exact share.  Never fails while the weights add up to 3,000,000,000 at
 * most, except when all are zero; on false 'parts' may be half written. */
MONEY_MUST_CHECK bool money_split(money total, const int64_t weights[], size_t n,
                                  money parts[]);

/* Writes "-12.05" into 'text' and returns its length. */
size_t money_text(money a, char text[static MONEY_TEXT_MAX]);

enum money_parsed {
    MONEY_OK,
    MONEY_NO_NUMBER, /* not what number.h calls a number */
    MONEY_TOO_FINE,  /* a part of a cent would be lost: "25.991", "1e-3" */
    MONEY_TOO_LARGE,
};

/* Reads "25.99", "25", "25.990", "-3.5", "2599e-2"; nothing is ever rounded.
 * Other than MONEY_OK leaves 'a' alone. */
MONEY_MUST_CHECK enum money_parsed money_parse(const char *text, size_t n, money *a);

/* Reads percent in the same way, with four decimals at most: "8.875". */
MONEY_MUST_CHECK enum money_parsed rate_parse(const char *text, size_t n, rate *r);

#endif
