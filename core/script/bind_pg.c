#include "script/bind_pg.h"

#include <assert.h>
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "db/pg_json.h"
#include "script/bind_bytes.h"
#include "script/bind_json.h"
#include "script/bind_subscription.h"
#include "script/fail.h"
#include "script/pg_command.h"
#include "script/pg_values.h"
#include "script/vm.h"

#define CALL_TYPE "omade.pg_call"

/* How a statement's result comes back. */
enum shape { SHAPE_ROW, SHAPE_ROWS, SHAPE_EXEC, SHAPE_JSON, SHAPE_JSON_ROW };

static const char *const shape_names[] = {
    "row", "rows", "exec", "json", "json_row", NULL
};
static const char *const call_names[] = { "db.row", "db.rows", "db.exec", "db.json",
                                          "db.json_row" };

/* Statements that we put in front of the script's own, and one behind them: COMMIT. */
enum { PREFIX_MAX = 2, PARAMETERS_MAX = 65535 };
enum { STATEMENTS_MAX = PG_STATEMENTS_MAX - PREFIX_MAX - 1 };

/* The shape of a statement of our own: its result is not handed out. */
#define OUR_OWN ((enum shape) - 1)

static const char BEGIN[] = "BEGIN", COMMIT[] = "COMMIT";
static const char SET_CONTEXT[] =
    "SELECT set_config('app.current_user_id', $1, true), set_config('app.user_role', $2, "
    "true), set_config('app.current_order_id', $3, true)";

/* One call: its operations, and the memory that they point to. */
struct call {
    struct task *task;
    uint32_t ticket;
    int op_count, waiting;
    bool list;                     /* db.batch, db.all: a list of results */
    bool commits;                  /* db.commit: the last statement is COMMIT */
    struct task_identity identity; /* the values of SET_CONTEXT */
    const char *context[3];
    struct pg_op *ops;
    struct pg_statement *statements; /* of all ops, prefixes included */
    enum shape *shapes;              /* one per statement */
    int statement_count;
};

/* ---- start ------------------------------------------------------------------------ */

static size_t align(size_t n) { return (n + 15) & ~(size_t)15; }

/* One block for a call of 'ops' operations, 'statements' and 'values'. */
static struct call *call_push(lua_State *L, int ops, int statements)
{
    size_t head = align(sizeof(struct call)),
           ops_n = align((size_t)ops * sizeof(struct pg_op));
    size_t statements_n = align((size_t)statements * sizeof(struct pg_statement));
    size_t size = head + ops_n + statements_n + (size_t)statements * sizeof(enum shape);
    char *block = lua_newuserdatauv(L, size, 1);
    struct call *call = (struct call *)(void *)block;

    memset(block, 0, size);
    call->ops = (struct pg_op *)(void *)(block + head);
    call->statements = (struct pg_statement *)(void *)(block + head + ops_n);
    call->shapes = (enum shape *)(void *)(block + head + ops_n + statements_n);
    luaL_setmetatable(L, CALL_TYPE);
    return call;
}

static void call_clear(struct call *call)
{
    for (int i = 0; i < call->statement_count; i++) {
        PQclear(call->statements[i].result);
        call->statements[i].result = NULL;
    }
}

static int call_gc(lua_State *L)
{
    call_clear(lua_touserdata(L, 1));
    return 0;
}

static bool has_context(const struct task_identity *identity)
{
    return *identity->user_id != '\0' || *identity->role != '\0' ||
           *identity->order_id != '\0';
}

/* BEGIN for the first statement of a transaction, and who asks. */
static int prefix_count(struct task *task)
{
    struct pg_transaction *tx = task_transaction(task);
    int context = has_context(task_identity(task)) ? 1 : 0;

    if (tx == NULL) return context;
    return tx->begun ? 0 : 1 + context;
}

