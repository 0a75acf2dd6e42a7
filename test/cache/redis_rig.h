/* redis_rig.h -- a loop with a client, and things to ask it, for the tests of cache/. */
#ifndef TEST_REDIS_RIG_H
#define TEST_REDIS_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <uv.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "cache/redis.h"

enum { GUARD_MS = 30000, WORDS_MAX = 64, REPLIES_MAX = 8 };

struct rig {
    uv_loop_t loop;
    uv_prepare_t before_wait;
    uv_timer_t tick;
    struct redis *redis;
    struct redis_settings settings;
    bool submitting; /* no on_done may come meanwhile */
    bool closed;
    int answers;
    int64_t guard;
    long live;
};

/* ---- the loop -------------------------------------------------------------------- */

static inline void rig_before_wait(uv_prepare_t *handle)
{
    struct rig *rig = handle->data;

    if (rig->redis != NULL) redis_flush(rig->redis);
}

static inline void rig_tick(uv_timer_t *timer) { (void)timer; }

/* One turn of the loop; every wait of the tests is a loop of them. */
static inline void turn(struct rig *rig)
{
    uv_run(&rig->loop, UV_RUN_ONCE);
    if (clock_ms() > rig->guard) fail_msg("what the test waits for does not come");
}

static inline void turn_for(struct rig *rig, int64_t ms)
{
    int64_t until = clock_ms() + clock_scaled(ms);

    while (clock_ms() < until) turn(rig);
}

static inline void rig_loop(struct rig *rig, const char *url)
{
    memset(rig, 0, sizeof *rig);
    signal(SIGPIPE, SIG_IGN);
    rig->live = mem_live();
    rig->guard = clock_ms() + clock_scaled(GUARD_MS);
    rig->settings = (struct redis_settings){
        .url = url,
        .connect_timeout = 1000,
        .command_timeout = 100,
        .silence_timeout = 1000,
        .breaker_failures = 5,
        .breaker_probe = 200,
        .in_flight_max = 10000,
    };
    assert_int_equal(uv_loop_init(&rig->loop), 0);
    uv_prepare_init(&rig->loop, &rig->before_wait);
    uv_timer_init(&rig->loop, &rig->tick);
    rig->before_wait.data = rig;
    uv_prepare_start(&rig->before_wait, rig_before_wait);
    uv_timer_start(&rig->tick, rig_tick, 20, 20); /* so that turn() looks at its guard */
}

static inline void rig_client(struct rig *rig)
{
    rig->redis = redis_new(&rig->loop, &rig->settings);
    assert_non_null(rig->redis);
}

static inline void rig_start(struct rig *rig, const char *url)
{
    rig_loop(rig, url);
    rig_client(rig);
}

static inline void rig_on_closed(void *ctx)
{
    struct rig *rig = ctx;

    rig->closed = true;
    rig->redis = NULL;
}

static inline void rig_close_client(struct rig *rig)
{
    rig->closed = false;
    redis_close(rig->redis, rig_on_closed, rig);
    while (!rig->closed) turn(rig);
}

/* Nothing may be left: no handle and no memory. */
static inline void rig_stop(struct rig *rig)
{
    if (rig->redis != NULL) rig_close_client(rig);
    uv_close((uv_handle_t *)&rig->before_wait, NULL);
    uv_close((uv_handle_t *)&rig->tick, NULL);
    uv_run(&rig->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&rig->loop), 0);
    assert_int_equal(mem_live(), rig->live);
}

static inline void until_up(struct rig *rig)
{
    while (!redis_up(rig->redis)) turn(rig);
}

static inline struct redis_stats stats_of(const struct rig *rig)
{
    struct redis_stats stats;

    redis_stats(rig->redis, &stats);
    return stats;
}

/* ---- asking ----------------------------------------------------------------------- */

struct ask {
    struct redis_op op;
    struct redis_reply *replies[REPLIES_MAX];
    struct rig *rig;
    bool done;
    int number; /* the how manieth answer it was, from 1 */
};

static inline void ask_on_done(void *ctx, struct redis_op *op)
{
    struct ask *ask = ctx;

    assert_ptr_equal(op, &ask->op);
    assert_false(ask->rig->submitting);
    assert_false(ask->done);
    assert_int_not_equal(op->outcome, REDIS_WAITING);
    ask->done = true;
    ask->number = ++ask->rig->answers;
}

static inline void submit(struct rig *rig, struct ask *ask, int count, const int argc[],
                          const struct slice argv[], int64_t timeout)
{
    memset(ask, 0xee, sizeof *ask); /* what is not filled in is not relied on */
    ask->rig = rig;
    ask->done = false;
    ask->op.command_count = count;
    ask->op.replies = ask->replies;
    ask->op.timeout_ms = timeout;
    ask->op.on_done = ask_on_done;
    ask->op.ctx = ask;
    rig->submitting = true;
    redis_submit(rig->redis, &ask->op, argc, argv);
    assert_int_equal(ask->op.outcome, REDIS_WAITING);
    rig->submitting = false;
}

/* "SET a 1; GET a": words between spaces, commands between semicolons. */
static inline void ask_within(struct rig *rig, struct ask *ask, const char *line,
                              int64_t timeout)
{
    struct slice argv[WORDS_MAX];
    int argc[REPLIES_MAX] = { 0 }, commands = 1, words = 0;

    while (*(line += strspn(line, " ")) != '\0') {
        size_t n = strcspn(line, " ;");

        if (*line == ';') {
            commands++;
            line++;
            continue;
        }
        assert_true(words < WORDS_MAX && commands <= REPLIES_MAX);
        argv[words++] = (struct slice){ line, n };
        argc[commands - 1]++;
        line += n;
    }
    submit(rig, ask, commands, argc, argv, timeout);
}

/* With more time than a busy machine needs. */
static inline void ask(struct rig *rig, struct ask *a, const char *line)
{
    ask_within(rig, a, line, 5000);
}

static inline void forget(struct ask *ask)
{
    for (int i = 0; i < ask->op.command_count; i++) {
        redis_reply_free(ask->replies[i]);
        ask->replies[i] = NULL;
    }
}

static inline enum redis_outcome wait_for(struct rig *rig, struct ask *ask)
{
    while (!ask->done) turn(rig);
    return ask->op.outcome;
}

/* Asks with the client's own deadline, waits, forgets. */
static inline enum redis_outcome outcome_of(struct rig *rig, const char *line)
{
    struct ask a;
    enum redis_outcome outcome;

    ask_within(rig, &a, line, 0);
    outcome = wait_for(rig, &a);
    forget(&a);
    return outcome;
}

static inline void expect_text(const struct redis_reply *reply, enum redis_type type,
                               const char *text)
{
    assert_non_null(reply);
    assert_int_equal(reply->type, type);
    assert_int_equal(reply->text.n, strlen(text));
    assert_memory_equal(reply->text.p, text, reply->text.n);
}

static inline void expect_answer(struct rig *rig, const char *line, enum redis_type type,
                                 const char *text)
{
    struct ask a;

    ask(rig, &a, line);
    assert_int_equal(wait_for(rig, &a), REDIS_OK_REPLY);
    expect_text(a.replies[0], type, text);
    forget(&a);
}

/* Whether the text of an error reply begins with 'text'. */
static inline bool is_error(const struct redis_reply *reply, const char *text)
{
    return reply != NULL && reply->type == REDIS_ERROR_TEXT &&
           strncmp(reply->text.p, text, strlen(text)) == 0;
}

#endif
