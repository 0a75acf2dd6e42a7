/* Messages, and lives without memory, against a redis-server. */
#include "cache/redis_server.h"

/* ---- pub/sub ---------------------------------------------------------------------------------------- */

struct ear {
    struct redis_subscription *s;
    int messages, missed;
    char last[32];
    bool leaves; /* at the first message */
};

static void on_message(void *ctx, struct slice text)
{
    struct ear *ear = ctx;

    if (text.p == NULL) {
        ear->missed++;
        return;
    }
    ear->messages++;
    assert_true(text.n < sizeof ear->last);
    memcpy(ear->last, text.p, text.n);
    ear->last[text.n] = '\0';
    if (ear->leaves) redis_unsubscribe(ear->s);
}

static void listen_to(struct rig *rig, struct ear *ear, const char *channel)
{
    *ear = (struct ear){ 0 };
    ear->s = redis_subscribe(rig->redis, slice_of(channel), on_message, ear);
    assert_non_null(ear->s);
}

/* How many listeners the server has on the channel. */
static int64_t publish(struct rig *rig, const char *line)
{
    struct ask a;
    int64_t heard;

    ask(rig, &a, line);
    assert_int_equal(wait_for(rig, &a), REDIS_OK_REPLY);
    heard = a.replies[0]->number;
    forget(&a);
    return heard;
}

static void messages_come(void **state)
{
    struct rig rig;
    struct ear a, b, other, leaving;

    (void)state;
    begin(&rig);
    listen_to(&rig, &a, "news");
    listen_to(&rig, &leaving, "news");
    listen_to(&rig, &b, "news");
    listen_to(&rig, &other, "else");
    leaving.leaves = true;
    assert_int_equal(stats_of(&rig).subscriptions, 4);
    while (publish(&rig, "PUBLISH else first") == 0) turn(&rig);
    while (other.messages == 0) turn(&rig);
    publish(&rig, "PUBLISH news 1");
    publish(&rig, "PUBLISH news 2");
    while (b.messages < 2) turn(&rig);
    assert_int_equal(a.messages, 2);
    assert_string_equal(a.last, "2");
    assert_int_equal(leaving.messages, 1);
    assert_string_equal(leaving.last, "1");
    assert_string_equal(other.last, "first");
    assert_int_equal(stats_of(&rig).subscriptions, 3);
    redis_unsubscribe(a.s);
    assert_int_equal(publish(&rig, "PUBLISH news 3"), 1); /* b still wants it */
    redis_unsubscribe(b.s);
    while (publish(&rig, "PUBLISH news 4") != 0) turn(&rig);
    assert_int_equal(a.messages, 2);
    assert_int_equal(a.missed, 1); /* what was before Redis listened */
    assert_int_equal(b.missed, 1);
    assert_int_equal(other.missed, 1);
    redis_unsubscribe(other.s); /* the last: the connection goes, and comes again */
    listen_to(&rig, &a, "again");
    while (publish(&rig, "PUBLISH again x") == 0) turn(&rig);
    rig_close_client(&rig);
    redis_unsubscribe(a.s); /* later than the client */
    rig_stop(&rig);
}

static void messages_after_a_reconnect(void **state)
{
    struct rig rig;
    struct ear a, b, late;

    (void)state;
    begin(&rig);
    listen_to(&rig, &a, "news");
    listen_to(&rig, &b, "news");
    while (publish(&rig, "PUBLISH news 1") == 0) turn(&rig);
    while (b.messages == 0) turn(&rig);
    a.missed = b.missed = 0;
    server_stop();
    while (redis_up(rig.redis)) turn(&rig);
    turn_for(&rig, 50);
    listen_to(&rig, &late, "news");
    turn_for(&rig, 700); /* attempts that fail */
    server_start(NULL);
    until_up(&rig);
    while (a.missed == 0 || b.missed == 0) turn(&rig);
    publish(&rig, "PUBLISH news 2");
    while (late.messages == 0) turn(&rig);
    assert_string_equal(a.last, "2");
    assert_int_equal(a.missed, 1);
    assert_int_equal(b.missed, 1);
    assert_int_equal(late.missed, 1);
    redis_unsubscribe(a.s);
    redis_unsubscribe(b.s);
    redis_unsubscribe(late.s);
    rig_stop(&rig);
}

/* ---- no memory ------------------------------------------------------------------------------------------ */

/* A short life of a client in which the n-th allocation fails: everybody is answered,
 * what is answered is right, and afterwards everything works.  False when there were
 * fewer allocations. */
static bool life_without_memory(struct rig *rig, long n)
{
    struct ask asks[3];
    struct ear ear = { 0 };
    bool failed;
    char line[512]; /* longer than a buffer at first, so that it fails half written */

    rig_loop(rig, server.url);
    mem_fail_after(n);
    rig->redis = redis_new(&rig->loop, &rig->settings);
    if (rig->redis == NULL) rig_client(rig);
    ear.s = redis_subscribe(rig->redis, SLICE("c"), on_message, &ear);
    for (int i = 0; i < 3; i++) {
        snprintf(line, sizeof line,
                 "SET k 1; GET k; LRANGE list 0 -1; PUBLISH c x; ECHO %0300d", i);
        ask(rig, &asks[i], line);
        if (i == 1) wait_for(rig, &asks[i]);
    }
    for (int i = 0; i < 3; i++) {
        if (wait_for(rig, &asks[i]) == REDIS_OK_REPLY) {
            expect_text(asks[i].replies[1], REDIS_STRING, "1");
            assert_int_equal(asks[i].replies[2]->item_count, 2);
            assert_int_equal(asks[i].replies[4]->text.n, 300);
            assert_int_equal(asks[i].replies[4]->text.p[299], '0' + i);
        }
        forget(&asks[i]);
    }
    /* One that could not be written leaves no half of itself in front of the next. */
    if (asks[0].op.outcome == REDIS_DOWN)
        assert_int_not_equal(asks[1].op.outcome, REDIS_LOST);
    until_up(rig);
    if (ear.s == NULL) ear.s = redis_subscribe(rig->redis, SLICE("c"), on_message, &ear);
    for (struct ask a; ear.s != NULL && ear.messages == 0; forget(&a)) {
        ask(rig, &a, "PUBLISH c x");
        wait_for(rig, &a);
    }
    failed = mem_failed();
    mem_fail_after(-1);
    until_up(rig);
    expect_answer(rig, "ECHO works", REDIS_STRING, "works");
    if (ear.s != NULL) redis_unsubscribe(ear.s);
    rig_stop(rig);
    return failed;
}

static void any_allocation_may_fail(void **state)
{
    struct rig rig;
    long n = 0;

    (void)state;
    begin(&rig);
    expect_answer(&rig, "EVAL return{ok=redis.call('RPUSH','list','a','b')..''} 0",
                  REDIS_STATUS_TEXT, "2");
    rig_stop(&rig);
    while (life_without_memory(&rig, n)) n++;
    assert_true(n > 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_come),
        cmocka_unit_test(messages_after_a_reconnect),
        cmocka_unit_test(any_allocation_may_fail),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
