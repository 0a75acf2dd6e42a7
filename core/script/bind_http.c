#include "script/bind_http.h"

#include <lauxlib.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "script/bind_bytes.h"
#include "script/bind_type.h"
#include "script/fail.h"
#include "script/fetch.h"
#include "script/task.h"
#include "script/vm.h"

enum { URL_MAX = 8192, BODY_DEFAULT = 1024 * 1024, BODY_MOST = 16 * 1024 * 1024 };
enum { TIMEOUT_DEFAULT = 10, TIMEOUT_MOST = 120, REDIRECTS_MAX = 5 };

static const char NAME[] = "http.request";

/* One request.  Its options and the body's text stay on the stack while it waits. */
struct call {
    struct fetch fetch;
    struct task *task;
    uint32_t ticket;
    struct curl_slist *headers;
    char *body; /* of bytes, whose own may go to somebody else meanwhile */
    char host[256];
};

/* ---- life ------------------------------------------------------------------------ */

static void call_clear(struct call *call)
{
    fetch_clear(&call->fetch);
    curl_slist_free_all(call->headers);
    mem_free(call->body);
    call->headers = NULL;
    call->body = NULL;
}

static int call_gc(lua_State *L)
{
    call_clear(lua_touserdata(L, 1));
    return 0;
}

static const luaL_Reg call_meta[] = { { "__gc", call_gc }, { NULL, NULL } };
static const struct bind_type call_type = { "omade.http_call", "http_call", call_meta,
                                            NULL };

static void on_done(void *ctx, struct fetch *fetch)
{
    struct call *call = ctx;

    (void)fetch;
    task_wake(call->task, call->ticket);
}

static void call_cancel(void *ctx) { call_clear(ctx); }

/* ---- failures -------------------------------------------------------------------- */

static int no_memory(lua_State *L) { return luaL_error(L, "not enough memory"); }

/* The host, never the rest of the URL: it may hold secrets. */
static int refuse(lua_State *L, const struct call *call, int status, const char *code,
                  const char *message, const char *why)
{
    const char *detail = lua_pushfstring(L, "%s: %s: %s", NAME, call->host, why);

    fail_push(L, status, code, message, detail);
    return lua_error(L);
}

static int raise_away(lua_State *L, const struct call *call, const char *why)
{
    return refuse(L, call, 503, "UNAVAILABLE", "A service is away; try again later", why);
}

static int raise_outcome(lua_State *L, const struct call *call)
{
    const struct fetch *fetch = &call->fetch;

    switch (fetch->outcome) {
    case FETCH_TIMEOUT:
        return refuse(L, call, 504, "TIMEOUT", "A service did not answer in time",
                      curl_easy_strerror(CURLE_OPERATION_TIMEDOUT));
    case FETCH_TOO_LARGE:
        return raise_away(L, call, "the answer is too large (max_bytes; 64 KiB of head)");
    case FETCH_NO_MEMORY: return no_memory(L);
    default: return raise_away(L, call, curl_easy_strerror(fetch->code));
    }
}

/* ---- the answer ------------------------------------------------------------------ */

static bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

