/* db.transaction(fn): a pinned connection, BEGIN with the first statement, COMMIT when
 * fn returns or with its db.commit, ROLLBACK when it raises, and again from the start on
 * 40001 and 40P01. */
#include <lauxlib.h>
#include <string.h>

#include "script/bind_pg.h"
#include "script/bind_time.h"
#include "script/fail.h"
#include "script/pg_values.h"
#include "script/vm.h"

#define TRANSACTION_TYPE "omade.transaction"

enum { ATTEMPTS = 4, PAUSE_MS = 8 };

/* ---- the pin ------------------------------------------------------------------------ */

/* Back to the pool, which rolls back what is open. */
static void release(struct pg_transaction *tx)
{
    if (task_transaction(tx->task) == tx) task_set_transaction(tx->task, NULL);
    if (tx->open) pg_unpin(&tx->pin);
    tx->open = tx->begun = false;
    PQclear(tx->commit_statement.result);
    tx->commit_statement.result = NULL;
}

void pg_transaction_committed(struct pg_transaction *tx)
{
    if (tx->open) pg_unpin(&tx->pin);
    tx->open = false;
    tx->committed = true;
}

/* First call of every continuation: a killed task gives its connection back at once. */
static void resumed(lua_State *L, struct pg_transaction *tx)
{
    if (task_is_killed(L)) release(tx);
    task_resumed(L);
}

static int transaction_gc(lua_State *L)
{
    struct pg_transaction *tx = lua_touserdata(L, 1);

    if (tx->open) pg_unpin(&tx->pin); /* the task may be gone: not through release() */
    tx->open = false;
    return 0;
}

static void on_pinned(void *ctx, struct pg_pin *pin)
{
    struct pg_transaction *tx = ctx;

    (void)pin;
    task_wake(tx->task, tx->ticket);
}

static void pin_cancel(void *ctx) { release(ctx); }

static int begin(lua_State *L, struct pg_transaction *tx);
static int call_finish(lua_State *L, int status, lua_KContext ctx);

/* ---- again -------------------------------------------------------------------------- */

/* Like lua_getfield, without making a string: it may not raise here. */
static int raw_field(lua_State *L, const char *name)
{
    int table = lua_gettop(L);

    lua_pushnil(L);
    while (lua_next(L, table)) {
        if (lua_type(L, -2) == LUA_TSTRING && strcmp(lua_tostring(L, -2), name) == 0) {
            lua_remove(L, -2);
            return lua_type(L, -1);
        }
        lua_pop(L, 1);
    }
    lua_pushnil(L);
    return LUA_TNIL;
}

/* [top] the error: whether the whole transaction may run once more.  Statements whose
 * plan is stale (26000, 0A000) count, too: nothing was committed. */
static bool may_retry(lua_State *L, const struct pg_transaction *tx)
{
    static const char *const states[] = { "40001", "40P01", "26000", "0A000" };
    bool is = false;

    if (tx->committed || tx->attempt >= ATTEMPTS || !fail_test(L, -1)) return false;
    if (raw_field(L, "sqlstate") == LUA_TSTRING)
        for (size_t i = 0; i < COUNT_OF(states); i++)
            is = is || strcmp(lua_tostring(L, -1), states[i]) == 0;
    lua_pop(L, 1);
    return is;
}

static int retry_finish(lua_State *L, int status, lua_KContext ctx)
{
    (void)status;
    task_resumed(L);
    return begin(L, (struct pg_transaction *)ctx);
}

static int retry(lua_State *L, struct pg_transaction *tx)
{
    int64_t pause = (int64_t)PAUSE_MS << tx->attempt;

    release(tx);
    lua_settop(L, 2);
    return time_pause(L, "db.transaction", pause / 2 + time_jitter(pause),
                      (lua_KContext)tx, retry_finish);
}

/* ---- commit -------------------------------------------------------------------------- */

static void on_committed(void *ctx, struct pg_op *op)
{
    struct pg_transaction *tx = ctx;

    (void)op;
    task_wake(tx->task, tx->ticket);
}

static void commit_cancel(void *ctx)
{
    struct pg_transaction *tx = ctx;

    if (tx->commit.outcome == PG_WAITING) pg_cancel(&tx->commit);
    release(tx);
}

/* [top] the error.  Nothing may raise between the failure and the release but lua_error. */
static int give_up(lua_State *L, struct pg_transaction *tx)
{
    if (may_retry(L, tx)) return retry(L, tx);
    release(tx);
    return lua_error(L);
}

static int rollback_finish(lua_State *L, int status, lua_KContext ctx)
{
    (void)status;
    resumed(L, (struct pg_transaction *)ctx);
    return give_up(L, (struct pg_transaction *)ctx);
}

