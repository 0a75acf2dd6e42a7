/* web.h -- HTTP requests to tasks, and what handlers return to answers.
 *
 *   on_head      route_find: limits and mode of the body
 *   on_request   a task runs the route's function with `req`
 *   finish       the result, or the error, becomes the answer (web_answer.c)
 *
 * The function of a route is made by lua/omade/web.lua: who may call, shapes, hooks,
 * handler, in one closure.
 */
#ifndef SCRIPT_WEB_H
#define SCRIPT_WEB_H

#include <lua.h>

#include "http/route.h"
#include "http/server.h"
#include "script/vm.h"

/* One line of a route file. */
struct web_route {
    char *name;                    /* "GET /api/v1/products/:id" */
    char handler[LUA_IDSIZE + 12]; /* "file:line" where it begins */
    int run_ref;                   /* the closure, in the registry */
    enum body_mode body_mode;
    int64_t body_limit;  /* bytes; -1: the server's default */
    int64_t files_limit; /* a multipart body goes to a file, up to it; 0: it does not */
    int metric;          /* its number in env->metrics */
    bool etag;           /* ETag and 304 */
    bool form;           /* forms are read, beside JSON */
    bool is_public;      /* no Cache-Control: no-store */
};

/* One request under way; lives in the request's arena. */
struct exchange {
    struct request *request; /* NULL once it is given back */
    struct script_env *env;
    uint64_t generation;     /* of the match below */
    struct web_route *route; /* NULL: none found */
    int metric;              /* of the route, which it outlives; -1: none */
    struct route_match match;
    enum route_found found;
    struct task *task;
    struct web_request *handle; /* the `req` of Lua; NULL once collected */
    bool answered, streaming, body_ended, gone;
    bool client_waits;          /* a streamed answer waits for the client */
    struct body_reader *reader; /* BODY_STREAM, see web_body.c */
    int64_t body_ms;            /* when its last bytes came; 0: never */
    struct web_stream *stream;  /* see web_stream.c */
    struct slice headers;       /* lines that any answer carries: req:add_header */
};

/* The callbacks for the server; 'env' is the context. */
void web_app(struct script_env *env, struct server_app *app);

/* Pops the app's value (what app.lua returned) and builds vm->routes; raises. */
void web_routes_build(lua_State *L, struct vm *vm);
void web_routes_free(struct vm *vm);

/* Whether the task streams an answer, which may have no end of its own. */
bool web_is_stream(const struct task *task);

/* Whether it works on a request for longer than so, counted from the last bytes of a body
 * that it reads itself.  Streams have the time that they want. */
bool web_is_late(const struct task *task, int64_t limit_ms);

/* ---- between the files of web ------------------------------------------------- */

/* `req`: pushes the userdata, which knows by web_request_over() that it is over. */
void web_request_push(lua_State *L, struct exchange *x);
struct exchange *web_request_check(lua_State *L, int at); /* raises "request is over" */
struct exchange *web_request_peek(lua_State *L, int at);  /* NULL: it is over */
void web_request_over(struct exchange *x);
void web_request_open(lua_State *L); /* makes the metatable */

/* Answers from results and errors: the finish of a request's task. */
int web_finish(lua_State *L);
void web_answer_error(struct exchange *x, int status, const char *code,
                      const char *message);
void web_answer_no_memory(struct exchange *x);
void web_error_body(struct buf *b, const char *code, const char *message,
                    const char *request_id);
void web_answer_open(lua_State *L);

/* Streamed answers: runs the function of web.stream in the request's task. */
void web_stream_drained(struct exchange *x);
void web_stream_open(lua_State *L);
void web_stream_over(struct exchange *x);

/* Streamed request bodies: req:read(). */
void web_body_arrived(struct exchange *x, struct slice bytes, bool last);
void web_body_gone(struct exchange *x);
int web_body_read(lua_State *L);
MUST_CHECK bool web_body_begin(struct exchange *x);

#endif
