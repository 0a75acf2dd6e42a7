/* pg_json.h -- a PGresult's values as JSON bytes, and PostgreSQL's text forms.
 *
 * numeric: its own digits; timestamptz: "2026-01-15T10:30:00.123Z" (the session's
 * time zone is UTC); date, uuid and text: strings; bool, integers, floats: as they
 * are (NaN and the infinities: null); json and jsonb: spliced in; arrays of these:
 * JSON arrays; NULL: null; any other type: its text as a string.
 */
#ifndef DB_PG_JSON_H
#define DB_PG_JSON_H

#include <libpq-fe.h>

#include "base/buf.h"

/* OIDs of pg_type that we know by heart. */
enum pg_type {
    PG_BOOL = 16,
    PG_BYTEA = 17,
    PG_INT8 = 20,
    PG_INT2 = 21,
    PG_INT4 = 23,
    PG_TEXT = 25,
    PG_OID = 26,
    PG_JSON = 114,
    PG_JSON_ARRAY = 199,
    PG_FLOAT4 = 700,
    PG_FLOAT8 = 701,
    PG_BOOL_ARRAY = 1000,
    PG_INT2_ARRAY = 1005,
    PG_INT4_ARRAY = 1007,
    PG_TEXT_ARRAY = 1009,
    PG_VARCHAR_ARRAY = 1015,
    PG_INT8_ARRAY = 1016,
    PG_FLOAT4_ARRAY = 1021,
    PG_FLOAT8_ARRAY = 1022,
    PG_VARCHAR = 1043,
    PG_DATE = 1082,
    PG_TIMESTAMP = 1114,
    PG_TIMESTAMPTZ = 1184,
    PG_DATE_ARRAY = 1182,
    PG_TIMESTAMPTZ_ARRAY = 1185,
    PG_NUMERIC_ARRAY = 1231,
    PG_NUMERIC = 1700,
    PG_UUID = 2950,
    PG_UUID_ARRAY = 2951,
    PG_JSONB = 3802,
    PG_JSONB_ARRAY = 3807,
};

/* One value. */
void pg_json_value(struct buf *b, const PGresult *result, int row, int column);

/* {"id":...,"name":...} */
void pg_json_row(struct buf *b, const PGresult *result, int row);

/* [{...},{...}] */
void pg_json_rows(struct buf *b, const PGresult *result);

/* "2026-01-15 10:30:00.123456+00" to "2026-01-15T10:30:00.123Z".  False when it is
 * no such text (infinity, years before 1 or of five digits); nothing is added. */
bool pg_text_timestamp(struct buf *b, struct slice text);

/* Steps over the elements of a one-dimensional array's text form "{a,\"b c\",NULL}".
 * '*rest' begins as the whole text.  1: an element, unquoted in 'scratch' and valid
 * until its next use, '*is_null' for NULL; 0: the end; -1: another form. */
int pg_array_next(struct slice *rest, struct buf *scratch, struct slice *element,
                  bool *is_null);

#endif
