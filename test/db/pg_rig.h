/* pg_rig.h -- a loop with a pool, and things to ask it, for the tests of db/.
 *
 * TEST_DATABASE_URL names a database in which a schema may be made; without it the tests
 * are skipped. */
#ifndef TEST_PG_RIG_H
#define TEST_PG_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "db/pg_pool.h"

enum { GUARD_MS = 30000, STATEMENTS_MAX = 4 };

struct rig {
    uv_loop_t loop;
    uv_prepare_t before_wait;
    uv_timer_t tick;
    struct pg_pool *pool;
    struct pg_settings settings;
    PGconn *side;    /* to look from outside */
    bool submitting; /* no on_done may come meanwhile */
    bool closed;
    int answers;
    int64_t guard;
    long live;
};

/* ---- the view from outside ------------------------------------------------------------- */

static PGconn *side; /* of the whole program */

static inline void ignore_notice(void *ctx, const PGresult *notice)
{
    (void)ctx;
    (void)notice;
}

/* The first value of the result, or "". */
static inline const char *look(const char *format, ...)
{
    static char sql[1000], value[1000];
    PGresult *result;
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(sql, sizeof sql, format, arguments);
    va_end(arguments);
    result = PQexec(side, sql);
    if (PQresultStatus(result) == PGRES_FATAL_ERROR)
        fail_msg("%s: %s", sql, PQresultErrorMessage(result));
    snprintf(value, sizeof value, "%s",
             PQntuples(result) > 0 ? PQgetvalue(result, 0, 0) : "");
    PQclear(result);
    return value;
}

/* One schema for each program: "t" is its table. */
static inline const char *schema(void)
{
    static char name[40];

    snprintf(name, sizeof name, "omade_db_test_%d", (int)getpid());
    return name;
}

static inline const char *test_url(void) { return getenv("TEST_DATABASE_URL"); }

static inline int group_setup(void **state)
{
    (void)state;
    log_setup(LOG_OFF, LOG_KEY_VALUE, "test");
    signal(SIGPIPE, SIG_IGN);
    if (test_url() == NULL) return 0;
    side = PQconnectdb(test_url());
    if (PQstatus(side) != CONNECTION_OK) {
        fprintf(stderr, "%s\n", PQerrorMessage(side));
        return 1;
    }
    PQsetNoticeReceiver(side, ignore_notice, NULL);
    look("CREATE SCHEMA %s", schema());
    look("CREATE TABLE %s.t (n int)", schema());
    return 0;
}

static inline int group_teardown(void **state)
{
    (void)state;
    if (side == NULL) return 0;
    look("DROP SCHEMA %s CASCADE", schema());
    PQfinish(side);
    return 0;
}

/* ---- the loop -------------------------------------------------------------------- */

static inline void rig_before_wait(uv_prepare_t *handle)
{
    struct rig *rig = handle->data;

    if (rig->pool != NULL) pg_pool_flush(rig->pool);
}

static inline void rig_tick(uv_timer_t *timer) { (void)timer; }

/* One turn of the loop; every wait of the tests is a loop of them. */
static inline void turn(struct rig *rig)
{
    uv_run(&rig->loop, UV_RUN_ONCE);
    if (clock_ms() > rig->guard) fail_msg("what the test waits for does not come");
}

static inline void rig_loop(struct rig *rig, const char *url)
{
    memset(rig, 0, sizeof *rig);
    if (test_url() == NULL) skip();
    rig->live = mem_live();
    rig->guard = clock_ms() + clock_scaled(GUARD_MS);
    rig->settings = (struct pg_settings){
        .url = url,
        .connections = 1,
        .transaction_connections = 1,
        .queue_max = 1000,
        .in_flight_max = 200,
        .statements_max = 100,
        .named_statements = true,
        .connect_timeout = 2000,
        .query_timeout = 5000,
        .queue_timeout = 5000,
        .row_max = 10000,
        .byte_max = 16 << 20,
        .application_name = schema(),
    };
    assert_int_equal(uv_loop_init(&rig->loop), 0);
    uv_prepare_init(&rig->loop, &rig->before_wait);
    uv_timer_init(&rig->loop, &rig->tick);
    rig->before_wait.data = rig;
    uv_prepare_start(&rig->before_wait, rig_before_wait);
    uv_timer_start(&rig->tick, rig_tick, 20, 20); /* so that turn() looks at its guard */
}

