/* The client against a server that does everything wrong. */
#include "cache/redis_rig.h"

#include <stdlib.h>
#include <unistd.h>

/* ---- the server: a script on the test's own loop -------------------------------------- */

#define ALIVE "+PONG\r\n"

struct script {
    const char *greeting; /* what it says to the first bytes; NULL: nothing */
    const char *unasked;  /* right behind, without being asked */
    const char *answer;   /* to all bytes after that, once per read */
    bool dribble;         /* a byte per turn */
    bool hang_up;         /* after the greeting */
};

enum { CALLERS_MAX = 64 };

struct caller {
    uv_pipe_t pipe;
    struct fake *fake;
    bool greeted, open;
    const char *rest; /* to be dribbled */
    char input[4096];
};

struct fake {
    char folder[64], path[96], url[128];
    uv_pipe_t listener;
    uv_timer_t dribble;
    const struct script *script;
    int connections;
    struct caller callers[CALLERS_MAX];
};

static void say(struct caller *caller, const char *text)
{
    uv_buf_t b;

    if (text == NULL || !caller->open) return;
    if (caller->fake->script->dribble) {
        caller->rest = text;
        return;
    }
    b = uv_buf_init((char *)(uintptr_t)text, (unsigned)strlen(text));
    (void)!uv_try_write((uv_stream_t *)&caller->pipe, &b, 1);
}

static void on_dribble(uv_timer_t *timer)
{
    struct fake *fake = timer->data;

    for (int i = 0; i < fake->connections; i++) {
        struct caller *caller = &fake->callers[i];
        uv_buf_t b;

        if (!caller->open || caller->rest == NULL || *caller->rest == '\0') continue;
        b = uv_buf_init((char *)(uintptr_t)caller->rest++, 1);
        (void)!uv_try_write((uv_stream_t *)&caller->pipe, &b, 1);
    }
}

static void caller_close(struct caller *caller)
{
    if (caller->open) uv_close((uv_handle_t *)&caller->pipe, NULL);
    caller->open = false;
}

static void on_room(uv_handle_t *handle, size_t suggested, uv_buf_t *room)
{
    struct caller *caller = handle->data;

    (void)suggested;
    *room = uv_buf_init(caller->input, sizeof caller->input);
}

static void on_bytes(uv_stream_t *stream, ssize_t n, const uv_buf_t *bytes)
{
    struct caller *caller = stream->data;
    const struct script *script = caller->fake->script;

    (void)bytes;
    if (n < 0) {
        caller_close(caller);
    } else if (n > 0 && caller->greeted) {
        say(caller, script->answer);
    } else if (n > 0) {
        caller->greeted = true;
        say(caller, script->greeting);
        say(caller, script->unasked);
        if (script->hang_up) caller_close(caller);
    }
}

static void on_caller(uv_stream_t *listener, int status)
{
    struct fake *fake = listener->data;
    struct caller *caller = &fake->callers[fake->connections++];

    assert_int_equal(status, 0);
    assert_true(fake->connections <= CALLERS_MAX);
    caller->fake = fake;
    uv_pipe_init(listener->loop, &caller->pipe, 0);
    caller->pipe.data = caller;
    caller->open = true;
    assert_int_equal(uv_accept(listener, (uv_stream_t *)&caller->pipe), 0);
    uv_read_start((uv_stream_t *)&caller->pipe, on_room, on_bytes);
}

static void fake_start(struct rig *rig, struct fake *fake, const struct script *script)
{
    memset(fake, 0, sizeof *fake);
    strcpy(fake->folder, "/tmp/redis-fault-XXXXXX");
    assert_non_null(mkdtemp(fake->folder));
    snprintf(fake->path, sizeof fake->path, "%s/sock", fake->folder);
    snprintf(fake->url, sizeof fake->url, "unix://%s", fake->path);
    fake->script = script;
    rig_loop(rig, fake->url);
    uv_pipe_init(&rig->loop, &fake->listener, 0);
    uv_timer_init(&rig->loop, &fake->dribble);
    fake->listener.data = fake->dribble.data = fake;
    assert_int_equal(uv_pipe_bind(&fake->listener, fake->path), 0);
    assert_int_equal(uv_listen((uv_stream_t *)&fake->listener, 16, on_caller), 0);
    uv_timer_start(&fake->dribble, on_dribble, 1, 1);
    rig_client(rig);
}

