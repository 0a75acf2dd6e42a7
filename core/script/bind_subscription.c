#include "script/bind_subscription.h"

#include <lauxlib.h>
#include <string.h>
#include <uv.h>

#include "base/mem.h"
#include "cache/redis.h"
#include "db/pg_pool.h"
#include "script/bind_type.h"
#include "script/task.h"
#include "script/vm.h"

/* What waits to be read; more is dropped, and the reader is told so. */
enum { MESSAGES_MAX = 1000, BYTES_MAX = 1024 * 1024 };

/* Channels: PostgreSQL's are identifiers. */
enum { LISTEN_MAX = 63, REDIS_MAX = 512 };

struct message {
    struct list_node node;
    bool behind_gap; /* some may have been missed before it */
    size_t n;
    char text[];
};

/* The time limit of one wait; uv's until it is closed, by then the task may be gone. */
struct limit {
    uv_timer_t timer;
    struct subscription *sub;
};

struct subscription {
    struct pg_listener *listener; /* one of the two; none: closed */
    struct redis_subscription *redis;
    struct list messages;
    size_t bytes;
    bool gap_at_end;
    struct task *task; /* waits in next() */
    uint32_t ticket;
    struct limit *limit;
};

/* ---- messages -------------------------------------------------------------------- */

static bool is_open(const struct subscription *sub)
{
    return sub->listener != NULL || sub->redis != NULL;
}

/* False: no room, or no memory. */
static bool keep(struct subscription *sub, struct slice text)
{
    struct message *m;

    if (sub->messages.count >= MESSAGES_MAX || text.n > BYTES_MAX - sub->bytes)
        return false;
    m = mem_get(sizeof *m + text.n);
    if (m == NULL) return false;
    *m = (struct message){ .behind_gap = sub->gap_at_end, .n = text.n };
    if (text.n > 0) memcpy(m->text, text.p, text.n);
    list_append(&sub->messages, &m->node);
    sub->bytes += text.n;
    sub->gap_at_end = false;
    return true;
}

static void drop(struct subscription *sub, struct message *m)
{
    list_remove(&m->node);
    sub->bytes -= m->n;
    mem_free(m);
}

static void on_message(void *ctx, struct slice text)
{
    struct subscription *sub = ctx;

    if (text.p == NULL || !keep(sub, text)) sub->gap_at_end = true;
    if (sub->task != NULL) task_wake(sub->task, sub->ticket);
}

/* Pushes the next message, or false for a gap; nothing when there is neither. */
static bool push_next(lua_State *L, struct subscription *sub)
{
    struct message *m = LIST_ENTRY(sub->messages.first, struct message, node);
    bool gap = m == NULL ? sub->gap_at_end : m->behind_gap;

    if (gap) {
        if (m == NULL) sub->gap_at_end = false;
        else m->behind_gap = false;
        lua_pushboolean(L, 0);
        return true;
    }
    if (m == NULL) return false;
    lua_pushlstring(L, m->text, m->n);
    drop(sub, m);
    return true;
}

/* ---- waiting --------------------------------------------------------------------- */

static void limit_closed(uv_handle_t *handle) { mem_free(handle->data); }

static void wait_end(void *ctx)
{
    struct subscription *sub = ctx;

    sub->task = NULL;
    if (sub->limit == NULL) return;
    uv_close((uv_handle_t *)&sub->limit->timer, limit_closed);
    sub->limit = NULL;
}

static void on_due(uv_timer_t *timer)
{
    struct subscription *sub = ((struct limit *)timer->data)->sub;

    task_wake(sub->task, sub->ticket);
}

/* False: no memory. */
static bool limit_start(struct subscription *sub, uv_loop_t *loop, double seconds)
{
    struct limit *limit = mem_get_clear(sizeof *limit);

    if (limit == NULL) return false;
    if (uv_timer_init(loop, &limit->timer) != 0) {
        mem_free(limit);
        return false;
    }
    limit->timer.data = limit;
    limit->sub = sub;
    sub->limit = limit;
    uv_update_time(loop);
    uv_timer_start(&limit->timer, on_due, (uint64_t)(seconds * 1000), 0);
    return true;
}

/* ---- life ------------------------------------------------------------------------ */

