/* Loss and return of PostgreSQL, addresses, memory that is short. */
#include "db/pg_relay.h"

/* ---- loss ----------------------------------------------------------------------------------- */

static void killed_with_ops_in_flight(void **state)
{
    static struct ask asks[20];
    struct rig rig;
    int pid;

    (void)state;
    rig_start(&rig);
    pid = number(answer(&rig, NULL, "SELECT pg_backend_pid()"));
    for (int i = 0; i < 20; i++)
        ask(&rig, &asks[i],
            i == 0 ? "SELECT pg_sleep(100)" : "INSERT INTO %s.t VALUES (1)");
    pg_pool_flush(rig.pool);
    look("SELECT pg_terminate_backend(%d)", pid);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(wait_for(&rig, &asks[i]), PG_LOST);
        assert_string_equal(pg_op_sqlstate(&asks[i].op), "");
        forget(&asks[i]);
    }
    /* the next one waits for the new connection */
    assert_int_not_equal(number(answer(&rig, NULL, "SELECT pg_backend_pid()")), pid);
    assert_int_equal(rows_of(1), 0);
    assert_int_equal(stats_of(&rig).reconnects, 1);
    rig_stop(&rig);
}

/* Killed while nothing is under way: nobody notices. */
static void killed_while_idle(void **state)
{
    struct rig rig;

    (void)state;
    rig_start(&rig);
    for (int i = 0; i < 3; i++) {
        int pid = number(answer(&rig, NULL, "SELECT pg_backend_pid()"));

        look("SELECT pg_terminate_backend(%d)", pid);
        while (pg_pool_up(rig.pool) && stats_of(&rig).reconnects == i) turn(&rig);
    }
    assert_string_equal(answer(&rig, NULL, "SELECT 1"), "1");
    rig_stop(&rig);
}

/* What the socket took, even in part, is unknown; what waited behind it was not sent. */
static void unsent_and_unknown(void **state)
{
    static struct relay relay;
    struct rig rig;
    struct ask first, big, behind;
    char *value = malloc((20 << 20) + 1);

    (void)state;
    relay_start(&rig, &relay, "127.0.0.1");
    rig_pool(&rig);
    answer(&rig, NULL, "SELECT 1");
    memset(value, 'x', 20 << 20);
    value[20 << 20] = '\0';
    relay_stall(&relay, true);
    ask(&rig, &first, "INSERT INTO %s.t VALUES (2)");
    ask_on(&rig, &big, NULL, "SELECT length($1)", value, 0);
    ask(&rig, &behind, "INSERT INTO %s.t VALUES (2)");
    for (int i = 0; i < 10; i++) turn(&rig);
    assert_false(behind.done);
    relay_cut(&relay);
    relay_stall(&relay, false);
    assert_int_equal(wait_for(&rig, &first), PG_LOST);
    assert_int_equal(wait_for(&rig, &big), PG_LOST);
    assert_int_equal(wait_for(&rig, &behind), PG_NOT_SENT);
    forget(&first);
    forget(&big);
    forget(&behind);

    ask_on(&rig, &big, NULL, "SELECT length($1)", value, 0); /* and when all goes well */
    ask(&rig, &behind, "SELECT 3");
    assert_int_equal(wait_for(&rig, &big), PG_OK);
    assert_string_equal(text_of(&big), "20971520");
    assert_int_equal(wait_for(&rig, &behind), PG_OK);
    forget(&big);
    forget(&behind);
    relay_stop(&relay);
    free(value);
}

/* Both sides are full: neither waits for the other. */
static void large_questions_and_answers(void **state)
{
    static struct ask asks[20];
    struct rig rig;
    char *value = malloc((1 << 20) + 1);

    (void)state;
    rig_start(&rig);
    memset(value, 'y', 1 << 20);
    value[1 << 20] = '\0';
    for (int i = 0; i < 20; i++)
        ask_on(&rig, &asks[i], NULL, "SELECT $1::text", value, 20000);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(wait_for(&rig, &asks[i]), PG_OK);
        assert_int_equal(PQgetlength(asks[i].statements[0].result, 0, 0), 1 << 20);
        forget(&asks[i]);
    }
    rig_stop(&rig);
    free(value);
}

static void reset_behind_bytes(void **state)
{
    static struct relay relay;
    struct rig rig;
    struct ask a;

    (void)state;
    relay_start(&rig, &relay, "127.0.0.1");
    rig_pool(&rig);
    answer(&rig, NULL, "SELECT 1");
    ask(&rig, &a, "SELECT pg_sleep(100)");
    pg_pool_flush(rig.pool);
    turn(&rig);
    relay_reset(&relay);
    assert_int_equal(wait_for(&rig, &a), PG_LOST);
    forget(&a);
    assert_string_equal(answer(&rig, NULL, "SELECT 1"), "1");
    relay_stop(&relay);
}

