/* Commands and their replies, against a redis-server. */
#include "cache/redis_server.h"

/* ---- commands ---------------------------------------------------------------------------- */

static void values_are_bytes(void **state)
{
    static const char bytes[] = "a\0b\r\n\xff$3\r\n";
    const struct slice value = { bytes, sizeof bytes - 1 };
    struct rig rig;
    struct ask a;

    (void)state;
    begin(&rig);
    submit(&rig, &a, 2, (int[]){ 3, 2 },
           (struct slice[]){ SLICE("SET"), SLICE("k"), value, SLICE("GET"), SLICE("k") },
           0);
    assert_int_equal(wait_for(&rig, &a), REDIS_OK_REPLY);
    expect_text(a.replies[0], REDIS_STATUS_TEXT, "OK");
    assert_int_equal(a.replies[1]->type, REDIS_STRING);
    assert_true(slice_equal(a.replies[1]->text, value));
    forget(&a);
    submit(&rig, &a, 1, (int[]){ 3 },
           (struct slice[]){ SLICE("SET"), SLICE("k"), { NULL, 0 } }, 0);
    assert_int_equal(wait_for(&rig, &a), REDIS_OK_REPLY);
    forget(&a);
    expect_answer(&rig, "GET k", REDIS_STRING, "");
    rig_stop(&rig);
}

static void every_type_of_reply(void **state)
{
    struct rig rig;
    struct ask a;
    const struct redis_reply *list;

    (void)state;
    begin(&rig);
    ask(&rig, &a, "GET none; INCRBY n -5; LPUSH n 1; EVAL return{1,{'x',false},{}} 0");
    assert_int_equal(wait_for(&rig, &a), REDIS_OK_REPLY);
    assert_int_equal(a.replies[0]->type, REDIS_NIL);
    assert_int_equal(a.replies[1]->type, REDIS_INT);
    assert_int_equal(a.replies[1]->number, -5);
    assert_true(is_error(a.replies[2], "WRONGTYPE"));
    list = a.replies[3];
    assert_int_equal(list->type, REDIS_LIST);
    assert_int_equal(list->item_count, 3);
    assert_int_equal(list->items[0]->number, 1);
    assert_int_equal(list->items[1]->item_count, 2);
    expect_text(list->items[1]->items[0], REDIS_STRING, "x");
    assert_int_equal(list->items[1]->items[1]->type, REDIS_NIL);
    assert_int_equal(list->items[2]->type, REDIS_LIST);
    assert_int_equal(list->items[2]->item_count, 0);
    forget(&a);
    rig_stop(&rig);
}

/* Lists grow in steps; the lengths around the steps come whole. */
static void lists_around_the_steps(void **state)
{
    static const int lengths[] = { 1, 2, 63, 64, 65, 127, 128, 129, 1024, 1025, 5000 };
    struct rig rig;
    struct ask a;
    char line[128];

    (void)state;
    begin(&rig);
    for (size_t k = 0; k < COUNT_OF(lengths); k++) {
        int n = lengths[k];

        snprintf(line, sizeof line,
                 "EVAL local\tt={}for\ti=1,%d\tdo\tt[i]=i\tend\treturn\tt 0", n);
        ask_within(&rig, &a, line, 5000);
        assert_int_equal(wait_for(&rig, &a), REDIS_OK_REPLY);
        assert_int_equal(a.replies[0]->type, REDIS_LIST);
        assert_int_equal(a.replies[0]->item_count, n);
        for (int i = 0; i < n; i++)
            assert_int_equal(a.replies[0]->items[i]->number, i + 1);
        forget(&a);
    }
    rig_stop(&rig);
}

static void a_thousand_in_order(void **state)
{
    static struct ask asks[1000];
    struct rig rig;

    (void)state;
    begin(&rig);
    rig.answers = 0;
    for (size_t i = 0; i < COUNT_OF(asks); i++)
        ask_within(&rig, &asks[i], "INCR n", 5000);
    assert_int_equal(stats_of(&rig).in_flight, 1000);
    for (size_t i = 0; i < COUNT_OF(asks); i++) {
        assert_int_equal(wait_for(&rig, &asks[i]), REDIS_OK_REPLY);
        assert_int_equal(asks[i].replies[0]->number, i + 1);
        assert_int_equal(asks[i].number, i + 1);
        forget(&asks[i]);
    }
    assert_int_equal(stats_of(&rig).in_flight, 0);
    rig_stop(&rig);
}