/* Sends COMMIT or ROLLBACK, an operation of its own, and waits. */
static int end_with(lua_State *L, struct pg_transaction *tx, struct slice sql,
                    lua_KFunction finish)
{
    PQclear(tx->commit_statement.result);
    tx->commit_statement = (struct pg_statement){ .sql = sql };
    tx->commit = (struct pg_op){ .statements = &tx->commit_statement,
                                 .statement_count = 1,
                                 .on_done = on_committed,
                                 .ctx = tx };
    tx->ticket = task_await(tx->task, "db.transaction", commit_cancel, tx);
    pg_submit_pinned(&tx->pin, &tx->commit);
    return lua_yieldk(L, 0, (lua_KContext)tx, finish);
}

/* [top] the error.  Whoever learns of it finds the locks gone: one who tries again at
 * once must not meet his own transaction.  One whose statement still runs cannot wait. */
static int fail_or_retry(lua_State *L, struct pg_transaction *tx)
{
    char status = pg_pin_status(&tx->pin);

    if (status == 'T' || status == 'E')
        return end_with(L, tx, SLICE("ROLLBACK"), rollback_finish);
    return give_up(L, tx);
}

/* [1] fn [2] transaction [3..] results */
static int commit_finish(lua_State *L, int status, lua_KContext ctx)
{
    struct pg_transaction *tx = (struct pg_transaction *)ctx;
    struct pg_op op = tx->commit;
    struct pg_statement statement = tx->commit_statement;
    bool committed;

    (void)status;
    resumed(L, tx);
    /* COMMIT of a failed transaction succeeds with the tag ROLLBACK. */
    committed =
        op.outcome == PG_OK && strcmp(PQcmdStatus(statement.result), "COMMIT") == 0;
    task_set_transaction(tx->task, NULL);
    if (op.outcome != PG_OK) {
        pg_push_error(L, &tx->commit);
        return fail_or_retry(L, tx);
    }
    release(tx);
    if (committed) return lua_gettop(L) - 2;
    return luaL_error(
        L, "the transaction was rolled back: a statement in it had failed, and its "
           "error was caught");
}

static int commit(lua_State *L, struct pg_transaction *tx)
{
    if (!tx->begun || tx->committed) {
        release(tx);
        return lua_gettop(L) - 2;
    }
    return end_with(L, tx, SLICE("COMMIT"), commit_finish);
}

/* ---- the function ----------------------------------------------------------------------- */

/* [1] fn [2] transaction [3..] results, or the error */
static int call_finish(lua_State *L, int status, lua_KContext ctx)
{
    struct pg_transaction *tx = (struct pg_transaction *)ctx;

    resumed(L, tx);
    if (status == LUA_OK || status == LUA_YIELD) return commit(L, tx);
    return fail_or_retry(L, tx);
}

static int pin_finish(lua_State *L, int status, lua_KContext ctx)
{
    struct pg_transaction *tx = (struct pg_transaction *)ctx;

    (void)status;
    resumed(L, tx);
    if (tx->pin.outcome != PG_OK) {
        struct pg_op failed = { .outcome = tx->pin.outcome, .failed_at = -1 };

        release(tx);
        pg_push_error(L, &failed);
        return lua_error(L);
    }
    task_set_transaction(tx->task, tx);
    lua_pushvalue(L, 1);
    return call_finish(L, lua_pcallk(L, 0, LUA_MULTRET, 0, (lua_KContext)tx, call_finish),
                       (lua_KContext)tx);
}

static int begin(lua_State *L, struct pg_transaction *tx)
{
    tx->attempt++;
    tx->pin = (struct pg_pin){ .on_ready = on_pinned, .ctx = tx };
    tx->open = true;
    tx->ticket = task_await(tx->task, "db.transaction", pin_cancel, tx);
    pg_pin(vm_env(task_vm(tx->task))->pg, &tx->pin);
    return lua_yieldk(L, 0, (lua_KContext)tx, pin_finish);
}

int pg_transaction_call(lua_State *L)
{
    struct task *task = task_may_wait(L, "db.transaction");
    struct pg_transaction *tx;

    luaL_checktype(L, 1, LUA_TFUNCTION);
    lua_settop(L, 1);
    if (vm_env(task_vm(task))->pg == NULL)
        return luaL_error(L, "db.transaction needs a database: set APP_DATABASE_URL");
    if (task_transaction(task) != NULL)
        return luaL_error(L, "db.transaction: this task is in a transaction already");
    tx = lua_newuserdatauv(L, sizeof *tx, 0);
    memset(tx, 0, sizeof *tx);
    tx->task = task;
    luaL_setmetatable(L, TRANSACTION_TYPE);
    return begin(L, tx);
}

void pg_transaction_open(lua_State *L)
{
    luaL_newmetatable(L, TRANSACTION_TYPE);
    lua_pushcfunction(L, transaction_gc);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1);
}
