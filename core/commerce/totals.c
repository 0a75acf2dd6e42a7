#include "commerce/totals.h"

#include <string.h>

enum { HUNDRED = 100 };

/* ---- input --------------------------------------------------------------- */

static bool negative(money a) { return a.cents < 0; }

static bool is_valid(const struct totals_order *order)
{
    if (order->n > TOTALS_LINES_MAX) return false;
    for (size_t i = 0; i < order->n; i++)
        if (negative(order->lines[i].unit_price) || order->lines[i].quantity < 1)
            return false;
    return order->points >= 0 && order->points_available >= 0 &&
           !negative(order->hundred_points) && !negative(order->fee) &&
           !negative(order->free_from) && !negative(order->tip) && order->tax.ppm >= 0;
}

static bool within(money a) { return a.cents <= TOTALS_MAX; }

/* ---- the rows, in their order -------------------------------------------- */

static bool add_lines(const struct totals_order *order, struct totals *t)
{
    for (size_t i = 0; i < order->n; i++) {
        money *line = &t->line_subtotals[i];

        if (!money_times(order->lines[i].unit_price, order->lines[i].quantity, line))
            return false;
        if (!money_add(t->subtotal, *line, &t->subtotal) || !within(t->subtotal))
            return false;
    }
    return true;
}

static enum promo_status take_discount(const struct totals_order *order, struct totals *t)
{
    int64_t weights[TOTALS_LINES_MAX];
    enum promo_status status;

    if (order->promo == NULL) return PROMO_OK;
    status = promo_check(order->promo, t->subtotal, order->now);
    if (status != PROMO_OK) return status;
    if (!promo_discount(order->promo, t->subtotal, &t->discount)) return PROMO_INVALID;
    if (t->discount.cents == 0) return PROMO_OK;
    for (size_t i = 0; i < order->n; i++) weights[i] = t->line_subtotals[i].cents;
    return money_split(t->discount, weights, order->n, t->line_discounts) ? PROMO_OK
                                                                          : PROMO_INVALID;
}

/* Whole points only: the last one may pay less than the goods, never more. */
static void pay_points(const struct totals_order *order, money goods, struct totals *t)
{
    int64_t worth = order->hundred_points.cents, most;

    if (worth == 0) return;
    most = goods.cents * HUNDRED / worth;
    t->points = order->points < most ? order->points : most;
    /* No overflow: it is no more than goods * 100. */
    t->points_amount = money_of(t->points * worth / HUNDRED);
}

static money delivery_fee(const struct totals_order *order, money goods)
{
    if (!order->delivery) return money_of(0);
    if (order->has_free_from && money_compare(goods, order->free_from) >= 0)
        return money_of(0);
    return order->fee;
}

static bool add_up(money goods, struct totals *t)
{
    t->total = money_of(goods.cents - t->points_amount.cents);
    return money_add(t->total, t->fee, &t->total) &&
           money_add(t->total, t->tip, &t->total) &&
           money_add(t->total, t->tax, &t->total) && within(t->total);
}

enum totals_result totals_of(const struct totals_order *order, struct totals *totals,
                             enum promo_status *status)
{
    money goods;

    memset(totals, 0, sizeof *totals);
    *status = PROMO_OK;
    if (!is_valid(order)) return TOTALS_INVALID;
    if (!add_lines(order, totals)) return TOTALS_TOO_LARGE;
    *status = take_discount(order, totals);
    if (*status != PROMO_OK) return TOTALS_PROMO;
    if (order->points > order->points_available) return TOTALS_POINTS;
    goods = money_of(totals->subtotal.cents - totals->discount.cents);
    pay_points(order, goods, totals);
    totals->fee = delivery_fee(order, goods);
    totals->tip = order->tip;
    if (!money_share(goods, order->tax, &totals->tax)) return TOTALS_TOO_LARGE;
    return add_up(goods, totals) ? TOTALS_OK : TOTALS_TOO_LARGE;
}

/* ---- points -------------------------------------------------------------- */

int64_t totals_points_earned(const struct totals_paid *paid)
{
    const money others[] = { paid->tip, paid->fee, paid->tax, paid->refunded };
    money kept = paid->total;

    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        if (!money_sub(kept, others[i], &kept)) return 0;
    return kept.cents > 0 ? kept.cents / HUNDRED : 0;
}
