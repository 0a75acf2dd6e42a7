#include "script/json_read.h"

#include <assert.h>
#include <lauxlib.h>
#include <math.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "commerce/number.h"
#include "script/bind_decimal.h"
#include "script/bind_json.h"
#include "script/budget.h"

enum {
    NUMBER_MAX = 400,    /* characters */
    EXPONENT_MAX = 9999, /* 1e-9999 is kept, 1e-99999 refused */
    KEY_SHOWN = 60,      /* bytes of a key in a message */
    LOOK_EVERY = 1024,   /* values between two looks at the CPU budget */
};

const struct json_limits json_body_limits = { .depth = 32, .values = 10000 };
const struct json_limits json_script_limits = { .depth = 100, .values = 1000000 };

/* Its large frame must not become part of the recursion's. */
#define LEAF __attribute__((noinline))

struct reader {
    lua_State *L;
    const char *text, *p, *end; /* p: what is read next */
    const struct json_limits *limits;
    struct json_fault *fault;
    size_t depth, values;
    int array_mark; /* where on the stack the metatable of lists is */
};

/* ---- faults -------------------------------------------------------------- */

static bool fail(struct reader *r, const char *at, const char *format, ...)
    PRINTF_LIKE(3, 4);

static bool fail(struct reader *r, const char *at, const char *format, ...)
{
    struct json_fault *fault = r->fault;
    va_list args;

    va_start(args, format);
    vsnprintf(fault->message, sizeof fault->message, format, args);
    va_end(args);
    fault->offset = (size_t)(at - r->text);
    fault->line = fault->column = 1;
    for (const char *p = r->text; p < at; p++) {
        if (*p == '\n') {
            fault->line++;
            fault->column = 1;
        } else if ((*p & 0xc0) != 0x80) fault->column++;
    }
    return false;
}

/* Something else than 'what' comes next. */
static bool expected(struct reader *r, const char *what)
{
    if (r->p == r->end) return fail(r, r->p, "the text ends where %s was expected", what);
    return fail(r, r->p, "%s was expected", what);
}

/* ---- strings ------------------------------------------------------------- */

#define EACH(byte) (0x0101010101010101u * (byte))

/* Whether one of eight bytes ends a string, escapes or is a control character.  It
 * may say so of a byte that is none (above 0x7f), never miss one that is. */
static bool any_special(uint64_t eight)
{
    uint64_t quote = eight ^ EACH('"'), backslash = eight ^ EACH('\\');

    return (((eight - EACH(0x20)) | (quote - EACH(1)) | (backslash - EACH(1))) &
            EACH(0x80)) != 0;
}

/* Steps from behind the opening quotation mark to the closing one. */
static bool find_end(struct reader *r, bool *escapes)
{
    const char *p = r->p;
    uint64_t eight;

    for (;;) {
        while (r->end - p >= 8) {
            memcpy(&eight, p, 8);
            if (any_special(eight)) break;
            p += 8;
        }
        for (int i = 0; i < 8; i++, p++) {
            if (p == r->end) return fail(r, p, "the text ends within a string");
            if (*p == '"') {
                r->p = p;
                return true;
            }
            if ((unsigned char)*p < 0x20)
                return fail(r, p, "a control character in a string must be escaped");
            if (*p != '\\') continue;
            *escapes = true;
            if (++p == r->end) return fail(r, p, "the text ends within a string");
        }
    }
}

/* Four hexadecimal digits, or -1. */
static int32_t hex4(const char *p, const char *end)
{
    int32_t code = 0;

    if (end - p < 4) return -1;
    for (int i = 0; i < 4; i++) {
        char c = p[i];
        int digit;

        if (c >= '0' && c <= '9') digit = c - '0';
        else if (c >= 'a' && c <= 'f') digit = c - 'a' + 10;
        else if (c >= 'A' && c <= 'F') digit = c - 'A' + 10;
        else return -1;
        code = code * 16 + digit;
    }
    return code;
}

static size_t utf8_put(char *to, int32_t code)
{
    if (code < 0x80) {
        to[0] = (char)code;
        return 1;
    }
    if (code < 0x800) {
        to[0] = (char)(0xc0 | code >> 6);
        to[1] = (char)(0x80 | (code & 0x3f));
        return 2;
    }
    if (code < 0x10000) {
        to[0] = (char)(0xe0 | code >> 12);
        to[1] = (char)(0x80 | (code >> 6 & 0x3f));
        to[2] = (char)(0x80 | (code & 0x3f));
        return 3;
    }
    to[0] = (char)(0xf0 | code >> 18);
    to[1] = (char)(0x80 | (code >> 12 & 0x3f));
    to[2] = (char)(0x80 | (code >> 6 & 0x3f));
    to[3] = (char)(0x80 | (code & 0x3f));
    return 4;
}

