#include "script/web.h"

#include <fcntl.h>
#include <lauxlib.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "script/fail.h"
#include "script/form_fields.h"
#include "script/json_read.h"
#include "script/task.h"

/* `req` in Lua.  Fields are made when first asked for and kept in a table, the user
 * value; scripts may set fields of their own there (req.user). */
#define REQUEST_TYPE "omade.request"

struct web_request {
    struct exchange *x; /* NULL: the request is over */
};

void web_request_push(lua_State *L, struct exchange *x)
{
    struct web_request *handle = lua_newuserdatauv(L, sizeof *handle, 1);

    handle->x = NULL;
    luaL_setmetatable(L, REQUEST_TYPE);
    handle->x = x;
    x->handle = handle;
}

void web_request_over(struct exchange *x)
{
    if (x->handle != NULL) x->handle->x = NULL;
    x->handle = NULL;
}

static int request_gc(lua_State *L)
{
    struct web_request *handle = lua_touserdata(L, 1);

    if (handle->x != NULL) handle->x->handle = NULL;
    handle->x = NULL;
    return 0;
}

struct exchange *web_request_check(lua_State *L, int at)
{
    struct web_request *handle = luaL_checkudata(L, at, REQUEST_TYPE);

    if (handle->x == NULL) luaL_error(L, "request is over");
    return handle->x;
}

struct exchange *web_request_peek(lua_State *L, int at)
{
    struct web_request *handle = luaL_testudata(L, at, REQUEST_TYPE);

    return handle == NULL ? NULL : handle->x;
}

/* ---- makers of fields ------------------------------------------------------------- */

static void push_slice(lua_State *L, struct slice s) { lua_pushlstring(L, s.p, s.n); }

static int refuse(lua_State *L, int status, const char *code, const char *message)
{
    fail_push(L, status, code, message, NULL);
    return lua_error(L);
}

static void make_params(lua_State *L, struct exchange *x)
{
    lua_createtable(L, 0, x->match.param_count);
    for (int i = 0; i < x->match.param_count; i++) {
        push_slice(L, x->match.names[i]);
        push_slice(L, x->match.values[i]);
        lua_rawset(L, -3);
    }
}

/* Whether the table on top has it. */
static bool has_key(lua_State *L, struct slice key)
{
    bool has;

    push_slice(L, key);
    has = lua_rawget(L, -2) != LUA_TNIL;
    lua_pop(L, 1);
    return has;
}

/* A key may come again, and then counts, unless 'once'. */
static void make_pairs(lua_State *L, struct exchange *x, struct slice rest,
                       const char *what, bool once)
{
    struct slice key, value;
    int got;

    lua_newtable(L);
    while ((got = form_next(&x->request->arena, &rest, &key, &value)) == 1) {
        if (once && has_key(L, key)) form_field_twice(L, key);
        push_slice(L, key);
        push_slice(L, value);
        lua_rawset(L, -3);
    }
    if (got == 0) return;
    lua_pushfstring(
        L, "The %s is malformed: percent-encoded UTF-8 without NUL is expected", what);
    refuse(L, 400, "BAD_REQUEST", lua_tostring(L, -1));
}

static void make_query(lua_State *L, struct exchange *x)
{
    make_pairs(L, x, x->request->query, "query", false);
}

static void push_lower(lua_State *L, struct slice name)
{
    luaL_Buffer b;
    char *lower = luaL_buffinitsize(L, &b, name.n);

    for (size_t i = 0; i < name.n; i++) {
        char c = name.p[i];

        lower[i] = c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
    }
    luaL_pushresultsize(&b, name.n);
}

static bool is_cookie(struct slice name)
{
    return slice_equal_fold(name, SLICE("Cookie"));
}

/* Names in lower case; of repeated ones, the values joined by ", " (RFC 9110, 5.3). */
static void make_headers(lua_State *L, struct exchange *x)
{
    lua_createtable(L, 0, (int)x->request->header_count);
    for (size_t i = 0; i < x->request->header_count; i++) {
        struct header *h = &x->request->headers[i];

        push_lower(L, h->name);
        lua_pushvalue(L, -1);
        if (lua_rawget(L, -3) == LUA_TNIL) {
            lua_pop(L, 1);
            push_slice(L, h->value);
        } else {
            lua_pushstring(L, is_cookie(h->name) ? "; " : ", ");
            push_slice(L, h->value);
            lua_concat(L, 3);
        }
        lua_rawset(L, -3);
    }
}

