/* Operations on shared connections, against a real PostgreSQL. */
#include "db/pg_rig.h"

/* ---- answers ---------------------------------------------------------------------------- */

static void single(void **state)
{
    struct rig rig;
    struct ask a;

    (void)state;
    rig_start(&rig);
    ask_on(&rig, &a, NULL, "SELECT $1::int + 1, NULL::text", "41", 0);
    assert_int_equal(wait_for(&rig, &a), PG_OK);
    assert_string_equal(text_of(&a), "42");
    assert_true(PQgetisnull(a.statements[0].result, 0, 1));
    assert_int_equal(a.op.failed_at, -1);
    assert_string_equal(pg_op_sqlstate(&a.op), "");
    forget(&a);
    assert_string_equal(answer(&rig, NULL, "SELECT ''"), "");
    assert_int_equal(outcome_of(&rig, NULL, ""), PG_OK); /* an empty query */
    rig_stop(&rig);
}

static void session(void **state)
{
    struct rig rig;

    (void)state;
    for (int named = 1; named >= 0; named--) {
        rig_loop(&rig, test_url());
        rig.settings.named_statements = named;
        rig_pool(&rig);
        assert_string_equal(answer(&rig, NULL, "SHOW client_encoding"), "UTF8");
        assert_string_equal(answer(&rig, NULL, "SHOW TimeZone"), "UTC");
        assert_memory_equal(answer(&rig, NULL, "SHOW DateStyle"), "ISO", 3);
        assert_string_equal(answer(&rig, NULL, "SHOW application_name"), schema());
        if (named) {
            assert_string_not_equal(answer(&rig, NULL, "SHOW statement_timeout"), "0");
            assert_string_equal(
                answer(&rig, NULL, "SHOW idle_in_transaction_session_timeout"), "1min");
        }
        rig_stop(&rig);
    }
}

static void many_in_flight_in_order(void **state)
{
    static struct ask asks[150];
    static char values[150][12];
    struct rig rig;

    (void)state;
    rig_start(&rig);
    for (int i = 0; i < 150; i++) {
        snprintf(values[i], sizeof values[i], "%d", i);
        ask_on(&rig, &asks[i], NULL, "SELECT $1::int", values[i], 0);
    }
    for (int i = 0; i < 150; i++) {
        assert_int_equal(wait_for(&rig, &asks[i]), PG_OK);
        assert_int_equal(asks[i].number, i + 1);
        assert_string_equal(text_of(&asks[i]), values[i]);
        forget(&asks[i]);
    }
    assert_int_equal(stats_of(&rig).in_flight, 0);
    rig_stop(&rig);
}

static void spread_over_connections(void **state)
{
    static struct ask asks[20];
    struct rig rig;
    int first = 0, pid;

    (void)state;
    rig_loop(&rig, test_url());
    rig.settings.connections = 2;
    rig_pool(&rig);
    while (stats_of(&rig).idle < 2) turn(&rig);
    for (int i = 0; i < 20; i++) ask(&rig, &asks[i], "SELECT pg_backend_pid()");
    pid = -1;
    for (int i = 0; i < 20; i++) {
        assert_int_equal(wait_for(&rig, &asks[i]), PG_OK);
        if (i == 0) pid = number(text_of(&asks[i]));
        first += number(text_of(&asks[i])) == pid;
        forget(&asks[i]);
    }
    assert_int_equal(first, 10);
    rig_stop(&rig);
}

static void one_failing_fails_alone(void **state)
{
    static struct ask asks[100];
    struct rig rig;

    (void)state;
    rig_start(&rig);
    for (int round = 0; round < 2; round++) { /* prepared anew, and prepared before */
        for (int i = 0; i < 100; i++)
            ask(&rig, &asks[i],
                i == 50   ? "SELECT 1 / (SELECT 0)"
                : i == 60 ? "SELEKT"
                : i == 61 ? "SELECT no_such_column"
                          : "INSERT INTO %s.t VALUES (1)");
        for (int i = 0; i < 100; i++) {
            if (i == 50) expect_error(&rig, &asks[i], "22012");
            else if (i == 60) expect_error(&rig, &asks[i], "42601");
            else if (i == 61) expect_error(&rig, &asks[i], "42703");
            else assert_int_equal(wait_for(&rig, &asks[i]), PG_OK);
            forget(&asks[i]);
        }
        assert_int_equal(rows_of(1), 97 * (round + 1));
    }
    assert_int_equal(stats_of(&rig).failures, 6);
    rig_stop(&rig);
}

