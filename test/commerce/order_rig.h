/* order_rig.h -- random orders. */
#ifndef TEST_ORDER_RIG_H
#define TEST_ORDER_RIG_H

#include "cart_rig.h"
#include "commerce/totals.h"

struct rig_order {
    struct totals_order order;
    struct totals_line lines[TOTALS_LINES_MAX];
    struct promo promo;
};

static inline money rig_below(uint64_t cents)
{
    return money_of((int64_t)(rig_random() % (cents + 1)));
}

static inline void rig_promo(struct promo *promo)
{
    *promo = (struct promo){ .kind = rig_random() % 2 == 0 ? PROMO_PERCENT : PROMO_FIXED,
                             .limit = PROMO_UNLIMITED,
                             .user_limit = PROMO_UNLIMITED };
    promo->amount.cents =
        1 + (int64_t)(rig_random() % (promo->kind == PROMO_PERCENT ? 10000 : 20000));
    if (rig_random() % 8 == 0) promo->minimum = rig_below(5000);
}

/* An order as they come, with all that may be in one; some are too large, or use a
 * promotion or points that they may not. */
static inline void rig_order(struct rig_order *r)
{
    struct totals_order *order = &r->order;

    *order = (struct totals_order){ .lines = r->lines, .hundred_points = { 100 } };
    order->n = 1 + rig_random() % (rig_random() % 10 == 0 ? TOTALS_LINES_MAX : 6);
    for (size_t i = 0; i < order->n; i++)
        r->lines[i] = (struct totals_line){
            rig_random() % 200 == 0 ? rig_price() : rig_below(6000),
            1 + (int64_t)(rig_random() % (rig_random() % 8 == 0 ? 50 : 4))
        };
    rig_promo(&r->promo);
    if (rig_random() % 3 != 0) order->promo = &r->promo;
    if (rig_random() % 2 == 0) {
        order->points_available = (int64_t)(rig_random() % 20000);
        order->points =
            (int64_t)(rig_random() % (uint64_t)(order->points_available + 20));
    }
    if (rig_random() % 4 == 0) order->hundred_points = rig_below(300);
    order->delivery = rig_random() % 2 == 0;
    order->fee = rig_below(1000);
    order->has_free_from = rig_random() % 2 == 0;
    order->free_from = rig_below(10000);
    if (rig_random() % 2 == 0) order->tip = rig_below(99999);
    if (rig_random() % 2 == 0) order->tax.ppm = (int32_t)(rig_random() % 250001);
}

#endif
