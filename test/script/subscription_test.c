/* redis.subscribe against a redis-server; db.listen is built of the same. */
#include "script/script_rig.h"

#include "cache/redis_server.h"

/* ---- the rig --------------------------------------------------------------------- */

static struct redis_settings settings;
static bool closed;

static int set_up(void **state)
{
    if (engine_start(state) != 0) return -1;
    settings = (struct redis_settings){ .url = server.url,
                                        .connect_timeout = 1000,
                                        .command_timeout = 5000,
                                        .silence_timeout = 5000,
                                        .breaker_failures = 5,
                                        .breaker_probe = 200,
                                        .in_flight_max = 10000 };
    if (server.missing) return 0;
    engine.env.redis = redis_new(&engine.loop, &settings);
    return engine.env.redis == NULL ? -1 : 0;
}

static void on_closed(void *ctx)
{
    (void)ctx;
    closed = true;
}

static int tear_down(void **state)
{
    assert_int_equal(engine.env.tasks_live, 0);
    vm_free(engine.vm);
    if (engine.env.redis != NULL) {
        redis_close(engine.env.redis, on_closed, NULL);
        engine.env.redis = NULL;
        for (closed = false; !closed;) engine_turn();
    }
    return engine_stop(state);
}

/* The script sees `redis`, `publish`, which waits until somebody listens, and `hear`, a
 * subscription that has begun. */
static const char *script(const char *text)
{
    static char whole[4000];

    snprintf(whole, sizeof whole,
             "local redis, db = require 'omade.core.redis', require 'omade.core.db' "
             "local function publish(channel, text) "
             "while redis.call('PUBLISH', channel, text) == 0 do sleep(0.001) end end "
             "local function hear(channel) local sub = redis.subscribe(channel) "
             "assert(sub:next() == false) return sub end %s",
             text);
    return whole;
}

static void until_connected(void)
{
    if (server.missing) skip();
    while (!redis_up(engine.env.redis)) engine_turn();
}

static void returns(const char *text, const char *expected)
{
    until_connected();
    engine_returns(script(text), expected);
}

static void raises(const char *text, const char *part)
{
    until_connected();
    engine_raises(script(text), part);
}

static size_t subscriptions(void)
{
    struct redis_stats stats;

    redis_stats(engine.env.redis, &stats);
    return stats.subscriptions;
}

static void end_task(int i)
{
    task_kill(engine.outcomes[i].task, TASK_KILLED_GONE);
    while (!engine.outcomes[i].ended) engine_turn();
    assert_int_equal(engine.outcomes[i].killed, TASK_KILLED_GONE);
}

/* ---- messages -------------------------------------------------------------------- */

static void messages_come_in_order(void **state)
{
    (void)state;
    returns(
        "local sub <close> = hear('c') publish('c', '1') publish('c', '') "
        "publish('c', 'a\\0b') return sub:next() .. '|' .. sub:next() .. '|' .. #sub:next()",
        "1||3");
}

static void a_waiting_task_gets_the_next_one(void **state)
{
    (void)state;
    returns("local sub <close> = hear('c') local a, b = all(function() return "
            "sub:next() end, function() publish('c', 'x') return 'y' end) return a .. b",
            "xy");
    returns("local sub <close> = hear('c') return all(function() return "
            "sub:next(100) end, function() publish('c', 'x') end)",
            "x");
}

static void a_time_limit_ends_a_wait(void **state)
{
    (void)state;
    returns(
        "local sub <close> = hear('c') local none = sub:next(0) local later = "
        "sub:next(0.01) publish('c', 'x') return tostring(none) .. tostring(later) .. sub:next(50)",
        "nilnilx");
}

/* What another channel gets last comes last on the connection that they share. */
static void what_overflows_is_told(void **state)
{
    (void)state;
    returns(
        "local sub <close> = hear('c') local last <close> = hear('last') "
        "publish('c', '0') for i = 1, 1099 do redis.call('PUBLISH', 'c', i) end "
        "publish('last', '') last:next() for i = 0, 999 do assert(sub:next() == tostring(i)) end "
        "local gap = sub:next() redis.call('PUBLISH', 'c', 'on') return tostring(gap) .. sub:next()",
        "falseon");
    returns(
        "local sub <close> = hear('c') local last <close> = hear('last') "
        "local big = ('x'):rep(600000) publish('c', big) publish('c', big) publish('c', 'y') "
        "publish('last', '') last:next() local a, gap, b, none = sub:next(), sub:next(), sub:next(), "
        "sub:next(0) return #a .. tostring(gap) .. b .. tostring(none)",
        "600000falseynil");
}

static void a_lost_connection_is_told(void **state)
{
    (void)state;
    returns(
        "local sub <close> = hear('c') publish('c', 'before') "
        "assert(sub:next() == 'before') redis.call('CLIENT', 'KILL', 'TYPE', 'pubsub') "
        "local gap = sub:next() publish('c', 'after') return tostring(gap) .. sub:next()",
        "falseafter");
}

/* ---- ends ------------------------------------------------------------------------ */

