/* cart.h -- what somebody is about to buy.
 *
 *   cart_parse -> cart_add, cart_set, ... -> cart_write        (the bytes: cart_bytes.h)
 *
 * A cart is a struct of fixed size.  Names and cakes are JSON in the caller's memory,
 * which has to outlive the cart.  A line without a cake is the only one of its product;
 * cakes have lines of their own.  Whatever is read or changed here keeps the limits
 * below, so no sum of a cart can overflow: 50 lines of 50 pieces at 999,999.99 are
 * 2,499,999,975.00.  Nothing allocates, does I/O, looks at a clock or makes up an id.
 */
#ifndef COMMERCE_CART_H
#define COMMERCE_CART_H

#include "commerce/money.h"
#include "commerce/scan.h"

enum {
    CART_LINES_MAX = 50,
    CART_PIECES_MAX = 50,      /* of one line */
    CART_PRICE_MAX = 99999999, /* cents: DECIMAL(8,2) */
    CART_NAME_MAX = 4096,      /* bytes of JSON */
    CART_CAKE_MAX = 16384,
    CART_WORD_MAX = 64, /* of the owner's id and the time */
};

/* ---- ids ----------------------------------------------------------------- */

struct uuid {
    uint64_t high, low;
};

enum { UUID_TEXT = 36 };

/* Any case, dashes in their places; nothing else. */
MONEY_MUST_CHECK bool uuid_read(struct text text, struct uuid *id);

/* Writes 36 characters, in lower case, and no NUL. */
void uuid_text(struct uuid id, char text[static UUID_TEXT]);

static inline bool uuid_equal(struct uuid a, struct uuid b)
{
    return a.high == b.high && a.low == b.low;
}

/* ---- the cart ------------------------------------------------------------ */

/* A word of letters, digits and "-_.:+" that needs no escape in JSON. */
struct cart_word {
    char p[CART_WORD_MAX];
    size_t n;
};

MONEY_MUST_CHECK bool cart_word_read(struct text text, struct cart_word *word);

struct cart_line {
    struct uuid line_id, product_id;
    struct text name; /* a JSON string with its quotes */
    struct text cake; /* a JSON object, or n is 0 */
    money unit_price;
    int64_t quantity;
};

struct cart {
    struct uuid cart_id;
    int64_t version;
    bool guest; /* the owner is a session, not a user */
    struct cart_word owner, updated_at;
    size_t n;
    struct cart_line lines[CART_LINES_MAX];
};

enum cart_result {
    CART_OK,
    CART_FULL,    /* 50 lines */
    CART_NO_LINE, /* nothing of that product, or not under that line */
    CART_SEVERAL, /* the product has several lines: say which */
    CART_INVALID, /* beyond the limits above, or no JSON */
};

/* Whether a line keeps the limits. */
MONEY_MUST_CHECK bool cart_line_valid(const struct cart_line *line);

static inline money cart_line_subtotal(const struct cart_line *line)
{
    return money_of(line->unit_price.cents * line->quantity);
}

money cart_total(const struct cart *cart);
int64_t cart_pieces(const struct cart *cart);

/* Pieces of one product, over all its lines. */
int64_t cart_pieces_of(const struct cart *cart, struct uuid product_id);

/* Where the product's line is; 'line_id' may be NULL when there is one only. */
MONEY_MUST_CHECK enum cart_result cart_find(const struct cart *cart,
                                            struct uuid product_id,
                                            const struct uuid *line_id, size_t *at);

/* ---- changes ------------------------------------------------------------- */

/* A product that is there without a cake gets the pieces added, 50 at most, and the new
 * line's name and price; anything else becomes a line at the end.  '*at' says where. */
MONEY_MUST_CHECK enum cart_result cart_add(struct cart *cart,
                                           const struct cart_line *line, size_t *at);

/* Sets the pieces of a line, 0 to 50; 0 removes it. */
MONEY_MUST_CHECK enum cart_result cart_set(struct cart *cart, size_t at,
                                           int64_t quantity);

/* False when the price is out of bounds; '*changed' says whether it was another. */
MONEY_MUST_CHECK bool cart_reprice(struct cart *cart, size_t at, money unit_price,
                                   bool *changed);

void cart_remove(struct cart *cart, size_t at);
void cart_clear(struct cart *cart);

/* A line of a merged cart that did not come over whole. */
struct cart_adjusted {
    struct uuid product_id, line_id; /* the line that holds the pieces, if any does */
    int64_t requested, quantity;     /* quantity 0: no line was left for it */
};

/* Adds the lines of 'guest', which keeps them: whoever merges deletes it in the same
 * step.  Returns how many of them are in 'adjusted'. */
size_t cart_merge(struct cart *cart, const struct cart *guest,
                  struct cart_adjusted adjusted[static CART_LINES_MAX]);

#endif
