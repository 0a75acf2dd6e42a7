#include "commerce/promo.h"

enum { CENTS_MAX = 99999999, PERCENT_MAX = 10000 /* 100.00 */ };

/* ---- kinds --------------------------------------------------------------- */

/* Both are asked with an amount above zero that DECIMAL(8,2) holds. */
struct kind {
    int64_t amount_max;
    bool (*discount)(const struct promo *promo, money subtotal, money *discount);
};

/* The cents of the amount are hundredths of a percent: 10000 are all. */
static bool percent_off(const struct promo *promo, money subtotal, money *discount)
{
    return money_share(subtotal, (rate){ (int32_t)promo->amount.cents * RATE_CENT },
                       discount);
}

static bool amount_off(const struct promo *promo, money subtotal, money *discount)
{
    (void)subtotal;
    *discount = promo->amount;
    return true;
}

static const struct kind kinds[PROMO_KINDS] = {
    [PROMO_PERCENT] = { PERCENT_MAX, percent_off },
    [PROMO_FIXED] = { CENTS_MAX, amount_off },
};

const char *const promo_kind_names[PROMO_KINDS] = {
    [PROMO_PERCENT] = "percent",
    [PROMO_FIXED] = "fixed",
};

/* ---- one promotion ------------------------------------------------------- */

static bool is_valid(const struct promo *promo)
{
    return (unsigned)promo->kind < PROMO_KINDS && promo->amount.cents > 0 &&
           promo->amount.cents <= kinds[promo->kind].amount_max;
}

static bool used_up(int64_t used, int64_t limit)
{
    return limit != PROMO_UNLIMITED && used >= limit;
}

enum promo_status promo_check(const struct promo *promo, money subtotal, int64_t now)
{
    if (!is_valid(promo)) return PROMO_INVALID;
    if (now < promo->valid_from) return PROMO_NOT_STARTED;
    if (now > promo->valid_to) return PROMO_EXPIRED;
    if (used_up(promo->used, promo->limit)) return PROMO_EXHAUSTED;
    if (used_up(promo->user_used, promo->user_limit)) return PROMO_ALREADY_USED;
    if (money_compare(subtotal, promo->minimum) < 0) return PROMO_MINIMUM;
    return PROMO_OK;
}

bool promo_discount(const struct promo *promo, money subtotal, money *discount)
{
    money off;

    if (!is_valid(promo) || subtotal.cents < 0) return false;
    if (!kinds[promo->kind].discount(promo, subtotal, &off)) return false;
    *discount = money_compare(off, subtotal) < 0 ? off : subtotal;
    return true;
}