/* Of a name that comes twice the first counts: it has the longer path (RFC 6265, 5.4). */
static void add_cookies(lua_State *L, struct slice rest)
{
    struct slice key, value;

    while (cookie_next(&rest, &key, &value) == 1) {
        push_slice(L, key);
        lua_pushvalue(L, -1);
        if (lua_rawget(L, -3) != LUA_TNIL) {
            lua_pop(L, 2);
            continue;
        }
        lua_pop(L, 1);
        push_slice(L, value);
        lua_rawset(L, -3);
    }
}

static void make_cookies(lua_State *L, struct exchange *x)
{
    const struct request *r = x->request;

    lua_newtable(L);
    for (size_t i = 0; i < r->header_count; i++)
        if (is_cookie(r->headers[i].name)) add_cookies(L, r->headers[i].value);
}

/* ---- the body ------------------------------------------------------------------------ */

/* The media type without its parameters. */
static struct slice media_type(struct slice type)
{
    size_t n = 0;

    while (n < type.n && type.p[n] != ';') n++;
    while (n > 0 && (type.p[n - 1] == ' ' || type.p[n - 1] == '\t')) n--;
    return (struct slice){ type.p, n };
}

static bool is_json(struct slice media)
{
    return slice_equal_fold(media, SLICE("application/json")) ||
           (media.n > 17 && strncasecmp(media.p, "application/", 12) == 0 &&
            strncasecmp(media.p + media.n - 5, "+json", 5) == 0);
}

/* Only UTF-8 is spoken here. */
static bool has_other_charset(struct slice type)
{
    struct slice rest = type;

    while (rest.n > 0) {
        if (rest.n >= 8 && strncasecmp(rest.p, "charset=", 8) == 0) {
            struct slice value = { rest.p + 8, rest.n - 8 };

            if (value.n > 0 && value.p[0] == '"')
                value = (struct slice){ value.p + 1, value.n - 1 };
            return value.n < 5 ||
                   (strncasecmp(value.p, "utf-8", 5) != 0 &&
                    (value.n < 8 || strncasecmp(value.p, "us-ascii", 8) != 0));
        }
        rest.p++;
        rest.n--;
    }
    return false;
}

static void make_json(lua_State *L, struct exchange *x)
{
    struct json_fault fault;

    if (json_read(L, x->request->body, NULL, &fault)) return;
    lua_pushfstring(L, "The body is not valid JSON: %s (line %d, column %d)",
                    fault.message, fault.line, fault.column);
    refuse(L, 400, "MALFORMED_JSON", lua_tostring(L, -1));
}

static void push_part(lua_State *L, const struct form_part *part)
{
    if (part->filename.p == NULL) {
        push_slice(L, part->body);
        return;
    }
    lua_createtable(L, 0, 3);
    push_slice(L, part->filename);
    lua_setfield(L, -2, "filename");
    if (part->content_type.p != NULL) {
        push_slice(L, part->content_type);
        lua_setfield(L, -2, "type");
    }
    push_slice(L, part->body);
    lua_setfield(L, -2, "data");
}

enum { PARTS_MAX = 100 };

static void make_multipart(lua_State *L, struct exchange *x, struct slice type)
{
    struct form_part *parts = arena_get(&x->request->arena, PARTS_MAX * sizeof *parts);
    int count;

    if (parts == NULL) luaL_error(L, "not enough memory");
    count = multipart_split(type, x->request->body, parts, PARTS_MAX);
    if (count < 0) refuse(L, 400, "BAD_REQUEST", "The multipart body is malformed");
    form_fields_check(L, parts, count);
    lua_newtable(L);
    for (int i = 0; i < count; i++) {
        push_slice(L, parts[i].name);
        push_part(L, &parts[i]);
        lua_rawset(L, -3);
    }
}

/* A page of anybody's may send forms to us, JSON only with our leave (CORS): so a route
 * has to ask for forms. */
static bool is_form(const struct exchange *x, struct slice media, const char *type)
{
    return x->route->form && slice_equal_fold(media, slice_of(type));
}

