#include "commerce/cart_bytes.h"

#include <string.h>

#define TEXT(literal) ((struct text){ "" literal, sizeof(literal) - 1 })
#define MEMBER(name, read, optional)                                                     \
    {                                                                                    \
        { "" name, sizeof(name) - 1 }, read, optional                                    \
    }
#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* ---- reading: one line --------------------------------------------------- */

/* A line as it stands there, with the sum that it claims. */
struct line_text {
    struct cart_line line;
    money subtotal;
};

static bool read_uuid(struct scan *s, struct uuid *id)
{
    if (!scan_mark(s, '"') || s->end - s->p <= UUID_TEXT) return false;
    if (!uuid_read((struct text){ s->p, UUID_TEXT }, id)) return false;
    s->p += UUID_TEXT;
    return *s->p++ == '"';
}

static bool read_line_id(struct scan *s, void *object)
{
    return read_uuid(s, &((struct line_text *)object)->line.line_id);
}

static bool read_product_id(struct scan *s, void *object)
{
    return read_uuid(s, &((struct line_text *)object)->line.product_id);
}

static bool read_name(struct scan *s, void *object)
{
    struct text *name = &((struct line_text *)object)->line.name;

    if (!scan_string(s, name)) return false;
    name->p--; /* the quotes belong to it */
    name->n += 2;
    return name->n <= CART_NAME_MAX;
}

static bool read_quantity(struct scan *s, void *object)
{
    int64_t *quantity = &((struct line_text *)object)->line.quantity;

    return scan_integer(s, quantity) && *quantity >= 1 && *quantity <= CART_PIECES_MAX;
}

static bool read_unit_price(struct scan *s, void *object)
{
    money *price = &((struct line_text *)object)->line.unit_price;

    return scan_money(s, price) && price->cents >= 0 && price->cents <= CART_PRICE_MAX;
}

static bool read_subtotal(struct scan *s, void *object)
{
    return scan_money(s, &((struct line_text *)object)->subtotal);
}

static bool read_cake(struct scan *s, void *object)
{
    struct text *cake = &((struct line_text *)object)->line.cake;

    return scan_value(s, cake) && *cake->p == '{' && cake->n <= CART_CAKE_MAX;
}

static bool read_line(struct scan *s, struct cart_line *line)
{
    static const struct scan_member members[] = {
        MEMBER("line_id", read_line_id, false),
        MEMBER("product_id", read_product_id, false),
        MEMBER("name", read_name, false),
        MEMBER("quantity", read_quantity, false),
        MEMBER("unit_price", read_unit_price, false),
        MEMBER("subtotal", read_subtotal, false),
        MEMBER("custom_cake", read_cake, true),
    };
    struct line_text found = { 0 };

    if (!scan_object(s, members, COUNT(members), &found, NULL)) return false;
    if (money_compare(cart_line_subtotal(&found.line), found.subtotal) != 0) return false;
    *line = found.line;
    return true;
}

/* ---- reading: the cart --------------------------------------------------- */

struct cart_text {
    struct cart *cart;
    money total;
    int64_t pieces;
};

static bool read_word(struct scan *s, struct cart_word *word)
{
    struct text text;

    return scan_string(s, &text) && cart_word_read(text, word);
}

static bool read_user(struct scan *s, void *object)
{
    return read_word(s, &((struct cart_text *)object)->cart->owner);
}

static bool read_session(struct scan *s, void *object)
{
    struct cart *cart = ((struct cart_text *)object)->cart;

    cart->guest = true;
    return read_word(s, &cart->owner);
}

/* Products without a cake have one line each. */
static bool is_twin(const struct cart *cart, const struct cart_line *line)
{
    for (const struct cart_line *other = cart->lines; other < line; other++)
        if (other->cake.n == 0 && uuid_equal(other->product_id, line->product_id))
            return true;
    return false;
}

static bool read_items(struct scan *s, void *object)
{
    struct cart *cart = ((struct cart_text *)object)->cart;

    if (!scan_mark(s, '[')) return false;
    if (scan_mark(s, ']')) return true;
    do {
        struct cart_line *line = &cart->lines[cart->n];

        if (cart->n == CART_LINES_MAX || !read_line(s, line)) return false;
        if (line->cake.n == 0 && is_twin(cart, line)) return false;
        cart->n++;
    } while (scan_mark(s, ','));
    return scan_mark(s, ']');
}

static bool read_total(struct scan *s, void *object)
{
    return scan_money(s, &((struct cart_text *)object)->total);
}

static bool read_pieces(struct scan *s, void *object)
{
    return scan_integer(s, &((struct cart_text *)object)->pieces);
}