static int add_prefix(struct call *call, struct pg_statement *first)
{
    struct pg_transaction *tx = task_transaction(call->task);
    int n = 0;

    if (tx != NULL && tx->begun) return 0;
    if (tx != NULL)
        first[n++] = (struct pg_statement){ .sql = { BEGIN, sizeof BEGIN - 1 } };
    if (!has_context(task_identity(call->task))) return n;
    call->identity = *task_identity(call->task);
    call->context[0] = call->identity.user_id;
    call->context[1] = call->identity.role;
    call->context[2] = call->identity.order_id;
    first[n] = (struct pg_statement){ .sql = { SET_CONTEXT, sizeof SET_CONTEXT - 1 },
                                      .value_count = 3,
                                      .values = call->context };
    return n + 1;
}

/* The script's statement: the SQL at 'at', parameters behind it, up to 'last'.  They
 * stay on the stack while the call waits. */
static void read_statement(lua_State *L, const struct task *task, struct pg_statement *s,
                           int at, int last)
{
    int count = last - at;
    const char **values;
    size_t n;

    s->sql.p = luaL_checklstring(L, at, &n);
    s->sql.n = n;
    if (memchr(s->sql.p, '\0', n) != NULL) luaL_error(L, "SQL must not contain NUL");
    pg_command_check(L, s->sql, task_transaction(task) != NULL);
    if (count == 0) return;
    if (count > PARAMETERS_MAX)
        luaL_error(L,
                   "%d parameters: at most %d; send a list as JSON, or use several calls",
                   count, PARAMETERS_MAX);
    values = lua_newuserdatauv(L, (size_t)count * sizeof *values, 0);
    for (int i = 0; i < count; i++) values[i] = pg_value_text(L, at + 1 + i);
    s->value_count = count;
    s->values = values;
}

/* ---- answer, cancel ----------------------------------------------------------------- */

static void on_answer(void *ctx, struct pg_op *op)
{
    struct call *call = ctx;

    (void)op;
    if (--call->waiting == 0) task_wake(call->task, call->ticket);
}

static void call_cancel(void *ctx)
{
    struct call *call = ctx;

    for (int i = 0; i < call->op_count; i++)
        if (call->ops[i].outcome == PG_WAITING) pg_cancel(&call->ops[i]);
    call->waiting = 0;
    call_clear(call);
}

/* ---- finish ---------------------------------------------------------------------------- */

static struct pg_statement *last_statement(const struct pg_op *op)
{
    return &op->statements[op->statement_count - 1];
}

/* Hands bytes made in C to Lua: the userdata first, so that nothing leaks. */
static void push_json(lua_State *L, struct call *call, const PGresult *result, bool one)
{
    struct bytes *bytes = bytes_push_empty(L);
    struct buf b = { 0 };

    if (one) pg_json_row(&b, result, 0);
    else pg_json_rows(&b, result);
    if (b.failed || !task_charge(call->task, b.n)) {
        buf_free(&b);
        luaL_error(L, "not enough memory");
    }
    *bytes = (struct bytes){ buf_slice(&b), mem_free, b.p, true };
}

static void push_result(lua_State *L, struct call *call, const struct pg_statement *s,
                        enum shape shape)
{
    switch (shape) {
    case SHAPE_ROW:
        if (PQntuples(s->result) == 0) lua_pushnil(L);
        else pg_push_row(L, s->sql, s->result, 0);
        break;
    case SHAPE_ROWS: pg_push_rows(L, s->sql, s->result); break;
    case SHAPE_JSON: push_json(L, call, s->result, false); break;
    case SHAPE_JSON_ROW:
        if (PQntuples(s->result) == 0) lua_pushnil(L);
        else push_json(L, call, s->result, true);
        break;
    case SHAPE_EXEC:
        lua_pushinteger(L, strtoll(PQcmdTuples(s->result), NULL, 10)); /* "" is 0 */
        break;
    }
}

static int raise_first_failure(lua_State *L, struct call *call)
{
    for (int i = 0; i < call->op_count; i++) {
        if (call->ops[i].outcome == PG_OK) continue;
        pg_push_error(L, &call->ops[i]);
        call_clear(call);
        return lua_error(L);
    }
    return 0;
}

