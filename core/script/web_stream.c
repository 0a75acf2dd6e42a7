/* Answers that a handler writes piece by piece: web.stream(function(stream) ... end).
 *
 * Events (text/event-stream) and chunks.  The function runs in the request's task after
 * the head was sent, so it may wait; it is ended when its client leaves. */
#include "script/web.h"

#include <lauxlib.h>
#include <string.h>

#include "script/fail.h"
#include "script/task.h"

#define STREAM_TYPE "omade.stream"

struct web_stream {
    struct exchange *x; /* NULL: over */
    struct task *task;  /* waits for the client to read */
    uint32_t ticket;
};

void web_stream_over(struct exchange *x)
{
    if (x->stream == NULL) return;
    x->stream->x = NULL;
    if (x->stream->task != NULL) task_wake(x->stream->task, x->stream->ticket);
    x->stream = NULL;
}

void web_stream_drained(struct exchange *x)
{
    if (x->stream != NULL && x->stream->task != NULL)
        task_wake(x->stream->task, x->stream->ticket);
}

static struct web_stream *stream_check(lua_State *L)
{
    struct web_stream *stream = luaL_checkudata(L, 1, STREAM_TYPE);

    if (stream->x == NULL || stream->x->request == NULL)
        luaL_error(L, "the stream is over");
    return stream;
}

static int stream_gc(lua_State *L)
{
    struct web_stream *stream = lua_touserdata(L, 1);

    if (stream->x != NULL && stream->x->stream == stream) stream->x->stream = NULL;
    stream->x = NULL;
    return 0;
}

/* ---- writing ---------------------------------------------------------------------- */

static void drain_cancel(void *ctx)
{
    struct web_stream *stream = ctx;

    stream->task = NULL;
}

static int drain_finish(lua_State *L, int status, lua_KContext ctx)
{
    struct web_stream *stream = (struct web_stream *)ctx;

    (void)status;
    stream->task = NULL;
    task_resumed(L);
    if (stream->x == NULL) return luaL_error(L, "the stream is over");
    return 0;
}

/* Does not wait while no more than 'ahead' bytes are left for the client to take. */
static int write_and_wait(lua_State *L, struct web_stream *stream, struct slice bytes,
                          size_t ahead)
{
    struct task *task = task_may_wait(L, "stream:write");

    if (stream->task != NULL)
        return luaL_error(L, "stream: another task is writing already");
    if (request_stream(stream->x->request, bytes)) return 0;
    if (stream->x->gone) return luaL_error(L, "the client is gone");
    if (request_stream_pending(stream->x->request) <= ahead) return 0;
    stream->task = task;
    stream->ticket = task_await(task, "stream:write", drain_cancel, stream);
    return lua_yieldk(L, 0, (lua_KContext)stream, drain_finish);
}

/* stream:write(bytes [, ahead]) */
static int stream_write(lua_State *L)
{
    struct web_stream *stream = stream_check(L);
    size_t n;
    const char *p = luaL_checklstring(L, 2, &n);
    lua_Integer ahead = luaL_optinteger(L, 3, 0);

    luaL_argcheck(L, ahead >= 0, 3, "bytes");
    return write_and_wait(L, stream, (struct slice){ p, n }, (size_t)ahead);
}

static void add_lines(luaL_Buffer *b, const char *field, const char *text, size_t n)
{
    const char *end = text + n;

    for (;;) {
        const char *newline = memchr(text, '\n', (size_t)(end - text));
        const char *stop = newline == NULL ? end : newline;

        luaL_addstring(b, field);
        luaL_addlstring(b, text, (size_t)(stop - text));
        luaL_addchar(b, '\n');
        if (newline == NULL) return;
        text = newline + 1;
    }
}

/* stream:event(data [, name [, id]]) */
static int stream_event(lua_State *L)
{
    struct web_stream *stream = stream_check(L);
    size_t n, name_n = 0, id_n = 0;
    const char *data = luaL_checklstring(L, 2, &n);
    const char *name = luaL_optlstring(L, 3, NULL, &name_n);
    const char *id = luaL_optlstring(L, 4, NULL, &id_n);
    luaL_Buffer b;

    luaL_argcheck(L, name == NULL || strpbrk(name, "\r\n") == NULL, 3, "one line");
    luaL_argcheck(L, id == NULL || strpbrk(id, "\r\n") == NULL, 4, "one line");
    luaL_buffinit(L, &b);
    if (id != NULL) add_lines(&b, "id: ", id, id_n);
    if (name != NULL) add_lines(&b, "event: ", name, name_n);
    add_lines(&b, "data: ", data, n);
    luaL_addchar(&b, '\n');
    luaL_pushresult(&b);
    data = lua_tolstring(L, -1, &n);
    return write_and_wait(L, stream, (struct slice){ data, n }, 0);
}

/* ---- beginning ---------------------------------------------------------------------- */

/* begin(req, status, content_type, headers) -> stream */
static int stream_begin(lua_State *L)
{
    struct exchange *x = web_request_check(L, 1);
    struct response head = { .status = (int)luaL_checkinteger(L, 2), .no_gzip = true };
    struct web_stream *stream;
    size_t n;
    const char *type = luaL_checklstring(L, 3, &n);

    if (x->answered || x->streaming)
        return luaL_error(L, "the request is answered already");
    head.content_type = arena_copy(&x->request->arena, type, n);
    if (head.content_type.p == NULL) return luaL_error(L, "not enough memory");
    if (lua_istable(L, 4)) {
        lua_pushnil(L);
        while (lua_next(L, 4)) {
            luaL_argcheck(L, lua_type(L, -2) == LUA_TSTRING, 4, "names are strings");
            struct slice name = slice_of(lua_tostring(L, -2));
            struct slice value = slice_of(luaL_checkstring(L, -1));

            if (!response_header(&head, arena_copy(&x->request->arena, name.p, name.n),
                                 arena_copy(&x->request->arena, value.p, value.n)))
                return luaL_error(L, "header '%s' is malformed", name.p);
            lua_pop(L, 1);
        }
    }
    stream = lua_newuserdatauv(L, sizeof *stream, 0);
    *stream = (struct web_stream){ 0 };
    luaL_setmetatable(L, STREAM_TYPE);
    stream->x = x;
    x->stream = stream;
    x->streaming = true;
    request_stream_begin(x->request, &head);
    return 1;
}

void web_stream_open(lua_State *L)
{
    static const luaL_Reg methods[] = {
        { "write", stream_write },
        { "event", stream_event },
        { NULL, NULL },
    };

    luaL_newmetatable(L, STREAM_TYPE);
    lua_pushcfunction(L, stream_gc);
    lua_setfield(L, -2, "__gc");
    luaL_newlib(L, methods);
    lua_setfield(L, -2, "__index");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
    lua_pushcfunction(L, stream_begin);
    lua_setfield(L, LUA_REGISTRYINDEX, "omade.stream_begin");
}