/* ---- one op, several statements ---------------------------------------------------------------- */

static void several_statements_are_atomic(void **state)
{
    struct rig rig;
    struct ask a, b;

    (void)state;
    rig_start(&rig);
    for (int round = 0; round < 2; round++) {
        ask_init(&rig, &a);
        ask_add(&a, "INSERT INTO %s.t VALUES (2)", NULL);
        ask_add(&a, "SELECT 1 / $1::int", "0");
        ask_add(&a, "INSERT INTO %s.t VALUES (2)", NULL);
        ask_send(&a, NULL);
        ask(&rig, &b, "INSERT INTO %s.t VALUES (3)");
        assert_int_equal(wait_for(&rig, &a), PG_ERROR);
        assert_int_equal(a.op.failed_at, 1);
        assert_string_equal(pg_op_sqlstate(&a.op), "22012");
        forget(&a);
        assert_int_equal(wait_for(&rig, &b), PG_OK);
        forget(&b);
        assert_int_equal(rows_of(2), 0);
        assert_int_equal(rows_of(3), round + 1);
    }
    rig_stop(&rig);
}

static void settings_last_for_their_op(void **state)
{
    struct rig rig;
    struct ask a, b;

    (void)state;
    rig_start(&rig);
    ask_init(&rig, &a);
    ask_add(&a, "SELECT set_config('app.who', $1, true)", "me");
    ask_add(&a, "SELECT current_setting('app.who', true)", NULL);
    ask_send(&a, NULL);
    ask(&rig, &b, "SELECT coalesce(current_setting('app.who', true), '')");
    assert_int_equal(wait_for(&rig, &a), PG_OK);
    assert_string_equal(text_of(&a), "me");
    assert_int_equal(wait_for(&rig, &b), PG_OK);
    assert_string_equal(text_of(&b), "");
    forget(&a);
    forget(&b);
    rig_stop(&rig);
}

/* Checked at the commit: the error stands in place of the Sync's answer. */
static void deferred_constraints(void **state)
{
    struct rig rig;
    struct ask before, bad, after;
    char pid[20];

    (void)state;
    rig_start(&rig);
    look("CREATE TABLE %s.d (n int UNIQUE DEFERRABLE INITIALLY DEFERRED)", schema());
    snprintf(pid, sizeof pid, "%s", answer(&rig, NULL, "SELECT pg_backend_pid()"));
    ask(&rig, &before, "INSERT INTO %s.d VALUES (1)");
    ask_init(&rig, &bad);
    ask_add(&bad, "INSERT INTO %s.d VALUES (2)", NULL);
    ask_add(&bad, "INSERT INTO %s.d VALUES (1)", NULL);
    ask_send(&bad, NULL);
    ask(&rig, &after, "INSERT INTO %s.d VALUES (3)");
    assert_int_equal(wait_for(&rig, &before), PG_OK);
    expect_error(&rig, &bad, "23505");
    assert_int_equal(bad.op.failed_at, 1);
    assert_int_equal(wait_for(&rig, &after), PG_OK);
    forget(&before);
    forget(&after);
    assert_string_equal(
        look("SELECT string_agg(n::text, ' ' ORDER BY n) FROM %s.d", schema()), "1 3");
    assert_string_equal(answer(&rig, NULL, "SELECT pg_backend_pid()"), pid);
    rig_stop(&rig);
}

/* ---- deadlines and cancels -------------------------------------------------------------------------- */

static void timeouts_spare_the_neighbours(void **state)
{
    struct rig rig;
    struct ask slow, asks[10];
    char pid[20];

    (void)state;
    rig_start(&rig);
    snprintf(pid, sizeof pid, "%s", answer(&rig, NULL, "SELECT pg_backend_pid()"));
    ask_within(&rig, &slow, "SELECT pg_sleep(60)", 100);
    for (int i = 0; i < 10; i++) ask(&rig, &asks[i], "SELECT pg_backend_pid()");
    assert_int_equal(wait_for(&rig, &slow), PG_TIMEOUT);
    assert_false(asks[0].done);
    forget(&slow);
    memset(&slow, 0x55, sizeof slow);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(wait_for(&rig, &asks[i]), PG_OK);
        assert_string_equal(text_of(&asks[i]), pid);
        forget(&asks[i]);
    }
    rig_stop(&rig);
}