static inline void rig_pool(struct rig *rig)
{
    rig->pool = pg_pool_new(&rig->loop, &rig->settings);
    assert_non_null(rig->pool);
}

static inline void rig_start(struct rig *rig)
{
    rig_loop(rig, test_url());
    rig_pool(rig);
}

static inline void rig_on_closed(void *ctx)
{
    struct rig *rig = ctx;

    rig->closed = true;
    rig->pool = NULL;
}

static inline void rig_close_pool(struct rig *rig)
{
    rig->closed = false;
    pg_pool_close(rig->pool, rig_on_closed, rig);
    while (!rig->closed) turn(rig);
}

/* Nothing may be left: no handle and no memory. */
static inline void rig_stop(struct rig *rig)
{
    if (rig->pool != NULL) rig_close_pool(rig);
    uv_close((uv_handle_t *)&rig->before_wait, NULL);
    uv_close((uv_handle_t *)&rig->tick, NULL);
    uv_run(&rig->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&rig->loop), 0);
    assert_int_equal(mem_live(), rig->live);
}

static inline void until_up(struct rig *rig)
{
    while (!pg_pool_up(rig->pool)) turn(rig);
}

static inline void turn_for(struct rig *rig, int64_t ms)
{
    int64_t until = clock_ms() + clock_scaled(ms);

    while (clock_ms() < until) turn(rig);
}

static inline struct pg_stats stats_of(const struct rig *rig)
{
    struct pg_stats stats;

    pg_pool_stats(rig->pool, &stats);
    return stats;
}

/* ---- asking ----------------------------------------------------------------------- */

struct ask {
    struct pg_op op;
    struct pg_statement statements[STATEMENTS_MAX];
    const char *values[STATEMENTS_MAX];
    char sql[STATEMENTS_MAX][300];
    struct rig *rig;
    bool done;
    int number; /* the how manieth answer it was, from 1 */
};

static inline void ask_on_done(void *ctx, struct pg_op *op)
{
    struct ask *ask = ctx;

    assert_ptr_equal(op, &ask->op);
    assert_false(ask->rig->submitting);
    assert_false(ask->done);
    assert_int_not_equal(op->outcome, PG_WAITING);
    ask->done = true;
    ask->number = ++ask->rig->answers;
}

static inline void ask_init(struct rig *rig, struct ask *ask)
{
    memset(ask, 0xee, sizeof *ask); /* what is not filled in is not relied on */
    ask->rig = rig;
    ask->done = false;
    ask->op.statements = ask->statements;
    ask->op.statement_count = 0;
    ask->op.timeout_ms = ask->op.row_max = ask->op.byte_max = 0;
    ask->op.on_done = ask_on_done;
    ask->op.ctx = ask;
}

/* "%s" in the text is the schema; $1 is 'value', when there is one. */
static inline void ask_add(struct ask *ask, const char *sql, const char *value)
{
    int i = ask->op.statement_count++;
    const char *mark = strstr(sql, "%s");

    assert_true(i < STATEMENTS_MAX);
    if (mark == NULL) snprintf(ask->sql[i], sizeof ask->sql[i], "%s", sql);
    else
        snprintf(ask->sql[i], sizeof ask->sql[i], "%.*s%s%s", (int)(mark - sql), sql,
                 schema(), mark + 2);
    ask->values[i] = value;
    ask->statements[i] = (struct pg_statement){
        .sql = slice_of(ask->sql[i]),
        .value_count = value != NULL,
        .values = &ask->values[i],
    };
}

static inline void ask_send(struct ask *ask, struct pg_pin *pin)
{
    struct rig *rig = ask->rig;

    rig->submitting = true;
    if (pin != NULL) pg_submit_pinned(pin, &ask->op);
    else pg_submit(rig->pool, &ask->op);
    assert_int_equal(ask->op.outcome, PG_WAITING);
    rig->submitting = false;
}

