/* Transactions on pinned connections. */
#include "db/pg_rig.h"

#define MY_PID "SELECT pg_backend_pid()"

/* Backends of this program in a transaction, or busy. */
static int open_transactions(void)
{
    return number(look("SELECT count(*) FROM pg_stat_activity WHERE application_name = "
                       "'%s' AND state <> 'idle'",
                       schema()));
}

static void commit_and_rollback(void **state)
{
    struct rig rig;
    struct hold h;
    struct ask a;

    (void)state;
    rig_start(&rig);
    for (int commit = 0; commit < 2; commit++) {
        hold_get(&rig, &h);
        assert_int_equal(pg_pin_status(&h.pin), 'I');
        ask_init(&rig, &a); /* BEGIN rides with the first statement */
        ask_add(&a, "BEGIN", NULL);
        ask_add(&a, "INSERT INTO %s.t VALUES (1)", NULL);
        ask_send(&a, &h.pin);
        assert_int_equal(wait_for(&rig, &a), PG_OK);
        forget(&a);
        assert_int_equal(pg_pin_status(&h.pin), 'T');
        assert_int_equal(outcome_of(&rig, NULL, "INSERT INTO %s.t VALUES (2)"), PG_OK);
        ask_on(&rig, &a, &h.pin, commit ? "COMMIT" : "ROLLBACK", NULL, 0);
        assert_int_equal(wait_for(&rig, &a), PG_OK);
        assert_string_equal(PQcmdStatus(a.statements[0].result),
                            commit ? "COMMIT" : "ROLLBACK");
        forget(&a);
        assert_int_equal(pg_pin_status(&h.pin), 'I');
        hold_end(&h);
        assert_int_equal(rows_of(1), commit);
    }
    assert_int_equal(rows_of(2), 2);
    rig_stop(&rig);
}

/* The trap that callers must know: COMMIT succeeds, but is none. */
static void commit_of_a_failed_transaction(void **state)
{
    struct rig rig;
    struct hold h;
    struct ask a;

    (void)state;
    rig_start(&rig);
    hold_get(&rig, &h);
    assert_int_equal(outcome_of(&rig, &h.pin, "BEGIN"), PG_OK);
    assert_int_equal(outcome_of(&rig, &h.pin, "INSERT INTO %s.t VALUES (3)"), PG_OK);
    ask_on(&rig, &a, &h.pin, "SELECT 1 / (SELECT 0)", NULL, 0);
    expect_error(&rig, &a, "22012");
    assert_int_equal(pg_pin_status(&h.pin), 'E');
    ask_on(&rig, &a, &h.pin, "COMMIT", NULL, 0);
    assert_int_equal(wait_for(&rig, &a), PG_OK);
    assert_string_equal(PQcmdStatus(a.statements[0].result), "ROLLBACK");
    forget(&a);
    hold_end(&h);
    assert_int_equal(rows_of(3), 0);
    rig_stop(&rig);
}

static void several_under_way(void **state)
{
    static struct ask asks[40];
    struct rig rig;
    struct hold h;

    (void)state;
    rig_start(&rig);
    hold_get(&rig, &h);
    for (int i = 0; i < 40; i++)
        ask_on(&rig, &asks[i], &h.pin,
               i == 0    ? "BEGIN"
               : i == 39 ? "COMMIT"
                         : "INSERT INTO %s.t VALUES (4)",
               NULL, 0);
    for (int i = 0; i < 40; i++) {
        assert_int_equal(wait_for(&rig, &asks[i]), PG_OK);
        assert_int_equal(asks[i].number, i + 2);
        forget(&asks[i]);
    }
    hold_end(&h);
    assert_int_equal(rows_of(4), 38);
    rig_stop(&rig);
}

/* ---- leaving ------------------------------------------------------------------------------- */

