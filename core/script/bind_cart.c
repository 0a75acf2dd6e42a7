#include "script/bind_cart.h"

#include <lauxlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "commerce/cart_bytes.h"
#include "script/bind_bytes.h"
#include "script/bind_json.h"
#include "script/bind_money.h"
#include "script/bind_type.h"
#include "script/json_read.h"
#include "script/json_write.h"

/* The user value of a cart is a table whose keys are the strings that its lines point
 * into: so they live as long as the cart does. */
enum { TEXTS = 1 };

static const struct bind_type type;

/* ---- the value ----------------------------------------------------------- */

static struct cart *push_cart(lua_State *L)
{
    struct cart *cart = lua_newuserdatauv(L, sizeof *cart, TEXTS);

    memset(cart, 0, sizeof *cart);
    bind_type_push(L, &type);
    lua_setmetatable(L, -2);
    lua_createtable(L, 0, 4);
    lua_setiuservalue(L, -2, TEXTS);
    return cart;
}

const struct cart *cart_test(lua_State *L, int at)
{
    return bind_type_test(L, at, &type);
}

static struct cart *self(lua_State *L)
{
    struct cart *cart = bind_type_test(L, 1, &type);

    if (cart == NULL) luaL_typeerror(L, 1, "cart");
    return cart;
}

/* Lets the cart at 'at' keep the string on top of the stack, and pops that. */
static struct text keep(lua_State *L, int at)
{
    struct text text;

    text.p = lua_tolstring(L, -1, &text.n);
    lua_getiuservalue(L, at, TEXTS);
    lua_insert(L, -2);
    lua_pushboolean(L, 1);
    lua_rawset(L, -3);
    lua_pop(L, 1);
    return text;
}

static struct uuid random_uuid(lua_State *L)
{
    struct uuid id;

    if (getrandom(&id, sizeof id, 0) != sizeof id) luaL_error(L, "no random bytes");
    id.high = (id.high & ~UINT64_C(0xf000)) | UINT64_C(0x4000); /* version 4 */
    id.low = id.low >> 2 | UINT64_C(1) << 63;                   /* variant 10 */
    return id;
}

static struct text to_text(lua_State *L, int at)
{
    struct text text = { NULL, 0 };

    if (lua_type(L, at) == LUA_TSTRING) text.p = lua_tolstring(L, at, &text.n);
    return text;
}

static struct uuid check_uuid(lua_State *L, int at, const char *name)
{
    struct uuid id = { 0 };

    if (!uuid_read(to_text(L, at), &id))
        luaL_error(L, "cart: %s must be a UUID, not %s", name,
                   luaL_tolstring(L, at, NULL));
    return id;
}

static void push_uuid(lua_State *L, struct uuid id)
{
    char text[UUID_TEXT];

    uuid_text(id, text);
    lua_pushlstring(L, text, sizeof text);
}

/* The number of a line, from 0. */
static size_t check_line(lua_State *L, int at, const struct cart *cart)
{
    lua_Integer i = luaL_checkinteger(L, at);

    if (i < 1 || (size_t)i > cart->n)
        luaL_error(L, "cart: there is no line %I, only %I", (LUAI_UACINT)i,
                   (LUAI_UACINT)cart->n);
    return (size_t)i - 1;
}

/* ---- making -------------------------------------------------------------- */

/* {user_id = "..."} or {session_id = "..."} */
static void check_owner(lua_State *L, int at, struct cart_word *owner, bool *guest)
{
    luaL_checktype(L, at, LUA_TTABLE);
    *guest = lua_getfield(L, at, "user_id") == LUA_TNIL;
    if (*guest) lua_getfield(L, at, "session_id");
    if (!cart_word_read(to_text(L, -1), owner))
        luaL_error(L, "commerce.cart: the owner needs a user_id or a session_id");
}

static bool same_owner(const struct cart *cart, const struct cart_word *owner, bool guest)
{
    return cart->guest == guest &&
           text_equal((struct text){ cart->owner.p, cart->owner.n },
                      (struct text){ owner->p, owner->n });
}

static bool set_time(struct cart *cart)
{
    char text[CLOCK_ISO_MAX];
    size_t n = clock_iso(clock_wall_us(), text);

    return cart_word_read((struct text){ text, n }, &cart->updated_at);
}

