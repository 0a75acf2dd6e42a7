/* Carts against a naive model, and their bytes against themselves. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/check.h"
#include "cart_rig.h"
#include "commerce/cart_bytes.h"

enum { CARTS = 100000, BYTES = 65536 };

static char bytes[BYTES];

static bool same_line(const struct cart_line *a, const struct cart_line *b)
{
    return uuid_equal(a->line_id, b->line_id) &&
           uuid_equal(a->product_id, b->product_id) && text_equal(a->name, b->name) &&
           text_equal(a->cake, b->cake) && a->quantity == b->quantity &&
           money_compare(a->unit_price, b->unit_price) == 0;
}

static bool same_word(const struct cart_word *a, const struct cart_word *b)
{
    return text_equal((struct text){ a->p, a->n }, (struct text){ b->p, b->n });
}

static void assert_same_cart(const struct cart *a, const struct cart *b)
{
    assert_int_equal(a->n, b->n);
    for (size_t i = 0; i < a->n; i++) assert_true(same_line(&a->lines[i], &b->lines[i]));
    assert_true(uuid_equal(a->cart_id, b->cart_id));
    assert_true(a->version == b->version && a->guest == b->guest);
    assert_true(same_word(&a->owner, &b->owner));
    assert_true(same_word(&a->updated_at, &b->updated_at));
}

static struct text written(const struct cart *cart)
{
    size_t room = cart_room(cart), n;

    assert_true(room <= sizeof bytes);
    assert_int_equal(cart_write(cart, bytes, room - 1), 0);
    n = cart_write(cart, bytes, room);
    assert_true(n > 0 && n <= room);
    return (struct text){ bytes, n };
}

/* ---- ids ----------------------------------------------------------------- */

static void ids_are_read_and_written(void **state)
{
    static const char *const bad[] = {
        "",
        "10000000-0000-0000-0000-00000000000",
        "10000000-0000-0000-0000-0000000000000",
        "10000000000000000000000000000000----",
        "1000000g-0000-0000-0000-000000000000",
        "10000000-0000-0000-0000-00000000000G",
        "10000000+0000-0000-0000-000000000000",
        "10000000-0000-0000-0000+000000000000",
        "10000000-0000-00000-000-000000000000",
    };
    char text[UUID_TEXT];
    struct uuid id = { 0 };

    (void)state;
    assert_true(uuid_read(rig_text("01234567-89aB-cdEF-fedc-ba9876543210"), &id));
    assert_true(id.high == 0x0123456789abcdef && id.low == 0xfedcba9876543210);
    uuid_text(id, text);
    assert_memory_equal(text, "01234567-89ab-cdef-fedc-ba9876543210", UUID_TEXT);
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        assert_false(uuid_read(rig_text(bad[i]), &id));
}

/* ---- changes against a model --------------------------------------------- */

/* 128-bit sums of what is in a cart. */
static void check_sums(const struct cart *cart)
{
    __int128 total = 0;
    int64_t pieces = 0;

    for (size_t i = 0; i < cart->n; i++) {
        total += (__int128)cart->lines[i].unit_price.cents * cart->lines[i].quantity;
        pieces += cart->lines[i].quantity;
        assert_true(cart_line_valid(&cart->lines[i]));
    }
    assert_true(cart_total(cart).cents == total);
    assert_true(cart_pieces(cart) == pieces);
}

/* Pieces of products 0 to 9 without a cake, 0 when there is no line. */
enum { PRODUCTS = 10 };

struct model {
    int64_t plain[PRODUCTS];
    size_t lines;
};

static void model_add(struct model *model, uint64_t product, const struct cart_line *line,
                      enum cart_result result)
{
    int64_t *plain = &model->plain[product];
    bool new_line = line->cake.n > 0 || *plain == 0;

    if (new_line && model->lines == CART_LINES_MAX) {
        assert_int_equal(result, CART_FULL);
        return;
    }
    assert_int_equal(result, CART_OK);
    if (new_line) model->lines++;
    if (line->cake.n > 0) return;
    *plain = *plain + line->quantity > 50 ? 50 : *plain + line->quantity;
}

static void check_model(const struct model *model, const struct cart *cart)
{
    int64_t plain[PRODUCTS] = { 0 };

    assert_int_equal(cart->n, model->lines);
    for (size_t i = 0; i < cart->n; i++)
        if (cart->lines[i].cake.n == 0)
            plain[cart->lines[i].product_id.low] += cart->lines[i].quantity;
    assert_memory_equal(plain, model->plain, sizeof plain);
    check_sums(cart);
}

