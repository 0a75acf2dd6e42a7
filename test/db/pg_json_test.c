/* Results as JSON; no server is needed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "db/pg_json.h"

enum { INTERVAL = 1186, BOX_ARRAY = 1020 };

static PGresult *result_of(int columns, const char *const names[], const Oid types[])
{
    PGresult *result = PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK);
    PGresAttDesc attributes[80] = { 0 };

    assert_non_null(result);
    for (int i = 0; i < columns; i++) {
        attributes[i].name = (char *)(uintptr_t)names[i];
        attributes[i].typid = types[i];
    }
    assert_int_equal(PQsetResultAttrs(result, columns, attributes), 1);
    return result;
}

/* NULL is NULL */
static void set(PGresult *result, int row, int column, const char *value)
{
    char *copy = (char *)(uintptr_t)value;

    assert_int_equal(
        PQsetvalue(result, row, column, copy, value == NULL ? -1 : (int)strlen(value)),
        1);
}

static void expect_json(Oid type, const char *value, const char *json)
{
    const char *const names[] = { "v" };
    PGresult *result = result_of(1, names, &type);
    struct buf b = { 0 };

    set(result, 0, 0, value);
    pg_json_value(&b, result, 0, 0);
    buf_add_byte(&b, '\0');
    assert_false(b.failed);
    assert_string_equal(b.p, json);
    buf_free(&b);
    PQclear(result);
}

/* ---- values ---------------------------------------------------------------------------- */