/* Replaces bytes at 1 by a string. */
static struct text check_bytes(lua_State *L)
{
    const struct bytes *bytes = bytes_test(L, 1);

    if (bytes != NULL) {
        lua_pushlstring(L, bytes->s.p, bytes->s.n);
        lua_replace(L, 1);
    } else luaL_checktype(L, 1, LUA_TSTRING);
    return to_text(L, 1);
}

int cart_open(lua_State *L)
{
    bool guest = false, owned = !lua_isnoneornil(L, 2);
    struct cart_word owner = { .n = 0 };
    struct text bytes = { NULL, 0 };
    struct cart *cart;

    lua_settop(L, 2);
    if (!lua_isnil(L, 1)) bytes = check_bytes(L);
    if (owned || bytes.p == NULL) check_owner(L, 2, &owner, &guest);
    cart = push_cart(L);
    if (bytes.p == NULL) {
        cart->cart_id = random_uuid(L);
        cart->owner = owner;
        cart->guest = guest;
        return set_time(cart) ? 1 : luaL_error(L, "commerce.cart: no time");
    }
    lua_pushvalue(L, 1);
    (void)keep(L, lua_gettop(L) - 1);
    if (!utf8_valid(bytes.p, bytes.n) || !cart_parse(bytes, cart) ||
        (owned && !same_owner(cart, &owner, guest)))
        lua_pushnil(L);
    return 1;
}

/* ---- changes ------------------------------------------------------------- */

/* The names of enum cart_result for scripts. */
static int push_refusal(lua_State *L, enum cart_result result)
{
    static const char *const names[] = {
        [CART_FULL] = "CART_FULL", [CART_NO_LINE] = "NO_LINE", [CART_SEVERAL] = "SEVERAL"
    };

    lua_pushnil(L);
    lua_pushstring(L, names[result]);
    return 2;
}

/* Replaces the value on top of the stack by its JSON text. */
static void replace_by_json(lua_State *L, const char *name)
{
    int at = lua_gettop(L);
    struct bytes *guard = bytes_push_empty(L);
    struct buf out = { 0 };
    const char *fault;

    if (!json_write(L, at, &out, &fault)) {
        buf_free(&out);
        luaL_error(L, "cart:add: %s: %s", name, fault);
    }
    *guard = (struct bytes){ buf_slice(&out), mem_free, out.p, true };
    lua_pushlstring(L, guard->s.p, guard->s.n);
    bytes_clear(guard);
    lua_replace(L, at);
    lua_settop(L, at);
}

/* The field of the table at 2 as JSON, which the cart at 1 keeps. */
static struct text json_field(lua_State *L, const char *name)
{
    lua_getfield(L, 2, name);
    replace_by_json(L, name);
    return keep(L, 1);
}

/* The table at 2, its texts kept by the cart at 1. */
static struct cart_line check_new_line(lua_State *L)
{
    struct cart_line line = { .quantity = 1 };

    luaL_checktype(L, 2, LUA_TTABLE);
    lua_getfield(L, 2, "product_id");
    line.product_id = check_uuid(L, -1, "product_id");
    if (lua_getfield(L, 2, "line_id") != LUA_TNIL)
        line.line_id = check_uuid(L, -1, "line_id");
    else line.line_id = random_uuid(L);
    lua_getfield(L, 2, "unit_price");
    if (!money_test(L, -1, &line.unit_price.cents))
        luaL_error(L, "cart:add: unit_price must be a money");
    if (lua_getfield(L, 2, "quantity") != LUA_TNIL) {
        line.quantity = lua_isinteger(L, -1) ? lua_tointeger(L, -1) : 0;
        if (line.quantity < 1 || line.quantity > CART_PIECES_MAX)
            luaL_error(L, "cart:add: quantity must be 1 to 50");
    }
    line.name = json_field(L, "name");
    if (lua_getfield(L, 2, "custom_cake") != LUA_TNIL)
        line.cake = json_field(L, "custom_cake");
    return line;
}

/* cart:add{product_id=, name=, unit_price=, quantity=, custom_cake=, line_id=} */
static int add(lua_State *L)
{
    struct cart *cart = self(L);
    struct cart_line line = check_new_line(L);
    size_t at = 0;
    enum cart_result result = cart_add(cart, &line, &at);

    if (result == CART_INVALID)
        return luaL_error(L, "cart:add: name must be a text, unit_price 0 to 999999.99, "
                             "custom_cake an object of 16 KiB at most");
    if (result != CART_OK) return push_refusal(L, result);
    lua_pushinteger(L, (lua_Integer)at + 1);
    return 1;
}