/* Cancels that arrive about when their statement ends: whatever they hit, everything that
 * is answered PG_OK was executed once, and nothing fails but what took too long. */
static void cancels_that_come_late(void **state)
{
    static struct ask asks[16];
    struct rig rig;
    struct ask slow;
    char sql[60];
    int done = 0;

    (void)state;
    rig_start(&rig);
    answer(&rig, NULL, "SELECT 1");
    for (int round = 0; round < 25; round++) {
        snprintf(sql, sizeof sql, "SELECT pg_sleep(%.3f)",
                 (double)clock_scaled(20) / 1000 + 0.002 * (round % 16));
        ask_within(&rig, &slow, sql, 20);
        for (int i = 0; i < 16; i++)
            ask(&rig, &asks[i],
                "INSERT INTO %s.t SELECT 4 FROM (SELECT pg_sleep(0.001)) AS s");
        wait_for(&rig, &slow);
        assert_true(slow.op.outcome == PG_TIMEOUT || slow.op.outcome == PG_OK);
        forget(&slow);
        for (int i = 0; i < 16; i++) {
            assert_int_equal(wait_for(&rig, &asks[i]), PG_OK);
            forget(&asks[i]);
            done++;
        }
    }
    assert_int_equal(rows_of(4), done);
    rig_stop(&rig);
}

static void cancelled_at_every_stage(void **state)
{
    struct rig rig;
    struct ask sent, queued, waiting, after;

    (void)state;
    rig_loop(&rig, test_url());
    rig.settings.in_flight_max = 2;
    rig_pool(&rig);
    ask(&rig, &waiting, "INSERT INTO %s.t VALUES (5)"); /* for the first connection */
    pg_cancel(&waiting.op);
    memset(&waiting, 0x55, sizeof waiting);
    answer(&rig, NULL, "SELECT 1");

    ask(&rig, &sent, "SELECT pg_sleep(0.2)");
    pg_pool_flush(rig.pool);
    ask(&rig, &queued, "INSERT INTO %s.t VALUES (5)");
    ask(&rig, &waiting, "INSERT INTO %s.t VALUES (5)");
    assert_int_equal(stats_of(&rig).in_flight, 2);
    assert_int_equal(stats_of(&rig).waiting, 1);
    pg_cancel(&sent.op);
    memset(&sent, 0x55, sizeof sent);
    pg_cancel(&queued.op);
    memset(&queued, 0x55, sizeof queued);
    pg_cancel(&waiting.op);
    memset(&waiting, 0x55, sizeof waiting);
    assert_int_equal(stats_of(&rig).in_flight, 1);
    ask(&rig, &after, "SELECT 7");
    assert_int_equal(wait_for(&rig, &after), PG_OK);
    assert_string_equal(text_of(&after), "7");
    forget(&after);
    assert_int_equal(rows_of(5), 0);

    rig_close_pool(&rig); /* and of one whose failure is about to be told */
    rig_pool(&rig);
    until_up(&rig);
    rig.closed = false;
    pg_pool_close(rig.pool, rig_on_closed, &rig);
    ask(&rig, &after, "SELECT 1");
    pg_cancel(&after.op);
    memset(&after, 0x55, sizeof after);
    while (!rig.closed) turn(&rig);
    rig_stop(&rig);
}

/* Nobody waits for it any more: at its deadline it is stopped all the same. */
static void abandoned_statements_end(void **state)
{
    struct rig rig;
    struct ask slow, after;

    (void)state;
    rig_start(&rig);
    answer(&rig, NULL, "SELECT 1");
    ask_within(&rig, &slow, "SELECT pg_sleep(100)", 200);
    turn(&rig);
    pg_cancel(&slow.op);
    memset(&slow, 0x55, sizeof slow);
    ask_within(&rig, &after, "SELECT 1", 20000);
    assert_int_equal(wait_for(&rig, &after), PG_OK);
    forget(&after);
    rig_stop(&rig);
}