static void push_list(lua_State *L, struct call *call)
{
    int n = 0;

    lua_newtable(L);
    for (int i = 0; i < call->statement_count; i++) {
        if (call->shapes[i] == OUR_OWN) continue;
        push_result(L, call, &call->statements[i], call->shapes[i]);
        if (lua_isnil(L, -1)) {
            lua_pop(L, 1);
            json_push_null(L);
        }
        lua_rawseti(L, -2, ++n);
    }
}

/* The tag counts, whatever became of the results: what is committed never runs again. */
static void note_commit(struct call *call, struct pg_transaction *tx)
{
    PGresult *last = last_statement(&call->ops[0])->result;

    if (last != NULL && strcmp(PQcmdStatus(last), COMMIT) == 0)
        pg_transaction_committed(tx);
}

static int call_finish(lua_State *L, int status, lua_KContext ctx)
{
    struct call *call = (struct call *)ctx;
    struct pg_transaction *tx;

    (void)status;
    task_resumed(L);
    tx = task_transaction(call->task);
    if (call->commits) note_commit(call, tx);
    raise_first_failure(L, call);
    if (call->commits && !tx->committed)
        return luaL_error(L, "db.commit: the transaction was rolled back");
    if (call->list) push_list(L, call);
    else
        push_result(L, call, last_statement(&call->ops[0]),
                    call->shapes[call->statement_count - 1]);
    call_clear(call);
    return 1;
}

/* ---- submit -------------------------------------------------------------------------- */

static int call_submit(lua_State *L, struct call *call, const char *name)
{
    struct pg_transaction *tx = task_transaction(call->task);
    struct pg_pool *pool = vm_env(task_vm(call->task))->pg;

    call->waiting = call->op_count;
    call->ticket = task_await(call->task, name, call_cancel, call);
    for (int i = 0; i < call->op_count; i++) {
        struct pg_op *op = &call->ops[i];

        op->on_done = on_answer;
        op->ctx = call;
        if (tx != NULL) pg_submit_pinned(&tx->pin, op);
        else pg_submit(pool, op);
    }
    if (tx != NULL) tx->begun = true;
    return lua_yieldk(L, 0, (lua_KContext)call, call_finish);
}

static struct task *begin(lua_State *L, const char *name)
{
    struct task *task = task_may_wait(L, name);

    if (vm_env(task_vm(task))->pg == NULL)
        luaL_error(L, "%s needs a database: set DATABASE_URL and APP_DATABASE_URL", name);
    if (task_transaction(task) != NULL && task_transaction(task)->committed)
        luaL_error(L, "%s: after db.commit the transaction is over", name);
    return task;
}

/* [1] sql [2..] parameters */
static int call_one(lua_State *L, enum shape shape)
{
    struct task *task = begin(L, call_names[shape]);
    int last = lua_gettop(L), prefixes = prefix_count(task);
    struct call *call = call_push(L, 1, prefixes + 1);

    call->task = task;
    luaL_checkstack(L, 8, "too many parameters");
    call->statement_count = add_prefix(call, call->statements);
    call->shapes[call->statement_count] = shape;
    read_statement(L, call->task, &call->statements[call->statement_count], 1, last);
    call->statement_count++;
    call->op_count = 1;
    call->ops[0].statements = call->statements;
    call->ops[0].statement_count = call->statement_count;
    return call_submit(L, call, call_names[shape]);
}

static int db_row(lua_State *L) { return call_one(L, SHAPE_ROW); }
static int db_rows(lua_State *L) { return call_one(L, SHAPE_ROWS); }
static int db_exec(lua_State *L) { return call_one(L, SHAPE_EXEC); }
static int db_json(lua_State *L) { return call_one(L, SHAPE_JSON); }
static int db_json_row(lua_State *L) { return call_one(L, SHAPE_JSON_ROW); }

/* ---- several at once ------------------------------------------------------------------- */