static bool is_compressed(const struct exchange *x)
{
    struct slice coding = request_header(x->request, SLICE("Content-Encoding"));

    return coding.n > 0 && !slice_equal_fold(coding, SLICE("identity"));
}

static void make_body(lua_State *L, struct exchange *x)
{
    struct slice type = request_header(x->request, SLICE("Content-Type"));
    struct slice media = type.p == NULL ? (struct slice){ 0 } : media_type(type);

    if (x->request->body.n == 0) {
        lua_pushnil(L);
    } else if (is_compressed(x)) {
        refuse(L, 415, "UNSUPPORTED_MEDIA_TYPE", "The body must not be compressed");
    } else if (is_json(media) && !has_other_charset(type)) {
        make_json(L, x);
    } else if (is_form(x, media, "application/x-www-form-urlencoded")) {
        make_pairs(L, x, x->request->body, "form", true);
    } else if (is_form(x, media, "multipart/form-data")) {
        make_multipart(L, x, type);
    } else {
        refuse(L, 415, "UNSUPPORTED_MEDIA_TYPE",
               x->route->form ? "The body must be application/json or a form, in UTF-8"
                              : "The body must be application/json, in UTF-8");
    }
}

static void make_raw(lua_State *L, struct exchange *x)
{
    if (!task_charge(x->task, x->request->body.n)) luaL_error(L, "not enough memory");
    push_slice(L, x->request->body);
}

/* The bytes of a body that went to a file: an object with size and :save(path). */
static void make_size(lua_State *L, struct exchange *x)
{
    lua_pushinteger(L, x->request->body_bytes);
}

static void make_method(lua_State *L, struct exchange *x)
{
    push_slice(L, method_name(x->request->method));
}

static void make_path(lua_State *L, struct exchange *x)
{
    push_slice(L, x->request->path);
}
static void make_target(lua_State *L, struct exchange *x)
{
    push_slice(L, x->request->target);
}
static void make_host(lua_State *L, struct exchange *x)
{
    push_slice(L, x->request->host);
}
static void make_id(lua_State *L, struct exchange *x)
{
    lua_pushstring(L, x->request->id);
}
static void make_ip(lua_State *L, struct exchange *x)
{
    lua_pushstring(L, x->request->peer);
}
static void make_scheme(lua_State *L, struct exchange *x)
{
    lua_pushstring(L, x->request->https ? "https" : "http");
}
static void make_route(lua_State *L, struct exchange *x)
{
    lua_pushstring(L, x->route->name);
}

static void make_version(lua_State *L, struct exchange *x)
{
    lua_pushstring(L, x->request->minor == 1 ? "1.1" : "1.0");
}

static void make_cancelled(lua_State *L, struct exchange *x)
{
    lua_pushboolean(L, x->gone);
}

/* ---- fields ------------------------------------------------------------------------- */

static const struct {
    const char *name;
    void (*make)(lua_State *L, struct exchange *x);
    bool keep; /* it stays what it is */
} makers[] = {
    { "params", make_params, true },
    { "query", make_query, true },
    { "body", make_body, true },
    { "headers", make_headers, true },
    { "method", make_method, true },
    { "path", make_path, true },
    { "raw", make_raw, true },
    { "id", make_id, true },
    { "ip", make_ip, true },
    { "cookies", make_cookies, true },
    { "scheme", make_scheme, true },
    { "target", make_target, true },
    { "host", make_host, true },
    { "route", make_route, true },
    { "size", make_size, true },
    { "version", make_version, true },
    { "cancelled", make_cancelled, false },
};

/* req:header("X-Session-Id"): one value, without a table of all. */
static int request_one_header(lua_State *L)
{
    struct exchange *x = web_request_check(L, 1);
    size_t n;
    const char *name = luaL_checklstring(L, 2, &n);
    struct slice value = request_header(x->request, (struct slice){ name, n });

    if (value.p == NULL) lua_pushnil(L);
    else push_slice(L, value);
    return 1;
}

/* req:add_header(name, value): a line that whatever answers this request carries, an
 * error, too. */