/* Clients that hang up: what they left counts as under way until it is drained. */
static void thousands_leave(void **state)
{
    struct rig rig;
    struct ask a;

    (void)state;
    rig_loop(&rig, test_url());
    rig.settings.in_flight_max = 50;
    rig.settings.connections = 2;
    rig_pool(&rig);
    until_up(&rig);
    for (int i = 0; i < 2000; i++) {
        ask(&rig, &a, i % 2 ? "SELECT 1" : "SELECT pg_sleep(0.001)");
        if (i % 3 == 0) pg_pool_flush(rig.pool);
        pg_cancel(&a.op);
        if (i % 7 == 0) uv_run(&rig.loop, UV_RUN_NOWAIT);
        assert_true(stats_of(&rig).in_flight <= 100);
    }
    assert_string_equal(answer(&rig, NULL, "SELECT 8"), "8");
    rig_stop(&rig);
}

/* ---- prepared statements ------------------------------------------------------------------------------ */

#define PREPARED "SELECT count(*) FROM pg_prepared_statements"

static void few_prepared_statements(void **state)
{
    static struct ask asks[20];
    struct rig rig;
    char sql[30];

    (void)state;
    rig_loop(&rig, test_url());
    rig.settings.statements_max = 3;
    rig_pool(&rig);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 20; i++) {
            snprintf(sql, sizeof sql, "SELECT %d", i);
            ask(&rig, &asks[i], i == 7 ? "SELEKT" : sql);
        }
        for (int i = 0; i < 20; i++) {
            assert_int_equal(wait_for(&rig, &asks[i]), i == 7 ? PG_ERROR : PG_OK);
            if (i != 7) assert_int_equal(number(text_of(&asks[i])), i);
            forget(&asks[i]);
        }
        answer(&rig, NULL, PREPARED);
        assert_int_equal(number(answer(&rig, NULL, PREPARED)), 3);
    }
    rig_stop(&rig);
}

static bool is_prepared(struct rig *rig, const char *sql)
{
    struct ask a;
    bool is;

    ask_on(rig, &a, NULL, "SELECT 1 FROM pg_prepared_statements WHERE statement = $1",
           sql, 0);
    assert_int_equal(wait_for(rig, &a), PG_OK);
    is = PQntuples(a.statements[0].result) == 1;
    forget(&a);
    return is;
}

static void the_least_recently_used_goes(void **state)
{
    struct rig rig;

    (void)state;
    rig_loop(&rig, test_url());
    rig.settings.statements_max = 3;
    rig_pool(&rig);
    answer(&rig, NULL, "SELECT 'a'");
    pg_pool_new_generation(rig.pool);
    answer(&rig, NULL, "SELECT 'b'");
    assert_true(is_prepared(&rig, "SELECT 'b'"));
    answer(&rig, NULL, "SELECT 'a'");
    answer(&rig, NULL, "SELECT 'c'");
    assert_false(is_prepared(&rig, "SELECT 'b'"));
    assert_true(is_prepared(&rig, "SELECT 'a'"));
    assert_true(is_prepared(&rig, "SELECT 'c'"));
    rig_stop(&rig);
}

static void prepared_once(void **state)
{
    struct rig rig;
    struct ask a;

    (void)state;
    rig_start(&rig);
    for (int i = 0; i < 50; i++) answer(&rig, NULL, "SELECT 1");
    for (int i = 0; i < 5; i++) { /* one that fails to prepare stays unprepared */
        ask(&rig, &a, "SELECT nothing");
        expect_error(&rig, &a, "42703");
    }
    assert_int_equal(number(answer(&rig, NULL, PREPARED)), 2);
    assert_string_equal(answer(&rig, NULL,
                               "SELECT max(generic_plans + custom_plans) "
                               "FROM pg_prepared_statements"),
                        "50");
    ask_init(&rig, &a);
    ask_add(&a, "SELECT 'once'", NULL);
    a.statements[0].unprepared = true;
    ask_send(&a, NULL);
    assert_int_equal(wait_for(&rig, &a), PG_OK);
    forget(&a);
    assert_int_equal(number(answer(&rig, NULL, PREPARED)), 3);
    rig_stop(&rig);
}

