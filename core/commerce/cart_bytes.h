/* cart_bytes.h -- a cart as the JSON that Redis keeps and clients get.
 *
 *   {"user_id":"...","items":[{"line_id":"...","product_id":"...","name":"Scone",
 *     "quantity":2,"unit_price":25.99,"subtotal":51.98}],"total_amount":51.98,
 *    "item_count":2,"updated_at":"...","cart_id":"...","version":3}
 *
 * "session_id" takes the place of "user_id" for a guest; a cake's line has "custom_cake".
 */
#ifndef COMMERCE_CART_BYTES_H
#define COMMERCE_CART_BYTES_H

#include "commerce/cart.h"

/* Reads a cart that keeps all limits of cart.h and whose sums are right.  Anything else
 * is false: an unknown, a missing or a doubled member, a quantity of 51, a subtotal that
 * is off by a cent, bytes behind the end.  The cart is then undefined.  Its names and
 * cakes point into 'bytes', which have to be UTF-8. */
MONEY_MUST_CHECK bool cart_parse(struct text bytes, struct cart *cart);

/* Room enough for cart_write. */
size_t cart_room(const struct cart *cart);

/* Writes the cart and returns its length; 0 when 'room' is less than cart_room(). */
size_t cart_write(const struct cart *cart, char *out, size_t room);

#endif