static inline void ask_on(struct rig *rig, struct ask *ask, struct pg_pin *pin,
                          const char *sql, const char *value, int64_t timeout)
{
    ask_init(rig, ask);
    ask->op.timeout_ms = timeout;
    ask_add(ask, sql, value);
    ask_send(ask, pin);
}

static inline void ask_within(struct rig *rig, struct ask *ask, const char *sql,
                              int64_t timeout)
{
    ask_on(rig, ask, NULL, sql, NULL, timeout);
}

static inline void ask(struct rig *rig, struct ask *ask, const char *sql)
{
    ask_on(rig, ask, NULL, sql, NULL, 0);
}

static inline void forget(struct ask *ask)
{
    for (int i = 0; i < ask->op.statement_count; i++) {
        PQclear(ask->statements[i].result);
        ask->statements[i].result = NULL;
    }
}

static inline enum pg_outcome wait_for(struct rig *rig, struct ask *ask)
{
    while (!ask->done) turn(rig);
    return ask->op.outcome;
}

/* Asks, waits, forgets. */
static inline enum pg_outcome outcome_of(struct rig *rig, struct pg_pin *pin,
                                         const char *sql)
{
    struct ask a;

    ask_on(rig, &a, pin, sql, NULL, 0);
    wait_for(rig, &a);
    forget(&a);
    return a.op.outcome;
}

static inline const char *text_of(const struct ask *ask)
{
    const PGresult *result = ask->statements[ask->op.statement_count - 1].result;

    return PQntuples(result) > 0 ? PQgetvalue(result, 0, 0) : "";
}

/* The first value that 'sql' answers, which must succeed. */
static inline const char *answer(struct rig *rig, struct pg_pin *pin, const char *sql)
{
    static char value[1000];
    struct ask a;

    ask_on(rig, &a, pin, sql, NULL, 0);
    if (wait_for(rig, &a) != PG_OK)
        fail_msg("%s: outcome %d, %s", sql, a.op.outcome, pg_op_sqlstate(&a.op));
    snprintf(value, sizeof value, "%s", text_of(&a));
    forget(&a);
    return value;
}

static inline int number(const char *text) { return (int)strtol(text, NULL, 10); }

static inline int rows_of(int n)
{
    return number(look("SELECT count(*) FROM %s.t WHERE n = %d", schema(), n));
}

static inline void expect_error(struct rig *rig, struct ask *ask, const char *sqlstate)
{
    assert_int_equal(wait_for(rig, ask), PG_ERROR);
    assert_string_equal(pg_op_sqlstate(&ask->op), sqlstate);
    forget(ask);
}

/* ---- pins --------------------------------------------------------------------------- */

struct hold {
    struct pg_pin pin;
    struct rig *rig;
    bool ready;
    int number;
};

static inline void hold_on_ready(void *ctx, struct pg_pin *pin)
{
    struct hold *hold = ctx;

    assert_ptr_equal(pin, &hold->pin);
    assert_false(hold->rig->submitting);
    assert_false(hold->ready);
    hold->ready = true;
    hold->number = ++hold->rig->answers;
}

static inline void hold_ask(struct rig *rig, struct hold *hold)
{
    memset(hold, 0xee, sizeof *hold);
    hold->rig = rig;
    hold->ready = false;
    hold->pin.on_ready = hold_on_ready;
    hold->pin.ctx = hold;
    rig->submitting = true;
    pg_pin(rig->pool, &hold->pin);
    rig->submitting = false;
}

static inline enum pg_outcome hold_wait(struct rig *rig, struct hold *hold)
{
    while (!hold->ready) turn(rig);
    return hold->pin.outcome;
}

static inline void hold_get(struct rig *rig, struct hold *hold)
{
    hold_ask(rig, hold);
    assert_int_equal(hold_wait(rig, hold), PG_OK);
}

/* Gone, with its memory. */
static inline void hold_end(struct hold *hold)
{
    pg_unpin(&hold->pin);
    memset(hold, 0x55, sizeof *hold);
}

#endif