static void change(struct model *model, struct cart *cart)
{
    uint64_t product = rig_random() % PRODUCTS;
    struct cart_line line = rig_line(product);
    size_t at = 0;
    int64_t quantity = (int64_t)(rig_random() % 51);

    if (rig_random() % 4 != 0 || cart->n == 0) {
        model_add(model, product, &line, cart_add(cart, &line, &at));
        return;
    }
    at = rig_random() % cart->n;
    line = cart->lines[at];
    assert_int_equal(cart_set(cart, at, quantity), CART_OK);
    if (quantity == 0) model->lines--;
    if (line.cake.n == 0) model->plain[line.product_id.low] = quantity;
}

static void changes_equal_a_model(void **state)
{
    (void)state;
    for (int round = 0; round < 500; round++) {
        struct model model = { 0 };
        struct cart cart;

        rig_empty(&cart);
        for (int i = 0; i < 150; i++) {
            change(&model, &cart);
            check_model(&model, &cart);
        }
    }
}

/* ---- single changes ------------------------------------------------------ */

static struct cart_line plain_line(uint64_t product, int64_t quantity)
{
    return (struct cart_line){ .line_id = rig_uuid(),
                               .product_id = { 7, product },
                               .name = rig_text("\"Scone\""),
                               .unit_price = { 250 },
                               .quantity = quantity };
}

static void a_product_has_one_line_and_cakes_their_own(void **state)
{
    struct cart_line line = plain_line(1, 30), cake = plain_line(1, 2);
    struct uuid none = { 1, 2 };
    struct cart cart;
    size_t at = 9;

    (void)state;
    rig_empty(&cart);
    cake.cake = rig_text("{}");
    assert_int_equal(cart_add(&cart, &line, &at), CART_OK);
    line.unit_price = money_of(275);
    assert_int_equal(cart_add(&cart, &line, &at), CART_OK);
    assert_true(at == 0 && cart.n == 1 && cart.lines[0].quantity == 50);
    assert_true(cart.lines[0].unit_price.cents == 275);
    assert_int_equal(cart_find(&cart, line.product_id, NULL, &at), CART_OK);
    assert_int_equal(cart_add(&cart, &cake, &at), CART_OK);
    assert_true(at == 1 && cart.n == 2);
    assert_int_equal(cart_find(&cart, line.product_id, NULL, &at), CART_SEVERAL);
    assert_int_equal(cart_find(&cart, line.product_id, &cake.line_id, &at), CART_OK);
    assert_int_equal(at, 1);
    assert_int_equal(cart_find(&cart, line.product_id, &none, &at), CART_NO_LINE);
    assert_int_equal(cart_find(&cart, none, NULL, &at), CART_NO_LINE);
    assert_int_equal(cart_pieces_of(&cart, line.product_id), 52);
    assert_int_equal(cart_pieces_of(&cart, none), 0);
    assert_int_equal(cart_set(&cart, 2, 1), CART_NO_LINE);
    assert_int_equal(cart_set(&cart, 0, 51), CART_INVALID);
    assert_int_equal(cart_set(&cart, 0, -1), CART_INVALID);
    assert_int_equal(cart_set(&cart, 0, 0), CART_OK);
    assert_true(cart.n == 1 && cart.lines[0].cake.n > 0);
    cart_clear(&cart);
    assert_true(cart.n == 0 && cart_total(&cart).cents == 0);
}

static void lines_beyond_the_limits_are_refused(void **state)
{
    static const struct {
        int64_t cents, quantity;
        const char *name, *cake;
    } cases[] = {
        { 100, 0, "\"x\"", "" },
        { 100, 51, "\"x\"", "" },
        { -1, 1, "\"x\"", "" },
        { 100000000, 1, "\"x\"", "" },
        { 100, 1, "", "" },
        { 100, 1, "x", "" },
        { 100, 1, "\"x", "" },
        { 100, 1, "\"x\" ", "" },
        { 100, 1, "5", "" },
        { 100, 1, "\"x\"", "[]" },
        { 100, 1, "\"x\"", "null" },
        { 100, 1, "\"x\"", "{\"a\":}" },
        { 100, 1, "\"x\"", "{}{}" },
        { 100, 1, "\"\\ud800\"", "" },
        { 100, 1, "\"\\u0000\"", "" },
        { 100, 1, "\"\\udc00\"", "" },
        { 100, 1, "\"\\ud83c\\u0041\"", "" },
    };
    struct cart cart;
    size_t at;

    (void)state;
    rig_empty(&cart);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct cart_line line = plain_line(1, cases[i].quantity);

        line.unit_price = money_of(cases[i].cents);
        line.name = rig_text(cases[i].name);
        line.cake = rig_text(cases[i].cake);
        assert_int_equal(cart_add(&cart, &line, &at), CART_INVALID);
    }
    assert_int_equal(cart.n, 0);
}