/* ---- away and back ---------------------------------------------------------------------------- */

static void restarted(void **state)
{
    static struct relay relay;
    struct rig rig;
    struct hold h, waiting;
    struct ask a, pinned;
    int64_t begun;

    (void)state;
    relay_start(&rig, &relay, "127.0.0.1");
    rig.settings.connections = 2;
    rig_pool(&rig);
    until_up(&rig); /* the one for transactions may be first */
    for (int round = 0; round < 2; round++) {
        hold_get(&rig, &h);
        hold_ask(&rig, &waiting);
        ask(&rig, &a, "SELECT pg_sleep(100)");
        ask_on(&rig, &pinned, &h.pin, "SELECT pg_sleep(100)", NULL, 0);
        pg_pool_flush(rig.pool);
        turn(&rig);
        relay_away(&relay);
        assert_int_equal(wait_for(&rig, &a), PG_LOST);
        assert_int_equal(wait_for(&rig, &pinned), PG_LOST);
        assert_int_equal(hold_wait(&rig, &waiting), PG_NOT_SENT);
        forget(&a);
        forget(&pinned);
        hold_end(&waiting);
        hold_end(&h);
        for (int i = 0; i < 50; i++) { /* at once, as long as it is away */
            begun = clock_ms();
            assert_int_equal(outcome_of(&rig, NULL, "SELECT 1"), PG_NOT_SENT);
            assert_true(clock_ms() - begun < clock_scaled(1000));
            hold_ask(&rig, &h);
            assert_int_equal(hold_wait(&rig, &h), PG_NOT_SENT);
            hold_end(&h);
        }
        assert_false(pg_pool_up(rig.pool));
        relay_listen(&relay);
        begun = clock_ms();
        while (outcome_of(&rig, NULL, "SELECT 1") != PG_OK) turn(&rig);
        assert_true(clock_ms() - begun < clock_scaled(10000));
        while (stats_of(&rig).idle < 2) turn(&rig); /* the others follow */
    }
    relay_stop(&relay);
}

/* It takes connections and says nothing: nobody waits longer than the deadline. */
static void hung(void **state)
{
    static struct relay relay;
    struct rig rig;
    struct ask a, b;
    struct hold h;

    (void)state;
    relay_start(&rig, &relay, "127.0.0.1");
    rig_pool(&rig);
    answer(&rig, NULL, "SELECT 1");
    hold_get(&rig, &h);
    answer(&rig, &h.pin, "SELECT 1");
    relay_stall(&relay, true);
    ask_within(&rig, &a, "SELECT 1", 100);
    ask_within(&rig, &b, "SELECT 2", 200);
    assert_int_equal(wait_for(&rig, &a), PG_TIMEOUT);
    assert_int_equal(wait_for(&rig, &b), PG_TIMEOUT);
    ask_on(&rig, &a, &h.pin, "SELECT 1", NULL, 100);
    assert_int_equal(wait_for(&rig, &a), PG_TIMEOUT);
    hold_end(&h);
    relay_stall(&relay, false);
    assert_string_equal(answer(&rig, NULL, "SELECT 3"), "3");
    hold_get(&rig, &h);
    assert_string_equal(answer(&rig, &h.pin, "SELECT 4"), "4");
    hold_end(&h);
    relay_stop(&relay);
}

static void first_connection_is_waited_for(void **state)
{
    static struct relay relay;
    struct rig rig;
    struct ask a;

    (void)state;
    relay_start(&rig, &relay, "127.0.0.1"); /* it answers after a while */
    relay.stalled = true;
    rig_pool(&rig);
    ask(&rig, &a, "SELECT 1");
    turn_for(&rig, 200);
    assert_false(a.done);
    assert_int_equal(stats_of(&rig).connecting, 1);
    relay_stall(&relay, false);
    assert_int_equal(wait_for(&rig, &a), PG_OK);
    forget(&a);
    relay_stop(&relay);

    relay_start(&rig, &relay, "127.0.0.1"); /* it never answers */
    relay.stalled = true;
    rig.settings.connect_timeout = 300;
    rig_pool(&rig);
    ask(&rig, &a, "SELECT 1");
    assert_int_equal(wait_for(&rig, &a), PG_NOT_SENT);
    assert_int_equal(outcome_of(&rig, NULL, "SELECT 1"), PG_NOT_SENT);
    relay_stop(&relay);
}

