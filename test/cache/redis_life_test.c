/* Loss and return of the server, the breaker, addresses. */
#include "cache/redis_server.h"

#include <dlfcn.h>
#include <netdb.h>

/* ---- the breaker ------------------------------------------------------------------------------ */

static void the_breaker_opens_and_a_probe_closes_it(void **state)
{
    struct rig rig;
    struct ask asks[5], late;

    (void)state;
    begin(&rig);
    ask_within(&rig, &late, "DEBUG SLEEP 0.6", 0);
    for (int i = 0; i < 4; i++) ask_within(&rig, &asks[i], "ECHO x", 0);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(wait_for(&rig, &asks[i]), REDIS_LOST);
        forget(&asks[i]);
    }
    assert_true(late.done);
    assert_true(stats_of(&rig).breaker_open);
    assert_true(stats_of(&rig).connected);
    assert_false(redis_up(rig.redis));
    ask(&rig, &asks[4], "ECHO x");
    assert_int_equal(wait_for(&rig, &asks[4]), REDIS_DOWN);
    until_up(&rig);
    assert_int_equal(stats_of(&rig).reconnects, 0); /* the same connection */
    expect_answer(&rig, "ECHO y", REDIS_STRING, "y");
    rig_stop(&rig);
}

static void four_failures_do_not_open_it(void **state)
{
    struct rig rig;
    struct ask slow, asks[3];

    (void)state;
    begin(&rig);
    for (int round = 0; round < 2; round++) {
        ask_within(&rig, &slow, "DEBUG SLEEP 0.2", 0);
        for (int i = 0; i < 3; i++) ask_within(&rig, &asks[i], "ECHO x", 0);
        for (int i = 0; i < 3; i++)
            assert_int_equal(wait_for(&rig, &asks[i]), REDIS_LOST);
        assert_int_equal(wait_for(&rig, &slow), REDIS_LOST);
        assert_false(stats_of(&rig).breaker_open);
        ask_within(&rig, &slow, "ECHO y", 5000); /* ends the row */
        assert_int_equal(wait_for(&rig, &slow), REDIS_OK_REPLY);
        forget(&slow);
    }
    rig_stop(&rig);
}

static void killed_and_back(void **state)
{
    struct rig rig;
    struct ask asks[20];
    int64_t begun;

    (void)state;
    begin(&rig);
    kill(server.pid, SIGSTOP); /* so that all are under way when it ends */
    for (size_t i = 0; i < COUNT_OF(asks); i++)
        ask_within(&rig, &asks[i], "INCR n", 5000);
    turn(&rig);
    server_stop();
    for (size_t i = 0; i < COUNT_OF(asks); i++) {
        assert_int_equal(wait_for(&rig, &asks[i]), REDIS_LOST);
        assert_null(asks[i].replies[0]);
    }
    assert_int_equal(outcome_of(&rig, "GET n"), REDIS_DOWN);
    while (!stats_of(&rig).breaker_open) turn(&rig);
    assert_int_equal(outcome_of(&rig, "GET n"), REDIS_DOWN);
    assert_int_equal(stats_of(&rig).in_flight, 0);
    server_start(NULL);
    begun = clock_ms();
    until_up(&rig);
    assert_true(clock_ms() - begun < clock_scaled(5000)); /* about 200 ms */
    assert_int_equal(stats_of(&rig).reconnects, 1);
    expect_answer(&rig, "ECHO back", REDIS_STRING, "back");
    rig_stop(&rig);
}

static void stopped_without_a_word(void **state)
{
    struct rig rig;

    (void)state;
    begin(&rig);
    kill(server.pid, SIGSTOP);
    for (int i = 0; i < 5; i++) assert_int_equal(outcome_of(&rig, "GET n"), REDIS_LOST);
    assert_int_equal(outcome_of(&rig, "GET n"), REDIS_DOWN);
    while (stats_of(&rig).connected) turn(&rig); /* silence_timeout */
    assert_int_equal(stats_of(&rig).in_flight, 0);
    kill(server.pid, SIGCONT);
    until_up(&rig);
    expect_answer(&rig, "ECHO back", REDIS_STRING, "back");
    rig_stop(&rig);
}

static void nobody_there(void **state)
{
    struct rig rig;

    (void)state;
    rig_start(&rig, "unix:///tmp/there/is/no/such/socket");
    for (int i = 0; i < 3; i++) assert_int_equal(outcome_of(&rig, "GET n"), REDIS_DOWN);
    while (!stats_of(&rig).breaker_open) turn(&rig);
    assert_int_equal(outcome_of(&rig, "GET n"), REDIS_DOWN);
    rig_stop(&rig);
    rig_start(&rig, "redis://name.invalid");
    turn(&rig);
    rig_stop(&rig);
}