static void fake_stop(struct rig *rig, struct fake *fake)
{
    if (rig->redis != NULL) rig_close_client(rig);
    for (int i = 0; i < fake->connections; i++) caller_close(&fake->callers[i]);
    uv_close((uv_handle_t *)&fake->listener, NULL);
    uv_close((uv_handle_t *)&fake->dribble, NULL);
    rig_stop(rig);
    unlink(fake->path);
    rmdir(fake->folder);
}

static const struct script sane = { .greeting = ALIVE, .answer = "$4\r\nsane\r\n" };

/* From now on it behaves; the client must find back to it by itself. */
static void expect_recovery(struct rig *rig, struct fake *fake)
{
    struct ask a;

    fake->script = &sane;
    do {
        until_up(rig);
        ask(rig, &a, "GET k");
        if (wait_for(rig, &a) == REDIS_OK_REPLY) break;
        forget(&a);
    } while (true);
    expect_text(a.replies[0], REDIS_STRING, "sane");
    forget(&a);
}

/* ---- replies that are none ------------------------------------------------------------------ */

static void bad_answers(void **state)
{
    static const char *const answers[] = {
        "hello\r\n",
        "\r\n",
        "HTTP/1.1 400 Bad Request\r\n\r\n",
        "$9223372036854775808\r\n",
        "$-7\r\nabc\r\n",
        "$x\r\n",
        "*-5\r\n",
        "*99999999999\r\n",
        ":99999999999999999999999\r\n",
        ":\r\n",
        "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n",
        "*3\r\n:1\r\n$1\r\nx\r\n?\r\n",
    };
    static struct fake fake;
    struct rig rig;
    struct ask a, b;

    (void)state;
    for (size_t i = 0; i < COUNT_OF(answers); i++) {
        const struct script script = { .greeting = ALIVE, .answer = answers[i] };

        fake_start(&rig, &fake, &script);
        ask(&rig, &a, "GET a");
        ask(&rig, &b, "GET b; GET c");
        assert_int_equal(wait_for(&rig, &a), REDIS_LOST);
        assert_int_equal(wait_for(&rig, &b), REDIS_LOST);
        forget(&a);
        forget(&b);
        expect_recovery(&rig, &fake);
        assert_int_equal(fake.connections, 2);
        fake_stop(&rig, &fake);
    }
}

/* Promises much, or half of something, and then nothing: the asker is released at its
 * deadline, the connection after the silence. */
static void unfinished_answers(void **state)
{
    static const char *const answers[] = {
        NULL,
        "$",
        "$5\r\nhe",
        "$9223372036854775807\r\n",
        "*2147483647\r\n",
        "*2147483647\r\n:1\r\n*2147483647\r\n$536870912\r\nx",
        "*2\r\n:1\r\n",
        "+OK",
    };
    static struct fake fake;
    struct rig rig;
    struct ask a, b;

    (void)state;
    for (size_t i = 0; i < COUNT_OF(answers); i++) {
        const struct script script = { .greeting = ALIVE, .answer = answers[i] };

        fake_start(&rig, &fake, &script);
        rig_close_client(&rig);
        rig.settings.silence_timeout = 300;
        rig_client(&rig);
        until_up(&rig);
        ask_within(&rig, &a, "GET a", 100);
        ask(&rig, &b, "GET b");
        assert_int_equal(wait_for(&rig, &a), REDIS_LOST);
        assert_false(b.done);
        assert_true(stats_of(&rig).connected);
        assert_int_equal(wait_for(&rig, &b), REDIS_LOST);
        assert_false(stats_of(&rig).connected);
        expect_recovery(&rig, &fake);
        fake_stop(&rig, &fake);
    }
}