static bool read_updated_at(struct scan *s, void *object)
{
    return read_word(s, &((struct cart_text *)object)->cart->updated_at);
}

static bool read_cart_id(struct scan *s, void *object)
{
    return read_uuid(s, &((struct cart_text *)object)->cart->cart_id);
}

static bool read_version(struct scan *s, void *object)
{
    int64_t *version = &((struct cart_text *)object)->cart->version;

    return scan_integer(s, version) && *version >= 0;
}

bool cart_parse(struct text bytes, struct cart *cart)
{
    enum { USER, SESSION }; /* the places of the first two */
    static const struct scan_member members[] = {
        [USER] = MEMBER("user_id", read_user, true),
        [SESSION] = MEMBER("session_id", read_session, true),
        MEMBER("items", read_items, false),
        MEMBER("total_amount", read_total, false),
        MEMBER("item_count", read_pieces, false),
        MEMBER("updated_at", read_updated_at, false),
        MEMBER("cart_id", read_cart_id, false),
        MEMBER("version", read_version, false),
    };
    struct scan s = { bytes.p, bytes.p + bytes.n };
    struct cart_text found = { .cart = cart };
    uint32_t seen, owner;

    memset(cart, 0, offsetof(struct cart, lines));
    if (!scan_object(&s, members, COUNT(members), &found, &seen)) return false;
    owner = seen & (1u << USER | 1u << SESSION);
    return (owner == 1u << USER || owner == 1u << SESSION) && scan_end(&s) &&
           money_compare(found.total, cart_total(cart)) == 0 &&
           found.pieces == cart_pieces(cart);
}

/* ---- writing ------------------------------------------------------------- */

enum {
    INTEGER_MAX = 20,
    CART_FIXED = 512, /* names of members, marks, numbers and words: see their sizes */
    LINE_FIXED = 256,
};

size_t cart_room(const struct cart *cart)
{
    size_t room = CART_FIXED;

    for (size_t i = 0; i < cart->n; i++)
        room += LINE_FIXED + cart->lines[i].name.n + cart->lines[i].cake.n;
    return room;
}

static char *put(char *p, struct text text)
{
    memcpy(p, text.p, text.n);
    return p + text.n;
}

static char *put_money(char *p, money a)
{
    char text[MONEY_TEXT_MAX];

    return put(p, (struct text){ text, money_text(a, text) });
}

/* Not negative. */
static char *put_integer(char *p, int64_t number)
{
    char digits[INTEGER_MAX], *end = digits + sizeof digits, *first = end;

    do {
        *--first = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    return put(p, (struct text){ first, (size_t)(end - first) });
}

static char *put_uuid(char *p, struct uuid id)
{
    uuid_text(id, p);
    return p + UUID_TEXT;
}

static char *put_line(char *p, const struct cart_line *line)
{
    p = put_uuid(put(p, TEXT("{\"line_id\":\"")), line->line_id);
    p = put_uuid(put(p, TEXT("\",\"product_id\":\"")), line->product_id);
    p = put(put(p, TEXT("\",\"name\":")), line->name);
    p = put_integer(put(p, TEXT(",\"quantity\":")), line->quantity);
    p = put_money(put(p, TEXT(",\"unit_price\":")), line->unit_price);
    p = put_money(put(p, TEXT(",\"subtotal\":")), cart_line_subtotal(line));
    if (line->cake.n > 0) p = put(put(p, TEXT(",\"custom_cake\":")), line->cake);
    return put(p, TEXT("}"));
}

static char *put_word(char *p, const struct cart_word *word)
{
    return put(p, (struct text){ word->p, word->n });
}

size_t cart_write(const struct cart *cart, char *out, size_t room)
{
    char *p = out;

    if (room < cart_room(cart)) return 0;
    p = put(p, cart->guest ? TEXT("{\"session_id\":\"") : TEXT("{\"user_id\":\""));
    p = put(put_word(p, &cart->owner), TEXT("\",\"items\":["));
    for (size_t i = 0; i < cart->n; i++) {
        if (i > 0) *p++ = ',';
        p = put_line(p, &cart->lines[i]);
    }
    p = put_money(put(p, TEXT("],\"total_amount\":")), cart_total(cart));
    p = put_integer(put(p, TEXT(",\"item_count\":")), cart_pieces(cart));
    p = put_word(put(p, TEXT(",\"updated_at\":\"")), &cart->updated_at);
    p = put_uuid(put(p, TEXT("\",\"cart_id\":\"")), cart->cart_id);
    p = put_integer(put(p, TEXT("\",\"version\":")), cart->version);
    return (size_t)(put(p, TEXT("}")) - out);
}
