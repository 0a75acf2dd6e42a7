/* Our JSON: the grammar case by case, then random documents against lua-cjson. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <lauxlib.h>
#include <lualib.h>

#include "base/buf.h"
#include "base/check.h"
#include "base/mem.h"
#include "script/bind_bytes.h"
#include "script/bind_decimal.h"
#include "script/bind_json.h"
#include "script/bind_money.h"
#include "script/json_read.h"
#include "script/json_write.h"

int luaopen_cjson(lua_State *L);

static long live;

static void open_modules(lua_State *L)
{
    luaL_requiref(L, "money", luaopen_omade_money, 1);
    luaL_requiref(L, "decimal", luaopen_omade_decimal, 1);
    luaL_requiref(L, "json", luaopen_omade_json, 1);
    lua_pop(L, 3);
}

static int setup(void **state)
{
    lua_State *L = luaL_newstate();

    live = mem_live();
    assert_non_null(L);
    luaL_openlibs(L);
    open_modules(L);
    luaL_requiref(L, "cjson", luaopen_cjson, 1);
    lua_settop(L, 0);
    *state = L;
    return 0;
}

static int teardown(void **state)
{
    lua_close(*state);
    assert_int_equal(mem_live(), live);
    return 0;
}

/* Reads a copy without a NUL behind it, so that ASan sees a read beyond the end. */
static bool read_exact(lua_State *L, struct slice text, const struct json_limits *limits,
                       struct json_fault *fault)
{
    char *copy = malloc(text.n == 0 ? 1 : text.n);
    int top = lua_gettop(L);
    bool read;

    assert_non_null(copy);
    if (text.n > 0) memcpy(copy, text.p, text.n);
    read = json_read(L, (struct slice){ copy, text.n }, limits, fault);
    free(copy);
    assert_int_equal(lua_gettop(L), top + (read ? 1 : 0));
    return read;
}

/* The value on top of the stack as JSON; pops it. */
static void write_top(lua_State *L, struct buf *out)
{
    const char *why = NULL;
    int top = lua_gettop(L);

    if (!json_write(L, -1, out, &why)) fail_msg("%s", why);
    assert_int_equal(lua_gettop(L), top);
    lua_pop(L, 1);
}

/* ---- accepted: the text, and how it is written again ---------------------- */

static const struct {
    const char *text, *again; /* NULL: the same */
} accepted[] = {
    { "null", NULL },
    { "true", NULL },
    { "false", NULL },
    { "0", NULL },
    { "-0", "0" },
    { "1", NULL },
    { "-1", NULL },
    { "\t\r\n 1 \t\r\n", "1" },
    { "9223372036854775807", NULL },
    { "-9223372036854775808", NULL },
    { "9223372036854775808", NULL }, /* a decimal */
    { "-9223372036854775809", NULL },
    { "12345678901234567", NULL },
    { "123456789012345678901234567890", NULL },
    { "1.0", NULL },
    { "1.50", NULL },
    { "-0.0", NULL },
    { "25.990000000000000001", NULL },
    { "1e2", NULL },
    { "1E+2", NULL },
    { "1.25e-2", NULL },
    { "0e1", NULL },
    { "0E-5", NULL },
    { "1e308", NULL },
    { "1.7976931348623157e308", NULL },
    { "1e-400", NULL },
    { "123e-10000000", "!" },
    { "\"\"", NULL },
    { "\"a\"", NULL },
    { "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\\"\\\\/\\b\\f\\n\\r\\t\"" },
    { "\"\\u0041\\u00e4\\u20ac\"", "\"A\xc3\xa4\xe2\x82\xac\"" },
    { "\"\\uD83D\\uDE00\"", "\"\xf0\x9f\x98\x80\"" },
    { "\"\\ud834\\udd1e\\uFFFF\"", "\"\xf0\x9d\x84\x9e\xef\xbf\xbf\"" },
    { "\"\\uDBFF\\uDFFF\"", "\"\xf4\x8f\xbf\xbf\"" },
    { "\"\\u0001\\u001f\"", NULL },
    { "\"\x7f\"", "\"\\u007f\"" },
    { "\"\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\"", NULL },
    { "\"12345678\"", NULL },
    { "\"1234567\\n12345678\\t1234567890\"", NULL },
    { "\"\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\\\"\xc3\xa4\"", NULL },
    { "\"\\\\\"", NULL },
    { "\"\\\\\\\\\\\"\"", NULL },
    { "[]", NULL },
    { "[ ]", "[]" },
    { "{}", NULL },
    { "{ }", "{}" },
    { "[[]]", NULL },
    { "[{}]", NULL },
    { "[null]", NULL },
    { "[null,null,1]", NULL },
    { "[1,null]", NULL },
    { " [ 1 , 2 , 3 ] ", "[1,2,3]" },
    { "{\"a\":1}", NULL },
    { " { \"a\" : 1 , \"b\" : [ ] } ", "{\"a\":1,\"b\":[]}" },
    { "{\"a\":null,\"b\":{}}", NULL },
    { "{\"b\":1,\"a\":2,\"aa\":3,\"\":4,\"B\":5}",
      "{\"\":4,\"B\":5,\"a\":2,\"aa\":3,\"b\":1}" },
    { "{\"1\":1,\"2\":2}", NULL },
    { "{\"\\u0061\":1}", "{\"a\":1}" },
    { "{\"__index\":1,\"__gc\":2}", "{\"__gc\":2,\"__index\":1}" },
    { "[1.5,{\"x\":[{\"y\":-2}]},\"z\"]", NULL },
};