static void byte_by_byte(void **state)
{
    static const struct script script = {
        .greeting = ALIVE,
        .answer = "*3\r\n$2\r\nab\r\n*2\r\n:-1\r\n$-1\r\n*0\r\n+fine\r\n-ERR no\r\n",
        .dribble = true,
    };
    static struct fake fake;
    struct rig rig;
    struct ask a;

    (void)state;
    fake_start(&rig, &fake, &script);
    until_up(&rig);
    ask(&rig, &a, "GET a; GET b; GET c");
    assert_int_equal(wait_for(&rig, &a), REDIS_OK_REPLY);
    assert_int_equal(a.replies[0]->item_count, 3);
    expect_text(a.replies[0]->items[0], REDIS_STRING, "ab");
    assert_int_equal(a.replies[0]->items[1]->items[0]->number, -1);
    assert_int_equal(a.replies[0]->items[1]->items[1]->type, REDIS_NIL);
    assert_int_equal(a.replies[0]->items[2]->item_count, 0);
    expect_text(a.replies[1], REDIS_STATUS_TEXT, "fine");
    expect_text(a.replies[2], REDIS_ERROR_TEXT, "ERR no");
    forget(&a);
    fake_stop(&rig, &fake);
}

/* What is answered before the asker leaves is the asker's to free. */
static void cancelled_when_half_answered(void **state)
{
    static const struct script script = { .greeting = ALIVE,
                                          .answer = "+one\r\n$3\r\ntwo\r\n+three\r\n",
                                          .dribble = true };
    static struct fake fake;
    struct rig rig;
    struct ask a, b;

    (void)state;
    fake_start(&rig, &fake, &script);
    until_up(&rig);
    ask(&rig, &a, "GET a; GET b");
    ask(&rig, &b, "GET c");
    while (a.replies[0] == NULL) turn(&rig);
    assert_false(a.done);
    redis_cancel(&a.op);
    forget(&a);
    memset(&a, 0x55, sizeof a);
    assert_int_equal(wait_for(&rig, &b), REDIS_OK_REPLY);
    expect_text(b.replies[0], REDIS_STATUS_TEXT, "three");
    forget(&b);
    fake_stop(&rig, &fake);
}

/* Never given to the next asker. */
static void replies_out_of_nowhere(void **state)
{
    static const struct script scripts[] = {
        { .greeting = ALIVE "+MINE\r\n", .answer = "+NO\r\n" },
        { .greeting = ALIVE, .unasked = "$4\r\nMINE\r\n", .answer = "+NO\r\n" },
        { .greeting = ALIVE, .answer = "$4\r\nsane\r\n$4\r\nMINE\r\n" },
    };
    static struct fake fake;
    struct rig rig;

    (void)state;
    for (size_t i = 0; i < COUNT_OF(scripts); i++) {
        fake_start(&rig, &fake, &scripts[i]);
        if (i == 2) {
            until_up(&rig);
            expect_answer(&rig, "GET a", REDIS_STRING, "sane");
        }
        while (fake.connections < 2) turn(&rig);
        expect_recovery(&rig, &fake);
        fake_stop(&rig, &fake);
    }
}

/* A value that never ends is cut off before it fills the memory. */
static void a_reply_without_end(void **state)
{
    static char flood[(1 << 20) + 1];
    static const struct script script = { .greeting = ALIVE };
    static struct fake fake;
    struct rig rig;
    struct ask a;

    (void)state;
#ifdef OMADE_HOSTILE
    skip(); /* it would take minutes in such small pieces */
#endif
    memset(flood, 'x', sizeof flood - 1);
    fake_start(&rig, &fake, &script);
    rig_close_client(&rig);
    rig.settings.silence_timeout = 60000;
    rig_client(&rig);
    until_up(&rig);
    ask_within(&rig, &a, "GET a", 60000);
    say(&fake.callers[1], "$5000000000\r\n");
    while (!a.done) {
        say(&fake.callers[1], flood);
        turn(&rig);
    }
    assert_int_equal(a.op.outcome, REDIS_LOST);
    expect_recovery(&rig, &fake);
    fake_stop(&rig, &fake);
}