/* Reads "\u00e4", or two of them for a pair, and steps over it. */
static bool read_unicode(struct reader *r, const char **at, const char *end,
                         int32_t *code)
{
    const char *p = *at;
    int32_t high = hex4(p + 2, end), low;

    if (high < 0) return fail(r, p, "\\u needs four hexadecimal digits");
    if (high == 0) return fail(r, p, "\\u0000 is not allowed");
    *at = p + 6;
    *code = high;
    if (high < 0xd800 || high > 0xdfff) return true;

    low = high < 0xdc00 && end - p >= 12 && p[6] == '\\' && p[7] == 'u' ? hex4(p + 8, end)
                                                                        : -1;
    if (low < 0xdc00 || low > 0xdfff)
        return fail(r, p, "half of a surrogate pair stands alone");
    *at = p + 12;
    *code = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
    return true;
}

static char unescape(char letter)
{
    switch (letter) {
    case '"':
    case '\\':
    case '/': return letter;
    case 'b': return '\b';
    case 'f': return '\f';
    case 'n': return '\n';
    case 'r': return '\r';
    case 't': return '\t';
    default: return 0;
    }
}

/* Pushes the string between p and end, which has escapes.  On false, something may
 * be left on the Lua stack. */
LEAF static bool push_unescaped(struct reader *r, const char *p, const char *end)
{
    luaL_Buffer b;
    char *to = luaL_buffinitsize(r->L, &b, (size_t)(end - p)), *start = to;
    int32_t code = 0;

    while (p < end) {
        const char *backslash = memchr(p, '\\', (size_t)(end - p));
        size_t plain = (size_t)((backslash == NULL ? end : backslash) - p);

        memcpy(to, p, plain);
        to += plain;
        p += plain;
        if (p == end) break;
        if (p[1] == 'u') {
            if (!read_unicode(r, &p, end, &code)) return false;
            to += utf8_put(to, code);
            continue;
        }
        if ((*to++ = unescape(p[1])) == 0)
            return fail(r, p, "a backslash and this are no escape");
        p += 2;
    }
    luaL_pushresultsize(&b, (size_t)(to - start));
    return true;
}

/* At a quotation mark. */
static bool read_string(struct reader *r)
{
    const char *start = ++r->p;
    bool escapes = false;
    size_t n;

    if (!find_end(r, &escapes)) return false;
    n = (size_t)(r->p - start);
    if (!utf8_valid(start, n)) return fail(r, start, "a string is not UTF-8");
    if (escapes && !push_unescaped(r, start, r->p)) return false;
    if (!escapes) lua_pushlstring(r->L, start, n);
    r->p++;
    return true;
}

/* ---- numbers ------------------------------------------------------------- */

/* Whether a double holds a number of such a size, be it rounded. */
static bool in_range(const struct number *number, const char *text)
{
    int64_t power;

    if (!number_power(number, &power) || power < 308) return true;
    return power == 308 && isfinite(strtod(text, NULL));
}

/* The largest is "-9223372036854775808": twenty characters. */
static bool push_integer(lua_State *L, const struct number *number)
{
    int64_t integer;
    bool fits;

    if (!number->integer || !number_scaled(number, 0, &integer, &fits)) return false;
    lua_pushinteger(L, integer);
    return true;
}

LEAF static bool read_number(struct reader *r)
{
    struct number number;
    char text[NUMBER_MAX + 1];
    size_t n = number_scan(r->p, (size_t)(r->end - r->p), &number);

    if (n == 0) return fail(r, r->p, "this is no number");
    if (n > NUMBER_MAX) return fail(r, r->p, "a number has more than 400 characters");
    if (!push_integer(r->L, &number)) {
        memcpy(text, r->p, n);
        text[n] = '\0';
        if (number.exponent > EXPONENT_MAX || number.exponent < -EXPONENT_MAX ||
            !in_range(&number, text))
            return fail(r, r->p, "a number is too large or its exponent is");
        if (r->limits->floats) lua_pushnumber(r->L, strtod(text, NULL));
        else decimal_push(r->L, (struct slice){ text, n });
    }
    r->p += n;
    return true;
}

/* ---- arrays and objects -------------------------------------------------- */

static bool read_value(struct reader *r);

static void skip_space(struct reader *r)
{
    while (r->p < r->end &&
           (*r->p == ' ' || *r->p == '\n' || *r->p == '\r' || *r->p == '\t'))
        r->p++;
}

