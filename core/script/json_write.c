#include "script/json_write.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "commerce/money.h"
#include "commerce/number.h"
#include "script/bind_bytes.h"
#include "script/bind_decimal.h"
#include "script/bind_json.h"
#include "script/bind_money.h"

enum { SMALL = 32, SLOTS = 8, SHOWN = 24, PLACE_MAX = 240 };

/* One member of an object that is being sorted: both lie on the Lua stack. */
struct member {
    struct slice key;
    int value; /* stack index */
};

/* Where the writer is, for messages: a key, or an index from 1 when key.p is NULL,
 * or 0 for the table itself. */
struct step {
    struct slice key;
    lua_Integer index;
};

struct writer {
    lua_State *L;
    struct buf *out;
    size_t start;      /* out->n at the beginning */
    const char *fault; /* what is wrong */
    int depth;
    struct step path[JSON_WRITE_DEPTH];
    /* The members of the objects around the current value, the innermost last. */
    struct member *members, small[SMALL];
    size_t n, cap;
};

static bool write_value(struct writer *w, int at);

/* ---- faults -------------------------------------------------------------- */

static bool fail(struct writer *w, const char *fault)
{
    w->fault = fault;
    return false;
}

/* "a function cannot be JSON, at .items[2].on_click" */
static const char *describe(const struct writer *w)
{
    static char text[PLACE_MAX + 64 + SHOWN];
    int n = snprintf(text, PLACE_MAX, "%s, at ", w->fault), empty = n;

    for (int i = 0; i < w->depth && n < PLACE_MAX; i++) {
        const struct step *step = &w->path[i];
        int shown = step->key.n > SHOWN ? SHOWN : (int)step->key.n;

        if (step->key.p != NULL) n += sprintf(text + n, ".%.*s", shown, step->key.p);
        else if (step->index != 0)
            n += sprintf(text + n, "[%lld]", (long long)step->index);
    }
    if (n == empty) n -= (int)strlen(", at ");
    text[n] = '\0';
    for (char *p = text; *p != '\0'; p++)
        if (*p < 0x20 || *p > 0x7e) *p = '?'; /* keys may be anything */
    return text;
}

/* ---- members ------------------------------------------------------------- */

static bool member_add(struct writer *w, struct slice key, int value)
{
    if (w->n == w->cap) {
        size_t cap = w->cap * 2;
        bool small = w->members == w->small;
        struct member *grown = mem_resize(small ? NULL : w->members, cap * sizeof *grown);

        if (grown == NULL) return fail(w, "not enough memory");
        if (small) memcpy(grown, w->small, sizeof w->small);
        w->members = grown;
        w->cap = cap;
    }
    w->members[w->n++] = (struct member){ key, value };
    return true;
}

static int compare_members(const void *left, const void *right)
{
    const struct slice a = ((const struct member *)left)->key;
    const struct slice b = ((const struct member *)right)->key;
    int order = memcmp(a.p, b.p, a.n < b.n ? a.n : b.n);

    return order != 0 ? order : (a.n > b.n) - (a.n < b.n);
}

/* Few members are the rule, and nearly all objects have less than a dozen. */
static void sort_members(struct member *members, size_t n)
{
    if (n > 12) {
        qsort(members, n, sizeof *members, compare_members);
        return;
    }
    for (size_t i = 1; i < n; i++) {
        struct member moved = members[i];
        size_t j = i;

        for (; j > 0 && compare_members(&members[j - 1], &moved) > 0; j--)
            members[j] = members[j - 1];
        members[j] = moved;
    }
}

/* ---- scalars ------------------------------------------------------------- */

static bool room_for(struct writer *w, size_t n)
{
    if (n > JSON_WRITE_MAX || w->out->n - w->start + n > JSON_WRITE_MAX)
        return fail(w, "the JSON would have more than 16 MiB");
    return true;
}

static bool write_string(struct writer *w, struct slice text)
{
    if (!room_for(w, text.n)) return false;
    if (json_is_plain(text)) {
        json_add_plain(w->out, text);
        return true;
    }
    if (!utf8_valid(text.p, text.n)) return fail(w, "a string is not UTF-8");
    json_add_string(w->out, text);
    return true;
}

static bool write_number(struct writer *w, int at)
{
    double number;

    if (lua_isinteger(w->L, at)) {
        buf_add_int(w->out, lua_tointeger(w->L, at));
        return true;
    }
    number = lua_tonumber(w->L, at);
    if (!isfinite(number)) return fail(w, "NaN and the infinities cannot be JSON");
    if (number == floor(number) && fabs(number) < 0x1p53)
        buf_add_int(w->out, (int64_t)number);
    else json_add_double(w->out, number);
    return true;
}

static bool write_bytes(struct writer *w, const struct bytes *bytes)
{
    if (!bytes->json) return write_string(w, bytes->s);
    if (bytes->s.n == 0) return fail(w, "JSON bytes are empty");
    if (!room_for(w, bytes->s.n)) return false;
    buf_add_slice(w->out, bytes->s);
    return true;
}