/* What the owner had begun when it left; the connection must be the next one's, clean. */
static void leave_after(const char *const sql[], bool wait)
{
    struct rig rig;
    struct hold h, next;
    struct ask asks[4];
    char pid[20];
    int n = 0;

    rig_start(&rig);
    hold_get(&rig, &h);
    snprintf(pid, sizeof pid, "%s", answer(&rig, &h.pin, MY_PID));
    for (; sql[n] != NULL; n++) ask_on(&rig, &asks[n], &h.pin, sql[n], NULL, 0);
    if (wait)
        for (int i = 0; i < n; i++) wait_for(&rig, &asks[i]);
    else pg_pool_flush(rig.pool);
    for (int i = 0; i < n; i++) forget(&asks[i]);
    hold_ask(&rig, &next);
    hold_end(&h);
    memset(asks, 0x55, sizeof asks);
    assert_int_equal(hold_wait(&rig, &next), PG_OK);
    assert_int_equal(pg_pin_status(&next.pin), 'I');
    assert_string_equal(answer(&rig, &next.pin, MY_PID), pid);
    assert_int_equal(open_transactions(), 0);
    for (int i = 0; i < 20; i++) /* no cancel is left that could hit it */
        assert_int_equal(outcome_of(&rig, &next.pin, "SELECT pg_sleep(0.002)"), PG_OK);
    hold_end(&next);
    assert_int_equal(rows_of(5), 0);
    rig_stop(&rig);
}

static void leaves_a_transaction(void **state)
{
    (void)state;
    leave_after((const char *[]){ "BEGIN", "INSERT INTO %s.t VALUES (5)", NULL }, true);
}

static void leaves_a_failed_one(void **state)
{
    (void)state;
    leave_after(
        (const char *[]){ "BEGIN", "INSERT INTO %s.t VALUES (5)", "SELEKT", NULL }, true);
}

static void leaves_in_the_middle(void **state)
{
    (void)state;
    leave_after((const char *[]){ "BEGIN", "INSERT INTO %s.t VALUES (5)",
                                  "SELECT pg_sleep(100)", NULL },
                false);
}

static void leaves_when_two_are_to_come(void **state)
{
    (void)state;
    leave_after((const char *[]){ "BEGIN", "INSERT INTO %s.t VALUES (5)",
                                  "SELECT pg_sleep(100)", "SELECT pg_sleep(100)", NULL },
                false);
}

/* What was not even flushed is never executed. */
static void leaves_before_the_flush(void **state)
{
    struct rig rig;
    struct hold h;
    struct ask a;

    (void)state;
    rig_start(&rig);
    hold_get(&rig, &h);
    ask_on(&rig, &a, &h.pin, "INSERT INTO %s.t VALUES (6)", NULL, 0);
    hold_end(&h);
    hold_get(&rig, &h);
    assert_string_equal(answer(&rig, &h.pin, "SELECT 1"), "1");
    hold_end(&h);
    assert_int_equal(rows_of(6), 0);
    rig_stop(&rig);
}

static void leaves_while_waiting(void **state)
{
    struct rig rig;
    struct hold first, gone, granted, last;

    (void)state;
    rig_start(&rig);
    hold_get(&rig, &first);
    hold_ask(&rig, &gone);
    hold_ask(&rig, &granted);
    hold_ask(&rig, &last);
    assert_int_equal(stats_of(&rig).pins_waiting, 3);
    hold_end(&gone);
    hold_end(&first);
    assert_int_equal(stats_of(&rig).pins_waiting, 1);
    hold_end(&granted); /* it has the connection, but was not told */
    assert_int_equal(hold_wait(&rig, &last), PG_OK);
    hold_end(&last);
    rig_stop(&rig);
}

