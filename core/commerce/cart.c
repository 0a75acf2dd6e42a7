#include "commerce/cart.h"

#include <assert.h>
#include <string.h>

/* ---- ids ----------------------------------------------------------------- */

/* 16 and its value for each hexadecimal digit. */
static const unsigned char hex_digits[256] = {
    ['0'] = 16, ['1'] = 17, ['2'] = 18, ['3'] = 19, ['4'] = 20, ['5'] = 21,
    ['6'] = 22, ['7'] = 23, ['8'] = 24, ['9'] = 25, ['a'] = 26, ['b'] = 27,
    ['c'] = 28, ['d'] = 29, ['e'] = 30, ['f'] = 31, ['A'] = 26, ['B'] = 27,
    ['C'] = 28, ['D'] = 29, ['E'] = 30, ['F'] = 31,
};

/* Appends n digits to 'value'; false when one of them is none. */
static inline bool read_hex(const char *p, size_t n, uint64_t *value)
{
    unsigned all = 16;

    for (size_t i = 0; i < n; i++) {
        unsigned digit = hex_digits[(unsigned char)p[i]];

        all &= digit;
        *value = *value << 4 | (digit & 15);
    }
    return all == 16;
}

bool uuid_read(struct text text, struct uuid *id)
{
    struct uuid found = { 0 };
    const char *p = text.p;

    if (text.n != UUID_TEXT) return false;
    if (p[8] != '-' || p[13] != '-' || p[18] != '-' || p[23] != '-') return false;
    if (!read_hex(p, 8, &found.high) || !read_hex(p + 9, 4, &found.high) ||
        !read_hex(p + 14, 4, &found.high) || !read_hex(p + 19, 4, &found.low) ||
        !read_hex(p + 24, 12, &found.low))
        return false;
    *id = found;
    return true;
}

/* The n digits of 'value' above its last 'shift' bits. */
static inline void write_hex(uint64_t value, int shift, size_t n, char *p)
{
    for (size_t i = n; i > 0; i--, shift += 4)
        p[i - 1] = "0123456789abcdef"[value >> shift & 15];
}

void uuid_text(struct uuid id, char text[static UUID_TEXT])
{
    text[8] = text[13] = text[18] = text[23] = '-';
    write_hex(id.high, 32, 8, text);
    write_hex(id.high, 16, 4, text + 9);
    write_hex(id.high, 0, 4, text + 14);
    write_hex(id.low, 48, 4, text + 19);
    write_hex(id.low, 0, 12, text + 24);
}

/* ---- words --------------------------------------------------------------- */

static bool is_word_byte(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           c == '-' || c == '_' || c == '.' || c == ':' || c == '+';
}

bool cart_word_read(struct text text, struct cart_word *word)
{
    if (text.n == 0 || text.n > CART_WORD_MAX) return false;
    for (size_t i = 0; i < text.n; i++)
        if (!is_word_byte(text.p[i])) return false;
    memcpy(word->p, text.p, text.n);
    word->n = text.n;
    return true;
}

/* ---- looking ------------------------------------------------------------- */

/* Whether the text is one JSON value, without white space around it. */
static bool is_json(struct text text, char first, size_t max)
{
    struct scan s = { text.p, text.p + text.n };
    struct text value;

    if (text.n == 0 || text.n > max || *text.p != first) return false;
    return scan_value(&s, &value) && s.p == s.end;
}

static bool price_valid(money price)
{
    return price.cents >= 0 && price.cents <= CART_PRICE_MAX;
}

bool cart_line_valid(const struct cart_line *line)
{
    return line->quantity >= 1 && line->quantity <= CART_PIECES_MAX &&
           price_valid(line->unit_price) && is_json(line->name, '"', CART_NAME_MAX) &&
           (line->cake.n == 0 || is_json(line->cake, '{', CART_CAKE_MAX));
}

money cart_total(const struct cart *cart)
{
    int64_t cents = 0;

    for (size_t i = 0; i < cart->n; i++)
        cents += cart_line_subtotal(&cart->lines[i]).cents;
    return money_of(cents);
}

int64_t cart_pieces(const struct cart *cart)
{
    int64_t pieces = 0;

    for (size_t i = 0; i < cart->n; i++) pieces += cart->lines[i].quantity;
    return pieces;
}

