#include "script/pg_values.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "db/pg_json.h"
#include "script/bind_bytes.h"
#include "script/bind_json.h"
#include "script/bind_money.h"
#include "script/fail.h"
#include "script/json_read.h"
#include "script/json_write.h"

/* ---- parameters ---------------------------------------------------------------- */

static const char *refuse_nul(lua_State *L)
{
    fail_push(L, 400, "BAD_REQUEST", "Text must not contain a NUL character", NULL);
    lua_error(L);
    return NULL;
}

static const char *text_of(lua_State *L, int at)
{
    size_t n;
    const char *text = lua_tolstring(L, at, &n);

    return memchr(text, '\0', n) == NULL ? text : refuse_nul(L);
}

/* The text hangs on a bytes value that takes the parameter's place. */
static const char *json_of(lua_State *L, int at)
{
    struct bytes *owned = bytes_push_empty(L);
    struct buf b = { 0 };
    const char *fault = NULL;

    if (json_write(L, at, &b, &fault)) buf_add_byte(&b, '\0');
    if (fault != NULL || b.failed) {
        buf_free(&b);
        luaL_error(L, "a parameter cannot be JSON: %s",
                   fault == NULL ? "not enough memory" : fault);
    }
    *owned = (struct bytes){ { b.p, b.n - 1 }, mem_free, b.p, true };
    lua_replace(L, at);
    return b.p;
}

const char *pg_value_text(lua_State *L, int at)
{
    struct slice digits;

    switch (lua_type(L, at)) {
    case LUA_TNIL: return NULL;
    case LUA_TBOOLEAN: return lua_toboolean(L, at) ? "t" : "f";
    case LUA_TNUMBER:
    case LUA_TSTRING: return text_of(L, at);
    case LUA_TTABLE: return json_of(L, at);
    default: break;
    }
    if (json_is_null(L, at)) return NULL;
    if (money_test(L, at, NULL) || decimal_test(L, at, &digits) ||
        bytes_test(L, at) != NULL) {
        luaL_tolstring(L, at, NULL);
        lua_replace(L, at);
        return text_of(L, at);
    }
    luaL_error(L, "a %s cannot be a parameter", luaL_typename(L, at));
    return NULL;
}

/* ---- results: one value --------------------------------------------------------- */

static void push_buffer(lua_State *L, struct buf *b)
{
    struct bytes *owned = bytes_push_empty(L); /* frees the buffer if pushing raises */

    *owned = (struct bytes){ { b->p, b->n }, mem_free, b->p, false };
    lua_pushlstring(L, b->p, b->n);
    lua_remove(L, -2);
}

static void push_timestamp(lua_State *L, struct slice text)
{
    char space[64];
    struct buf b = { space, 0, sizeof space, false }; /* long enough: never grows */

    if (text.n < 40 && pg_text_timestamp(&b, text)) lua_pushlstring(L, b.p, b.n);
    else lua_pushlstring(L, text.p, text.n);
}

static void push_json(lua_State *L, struct slice text)
{
    struct json_fault fault;

    if (!json_read(L, text, &json_script_limits, &fault))
        lua_pushlstring(L, text.p, text.n);
}

static bool is_array(Oid type)
{
    switch ((enum pg_type)type) {
    case PG_TEXT_ARRAY:
    case PG_VARCHAR_ARRAY:
    case PG_UUID_ARRAY:
    case PG_INT2_ARRAY:
    case PG_INT4_ARRAY:
    case PG_INT8_ARRAY: return true;
    default: return false;
    }
}

/* An array goes through its JSON form, which has the right element types. */
static void push_array(lua_State *L, const PGresult *result, int row, int column)
{
    struct buf b = { 0 };

    pg_json_value(&b, result, row, column);
    if (b.failed) {
        buf_free(&b);
        luaL_error(L, "not enough memory");
    }
    push_buffer(L, &b);
    size_t n;
    const char *text = lua_tolstring(L, -1, &n);
    push_json(L, (struct slice){ text, n });
    lua_remove(L, -2);
}