static void a_thousand_leave(void **state)
{
    struct rig rig;
    struct hold h;
    struct ask a, b;
    char pid[20];

    (void)state;
    rig_start(&rig);
    hold_get(&rig, &h);
    snprintf(pid, sizeof pid, "%s", answer(&rig, &h.pin, MY_PID));
    hold_end(&h);
    for (int i = 0; i < 300; i++) {
        hold_get(&rig, &h);
        ask_on(&rig, &a, &h.pin, "BEGIN", NULL, 0);
        ask_on(&rig, &b, &h.pin, "INSERT INTO %s.t VALUES (7)", NULL, 0);
        for (int turns = i % 4; turns > 0; turns--) uv_run(&rig.loop, UV_RUN_NOWAIT);
        hold_end(&h);
        forget(&a);
        forget(&b);
    }
    hold_get(&rig, &h);
    assert_string_equal(answer(&rig, &h.pin, MY_PID), pid);
    hold_end(&h);
    assert_int_equal(open_transactions(), 0);
    assert_int_equal(rows_of(7), 0);
    rig_stop(&rig);
}

/* ---- waiting -------------------------------------------------------------------------------- */

static void in_order_and_bounded(void **state)
{
    struct rig rig;
    struct hold owner, a, b, c;

    (void)state;
    rig_loop(&rig, test_url());
    rig.settings.queue_max = 2;
    rig_pool(&rig);
    hold_get(&rig, &owner);
    hold_ask(&rig, &a);
    hold_ask(&rig, &b);
    hold_ask(&rig, &c);
    assert_int_equal(hold_wait(&rig, &c), PG_BUSY);
    hold_end(&c);
    hold_end(&owner);
    assert_int_equal(hold_wait(&rig, &a), PG_OK);
    assert_false(b.ready);
    hold_end(&a);
    assert_int_equal(hold_wait(&rig, &b), PG_OK);
    hold_end(&b);
    rig_stop(&rig);
}

static void waits_no_longer_than_it_may(void **state)
{
    struct rig rig;
    struct hold owner, a;

    (void)state;
    rig_loop(&rig, test_url());
    rig.settings.queue_timeout = 200;
    rig_pool(&rig);
    hold_get(&rig, &owner);
    hold_ask(&rig, &a);
    assert_int_equal(hold_wait(&rig, &a), PG_BUSY);
    hold_end(&a);
    assert_string_equal(answer(&rig, &owner.pin, "SELECT 1"), "1");
    hold_end(&owner);
    rig_stop(&rig);
}

/* ---- failures ---------------------------------------------------------------------------------- */

static void killed_under_its_owner(void **state)
{
    struct rig rig;
    struct hold h;
    struct ask a, b;
    int pid;

    (void)state;
    rig_start(&rig);
    hold_get(&rig, &h);
    pid = number(answer(&rig, &h.pin, MY_PID));
    assert_int_equal(outcome_of(&rig, &h.pin, "BEGIN"), PG_OK);
    ask_on(&rig, &a, &h.pin, "SELECT pg_sleep(100)", NULL, 0);
    ask_on(&rig, &b, &h.pin, "INSERT INTO %s.t VALUES (8)", NULL, 0);
    pg_pool_flush(rig.pool);
    look("SELECT pg_terminate_backend(%d)", pid);
    assert_int_equal(wait_for(&rig, &a), PG_LOST);
    assert_int_equal(wait_for(&rig, &b), PG_LOST);
    assert_string_equal(pg_op_sqlstate(&a.op), "");
    forget(&a);
    forget(&b);
    assert_int_equal(pg_pin_status(&h.pin), '?');
    assert_int_equal(outcome_of(&rig, &h.pin, "SELECT 1"), PG_NOT_SENT);
    hold_end(&h);
    hold_get(&rig, &h);
    assert_int_not_equal(number(answer(&rig, &h.pin, MY_PID)), pid);
    hold_end(&h);
    assert_int_equal(rows_of(8), 0);
    rig_stop(&rig);
}