static bool write_userdata(struct writer *w, int at)
{
    const struct bytes *bytes;
    struct number number;
    struct slice digits;
    int64_t cents;

    if (money_test(w->L, at, &cents)) {
        char text[MONEY_TEXT_MAX];
        buf_add(w->out, text, money_text(money_of(cents), text));
        return true;
    }
    if (decimal_test(w->L, at, &digits)) {
        if (!number_read(digits.p, digits.n, &number))
            return fail(w, "NaN and the infinities cannot be JSON");
        if (!room_for(w, digits.n)) return false;
        buf_add_slice(w->out, digits);
        return true;
    }
    bytes = bytes_test(w->L, at);
    if (bytes != NULL) return write_bytes(w, bytes);
    return fail(w, "this userdata cannot be JSON");
}

/* ---- tables -------------------------------------------------------------- */

/* Writes the value at 'at' as the member 'key'. */
static bool write_member(struct writer *w, bool first, struct slice key, int at)
{
    w->path[w->depth - 1].key = key;
    if (!first) buf_add_byte(w->out, ',');
    if (!write_string(w, key)) return false;
    buf_add_byte(w->out, ':');
    return write_value(w, at);
}

/* Whether the row's columns hold the string on top of the stack. */
static bool is_column(lua_State *L, int columns)
{
    lua_Integer n = (lua_Integer)lua_rawlen(L, columns);
    bool same = false;

    for (lua_Integer i = 1; i <= n && !same; i++) {
        lua_rawgeti(L, columns, i);
        same = lua_rawequal(L, -1, -2);
        lua_pop(L, 1);
    }
    return same;
}

/* Leaves all keys and values of the table on the stack and notes them as members;
 * without those in 'columns', unless that is 0. */
static bool gather(struct writer *w, int table, int columns)
{
    lua_State *L = w->L;
    struct slice key;

    lua_pushnil(L);
    while (lua_next(L, table)) {
        if (!lua_checkstack(L, SLOTS)) return fail(w, "an object has too many keys");
        if (lua_type(L, -2) != LUA_TSTRING) {
            w->path[w->depth - 1].key.p = NULL;
            w->path[w->depth - 1].index = lua_tointeger(L, -2);
            return fail(w,
                        "a table is neither a list 1..n nor an object with string keys");
        }
        lua_pushvalue(L, -2);
        if (columns != 0 && is_column(L, columns)) {
            lua_replace(L, -3);
            lua_pop(L, 1);
            continue;
        }
        key.p = lua_tolstring(L, -1, &key.n);
        if (!member_add(w, key, lua_gettop(L) - 1)) return false;
    }
    return true;
}

/* The members of the table, sorted; the stack is restored by the caller. */
static bool write_members(struct writer *w, int table, int columns, bool first)
{
    size_t base = w->n;

    if (!gather(w, table, columns)) return false;
    sort_members(w->members + base, w->n - base);
    for (size_t i = base; i < w->n; i++) {
        struct member member = w->members[i]; /* the array may move meanwhile */
        if (!write_member(w, first, member.key, member.value)) return false;
        first = false;
    }
    w->n = base;
    return true;
}

static bool write_object(struct writer *w, int table)
{
    buf_add_byte(w->out, '{');
    if (!write_members(w, table, 0, true)) return false;
    buf_add_byte(w->out, '}');
    return true;
}

static size_t count_keys(lua_State *L, int table)
{
    size_t n = 0;

    lua_pushnil(L);
    for (; lua_next(L, table); n++) lua_pop(L, 1);
    return n;
}

static bool write_row(struct writer *w, int table, int columns)
{
    lua_State *L = w->L;
    lua_Integer n = (lua_Integer)lua_rawlen(L, columns);
    size_t present = 0;
    struct slice name;

    buf_add_byte(w->out, '{');
    for (lua_Integer i = 1; i <= n; i++) {
        if (lua_rawgeti(L, columns, i) != LUA_TSTRING)
            return fail(w, "__columns is no list of names");
        name.p = lua_tolstring(L, -1, &name.n);
        lua_pushvalue(L, -1);
        if (lua_rawget(L, table) != LUA_TNIL) present++;
        if (!write_member(w, i == 1, name, lua_gettop(L))) return false;
        lua_pop(L, 2);
    }
    if (count_keys(L, table) != present && !write_members(w, table, columns, n == 0))
        return false;
    buf_add_byte(w->out, '}');
    return true;
}

static bool write_list(struct writer *w, int table)
{
    lua_Integer n = (lua_Integer)lua_rawlen(w->L, table);
    struct step *step = &w->path[w->depth - 1];

    buf_add_byte(w->out, '[');
    for (lua_Integer i = 1; i <= n; i++) {
        *step = (struct step){ .index = i };
        if (i > 1) buf_add_byte(w->out, ',');
        lua_rawgeti(w->L, table, i);
        if (!write_value(w, lua_gettop(w->L))) return false;
        lua_pop(w->L, 1);
    }
    buf_add_byte(w->out, ']');
    return true;
}

