/* promo.h -- one promotion, which is one struct.
 *
 * What a kind of promotion takes off is one row of the table in promo.c: a new kind is a
 * constant here and a row there.  Times are seconds on whatever clock the caller has.
 */
#ifndef COMMERCE_PROMO_H
#define COMMERCE_PROMO_H

#include "commerce/money.h"

enum promo_kind { PROMO_PERCENT, PROMO_FIXED, PROMO_KINDS };

/* As the database and scripts call them: "percent", "fixed". */
extern const char *const promo_kind_names[PROMO_KINDS];

enum { PROMO_UNLIMITED = -1 };

struct promo {
    enum promo_kind kind;
    money amount;                  /* as DECIMAL(8,2) has it; 10.00 is 10 percent */
    int64_t valid_from, valid_to;  /* both included */
    int64_t limit, used;           /* by everybody; PROMO_UNLIMITED */
    int64_t user_limit, user_used; /* by this buyer; PROMO_UNLIMITED */
    money minimum;                 /* of the subtotal; 0 for none */
};

/* In the order in which they are looked for. */
enum promo_status {
    PROMO_OK,
    PROMO_INVALID, /* no such promotion: unknown kind, amount beyond its kind's bounds */
    PROMO_NOT_STARTED,
    PROMO_EXPIRED,
    PROMO_EXHAUSTED,
    PROMO_ALREADY_USED,
    PROMO_MINIMUM,
};

/* Whether the promotion may be used for an order of that subtotal at that time. */
MONEY_MUST_CHECK enum promo_status promo_check(const struct promo *promo, money subtotal,
                                               int64_t now);

/* What it takes off: never below zero, never above the subtotal.  False when the
 * promotion is PROMO_INVALID, the subtotal is negative or the result does not fit. */
MONEY_MUST_CHECK bool promo_discount(const struct promo *promo, money subtotal,
                                     money *discount);

#endif