static void timeout_in_a_transaction(void **state)
{
    struct rig rig;
    struct hold h;
    struct ask a;
    char pid[20];

    (void)state;
    rig_start(&rig);
    hold_get(&rig, &h);
    snprintf(pid, sizeof pid, "%s", answer(&rig, &h.pin, MY_PID));
    assert_int_equal(outcome_of(&rig, &h.pin, "BEGIN"), PG_OK);
    ask_on(&rig, &a, &h.pin, "SELECT pg_sleep(100)", NULL, 100);
    assert_int_equal(wait_for(&rig, &a), PG_TIMEOUT);
    forget(&a);
    hold_end(&h); /* while the cancel is under way */
    hold_get(&rig, &h);
    assert_string_equal(answer(&rig, &h.pin, MY_PID), pid);
    for (int i = 0; i < 20; i++)
        assert_int_equal(outcome_of(&rig, &h.pin, "SELECT pg_sleep(0.002)"), PG_OK);
    hold_end(&h);
    rig_stop(&rig);
}

/* In a transaction they are told, and the restart of the whole finds them mended. */
static void stale_statements(void **state)
{
    static const char *const spoilers[] = { "ALTER", "DEALLOCATE ALL" };
    struct rig rig;
    struct hold h;
    struct ask a;

    (void)state;
    look("CREATE TABLE %s.p (a int)", schema());
    rig_start(&rig);
    for (int i = 0; i < 2; i++) {
        hold_get(&rig, &h);
        answer(&rig, &h.pin, "SELECT * FROM %s.p");
        if (i == 0) look("ALTER TABLE %s.p ADD b int", schema());
        else assert_int_equal(outcome_of(&rig, &h.pin, spoilers[i]), PG_OK);
        assert_int_equal(outcome_of(&rig, &h.pin, "BEGIN"), i == 0 ? PG_OK : PG_ERROR);
        if (i == 1) assert_int_equal(outcome_of(&rig, &h.pin, "BEGIN"), PG_OK);
        ask_on(&rig, &a, &h.pin, "SELECT * FROM %s.p", NULL, 0);
        expect_error(&rig, &a, i == 0 ? "0A000" : "26000");
        hold_end(&h);
        hold_get(&rig, &h);
        ask_on(&rig, &a, &h.pin, "SELECT * FROM %s.p", NULL, 0);
        assert_int_equal(wait_for(&rig, &a), PG_OK);
        forget(&a);
        hold_end(&h);
    }
    rig_stop(&rig);
}

/* More than allowed inside the transaction, as many as allowed behind it. */
static void prepared_statements_are_trimmed(void **state)
{
    struct rig rig;
    struct hold h;
    struct ask a;
    char sql[30];

    (void)state;
    rig_loop(&rig, test_url());
    rig.settings.statements_max = 4;
    rig_pool(&rig);
    for (int round = 0; round < 3; round++) {
        hold_get(&rig, &h);
        for (int i = 0; i < 20; i++) {
            snprintf(sql, sizeof sql, "SELECT %d", i);
            assert_int_equal(outcome_of(&rig, &h.pin, sql), PG_OK);
        }
        hold_end(&h);
        hold_get(&rig, &h);
        ask_init(&rig, &a);
        ask_add(&a, "SELECT count(*) FROM pg_prepared_statements", NULL);
        a.statements[0].unprepared = true;
        ask_send(&a, &h.pin);
        assert_int_equal(wait_for(&rig, &a), PG_OK);
        assert_string_equal(text_of(&a), "4");
        forget(&a);
        hold_end(&h);
    }
    rig_stop(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(commit_and_rollback),
        cmocka_unit_test(commit_of_a_failed_transaction),
        cmocka_unit_test(several_under_way),
        cmocka_unit_test(leaves_a_transaction),
        cmocka_unit_test(leaves_a_failed_one),
        cmocka_unit_test(leaves_in_the_middle),
        cmocka_unit_test(leaves_when_two_are_to_come),
        cmocka_unit_test(leaves_before_the_flush),
        cmocka_unit_test(leaves_while_waiting),
        cmocka_unit_test(a_thousand_leave),
        cmocka_unit_test(in_order_and_bounded),
        cmocka_unit_test(waits_no_longer_than_it_may),
        cmocka_unit_test(killed_under_its_owner),
        cmocka_unit_test(timeout_in_a_transaction),
        cmocka_unit_test(stale_statements),
        cmocka_unit_test(prepared_statements_are_trimmed),
    };

    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