static struct slice trimmed(struct slice s)
{
    while (s.n > 0 && is_blank(s.p[s.n - 1])) s.n--;
    while (s.n > 0 && is_blank(s.p[0])) {
        s.p++;
        s.n--;
    }
    return s;
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

/* [top] the table of headers.  Repeated ones are joined by ", " (RFC 9110, 5.3). */
static void add_line(lua_State *L, struct slice line)
{
    const char *colon = memchr(line.p, ':', line.n);
    struct slice name, value;

    if (colon == NULL || is_blank(line.p[0])) return; /* no header, or a folded one */
    name = trimmed((struct slice){ line.p, (size_t)(colon - line.p) });
    value = trimmed((struct slice){ colon + 1, line.n - (size_t)(colon + 1 - line.p) });
    push_lower(L, name);
    lua_pushvalue(L, -1);
    if (lua_rawget(L, -3) == LUA_TNIL) {
        lua_pop(L, 1);
        lua_pushlstring(L, value.p, value.n);
    } else {
        lua_pushliteral(L, ", ");
        lua_pushlstring(L, value.p, value.n);
        lua_concat(L, 3);
    }
    lua_rawset(L, -3);
}

static void push_headers(lua_State *L, struct slice head)
{
    lua_createtable(L, 0, 8);
    while (head.n > 0) {
        const char *newline = memchr(head.p, '\n', head.n);
        size_t n = newline == NULL ? head.n : (size_t)(newline + 1 - head.p);

        add_line(L, (struct slice){ head.p, n });
        head = (struct slice){ head.p + n, head.n - n };
    }
}

static int request_finish(lua_State *L, int status, lua_KContext ctx)
{
    struct call *call = (struct call *)ctx;
    struct fetch *fetch = &call->fetch;

    (void)status;
    task_resumed(L);
    if (fetch->outcome != FETCH_OK) {
        call_clear(call);
        return raise_outcome(L, call);
    }
    if (!task_charge(call->task, fetch->head.n + fetch->body.n)) {
        call_clear(call);
        return no_memory(L);
    }
    lua_createtable(L, 0, 3);
    lua_pushinteger(L, fetch->status);
    lua_setfield(L, -2, "status");
    push_headers(L, buf_slice(&fetch->head));
    lua_setfield(L, -2, "headers");
    lua_pushlstring(L, fetch->body.p, fetch->body.n);
    lua_setfield(L, -2, "body");
    call_clear(call);
    return 1;
}

/* ---- options --------------------------------------------------------------------- */

/* [1] the options */
static int push_option(lua_State *L, const char *name)
{
    lua_pushstring(L, name);
    return lua_rawget(L, 1);
}

static void check_names(lua_State *L)
{
    static const char *const names[] = { "method",  "url",       "headers", "body",
                                         "timeout", "max_bytes", "follow" };

    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    lua_pushnil(L);
    while (lua_next(L, 1)) {
        const char *name =
            lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "(none)";
        bool known = false;

        for (size_t i = 0; i < COUNT_OF(names); i++)
            known = known || strcmp(name, names[i]) == 0;
        if (!known)
            luaL_error(L,
                       "%s: no option '%s'; there are method, url, headers, body, "
                       "timeout, max_bytes and follow",
                       NAME, name);
        lua_pop(L, 1);
    }
}

static void check(lua_State *L, CURLcode code)
{
    if (code != CURLE_OK) no_memory(L);
}

/* Reads the host out of the URL; false when it is none that can be asked. */
static bool read_host(struct call *call, const char *url)
{
    CURLU *parsed = curl_url();
    char *scheme = NULL, *host = NULL;
    bool ok;

    ok = parsed != NULL && curl_url_set(parsed, CURLUPART_URL, url, 0) == CURLUE_OK &&
         curl_url_get(parsed, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
         curl_url_get(parsed, CURLUPART_HOST, &host, 0) == CURLUE_OK &&
         (strcasecmp(scheme, "http") == 0 || strcasecmp(scheme, "https") == 0) &&
         strlen(host) < sizeof call->host;
    if (ok) strcpy(call->host, host);
    curl_free(scheme);
    curl_free(host);
    curl_url_cleanup(parsed);
    return ok;
}

static void read_url(lua_State *L, struct call *call)
{
    const char *url;
    size_t n;

    if (push_option(L, "url") != LUA_TSTRING) luaL_error(L, "%s: url is missing", NAME);
    url = lua_tolstring(L, -1, &n);
    if (n > URL_MAX || strlen(url) != n || !read_host(call, url))
        luaL_error(L, "%s: the url must be http://... or https://..., up to 8,192 bytes",
                   NAME);
    check(L, curl_easy_setopt(call->fetch.easy, CURLOPT_URL, url));
    lua_pop(L, 1);
}

/* Sets 'p' to NULL when there is none.  The text stays on the stack. */
static struct slice read_body(lua_State *L, struct call *call)
{
    struct bytes *bytes;
    struct slice body;

    switch (push_option(L, "body")) {
    case LUA_TNIL: return (struct slice){ 0 };
    case LUA_TSTRING: body.p = lua_tolstring(L, -1, &body.n); return body;
    default: break;
    }
    bytes = bytes_test(L, -1);
    if (bytes == NULL) luaL_error(L, "%s: the body must be a string or bytes", NAME);
    if (!task_charge(call->task, bytes->s.n)) no_memory(L);
    call->body = mem_copy_text(bytes->s.n == 0 ? "" : bytes->s.p, bytes->s.n);
    if (call->body == NULL) no_memory(L);
    return (struct slice){ call->body, bytes->s.n };
}

static bool is_any_of(const char *text, const char *const list[], size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (strcasecmp(text, list[i]) == 0) return true;
    return false;
}

static const char *read_method(lua_State *L)
{
    static const char *const methods[] = { "GET",   "HEAD",   "POST",   "PUT",
                                           "PATCH", "DELETE", "OPTIONS" };
    const char *method = "GET";

    if (push_option(L, "method") != LUA_TNIL)
        method = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "";
    for (size_t i = 0; i < COUNT_OF(methods); i++)
        if (strcmp(method, methods[i]) == 0) return methods[i];
    luaL_error(L,
               "%s: no method '%s'; there are GET, HEAD, POST, PUT, PATCH, DELETE and "
               "OPTIONS",
               NAME, method);
    return NULL;
}

/* A method that means a body has one, if only an empty one (Content-Length: 0). */
static void set_method(lua_State *L, CURL *easy, const char *method, struct slice body)
{
    static const char *const senders[] = { "POST", "PUT", "PATCH" };
    bool sends = body.p != NULL || is_any_of(method, senders, COUNT_OF(senders));

    if (strcmp(method, "HEAD") == 0) {
        if (sends) luaL_error(L, "%s: HEAD has no body", NAME);
        check(L, curl_easy_setopt(easy, CURLOPT_NOBODY, 1L));
        return;
    }
    if (sends) {
        check(L, curl_easy_setopt(easy, CURLOPT_POST, 1L));
        check(L, curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)body.n));
        check(L,
              curl_easy_setopt(easy, CURLOPT_POSTFIELDS, body.p == NULL ? "" : body.p));
    }
    if (strcmp(method, sends ? "POST" : "GET") != 0)
        check(L, curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, method));
}