static void valid_texts(void **state)
{
    lua_State *L = *state;

    for (size_t i = 0; i < COUNT_OF(accepted); i++) {
        const char *text = accepted[i].text, *again = accepted[i].again;
        struct json_fault fault = { 0 };
        struct buf out = { 0 };

        bool read = read_exact(L, slice_of(text), &json_body_limits, &fault);
        if (again != NULL && strcmp(again, "!") == 0) {
            assert_false(read);
            continue;
        }
        if (!read) fail_msg("%s: %s", text, fault.message);
        write_top(L, &out);
        if (!slice_equal(buf_slice(&out), slice_of(again == NULL ? text : again)))
            fail_msg("%s: %.*s", text, (int)out.n, out.p);
        buf_free(&out);
    }
}

/* ---- refused: the text, what is said, and where --------------------------- */

static const struct {
    struct slice text;
    const char *message;
    int line, column;
} refused[] = {
    { SLICE(""), "the text is empty", 1, 1 },
    { SLICE(" \n "), "the text is empty", 2, 2 },
    { SLICE("nul"), "a value was expected", 1, 1 },
    { SLICE("nulL"), "a value was expected", 1, 1 },
    { SLICE("TRUE"), "a value was expected", 1, 1 },
    { SLICE("truth"), "a value was expected", 1, 1 },
    { SLICE("nullx"), "something follows", 1, 5 },
    { SLICE("1 2"), "something follows", 1, 3 },
    { SLICE("{\"a\":1}\0garbage"), "something follows", 1, 8 },
    { SLICE("{\"a\":1}}"), "something follows", 1, 8 },
    { SLICE("[] // x"), "something follows", 1, 4 },
    { SLICE("\0"), "a value was expected", 1, 1 },
    { SLICE("\xef\xbb\xbf{}"), "a value was expected", 1, 1 },
    { SLICE("\xff\xfe{\0}\0"), "a value was expected", 1, 1 },
    { SLICE("'a'"), "a value was expected", 1, 1 },
    { SLICE("NaN"), "a value was expected", 1, 1 },
    { SLICE("Infinity"), "a value was expected", 1, 1 },
    { SLICE("-Infinity"), "no number", 1, 1 },
    { SLICE("\xc2\xa0"
            "1"),
      "a value was expected", 1, 1 },
    { SLICE("\f1"), "a value was expected", 1, 1 },
    /* numbers */
    { SLICE("-"), "no number", 1, 1 },
    { SLICE("+1"), "a value was expected", 1, 1 },
    { SLICE("--1"), "no number", 1, 1 },
    { SLICE("01"), "no number", 1, 1 },
    { SLICE("-01"), "no number", 1, 1 },
    { SLICE("00"), "no number", 1, 1 },
    { SLICE("2."), "no number", 1, 1 },
    { SLICE("[2.]"), "no number", 1, 2 },
    { SLICE("2.e1"), "no number", 1, 1 },
    { SLICE(".1"), "a value was expected", 1, 1 },
    { SLICE("-.1"), "no number", 1, 1 },
    { SLICE("1e"), "no number", 1, 1 },
    { SLICE("1e+"), "no number", 1, 1 },
    { SLICE("1E-"), "no number", 1, 1 },
    { SLICE("1e5.5"), "something follows", 1, 4 },
    { SLICE("1.2.3"), "something follows", 1, 4 },
    { SLICE("1-2"), "something follows", 1, 2 },
    { SLICE("0x10"), "something follows", 1, 2 },
    { SLICE("[1a]"), "a comma or ] was expected", 1, 3 },
    { SLICE("1e309"), "too large", 1, 1 },
    { SLICE("1e999"), "too large", 1, 1 },
    { SLICE("-1e999"), "too large", 1, 1 },
    { SLICE("1.8e308"), "too large", 1, 1 },
    { SLICE("1e-10000"), "too large", 1, 1 },
    { SLICE("0e10000"), "too large", 1, 1 },
    { SLICE("1e99999999999999999999"), "too large", 1, 1 },
    /* strings */
    { SLICE("\""), "the text ends within a string", 1, 2 },
    { SLICE("\"abc"), "the text ends within a string", 1, 5 },
    { SLICE("\"\\"), "the text ends within a string", 1, 3 },
    { SLICE("\"\\\""), "the text ends within a string", 1, 4 },
    { SLICE("\"a\nb\""), "a control character", 1, 3 },
    { SLICE("\"abcdefgh\tb\""), "a control character", 1, 10 },
    { SLICE("\"\x1f\""), "a control character", 1, 2 },
    { SLICE("\"a\0b\""), "a control character", 1, 3 },
    { SLICE("\"\\x41\""), "no escape", 1, 2 },
    { SLICE("\"\\a\""), "no escape", 1, 2 },
    { SLICE("\"\\'\""), "no escape", 1, 2 },
    { SLICE("\"\\\n\""), "no escape", 1, 2 },
    { SLICE("\"\\\0\""), "no escape", 1, 2 },
    { SLICE("\"\\U0041\""), "no escape", 1, 2 },
    { SLICE("\"\\\xc3\xa4\""), "no escape", 1, 2 },
    { SLICE("\"ab\\u12\""), "four hexadecimal digits", 1, 4 },
    { SLICE("\"\\u\""), "four hexadecimal digits", 1, 2 },
    { SLICE("\"\\u00g0\""), "four hexadecimal digits", 1, 2 },
    { SLICE("\"\\u+041\""), "four hexadecimal digits", 1, 2 },
    { SLICE("\"\\u0000\""), "\\u0000 is not allowed", 1, 2 },
    { SLICE("{\"\\u0000\":1}"), "\\u0000 is not allowed", 1, 3 },
    { SLICE("\"\\ud800\""), "surrogate", 1, 2 },
    { SLICE("\"\\udc00\""), "surrogate", 1, 2 },
    { SLICE("\"\\udc00\\ud800\""), "surrogate", 1, 2 },
    { SLICE("\"\\ud800\\ud800\""), "surrogate", 1, 2 },
    { SLICE("\"\\ud800\\n\""), "surrogate", 1, 2 },
    { SLICE("\"\\ud800\\u\""), "surrogate", 1, 2 },
    { SLICE("\"\\ud800\\u12\""), "surrogate", 1, 2 },
    { SLICE("\"\\ud800x\""), "surrogate", 1, 2 },
    { SLICE("\"\\ud83d\\ude0\""), "surrogate", 1, 2 },
    { SLICE("\"\xff\""), "not UTF-8", 1, 2 },
    { SLICE("\"\xc0\xaf\""), "not UTF-8", 1, 2 },
    { SLICE("\"\xed\xa0\x80\""), "not UTF-8", 1, 2 },
    { SLICE("\"\xf4\x90\x80\x80\""), "not UTF-8", 1, 2 },
    { SLICE("\"\xe2\x82\""), "not UTF-8", 1, 2 },
    { SLICE("\"\\n\xe2\x82\""), "not UTF-8", 1, 2 },
    { SLICE("{\"\xff\":1}"), "not UTF-8", 1, 3 },
    /* arrays */
    { SLICE("["), "the text ends where a value was expected", 1, 2 },
    { SLICE("[1"), "the text ends where a comma or ]", 1, 3 },
    { SLICE("[1,"), "the text ends where a value was expected", 1, 4 },
    { SLICE("[1,]"), "a value was expected", 1, 4 },
    { SLICE("[,1]"), "a value was expected", 1, 2 },
    { SLICE("[1,,2]"), "a value was expected", 1, 4 },
    { SLICE("[1 2]"), "a comma or ]", 1, 4 },
    { SLICE("[1}"), "a comma or ]", 1, 3 },
    { SLICE("]"), "a value was expected", 1, 1 },
    { SLICE("[\"a\":1]"), "a comma or ]", 1, 5 },
    { SLICE("[/**/]"), "a value was expected", 1, 2 },
    /* objects */
    { SLICE("{"), "a key in quotation marks was expected", 1, 2 },
    { SLICE("{a:1}"), "a key in quotation marks was expected", 1, 2 },
    { SLICE("{'a':1}"), "a key in quotation marks", 1, 2 },
    { SLICE("{1:1}"), "a key in quotation marks", 1, 2 },
    { SLICE("{\"a\"}"), "a colon was expected", 1, 5 },
    { SLICE("{\"a\":}"), "a value was expected", 1, 6 },
    { SLICE("{\"a\" 1}"), "a colon was expected", 1, 6 },
    { SLICE("{\"a\":1"), "a comma or }", 1, 7 },
    { SLICE("{\"a\":1,}"), "a key in quotation marks", 1, 8 },
    { SLICE("{,\"a\":1}"), "a key in quotation marks", 1, 2 },
    { SLICE("{\"a\":1 \"b\":2}"), "a comma or }", 1, 8 },
    { SLICE("{\"a\":1]"), "a comma or }", 1, 7 },
    { SLICE("{\"a\":1,\"b\":2,\"a\":3}"), "the key \"a\" comes twice", 1, 14 },
    { SLICE("{\"a\":1,\"\\u0061\":3}"), "the key \"a\" comes twice", 1, 8 },
    { SLICE("{\"a\":null,\"a\":null}"), "the key \"a\" comes twice", 1, 11 },
    { SLICE("{\"a\":false,\n \"a\":1}"), "the key \"a\" comes twice", 2, 2 },
    { SLICE("{\"\":1,\"\":2}"), "the key \"\" comes twice", 1, 7 },
    { SLICE("{\"x\":\"\xc3\xa4\xc3\xa4\",\"x\":1}"), "comes twice", 1, 11 },
    { SLICE("{\"a\":1,\n\n  \"b\":tru}"), "a value was expected", 3, 7 },
};