static void prices_change(void **state)
{
    struct cart_line line = plain_line(1, 3);
    bool changed = true;
    struct cart cart;
    size_t at;

    (void)state;
    rig_empty(&cart);
    assert_int_equal(cart_add(&cart, &line, &at), CART_OK);
    assert_true(cart_reprice(&cart, 0, money_of(250), &changed) && !changed);
    assert_true(cart_reprice(&cart, 0, money_of(300), &changed) && changed);
    assert_int_equal(cart_total(&cart).cents, 900);
    assert_false(cart_reprice(&cart, 0, money_of(-1), &changed));
    assert_false(cart_reprice(&cart, 0, money_of(100000000), &changed));
    assert_int_equal(cart_total(&cart).cents, 900);
}

/* ---- merging ------------------------------------------------------------- */

static void merging_says_what_did_not_fit(void **state)
{
    struct cart_adjusted adjusted[CART_LINES_MAX];
    struct cart_line line = plain_line(1, 30), other = plain_line(1, 25);
    struct cart cart, guest;
    size_t at;

    (void)state;
    rig_empty(&cart);
    rig_empty(&guest);
    assert_int_equal(cart_add(&cart, &line, &at), CART_OK);
    assert_int_equal(cart_add(&guest, &other, &at), CART_OK);
    for (uint64_t i = 2; i < 50; i++) {
        struct cart_line more = plain_line(i, 1);
        assert_int_equal(cart_add(&cart, &more, &at), CART_OK);
    }
    for (uint64_t i = 50; i < 52; i++) {
        struct cart_line more = plain_line(i, 4);
        assert_int_equal(cart_add(&guest, &more, &at), CART_OK);
    }
    assert_int_equal(cart_merge(&cart, &guest, adjusted), 2);
    assert_true(uuid_equal(adjusted[0].line_id, line.line_id));
    assert_true(adjusted[0].requested == 55 && adjusted[0].quantity == 50);
    assert_true(adjusted[1].product_id.low == 51);
    assert_true(adjusted[1].requested == 4 && adjusted[1].quantity == 0);
    assert_int_equal(cart.n, 50);
    assert_int_equal(cart.lines[49].product_id.low, 50);
    check_sums(&cart);
}

/* Every piece of both carts is in the merged one, or in what was adjusted. */
static void merging_loses_no_piece(void **state)
{
    struct cart_adjusted adjusted[CART_LINES_MAX];
    struct cart cart, guest;

    (void)state;
    for (int round = 0; round < 5000; round++) {
        int64_t before, cut = 0;
        size_t n;

        rig_cart(&cart, 60);
        rig_cart(&guest, 60);
        before = cart_pieces(&cart) + cart_pieces(&guest);
        n = cart_merge(&cart, &guest, adjusted);
        for (size_t i = 0; i < n; i++) {
            assert_true(adjusted[i].quantity < adjusted[i].requested);
            cut += adjusted[i].requested - adjusted[i].quantity;
        }
        assert_true(cart_pieces(&cart) + cut == before);
        check_sums(&cart);
    }
}

/* ---- bytes --------------------------------------------------------------- */

static void carts_come_back_from_their_bytes(void **state)
{
    struct cart cart, again;

    (void)state;
    for (int i = 0; i < CARTS; i++) {
        rig_cart(&cart, i % 100 == 0 ? 60 : 5);
        assert_true(cart_parse(written(&cart), &again));
        assert_same_cart(&cart, &again);
    }
}

#define OWNER "\"user_id\":\"u1\""
#define LINE_IDS                                                                         \
    "\"line_id\":\"00000000-0000-0000-0000-000000000001\","                              \
    "\"product_id\":\"00000000-0000-0000-0000-000000000002\","
#define LINE                                                                             \
    "{" LINE_IDS "\"name\":\"A\",\"quantity\":2,\"unit_price\":25.99,\"subtotal\":51.98}"