static void values(void **state)
{
    static const struct {
        Oid type;
        const char *value, *json;
    } cases[] = {
        { PG_TEXT, NULL, "null" },
        { PG_INT4, NULL, "null" },
        { PG_TEXT, "", "\"\"" },
        { PG_TEXT, "a\"b\\c\n\x01\t", "\"a\\\"b\\\\c\\n\\u0001\\t\"" },
        { PG_TEXT, "K\xc3\xa4se \xf0\x9f\x8e\x82", "\"K\xc3\xa4se \xf0\x9f\x8e\x82\"" },
        { PG_VARCHAR, "x", "\"x\"" },
        { PG_BOOL, "t", "true" },
        { PG_BOOL, "f", "false" },
        { PG_INT2, "-32768", "-32768" },
        { PG_INT8, "9223372036854775807", "9223372036854775807" },
        { PG_OID, "4294967295", "4294967295" },
        { PG_NUMERIC, "25.990000000000000001", "25.990000000000000001" },
        { PG_NUMERIC, "-0.5", "-0.5" },
        { PG_NUMERIC, "NaN", "null" },
        { PG_NUMERIC, "Infinity", "null" },
        { PG_NUMERIC, "-Infinity", "null" },
        { PG_FLOAT8, "1e+20", "1e+20" },
        { PG_FLOAT8, "NaN", "null" },
        { PG_FLOAT4, "-Infinity", "null" },
        { PG_JSON, "{\"a\" : [1, null]}", "{\"a\" : [1, null]}" },
        { PG_JSONB, "null", "null" },
        { PG_UUID, "10000000-0000-0000-0000-000000000001",
          "\"10000000-0000-0000-0000-000000000001\"" },
        { PG_DATE, "2026-01-15", "\"2026-01-15\"" },
        { PG_BYTEA, "\\x00ff", "\"\\\\x00ff\"" },
        { INTERVAL, "1 day 02:00:00", "\"1 day 02:00:00\"" },
        { PG_TIMESTAMP, "2026-01-15 10:30:00", "\"2026-01-15 10:30:00\"" },
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        expect_json(cases[i].type, cases[i].value, cases[i].json);
}

static void timestamps(void **state)
{
    static const char *const cases[][2] = {
        { "2026-01-15 10:30:00+00", "\"2026-01-15T10:30:00.000Z\"" },
        { "2026-01-15 10:30:00.1+00", "\"2026-01-15T10:30:00.100Z\"" },
        { "2026-01-15 10:30:00.12+00", "\"2026-01-15T10:30:00.120Z\"" },
        { "2026-01-15 10:30:00.123+00", "\"2026-01-15T10:30:00.123Z\"" },
        { "2026-01-15 10:30:00.123999+00", "\"2026-01-15T10:30:00.123Z\"" },
        { "0001-01-01 00:00:00+00", "\"0001-01-01T00:00:00.000Z\"" },
        { "infinity", "\"infinity\"" },
        { "-infinity", "\"-infinity\"" },
        { "0044-03-15 00:00:00+00 BC", "\"0044-03-15 00:00:00+00 BC\"" },
        { "12026-01-15 10:30:00+00", "\"12026-01-15 10:30:00+00\"" },
        { "2026-01-15 10:30:00+02", "\"2026-01-15 10:30:00+02\"" },
        { "2026-01-15 10:30:00+05:30", "\"2026-01-15 10:30:00+05:30\"" },
        { "", "\"\"" },
    };
    struct buf b = { 0 };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        expect_json(PG_TIMESTAMPTZ, cases[i][0], cases[i][1]);
    for (const char *end = cases[4][0]; *end != '\0'; end++) { /* every part of one */
        struct slice part = { cases[4][0], (size_t)(end - cases[4][0]) };

        assert_false(pg_text_timestamp(&b, part));
    }
    assert_int_equal(b.n, 0);
    buf_free(&b);
}

static void arrays(void **state)
{
    static const struct {
        Oid type;
        const char *value, *json;
    } cases[] = {
        { PG_INT4_ARRAY, "{}", "[]" },
        { PG_INT4_ARRAY, "{1,NULL,-3}", "[1,null,-3]" },
        { PG_INT4_ARRAY, NULL, "null" },
        { PG_BOOL_ARRAY, "{t,f}", "[true,false]" },
        { PG_NUMERIC_ARRAY, "{1.50,NaN}", "[1.50,null]" },
        { PG_FLOAT8_ARRAY, "{1,-Infinity}", "[1,null]" },
        { PG_TEXT_ARRAY, "{a,\"b c\",\"NULL\",NULL,\"\",\"q\\\"\\\\\"}",
          "[\"a\",\"b c\",\"NULL\",null,\"\",\"q\\\"\\\\\"]" },
        { PG_TEXT_ARRAY, "{\"{x}\",\"a,b\"}", "[\"{x}\",\"a,b\"]" },
        { PG_JSONB_ARRAY, "{\"{\\\"a\\\": 1}\",NULL}", "[{\"a\": 1},null]" },
        { PG_DATE_ARRAY, "{2026-01-15}", "[\"2026-01-15\"]" },
        { PG_TIMESTAMPTZ_ARRAY, "{\"2026-01-15 10:30:00+00\"}",
          "[\"2026-01-15T10:30:00.000Z\"]" },
        { PG_UUID_ARRAY, "{10000000-0000-0000-0000-000000000001}",
          "[\"10000000-0000-0000-0000-000000000001\"]" },
        { PG_INT4_ARRAY, "{{1,2},{3,4}}", "\"{{1,2},{3,4}}\"" }, /* other forms */
        { PG_INT4_ARRAY, "[0:1]={1,2}", "\"[0:1]={1,2}\"" },
        { BOX_ARRAY, "{(1,1),(0,0)}", "\"{(1,1),(0,0)}\"" },
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        expect_json(cases[i].type, cases[i].value, cases[i].json);
}

/* ---- rows --------------------------------------------------------------------------------- */

static void expect_text(struct buf *b, const char *text)
{
    assert_false(b->failed);
    buf_add_byte(b, '\0');
    assert_string_equal(b->p, text);
    buf_clear(b);
}

static void rows(void **state)
{
    const char *const names[] = { "id", "a \"name\"" };
    const Oid types[] = { PG_INT4, PG_TEXT };
    PGresult *result = result_of(2, names, types);
    struct buf b = { 0 };

    (void)state;
    pg_json_rows(&b, result);
    expect_text(&b, "[]");
    set(result, 0, 0, "1");
    set(result, 0, 1, "x");
    set(result, 1, 0, NULL);
    set(result, 1, 1, "y");
    pg_json_rows(&b, result);
    expect_text(&b, "[{\"id\":1,\"a \\\"name\\\"\":\"x\"},{\"id\":null,\"a "
                    "\\\"name\\\"\":\"y\"}]");
    pg_json_row(&b, result, 1);
    expect_text(&b, "{\"id\":null,\"a \\\"name\\\"\":\"y\"}");
    buf_free(&b);
    PQclear(result);
}

/* All rows give the same text as each by itself, also beyond the quick columns. */
static void many_columns(void **state)
{
    static char texts[70][8];
    const char *names[70];
    Oid types[70];
    PGresult *result;
    struct buf all = { 0 }, one = { 0 };

    (void)state;
    for (int i = 0; i < 70; i++) {
        snprintf(texts[i], sizeof texts[i], "c%d", i % 100);
        names[i] = texts[i];
        types[i] = i % 2 ? PG_INT4 : PG_TEXT;
    }
    result = result_of(70, names, types);
    for (int row = 0; row < 2; row++)
        for (int i = 0; i < 70; i++) set(result, row, i, "7");
    pg_json_rows(&all, result);
    buf_add_byte(&one, '[');
    pg_json_row(&one, result, 0);
    buf_add_byte(&one, ',');
    pg_json_row(&one, result, 1);
    buf_add_byte(&one, ']');
    assert_int_equal(all.n, one.n);
    assert_memory_equal(all.p, one.p, all.n);
    buf_free(&all);
    buf_free(&one);
    PQclear(result);
}

static void out_of_memory(void **state)
{
    const char *const names[] = { "a", "b" };
    const Oid types[] = { PG_TEXT_ARRAY, PG_TIMESTAMPTZ };
    PGresult *result = result_of(2, names, types);
    long live = mem_live(), n = 0;

    (void)state;
    for (int row = 0; row < 20; row++) {
        set(result, row, 0, "{\"a b\",c}");
        set(result, row, 1, "infinity");
    }
    do {
        struct buf b = { 0 };

        mem_fail_after(n++);
        pg_json_rows(&b, result);
        assert_int_equal(b.failed, mem_failed()); /* never half, and called whole */
        buf_free(&b);
    } while (mem_failed());
    mem_fail_after(-1);
    assert_true(n > 3);
    assert_int_equal(mem_live(), live);
    PQclear(result);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values),       cmocka_unit_test(timestamps),
        cmocka_unit_test(arrays),       cmocka_unit_test(rows),
        cmocka_unit_test(many_columns), cmocka_unit_test(out_of_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