/* More than a socket takes at once, with others behind it. */
static void large_values(void **state)
{
#ifdef OMADE_HOSTILE
    enum { SIZE = 1 << 18 };
#else
    enum { SIZE = 5 << 20 };
#endif
    struct rig rig;
    struct ask set, get, behind;
    char *value = malloc(SIZE);

    (void)state;
    assert_non_null(value);
    for (int i = 0; i < SIZE; i++) value[i] = (char)(i * 7 + i / 1000);
    begin(&rig);
    submit(&rig, &set, 1, (int[]){ 3 },
           (struct slice[]){ SLICE("SET"), SLICE("k"), { value, SIZE } }, 10000);
    turn(&rig);
    ask_within(&rig, &get, "GET k", 10000);
    ask_within(&rig, &behind, "ECHO behind", 10000);
    assert_int_equal(wait_for(&rig, &set), REDIS_OK_REPLY);
    assert_int_equal(wait_for(&rig, &get), REDIS_OK_REPLY);
    assert_int_equal(wait_for(&rig, &behind), REDIS_OK_REPLY);
    assert_int_equal(get.replies[0]->text.n, SIZE);
    assert_memory_equal(get.replies[0]->text.p, value, SIZE);
    expect_text(behind.replies[0], REDIS_STRING, "behind");
    forget(&set);
    forget(&get);
    forget(&behind);
    free(value);
    rig_stop(&rig);
}

static void transactions_are_one_op(void **state)
{
    struct rig rig;
    struct ask a;

    (void)state;
    begin(&rig);
    ask(&rig, &a, "MULTI; SET a 1; INCR a; EXEC");
    assert_int_equal(wait_for(&rig, &a), REDIS_OK_REPLY);
    expect_text(a.replies[2], REDIS_STATUS_TEXT, "QUEUED");
    assert_int_equal(a.replies[3]->item_count, 2);
    assert_int_equal(a.replies[3]->items[1]->number, 2);
    forget(&a);
    rig_stop(&rig);
}

static void what_would_hurt_others_is_refused(void **state)
{
    static const char *const lines[] = {
        "SUBSCRIBE a b",  "select 1",
        "MULTI; SET a 1", "CLIENT REPLY OFF",
        "MONITOR",        "BLPOP a 0",
        "WATCH a",        "EXEC; MULTI",
        "QUIT",           "XREAD COUNT 1 BLOCK 0 STREAMS s $",
    };
    struct rig rig;
    struct ask a;

    (void)state;
    begin(&rig);
    for (size_t i = 0; i < COUNT_OF(lines); i++) {
        ask(&rig, &a, lines[i]);
        assert_int_equal(wait_for(&rig, &a), REDIS_OK_REPLY);
        for (int k = 0; k < a.op.command_count; k++)
            if (!is_error(a.replies[k], "ERR ")) fail_msg("sent: %s", lines[i]);
        forget(&a);
        expect_answer(&rig, "ECHO mine", REDIS_STRING, "mine");
    }
    expect_answer(&rig, "ECHO SUBSCRIBE", REDIS_STRING, "SUBSCRIBE");
    assert_int_equal(stats_of(&rig).reconnects, 0);
    rig_stop(&rig);
}

static void too_many_in_flight(void **state)
{
    struct rig rig;
    struct ask a, b, c;

    (void)state;
    begin(&rig);
    rig_close_client(&rig);
    rig.settings.in_flight_max = 3;
    rig_client(&rig);
    until_up(&rig);
    ask(&rig, &a, "ECHO 1; ECHO 2");
    ask(&rig, &b, "ECHO 3; ECHO 4");
    ask(&rig, &c, "ECHO 5");
    assert_int_equal(wait_for(&rig, &b), REDIS_DOWN);
    assert_int_equal(wait_for(&rig, &a), REDIS_OK_REPLY);
    assert_int_equal(wait_for(&rig, &c), REDIS_OK_REPLY);
    expect_text(a.replies[1], REDIS_STRING, "2");
    expect_text(c.replies[0], REDIS_STRING, "5");
    assert_null(b.replies[0]);
    forget(&a);
    forget(&c);
    expect_answer(&rig, "ECHO 6", REDIS_STRING, "6");
    rig_stop(&rig);
}