#define REST                                                                             \
    "\"updated_at\":\"2026-01-15T10:30:00Z\","                                           \
    "\"cart_id\":\"00000000-0000-0000-0000-000000000003\",\"version\":1}"
#define CART(items, total, pieces)                                                       \
    "{" OWNER ",\"items\":[" items "],\"total_amount\":" total ",\"item_count\":" pieces \
    "," REST

static void carts_are_written_as_agreed(void **state)
{
    static const char text[] = CART(LINE, "51.98", "2");
    struct cart cart;
    struct text out;

    (void)state;
    assert_true(cart_parse(rig_text(text), &cart));
    out = written(&cart);
    assert_int_equal(out.n, strlen(text));
    assert_memory_equal(out.p, text, out.n);
}

static void other_spellings_are_read(void **state)
{
    static const char *const texts[] = {
        CART("", "0.00", "0"),
        CART("", "0", "0"),
        " \n" CART(" ", "0e0", "0") "\t\r\n",
        CART(LINE, "5198e-2", "2"),
        "{\"items\":[]," OWNER ",\"item_count\" : 0,\"total_amount\":-0," REST,
        "{\"session_id\":\"a-b_c\",\"items\":[],\"total_amount\":0,\"item_count\":0," REST,
    };
    struct cart cart;

    (void)state;
    for (size_t i = 0; i < COUNT_OF(texts); i++)
        if (!cart_parse(rig_text(texts[i]), &cart)) fail_msg("refused: %s", texts[i]);
    assert_true(cart.guest);
}

static void what_is_no_cart_is_refused(void **state)
{
    static const char *const texts[] = {
        "",
        "null",
        "[]",
        "{}",
        "\"\"",
        CART(LINE, "51.97", "2"),
        CART(LINE, "51.981", "2"),
        CART(LINE, "51.98", "3"),
        CART(LINE, "51.98", "2.0"),
        CART(LINE "," LINE, "103.96", "4"),
        CART(LINE ",", "51.98", "2"),
        CART("{}", "0", "0"),
        CART("[]", "0", "0"),
        CART("", "1e999", "0"),
        CART("", "0", "0") "x",
        CART("", "0", "0") "{}",
        CART("", "0", "0,\"item_count\":0"),
        CART("", "0", "0,\"more\":0"),
        CART("", "0", "0,\"session_id\":\"s\""),
        CART("", "\"0\"", "0"),
        CART("{" LINE_IDS
             "\"name\":\"A\",\"quantity\":0,\"unit_price\":1,\"subtotal\":0}",
             "0", "0"),
        CART("{" LINE_IDS
             "\"name\":\"A\",\"quantity\":51,\"unit_price\":1,\"subtotal\":51}",
             "51", "51"),
        CART("{" LINE_IDS
             "\"name\":\"A\",\"quantity\":1,\"unit_price\":-1,\"subtotal\":-1}",
             "-1", "1"),
        CART("{" LINE_IDS
             "\"name\":\"A\",\"quantity\":1,\"unit_price\":1000000,\"subtotal\":1000000}",
             "1000000", "1"),
        CART("{" LINE_IDS "\"name\":7,\"quantity\":1,\"unit_price\":1,\"subtotal\":1}",
             "1", "1"),
        CART("{" LINE_IDS
             "\"name\":\"\x01\",\"quantity\":1,\"unit_price\":1,\"subtotal\":1}",
             "1", "1"),
        CART("{" LINE_IDS "\"quantity\":1,\"unit_price\":1,\"subtotal\":1}", "1", "1"),
        CART("{" LINE_IDS
             "\"name\":\"A\",\"quantity\":1,\"unit_price\":1,\"subtotal\":2}",
             "1", "1"),
        CART(
            "{" LINE_IDS
            "\"name\":\"A\",\"quantity\":1,\"unit_price\":1,\"subtotal\":1,\"custom_cake\":[]}",
            "1", "1"),
        CART(
            "{" LINE_IDS
            "\"name\":\"A\",\"quantity\":1,\"unit_price\":1,\"subtotal\":1,\"custom_cake\":null}",
            "1", "1"),
        "{\"items\":[],\"total_amount\":0,\"item_count\":0," REST,
        "{\"user_id\":\"\",\"items\":[],\"total_amount\":0,\"item_count\":0," REST,
        "{\"user_id\":\"a b\",\"items\":[],\"total_amount\":0,\"item_count\":0," REST,
        "{" OWNER ",\"items\":[],\"total_amount\":0,\"item_count\":0,"
        "\"updated_at\":\"x\",\"cart_id\":\"00000000-0000-0000-0000-000000000003\",\"version\":-1}",
    };
    struct cart cart;

    (void)state;
    for (size_t i = 0; i < COUNT_OF(texts); i++)
        if (cart_parse(rig_text(texts[i]), &cart)) fail_msg("accepted: %s", texts[i]);
}

