#include "script/bind_redis.h"

#include <lauxlib.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "cache/redis.h"
#include "script/bind_bytes.h"
#include "script/bind_subscription.h"
#include "script/fail.h"
#include "script/task.h"
#include "script/vm.h"

#define CALL_TYPE "omade.redis_call"
#define AWAY "A service is away; try again later"

enum { ARGUMENTS_MAX = 1000 };

/* One call: some commands that are sent together. */
struct call {
    struct redis_op op;
    struct task *task;
    uint32_t ticket;
    bool list; /* redis.pipeline: a list of results */
    bool raw;  /* a string comes as bytes: redis.get_bytes */
    struct redis_reply *replies[];
};

/* ---- start ------------------------------------------------------------------------ */

static struct call *call_push(lua_State *L, struct task *task, int commands)
{
    size_t size = sizeof(struct call) + (size_t)commands * sizeof(struct redis_reply *);
    struct call *call = lua_newuserdatauv(L, size, 0);

    memset(call, 0, size);
    call->task = task;
    call->op.command_count = commands;
    call->op.replies = call->replies;
    luaL_setmetatable(L, CALL_TYPE);
    return call;
}

static void call_clear(struct call *call)
{
    for (int i = 0; i < call->op.command_count; i++) {
        redis_reply_free(call->replies[i]);
        call->replies[i] = NULL;
    }
}

static int call_gc(lua_State *L)
{
    call_clear(lua_touserdata(L, 1));
    return 0;
}

/* ---- answer, cancel, finish --------------------------------------------------------- */

static void on_answer(void *ctx, struct redis_op *op)
{
    struct call *call = ctx;

    (void)op;
    task_wake(call->task, call->ticket);
}

static void call_cancel(void *ctx)
{
    struct call *call = ctx;

    if (call->op.outcome == REDIS_WAITING) redis_cancel(&call->op);
}

/* Whether Redis refuses what it would do at another time: it is full, loads, cannot save,
 * is held up, or is no master. */
static bool is_refusal(struct slice text)
{
    static const char *const words[] = { "OOM ",        "LOADING ",    "MISCONF ",
                                         "BUSY ",       "READONLY ",   "MASTERDOWN ",
                                         "NOREPLICAS ", "CLUSTERDOWN " };

    for (size_t i = 0; i < COUNT_OF(words); i++) {
        size_t n = strlen(words[i]);

        if (text.n >= n && memcmp(text.p, words[i], n) == 0) return true;
    }
    return false;
}

static void push_error_reply(lua_State *L, struct slice text)
{
    lua_pushliteral(L, "Redis: ");
    lua_pushlstring(L, text.p, text.n);
    lua_concat(L, 2);
    if (is_refusal(text)) fail_push(L, 503, "UNAVAILABLE", AWAY, lua_tostring(L, -1));
    else fail_push(L, 500, "INTERNAL", "Something went wrong", lua_tostring(L, -1));
    lua_pushlstring(L, text.p, text.n);
    lua_setfield(L, -2, "redis_error");
    lua_remove(L, -2);
}

/* nil is nil at the top, false inside lists, which would end there. */
static void push_reply(lua_State *L, const struct redis_reply *r, int depth)
{
    luaL_checkstack(L, 6, "the reply is nested too deeply");
    switch (r->type) {
    case REDIS_NIL:
        if (depth == 0) lua_pushnil(L);
        else lua_pushboolean(L, 0);
        break;
    case REDIS_STRING:
    case REDIS_STATUS_TEXT: lua_pushlstring(L, r->text.p, r->text.n); break;
    case REDIS_ERROR_TEXT: push_error_reply(L, r->text); break;
    case REDIS_INT: lua_pushinteger(L, r->number); break;
    case REDIS_LIST:
        lua_createtable(L, (int)r->item_count, 0);
        for (size_t i = 0; i < r->item_count; i++) {
            push_reply(L, r->items[i], depth + 1);
            lua_rawseti(L, -2, (lua_Integer)i + 1);
        }
        break;
    }
}