/* ---- giving up ------------------------------------------------------------------------------ */

/* Every third is cancelled, at different stages; the others get what is theirs. */
static void cancelled_ones_keep_their_place(void **state)
{
    static struct ask asks[90];
    struct rig rig;
    char line[32];

    (void)state;
    begin(&rig);
    for (int i = 0; i < (int)COUNT_OF(asks); i++) {
        snprintf(line, sizeof line, "ECHO %d; ECHO x", i);
        ask_within(&rig, &asks[i], line, 5000);
        if (i % 30 == 0) redis_cancel(&asks[i].op);
        if (i == 44) redis_flush(rig.redis);
    }
    for (int i = 3; i < (int)COUNT_OF(asks); i += 3)
        if (i % 30 != 0) redis_cancel(&asks[i].op);
    for (int i = 0; i < (int)COUNT_OF(asks); i++) {
        snprintf(line, sizeof line, "%d", i);
        if (i % 3 == 0) {
            memset(&asks[i].op, 0x55, sizeof asks[i].op); /* as if it was freed */
            continue;
        }
        assert_int_equal(wait_for(&rig, &asks[i]), REDIS_OK_REPLY);
        expect_text(asks[i].replies[0], REDIS_STRING, line);
        expect_text(asks[i].replies[1], REDIS_STRING, "x");
        forget(&asks[i]);
    }
    rig_stop(&rig);
}

static void cancelled_when_it_is_over(void **state)
{
    struct rig rig;
    struct ask a;

    (void)state;
    begin(&rig);
    ask(&rig, &a, "ECHO 4");
    assert_int_equal(wait_for(&rig, &a), REDIS_OK_REPLY);
    redis_cancel(&a.op);
    expect_text(a.replies[0], REDIS_STRING, "4");
    forget(&a);
    server_stop();
    while (redis_up(rig.redis)) turn(&rig);
    ask(&rig, &a, "ECHO 5");
    redis_cancel(&a.op); /* its failure is decided, but not told */
    turn_for(&rig, 30);
    assert_false(a.done);
    rig_stop(&rig);
}

static void a_late_one_leaves_its_neighbours_sane(void **state)
{
    struct rig rig;
    struct ask slow, after, later;

    (void)state;
    begin(&rig);
    ask_within(&rig, &slow, "DEBUG SLEEP 0.3; ECHO slow", 0);
    ask_within(&rig, &after, "ECHO after", 5000);
    assert_int_equal(wait_for(&rig, &slow), REDIS_LOST);
    assert_false(after.done);
    assert_null(slow.replies[1]);
    forget(&slow);
    memset(&slow, 0x55, sizeof slow);
    ask_within(&rig, &later, "ECHO later", 5000);
    assert_int_equal(wait_for(&rig, &after), REDIS_OK_REPLY);
    assert_int_equal(wait_for(&rig, &later), REDIS_OK_REPLY);
    expect_text(after.replies[0], REDIS_STRING, "after");
    expect_text(later.replies[0], REDIS_STRING, "later");
    assert_int_equal(stats_of(&rig).reconnects, 0);
    assert_int_equal(stats_of(&rig).in_flight, 0);
    forget(&after);
    forget(&later);
    rig_stop(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_bytes),
        cmocka_unit_test(every_type_of_reply),
        cmocka_unit_test(lists_around_the_steps),
        cmocka_unit_test(a_thousand_in_order),
        cmocka_unit_test(large_values),
        cmocka_unit_test(transactions_are_one_op),
        cmocka_unit_test(what_would_hurt_others_is_refused),
        cmocka_unit_test(too_many_in_flight),
        cmocka_unit_test(cancelled_ones_keep_their_place),
        cmocka_unit_test(cancelled_when_it_is_over),
        cmocka_unit_test(a_late_one_leaves_its_neighbours_sane),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
