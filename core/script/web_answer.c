#include "script/web.h"

#include <fcntl.h>
#include <lauxlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "script/bind_bytes.h"
#include "script/fail.h"
#include "script/json_write.h"
#include "script/task.h"

/* What web.json, web.created and the like return: a table with this metatable.
 *   status, value, message, bare (no envelope), type, headers {name = value},
 *   cookies {"a=1; Path=/"}, empty (no body), stream (a function) */
#define ANSWER_TYPE "omade.answer"

static const struct slice JSON = { "application/json; charset=utf-8", 31 };

/* Bodies above it are handed over, smaller ones copied with the head. */
enum { HAND_OVER = 8 * 1024 };

/* ---- errors ---------------------------------------------------------------------- */

void web_error_body(struct buf *b, const char *code, const char *message,
                    const char *request_id)
{
    BUF_ADD(b, "{\"success\":false,\"error\":");
    json_add_string(b, slice_of(message));
    BUF_ADD(b, ",\"message\":");
    json_add_string(b, slice_of(message));
    BUF_ADD(b, ",\"code\":");
    json_add_string(b, slice_of(code));
    BUF_ADD(b, ",\"request_id\":");
    json_add_string(b, slice_of(request_id == NULL ? "" : request_id));
    BUF_ADD(b, "}");
}

void web_answer_error(struct exchange *x, int status, const char *code,
                      const char *message)
{
    x->answered = true;
    request_answer_error(x->request, status, code, message);
}

void web_answer_no_memory(struct exchange *x)
{
    web_answer_error(x, 503, "UNAVAILABLE", "Not enough memory; try again later");
}

/* ---- headers from Lua ------------------------------------------------------------- */

static struct slice text_at(lua_State *L, int at)
{
    size_t n;
    const char *p = lua_tolstring(L, at, &n);

    return (struct slice){ p, n };
}

static void add_header(lua_State *L, struct exchange *x, struct response *a,
                       struct slice name, struct slice value)
{
    struct slice kept_name = arena_copy(&x->request->arena, name.p, name.n);
    struct slice kept = arena_copy(&x->request->arena, value.p, value.n);

    if (kept_name.p == NULL || kept.p == NULL) luaL_error(L, "not enough memory");
    if (!response_header(a, kept_name, kept))
        luaL_error(L, "header '%s' is malformed, or there are too many", kept_name.p);
}

/* [headers] {name = value}, [cookies] a list; or others, which count as none */
static void add_headers(lua_State *L, struct exchange *x, struct response *a, int headers,
                        int cookies)
{
    if (lua_istable(L, headers)) {
        lua_pushnil(L);
        while (lua_next(L, headers)) {
            if (lua_type(L, -2) != LUA_TSTRING)
                luaL_error(L, "headers: names are strings");
            luaL_tolstring(L, -1, NULL);
            add_header(L, x, a, text_at(L, -3), text_at(L, -1));
            lua_pop(L, 2);
        }
    }
    if (lua_istable(L, cookies)) {
        lua_Integer n = luaL_len(L, cookies);

        for (lua_Integer i = 1; i <= n; i++) {
            lua_geti(L, cookies, i);
            luaL_checkstring(L, -1);
            add_header(L, x, a, SLICE("Set-Cookie"), text_at(L, -1));
            lua_pop(L, 1);
        }
    }
}

/* ---- bodies ----------------------------------------------------------------------- */

/* Hands the worker's scratch over as the body, or copies it when it is small. */
static void take_scratch(lua_State *L, struct exchange *x, struct response *a)
{
    struct buf *scratch = &x->env->scratch;

    if (scratch->failed) luaL_error(L, "not enough memory");
    a->body = buf_slice(scratch);
    if (scratch->n > HAND_OVER) {
        a->owner = scratch->p;
        a->release = mem_free;
        *scratch = (struct buf){ 0 };
    }
}