static void invalid_texts(void **state)
{
    lua_State *L = *state;

    for (size_t i = 0; i < COUNT_OF(refused); i++) {
        struct json_fault fault = { 0 };

        if (read_exact(L, refused[i].text, &json_body_limits, &fault))
            fail_msg("accepted: %s", refused[i].text.p);
        if (strstr(fault.message, refused[i].message) == NULL ||
            fault.line != refused[i].line || fault.column != refused[i].column)
            fail_msg("%s: %s at %d:%d", refused[i].text.p, fault.message, fault.line,
                     fault.column);
        assert_true(fault.offset <= refused[i].text.n);
    }
}

static void long_duplicates_are_cut_at_a_character(void **state)
{
    char text[420];
    struct json_fault fault;

    for (int shift = 0; shift < 3; shift++) {
        char key[200] = "";
        for (int i = 0; i < shift; i++) strcat(key, "x");
        for (int i = 0; i < 40; i++) strcat(key, "\xe2\x82\xac");
        snprintf(text, sizeof text, "{\"%s\":1,\"%s\":2}", key, key);
        assert_false(read_exact(*state, slice_of(text), &json_body_limits, &fault));
        assert_non_null(strstr(fault.message, "\xac\" comes twice"));
    }
}

/* Whatever ends early is refused; a container's prefix is never a text itself. */
static void every_prefix_is_refused(void **state)
{
    static const char text[] =
        "{\"name\":\"Caf\\u00e9 \xf0\x9f\x98\x80 \\ud83d\\ude00\",\"price\":25.990,"
        "\"n\":[-12,1e-2,true,false,null,{}],\"deep\":[[[\"\\\\\\\"\"]]]}";
    struct json_fault fault;

    for (size_t n = 0; n < sizeof text - 1; n++)
        assert_false(
            read_exact(*state, (struct slice){ text, n }, &json_body_limits, &fault));
    assert_true(read_exact(*state, (struct slice){ text, sizeof text - 1 },
                           &json_body_limits, &fault));
}

