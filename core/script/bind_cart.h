/* bind_cart.h -- userdata "omade.cart": a cart that stays in C, see commerce/cart.h. */
#ifndef SCRIPT_BIND_CART_H
#define SCRIPT_BIND_CART_H

#include <lua.h>

#include "base/check.h"
#include "commerce/cart.h"

/* commerce.cart(bytes, owner) */
int cart_open(lua_State *L);

/* The cart at 'at', or NULL.  Never raises. */
MUST_CHECK const struct cart *cart_test(lua_State *L, int at);

#endif
