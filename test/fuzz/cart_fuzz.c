/* Any bytes as a cart: what is read keeps every limit, is written and read again to the
 * same bytes, and stays whole when it is merged into another. */
#include <stdint.h>
#include <stdlib.h>

#include "commerce/cart_bytes.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds) abort();
}

/* A cart that was written; the text is the caller's to free. */
static struct text write_cart(const struct cart *cart)
{
    size_t room = cart_room(cart);
    struct text text = { malloc(room), 0 };

    require(text.p != NULL);
    text.n = cart_write(cart, (char *)text.p, room);
    require(text.n > 0 && text.n <= room);
    return text;
}

static void check_cart(const struct cart *cart)
{
    require(cart->n <= CART_LINES_MAX && cart->version >= 0);
    for (size_t i = 0; i < cart->n; i++) require(cart_line_valid(&cart->lines[i]));
}

static void there_and_back(const struct cart *cart)
{
    struct text once = write_cart(cart), twice;
    struct cart again;

    require(cart_parse(once, &again));
    twice = write_cart(&again);
    require(text_equal(once, twice));
    free((char *)once.p);
    free((char *)twice.p);
}

static void merged(const struct cart *guest)
{
    struct cart_adjusted adjusted[CART_LINES_MAX];
    struct cart cart = *guest;
    int64_t cut = 0;
    size_t n = cart_merge(&cart, guest, adjusted);

    for (size_t i = 0; i < n; i++) cut += adjusted[i].requested - adjusted[i].quantity;
    require(cart_pieces(&cart) + cut == 2 * cart_pieces(guest));
    check_cart(&cart);
    there_and_back(&cart);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct cart cart;

    if (!cart_parse((struct text){ (const char *)data, size }, &cart)) return 0;
    check_cart(&cart);
    there_and_back(&cart);
    merged(&cart);
    return 0;
}