static void push_value(lua_State *L, const PGresult *result, int row, int column)
{
    const char *p = PQgetvalue(result, row, column);
    struct slice text = { p, (size_t)PQgetlength(result, row, column) };
    Oid type = PQftype(result, column);

    switch (type) {
    case PG_BOOL: lua_pushboolean(L, *p == 't'); break;
    case PG_INT2:
    case PG_INT4:
    case PG_INT8:
    case PG_OID: lua_pushinteger(L, strtoll(p, NULL, 10)); break;
    case PG_FLOAT4:
    case PG_FLOAT8: lua_pushnumber(L, strtod(p, NULL)); break;
    case PG_NUMERIC:
        if (*p == 'N' || strchr(p, 'I') != NULL) lua_pushnil(L); /* NaN, Infinity */
        else decimal_push(L, text);
        break;
    case PG_TIMESTAMPTZ: push_timestamp(L, text); break;
    case PG_JSON:
    case PG_JSONB: push_json(L, text); break;
    default:
        if (is_array(type)) push_array(L, result, row, column);
        else lua_pushlstring(L, text.p, text.n);
    }
}

/* ---- results: rows --------------------------------------------------------------- */

static const char SHAPES[] = "omade.row_shapes"; /* registry: SQL -> row metatable */

/* [top] a row metatable: whether it lists just these columns */
static bool shape_fits(lua_State *L, const PGresult *result)
{
    int columns = PQnfields(result);
    bool fits;

    lua_getfield(L, -1, "__columns");
    fits = (int)lua_rawlen(L, -1) == columns;
    for (int i = 0; fits && i < columns; i++) {
        lua_rawgeti(L, -1, i + 1);
        fits = strcmp(lua_tostring(L, -1), PQfname(result, i)) == 0;
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
    return fits;
}

static void push_new_shape(lua_State *L, const PGresult *result)
{
    int columns = PQnfields(result);

    lua_createtable(L, 0, 2);
    lua_createtable(L, columns, 0);
    for (int i = 0; i < columns; i++) {
        lua_pushstring(L, PQfname(result, i));
        lua_rawseti(L, -2, i + 1);
    }
    lua_setfield(L, -2, "__columns");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
}

/* Pushes the metatable of rows of this statement. */
static void push_shape(lua_State *L, struct slice sql, const PGresult *result)
{
    luaL_getsubtable(L, LUA_REGISTRYINDEX, SHAPES);
    lua_pushlstring(L, sql.p, sql.n);
    if (lua_rawget(L, -2) == LUA_TTABLE && shape_fits(L, result)) {
        lua_remove(L, -2);
        return;
    }
    lua_pop(L, 1);
    push_new_shape(L, result);
    lua_pushlstring(L, sql.p, sql.n);
    lua_pushvalue(L, -2);
    lua_rawset(L, -4);
    lua_remove(L, -2);
}

/* [shape] the metatable, [columns] its list */
static void push_one(lua_State *L, const PGresult *result, int row, int shape,
                     int columns)
{
    int count = PQnfields(result);

    lua_createtable(L, 0, count);
    for (int i = 0; i < count; i++) {
        if (PQgetisnull(result, row, i)) continue;
        lua_rawgeti(L, columns, i + 1);
        push_value(L, result, row, i);
        lua_rawset(L, -3);
    }
    lua_pushvalue(L, shape);
    lua_setmetatable(L, -2);
}

void pg_push_row(lua_State *L, struct slice sql, const PGresult *result, int row)
{
    int shape;

    luaL_checkstack(L, 12, "too many rows");
    push_shape(L, sql, result);
    shape = lua_gettop(L);
    lua_getfield(L, shape, "__columns");
    push_one(L, result, row, shape, shape + 1);
    lua_replace(L, shape);
    lua_settop(L, shape);
}

void pg_push_rows(lua_State *L, struct slice sql, const PGresult *result)
{
    int count = PQntuples(result), shape;

    luaL_checkstack(L, 12, "too many rows");
    push_shape(L, sql, result);
    shape = lua_gettop(L);
    lua_getfield(L, shape, "__columns");
    lua_createtable(L, count, 0);
    for (int row = 0; row < count; row++) {
        push_one(L, result, row, shape, shape + 1);
        lua_rawseti(L, -2, row + 1);
    }
    json_push_array_mark(L);
    lua_setmetatable(L, -2);
    lua_replace(L, shape);
    lua_settop(L, shape);
}

/* ---- errors ------------------------------------------------------------------------ */

struct mapping {
    const char *state; /* SQLSTATE, or its first two characters */
    int status;
    const char *code, *message;
};

static const struct mapping *mapping_of(const char *state)
{
    static const struct mapping mappings[] = {
        { "40001", 503, "UNAVAILABLE", "Too many changes at once; try again" },
        { "40P01", 503, "UNAVAILABLE", "Too many changes at once; try again" },
        { "23505", 409, "CONFLICT", "This exists already" },
        { "23503", 409, "CONFLICT",
          "Something that this refers to, or that refers to it, "
          "stands in the way" },
        { "23514", 422, "UNPROCESSABLE", "A value is outside of what is allowed" },
        { "23502", 422, "UNPROCESSABLE", "A required value is missing" },
        { "22", 400, "BAD_REQUEST", "A value is malformed or out of range" },
        { "42501", 403, "FORBIDDEN", "This is not allowed" },
        { "57014", 504, "TIMEOUT", "The database took too long" },
        { "53", 503, "UNAVAILABLE", "The database is overloaded; try again later" },
        { "57P", 503, "UNAVAILABLE", "The database is restarting; try again" },
        { "08P01", 500, "INTERNAL", "Something went wrong" }, /* more or fewer $n */
        { "08", 503, "UNAVAILABLE", "The database is away; try again" },
        { "", 500, "INTERNAL", "Something went wrong" },
    };
    size_t i = 0;

    while (strncmp(state, mappings[i].state, strlen(mappings[i].state)) != 0) i++;
    return &mappings[i];
}

static void set_text(lua_State *L, const char *name, const char *value)
{
    if (value == NULL) return;
    lua_pushstring(L, value);
    lua_setfield(L, -2, name);
}

static void push_sql_error(lua_State *L, const struct pg_op *op)
{
    const char *state = pg_op_sqlstate(op);
    const struct mapping *m = mapping_of(state);
    const PGresult *result =
        op->failed_at >= 0 ? op->statements[op->failed_at].result : NULL;
    const char *primary = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    struct slice sql = op->statements[op->failed_at >= 0 ? op->failed_at : 0].sql;

    lua_pushfstring(L, "%s: %s", state, primary == NULL ? "(no message)" : primary);
    lua_pushliteral(L, "\nSQL: ");
    lua_pushlstring(L, sql.p, sql.n < 500 ? sql.n : 500);
    lua_concat(L, 3);
    fail_push(L, m->status, m->code, m->message, lua_tostring(L, -1));
    lua_remove(L, -2);
    set_text(L, "sqlstate", state);
    set_text(L, "constraint", PQresultErrorField(result, PG_DIAG_CONSTRAINT_NAME));
    set_text(L, "column", PQresultErrorField(result, PG_DIAG_COLUMN_NAME));
    set_text(L, "table", PQresultErrorField(result, PG_DIAG_TABLE_NAME));
    set_text(L, "sql_message", primary);
}

void pg_push_error(lua_State *L, const struct pg_op *op)
{
    switch (op->outcome) {
    case PG_BUSY:
        fail_push(L, 503, "UNAVAILABLE", "The database is busy; try again later",
                  "the queue for a connection is full, or too slow");
        return;
    case PG_NOT_SENT:
        fail_push(L, 503, "UNAVAILABLE", "The database is away; try again later",
                  "no connection to PostgreSQL");
        return;
    case PG_LOST:
        fail_push(L, 503, "UNAVAILABLE", "The database is away; try again later",
                  "the connection to PostgreSQL broke under the statement");
        set_text(L, "outcome", "unknown");
        return;
    case PG_TIMEOUT:
        fail_push(L, 504, "TIMEOUT", "The database took too long", "DB_QUERY_TIMEOUT");
        return;
    default: break;
    }
    if (op->too_large)
        fail_push(L, 500, "INTERNAL", "Something went wrong",
                  "the result is larger than DB_ROW_MAX or DB_BYTE_MAX; use LIMIT");
    else push_sql_error(L, op);
}