/* ---- limits --------------------------------------------------------------- */

static void nest(struct buf *b, const char *open, const char *middle, const char *close,
                 int n)
{
    buf_clear(b);
    for (int i = 0; i < n; i++) buf_add_text(b, open);
    buf_add_text(b, middle);
    for (int i = 0; i < n; i++) buf_add_text(b, close);
}

static void depth_has_a_limit(void **state)
{
    struct json_fault fault;
    struct buf b = { 0 };

    nest(&b, "[", "", "]", 32);
    assert_true(read_exact(*state, buf_slice(&b), NULL, &fault));
    nest(&b, "[", "", "]", 33);
    assert_false(read_exact(*state, buf_slice(&b), NULL, &fault));
    assert_string_equal(fault.message, "nested more than 32 deep");
    assert_int_equal(fault.offset, 32);
    nest(&b, "{\"a\":", "1", "}", 32);
    assert_true(read_exact(*state, buf_slice(&b), &json_body_limits, &fault));
    nest(&b, "{\"a\":", "1", "}", 33);
    assert_false(read_exact(*state, buf_slice(&b), &json_body_limits, &fault));
    nest(&b, "[", "", "]", 100000);
    assert_false(read_exact(*state, buf_slice(&b), &json_script_limits, &fault));
    nest(&b, "[", "", "]", 100);
    assert_true(read_exact(*state, buf_slice(&b), &json_script_limits, &fault));
    nest(&b, "[[],{},", "[]", "]", 31); /* siblings do not add up */
    assert_true(read_exact(*state, buf_slice(&b), &json_body_limits, &fault));
    buf_free(&b);
}

static void values_have_a_limit(void **state)
{
    struct json_fault fault;
    struct buf b = { 0 };

    for (int extra = 0; extra <= 1; extra++) {
        buf_clear(&b);
        BUF_ADD(&b, "[0");
        for (int i = 2; i < 10000 + extra; i++) BUF_ADD(&b, ",0");
        BUF_ADD(&b, "]");
        assert_int_equal(read_exact(*state, buf_slice(&b), &json_body_limits, &fault),
                         extra == 0);
    }
    assert_string_equal(fault.message, "more than 10000 values");
    buf_clear(&b);
    BUF_ADD(&b, "{\"k0\":0");
    for (int i = 1; i < 9999; i++) buf_addf(&b, ",\"k%d\":0", i);
    BUF_ADD(&b, "}");
    assert_true(read_exact(*state, buf_slice(&b), &json_body_limits, &fault));
    buf_free(&b);
}

static void numbers_have_a_length(void **state)
{
    struct json_fault fault;
    struct buf b = { 0 };

    for (int n = 398; n <= 399; n++) { /* and "0." in front */
        buf_clear(&b);
        BUF_ADD(&b, "0.");
        for (int i = 0; i < n; i++) BUF_ADD(&b, "7");
        assert_int_equal(read_exact(*state, buf_slice(&b), &json_body_limits, &fault),
                         n == 398);
    }
    assert_string_equal(fault.message, "a number has more than 400 characters");
    buf_free(&b);
}

/* ---- what becomes of the values ------------------------------------------- */