/* cart:set(product_id, quantity [, line_id]) */
static int set(lua_State *L)
{
    struct cart *cart = self(L);
    struct uuid product_id = check_uuid(L, 2, "product_id"), line_id;
    lua_Integer quantity = luaL_checkinteger(L, 3);
    bool one = !lua_isnoneornil(L, 4);
    enum cart_result result;
    size_t at;

    if (one) line_id = check_uuid(L, 4, "line_id");
    result = cart_find(cart, product_id, one ? &line_id : NULL, &at);
    if (result == CART_OK) result = cart_set(cart, at, quantity);
    if (result == CART_INVALID)
        return luaL_error(L, "cart:set: quantity must be 0 to 50");
    if (result != CART_OK) return push_refusal(L, result);
    lua_pushboolean(L, 1);
    return 1;
}

/* cart:remove(product_id [, line_id]) */
static int drop(lua_State *L)
{
    struct cart *cart = self(L);
    struct uuid product_id = check_uuid(L, 2, "product_id"), line_id;
    bool one = !lua_isnoneornil(L, 3);
    lua_Integer n = 0;
    size_t at;

    if (one) line_id = check_uuid(L, 3, "line_id");
    while (cart_find(cart, product_id, one ? &line_id : NULL, &at) != CART_NO_LINE) {
        cart_remove(cart, at);
        n++;
    }
    lua_pushinteger(L, n);
    return 1;
}

/* The next order of this cart is another one: so it has another id. */
static int clear(lua_State *L)
{
    struct cart *cart = self(L);

    cart->cart_id = random_uuid(L);
    cart_clear(cart);
    return 0;
}

/* A list of n that stays one in JSON when it is empty. */
static void push_list(lua_State *L, size_t n)
{
    lua_createtable(L, (int)n, 0);
    json_push_array_mark(L);
    lua_setmetatable(L, -2);
}

static int reprice(lua_State *L)
{
    struct cart *cart = self(L);
    size_t at = check_line(L, 2, cart);
    bool changed = false;
    money price;

    if (!money_test(L, 3, &price.cents) || !cart_reprice(cart, at, price, &changed))
        return luaL_error(L, "cart:reprice: a money from 0 to 999999.99 was expected");
    lua_pushboolean(L, changed);
    return 1;
}

/* Lets the cart at 1 keep what the cart at 2 keeps. */
static void keep_all(lua_State *L)
{
    lua_getiuservalue(L, 1, TEXTS);
    lua_getiuservalue(L, 2, TEXTS);
    lua_pushnil(L);
    while (lua_next(L, -2)) {
        lua_pushvalue(L, -2);
        lua_insert(L, -2);
        lua_rawset(L, -5);
    }
    lua_settop(L, 2);
}

static void push_adjusted(lua_State *L, const struct cart_adjusted *adjusted)
{
    lua_createtable(L, 0, 4);
    push_uuid(L, adjusted->product_id);
    lua_setfield(L, -2, "product_id");
    push_uuid(L, adjusted->line_id);
    lua_setfield(L, -2, "line_id");
    lua_pushinteger(L, adjusted->requested);
    lua_setfield(L, -2, "requested");
    lua_pushinteger(L, adjusted->quantity);
    lua_setfield(L, -2, "quantity");
}