static void write_value(lua_State *L, struct buf *out, int at)
{
    const char *fault = NULL;

    if (json_write(L, at, out, &fault)) return;
    luaL_error(L, "the answer cannot be JSON: %s",
               fault == NULL ? "not enough memory" : fault);
}

/* Raw JSON: spliced in between without a copy. */
static void take_bytes(struct response *a, struct bytes *bytes)
{
    a->body = bytes->s;
    a->release = bytes->release;
    a->owner = bytes->owner;
    *bytes = (struct bytes){ 0 };
}

/* {"success":true,"data":VALUE[,"message":"..."]} */
static void wrap(lua_State *L, struct exchange *x, struct response *a, int at,
                 int message)
{
    struct buf *out = &x->env->scratch;
    struct bytes *bytes = bytes_test(L, at);

    buf_clear(out);
    a->content_type = JSON;
    if (bytes != NULL && bytes->json && lua_isnil(L, message)) {
        a->prefix = SLICE("{\"success\":true,\"data\":");
        a->suffix = SLICE("}");
        take_bytes(a, bytes);
        return;
    }
    BUF_ADD(out, "{\"success\":true,\"data\":");
    write_value(L, out, at);
    if (!lua_isnil(L, message)) {
        BUF_ADD(out, ",\"message\":");
        write_value(L, out, message);
    }
    BUF_ADD(out, "}");
    take_scratch(L, x, a);
}

/* Bare: bytes and texts as they are when the type is given, else JSON. */
static void bare(lua_State *L, struct exchange *x, struct response *a, int at, bool typed)
{
    struct buf *out = &x->env->scratch;
    struct bytes *bytes = bytes_test(L, at);

    buf_clear(out);
    if (!typed) a->content_type = JSON;
    if (bytes != NULL && (typed || bytes->json)) {
        take_bytes(a, bytes);
        return;
    }
    if (typed && lua_type(L, at) == LUA_TSTRING) buf_add_slice(out, text_at(L, at));
    else write_value(L, out, at);
    take_scratch(L, x, a);
}

/* ---- results ------------------------------------------------------------------------ */

static bool is_answer(lua_State *L, int at)
{
    bool is;

    if (!lua_istable(L, at) || !lua_getmetatable(L, at)) return false;
    luaL_getmetatable(L, ANSWER_TYPE);
    is = lua_rawequal(L, -1, -2);
    lua_pop(L, 2);
    return is;
}

/* Of the answer at 2; each has a place on the stack, from 3 on. */
enum field {
    STATUS = 3,
    HEADERS,
    COOKIES,
    TYPE,
    VALUE,
    MESSAGE,
    BARE,
    EMPTY,
    FILE_PATH,
    FIELDS_END
};

/* FIELDS_END: none of them. */
static enum field field_of(struct slice name)
{
    static const struct slice names[FIELDS_END] = {
        [STATUS] = { "status", 6 },   [HEADERS] = { "headers", 7 },
        [COOKIES] = { "cookies", 7 }, [TYPE] = { "type", 4 },
        [VALUE] = { "value", 5 },     [MESSAGE] = { "message", 7 },
        [BARE] = { "bare", 4 },       [EMPTY] = { "empty", 5 },
        [FILE_PATH] = { "file", 4 },
    };
    int field = STATUS;

    while (field < FIELDS_END && !slice_equal(names[field], name)) field++;
    return (enum field)field;
}

/* One walk over the few that are there costs less than to ask for each. */
static void spread_fields(lua_State *L)
{
    luaL_checkstack(L, FIELDS_END + LUA_MINSTACK, NULL);
    lua_settop(L, FIELDS_END - 1);
    lua_pushnil(L);
    while (lua_next(L, 2)) {
        enum field field =
            lua_type(L, -2) == LUA_TSTRING ? field_of(text_at(L, -2)) : FIELDS_END;

        if (field == FIELDS_END) lua_pop(L, 1);
        else lua_replace(L, (int)field);
    }
}

