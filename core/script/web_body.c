/* Request bodies that a handler reads piece by piece: req:read(). */
#include "script/web.h"

#include <lauxlib.h>

#include "base/clock.h"
#include "base/mem.h"
#include "script/task.h"

/* Bytes that arrived before they were asked for; above it the socket waits. */
enum { AHEAD_MAX = 256 * 1024, PIECE_MAX = 64 * 1024 };

struct body_reader {
    struct buf ahead;
    bool ended, paused, failed;
    struct task *task; /* waits in read; NULL otherwise */
    uint32_t ticket;
};

bool web_body_begin(struct exchange *x)
{
    x->reader = mem_get_clear(sizeof *x->reader);
    return x->reader != NULL;
}

void web_body_arrived(struct exchange *x, struct slice bytes, bool last)
{
    struct body_reader *reader = x->reader;

    if (reader == NULL) return;
    x->body_ms = clock_ms();
    buf_add_slice(&reader->ahead, bytes);
    reader->failed = reader->failed || reader->ahead.failed;
    reader->ended = reader->ended || last;
    if (reader->ahead.n > AHEAD_MAX && !reader->paused && !last) {
        reader->paused = true;
        request_pause(x->request, true);
    }
    if (reader->task != NULL) task_wake(reader->task, reader->ticket);
}

/* At the end of the request, or of its client. */
void web_body_gone(struct exchange *x)
{
    struct body_reader *reader = x->reader;

    if (reader == NULL) return;
    if (x->task != NULL) { /* the task still runs: it learns by an error */
        reader->failed = reader->failed || !reader->ended;
        if (reader->task != NULL) task_wake(reader->task, reader->ticket);
        return;
    }
    x->reader = NULL;
    if (reader->task != NULL)
        task_wake(reader->task, reader->ticket); /* "request is over" */
    buf_free(&reader->ahead);
    mem_free(reader);
}

static void read_cancel(void *ctx)
{
    struct body_reader *reader = ctx;

    reader->task = NULL;
}

static int read_finish(lua_State *L, int status, lua_KContext ctx);

static int wait_for_more(lua_State *L, struct body_reader *reader)
{
    struct task *task = task_may_wait(L, "req:read");

    if (reader->task != NULL)
        return luaL_error(L, "req:read: another task is reading already");
    reader->task = task;
    reader->ticket = task_await(reader->task, "req:read", read_cancel, reader);
    return lua_yieldk(L, 0, 0, read_finish);
}

/* [1] req */
static int read_finish(lua_State *L, int status, lua_KContext ctx)
{
    struct exchange *x = web_request_peek(L, 1);
    struct body_reader *reader;
    size_t n;

    (void)ctx;
    if (status == LUA_YIELD && x != NULL && x->reader != NULL) x->reader->task = NULL;
    task_resumed(L);
    x = web_request_check(L, 1);
    reader = x->reader;
    if (reader->failed)
        return luaL_error(L, "the client left before its body was complete");
    if (reader->ahead.n == 0 && !reader->ended) return wait_for_more(L, reader);
    if (reader->ahead.n == 0) {
        lua_pushnil(L);
        return 1;
    }
    n = reader->ahead.n < PIECE_MAX ? reader->ahead.n : PIECE_MAX;
    lua_pushlstring(L, reader->ahead.p, n);
    buf_drop(&reader->ahead, n);
    if (reader->paused && reader->ahead.n < AHEAD_MAX / 2) {
        reader->paused = false;
        request_pause(x->request, false);
    }
    return 1;
}

int web_body_read(lua_State *L)
{
    struct exchange *x = web_request_check(L, 1);

    if (x->reader == NULL)
        return luaL_error(L, "req:read needs a route with body = \"stream\"");
    task_may_wait(L, "req:read");
    return read_finish(L, LUA_OK, 0);
}
