#include "db/pg_json.h"

#include <string.h>

#include "base/json.h"

/* ---- texts of PostgreSQL ------------------------------------------------------------ */

static bool are_digits(const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i] < '0' || p[i] > '9') return false;
    return true;
}

/* "2026-01-15 10:30:00[.123456]+00", as TimeZone=UTC and DateStyle=ISO write it. */
bool pg_text_timestamp(struct buf *b, struct slice text)
{
    char out[] = "0000-00-00T00:00:00.000Z";
    const char *p = text.p;

    if (text.n < 22 || text.n > 29 || !are_digits(p, 4) || p[4] != '-' ||
        !are_digits(p + 5, 2) || p[7] != '-' || !are_digits(p + 8, 2) || p[10] != ' ' ||
        !are_digits(p + 11, 2) || p[13] != ':' || !are_digits(p + 14, 2) ||
        p[16] != ':' || !are_digits(p + 17, 2) || memcmp(p + text.n - 3, "+00", 3) != 0)
        return false;
    memcpy(out, p, 10);
    memcpy(out + 11, p + 11, 8);
    if (text.n > 22) {
        size_t digits = text.n - 23;

        if (p[19] != '.' || digits == 0 || !are_digits(p + 20, digits)) return false;
        memcpy(out + 20, p + 20, digits < 3 ? digits : 3);
    }
    buf_add(b, out, sizeof out - 1);
    return true;
}

/* A quoted element into 'scratch'; '*rest' stands behind its opening mark. */
static int read_quoted(struct slice *rest, struct buf *scratch, struct slice *element)
{
    buf_clear(scratch);
    for (size_t i = 0; i < rest->n; i++) {
        if (rest->p[i] == '"') {
            *rest = (struct slice){ rest->p + i + 1, rest->n - i - 1 };
            *element = scratch->n == 0 ? SLICE("") : buf_slice(scratch);
            return scratch->failed ? -1 : 1;
        }
        if (rest->p[i] == '\\') i++;
        if (i < rest->n) buf_add_byte(scratch, rest->p[i]);
    }
    return -1;
}

int pg_array_next(struct slice *rest, struct buf *scratch, struct slice *element,
                  bool *is_null)
{
    size_t n = 0;

    *is_null = false;
    if (rest->n < 1 || (*rest->p != '{' && *rest->p != ',' && *rest->p != '}')) return -1;
    if (*rest->p == '}') return rest->n == 1 ? 0 : -1;
    if (*rest->p == '{' && rest->n == 2 && rest->p[1] == '}') return 0;
    *rest = (struct slice){ rest->p + 1, rest->n - 1 };
    if (rest->n > 0 && *rest->p == '{') return -1;
    if (rest->n > 0 && *rest->p == '"') {
        *rest = (struct slice){ rest->p + 1, rest->n - 1 };
        return read_quoted(rest, scratch, element);
    }
    while (n < rest->n && rest->p[n] != ',' && rest->p[n] != '}') n++;
    if (n == 0 || n == rest->n) return -1;
    *element = (struct slice){ rest->p, n };
    *is_null = slice_equal(*element, SLICE("NULL"));
    *rest = (struct slice){ rest->p + n, rest->n - n };
    return 1;
}

/* ---- values ------------------------------------------------------------------------------ */

/* NaN and the infinities have no form in JSON. */
static void add_number(struct buf *b, struct slice text)
{
    char c = text.n == 0 ? 'x' : text.p[text.n - 1];

    if (c >= '0' && c <= '9') buf_add_slice(b, text);
    else BUF_ADD(b, "null");
}

static void add_plain(struct buf *b, Oid type, struct slice text)
{
    switch (type) {
    case PG_BOOL: buf_add_text(b, text.n > 0 && *text.p == 't' ? "true" : "false"); break;
    case PG_INT2:
    case PG_INT4:
    case PG_INT8:
    case PG_OID: buf_add_slice(b, text); break;
    case PG_NUMERIC:
    case PG_FLOAT4:
    case PG_FLOAT8: add_number(b, text); break;
    case PG_JSON:
    case PG_JSONB: buf_add_slice(b, text); break;
    case PG_UUID: json_add_plain(b, text); break;
    case PG_TIMESTAMPTZ:
        buf_add_byte(b, '"');
        if (pg_text_timestamp(b, text)) {
            buf_add_byte(b, '"');
            break;
        }
        b->n -= b->failed ? 0 : 1;
        json_add_string(b, text);
        break;
    default: json_add_string(b, text);
    }
}