/* Who is refused, for whatever reason, hears so soon, and nothing loops. */
static void refused(void **state)
{
    static char urls[6][600];
    struct rig rig;
    struct hold h;

    (void)state;
    if (side == NULL) skip();
    snprintf(urls[0], sizeof urls[0], "host=127.0.0.1 port=1 user=x");
    snprintf(urls[1], sizeof urls[1], "host=/nowhere user=x");
    snprintf(urls[2], sizeof urls[2], "postgres://[broken");
    snprintf(urls[3], sizeof urls[3], "host=no.such.host.invalid user=x");
    snprintf(urls[4], sizeof urls[4],
             "host=%s port=%s user='%s' dbname=no_such_database password='%s'",
             PQhost(side), PQport(side), PQuser(side), PQpass(side));
    snprintf(urls[5], sizeof urls[5],
             "host=%s port=%s user=no_such_user dbname='%s' password=wrong", PQhost(side),
             PQport(side), PQdb(side));
    for (int i = 0; i < 6; i++) {
        rig_loop(&rig, urls[i]);
        rig_pool(&rig);
        for (int k = 0; k < 3; k++) {
            assert_int_equal(outcome_of(&rig, NULL, "SELECT 1"), PG_NOT_SENT);
            hold_ask(&rig, &h);
            assert_int_equal(hold_wait(&rig, &h), PG_NOT_SENT);
            hold_end(&h);
            turn_for(&rig, 100);
        }
        rig_stop(&rig);
    }
}

/* ---- addresses ---------------------------------------------------------------------------------- */

/* libpq goes on to the next host on a socket of the same number. */
static void several_hosts(void **state)
{
    static const char *const hosts[] = {
        "localhost",                      /* all its addresses */
        "127.0.0.2,127.0.0.1",            /* nobody listens on the first */
        "no.such.host.invalid,localhost", /* the first is no host */
        "/nowhere,127.0.0.3,localhost",   /* sockets, too */
    };
    static struct relay relay;
    struct rig rig;

    (void)state;
    for (size_t i = 0; i < COUNT_OF(hosts); i++) {
        relay_start(&rig, &relay, hosts[i]);
        rig.settings.connect_timeout = 10000;
        rig_pool(&rig);
        assert_string_equal(answer(&rig, NULL, "SELECT 1"), "1");
        assert_int_equal(stats_of(&rig).reconnects, 0);
        relay_stop(&relay);
    }
}

/* A port each; the first host takes connections and says nothing. */
static void a_silent_host(void **state)
{
    static struct relay relay;
    struct rig rig;
    struct sockaddr_in address;
    int size = sizeof address;
    uv_tcp_t silent;
    char url[700];

    (void)state;
    relay_start(&rig, &relay, "127.0.0.1");
    uv_tcp_init(&rig.loop, &silent);
    uv_ip4_addr("127.0.0.1", 0, &address);
    assert_int_equal(uv_tcp_bind(&silent, (struct sockaddr *)&address, 0), 0);
    assert_int_equal(listen(silent.io_watcher.fd, 16), 0);
    uv_tcp_getsockname(&silent, (struct sockaddr *)&address, &size);
    snprintf(
        url, sizeof url,
        "postgres://%s:%s@127.0.0.1:%d,localhost:%d/%s?target_session_attrs=read-write",
        PQuser(side), PQpass(side), ntohs(address.sin_port), relay.port, PQdb(side));
    rig.settings.url = url;
    rig.settings.connect_timeout = 200;
    rig_pool(&rig);
    while (!pg_pool_up(rig.pool)) turn(&rig);
    assert_string_equal(answer(&rig, NULL, "SELECT 1"), "1");
    uv_close((uv_handle_t *)&silent, NULL);
    relay_stop(&relay);
}

static void options_of_the_url(void **state)
{
    static struct relay relay;
    struct rig rig;
    char url[700];

    (void)state;
    relay_start(&rig, &relay, "127.0.0.1");
    snprintf(url, sizeof url, "%s options='-c search_path=%s -c TimeZone=Asia/Tokyo'",
             relay.url, schema());
    rig.settings.url = url;
    rig_pool(&rig);
    assert_string_equal(answer(&rig, NULL, "SHOW search_path"), schema());
    assert_string_equal(answer(&rig, NULL, "SHOW TimeZone"),
                        "UTC"); /* pg_json needs it */
    relay_stop(&relay);
}

/* ---- the end ---------------------------------------------------------------------------------------- */