static void push_entry(lua_State *L, lua_Integer i)
{
    if (lua_geti(L, 1, i) != LUA_TTABLE)
        luaL_error(L, "entry %I is a %s: each is {sql, parameter, ...}", (LUAI_UACINT)i,
                   luaL_typename(L, -1));
}

static enum shape shape_of(lua_State *L, int entry)
{
    int shape = 0;

    if (lua_getfield(L, entry, "as") == LUA_TNIL) shape = SHAPE_ROWS;
    else
        while (shape_names[shape] != NULL &&
               strcmp(luaL_tolstring(L, -1, NULL), shape_names[shape]) != 0) {
            lua_pop(L, 1);
            shape++;
        }
    if (shape_names[shape] == NULL)
        luaL_error(L, "as = \"%s\" is not known: row, rows, exec, json or json_row",
                   luaL_tolstring(L, -1, NULL));
    lua_settop(L, entry);
    return (enum shape)shape;
}

/* [1] {{sql, ..., as = "rows"}, ...}: spreads entry i over the stack and reads it. */
static void read_entry(lua_State *L, struct call *call, int at, lua_Integer i)
{
    int entry, count;

    push_entry(L, i);
    entry = lua_gettop(L);
    lua_getfield(L, entry, "n");
    count = lua_isnil(L, -1) ? (int)luaL_len(L, entry) : (int)luaL_checkinteger(L, -1);
    lua_pop(L, 1);
    luaL_argcheck(L, count >= 1 && count <= 1000, 1,
                  "each entry is {sql, parameter, ...}");
    call->shapes[at] = shape_of(L, entry);
    luaL_checkstack(L, count + 8, "too many parameters");
    for (int k = 1; k <= count; k++) lua_geti(L, entry, k);
    read_statement(L, call->task, &call->statements[at], entry + 1, entry + count);
}

/* The entry's own deadline in seconds, as milliseconds; 0 without one. */
static int64_t entry_timeout(lua_State *L, lua_Integer i)
{
    lua_Number seconds;

    push_entry(L, i);
    lua_getfield(L, -1, "timeout");
    seconds = luaL_optnumber(L, -1, 0);
    luaL_argcheck(L, lua_isnil(L, -1) || (seconds >= 0.001 && seconds <= 3600), 1,
                  "timeout is 0.001 to 3600 seconds");
    lua_pop(L, 2);
    return (int64_t)(seconds * 1000);
}

static int entry_count(lua_State *L)
{
    lua_Integer n;

    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    n = luaL_len(L, 1);
    luaL_argcheck(L, n >= 1 && n <= STATEMENTS_MAX, 1, "1 to 61 statements are expected");
    return (int)n;
}

/* One Sync for all entries, so all or nothing; with COMMIT behind them, if it 'commits'. */
static int call_list(lua_State *L, const char *name, bool commits)
{
    struct task *task = begin(L, name);
    int count = entry_count(L), prefixes = prefix_count(task), first;
    struct call *call = call_push(L, 1, prefixes + count + 1);

    if (commits && task_transaction(task) == NULL)
        return luaL_error(L, "db.commit belongs inside db.transaction");
    call->task = task;
    call->list = true;
    call->commits = commits;
    first = add_prefix(call, call->statements);
    for (int i = 0; i < first; i++) call->shapes[i] = OUR_OWN;
    for (int i = 0; i < count; i++) read_entry(L, call, first + i, i + 1);
    call->statement_count = first + count;
    if (commits) {
        call->shapes[call->statement_count] = OUR_OWN;
        call->statements[call->statement_count++].sql =
            (struct slice){ COMMIT, sizeof COMMIT - 1 };
    }
    call->op_count = 1;
    call->ops[0].statements = call->statements;
    call->ops[0].statement_count = call->statement_count;
    return call_submit(L, call, name);
}

/* db.batch{...} */
static int db_batch(lua_State *L) { return call_list(L, "db.batch", false); }

/* db.commit{...}: the last act of a transaction, and its end, in one round trip. */
static int db_commit(lua_State *L) { return call_list(L, "db.commit", true); }