/* ---- greetings --------------------------------------------------------------------------------- */

static void greetings_that_refuse(void **state)
{
    static const struct script scripts[] = {
        { .greeting = "-LOADING Redis is loading the dataset in memory\r\n" },
        { .greeting = "-ERR max number of clients reached\r\n", .hang_up = true },
        { .greeting = "-NOAUTH Authentication required.\r\n" },
        { .greeting = "-DENIED Redis is running in protected mode\r\n", .hang_up = true },
        { .greeting = "SSH-2.0-OpenSSH_9.2\r\n" },
        { .hang_up = true },
    };
    static struct fake fake;
    struct rig rig;
    struct ask a;

    (void)state;
    for (size_t i = 0; i < COUNT_OF(scripts); i++) {
        fake_start(&rig, &fake, &scripts[i]);
        ask(&rig, &a, "GET a");
        assert_int_equal(wait_for(&rig, &a), REDIS_DOWN);
        assert_int_equal(outcome_of(&rig, "GET a"), REDIS_DOWN);
        while (!stats_of(&rig).breaker_open) turn(&rig);
        assert_true(fake.connections >= 5);
        assert_false(redis_up(rig.redis));
        expect_recovery(&rig, &fake);
        fake_stop(&rig, &fake);
    }
}

/* Accepts and says nothing: askers have their deadline, then the connection its own. */
static void no_greeting(void **state)
{
    static const struct script script = { 0 };
    static struct fake fake;
    struct rig rig;
    struct ask a, b;

    (void)state;
    fake_start(&rig, &fake, &script);
    ask_within(&rig, &a, "GET a", 100);
    ask(&rig, &b, "GET b");
    assert_int_equal(wait_for(&rig, &a), REDIS_LOST);
    assert_int_equal(fake.connections, 1);
    assert_int_equal(wait_for(&rig, &b), REDIS_DOWN); /* connect_timeout */
    expect_recovery(&rig, &fake);
    fake_stop(&rig, &fake);
}

static void commands_wait_for_the_first_connection(void **state)
{
    static const struct script script = { .greeting = "" }; /* the test says it later */
    static struct fake fake;
    struct rig rig;
    struct ask a, gone;

    (void)state;
    fake_start(&rig, &fake, &script);
    ask(&rig, &gone, "GET gone");
    ask(&rig, &a, "GET a");
    redis_cancel(&gone.op);
    memset(&gone, 0x55, sizeof gone);
    while (fake.connections == 0 || !fake.callers[0].greeted) turn(&rig);
    turn_for(&rig, 50);
    assert_false(a.done);
    assert_false(redis_up(rig.redis));
    say(&fake.callers[0], ALIVE "+gone\r\n+mine\r\n");
    assert_int_equal(wait_for(&rig, &a), REDIS_OK_REPLY);
    expect_text(a.replies[0], REDIS_STATUS_TEXT, "mine");
    forget(&a);
    fake_stop(&rig, &fake);
}

static void commands_do_not_wait_for_a_later_one(void **state)
{
    static const struct script hanging_up = { .hang_up = true }, mute = { 0 };
    static struct fake fake;
    struct rig rig;
    struct ask a;

    (void)state;
    fake_start(&rig, &fake, &hanging_up);
    ask(&rig, &a, "GET a");
    assert_int_equal(wait_for(&rig, &a), REDIS_DOWN);
    fake.script = &mute;
    while (fake.connections < 2 || !fake.callers[fake.connections - 1].greeted)
        turn(&rig);
    assert_int_equal(outcome_of(&rig, "GET a"), REDIS_DOWN);
    expect_recovery(&rig, &fake);
    fake_stop(&rig, &fake);
}