static void take_type(lua_State *L, struct exchange *x, struct response *a)
{
    struct slice type = text_at(L, TYPE);

    a->content_type = arena_copy(&x->request->arena, type.p, type.n);
    if (a->content_type.p == NULL) luaL_error(L, "not enough memory");
}

static void answer_to_response(lua_State *L, struct exchange *x, struct response *a)
{
    bool typed = lua_type(L, TYPE) == LUA_TSTRING;
    lua_Integer status = 200;

    if (!lua_isnil(L, STATUS)) {
        status = lua_tointeger(L, STATUS); /* 0 for what is none */
        if (status < 200 || status > 599)
            luaL_error(L, "the answer's status is 200 to 599, not %s",
                       luaL_tolstring(L, STATUS, NULL));
    }
    a->status = (int)status;
    add_headers(L, x, a, HEADERS, COOKIES);
    if (typed) take_type(L, x, a);
    if (lua_toboolean(L, EMPTY)) return;
    if (lua_toboolean(L, BARE)) bare(L, x, a, VALUE, typed);
    else wrap(L, x, a, VALUE, MESSAGE);
}

/* web.file: the descriptor of the regular file that it names; raises 404. */
static int open_file(lua_State *L)
{
    const char *path = lua_tostring(L, FILE_PATH);
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode)) return fd;
    if (fd >= 0) close(fd);
    fail_push(L, 404, "NOT_FOUND", "There is no such file", NULL);
    return lua_error(L);
}

static void answer_file(lua_State *L, struct exchange *x)
{
    struct response a = { .status = 200 };

    luaL_checkstring(L, TYPE);
    take_type(L, x, &a);
    add_headers(L, x, &a, HEADERS, COOKIES);
    int fd = open_file(L);
    x->answered = true;
    request_answer_file(x->request, &a, fd);
}

static void answer_result(lua_State *L, struct exchange *x)
{
    struct response a = { .status = 200, .etag = x->route->etag };

    lua_settop(L, 2);
    if (is_answer(L, 2)) {
        spread_fields(L);
        if (lua_type(L, FILE_PATH) == LUA_TSTRING) {
            answer_file(L, x);
            return;
        }
        answer_to_response(L, x, &a);
    } else {
        lua_pushnil(L);
        wrap(L, x, &a, 2, 3);
    }
    x->answered = true;
    request_answer(x->request, &a);
}

/* ---- failures ------------------------------------------------------------------------- */

/* Where it went wrong; when that is nowhere in a script, whose answer it was. */
static const char *place_of(lua_State *L, const struct exchange *x)
{
    const char *at = task_raised_at(task_current(L));

    return *at == '\0' ? x->route->handler : at;
}

/* While a dependency is away there is one such answer per request: who lost it has told
 * so, once. */
static void log_failure(lua_State *L, struct exchange *x, int status, int at)
{
    enum log_level level = status == 503 ? LOG_DEBUG : LOG_ERROR;
    size_t n;

    if (status < 500 || !log_wants(level)) return;
    const char *text = luaL_tolstring(L, at, &n);
    log_write(level, "request failed",
              LOG_FIELDS(log_text("request", x->request->id),
                         log_text("route", x->route->name), log_int("status", status),
                         log_text("at", place_of(L, x)),
                         log_slice("error", (struct slice){ text, n })));
    lua_pop(L, 1);
}

/* The fields of 'extra' join the body. */
static void write_extra(lua_State *L, struct buf *out, int at)
{
    if (lua_getfield(L, at, "extra") == LUA_TTABLE) {
        lua_pushnil(L);
        while (lua_next(L, -2)) {
            if (lua_type(L, -2) == LUA_TSTRING) {
                BUF_ADD(out, ",");
                json_add_string(out, text_at(L, -2));
                BUF_ADD(out, ":");
                write_value(L, out, lua_gettop(L));
            }
            lua_pop(L, 1);
        }
    }
    lua_pop(L, 1);
}