/* Whoever waits learns it by an error. */
static void subscription_end(struct subscription *sub)
{
    struct list_node *node;

    if (sub->listener != NULL) pg_unlisten(sub->listener);
    if (sub->redis != NULL) redis_unsubscribe(sub->redis);
    sub->listener = NULL;
    sub->redis = NULL;
    while ((node = sub->messages.first) != NULL)
        drop(sub, LIST_ENTRY(node, struct message, node));
    if (sub->task != NULL) task_wake(sub->task, sub->ticket);
}

static int sub_next(lua_State *L);
static int sub_close(lua_State *L);

static const luaL_Reg meta[] = { { "__gc", sub_close },
                                 { "__close", sub_close },
                                 { NULL, NULL } };
static const luaL_Reg methods[] = { { "next", sub_next },
                                    { "close", sub_close },
                                    { NULL, NULL } };
static const struct bind_type type = { "omade.subscription", "subscription", meta,
                                       methods };

static struct subscription *self(lua_State *L)
{
    struct subscription *sub = bind_type_test(L, 1, &type);

    if (sub == NULL) luaL_typeerror(L, 1, "subscription");
    return sub;
}

static int sub_close(lua_State *L)
{
    subscription_end(self(L));
    return 0;
}

/* [1] subscription */
static int next_finish(lua_State *L, int status, lua_KContext ctx)
{
    struct subscription *sub = (struct subscription *)ctx;

    (void)status;
    wait_end(sub);
    task_resumed(L);
    if (!is_open(sub)) return luaL_error(L, "subscription:next: it was closed meanwhile");
    if (!push_next(L, sub)) lua_pushnil(L);
    return 1;
}

/* sub:next([seconds]): a payload; false when some may have been missed; nil when the
 * time is over. */
static int sub_next(lua_State *L)
{
    static const char name[] = "subscription:next";
    struct subscription *sub = self(L);
    bool limited = !lua_isnoneornil(L, 2);
    lua_Number seconds = luaL_optnumber(L, 2, 0);
    struct task *task = task_may_wait(L, name);

    luaL_argcheck(L, seconds >= 0 && seconds <= 86400, 2, "0 to 86,400 seconds");
    if (!is_open(sub)) return luaL_error(L, "%s: it is closed", name);
    if (sub->task != NULL) return luaL_error(L, "%s: another task waits in it", name);
    if (push_next(L, sub)) return 1;
    if (limited && !limit_start(sub, vm_env(task_vm(task))->loop, seconds))
        return luaL_error(L, "not enough memory");
    sub->task = task;
    sub->ticket = task_await(task, name, wait_end, sub);
    return lua_yieldk(L, 0, (lua_KContext)sub, next_finish);
}

/* ---- making one ------------------------------------------------------------------ */

static struct script_env *env_of(lua_State *L, const char *name)
{
    if (task_current(L) == NULL)
        luaL_error(L, "%s is for handlers and tasks, not for the top of a file", name);
    return vm_of(L)->env;
}

static struct slice channel_of(lua_State *L, size_t max)
{
    size_t n;
    const char *p = luaL_checklstring(L, 1, &n);

    luaL_argcheck(L, n >= 1 && n <= max, 1, "the channel's name is empty or too long");
    return (struct slice){ p, n };
}

static bool is_identifier(struct slice s)
{
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';

        if (!letter && (i == 0 || c < '0' || c > '9')) return false;
    }
    return true;
}

int subscription_listen(lua_State *L)
{
    struct script_env *env = env_of(L, "db.listen");
    struct slice channel = channel_of(L, LISTEN_MAX);
    struct subscription *sub;

    luaL_argcheck(L, is_identifier(channel), 1, "letters, digits and '_' are expected");
    if (env->pg == NULL)
        return luaL_error(L, "db.listen needs a database: set DATABASE_URL and "
                             "APP_DATABASE_URL");
    sub = bind_type_new(L, &type, sizeof *sub);
    sub->listener = pg_listen(env->pg, channel, on_message, sub);
    return sub->listener == NULL ? luaL_error(L, "not enough memory") : 1;
}

int subscription_redis(lua_State *L)
{
    struct script_env *env = env_of(L, "redis.subscribe");
    struct slice channel = channel_of(L, REDIS_MAX);
    struct subscription *sub;

    if (env->redis == NULL)
        return luaL_error(L, "redis.subscribe needs Redis: set REDIS_URL");
    sub = bind_type_new(L, &type, sizeof *sub);
    sub->redis = redis_subscribe(env->redis, channel, on_message, sub);
    return sub->redis == NULL ? luaL_error(L, "not enough memory") : 1;
}