static const char *const truths[] = {
    "math.type(json.decode('12')) == 'integer'",
    "json.decode('9223372036854775807') == math.maxinteger",
    "json.decode('-9223372036854775808') == math.mininteger",
    "math.type(json.decode('9223372036854775808')) == 'float'",
    "json.decode('1.50') == 1.5 and math.type(json.decode('1.0')) == 'float'",
    "json.decode('1e2') == 100.0 and json.decode('1e-400') == 0.0",
    "math.type(json.decode('-0')) == 'integer' and json.decode('-0') == 0",
    "decimal.is(json.decode('1.50', { exact = true }))",
    "tostring(json.decode('1.50', { exact = true })) == '1.50'",
    "math.type(json.decode('3', { exact = true })) == 'integer'",
    "json.decode('[1,null]')[2] == json.null and json.null == cjson.null",
    "json.decode('{\"a\":null}').a == json.null",
    "json.is_array(json.decode('[]')) and not json.is_array(json.decode('{}'))",
    "#json.decode('[1,2,3]') == 3 and json.decode('[1,[2,3]]')[2][1] == 2",
    "getmetatable(json.decode('[]')) == false and getmetatable(json.decode('{}')) == nil",
    "select('#', json.decode('x')) == 2 and json.decode('x') == nil",
    "select(2, json.decode('{\"a\":1,\\n\"a\":2}')) == "
    "'the key \"a\" comes twice (line 2, column 1)'",
    "not pcall(json.decode, 5) and not pcall(json.decode) and not pcall(json.decode, '1', 2)",
    /* writing */
    "json.encode(nil) == 'null' and json.encode(json.null) == 'null'",
    "json.encode(true) == 'true' and json.encode(false) == 'false'",
    "json.encode(math.mininteger) == '-9223372036854775808'",
    "json.encode(12345678901234567) == '12345678901234567'",
    "json.encode(1.0) == '1' and json.encode(-0.0) == '0' and json.encode(-3.0) == '-3'",
    "json.encode(0.1) == '0.1' and json.encode(1.5) == '1.5' and json.encode(1/3) == "
    "'0.3333333333333333'",
    "tonumber(json.encode(1e300)) == 1e300 and tonumber(json.encode(5e-324)) == 5e-324",
    "json.encode(2.0^53) == '9007199254740992'",
    "json.encode(money('25.9')) == '25.90' and json.encode(money(-3)) == '-3.00'",
    "json.encode(decimal('1.500')) == '1.500'",
    "json.encode('a\"\\\\\\n\\0\\x7f\\u{20ac}') == '\"a\\\\\"\\\\\\\\\\\\n\\\\u0000\\\\u007f\\u{20ac}\"'",
    "json.encode({}) == '{}' and json.encode(json.array()) == '[]'",
    "json.encode(json.array {}) == '[]' and json.encode(json.object {}) == '{}'",
    "json.encode({ 1, 2, 3 }) == '[1,2,3]'",
    "json.encode({ { 1 }, { a = 1 } }) == '[[1],{\"a\":1}]'",
    "json.encode(json.array { 'a', json.null }) == '[\"a\",null]'",
    "json.encode({ b = 1, a = 2, ['a b'] = 3, A = 4, [''] = 5 }) == "
    "'{\"\":5,\"A\":4,\"a\":2,\"a b\":3,\"b\":1}'",
    "json.encode({ ['1'] = 1 }) == '{\"1\":1}'",
    "json.encode({ [1.0] = 'x' }) == '[\"x\"]'",
    "json.encode({ ['\\u{e4}'] = 1, z = 2 }) == '{\"z\":2,\"\\u{e4}\":1}'",
    /* metamethods do not count, but for marks and columns */
    "json.encode(setmetatable({ a = 1 }, { __index = { b = 2 }, __len = function() return 5 end,"
    " __pairs = error })) == '{\"a\":1}'",
    "json.encode(setmetatable({ 1, 2 }, { __index = { 3 }, __len = function() return 3 end }))"
    " == '[1,2]'",
    /* rows */
    "json.encode(row({ 'id', 'name', 'price' }, { price = money(1), id = 7, name = 'x' })) == "
    "'{\"id\":7,\"name\":\"x\",\"price\":1.00}'",
    "json.encode(row({ 'id', 'name' }, {})) == '{\"id\":null,\"name\":null}'",
    "json.encode(row({ 'z', 'a' }, { a = 1, m = 2, b = 3 })) == "
    "'{\"z\":null,\"a\":1,\"b\":3,\"m\":2}'",
    "json.encode(row({}, {})) == '{}' and json.encode(row({}, { a = 1 })) == '{\"a\":1}'",
    "json.encode({ row({ 'b', 'a' }, { a = 1 }), row({ 'b', 'a' }, { b = 2 }) }) == "
    "'[{\"b\":null,\"a\":1},{\"b\":2,\"a\":null}]'",
    "json.encode(row({ 'a' }, { a = row({ 'b' }, { b = {} , c = 1 }) })) == "
    "'{\"a\":{\"b\":{},\"c\":1}}'",
    "json.encode(row({ 'a' }, { a = false })) == '{\"a\":false}'",
    /* read-only tables: the fields are in a hidden one */
    "json.encode(setmetatable({}, { __frozen = { 'a', 'b' } })) == '[\"a\",\"b\"]'",
    "json.encode(setmetatable({}, { __frozen = { b = 1, a = {} } })) == '{\"a\":{},\"b\":1}'",
    /* each length and place, so that steps of eight bytes miss nothing */
    "escapes()",
    /* marks */
    "rawequal(json.array(t), t) and json.array(json.array(t)) == t",
    "json.is_array(json.array()) and not json.is_array(json.object()) and not json.is_array(1)",
    "not json.is_array({ 1 }) and not json.is_array()",
    "json.text('a\\u{e9}\\0') == 'a\\u{e9}\\0' and json.text('') == ''",
    "json.text('a\\xffb\\xc3') == 'a\\u{fffd}b\\u{fffd}'",
    "not pcall(json.array, json.object {}) and not pcall(json.array, 1)",
    "not pcall(json.array, setmetatable({}, {}))",
    "not pcall(setmetatable, json.array {}, {})",
    /* depth: what is written can be read */
    "json.encode(json.decode(('['):rep(100) .. (']'):rep(100))) == ('['):rep(100) .. (']'):rep(100)",
};

static const char helpers[] =
    "t = {}\n"
    "function escapes()\n"
    "  for n = 1, 20 do for at = 1, n do for byte = 1, 127 do\n"
    "    local s = ('x'):rep(at - 1) .. string.char(byte) .. ('!'):rep(n - at)\n"
    "    local text = json.encode(s)\n"
    "    assert(json.decode(text) == s and cjson.decode(text) == s)\n"
    "    local plain = byte >= 32 and byte ~= 127 and byte ~= 34 and byte ~= 92\n"
    "    assert((#text == n + 2) == plain)\n"
    "    assert(not pcall(json.encode, ('x'):rep(at - 1) .. '\\xff' .. ('!'):rep(n - at)))\n"
    "  end end end\n"
    "  return true\n"
    "end\n"
    "function row(columns, values)\n"
    "  return setmetatable(values, { __name = 'row', __columns = columns, __index = {} })\n"
    "end\n";

static void truths_hold(void **state)
{
    lua_State *L = *state;

    assert_int_equal(luaL_dostring(L, helpers), LUA_OK);
    for (size_t i = 0; i < COUNT_OF(truths); i++) {
        lua_pushfstring(L, "return %s", truths[i]);
        if (luaL_dostring(L, lua_tostring(L, -1)) != LUA_OK)
            fail_msg("%s: %s", truths[i], lua_tostring(L, -1));
        if (!lua_toboolean(L, -1)) fail_msg("does not hold: %s", truths[i]);
        lua_settop(L, 0);
    }
}

/* ---- what cannot be written ------------------------------------------------ */