static void read_follow(lua_State *L, CURL *easy, const char *method)
{
    push_option(L, "follow");
    if (lua_toboolean(L, -1)) {
        if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0)
            luaL_error(L, "%s: only GET and HEAD follow redirects", NAME);
        check(L, curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 1L));
        check(L, curl_easy_setopt(easy, CURLOPT_MAXREDIRS, (long)REDIRECTS_MAX));
    }
    lua_pop(L, 1);
}

static void read_limits(lua_State *L, struct fetch *fetch)
{
    lua_Number seconds = TIMEOUT_DEFAULT, bytes = BODY_DEFAULT;

    if (push_option(L, "timeout") != LUA_TNIL) {
        seconds = lua_type(L, -1) == LUA_TNUMBER ? lua_tonumber(L, -1) : 0;
        if (!(seconds >= 0.001 && seconds <= TIMEOUT_MOST))
            luaL_error(L, "%s: timeout is above 0, up to 120 seconds", NAME);
    }
    if (push_option(L, "max_bytes") != LUA_TNIL) {
        bytes = lua_type(L, -1) == LUA_TNUMBER ? lua_tonumber(L, -1) : -1;
        if (!(bytes >= 0 && bytes <= BODY_MOST))
            luaL_error(L, "%s: max_bytes is 0 to 16,777,216", NAME);
    }
    lua_pop(L, 2);
    fetch->timeout_ms = (int64_t)(seconds * 1000);
    fetch->byte_max = (size_t)bytes;
}

/* ---- headers --------------------------------------------------------------------- */

static bool is_token(const char *p)
{
    static const char others[] = "!#$%&'*+-.^_`|~";
    bool ok = *p != '\0';

    for (; *p != '\0'; p++)
        ok = ok && ((*p >= '0' && *p <= '9') || (*p >= 'A' && *p <= 'Z') ||
                    (*p >= 'a' && *p <= 'z') || strchr(others, *p) != NULL);
    return ok;
}

