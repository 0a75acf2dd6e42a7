/* mail.send: what is refused before anything goes out, and that every end leaves nothing.
 * That mails arrive is tested with a real server: test/api/outbox_mail_test.lua. */
#include "script/script_rig.h"

#include <arpa/inet.h>
#include <sys/socket.h>

#include "script/bind_mail.h"

static int listener, port;

static int set_up(void **state)
{
    struct sockaddr_in at = { .sin_family = AF_INET };
    socklen_t n = sizeof at;

    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    listener = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(listener >= 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(listener, 10), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&at, &n), 0);
    port = ntohs(at.sin_port);
    return engine_start(state);
}

static int tear_down(void **state)
{
    assert_int_equal(engine.env.tasks_live, 0);
    vm_free(engine.vm);
    mail_end(&engine.env);
    close(listener);
    return engine_stop(state);
}

/* A mail that is right but for what 'change' says of the table `o`. */
static const char *script(const char *change)
{
    static char whole[2000];

    snprintf(whole, sizeof whole,
             "local o = {url = 'smtp://127.0.0.1:%d', from = 'a@b.example', "
             "to = 'c@d.example', message = 'Subject: x\\r\\n\\r\\nx\\r\\n'} %s "
             "return require('omade.core.mail').send(o)",
             port, change);
    return whole;
}

static void raises(const char *change, const char *part)
{
    engine_raises(script(change), part);
}

static void options_are_checked(void **state)
{
    (void)state;
    raises("o.url = nil", "url must be text");
    raises("o.url = 'http://127.0.0.1/'", "smtp://... or smtps://");
    raises("o.url = 'file:///etc/passwd'", "smtp://... or smtps://");
    raises("o.to = nil", "to must be text");
    raises("o.timeout = 0", "timeout is above 0");
    raises("o.timeout = 'long'", "timeout is above 0");
    raises("o.user = 5", "user must be text");
    raises("o.password = 'a\\0b'", "password holds NUL");
}

static void addresses_are_one_address(void **state)
{
    static const char *const bad[] = { "",        "nobody", "a@b\\r\\nRCPT TO:<e@e>",
                                       "a@b,c@d", "a@b>",   "<a@b>",
                                       "a b@c",   "a@b\\1", "\\xc3\\xa4@b" };
    char change[100];

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        snprintf(change, sizeof change, "o.to = '%s'", bad[i]);
        raises(change, "to is no mail address");
        snprintf(change, sizeof change, "o.from = '%s'", bad[i]);
        raises(change, "from is no mail address");
    }
    raises("o.to = ('x'):rep(400) .. '@b.example'", "to is no mail address");
}

static void lines_end_with_crlf(void **state)
{
    (void)state;
    raises("o.message = 'a\\n.\\nb\\r\\n'", "must end with CRLF");
    raises("o.message = 'a\\r.\\r\\n'", "must end with CRLF");
    raises("o.message = 'a\\r'", "must end with CRLF");
    raises("o.message = 'a\\0b'", "message holds NUL");
}

static void a_server_that_is_away_or_silent(void **state)
{
    (void)state;
    raises("o.url = 'smtp://127.0.0.1:1'", "is away");
    raises("o.timeout = 0.01", "in time");
}

static void a_killed_task_leaves_nothing(void **state)
{
    struct outcome *o = &engine.outcomes[0];

    (void)state;
    assert_true(engine_begin(o, script("o.timeout = 60")));
    engine_turn();
    assert_false(o->ended);
    task_kill(o->task, TASK_KILLED_GONE);
    while (!o->ended) engine_turn();
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(options_are_checked),          TEST(addresses_are_one_address),
        TEST(lines_end_with_crlf),          TEST(a_server_that_is_away_or_silent),
        TEST(a_killed_task_leaves_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