static void what_is_closed_is_over(void **state)
{
    (void)state;
    raises("local sub = redis.subscribe('c') sub:close() sub:close() sub:next()",
           "it is closed");
    raises(
        "local kept do local sub <close> = redis.subscribe('c') kept = sub end kept:next()",
        "it is closed");
    raises("local sub = redis.subscribe('c') all(function() sub:next() end, "
           "function() sub:close() end)",
           "closed meanwhile");
    assert_int_equal(subscriptions(), 0);
}

static void a_killed_task_closes_it(void **state)
{
    static const char *const scripts[] = {
        "local sub <close> = redis.subscribe('c') sub:next(100)",
        "local sub <close> = redis.subscribe('c') sub:next()",
        "local sub <close> = redis.subscribe('c') all(function() sub:next(100) end)",
    };

    (void)state;
    until_connected();
    for (size_t i = 0; i < COUNT_OF(scripts); i++) {
        assert_true(engine_begin(&engine.outcomes[0], script(scripts[i])));
        for (int n = 0; n < 3; n++) engine_turn();
        assert_int_equal(subscriptions(), 1);
        end_task(0);
        lua_gc(engine.vm->L, LUA_GCCOLLECT);
        assert_int_equal(subscriptions(), 0);
    }
}

static void on_published(void *ctx, struct redis_op *op)
{
    (void)ctx;
    redis_reply_free(op->replies[0]);
}

/* Woken by a message, or by its timer, and killed before it goes on. */
static void a_message_for_a_killed_task_is_dropped(void **state)
{
    const struct slice words[] = { SLICE("PUBLISH"), SLICE("c"), SLICE("second") };
    struct redis_reply *reply;
    struct redis_op op = { .command_count = 1,
                           .replies = &reply,
                           .on_done = on_published };

    (void)state;
    until_connected();
    assert_true(engine_begin(&engine.outcomes[0], script("local sub <close> = hear('c') "
                                                         "sub:next() sub:next(100)")));
    engine_returns(script("publish('c', 'first') return 1"), "1");
    engine.hold = true;
    redis_submit(engine.env.redis, &op, (int[]){ 3 }, words);
    while (op.outcome == REDIS_WAITING || engine.env.ready.count == 0) engine_turn();
    engine.hold = false;
    end_task(0);

    assert_true(
        engine_begin(&engine.outcomes[0],
                     script("local sub <close> = redis.subscribe('c') sub:next(0)")));
    engine.hold = true;
    while (engine.env.ready.count == 0) engine_turn();
    engine.hold = false;
    end_task(0);
    assert_int_equal(subscriptions(), 0);
}

static void what_nobody_has_is_closed(void **state)
{
    (void)state;
    returns("for i = 1, 20 do redis.subscribe('c' .. i) end return 1", "1");
    lua_gc(engine.vm->L, LUA_GCCOLLECT);
    assert_int_equal(subscriptions(), 0);
    returns("redis.subscribe('c'):next(0.01) return 1", "1"); /* vm_free closes it */
}

static void misuse_says_what_to_do(void **state)
{
    (void)state;
    raises(
        "local sub = redis.subscribe('c') local function wait() sub:next() end all(wait, wait)",
        "another task waits");
    raises("redis.subscribe('')", "empty or too long");
    raises("redis.subscribe(('c'):rep(513))", "empty or too long");
    raises("redis.subscribe('c'):next(-1)", "0 to 86,400");
    raises("redis.subscribe('c').next({})", "subscription expected");
    raises("table.sort({2, 1}, function() redis.subscribe('c'):next() end)",
           "inside sort");
    raises("db.listen('c')", "needs a database");
    raises("db.listen('c; DROP TABLE x')", "letters, digits");
    raises("db.listen('1c')", "letters, digits");
    raises("db.listen(('c'):rep(64))", "empty or too long");
}

/* ---- without memory -------------------------------------------------------------- */

/* A message may be lost then, but its reader is told and nothing is left. */
static void every_allocation_may_fail(void **state)
{
    const char *text =
        "local sub <close> = redis.subscribe('c') local a = sub:next(0.001) "
        "redis.call('PUBLISH', 'c', 'x') return tostring(sub:next(0.02))";
    int done = 0;

    (void)state;
    for (long n = 0; done < 2; n++) {
        struct outcome *o = &engine.outcomes[0];
        const char *whole = script(text);
        bool failed;

        until_connected();
        mem_fail_after(n);
        if (engine_begin(o, whole))
            while (!o->ended) engine_turn();
        failed = mem_failed() != 0;
        mem_fail_after(-1);
        if (!failed) done++;
        assert_true(failed || o->ok);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(messages_come_in_order, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_waiting_task_gets_the_next_one, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_time_limit_ends_a_wait, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_overflows_is_told, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_lost_connection_is_told, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_closed_is_over, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_killed_task_closes_it, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_message_for_a_killed_task_is_dropped, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(what_nobody_has_is_closed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(misuse_says_what_to_do, set_up, tear_down),
        cmocka_unit_test_setup_teardown(every_allocation_may_fail, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