/* The type of an array's elements; 0 when it is no array that we know. */
static Oid element_type(Oid type)
{
    switch (type) {
    case PG_BOOL_ARRAY: return PG_BOOL;
    case PG_INT2_ARRAY: return PG_INT2;
    case PG_INT4_ARRAY: return PG_INT4;
    case PG_INT8_ARRAY: return PG_INT8;
    case PG_FLOAT4_ARRAY:
    case PG_FLOAT8_ARRAY: return PG_FLOAT8;
    case PG_DATE_ARRAY: return PG_DATE;
    case PG_TIMESTAMPTZ_ARRAY: return PG_TIMESTAMPTZ;
    case PG_JSON_ARRAY:
    case PG_JSONB_ARRAY: return PG_JSONB;
    case PG_NUMERIC_ARRAY: return PG_NUMERIC;
    case PG_TEXT_ARRAY:
    case PG_VARCHAR_ARRAY: return PG_TEXT;
    case PG_UUID_ARRAY: return PG_UUID;
    default: return 0;
    }
}

/* False when its form is another (several dimensions): then nothing is added. */
static bool add_array(struct buf *b, Oid type, struct slice text)
{
    struct buf scratch = { 0 };
    struct slice rest = text, element;
    size_t before = b->n;
    bool is_null;
    int got, count = 0;

    buf_add_byte(b, '[');
    while ((got = pg_array_next(&rest, &scratch, &element, &is_null)) == 1) {
        if (count++ > 0) buf_add_byte(b, ',');
        if (is_null) BUF_ADD(b, "null");
        else add_plain(b, type, element);
    }
    buf_add_byte(b, ']');
    if (scratch.failed) b->failed = true;
    buf_free(&scratch);
    if (got < 0 && !b->failed) b->n = before;
    return got == 0 || b->failed;
}

void pg_json_value(struct buf *b, const PGresult *result, int row, int column)
{
    struct slice text = { PQgetvalue(result, row, column),
                          (size_t)PQgetlength(result, row, column) };
    Oid type = PQftype(result, column), element = element_type(type);

    if (text.n == 0 && PQgetisnull(result, row, column)) BUF_ADD(b, "null");
    else if (element != 0 && add_array(b, element, text)) return;
    else add_plain(b, type, text);
}

/* ---- rows ---------------------------------------------------------------------------------- */

enum { COLUMNS_QUICK = 64 };

/* The "name": texts of all columns, escaped once for all rows. */
struct names {
    struct buf text;
    size_t ends[COLUMNS_QUICK];
};

static void add_name(struct buf *b, const PGresult *result, int column)
{
    if (column > 0) buf_add_byte(b, ',');
    json_add_string(b, slice_of(PQfname(result, column)));
    buf_add_byte(b, ':');
}

static void prepare_names(struct names *names, const PGresult *result)
{
    for (int i = 0; i < PQnfields(result) && i < COLUMNS_QUICK; i++) {
        add_name(&names->text, result, i);
        names->ends[i] = names->text.n;
    }
}

static void add_row(struct buf *b, const PGresult *result, int row,
                    const struct names *names)
{
    int columns = PQnfields(result);

    buf_add_byte(b, '{');
    for (int i = 0; i < columns; i++) {
        size_t begin = i == 0 || i >= COLUMNS_QUICK ? 0 : names->ends[i - 1];

        if (i < COLUMNS_QUICK) buf_add(b, names->text.p + begin, names->ends[i] - begin);
        else add_name(b, result, i);
        pg_json_value(b, result, row, i);
    }
    buf_add_byte(b, '}');
}

/* About what 'rows' like this one need, so that the buffer rarely moves. */
static void reserve(struct buf *b, const PGresult *result, int row, int rows)
{
    size_t columns = (size_t)PQnfields(result), n = 2 + columns * 20;

    for (size_t i = 0; i < columns; i++) n += (size_t)PQgetlength(result, row, (int)i);
    (void)!buf_room(b, n * (size_t)rows); /* a failure is in b->failed */
}

void pg_json_row(struct buf *b, const PGresult *result, int row)
{
    reserve(b, result, row, 1);
    buf_add_byte(b, '{');
    for (int i = 0; i < PQnfields(result); i++) {
        add_name(b, result, i);
        pg_json_value(b, result, row, i);
    }
    buf_add_byte(b, '}');
}

void pg_json_rows(struct buf *b, const PGresult *result)
{
    struct names names = { 0 };
    int rows = PQntuples(result);

    if (rows > 0) reserve(b, result, 0, rows);
    prepare_names(&names, result);
    if (names.text.failed) b->failed = true;
    buf_add_byte(b, '[');
    for (int row = 0; row < rows && !b->failed; row++) {
        if (row > 0) buf_add_byte(b, ',');
        add_row(b, result, row, &names);
    }
    buf_add_byte(b, ']');
    buf_free(&names.text);
}