static void closing_answers_everybody(void **state)
{
    struct rig rig;
    struct ask a, b;

    (void)state;
    begin(&rig);
    ask(&rig, &a, "DEBUG SLEEP 0.05");
    turn(&rig);
    ask(&rig, &b, "ECHO x");
    rig.submitting = true; /* not from inside redis_close() either */
    redis_close(rig.redis, rig_on_closed, &rig);
    rig.submitting = false;
    while (!rig.closed) turn(&rig);
    assert_true(a.done && b.done);
    assert_int_equal(a.op.outcome, REDIS_LOST);
    assert_int_equal(b.op.outcome, REDIS_LOST);
    rig_stop(&rig);
    rig_start(&rig, server.url); /* and before it is even connected */
    ask(&rig, &a, "ECHO x");
    rig_close_client(&rig);
    assert_true(a.done);
    rig_stop(&rig);
}

/* ---- addresses ------------------------------------------------------------------------------------ */

static void hosts_and_databases(void **state)
{
    static const char *const hosts[] = { "localhost", "127.0.0.1" };
    struct rig rig;
    char url[128];

    (void)state;
    begin(&rig);
    expect_answer(&rig, "SET where zero", REDIS_STATUS_TEXT, "OK");
    rig_close_client(&rig);
    for (size_t i = 0; i < COUNT_OF(hosts); i++) {
        snprintf(url, sizeof url, "redis://%s:%s/%d", hosts[i], server.port, (int)i + 1);
        rig.settings.url = url;
        rig_client(&rig);
        until_up(&rig); /* the name may take longer than a command's deadline */
        expect_answer(&rig, "SET where else", REDIS_STATUS_TEXT, "OK");
        rig_close_client(&rig);
    }
    snprintf(url, sizeof url, "unix://%s?db=0", server.path);
    rig_client(&rig);
    expect_answer(&rig, "GET where", REDIS_STRING, "zero");
    rig_stop(&rig);
}

/* In front of the C library's: "two.test" has an address where nobody listens, then
 * the server's. */
static struct addrinfo pair[2];
static struct sockaddr_in pair_to[2];

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints,
                struct addrinfo **found)
{
    int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);

    *(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
    if (name == NULL || strcmp(name, "two.test") != 0)
        return real(name, service, hints, found);
    *found = pair;
    return 0;
}

void freeaddrinfo(struct addrinfo *found)
{
    void (*real)(struct addrinfo *);

    *(void **)&real = dlsym(RTLD_NEXT, "freeaddrinfo");
    if (found != pair) real(found);
}

static void every_address_is_tried(void **state)
{
    struct rig rig;
    char url[128];

    (void)state;
    for (int i = 0; i < 2; i++) {
        int port = i == 0 ? free_port() : atoi(server.port);

        uv_ip4_addr("127.0.0.1", port, &pair_to[i]);
        pair[i] = (struct addrinfo){ .ai_family = AF_INET,
                                     .ai_socktype = SOCK_STREAM,
                                     .ai_addrlen = sizeof pair_to[i],
                                     .ai_addr = (struct sockaddr *)&pair_to[i],
                                     .ai_next = i == 0 ? &pair[1] : NULL };
    }
    begin(&rig);
    rig_close_client(&rig);
    snprintf(url, sizeof url, "redis://two.test:%s", server.port);
    rig.settings.url = url;
    rig_client(&rig);
    expect_answer(&rig, "ECHO here", REDIS_STRING, "here");
    assert_int_equal(stats_of(&rig).failures, 0);
    rig_close_client(&rig);
    uv_ip4_addr("127.0.0.1", free_port(), &pair_to[1]); /* nobody at either */
    rig_client(&rig);
    while (!stats_of(&rig).breaker_open) turn(&rig);
    rig_stop(&rig);
}

static void passwords(void **state)
{
    struct rig rig;
    char url[160];

    (void)state;
    begin(&rig);
    rig_stop(&rig);
    server_stop();
    server_start("open:ses@me");
    rig_start(&rig, server.url);
    assert_int_equal(outcome_of(&rig, "GET a"), REDIS_DOWN); /* NOAUTH */
    rig_close_client(&rig);
    snprintf(url, sizeof url, "unix://:wrong@%s", server.path);
    rig.settings.url = url;
    rig_client(&rig);
    assert_int_equal(outcome_of(&rig, "GET a"), REDIS_DOWN);
    while (!stats_of(&rig).breaker_open) turn(&rig);
    assert_int_equal(stats_of(&rig).reconnects, 0);
    rig_close_client(&rig);
    snprintf(url, sizeof url, "unix://:open:ses%%40me@%s", server.path);
    rig_client(&rig);
    expect_answer(&rig, "ECHO in", REDIS_STRING, "in");
    rig_close_client(&rig);
    snprintf(url, sizeof url, "redis://default:open%%3ases@me@127.0.0.1:%s", server.port);
    rig_client(&rig);
    expect_answer(&rig, "ECHO in", REDIS_STRING, "in");
    rig_stop(&rig);
    server_stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_breaker_opens_and_a_probe_closes_it),
        cmocka_unit_test(four_failures_do_not_open_it),
        cmocka_unit_test(killed_and_back),
        cmocka_unit_test(stopped_without_a_word),
        cmocka_unit_test(nobody_there),
        cmocka_unit_test(closing_answers_everybody),
        cmocka_unit_test(hosts_and_databases),
        cmocka_unit_test(every_address_is_tried),
        cmocka_unit_test(passwords),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
