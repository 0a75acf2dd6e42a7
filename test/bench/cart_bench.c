/* What a cart of 50 lines costs: nanoseconds of CPU time to read it, to price it with a promotion,
 * and to write it.  The best of five rounds.
 *
 *   build/release/test/cart_bench [TIMES]
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "../commerce/cart_rig.h"
#include "commerce/cart_bytes.h"
#include "commerce/totals.h"

enum { ROUNDS = 5, BYTES = 65536 };

static struct cart cart;
static char bytes[BYTES];
static size_t length;
static int64_t check; /* keeps the work from being optimised away */

static void read_cart(void)
{
    if (!cart_parse((struct text){ bytes, length }, &cart)) abort();
    check += cart.version;
}

static void price_cart(void)
{
    static const struct promo promo = { .kind = PROMO_PERCENT,
                                        .amount = { 1250 },
                                        .limit = PROMO_UNLIMITED,
                                        .user_limit = PROMO_UNLIMITED };
    struct totals_line lines[CART_LINES_MAX];
    struct totals_order order = { .lines = lines, .n = cart.n, .promo = &promo };
    struct totals totals;
    enum promo_status status;

    for (size_t i = 0; i < cart.n; i++)
        lines[i] =
            (struct totals_line){ cart.lines[i].unit_price, cart.lines[i].quantity };
    order.tax.ppm = 72500;
    if (totals_of(&order, &totals, &status) != TOTALS_OK) abort();
    check += totals.total.cents;
}

static void write_cart(void)
{
    length = cart_write(&cart, bytes, sizeof bytes);
    check += (int64_t)length;
}

static double now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static double best_of(void (*work)(void), long times)
{
    double best = 0;

    for (int round = 0; round < ROUNDS; round++) {
        double from = now_ns(), each;

        for (long i = 0; i < times; i++) work();
        each = (now_ns() - from) / (double)times;
        if (round == 0 || each < best) best = each;
    }
    return best;
}

int main(int argc, char **argv)
{
    long times = argc > 1 ? atol(argv[1]) : 20000;
    size_t at;

    rig_empty(&cart);
    for (uint64_t i = 0; i < CART_LINES_MAX; i++) {
        struct cart_line line = rig_line(i);

        line.name = rig_text("\"Chocolate Fudge Cake\"");
        line.cake.n = 0;
        line.unit_price.cents = (int64_t)(500 + i * 137 % 4500);
        line.quantity = (int64_t)(1 + i * 7 % 5);
        if (cart_add(&cart, &line, &at) != CART_OK) abort();
    }
    write_cart();
    printf("50 lines, %zu bytes, ns: read %.0f, ", length, best_of(read_cart, times));
    printf("price with a promo %.0f, ", best_of(price_cart, times));
    printf("write %.0f (check %lld)\n", best_of(write_cart, times), (long long)check);
    return 0;
}