/* ---- which table is what ------------------------------------------------- */

/* Whether the keys are exactly 1..n; so is an empty table's. */
static bool is_sequence(lua_State *L, int table)
{
    lua_Unsigned n = lua_rawlen(L, table), seen = 0;

    lua_pushnil(L);
    while (lua_next(L, table)) {
        lua_pop(L, 1);
        if (!lua_isinteger(L, -1) || (lua_Unsigned)lua_tointeger(L, -1) - 1 >= n) {
            lua_pop(L, 1);
            return false;
        }
        seen++;
    }
    return seen == n;
}

/* What a metatable says about its table. */
enum special { NOTHING, COLUMNS, FROZEN };

/* Of a metatable's key: what it says, when the value is a table. */
static enum special special_key(lua_State *L, int key)
{
    size_t n;
    const char *name;

    if (lua_type(L, key) != LUA_TSTRING) return NOTHING;
    name = lua_tolstring(L, key, &n);
    if (n == 9 && memcmp(name, "__columns", n) == 0) return COLUMNS;
    if (n == 8 && memcmp(name, "__frozen", n) == 0) return FROZEN;
    return NOTHING;
}

/* Pushes the names of a row's columns, or the table that a read-only one hides, and
 * says which; or pushes nothing.  Looking a name up would have to make a string, which
 * may raise; so the few fields are walked. */
static enum special push_special(lua_State *L, int table)
{
    if (!lua_getmetatable(L, table)) return NOTHING;
    lua_pushnil(L);
    while (lua_next(L, -2)) {
        enum special special = lua_istable(L, -1) ? special_key(L, -2) : NOTHING;

        if (special != NOTHING) {
            lua_replace(L, -3); /* metatable, key, value: the value stays */
            lua_pop(L, 1);
            return special;
        }
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
    return NOTHING;
}

static bool write_shape(struct writer *w, int table)
{
    lua_State *L = w->L;

    if (json_is_array(L, table)) {
        if (is_sequence(L, table)) return write_list(w, table);
        return fail(w, "a json.array has a hole or other keys than 1..n");
    }
    if (json_is_object(L, table)) return write_object(w, table);
    switch (push_special(L, table)) {
    case COLUMNS: return write_row(w, table, lua_gettop(L));
    case FROZEN: table = lua_gettop(L); break;
    case NOTHING: break;
    }
    if (lua_rawlen(L, table) > 0 && is_sequence(L, table)) return write_list(w, table);
    return write_object(w, table);
}

static bool write_table(struct writer *w, int at)
{
    int top = lua_gettop(w->L);

    if (w->depth == JSON_WRITE_DEPTH)
        return fail(w, "nested more than 100 deep, or a table holds itself");
    if (!lua_checkstack(w->L, SLOTS)) return fail(w, "not enough memory");
    w->path[w->depth++] = (struct step){ 0 };
    if (!write_shape(w, at)) return false; /* keeps the path for the message */
    w->depth--;
    lua_settop(w->L, top);
    return true;
}

static bool write_value(struct writer *w, int at)
{
    struct slice text;

    if (w->out->failed) return fail(w, "not enough memory");
    if (!room_for(w, 0)) return false;
    switch (lua_type(w->L, at)) {
    case LUA_TNIL: BUF_ADD(w->out, "null"); return true;
    case LUA_TBOOLEAN:
        buf_add_text(w->out, lua_toboolean(w->L, at) ? "true" : "false");
        return true;
    case LUA_TNUMBER: return write_number(w, at);
    case LUA_TSTRING:
        text.p = lua_tolstring(w->L, at, &text.n);
        return write_string(w, text);
    case LUA_TTABLE: return write_table(w, at);
    case LUA_TUSERDATA: return write_userdata(w, at);
    case LUA_TLIGHTUSERDATA:
        if (!json_is_null(w->L, at)) return fail(w, "this userdata cannot be JSON");
        BUF_ADD(w->out, "null");
        return true;
    case LUA_TFUNCTION: return fail(w, "a function cannot be JSON");
    default: return fail(w, "a coroutine cannot be JSON");
    }
}

bool json_write(lua_State *L, int at, struct buf *out, const char **fault)
{
    struct writer w = { .L = L, .out = out, .start = out->n, .cap = SMALL };
    int top = lua_gettop(L);
    bool written;

    w.members = w.small;
    written = lua_checkstack(L, SLOTS) ? write_value(&w, lua_absindex(L, at))
                                       : fail(&w, "not enough memory");
    if (written && out->failed) written = fail(&w, "not enough memory");
    if (!written) {
        *fault = describe(&w);
        out->n = w.start;
    }
    if (w.members != w.small) mem_free(w.members);
    lua_settop(L, top);
    return written;
}