static void write_list(lua_State *L, struct buf *out, int at, const char *name)
{
    if (lua_getfield(L, at, name) == LUA_TTABLE) {
        BUF_ADD(out, ",\"");
        buf_add_text(out, name);
        BUF_ADD(out, "\":");
        write_value(L, out, lua_gettop(L));
    }
    lua_pop(L, 1);
}

/* What the client is told.  Of a 500 nobody can make anything: in development the answer
 * has the place and the detail, as the log does. */
static const char *message_of(lua_State *L, const struct exchange *x, int status, int at)
{
    if (status == 500 && x->env->development)
        return lua_pushfstring(L, "%s: %s", place_of(L, x), luaL_tolstring(L, at, NULL));
    lua_getfield(L, at, "message");
    return luaL_optstring(L, -1, status_text(status));
}

static void answer_failure(lua_State *L, struct exchange *x, int at)
{
    struct response a = { .content_type = JSON };
    struct buf *out = &x->env->scratch;
    const char *code, *message;

    lua_getfield(L, at, "status");
    a.status = (int)luaL_optinteger(L, -1, 500);
    lua_getfield(L, at, "code");
    code = luaL_optstring(L, -1, fail_code(a.status));
    message = message_of(L, x, a.status, at);
    log_failure(L, x, a.status, at);
    buf_clear(out);
    web_error_body(out, code, message, x->request->id);
    if (out->n > 0) out->n--;
    write_list(L, out, at, "errors");
    write_list(L, out, at, "fields");
    write_extra(L, out, at);
    BUF_ADD(out, "}");
    lua_getfield(L, at, "headers");
    lua_getfield(L, at, "cookies");
    add_headers(L, x, &a, lua_gettop(L) - 1, lua_gettop(L));
    if (a.status == 503 && !response_header(&a, SLICE("Retry-After"), SLICE("1")))
        luaL_error(L, "too many headers");
    take_scratch(L, x, &a);
    x->answered = true;
    request_answer(x->request, &a);
}

/* An error that nobody raised on purpose: its text stays here, but in development. */
static void answer_error(lua_State *L, struct exchange *x)
{
    const char *text = luaL_tolstring(L, 2, NULL),
               *end = strstr(text, "\nstack traceback:");
    size_t n = end == NULL ? strlen(text) : (size_t)(end - text);

    if (strstr(text, "not enough memory") == text) {
        log_failure(L, x, 503, 2);
        web_answer_no_memory(x);
        return;
    }
    log_failure(L, x, 500, 2);
    if (!x->env->development) {
        web_answer_error(x, 500, "INTERNAL", "Something went wrong");
        return;
    }
    lua_pushlstring(L, text, n);
    web_answer_error(x, 500, "INTERNAL", lua_tostring(L, -1));
}

/* Making the answer may fail, too: a file that is not there, a value that is no JSON. */
static int protected_result(lua_State *L)
{
    answer_result(L, task_context(task_current(L)));
    return 0;
}

static void answer_any_failure(lua_State *L, struct exchange *x)
{
    if (fail_test(L, 2)) answer_failure(L, x, 2);
    else answer_error(L, x);
}

int web_finish(lua_State *L)
{
    struct exchange *x = task_context(task_current(L));

    if (x->streaming) {
        if (!lua_toboolean(L, 1)) log_failure(L, x, 500, 2);
        return 0;
    }
    if (lua_toboolean(L, 1)) {
        lua_settop(L, 2);
        lua_pushcfunction(L, protected_result);
        lua_insert(L, 1);
        if (lua_pcall(L, 2, 0, 0) == LUA_OK || x->answered) return 0;
        lua_pushboolean(L, 0);
        lua_insert(L, 1);
    }
    answer_any_failure(L, x);
    return 0;
}

void web_answer_open(lua_State *L)
{
    luaL_newmetatable(L, ANSWER_TYPE);
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
}
