/* LISTEN and NOTIFY. */
#include "db/pg_rig.h"

struct heard {
    struct rig *rig;
    struct pg_listener *listener;
    int count, missed;
    bool leaves;          /* unlistens in its callback */
    bool notifies_missed; /* NOTIFYs when told that it may have missed some */
    char last[100];
};

static void on_notify(void *ctx, struct slice payload)
{
    struct heard *heard = ctx;

    assert_non_null(heard->listener);
    if (payload.p == NULL) {
        heard->missed++;
        if (heard->notifies_missed) look("NOTIFY omade_test_a, 'again'");
        return;
    }
    heard->count++;
    snprintf(heard->last, sizeof heard->last, "%.*s", (int)payload.n, payload.p);
    if (!heard->leaves) return;
    pg_unlisten(heard->listener);
    heard->listener = NULL;
}

static void listen_to(struct rig *rig, struct heard *heard, const char *channel)
{
    *heard = (struct heard){ .rig = rig };
    heard->listener = pg_listen(rig->pool, slice_of(channel), on_notify, heard);
    assert_non_null(heard->listener);
}

#define LISTENERS                                                                        \
    "FROM pg_stat_activity WHERE application_name = '%s' AND query ~ '^(UN)?LISTEN'"

/* From then on nothing is missed: whoever listens is told so, once. */
static void until_sure(struct rig *rig, const struct heard *heard)
{
    while (heard->missed == 0) turn(rig);
}

/* Until PostgreSQL has executed UNLISTEN. */
static void until_unlistened(struct rig *rig, const char *channel)
{
    while (number(look("SELECT count(*) " LISTENERS
                       " AND state = 'idle' AND query ~ 'UNLISTEN \"%s\"'",
                       schema(), channel)) == 0)
        turn(rig);
}

static void notifications(void **state)
{
    struct rig rig;
    struct heard a, b, other;

    (void)state;
    rig_start(&rig);
    listen_to(&rig, &a, "omade_test_a");
    listen_to(&rig, &b, "omade_test_a");
    until_sure(&rig, &a);
    until_sure(&rig, &b);
    listen_to(&rig, &other, "omade_test_Other");
    until_sure(&rig, &other);
    look("NOTIFY omade_test_a, 'one'");
    while (a.count < 1 || b.count < 1) turn(&rig);
    assert_string_equal(a.last, "one");
    assert_string_equal(b.last, "one");
    look("NOTIFY \"omade_test_Other\"");
    while (other.count < 1) turn(&rig);
    assert_string_equal(other.last, "");
    assert_int_equal(a.count, 1);

    a.leaves = true;
    look("NOTIFY omade_test_a, 'two'");
    while (b.count < 2) turn(&rig);
    look("NOTIFY omade_test_a, 'three'");
    while (b.count < 3) turn(&rig);
    assert_int_equal(a.count, 2);
    pg_unlisten(b.listener);
    until_unlistened(&rig, "omade_test_a");
    look("NOTIFY omade_test_a, 'nobody'");
    look("NOTIFY \"omade_test_Other\", 'end'");
    while (other.count < 2) turn(&rig);
    assert_int_equal(b.count, 3);
    assert_int_equal(a.missed + b.missed + other.missed, 3);
    rig_stop(&rig); /* listeners end with the pool */
}

/* Told only when it listens, at first and again: who looks then misses nothing. */
static void reconnects(void **state)
{
    struct rig rig;
    struct heard a;

    (void)state;
    rig_start(&rig);
    listen_to(&rig, &a, "omade_test_a");
    a.notifies_missed = true;
    for (int round = 1; round < 4; round++) {
        while (a.missed < round) turn(&rig);
        while (a.count < round) turn(&rig);
        assert_string_equal(a.last, "again");
        look("SELECT pg_terminate_backend(pid) " LISTENERS, schema());
    }
    assert_string_equal(answer(&rig, NULL, "SELECT 1"), "1");
    rig_stop(&rig);
}

static void refused_names(void **state)
{
    char name[80];
    struct rig rig;

    (void)state;
    rig_start(&rig);
    memset(name, 'x', sizeof name);
    assert_null(pg_listen(rig.pool, SLICE(""), on_notify, NULL));
    assert_null(pg_listen(rig.pool, SLICE("a\"; DROP"), on_notify, NULL));
    assert_null(pg_listen(rig.pool, (struct slice){ name, 64 }, on_notify, NULL));
    rig_stop(&rig);
}

static void away(void **state)
{
    struct rig rig;
    struct heard a;

    (void)state;
    rig_loop(&rig, test_url());
    rig.settings.listen_url = "postgres:///x?host=/nowhere";
    rig_pool(&rig);
    listen_to(&rig, &a, "omade_test_a");
    assert_string_equal(answer(&rig, NULL, "SELECT 1"), "1");
    pg_unlisten(a.listener);
    listen_to(&rig, &a, "omade_test_a");
    rig_stop(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(notifications),
        cmocka_unit_test(reconnects),
        cmocka_unit_test(refused_names),
        cmocka_unit_test(away),
    };

    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