static bool next_is(struct reader *r, char c)
{
    skip_space(r);
    if (r->p == r->end || *r->p != c) return false;
    r->p++;
    return true;
}

/* Steps into an array or object: over its bracket, with room on the Lua stack. */
static bool enter(struct reader *r)
{
    if (r->depth == r->limits->depth)
        return fail(r, r->p, "nested more than %zu deep", r->limits->depth);
    r->depth++;
    r->p++;
    luaL_checkstack(r->L, 12, NULL);
    return true;
}

static bool read_array(struct reader *r)
{
    lua_Integer n = 0;

    if (!enter(r)) return false;
    lua_createtable(r->L, 0, 0);
    lua_pushvalue(r->L, r->array_mark);
    lua_setmetatable(r->L, -2);
    if (!next_is(r, ']')) {
        do {
            if (!read_value(r)) return false;
            lua_rawseti(r->L, -2, ++n);
        } while (next_is(r, ','));
        if (!next_is(r, ']')) return expected(r, "a comma or ]");
    }
    r->depth--;
    return true;
}

static bool fail_twice(struct reader *r, const char *at)
{
    size_t n;
    const char *key = lua_tolstring(r->L, -1, &n);

    if (n > KEY_SHOWN)
        for (n = KEY_SHOWN; ((unsigned char)key[n] & 0xc0) == 0x80;) n--;
    return fail(r, at, "the key \"%.*s\" comes twice", (int)n, key);
}

/* Reads a key and its colon; the object is on top of the stack, then the key. */
static bool read_key(struct reader *r)
{
    const char *at;
    bool twice;

    skip_space(r);
    if (r->p == r->end || *r->p != '"') return expected(r, "a key in quotation marks");
    at = r->p;
    if (!read_string(r)) return false;
    lua_pushvalue(r->L, -1);
    twice = lua_rawget(r->L, -3) != LUA_TNIL; /* null is no nil here */
    lua_pop(r->L, 1);
    if (twice) return fail_twice(r, at);
    return next_is(r, ':') || expected(r, "a colon");
}

static bool read_object(struct reader *r)
{
    if (!enter(r)) return false;
    lua_createtable(r->L, 0, 0);
    if (!next_is(r, '}')) {
        do {
            if (!read_key(r) || !read_value(r)) return false;
            lua_rawset(r->L, -3);
        } while (next_is(r, ','));
        if (!next_is(r, '}')) return expected(r, "a comma or }");
    }
    r->depth--;
    return true;
}

/* ---- values -------------------------------------------------------------- */

static bool read_word(struct reader *r, struct slice word)
{
    if ((size_t)(r->end - r->p) < word.n || memcmp(r->p, word.p, word.n) != 0)
        return expected(r, "a value");
    r->p += word.n;
    return true;
}

static bool read_value(struct reader *r)
{
    skip_space(r);
    if (r->p == r->end) return expected(r, "a value");
    if (r->values == r->limits->values)
        return fail(r, r->p, "more than %zu values", r->limits->values);
    if (++r->values % LOOK_EVERY == 0) budget_check(r->L);
    switch (*r->p) {
    case '{': return read_object(r);
    case '[': return read_array(r);
    case '"': return read_string(r);
    case 't': lua_pushboolean(r->L, 1); return read_word(r, SLICE("true"));
    case 'f': lua_pushboolean(r->L, 0); return read_word(r, SLICE("false"));
    case 'n': json_push_null(r->L); return read_word(r, SLICE("null"));
    default:
        if (*r->p == '-' || (*r->p >= '0' && *r->p <= '9')) return read_number(r);
        return expected(r, "a value");
    }
}

static bool read_text(struct reader *r)
{
    skip_space(r);
    if (r->p == r->end) return fail(r, r->p, "the text is empty");
    if (!read_value(r)) return false;
    skip_space(r);
    if (r->p != r->end) return fail(r, r->p, "something follows the value");
    return true;
}

bool json_read(lua_State *L, struct slice text, const struct json_limits *limits,
               struct json_fault *fault)
{
    int top = lua_gettop(L);
    struct reader r = { .L = L, .limits = limits, .fault = fault };

    if (limits == NULL) r.limits = &json_body_limits;
    r.text = r.p = text.n == 0 ? "" : text.p;
    r.end = r.p + text.n;
    luaL_checkstack(L, 12, NULL);
    json_push_array_mark(L);
    r.array_mark = lua_gettop(L);
    if (!read_text(&r)) {
        lua_settop(L, top);
        return false;
    }
    lua_replace(L, r.array_mark);
    assert(lua_gettop(L) == top + 1);
    return true;
}