/* ---- the breaker ---------------------------------------------------------------------------------- */

/* A late probe does not close it: a server that is always slow stays out of the way. */
static void a_late_probe_does_not_close_it(void **state)
{
    static const struct script mute = { .greeting = ALIVE };
    static struct fake fake;
    struct rig rig;
    struct ask asks[5];
    int64_t opened;

    (void)state;
    fake_start(&rig, &fake, &mute);
    rig_close_client(&rig);
    rig.settings.silence_timeout = 20000;
    rig_client(&rig);
    until_up(&rig);
    for (int i = 0; i < 5; i++) ask_within(&rig, &asks[i], "GET a", 0);
    for (int i = 0; i < 5; i++) assert_int_equal(wait_for(&rig, &asks[i]), REDIS_LOST);
    assert_true(stats_of(&rig).breaker_open);
    opened = clock_ms();
    assert_int_equal(outcome_of(&rig, "GET a"), REDIS_DOWN);
    assert_true(clock_ms() - opened < clock_scaled(90)); /* at once, not its deadline */
    while (stats_of(&rig).in_flight < 6) turn(&rig);     /* the probe */
    turn_for(&rig, 150);
    say(&fake.callers[1], "+1\r\n+2\r\n+3\r\n+4\r\n+5\r\n+PONG\r\n");
    while (stats_of(&rig).in_flight >= 6) turn(&rig);
    assert_true(stats_of(&rig).breaker_open);
    fake.script = &sane; /* answers the next probe in time */
    until_up(&rig);
    assert_int_equal(fake.connections, 2);
    fake_stop(&rig, &fake);
}

/* ---- pub/sub ---------------------------------------------------------------------------------------- */

static int heard, missed;

static void on_message(void *ctx, struct slice text)
{
    (void)ctx;
    if (text.p == NULL) missed++;
    else heard++;
}

static void messages_that_are_none(void **state)
{
    static const struct script script = {
        .greeting = ALIVE,
        .answer = "*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n"
                  "*3\r\n$7\r\nmessage\r\n$1\r\nd\r\n$1\r\nx\r\n"
                  "*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n:5\r\n"
                  "*3\r\n$7\r\nmessage\r\n:1\r\n$1\r\nx\r\n"
                  "*2\r\n$7\r\nmessage\r\n$1\r\nc\r\n*0\r\n*-1\r\n$-1\r\n:7\r\n+OK\r\n"
                  "-NOPERM no such channel for you\r\n"
                  "*3\r\n*0\r\n$1\r\nc\r\n$1\r\nx\r\n"
                  "*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$0\r\n\r\n"
                  "garbage\r\n",
    };
    static struct fake fake;
    struct redis_subscription *s;
    struct rig rig;

    (void)state;
    heard = missed = 0;
    fake_start(&rig, &fake, &script);
    s = redis_subscribe(rig.redis, SLICE("c"), on_message, NULL);
    assert_non_null(s);
    while (missed < 2 || heard < 2) turn(&rig); /* the garbage broke it, it came again */
    assert_int_equal(heard, missed);            /* one on each connection */
    assert_true(redis_up(rig.redis)); /* the other connection has no part in it */
    redis_unsubscribe(s);
    fake_stop(&rig, &fake);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_answers),
        cmocka_unit_test(unfinished_answers),
        cmocka_unit_test(byte_by_byte),
        cmocka_unit_test(cancelled_when_half_answered),
        cmocka_unit_test(replies_out_of_nowhere),
        cmocka_unit_test(a_reply_without_end),
        cmocka_unit_test(greetings_that_refuse),
        cmocka_unit_test(no_greeting),
        cmocka_unit_test(commands_wait_for_the_first_connection),
        cmocka_unit_test(commands_do_not_wait_for_a_later_one),
        cmocka_unit_test(a_late_probe_does_not_close_it),
        cmocka_unit_test(messages_that_are_none),
    };

    log_setup(LOG_OFF, LOG_KEY_VALUE, "test");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
