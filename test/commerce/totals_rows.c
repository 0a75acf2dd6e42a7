/* Random orders and what totals_of makes of them, as rows for totals_sql.sh.
 *
 *   totals_rows ORDERS orders|lines
 *
 * The two calls make the same orders; amounts are decimals. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "order_rig.h"

static void put(money a)
{
    char text[MONEY_TEXT_MAX];

    (void)money_text(a, text);
    printf("\t%s", text);
}

static void put_order(int id, const struct rig_order *r, enum totals_result result,
                      const struct totals *t)
{
    const struct totals_order *o = &r->order;

    printf("%d\t%d\t%s", id, (int)result,
           o->promo == NULL ? "\\N" : promo_kind_names[o->promo->kind]);
    put(r->promo.amount);
    put(r->promo.minimum);
    printf("\t%" PRId64 "\t%" PRId64, o->points, o->points_available);
    put(o->hundred_points);
    printf("\t%s", o->delivery ? "t" : "f");
    put(o->fee);
    if (o->has_free_from) put(o->free_from);
    else printf("\t\\N");
    put(o->tip);
    printf("\t%" PRId32 "e-4", o->tax.ppm); /* percent */
    put(t->subtotal);
    put(t->discount);
    printf("\t%" PRId64, t->points);
    put(t->points_amount);
    put(t->fee);
    put(t->tax);
    put(t->total);
    putchar('\n');
}

static void put_lines(int id, const struct totals_order *o, const struct totals *t)
{
    for (size_t i = 0; i < o->n; i++) {
        printf("%d\t%zu\t%" PRId64, id, i, o->lines[i].quantity);
        put(o->lines[i].unit_price);
        put(t->line_subtotals[i]);
        put(t->line_discounts[i]);
        putchar('\n');
    }
}

int main(int argc, char **argv)
{
    int orders = argc == 3 ? atoi(argv[1]) : 0;

    if (orders < 1) return 2;
    for (int id = 0; id < orders; id++) {
        static struct rig_order r;
        struct totals t;
        enum promo_status status;
        enum totals_result result;

        rig_order(&r);
        result = totals_of(&r.order, &t, &status);
        if (strcmp(argv[2], "lines") == 0) put_lines(id, &r.order, &t);
        else put_order(id, &r, result, &t);
    }
    return ferror(stdout) || fflush(stdout) != 0;
}