/* db.all{...}: an operation each, side by side. */
static int db_all(lua_State *L)
{
    struct task *task = begin(L, "db.all");
    int count = entry_count(L);
    struct call *call = call_push(L, count, count * (PREFIX_MAX + 1));
    int at = 0;

    if (task_transaction(task) != NULL)
        return luaL_error(L, "db.all has no place inside a transaction: use db.batch");
    call->task = task;
    call->list = true;
    for (int i = 0; i < count; i++) {
        int prefixes = add_prefix(call, call->statements + at);

        for (int k = 0; k < prefixes; k++) call->shapes[at + k] = OUR_OWN;
        call->ops[i].timeout_ms = entry_timeout(L, i + 1);
        read_entry(L, call, at + prefixes, i + 1);
        call->ops[i].statements = call->statements + at;
        call->ops[i].statement_count = prefixes + 1;
        at += prefixes + 1;
        call->statement_count = at;
    }
    call->op_count = count;
    return call_submit(L, call, "db.all");
}

/* ---- who asks ------------------------------------------------------------------------- */

static void read_identity(lua_State *L, int at, struct task_identity *identity)
{
    static const char *const names[] = { "user_id", "role", "order_id" };
    char *const to[] = { identity->user_id, identity->role, identity->order_id };
    const size_t room[] = { sizeof identity->user_id, sizeof identity->role,
                            sizeof identity->order_id };

    *identity = (struct task_identity){ 0 };
    if (lua_isnoneornil(L, at)) return;
    luaL_checktype(L, at, LUA_TTABLE);
    for (int i = 0; i < 3; i++) {
        if (lua_getfield(L, at, names[i]) != LUA_TNIL) {
            size_t n;
            const char *text = luaL_checklstring(L, -1, &n);

            luaL_argcheck(L, n < room[i] && strlen(text) == n, at, names[i]);
            memcpy(to[i], text, n + 1);
        }
        lua_pop(L, 1);
    }
}

/* [2] the task's identity before (bytes) */
static int as_finish(lua_State *L, int status, lua_KContext ctx)
{
    size_t n;
    struct task *task = task_current(L);

    (void)ctx;
    memcpy(task_identity(task), lua_tolstring(L, 1, &n), sizeof(struct task_identity));
    task_resumed(L);
    if (status != LUA_OK && status != LUA_YIELD) return lua_error(L);
    return lua_gettop(L) - 1;
}

/* db.as(who, fn): fn's statements carry that user and role; db.as(who) until the task
 * ends. */
static int db_as(lua_State *L)
{
    struct task *task = task_current(L);
    struct task_identity identity;

    if (task == NULL) return luaL_error(L, "db.as is for handlers and tasks");
    if (task_transaction(task) != NULL)
        return luaL_error(L, "db.as must stand around db.transaction, not inside");
    read_identity(L, 1, &identity);
    if (lua_isnoneornil(L, 2)) {
        *task_identity(task) = identity;
        return 0;
    }
    luaL_checktype(L, 2, LUA_TFUNCTION);
    lua_settop(L, 2);
    lua_pushlstring(L, (const char *)task_identity(task), sizeof identity);
    lua_replace(L, 1);
    *task_identity(task) = identity;
    return as_finish(L, lua_pcallk(L, 0, LUA_MULTRET, 0, 0, as_finish), 0);
}

/* ---- the module ------------------------------------------------------------------------ */

int luaopen_omade_db(lua_State *L)
{
    static const luaL_Reg functions[] = {
        { "row", db_row },
        { "rows", db_rows },
        { "exec", db_exec },
        { "json", db_json },
        { "json_row", db_json_row },
        { "batch", db_batch },
        { "commit", db_commit },
        { "all", db_all },
        { "as", db_as },
        { "transaction", pg_transaction_call },
        { "listen", subscription_listen },
        { NULL, NULL },
    };

    luaL_newmetatable(L, CALL_TYPE);
    lua_pushcfunction(L, call_gc);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1);
    pg_transaction_open(L);
    luaL_newlib(L, functions);
    return 1;
}