static void add_header(lua_State *L, struct call *call, const char *line)
{
    struct curl_slist *longer = curl_slist_append(call->headers, line);

    if (longer == NULL) no_memory(L);
    call->headers = longer;
}

/* [-2] name [-1] value */
static void read_header(lua_State *L, struct call *call)
{
    static const char *const ours[] = { "Content-Length", "Transfer-Encoding",
                                        "Connection",     "Expect",
                                        "Trailer",        "Upgrade" };
    const char *name, *value;
    size_t n, name_n;

    if (lua_type(L, -2) != LUA_TSTRING || !lua_isstring(L, -1))
        luaL_error(L, "%s: headers is a table of name = text", NAME);
    name = lua_tolstring(L, -2, &name_n);
    value = lua_tolstring(L, -1, &n);
    if (strlen(name) != name_n || !is_token(name))
        luaL_error(L, "%s: a header's name is malformed", NAME);
    if (is_any_of(name, ours, COUNT_OF(ours)))
        luaL_error(L, "%s: the header '%s' is not for scripts", NAME, name);
    if (strlen(value) != n || strpbrk(value, "\r\n") != NULL)
        luaL_error(L, "%s: the header '%s' must not contain CR, LF or NUL", NAME, name);
    /* "Name:" would take a header of curl's own away, "Name;" sends an empty one. */
    if (value[strspn(value, " \t")] == '\0') lua_pushfstring(L, "%s;", name);
    else lua_pushfstring(L, "%s: %s", name, value);
    add_header(L, call, lua_tostring(L, -1));
    lua_pop(L, 1);
}

/* curl's own ideas come first, so that the script's replace them: no type that nobody
 * declared, no waiting for "100 Continue". */
static void read_headers(lua_State *L, struct call *call)
{
    bool typed = false;

    add_header(L, call, "Expect:");
    if (push_option(L, "headers") != LUA_TNIL) {
        if (!lua_istable(L, -1))
            luaL_error(L, "%s: headers is a table of name = text", NAME);
        lua_pushnil(L);
        while (lua_next(L, -2)) {
            read_header(L, call);
            typed = typed || strcasecmp(lua_tostring(L, -2), "Content-Type") == 0;
            lua_pop(L, 1);
        }
    }
    lua_pop(L, 1);
    if (!typed) add_header(L, call, "Content-Type:");
    check(L, curl_easy_setopt(call->fetch.easy, CURLOPT_HTTPHEADER, call->headers));
}

/* ---- the module ------------------------------------------------------------------ */

static struct call *read_call(lua_State *L, struct task *task)
{
    struct call *call;
    struct slice body;
    const char *method;

    check_names(L);
    call = bind_type_new(L, &call_type, sizeof *call);
    call->task = task;
    call->fetch.on_done = on_done;
    call->fetch.ctx = call;
    call->fetch.easy = fetch_easy(vm_env(task_vm(task)));
    if (call->fetch.easy == NULL) no_memory(L);
    read_url(L, call);
    read_limits(L, &call->fetch);
    read_headers(L, call);
    method = read_method(L);
    read_follow(L, call->fetch.easy, method);
    body = read_body(L, call);
    set_method(L, call->fetch.easy, method, body);
    return call;
}

/* http.request{url = ..., ...} -> {status =, headers =, body =} */
static int http_request(lua_State *L)
{
    struct task *task = task_may_wait(L, NAME);
    struct call *call = read_call(L, task);

    switch (fetch_start(vm_env(task_vm(task)), &call->fetch)) {
    case FETCH_BEGUN: break;
    case FETCH_NOT_BEGUN: call_clear(call); return no_memory(L);
    case FETCH_FULL:
        call_clear(call);
        return refuse(L, call, 503, "UNAVAILABLE", "The server is busy; try again later",
                      "too many requests are under way (64, and 200 that wait)");
    }
    call->ticket = task_await(task, NAME, call_cancel, call);
    return lua_yieldk(L, 0, (lua_KContext)call, request_finish);
}

int luaopen_omade_http(lua_State *L)
{
    static const luaL_Reg functions[] = { { "request", http_request }, { NULL, NULL } };

    luaL_newlib(L, functions);
    return 1;
}

void http_end(struct script_env *env) { fetch_end(env); }