int64_t cart_pieces_of(const struct cart *cart, struct uuid product_id)
{
    int64_t pieces = 0;

    for (size_t i = 0; i < cart->n; i++)
        if (uuid_equal(cart->lines[i].product_id, product_id))
            pieces += cart->lines[i].quantity;
    return pieces;
}

enum cart_result cart_find(const struct cart *cart, struct uuid product_id,
                           const struct uuid *line_id, size_t *at)
{
    size_t found = 0;

    for (size_t i = 0; i < cart->n; i++) {
        const struct cart_line *line = &cart->lines[i];

        if (!uuid_equal(line->product_id, product_id)) continue;
        if (line_id != NULL && !uuid_equal(line->line_id, *line_id)) continue;
        if (found++ == 0) *at = i;
        if (line_id != NULL) break;
    }
    if (found > 1) return CART_SEVERAL;
    return found == 1 ? CART_OK : CART_NO_LINE;
}

/* ---- changes ------------------------------------------------------------- */

/* The product's line without a cake; cart->n when there is none. */
static size_t find_plain(const struct cart *cart, struct uuid product_id)
{
    size_t i = 0;

    while (i < cart->n && (cart->lines[i].cake.n > 0 ||
                           !uuid_equal(cart->lines[i].product_id, product_id)))
        i++;
    return i;
}

/* As cart_add, for a line that is known to be valid. */
static enum cart_result add(struct cart *cart, const struct cart_line *line, size_t *at)
{
    size_t i = line->cake.n > 0 ? cart->n : find_plain(cart, line->product_id);

    if (i == cart->n) {
        if (cart->n == CART_LINES_MAX) return CART_FULL;
        cart->lines[cart->n++] = *line;
    } else {
        struct cart_line *old = &cart->lines[i];

        old->quantity += line->quantity;
        if (old->quantity > CART_PIECES_MAX) old->quantity = CART_PIECES_MAX;
        old->name = line->name;
        old->unit_price = line->unit_price;
    }
    *at = i;
    return CART_OK;
}

enum cart_result cart_add(struct cart *cart, const struct cart_line *line, size_t *at)
{
    return cart_line_valid(line) ? add(cart, line, at) : CART_INVALID;
}

enum cart_result cart_set(struct cart *cart, size_t at, int64_t quantity)
{
    if (at >= cart->n) return CART_NO_LINE;
    if (quantity < 0 || quantity > CART_PIECES_MAX) return CART_INVALID;
    if (quantity == 0) cart_remove(cart, at);
    else cart->lines[at].quantity = quantity;
    return CART_OK;
}

bool cart_reprice(struct cart *cart, size_t at, money unit_price, bool *changed)
{
    assert(at < cart->n);
    if (!price_valid(unit_price)) return false;
    *changed = money_compare(cart->lines[at].unit_price, unit_price) != 0;
    cart->lines[at].unit_price = unit_price;
    return true;
}

void cart_remove(struct cart *cart, size_t at)
{
    assert(at < cart->n);
    cart->n--;
    memmove(&cart->lines[at], &cart->lines[at + 1],
            (cart->n - at) * sizeof cart->lines[0]);
}

void cart_clear(struct cart *cart) { cart->n = 0; }

/* ---- merging ------------------------------------------------------------- */

/* Adds one line; false when less than all its pieces found a place. */
static bool take_over(struct cart *cart, const struct cart_line *line,
                      struct cart_adjusted *note)
{
    size_t plain = line->cake.n > 0 ? cart->n : find_plain(cart, line->product_id), at;
    int64_t before = plain < cart->n ? cart->lines[plain].quantity : 0;

    *note = (struct cart_adjusted){ .product_id = line->product_id,
                                    .line_id = line->line_id,
                                    .requested = before + line->quantity };
    if (add(cart, line, &at) != CART_OK) return false;
    note->line_id = cart->lines[at].line_id;
    note->quantity = cart->lines[at].quantity;
    return note->quantity == note->requested;
}

size_t cart_merge(struct cart *cart, const struct cart *guest,
                  struct cart_adjusted adjusted[static CART_LINES_MAX])
{
    size_t n = 0;

    assert(cart != guest);
    for (size_t i = 0; i < guest->n; i++)
        if (!take_over(cart, &guest->lines[i], &adjusted[n])) n++;
    return n;
}
