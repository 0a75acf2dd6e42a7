/* cart_rig.h -- random carts. */
#ifndef TEST_CART_RIG_H
#define TEST_CART_RIG_H

#include <stdint.h>
#include <string.h>

#include "commerce/cart.h"

static uint64_t rig_seed = 0x9e3779b97f4a7c15u;

static inline uint64_t rig_random(void)
{
    rig_seed ^= rig_seed << 13;
    rig_seed ^= rig_seed >> 7;
    rig_seed ^= rig_seed << 17;
    return rig_seed;
}

/* Cheap, usual and nearly too expensive, about as often. */
static inline money rig_price(void)
{
    switch (rig_random() % 4) {
    case 0: return money_of((int64_t)(rig_random() % 20));
    case 1: return money_of(CART_PRICE_MAX - (int64_t)(rig_random() % 20));
    default: return money_of((int64_t)(rig_random() % 10000));
    }
}

static inline struct uuid rig_uuid(void)
{
    return (struct uuid){ rig_random(), rig_random() };
}

static inline struct text rig_text(const char *text)
{
    return (struct text){ text, text == NULL ? 0 : strlen(text) };
}

static inline struct cart_line rig_line(uint64_t product)
{
    static const char *const names[] = { "\"Scone\"", "\"\"",
                                         "\"Caf\xc3\xa9 \\\"Noir\\\"\"",
                                         "\"\\u00e9\\ud83c\\udf82\"" };
    static const char *const cakes[] = {
        NULL, NULL, "{}",
        "{\"layers\":2,\"decorations\":[{\"id\":\"a\"},1.5e3,null,true]}"
    };

    return (struct cart_line){ .line_id = rig_uuid(),
                               .product_id = { 7, product },
                               .name = rig_text(names[rig_random() % 4]),
                               .cake = rig_text(cakes[rig_random() % 4]),
                               .unit_price = rig_price(),
                               .quantity =
                                   1 + (int64_t)(rig_random() % CART_PIECES_MAX) };
}

static inline void rig_empty(struct cart *cart)
{
    *cart = (struct cart){ .cart_id = rig_uuid(),
                           .version = (int64_t)(rig_random() >> (1 + rig_random() % 63)),
                           .guest = rig_random() % 2 == 0 };
    (void)!cart_word_read(rig_text("10000000-0000-0000-0000-000000000001"), &cart->owner);
    (void)!cart_word_read(rig_text("2026-01-15T10:30:00.123Z"), &cart->updated_at);
}

/* A cart of up to 'max' lines. */
static inline void rig_cart(struct cart *cart, size_t max)
{
    size_t n = rig_random() % (max + 1), at;

    rig_empty(cart);
    for (size_t i = 0; i < n; i++) {
        struct cart_line line = rig_line(rig_random() % 100);
        (void)!cart_add(cart, &line, &at);
    }
}

#endif
