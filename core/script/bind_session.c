#include "script/bind_session.h"

#include <errno.h>
#include <lauxlib.h>
#include <limits.h>
#include <poll.h>
#include <string.h>

#include "db/pg_session.h"
#include "script/require.h"
#include "script/vm.h"

#define SESSION_TYPE "omade.session"

struct session {
    PGconn *connection;
};

static PGconn *check(lua_State *L)
{
    struct session *s = luaL_checkudata(L, 1, SESSION_TYPE);

    if (s->connection == NULL) luaL_error(L, "the session is closed");
    return s->connection;
}

static int session_close(lua_State *L)
{
    struct session *s = luaL_checkudata(L, 1, SESSION_TYPE);

    PQfinish(s->connection);
    s->connection = NULL;
    return 0;
}

/* session.connect([setting]): the one that holds the URL; DATABASE_URL, the owner's */
static int session_connect(lua_State *L)
{
    const char *setting = luaL_optstring(L, 1, "DATABASE_URL"), *why;
    const char *url = vm_setting(vm_of(L), setting);
    struct session *s = lua_newuserdatauv(L, sizeof *s, 0);

    s->connection = NULL;
    luaL_setmetatable(L, SESSION_TYPE);
    if (url == NULL || *url == '\0') {
        lua_pushfstring(L, "%s is not set", setting);
        return lua_error(L);
    }
    s->connection = pg_session_open(url);
    if (s->connection == NULL) return luaL_error(L, "out of memory");
    if (PQstatus(s->connection) == CONNECTION_OK) return 1;
    why = PQerrorMessage(s->connection);
    lua_pushfstring(L, "cannot connect to PostgreSQL with %s: ", setting);
    lua_pushlstring(L, why, strcspn(why, "\n"));
    lua_concat(L, 2);
    return lua_error(L);
}

/* The rows as tables of texts; PQclear comes first when this raises for lack of memory:
 * a command ends then. */
static void push_rows(lua_State *L, const PGresult *result)
{
    lua_createtable(L, PQntuples(result), 0);
    for (int row = 0; row < PQntuples(result); row++) {
        lua_createtable(L, 0, PQnfields(result));
        for (int i = 0; i < PQnfields(result); i++) {
            if (PQgetisnull(result, row, i)) continue;
            lua_pushstring(L, PQgetvalue(result, row, i));
            lua_setfield(L, -2, PQfname(result, i));
        }
        lua_rawseti(L, -2, row + 1);
    }
}

static int finish(lua_State *L, PGresult *result)
{
    ExecStatusType status = PQresultStatus(result);

    if (status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK ||
        status == PGRES_EMPTY_QUERY) {
        push_rows(L, result);
        PQclear(result);
        return 1;
    }
    const char *message = PQresultErrorMessage(result);
    lua_pushlstring(L, message, strcspn(message, "\n"));
    const char *position = PQresultErrorField(result, PG_DIAG_STATEMENT_POSITION);
    if (position != NULL)
        lua_pushfstring(L, "%s (at character %s)", lua_tostring(L, -1), position);
    PQclear(result);
    lua_pushnil(L);
    lua_insert(L, -2);
    return 2;
}

/* s:run(script): several statements; the last one's rows, or nil and a message */
static int session_run(lua_State *L)
{
    return finish(L, pg_session_run(check(L), luaL_checkstring(L, 2)));
}

/* s:query(sql, text, ...): one statement with parameters */
static int session_query(lua_State *L)
{
    PGconn *connection = check(L);
    const char *sql = luaL_checkstring(L, 2), *values[16];
    int count = lua_gettop(L) - 2;

    luaL_argcheck(L, count <= (int)COUNT_OF(values), 3, "at most 16 parameters");
    for (int i = 0; i < count; i++) values[i] = luaL_optstring(L, 3 + i, NULL);
    return finish(L, PQexecParams(connection, sql, count, NULL, values, NULL, NULL, 0));
}

static int fail_copy(lua_State *L, PGconn *connection)
{
    const char *message = PQerrorMessage(connection);

    lua_pushlstring(L, message, strcspn(message, "\n"));
    return lua_error(L);
}

/* s:copy(sql): begins COPY ... FROM STDIN */
static int session_copy(lua_State *L)
{
    PGconn *connection = check(L);
    PGresult *result = PQexec(connection, luaL_checkstring(L, 2));
    bool begun = PQresultStatus(result) == PGRES_COPY_IN;

    PQclear(result);
    return begun ? 0 : fail_copy(L, connection);
}

/* s:put(text): rows of the COPY that has begun */
static int session_put(lua_State *L)
{
    PGconn *connection = check(L);
    size_t n;
    const char *text = luaL_checklstring(L, 2, &n);

    luaL_argcheck(L, n <= INT_MAX, 2, "too long");
    return PQputCopyData(connection, text, (int)n) == 1 ? 0 : fail_copy(L, connection);
}

/* s:copied(): ends the COPY; raises what PostgreSQL had against its rows */
static int session_copied(lua_State *L)
{
    PGconn *connection = check(L);
    bool ok = PQputCopyEnd(connection, NULL) == 1;
    PGresult *result;

    while ((result = PQgetResult(connection)) != NULL) {
        ok = ok && PQresultStatus(result) == PGRES_COMMAND_OK;
        PQclear(result);
    }
    return ok ? 0 : fail_copy(L, connection);
}

/* s:send(sql): begins one statement; true, or nil and a message */
static int session_send(lua_State *L)
{
    PGconn *connection = check(L);

    if (PQsendQuery(connection, luaL_checkstring(L, 2)) == 0) {
        const char *message = PQerrorMessage(connection);

        lua_pushnil(L);
        lua_pushlstring(L, message, strcspn(message, "\n"));
        return 2;
    }
    lua_pushboolean(L, 1);
    return 1;
}

/* s:ready(milliseconds): waits at most so long; is the answer there? */
static int session_ready(lua_State *L)
{
    PGconn *connection = check(L);
    struct pollfd socket = { .fd = PQsocket(connection), .events = POLLIN };

    if (PQisBusy(connection)) {
        int count = poll(&socket, 1, (int)luaL_checkinteger(L, 2));

        if (count < 0 && errno != EINTR) return luaL_error(L, "%s", strerror(errno));
        if (count > 0 && PQconsumeInput(connection) == 0) {
            lua_pushboolean(L, 1); /* what is wrong, s:result() tells */
            return 1;
        }
    }
    lua_pushboolean(L, !PQisBusy(connection));
    return 1;
}

/* s:result(): waits for the answer of s:send(); rows, or nil and a message */
static int session_result(lua_State *L)
{
    PGconn *connection = check(L);
    PGresult *first = PQgetResult(connection), *more;

    while ((more = PQgetResult(connection)) != NULL) PQclear(more);
    return finish(L, first);
}

static int open_module(lua_State *L)
{
    static const luaL_Reg methods[] = {
        { "copy", session_copy },     { "put", session_put },
        { "copied", session_copied }, { "run", session_run },
        { "query", session_query },   { "send", session_send },
        { "ready", session_ready },   { "result", session_result },
        { "close", session_close },   { NULL, NULL },
    };

    luaL_newmetatable(L, SESSION_TYPE);
    lua_pushcfunction(L, session_close);
    lua_setfield(L, -2, "__gc");
    luaL_newlib(L, methods);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, session_connect);
    lua_setfield(L, -2, "connect");
    return 1;
}

void session_open(lua_State *L) { require_native(L, "omade.core.session", open_module); }