static const struct {
    const char *code, *message;
} errors[] = {
    { "0/0", "NaN and the infinities cannot be JSON" },
    { "{ a = { 1, math.huge } }", "cannot be JSON, at .a[2]" },
    { "{ items = { { x = 1 }, { x = print } } }",
      "a function cannot be JSON, at .items[2].x" },
    { "coroutine.create(print)", "a coroutine cannot be JSON" },
    { "io.stdout", "this userdata cannot be JSON" },
    { "'\\xff'", "a string is not UTF-8" },
    { "{ a = '\\xc3' }", "a string is not UTF-8, at .a" },
    { "{ ['\\xff'] = 1 }", "a string is not UTF-8, at .?" },
    { "{ 1, 2, a = 3 }", "a table is neither a list" },
    { "{ [2] = 1 }", "a table is neither a list" },
    { "{ 1, nil, 3 }", "a table is neither a list" },
    { "{ a = { [7] = 1 } }", "at .a[7]" },
    { "{ [1.5] = 1 }", "a table is neither a list" },
    { "{ [true] = 1 }", "a table is neither a list" },
    { "json.object { 1 }", "a table is neither a list" },
    { "json.array { 1, a = 2 }", "a json.array has a hole or other keys" },
    { "json.array { 1, nil, 3 }", "a json.array has a hole or other keys" },
    { "{ x = json.array { a = 2 } }",
      "a json.array has a hole or other keys than 1..n, at .x" },
    { "row({ 1 }, {})", "__columns is no list of names" },
    { "row({ 'a' }, { a = 1, [1] = 2 })", "a table is neither a list" },
    { "row({ 'a' }, { a = print })", "a function cannot be JSON, at .a" },
    { "cycle", "nested more than 100 deep, or a table holds itself" },
    { "deep(100)", "nested more than 100 deep" },
    { "double(60)", "more than 16 MiB" },
    { "('x'):rep(17 * 1024 * 1024)", "more than 16 MiB" },
    { "many(600000)", "too many keys" },
};

static void faults_say_where(void **state)
{
    static const char more[] =
        "cycle = {} cycle[1] = cycle\n"
        "function deep(n) local t = {} for i = 1, n do t = { t } end return t end\n"
        "function double(n) local t = { 1 } for i = 1, n do t = { t, t } end return t end\n"
        "function many(n) local t = {} for i = 1, n do t['k' .. i] = 1 end return t end\n"
        "assert(json.encode(deep(99)) == ('['):rep(99) .. '{}' .. (']'):rep(99))\n"
        "assert(#json.encode(many(100000)) > 100000)\n"
        "assert(#json.encode(('x'):rep(15 * 1024 * 1024)) == 15 * 1024 * 1024 + 2)\n";
    lua_State *L = *state;

    if (luaL_dostring(L, helpers) || luaL_dostring(L, more))
        fail_msg("%s", lua_tostring(L, -1));
    for (size_t i = 0; i < COUNT_OF(errors); i++) {
        lua_pushfstring(L, "return json.encode(%s)", errors[i].code);
        if (luaL_dostring(L, lua_tostring(L, -1)) == LUA_OK)
            fail_msg("written: %s", errors[i].code);
        if (strstr(lua_tostring(L, -1), errors[i].message) == NULL)
            fail_msg("%s: %s", errors[i].code, lua_tostring(L, -1));
        lua_settop(L, 0);
        assert_int_equal(mem_live(), live);
    }
}

static void a_fault_leaves_what_was_there(void **state)
{
    lua_State *L = *state;
    struct buf out = { 0 };
    const char *fault = NULL;

    BUF_ADD(&out, "before");
    assert_int_equal(luaL_dostring(L, "return { a = { 1, 2, print } }"), LUA_OK);
    assert_false(json_write(L, 1, &out, &fault));
    assert_true(slice_equal(buf_slice(&out), SLICE("before")));
    assert_int_equal(lua_gettop(L), 1);
    lua_pushinteger(L, 5);
    assert_true(json_write(L, -1, &out, &fault));
    assert_true(slice_equal(buf_slice(&out), SLICE("before5")));
    buf_free(&out);
}

static void bytes_are_spliced(void **state)
{
    lua_State *L = *state;

    bytes_push(L, SLICE("[{\"raw\": 1}]"), true, NULL, NULL);
    lua_setglobal(L, "raw");
    bytes_push(L, SLICE("\"q\""), false, NULL, NULL);
    lua_setglobal(L, "text");
    bytes_push(L, SLICE("\xff"), false, NULL, NULL);
    lua_setglobal(L, "binary");
    bytes_push_empty(L)->json = true;
    lua_setglobal(L, "nothing");
    lua_pushlightuserdata(L, L);
    lua_setglobal(L, "light");
    if (luaL_dostring(L, "assert(json.encode({ data = raw, success = true }) == "
                         "'{\"data\":[{\"raw\": 1}],\"success\":true}')\n"
                         "assert(json.encode(text) == '\"\\\\\"q\\\\\"\"')\n"
                         "assert(json.decode(raw)[1].raw == 1)\n"
                         "assert(not pcall(json.encode, binary))\n"
                         "assert(not pcall(json.encode, nothing))\n"
                         "assert(not pcall(json.encode, light))\n"))
        fail_msg("%s", lua_tostring(L, -1));
}

/* The same members in another order of insertion, hash seed and history. */
static void the_same_value_is_the_same_bytes(void **state)
{
    static const char code[] =
        "math.randomseed(7)\n"
        "for round = 1, 200 do\n"
        "  local n, keys, first = math.random(0, 40), {}, nil\n"
        "  for i = 1, n do keys[i] = ('k'):rep(math.random(0, 3)) .. i end\n"
        "  for try = 1, 3 do\n"
        "    local t = {}\n"
        "    for i = n, 2, -1 do local j = math.random(i) keys[i], keys[j] = keys[j], keys[i] end\n"
        "    for i = 1, 20 do t['gone' .. i] = 1 end\n"
        "    for _, k in ipairs(keys) do t[k] = #k end\n"
        "    for i = 1, 20 do t['gone' .. i] = nil end\n"
        "    first = first or json.encode(t)\n"
        "    assert(json.encode(t) == first)\n"
        "  end\n"
        "  local last\n"
        "  for key in first:gmatch('\"(k*%d+)\"') do\n"
        "    assert(not last or last < key) last = key\n"
        "  end\n"
        "end\n";

    if (luaL_dostring(*state, code)) fail_msg("%s", lua_tostring(*state, -1));
}