static void release_reply(void *owner) { redis_reply_free(owner); }

/* The reply's own bytes: they go to the socket without becoming a Lua string. */
static void push_bytes(lua_State *L, struct call *call)
{
    struct bytes *bytes = bytes_push_empty(L);
    struct redis_reply *reply = call->replies[0];

    *bytes = (struct bytes){ reply->text, release_reply, reply, true };
    call->replies[0] = NULL;
}

static size_t reply_size(const struct redis_reply *r)
{
    size_t size = sizeof *r + r->text.n;

    for (size_t i = 0; i < r->item_count; i++) size += reply_size(r->items[i]);
    return size;
}

static int raise_outcome(lua_State *L, const struct call *call)
{
    fail_push(L, 503, "UNAVAILABLE", AWAY,
              call->op.outcome == REDIS_DOWN ? "Redis is away"
                                             : "Redis did not answer in time");
    lua_pushboolean(L, 1);
    lua_setfield(L, -2, "redis_down");
    return lua_error(L);
}

static int call_finish(lua_State *L, int status, lua_KContext ctx)
{
    struct call *call = (struct call *)ctx;
    size_t size = 0;

    (void)status;
    task_resumed(L);
    if (call->op.outcome != REDIS_OK_REPLY) return raise_outcome(L, call);
    for (int i = 0; i < call->op.command_count; i++) size += reply_size(call->replies[i]);
    if (!task_charge(call->task, size)) return luaL_error(L, "not enough memory");
    if (call->list) {
        lua_createtable(L, call->op.command_count, 0);
        for (int i = 0; i < call->op.command_count; i++) {
            push_reply(L, call->replies[i], 1);
            lua_rawseti(L, -2, i + 1);
        }
    } else if (call->raw && call->replies[0]->type == REDIS_STRING) {
        push_bytes(L, call);
    } else {
        push_reply(L, call->replies[0], 0);
        if (call->replies[0]->type == REDIS_ERROR_TEXT) {
            call_clear(call);
            return lua_error(L);
        }
    }
    call_clear(call);
    return 1;
}

/* ---- submit ---------------------------------------------------------------------------- */

static struct task *begin(lua_State *L, const char *name)
{
    struct task *task = task_may_wait(L, name);

    if (vm_env(task_vm(task))->redis == NULL)
        luaL_error(L, "%s needs Redis: set REDIS_URL", name);
    return task;
}

static struct slice argument(lua_State *L, int at)
{
    struct bytes *bytes = bytes_test(L, at);
    size_t n;
    const char *p;

    if (bytes != NULL) return bytes->s;
    luaL_argexpected(L, lua_isstring(L, at), at, "string, number or bytes");
    p = lua_tolstring(L, at, &n);
    return (struct slice){ p, n };
}

static int submit(lua_State *L, struct call *call, const char *name, const int argc[],
                  const struct slice argv[])
{
    call->op.on_done = on_answer;
    call->op.ctx = call;
    call->ticket = task_await(call->task, name, call_cancel, call);
    redis_submit(vm_env(task_vm(call->task))->redis, &call->op, argc, argv);
    return lua_yieldk(L, 0, (lua_KContext)call, call_finish);
}

/* The command: 'words' in front, then the arguments from 'first' on the stack. */
static int command(lua_State *L, const char *name, const char *word, int first, bool raw)
{
    struct task *task = begin(L, name);
    int last = lua_gettop(L), n = 0, count = last - first + 1 + (word != NULL);
    struct slice *argv;
    struct call *call;

    luaL_argcheck(L, count >= 1 && count <= ARGUMENTS_MAX, first, "1 to 1,000 arguments");
    argv = lua_newuserdatauv(L, (size_t)count * sizeof *argv, 0);
    if (word != NULL) argv[n++] = slice_of(word);
    for (int i = first; i <= last; i++) argv[n++] = argument(L, i);
    call = call_push(L, task, 1);
    call->raw = raw;
    return submit(L, call, name, &n, argv);
}

/* ---- functions --------------------------------------------------------------------------- */

