/* totals.h -- what an order costs: the only place with the order of the rules.
 *
 *   subtotal    quantity x unit price, over all lines
 * - discount    the promotion's, of the subtotal; shared over the lines
 *   = goods
 * - points      pay goods only; what is beyond them stays with the buyer
 * + fee         for delivery, unless the goods reach 'free_from'
 * + tip
 * + tax         of the goods (points are a means of payment), rounded half up
 *   = total     999,999.99 at most
 *
 * Nothing is lost between the lines and the total: the lines' shares add up to the
 * discount, and the rows above to the total, to the cent.
 */
#ifndef COMMERCE_TOTALS_H
#define COMMERCE_TOTALS_H

#include "commerce/money.h"
#include "commerce/promo.h"

enum { TOTALS_LINES_MAX = 50, TOTALS_MAX = 99999999 /* cents: DECIMAL(8,2) */ };

struct totals_line {
    money unit_price;
    int64_t quantity;
};

/* Amounts and counts are not negative. */
struct totals_order {
    const struct totals_line *lines;
    size_t n;                  /* 50 at most */
    const struct promo *promo; /* NULL for none */
    int64_t now;               /* on the promotion's clock */
    int64_t points, points_available;
    money hundred_points; /* what 100 points pay */
    bool delivery;
    money fee;
    bool has_free_from;
    money free_from;
    money tip;
    rate tax;
};

struct totals {
    money subtotal, discount, points_amount, fee, tip, tax, total;
    int64_t points; /* redeemed */
    money line_subtotals[TOTALS_LINES_MAX], line_discounts[TOTALS_LINES_MAX];
};

enum totals_result {
    TOTALS_OK,
    TOTALS_INVALID,   /* something negative, a quantity of 0, too many lines */
    TOTALS_PROMO,     /* the promotion may not be used: '*status' says why */
    TOTALS_POINTS,    /* more points than there are */
    TOTALS_TOO_LARGE, /* a sum above 999,999.99 */
};

/* Other than TOTALS_OK leaves 'totals' undefined.  '*status' is always set. */
MONEY_MUST_CHECK enum totals_result totals_of(const struct totals_order *order,
                                              struct totals *totals,
                                              enum promo_status *status);

/* What was paid, and given back since. */
struct totals_paid {
    money total, tip, fee, tax, refunded;
};

/* Points that an order earns: one for each whole 1.00 that was paid for goods and not
 * given back.  After a refund the buyer keeps as many; the others are clawed back. */
int64_t totals_points_earned(const struct totals_paid *paid);

#endif