static int merge(lua_State *L)
{
    struct cart_adjusted adjusted[CART_LINES_MAX];
    struct cart *cart = self(L);
    const struct cart *guest = cart_test(L, 2);
    size_t n;

    if (guest == NULL || guest == cart) return luaL_typeerror(L, 2, "another cart");
    lua_settop(L, 2);
    keep_all(L);
    n = cart_merge(cart, guest, adjusted);
    push_list(L, n);
    for (size_t i = 0; i < n; i++) {
        push_adjusted(L, &adjusted[i]);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    return 1;
}

/* A version and a time for what was changed. */
static int touch(lua_State *L)
{
    struct cart *cart = self(L);

    if (__builtin_add_overflow(cart->version, 1, &cart->version)) cart->version = 1;
    if (!set_time(cart)) return luaL_error(L, "cart:touch: no time");
    lua_settop(L, 1);
    return 1;
}

/* ---- looking ------------------------------------------------------------- */

static void push_decoded(lua_State *L, struct text json)
{
    struct json_fault fault;

    if (!json_read(L, (struct slice){ json.p, json.n }, NULL, &fault))
        luaL_error(L, "cart: %s", fault.message);
}

static void push_line(lua_State *L, const struct cart_line *line)
{
    lua_createtable(L, 0, 7);
    push_uuid(L, line->line_id);
    lua_setfield(L, -2, "line_id");
    push_uuid(L, line->product_id);
    lua_setfield(L, -2, "product_id");
    push_decoded(L, line->name);
    lua_setfield(L, -2, "name");
    lua_pushinteger(L, line->quantity);
    lua_setfield(L, -2, "quantity");
    money_push(L, line->unit_price.cents);
    lua_setfield(L, -2, "unit_price");
    money_push(L, cart_line_subtotal(line).cents);
    lua_setfield(L, -2, "subtotal");
    if (line->cake.n == 0) return;
    push_decoded(L, line->cake);
    lua_setfield(L, -2, "custom_cake");
}

static int line(lua_State *L)
{
    const struct cart *cart = self(L);

    push_line(L, &cart->lines[check_line(L, 2, cart)]);
    return 1;
}

static int lines(lua_State *L)
{
    const struct cart *cart = self(L);

    push_list(L, cart->n);
    for (size_t i = 0; i < cart->n; i++) {
        push_line(L, &cart->lines[i]);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    return 1;
}

static int length(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)self(L)->n);
    return 1;
}

/* cart:count() all pieces, cart:count(product_id) those of one product */
static int count(lua_State *L)
{
    const struct cart *cart = self(L);

    if (lua_isnoneornil(L, 2)) lua_pushinteger(L, cart_pieces(cart));
    else lua_pushinteger(L, cart_pieces_of(cart, check_uuid(L, 2, "product_id")));
    return 1;
}

static int total(lua_State *L)
{
    money_push(L, cart_total(self(L)).cents);
    return 1;
}

static int version(lua_State *L)
{
    lua_pushinteger(L, self(L)->version);
    return 1;
}

static int id(lua_State *L)
{
    push_uuid(L, self(L)->cart_id);
    return 1;
}

/* ---- bytes --------------------------------------------------------------- */

/* Appends the members of the object at 'at' to the object in 'out'. */
static bool append_members(lua_State *L, int at, struct buf *out, const char **fault)
{
    size_t end = out->n - 1; /* of its last member: '}' stands there */

    out->n = end;
    if (!json_write(L, at, out, fault)) return false;
    *fault = "an object was expected";
    if (out->p[end] != '{') return false;
    if (out->n > end + 2) out->p[end] = ',';
    else {
        out->p[end] = '}';
        out->n = end + 1;
    }
    return true;
}

static bool write_cart(lua_State *L, const struct cart *cart, struct buf *out,
                       const char **fault)
{
    size_t room = cart_room(cart);
    char *p = buf_room(out, room);

    *fault = "not enough memory";
    if (p == NULL) return false;
    out->n += cart_write(cart, p, room);
    return lua_isnoneornil(L, 2) || append_members(L, 2, out, fault);
}

/* cart:bytes([members]) */
static int to_bytes(lua_State *L)
{
    const struct cart *cart = self(L);
    struct buf out = { 0 };
    struct bytes *bytes;
    const char *fault;

    lua_settop(L, 2);
    bytes = bytes_push_empty(L);
    if (!write_cart(L, cart, &out, &fault)) {
        buf_free(&out);
        return luaL_error(L, "cart:bytes: %s", fault);
    }
    *bytes = (struct bytes){ buf_slice(&out), mem_free, out.p, true };
    return 1;
}

static const luaL_Reg meta[] = {
    { "__len", length },
    { NULL, NULL },
};

static const luaL_Reg methods[] = {
    { "add", add },     { "bytes", to_bytes },  { "clear", clear },
    { "count", count }, { "id", id },           { "line", line },
    { "lines", lines }, { "merge", merge },     { "reprice", reprice },
    { "remove", drop }, { "set", set },         { "total", total },
    { "touch", touch }, { "version", version }, { NULL, NULL },
};

static const struct bind_type type = { "omade.cart", "cart", meta, methods };