static void without_names(void **state)
{
    struct rig rig;
    struct ask a;

    (void)state;
    rig_loop(&rig, test_url());
    rig.settings.named_statements = false;
    rig_pool(&rig);
    ask_on(&rig, &a, NULL, "SELECT $1::text || 'x'", "y", 0);
    assert_int_equal(wait_for(&rig, &a), PG_OK);
    assert_string_equal(text_of(&a), "yx");
    forget(&a);
    assert_string_equal(answer(&rig, NULL, PREPARED), "0");
    rig_stop(&rig);
}

static void lost_names_are_prepared_anew(void **state)
{
    static const char *const thieves[] = { "DISCARD ALL", "DEALLOCATE ALL" };
    static struct ask asks[10];
    struct rig rig;

    (void)state;
    for (int t = 0; t < 2; t++) {
        rig_start(&rig);
        answer(&rig, NULL, "SELECT 'a'");
        for (int round = 0; round < 3; round++) {
            ask(&rig, &asks[0], thieves[t]);
            for (int i = 1; i < 10; i++) {
                ask_init(&rig, &asks[i]);
                ask_add(&asks[i], i % 2 ? "SELECT 'a'" : "SELECT 'b'", NULL);
                ask_add(&asks[i], "SELECT 'c'", NULL);
                ask_send(&asks[i], NULL);
            }
            for (int i = 0; i < 10; i++) {
                assert_int_equal(wait_for(&rig, &asks[i]), PG_OK);
                forget(&asks[i]);
            }
        }
        rig_stop(&rig);
    }
}

static void changed_tables_are_prepared_anew(void **state)
{
    struct rig rig;
    struct ask a;
    int names;

    (void)state;
    rig_start(&rig);
    look("CREATE TABLE %s.c (a int)", schema());
    look("INSERT INTO %s.c VALUES (1)", schema());
    answer(&rig, NULL, "SELECT * FROM %s.c");
    answer(&rig, NULL, PREPARED);
    names = number(answer(&rig, NULL, PREPARED));
    for (int columns = 2; columns < 5; columns++) {
        look("ALTER TABLE %s.c ADD x%d int", schema(), columns);
        ask(&rig, &a, "SELECT * FROM %s.c");
        assert_int_equal(wait_for(&rig, &a), PG_OK);
        assert_int_equal(PQnfields(a.statements[0].result), columns);
        forget(&a);
    }
    assert_int_equal(number(answer(&rig, NULL, PREPARED)), names); /* none is left over */
    ask(&rig, &a, "DO $$ BEGIN RAISE SQLSTATE '0A000'; END $$");
    expect_error(&rig, &a, "0A000"); /* that is what it is: tried twice, then told */
    rig_stop(&rig);
}

/* ---- bounds ------------------------------------------------------------------------------------------------ */

static void queue_is_bounded(void **state)
{
    struct rig rig;
    struct ask slow, first, second, third;

    (void)state;
    rig_loop(&rig, test_url());
    rig.settings.in_flight_max = 1;
    rig.settings.queue_max = 2;
    rig.settings.queue_timeout = 100;
    rig_pool(&rig);
    until_up(&rig);
    ask(&rig, &slow, "SELECT pg_sleep(2)");
    ask(&rig, &first, "SELECT 1");
    ask(&rig, &second, "SELECT 2");
    ask(&rig, &third, "SELECT 3");
    assert_int_equal(wait_for(&rig, &third), PG_BUSY);
    assert_false(first.done);
    assert_int_equal(stats_of(&rig).waiting, 2);
    assert_int_equal(wait_for(&rig, &first), PG_BUSY);
    assert_int_equal(wait_for(&rig, &second), PG_BUSY);
    assert_false(slow.done);
    assert_int_equal(stats_of(&rig).waiting, 0);
    pg_cancel(&slow.op);
    forget(&slow);
    rig_stop(&rig);
}

static void waiting_ones_get_their_turn(void **state)
{
    static struct ask asks[30];
    struct rig rig;

    (void)state;
    rig_loop(&rig, test_url());
    rig.settings.in_flight_max = 2;
    rig_pool(&rig);
    for (int i = 0; i < 30; i++) ask(&rig, &asks[i], "SELECT 1");
    for (int i = 0; i < 30; i++) {
        assert_int_equal(wait_for(&rig, &asks[i]), PG_OK);
        assert_int_equal(asks[i].number, i + 1);
        forget(&asks[i]);
    }
    rig_stop(&rig);
}