static void a_cake_is_not_nested_without_end(void **state)
{
    char text[2048];
    struct cart cart;

    (void)state;
    for (int depth = 1; depth < 40; depth++) {
        char cake[100] = "";

        for (int i = 1; i < depth; i++) strcat(cake, "[");
        for (int i = 1; i < depth; i++) strcat(cake, "]");
        if (depth == 1) strcpy(cake, "0");
        snprintf(text, sizeof text,
                 CART("{" LINE_IDS "\"name\":\"A\",\"quantity\":1,\"unit_price\":1,"
                      "\"subtotal\":1,\"custom_cake\":{\"a\":%s}}",
                      "1", "1"),
                 cake);
        assert_int_equal(cart_parse(rig_text(text), &cart), depth <= SCAN_DEPTH);
    }
}

static void fifty_lines_and_no_more(void **state)
{
    static char text[BYTES];
    struct cart cart;

    (void)state;
    for (size_t lines = 49; lines <= 51; lines++) {
        size_t n = (size_t)sprintf(text, "{" OWNER ",\"items\":[");

        for (size_t i = 0; i < lines; i++)
            n += (size_t)sprintf(text + n,
                                 "%s{\"line_id\":\"00000000-0000-0000-0000-%012zu\","
                                 "\"product_id\":\"00000000-0000-0000-0000-%012zu\","
                                 "\"name\":\"A\",\"quantity\":1,\"unit_price\":1,"
                                 "\"subtotal\":1}",
                                 i == 0 ? "" : ",", i, i);
        sprintf(text + n, "],\"total_amount\":%zu,\"item_count\":%zu,%s", lines, lines,
                REST);
        assert_int_equal(cart_parse(rig_text(text), &cart), lines <= 50);
    }
}

/* In a block of its own size, so that a byte too far is found by the sanitizer. */
static bool parse_copy(const char *text, size_t n)
{
    char *copy = malloc(n + (n == 0));
    struct cart cart;
    bool parsed;

    assert_non_null(copy);
    memcpy(copy, text, n);
    parsed = cart_parse((struct text){ copy, n }, &cart);
    if (parsed) assert_true(cart_total(&cart).cents >= 0);
    free(copy);
    return parsed;
}

static void every_prefix_is_refused(void **state)
{
    struct cart cart;
    struct text text;

    (void)state;
    for (int round = 0; round < 50; round++) {
        rig_cart(&cart, 10);
        text = written(&cart);
        for (size_t n = 0; n < text.n; n++) assert_false(parse_copy(text.p, n));
        assert_true(parse_copy(text.p, text.n));
    }
}

static void any_byte_may_be_wrong(void **state)
{
    struct cart cart;
    struct text text;

    (void)state;
    for (int round = 0; round < 200; round++) {
        rig_cart(&cart, 4);
        text = written(&cart);
        for (int i = 0; i < 200; i++) {
            size_t at = rig_random() % text.n;
            char was = bytes[at];

            bytes[at] = (char)rig_random();
            (void)parse_copy(text.p, text.n);
            bytes[at] = was;
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_are_read_and_written),
        cmocka_unit_test(changes_equal_a_model),
        cmocka_unit_test(a_product_has_one_line_and_cakes_their_own),
        cmocka_unit_test(lines_beyond_the_limits_are_refused),
        cmocka_unit_test(prices_change),
        cmocka_unit_test(merging_says_what_did_not_fit),
        cmocka_unit_test(merging_loses_no_piece),
        cmocka_unit_test(carts_come_back_from_their_bytes),
        cmocka_unit_test(carts_are_written_as_agreed),
        cmocka_unit_test(other_spellings_are_read),
        cmocka_unit_test(what_is_no_cart_is_refused),
        cmocka_unit_test(a_cake_is_not_nested_without_end),
        cmocka_unit_test(fifty_lines_and_no_more),
        cmocka_unit_test(every_prefix_is_refused),
        cmocka_unit_test(any_byte_may_be_wrong),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