static int f_call(lua_State *L) { return command(L, "redis.call", NULL, 1, false); }
static int f_get(lua_State *L) { return command(L, "redis.get", "GET", 1, false); }
static int f_get_bytes(lua_State *L)
{
    return command(L, "redis.get_bytes", "GET", 1, true);
}
static int f_del(lua_State *L) { return command(L, "redis.del", "DEL", 1, false); }

/* redis.set(key, value [, seconds]) */
static int f_set(lua_State *L)
{
    luaL_checkany(L, 2);
    if (lua_isnoneornil(L, 3)) {
        lua_settop(L, 2);
    } else {
        lua_Number seconds = luaL_checknumber(L, 3);

        luaL_argcheck(L, seconds >= 0.001 && seconds < 1e9, 3, "seconds above 0");
        lua_settop(L, 2);
        lua_pushliteral(L, "PX");
        lua_pushinteger(L, (lua_Integer)(seconds * 1000));
    }
    return command(L, "redis.set", "SET", 1, false);
}

/* redis.eval(script, {keys}, argument, ...) */
static int f_eval(lua_State *L)
{
    lua_Integer keys;
    int arguments = lua_gettop(L) - 2;

    luaL_checkstring(L, 1);
    luaL_checktype(L, 2, LUA_TTABLE);
    keys = luaL_len(L, 2);
    luaL_argcheck(L, keys >= 0 && keys < 200, 2, "up to 200 keys");
    luaL_checkstack(L, (int)keys + 8, "too many keys");
    lua_pushvalue(L, 1);
    lua_pushinteger(L, keys);
    for (lua_Integer i = 1; i <= keys; i++) lua_geti(L, 2, i);
    for (int i = 0; i < arguments; i++) lua_pushvalue(L, 3 + i);
    return command(L, "redis.eval", "EVAL", 3 + arguments, false);
}

/* redis.pipeline{{"SET", k, v}, {"GET", k}}: a list of replies; one that is an error is
 * the error value, not raised. */
static int f_pipeline(lua_State *L)
{
    struct task *task = begin(L, "redis.pipeline");
    int argc[REDIS_COMMANDS_MAX], total = 0, n;
    lua_Integer count;
    struct slice *argv;
    struct call *call;

    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    count = luaL_len(L, 1);
    luaL_argcheck(L, count >= 1 && count <= REDIS_COMMANDS_MAX, 1, "1 to 128 commands");
    for (int i = 0; i < count; i++) {
        lua_geti(L, 1, i + 1);
        if (!lua_istable(L, -1))
            return luaL_error(L,
                              "redis.pipeline: entry %d is a %s: each is {command, "
                              "argument, ...}",
                              i + 1, luaL_typename(L, -1));
        argc[i] = (int)luaL_len(L, -1);
        luaL_argcheck(L, argc[i] >= 1 && argc[i] <= ARGUMENTS_MAX, 1,
                      "1 to 1,000 arguments");
        total += argc[i];
        luaL_checkstack(L, argc[i] + 8, "too many arguments");
        for (int k = 1; k <= argc[i]; k++) lua_geti(L, -k, k);
        lua_remove(L, -argc[i] - 1);
    }
    argv = lua_newuserdatauv(L, (size_t)total * sizeof *argv, 0);
    for (n = 0; n < total; n++) argv[n] = argument(L, 2 + n);
    call = call_push(L, task, (int)count);
    call->list = true;
    return submit(L, call, "redis.pipeline", argc, argv);
}

int luaopen_omade_redis(lua_State *L)
{
    static const luaL_Reg functions[] = {
        { "call", f_call },
        { "get", f_get },
        { "get_bytes", f_get_bytes },
        { "set", f_set },
        { "del", f_del },
        { "eval", f_eval },
        { "pipeline", f_pipeline },
        { "subscribe", subscription_redis },
        { NULL, NULL },
    };

    luaL_newmetatable(L, CALL_TYPE);
    lua_pushcfunction(L, call_gc);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1);
    luaL_newlib(L, functions);
    return 1;
}