/* ---- random documents, lua-cjson as the oracle ------------------------------ */

static uint64_t seed;

static uint32_t dice(uint32_t n)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(seed >> 33) % n;
}

static void random_text(struct buf *b)
{
    static const char *const bits[] = { "a",
                                        "bc",
                                        " ",
                                        "0",
                                        "\\n",
                                        "\\\"",
                                        "/",
                                        "\xc3\xa4",
                                        "\\u00e4",
                                        "\\\\",
                                        "12345678",
                                        "\xf0\x9f\x98\x80",
                                        "\\uD83D\\uDE00" };

    for (uint32_t n = dice(6); n > 0; n--) buf_add_text(b, bits[dice(COUNT_OF(bits))]);
}

static void random_number(struct buf *b)
{
    switch (dice(5)) {
    case 0: buf_addf(b, "%d", (int)dice(200) - 100); break;
    case 1:
        buf_addf(b, "%s%u%u", dice(2) ? "-" : "", 1 + dice(2000000), dice(2000000));
        break;
    case 2: buf_addf(b, "%d.%02u", (int)dice(2000) - 1000, dice(100)); break;
    case 3:
        buf_addf(b, "%d.%ue%d", (int)dice(10), dice(1000), (int)dice(600) - 300);
        break;
    default: buf_addf(b, "%uE+%u", dice(1000), dice(20)); break;
    }
}

static void random_value(struct buf *b, int depth)
{
    static const char *const spaces[] = { "", "", "", " ", "\n", "\t \r\n" };
    uint32_t n = dice(5);

    buf_add_text(b, spaces[dice(COUNT_OF(spaces))]);
    switch (dice(depth > 0 ? 7 : 4)) {
    case 0: buf_add_text(b, dice(2) ? "true" : "null"); break;
    case 1: random_number(b); break;
    case 2:
    case 3:
        BUF_ADD(b, "\"");
        random_text(b);
        BUF_ADD(b, "\"");
        break;
    case 4:
    case 5:
        BUF_ADD(b, "{");
        for (uint32_t i = 0; i < n; i++) {
            buf_addf(b, "%s\"%u", i == 0 ? "" : ",", i); /* no key twice */
            random_text(b);
            BUF_ADD(b, "\":");
            random_value(b, depth - 1);
        }
        BUF_ADD(b, "}");
        break;
    default:
        BUF_ADD(b, "[");
        for (uint32_t i = 0; i < n; i++) {
            if (i > 0) BUF_ADD(b, ",");
            random_value(b, depth - 1);
        }
        BUF_ADD(b, "]");
    }
    buf_add_text(b, spaces[dice(COUNT_OF(spaces))]);
}

static const char oracle[] =
    "local function same(a, b)\n"
    "  if type(a) ~= 'table' or type(b) ~= 'table' then return a == b end\n"
    "  for k, v in pairs(a) do if not same(v, b[k]) then return false end end\n"
    "  for k in pairs(b) do if a[k] == nil then return false end end\n"
    "  return true\n"
    "end\n"
    "local text, must = ...\n"
    "local ours, why = json.decode(text)\n"
    "if ours == nil then assert(not must, why) return false end\n"
    "assert(same(ours, cjson.decode(text)), 'read differs')\n"
    "local written = json.encode(ours)\n"
    "assert(same(json.decode(written), ours), 'written differs')\n"
    "assert(same(cjson.decode(written), ours), 'written differs for cjson')\n"
    "assert(json.encode(json.decode(written)) == written, 'not stable')\n"
    "local exact = json.encode(json.decode(text, { exact = true }))\n"
    "assert(same(cjson.decode(exact), ours), 'exact differs')\n"
    "return true\n";

/* Runs the oracle; whether we accepted the text. */
static bool compare(lua_State *L, struct slice text, bool must)
{
    bool read;

    lua_pushvalue(L, 1);
    lua_pushlstring(L, text.p, text.n);
    lua_pushboolean(L, must);
    if (lua_pcall(L, 2, 1, 0) != LUA_OK)
        fail_msg("%s: %.*s", lua_tostring(L, -1), (int)text.n, text.p);
    read = lua_toboolean(L, -1);
    lua_settop(L, 1);
    return read;
}

static void random_documents(void **state)
{
    lua_State *L = *state;
    struct buf b = { 0 };
    int still_valid = 0;

    seed = 20240607;
    assert_int_equal(luaL_loadstring(L, oracle), LUA_OK);
    for (int i = 0; i < 3000; i++) {
        buf_clear(&b);
        random_value(&b, 5);
        assert_true(compare(L, buf_slice(&b), true));

        /* What we accept of a damaged text, cjson, which is laxer, accepts, too. */
        for (int k = 0; k < 3 && b.n > 0; k++) {
            static const char marks[] = "[]{},:\"\\ 0e-.1tn\xc3";
            size_t at = dice((uint32_t)b.n);
            if (dice(3) == 0) buf_drop(&b, at < 4 ? at : 4);
            else b.p[at] = marks[dice(sizeof marks - 1)];
            still_valid += b.n > 0 && compare(L, buf_slice(&b), false);
        }
    }
    assert_true(still_valid > 100);
    buf_free(&b);
}