static void large_results(void **state)
{
    struct rig rig;
    struct ask a;

    (void)state;
    rig_start(&rig);
    for (int by_bytes = 0; by_bytes < 2; by_bytes++) {
        ask_init(&rig, &a);
        ask_add(&a, "SELECT generate_series(1, 1000)", NULL);
        ask_add(&a, "SELECT generate_series(1, 1000)", NULL);
        a.op.row_max = by_bytes ? 0 : 1500;
        a.op.byte_max = by_bytes ? 1000 : 0;
        ask_send(&a, NULL);
        assert_int_equal(wait_for(&rig, &a), PG_ERROR);
        assert_true(a.op.too_large);
        assert_int_equal(a.op.failed_at, by_bytes ? 0 : 1);
        assert_string_equal(pg_op_sqlstate(&a.op), "");
        forget(&a);
    }
    assert_string_equal(answer(&rig, NULL, "SELECT 1"), "1");
    rig_stop(&rig);
}

/* ---- statements that have no place here ------------------------------------------------------------------------ */

static void transactions_do_not_leak(void **state)
{
    struct rig rig;
    struct ask a, b;

    (void)state;
    rig_start(&rig);
    answer(&rig, NULL, "SELECT 1");
    ask(&rig, &a, "BEGIN");
    ask(&rig, &b, "INSERT INTO %s.t VALUES (6)");
    assert_int_equal(wait_for(&rig, &a), PG_LOST);
    assert_int_equal(wait_for(&rig, &b), PG_LOST); /* never a success that is undone */
    forget(&a);
    forget(&b);
    assert_string_equal(answer(&rig, NULL, "SELECT 1"), "1");
    assert_int_equal(rows_of(6), 0);
    rig_stop(&rig);
}

static void copying_does_not_hang(void **state)
{
    struct rig rig;

    (void)state;
    rig_start(&rig);
    assert_int_equal(outcome_of(&rig, NULL, "COPY %s.t FROM STDIN"), PG_LOST);
    assert_int_equal(outcome_of(&rig, NULL, "COPY %s.t TO STDOUT"), PG_LOST);
    assert_string_equal(answer(&rig, NULL, "SELECT 1"), "1");
    rig_stop(&rig);
}

static void too_many_values(void **state)
{
    static const char *values[65536];
    struct rig rig;
    struct ask a, neighbour;

    (void)state;
    rig_start(&rig);
    until_up(&rig);
    ask(&rig, &neighbour, "SELECT 1");
    ask_init(&rig, &a);
    ask_add(&a, "SELECT 1", NULL);
    a.statements[0].value_count = 65536;
    a.statements[0].values = values;
    ask_send(&a, NULL);
    assert_int_equal(wait_for(&rig, &a), PG_ERROR);
    assert_string_equal(pg_op_sqlstate(&a.op), "");
    assert_int_equal(wait_for(&rig, &neighbour), PG_OK);
    forget(&neighbour);
    rig_stop(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(single),
        cmocka_unit_test(session),
        cmocka_unit_test(many_in_flight_in_order),
        cmocka_unit_test(spread_over_connections),
        cmocka_unit_test(one_failing_fails_alone),
        cmocka_unit_test(several_statements_are_atomic),
        cmocka_unit_test(settings_last_for_their_op),
        cmocka_unit_test(deferred_constraints),
        cmocka_unit_test(timeouts_spare_the_neighbours),
        cmocka_unit_test(cancels_that_come_late),
        cmocka_unit_test(cancelled_at_every_stage),
        cmocka_unit_test(abandoned_statements_end),
        cmocka_unit_test(thousands_leave),
        cmocka_unit_test(few_prepared_statements),
        cmocka_unit_test(the_least_recently_used_goes),
        cmocka_unit_test(prepared_once),
        cmocka_unit_test(without_names),
        cmocka_unit_test(lost_names_are_prepared_anew),
        cmocka_unit_test(changed_tables_are_prepared_anew),
        cmocka_unit_test(queue_is_bounded),
        cmocka_unit_test(waiting_ones_get_their_turn),
        cmocka_unit_test(large_results),
        cmocka_unit_test(transactions_do_not_leak),
        cmocka_unit_test(copying_does_not_hang),
        cmocka_unit_test(too_many_values),
    };

    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