static int request_add_header(lua_State *L)
{
    struct exchange *x = web_request_check(L, 1);
    struct response probe = { .status = 200 };
    struct slice name, value, all;

    name.p = luaL_checklstring(L, 2, &name.n);
    value.p = luaL_checklstring(L, 3, &value.n);
    if (!response_header(&probe, name, value))
        return luaL_error(L, "header '%s' is malformed", name.p);
    lua_pushlstring(L, x->headers.p == NULL ? "" : x->headers.p, x->headers.n);
    lua_pushfstring(L, "%s: %s\r\n", name.p, value.p);
    lua_concat(L, 2);
    all.p = lua_tolstring(L, -1, &all.n);
    all = arena_copy(&x->request->arena, all.p, all.n);
    if (all.p == NULL) return luaL_error(L, "not enough memory");
    x->headers = all;
    return 0;
}

/* req:save(path): keeps a body that went to a file under that name, which must not
 * exist yet.  nil and a message when it cannot. */
static int request_save(lua_State *L)
{
    struct exchange *x = web_request_check(L, 1);
    const char *path = luaL_checkstring(L, 2);
    char from[40];

    if (x->request->body_fd < 0)
        return luaL_error(L, "req:save needs a route with body = \"file\"");
    snprintf(from, sizeof from, "/proc/self/fd/%d", x->request->body_fd);
    if (linkat(AT_FDCWD, from, AT_FDCWD, path, AT_SYMLINK_FOLLOW) == 0) {
        lua_pushboolean(L, 1);
        return 1;
    }
    return luaL_fileresult(L, 0, path);
}

enum { FIELDS_EXPECTED = 2 };

static void keep_field(lua_State *L)
{
    if (lua_getiuservalue(L, 1, 1) != LUA_TTABLE) {
        lua_pop(L, 1);
        lua_createtable(L, 0, FIELDS_EXPECTED);
        lua_pushvalue(L, -1);
        lua_setiuservalue(L, 1, 1);
    }
    lua_pushvalue(L, 2);
    lua_pushvalue(L, -3);
    lua_rawset(L, -3);
    lua_pop(L, 1);
}

/* Upvalue: {name = method, or the number of its maker} */
static int request_index(lua_State *L)
{
    struct web_request *handle = luaL_checkudata(L, 1, REQUEST_TYPE);
    size_t maker;

    if (lua_getiuservalue(L, 1, 1) == LUA_TTABLE) {
        lua_pushvalue(L, 2);
        if (lua_rawget(L, -2) != LUA_TNIL) return 1;
    }
    lua_settop(L, 2);
    luaL_checkstring(L, 2);
    lua_pushvalue(L, 2);
    if (lua_rawget(L, lua_upvalueindex(1)) == LUA_TFUNCTION) return 1;
    if (handle->x == NULL) return luaL_error(L, "request is over");
    if (lua_isnil(L, -1)) return 1;
    maker = (size_t)lua_tointeger(L, -1);
    makers[maker].make(L, handle->x);
    if (!lua_isnil(L, -1) && makers[maker].keep) keep_field(L);
    return 1;
}

static int request_newindex(lua_State *L)
{
    luaL_checkudata(L, 1, REQUEST_TYPE);
    lua_settop(L, 3);
    keep_field(L);
    return 0;
}

static int request_text(lua_State *L)
{
    struct web_request *handle = luaL_checkudata(L, 1, REQUEST_TYPE);

    if (handle->x == NULL) lua_pushliteral(L, "request (over)");
    else
        lua_pushfstring(L, "request %s (%s)", handle->x->request->id,
                        handle->x->route->name);
    return 1;
}

void web_request_open(lua_State *L)
{
    static const luaL_Reg meta[] = {
        { "__newindex", request_newindex },
        { "__gc", request_gc },
        { "__tostring", request_text },
        { NULL, NULL },
    };

    static const luaL_Reg methods[] = {
        { "header", request_one_header },
        { "add_header", request_add_header },
        { "read", web_body_read },
        { "save", request_save },
        { NULL, NULL },
    };

    luaL_newmetatable(L, REQUEST_TYPE);
    luaL_setfuncs(L, meta, 0);
    luaL_newlib(L, methods);
    for (size_t i = 0; i < COUNT_OF(makers); i++) {
        lua_pushinteger(L, (lua_Integer)i);
        lua_setfield(L, -2, makers[i].name);
    }
    lua_pushcclosure(L, request_index, 1);
    lua_setfield(L, -2, "__index");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
}