/* ---- every allocation fails once -------------------------------------------- */

static struct {
    long left, live; /* left: allocations that succeed; -1: all of them */
} heap;

/* Once one has failed all do: Lua tries again after a full collection. */
static void *failing_alloc(void *ud, void *block, size_t old_size, size_t size)
{
    (void)ud;
    if (size == 0) {
        if (block != NULL) heap.live--;
        free(block);
        return NULL;
    }
    if (block == NULL || size > old_size) {
        if (heap.left > 0) heap.left--;
        if (heap.left == 0) return NULL;
    }
    void *p = realloc(block, size);
    if (p != NULL && block == NULL) heap.live++;
    return p;
}

static const char document[] =
    "{\"a\":[1,2.50,\"x\\n\\u00e4 a longer string that is not interned, and more\",null],"
    "\"b\":{\"c\":{},\"d\":[[]],\"e\":true},\"f\":12345678901234567890}";

static int everything(lua_State *L)
{
    struct json_fault fault;
    struct buf *out = lua_touserdata(L, 1);
    const char *why;

    open_modules(L);
    if (json_read(L, slice_of("{\"a\":[1,{\"b\":\"\\n"), &json_body_limits, &fault))
        return luaL_error(L, "half a text");
    if (!json_read(L, slice_of(document), &json_body_limits, &fault))
        return luaL_error(L, "%s", fault.message);
    money_push(L, 5);
    lua_setfield(L, -2, "m");
    if (!json_write(L, -1, out, &why)) return luaL_error(L, "not enough memory: %s", why);
    lua_getglobal(L, "json");
    lua_getfield(L, -1, "encode");
    lua_pushvalue(L, -3);
    lua_call(L, 1, 1);
    lua_getfield(L, -2, "decode");
    lua_insert(L, -2);
    lua_call(L, 1, 1);
    return 0;
}

static int run_everything(lua_State *L)
{
    struct buf out = { 0 };
    int status;

    lua_settop(L, 0);
    lua_pushcfunction(L, everything);
    lua_pushlightuserdata(L, &out);
    status = lua_pcall(L, 1, 0, 0);
    buf_free(&out);
    return status;
}

static void luas_memory_may_end_anywhere(void **state)
{
    bool done = false;
    long before = mem_live();

    (void)state;
    for (long n = 0; !done; n++) {
        heap.left = -1;
        heap.live = 0;
        lua_State *L = lua_newstate(failing_alloc, NULL);
        assert_non_null(L);
        heap.left = n + 1;
        int status = run_everything(L);
        done = heap.left > 0;
        heap.left = -1;
        if (done && status != LUA_OK) fail_msg("%s", lua_tostring(L, -1));
        if (!done) assert_int_not_equal(status, LUA_OK);
        assert_int_equal(run_everything(L), LUA_OK);
        lua_close(L);
        assert_int_equal(heap.live, 0);
        assert_int_equal(mem_live(), before);
        assert_true(n < 10000);
    }
}

static void our_memory_may_end_anywhere(void **state)
{
    lua_State *L = *state;
    bool done = false;

    /* More members than fit without a heap, in an object within an object. */
    assert_int_equal(
        luaL_dostring(L, "wide = { s = ('x'):rep(3000) }\n"
                         "for i = 1, 100 do wide['k' .. i] = { a = i, b = i } end"),
        LUA_OK);
    for (long n = 0; !done; n++) {
        assert_int_equal(luaL_loadstring(L, "return #json.encode(wide)"), LUA_OK);
        mem_fail_after(n);
        int status = lua_pcall(L, 0, 1, 0);
        done = !mem_failed();
        mem_fail_after(-1);
        if (done) assert_int_equal(status, LUA_OK);
        else assert_non_null(strstr(lua_tostring(L, -1), "not enough memory"));
        lua_settop(L, 0);
        assert_int_equal(mem_live(), live);
        assert_true(n < 1000);
    }
}

/* Without room to grow nothing counts towards the bound on bytes: it must end anyhow. */
static void no_memory_ends_the_writing(void **state)
{
    lua_State *L = *state;

    assert_int_equal(
        luaL_dostring(L, "big = { 1 } for i = 1, 60 do big = { big, big } end"), LUA_OK);
    assert_int_equal(luaL_loadstring(L, "return json.encode(big)"), LUA_OK);
    mem_fail_after(3);
    assert_int_equal(lua_pcall(L, 0, 1, 0), LUA_ERRRUN);
    mem_fail_after(-1);
    assert_non_null(strstr(lua_tostring(L, -1), "not enough memory"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(valid_texts, setup, teardown),
        cmocka_unit_test_setup_teardown(invalid_texts, setup, teardown),
        cmocka_unit_test_setup_teardown(long_duplicates_are_cut_at_a_character, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(every_prefix_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(depth_has_a_limit, setup, teardown),
        cmocka_unit_test_setup_teardown(values_have_a_limit, setup, teardown),
        cmocka_unit_test_setup_teardown(numbers_have_a_length, setup, teardown),
        cmocka_unit_test_setup_teardown(truths_hold, setup, teardown),
        cmocka_unit_test_setup_teardown(faults_say_where, setup, teardown),
        cmocka_unit_test_setup_teardown(a_fault_leaves_what_was_there, setup, teardown),
        cmocka_unit_test_setup_teardown(bytes_are_spliced, setup, teardown),
        cmocka_unit_test_setup_teardown(the_same_value_is_the_same_bytes, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(random_documents, setup, teardown),
        cmocka_unit_test(luas_memory_may_end_anywhere),
        cmocka_unit_test_setup_teardown(our_memory_may_end_anywhere, setup, teardown),
        cmocka_unit_test_setup_teardown(no_memory_ends_the_writing, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