static void closed_with_everything_under_way(void **state)
{
    struct rig rig;
    struct ask running, queued, waiting, pinned;
    struct hold h, next;

    (void)state;
    rig_loop(&rig, test_url());
    rig.settings.in_flight_max = 2;
    rig_pool(&rig);
    until_up(&rig);
    hold_get(&rig, &h);
    hold_ask(&rig, &next);
    ask(&rig, &running, "SELECT pg_sleep(100)");
    ask_on(&rig, &pinned, &h.pin, "SELECT pg_sleep(100)", NULL, 0);
    pg_pool_flush(rig.pool);
    ask(&rig, &queued, "SELECT 1");
    ask(&rig, &waiting, "SELECT 1");
    rig_close_pool(&rig);
    assert_true(running.done && pinned.done && queued.done && waiting.done && next.ready);
    assert_int_equal(running.op.outcome, PG_LOST);
    assert_int_equal(pinned.op.outcome, PG_LOST);
    assert_int_equal(queued.op.outcome, PG_NOT_SENT);
    assert_int_equal(waiting.op.outcome, PG_NOT_SENT);
    assert_int_equal(next.pin.outcome, PG_NOT_SENT);
    rig_stop(&rig);

    rig_loop(&rig, "host=localhost port=1"); /* while a name is looked up */
    rig_pool(&rig);
    ask(&rig, &waiting, "SELECT 1");
    turn(&rig);
    rig_close_pool(&rig);
    assert_int_equal(waiting.op.outcome, PG_NOT_SENT);
    rig_stop(&rig);
}

/* An asker that asks again from its answer. */
static void again_and_again(void *ctx, struct pg_op *op)
{
    struct ask *ask = ctx;

    if (++ask->number < 1000 && !ask->rig->closed) pg_submit(ask->rig->pool, op);
    else ask->done = true;
}

static void asking_in_an_answer(void **state)
{
    struct rig rig;
    struct ask a;

    (void)state;
    rig_loop(&rig, "host=/nowhere");
    rig_pool(&rig);
    assert_int_equal(outcome_of(&rig, NULL, "SELECT 1"), PG_NOT_SENT);
    ask_init(&rig, &a);
    ask_add(&a, "SELECT 1", NULL);
    a.op.on_done = again_and_again;
    a.number = 0;
    pg_submit(rig.pool, &a.op);
    turn(&rig);
    turn(&rig);
    assert_true(a.number >= 1 && a.number < 100); /* a few a turn, not all in one */
    while (!a.done) turn(&rig);
    rig_stop(&rig);
}

/* ---- memory ------------------------------------------------------------------------------------------ */

static void on_notify(void *ctx, struct slice payload)
{
    (void)ctx;
    (void)payload;
}

/* One life with everything in it; each allocation of it fails once. */
static void live(struct rig *rig)
{
    struct pg_listener *listener;
    struct ask asks[4];
    struct hold h;
    bool pinned;

    rig->pool = pg_pool_new(&rig->loop, &rig->settings);
    if (rig->pool == NULL) return;
    listener = pg_listen(rig->pool, SLICE("omade_test_oom"), on_notify, NULL);
    ask(rig, &asks[0], "SELECT 1");
    ask(rig, &asks[1], "SELECT 2");
    ask_init(rig, &asks[2]);
    ask_add(&asks[2], "SELECT 3", NULL);
    ask_add(&asks[2], "SELECT 4", NULL);
    asks[2].statements[1].unprepared = true;
    ask_send(&asks[2], NULL);
    hold_ask(rig, &h);
    pinned = hold_wait(rig, &h) == PG_OK;
    if (pinned) {
        ask_on(rig, &asks[3], &h.pin, "BEGIN", NULL, 0);
        wait_for(rig, &asks[3]);
        forget(&asks[3]);
    }
    for (int i = 0; i < 3; i++) {
        enum pg_outcome outcome = wait_for(rig, &asks[i]);

        assert_true(outcome == PG_OK || outcome == PG_BUSY || outcome == PG_NOT_SENT ||
                    outcome == PG_LOST);
        forget(&asks[i]);
    }
    hold_end(&h);
    if (listener != NULL) pg_unlisten(listener);
    while (outcome_of(rig, NULL, "SELECT 5") != PG_OK) turn(rig); /* it recovers */
    rig_close_pool(rig);
}

static void short_of_memory(void **state)
{
    static struct relay relay;
    struct rig rig;
    long n = 0;
    bool failed;

    (void)state;
    do {
        relay_start(&rig, &relay, "localhost"); /* so that names are looked up, too */
        rig.settings.statements_max = 2;
        mem_fail_after(n++);
        live(&rig);
        failed = mem_failed();
        mem_fail_after(-1);
        relay_stop(&relay);
    } while (failed);
    assert_true(n > 30);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(killed_with_ops_in_flight),
        cmocka_unit_test(killed_while_idle),
        cmocka_unit_test(unsent_and_unknown),
        cmocka_unit_test(large_questions_and_answers),
        cmocka_unit_test(reset_behind_bytes),
        cmocka_unit_test(restarted),
        cmocka_unit_test(hung),
        cmocka_unit_test(first_connection_is_waited_for),
        cmocka_unit_test(refused),
        cmocka_unit_test(several_hosts),
        cmocka_unit_test(a_silent_host),
        cmocka_unit_test(options_of_the_url),
        cmocka_unit_test(closed_with_everything_under_way),
        cmocka_unit_test(asking_in_an_answer),
        cmocka_unit_test(short_of_memory),
    };

    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
