/* The server with clients that are slow, gone, too many or wrong, and without memory. */
#include "http/server_rig.h"

#include <sys/resource.h>

#include "http/conn.h"

#define GET(path) "GET " path " HTTP/1.1\r\nHost: x\r\n\r\n"

static struct client dial_and_say(const char *text)
{
    struct client c = dial();

    say(&c, text);
    return c;
}

/* ---- refused requests ------------------------------------------------------------------------ */

static void expect_refusal(struct client *c, int status, const char *code)
{
    char body[128];
    struct heard *h = hear(c);

    snprintf(body, sizeof body, "{\"code\":\"%s\",\"status\":%d}", code, status);
    assert_int_equal(h->status, status);
    assert_true(body_is(h, body));
    assert_string_equal(header_of(h, "\nConnection"), "close");
    assert_non_null(header_of(h, "\nX-Request-Id"));
    expect_end(c);
    hang_up(c);
}

/* A HEAD is refused without a body, whatever is wrong with it. */
static void head_is_refused_without_body(void **state)
{
    static char longest[9000];
    const char *requests[] = { "HEAD / HTTP/1.9\r\n\r\n", "HEAD /  HTTP/1.1\r\n\r\n",
                               "HEAD / HTTP/1.1\r\n\r\n", longest };
    const int statuses[] = { 505, 400, 400, 414 };

    (void)state;
    memset(longest, 'a', sizeof longest - 1);
    memcpy(longest, "HEAD /", 6);
    start(usual_settings());
    for (size_t i = 0; i < COUNT_OF(requests); i++) {
        struct client c = dial();

        say(&c, requests[i]);
        struct heard *h = hear_to(&c, true);
        assert_int_equal(h->status, statuses[i]);
        assert_non_null(header_of(h, "\nContent-Length"));
        expect_end(&c);
        hang_up(&c);
    }
    stop();
}

static void limits(void **state)
{
    static char head[80000];
    struct client c, other;
    size_t n;

    (void)state;
    start(usual_settings());
    other = dial();
    c = dial_and_say(
        "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1048577\r\n\r\nabc");
    expect_refusal(&c, 413, "PAYLOAD_TOO_LARGE");

    c = dial_and_say(
        "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        "100001\r\n");
    say_bytes(&c, big_body, BIG);
    say_bytes(&c, "xx", 2);
    expect_refusal(&c, 413, "PAYLOAD_TOO_LARGE");

    n = (size_t)snprintf(head, sizeof head, "GET /");
    memset(head + n, 'a', 9000);
    snprintf(head + n + 9000, 100, " HTTP/1.1\r\nHost: x\r\n\r\n");
    c = dial();
    say_bytes(&c, head, strlen(head));
    expect_refusal(&c, 414, "URI_TOO_LONG");

    n = (size_t)snprintf(head, sizeof head, "GET /hello HTTP/1.1\r\nHost: x\r\nA: ");
    memset(head + n, 'a', 20000);
    snprintf(head + n + 20000, 100, "\r\n\r\n");
    c = dial();
    say_bytes(&c, head, strlen(head));
    expect_refusal(&c, 431, "HEADERS_TOO_LARGE");

    say(&other, GET("/hello"));
    assert_int_equal(hear(&other)->status, 200);
    assert_int_equal(stats().refused, 4);
    assert_int_equal(rig.requests, 1);
    hang_up(&other);
    stop();
}

/* The body that nobody reads does not reset the connection before the answer is heard. */
static void refused_upload_is_told(void **state)
{
    struct client c;

    (void)state;
    start(usual_settings());
    c = dial_and_say("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\n\r\n");
    WAIT_FOR(stats().closing == 1);
    for (int mib = 0; mib < 8; mib++) assert_true(say_bytes(&c, big_body, BIG));
    for (int turns = 0; turns < 20; turns++) pump();
    expect_refusal(&c, 413, "PAYLOAD_TOO_LARGE");
    c = dial_and_say("nonsense\r\n\r\n"); /* and one who never closes is closed */
    WAIT_FOR((listen_up(&c), c.ended));
    WAIT_FOR(server_conns(rig.server) == 0);
    hang_up(&c);
    stop();
}

/* What is sent behind a refused request is no request. */
static void nothing_after_an_error(void **state)
{
    struct client c;

    (void)state;
    start(usual_settings());
    c = dial_and_say("GET /hello\r\n\r\n" GET("/hello") GET("/hello"));
    expect_refusal(&c, 400, "BAD_REQUEST");
    c = dial_and_say(GET("/later") "nonsense\r\n\r\n" GET("/hello"));
    assert_int_equal(hear(&c)->status, 200);
    expect_refusal(&c, 400, "BAD_REQUEST");
    assert_int_equal(rig.requests, 1);
    stop();
}

static void malformed_streamed_body(void **state)
{
    struct client c;

    (void)state;
    start(usual_settings());
    rig.answers_gone = true; /* as a handler does that is told by an error */
    c = dial_and_say(
        "POST /to-handler HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        "5\r\nhello\r\n");
    WAIT_FOR(rig.requests == 1);
    say(&c, "nonsense\r\n");
    expect_refusal(&c, 400, "BAD_REQUEST");
    assert_int_equal(rig.gone, 1);
    assert_int_equal(rig.last_status, 400);
    assert_int_equal(rig.answered, 1);
    stop();
}

static void no_answer_at_all(void **state)
{
    struct client c;

    (void)state;
    start(usual_settings());
    c = dial_and_say(GET("/none"));
    assert_int_equal(hear(&c)->status, 0);
    WAIT_FOR(rig.answered == 1);
    assert_int_equal(rig.last_status, 0);
    assert_int_equal(rig.gone, 0);
    hang_up(&c);
    stop();
}

/* ---- slow clients ------------------------------------------------------------------------------ */

static struct server_settings impatient(void)
{
    struct server_settings settings = usual_settings();

    settings.head_timeout = settings.idle_timeout = settings.write_timeout = 100;
    settings.body_min_rate = 100000;
    return settings;
}

static void slow_head(void **state)
{
    static const char request[] =
        "GET /hello HTTP/1.1\r\nHost: x\r\nA: aaaaaaaaaaaaaaaaaaaaa";
    struct client c, silent;
    int64_t began = clock_ms();
    size_t at = 0;

    (void)state;
    start(impatient());
    silent = dial();
    c = dial();
    while (!c.ended && c.n == 0) { /* byte by byte, but too slowly in all */
        if (at < sizeof request - 1) say_bytes(&c, request + at++, 1);
        for (int64_t until = clock_ms() + 5; clock_ms() < until;) listen_up(&c);
    }
    assert_true(clock_ms() - began >= clock_scaled(100));
    expect_refusal(&c, 408, "REQUEST_TIMEOUT");
    expect_end(&silent);
    hang_up(&silent);
    c = dial_and_say(GET("/hello")); /* and one that idles after an answer */
    assert_int_equal(hear(&c)->status, 200);
    expect_end(&c);
    hang_up(&c);
    assert_int_equal(stats().refused, 1);
    stop();
}

static void slow_body(void **state)
{
    static const char *const paths[] = { "/echo", "/to-handler", "/to-file" };
    char head[256];

    (void)state;
    start(impatient());
    for (size_t i = 0; i < COUNT_OF(paths); i++) {
        struct client c = dial();

        snprintf(head, sizeof head,
                 "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nhello",
                 paths[i]);
        say(&c, head);
        expect_refusal(&c, 408, "REQUEST_TIMEOUT");
    }
    assert_int_equal(rig.gone, 1);
    stop();
}

static void slow_reader(void **state)
{
    struct client big, stream;

    (void)state;
    start(impatient());
    stream = dial_and_say(GET("/stream"));
    big = dial();
    for (int i = 0; i < 10; i++) say(&big, GET("/big"));
    WAIT_FOR(rig.gone == 1 && stats().writing == 0 && stats().running == 0);
    assert_int_equal(rig.last_status, 0);
    assert_int_equal(rig.released, rig.requests - 1);
    WAIT_FOR((listen_up(&stream), stream.ended));
    assert_true(stream.reset); /* the kernel keeps nothing for who does not read */
    hang_up(&big);
    hang_up(&stream);
    stop();
}

/* ---- clients that leave ------------------------------------------------------------------------- */

static void reset_while_running(void **state)
{
    struct client c;

    (void)state;
    start(usual_settings());
    c = dial_and_say(GET("/hang") GET("/hello"));
    WAIT_FOR(rig.held.count == 1);
    slam(&c);
    WAIT_FOR(rig.gone == 1);
    assert_int_equal(rig.requests, 1);
    assert_int_equal(rig.answered, 1);
    assert_int_equal(rig.last_status, 0);
    WAIT_FOR(stats().closing == 0);
    assert_int_equal(stats().requests_live, 0);
    stop();
}

/* A plain end may be half a close, so it takes a second until it is asked for. */
static void closed_while_running(void **state)
{
    struct client c;

    (void)state;
    start(usual_settings());
    c = dial_and_say(GET("/hang"));
    WAIT_FOR(rig.held.count == 1);
    hang_up(&c);
    for (int64_t until = clock_ms() + clock_scaled(300); clock_ms() < until;) pump();
    assert_int_equal(rig.gone, 0);
    WAIT_FOR(rig.gone == 1);
    stop();
}

static void half_closed(void **state)
{
    struct client c;

    (void)state;
    start(usual_settings());
    c = dial_and_say(GET("/later") GET("/hello") GET("/later"));
    assert_int_equal(shutdown(c.fd, SHUT_WR), 0);
    for (int i = 0; i < 3; i++) assert_true(body_is(hear(&c), "hello"));
    expect_end(&c);
    hang_up(&c);
    c = dial_and_say("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhello");
    assert_int_equal(shutdown(c.fd, SHUT_WR), 0);
    expect_refusal(&c, 400, "BAD_REQUEST");
    c = dial();
    assert_int_equal(shutdown(c.fd, SHUT_WR), 0);
    expect_end(&c);
    hang_up(&c);
    assert_int_equal(rig.gone, 0);
    stop();
}

/* However long it takes.  Bytes on the way tell whether anybody is there: HTTP/1.1 has an
 * answer before the answer, which says nothing. */
static void half_closed_for_long(void **state)
{
    struct client c, old;

    (void)state;
    start(usual_settings());
    c = dial_and_say(GET("/hang") GET("/hello"));
    old = dial_and_say("GET /hang HTTP/1.0\r\n\r\n");
    assert_int_equal(shutdown(c.fd, SHUT_WR), 0);
    assert_int_equal(shutdown(old.fd, SHUT_WR), 0);
    assert_int_equal(hear(&c)->status, 100);
    for (int64_t until = clock_ms() + clock_scaled(300); clock_ms() < until;) pump();
    while (rig.held.count > 0) {
        struct exchange *x = LIST_ENTRY(list_take(&rig.held), struct exchange, node);

        give_text(x->request, 200, SLICE("at last"));
    }
    assert_true(body_is(hear(&c), "at last"));
    assert_true(body_is(hear(&c), "hello"));
    assert_true(body_is(hear(&old), "at last"));
    expect_end(&c);
    expect_end(&old);
    hang_up(&c);
    hang_up(&old);
    assert_int_equal(rig.gone, 0);
    stop();
}

/* A reset behind the end is heard, although nobody reads. */
static void half_closed_and_gone(void **state)
{
    struct client c;

    (void)state;
    start(usual_settings());
    c = dial_and_say("GET /hang HTTP/1.0\r\n\r\n");
    assert_int_equal(shutdown(c.fd, SHUT_WR), 0);
    WAIT_FOR(rig.held.count == 1);
    struct conn *conn =
        LIST_ENTRY(rig.server->conns[CONN_RUNNING].first, struct conn, node);
    WAIT_FOR(conn->eof);
    slam(&c);
    WAIT_FOR(rig.gone == 1);
    stop();
}

static void a_thousand_hang_ups(void **state)
{
    static const char *const requests[] = {
        GET("/hang"),
        GET("/stream"),
        GET("/big"),
        "GET /hel",
        "POST /to-file HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhello",
        "POST /to-handler HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhello",
        "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhello",
    };

    (void)state;
    start(usual_settings());
    for (size_t i = 0; i < 1000; i++) {
        struct client c = dial_and_say(requests[i % COUNT_OF(requests)]);

        pump();
        slam(&c);
        pump();
    }
    WAIT_FOR(server_conns(rig.server) == 0);
    assert_int_equal(stats().requests_live, 0);
    stop();
}

/* ---- pipelined bytes wait in a bounded place ------------------------------------------------------ */

static void bounded_pipeline(void **state)
{
    enum { COUNT = 5000 }; /* 160 KB */
    size_t each = strlen(GET("/hello")), sent = 0;
    char *all = malloc(COUNT * each);
    struct client c;

    (void)state;
    assert_non_null(all);
    for (size_t i = 0; i < COUNT; i++) memcpy(all + i * each, GET("/hello"), each);
    start(usual_settings());
    c = dial_and_say(GET("/hang"));
    WAIT_FOR(rig.held.count == 1);
    struct conn *conn =
        LIST_ENTRY(rig.server->conns[CONN_RUNNING].first, struct conn, node);
    while (conn->kept.n < KEPT_MAX) {
        ssize_t n = send(c.fd, all + sent, COUNT * each - sent, MSG_DONTWAIT);

        if (n > 0) sent += (size_t)n;
        pump();
    }
    for (int turns = 0; turns < 1000; turns++) pump();
    assert_int_equal(conn->kept.n, KEPT_MAX);
    struct exchange *x = LIST_ENTRY(list_take(&rig.held), struct exchange, node);
    give_text(x->request, 200, SLICE("at last"));
    assert_true(body_is(hear(&c), "at last"));
    for (size_t i = 0; i < sent / each; i++) assert_true(body_is(hear(&c), "hello"));
    hang_up(&c);
    free(all);
    stop();
}

/* ---- too many ---------------------------------------------------------------------------------------- */

static void idle_ones_are_shed(void **state)
{
    struct server_settings settings = usual_settings();
    struct client c[3];

    (void)state;
    settings.max_connections = 2;
    start(settings);
    for (int i = 0; i < 2; i++) {
        c[i] = dial_and_say(GET("/hello"));
        assert_int_equal(hear(&c[i])->status, 200);
        for (int64_t until = clock_ms() + 5; clock_ms() < until;) pump();
    }
    c[2] = dial_and_say(GET("/hello"));
    assert_int_equal(hear(&c[2])->status, 200);
    expect_end(&c[0]); /* the one that idled longest */
    say(&c[1], GET("/hello"));
    assert_int_equal(hear(&c[1])->status, 200);
    assert_int_equal(stats().shed, 1);
    for (int i = 0; i < 3; i++) hang_up(&c[i]);
    stop();
}

static void the_rest_wait(void **state)
{
    struct server_settings settings = usual_settings();
    struct client busy[2], waiting[3];
    int turns = 0;

    (void)state;
    settings.max_connections = 2;
    start(settings);
    for (int i = 0; i < 2; i++) busy[i] = dial_and_say(GET("/hang"));
    WAIT_FOR(rig.held.count == 2);
    for (int i = 0; i < 3; i++) {
        waiting[i] = dial();
        assert_int_equal(send(waiting[i].fd, GET("/hello"), strlen(GET("/hello")), 0),
                         strlen(GET("/hello")));
    }
    for (int64_t until = clock_ms() + 600; clock_ms() < until; turns++)
        uv_run(&rig.loop, UV_RUN_ONCE);
    assert_true(turns < 60); /* it sleeps meanwhile */
    assert_int_equal(rig.requests, 2);
    assert_true(server_conns(rig.server) <= 2);
    struct exchange *x = LIST_ENTRY(list_take(&rig.held), struct exchange, node);
    give_text(x->request, 200, SLICE("done"));
    for (int i = 0; i < 3; i++) assert_true(body_is(hear(&waiting[i]), "hello"));
    slam(&busy[0]);
    slam(&busy[1]);
    for (int i = 0; i < 3; i++) hang_up(&waiting[i]);
    WAIT_FOR(rig.gone == 1);
    stop();
}

static void idle_clients_are_small(void **state)
{
    struct client c[50];
    long before;

    (void)state;
    start(usual_settings());
    before = mem_live();
    for (size_t i = 0; i < COUNT_OF(c); i++) {
        c[i] = dial_and_say(GET("/later") GET("/hello"));
        for (int k = 0; k < 2; k++) assert_int_equal(hear(&c[i])->status, 200);
    }
    WAIT_FOR(stats().idle == COUNT_OF(c));
    /* one block each, and a recycled request with its arena for all */
    assert_true(mem_live() - before <= (long)COUNT_OF(c) + 4);
    assert_true(sizeof(struct conn) < 2048);
    for (size_t i = 0; i < COUNT_OF(c); i++) hang_up(&c[i]);
    stop();
}

/* ---- the end under way ----------------------------------------------------------------------------------- */

static void drain(void **state)
{
    struct client idle, busy, late, stream;

    (void)state;
    start(usual_settings());
    idle = dial_and_say(GET("/hello"));
    assert_int_equal(hear(&idle)->status, 200);
    late = dial_and_say(GET("/hello"));
    assert_int_equal(hear(&late)->status, 200);
    busy = dial_and_say(GET("/hang"));
    stream = dial_and_say(GET("/stream"));
    WAIT_FOR(rig.held.count == 2 && rig.stalls == 1);
    server_drain(rig.server, set_true, &rig.drained);
    for (int64_t until = clock_ms() + clock_scaled(120); clock_ms() < until;) pump();
    say(&late, GET("/hello")); /* was on its way */
    struct heard *h = hear(&late);
    assert_int_equal(h->status, 200);
    assert_string_equal(header_of(h, "\nConnection"), "close");
    expect_end(&late);
    expect_end(&idle);
    assert_false(rig.drained);
    assert_int_equal(hear(&stream)->n, STREAM_TOTAL);
    expect_end(&stream);
    struct exchange *x = LIST_ENTRY(list_take(&rig.held), struct exchange, node);
    give_text(x->request, 200, SLICE("done"));
    h = hear(&busy);
    assert_true(body_is(h, "done"));
    assert_string_equal(header_of(h, "\nConnection"), "close");
    expect_end(&busy);
    hang_up(&busy);
    hang_up(&late);
    hang_up(&idle);
    hang_up(&stream);
    WAIT_FOR(rig.drained);
    assert_int_equal(server_listen(rig.server, rig.listen_fd), UV_EINVAL);
    stop();
}

static void close_with_everything_under_way(void **state)
{
    struct client c[6];
    static const char *const requests[] = {
        GET("/hang"),
        GET("/stream"),
        GET("/big"),
        GET("/hello"),
        GET("/file"),
        "POST /to-file HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nhello",
    };

    (void)state;
    start(usual_settings());
    rig.file_fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    for (size_t i = 0; i < COUNT_OF(c); i++) c[i] = dial_and_say(requests[i]);
    WAIT_FOR(rig.requests == 5);
    stop();
    assert_int_equal(rig.gone, 2);
    for (size_t i = 0; i < COUNT_OF(c); i++) hang_up(&c[i]);
}

static void sockets_come_and_go(void **state)
{
    struct client c;
    uint16_t first, second;
    int fd;

    (void)state;
    start(usual_settings());
    first = rig.port;
    fd = listen_anywhere(&second);
    assert_int_equal(server_listen(rig.server, fd), 0);
    for (int i = 0; i < 2; i++) {
        rig.port = i == 0 ? first : second;
        c = dial_and_say(GET("/hello"));
        assert_int_equal(hear(&c)->status, 200);
        hang_up(&c);
    }
    server_unlisten(rig.server, fd);
    c = dial(); /* the socket is its owner's still, and takes clients into its backlog */
    for (int i = 0; i < 50; i++) pump();
    assert_int_equal(stats().accepted, 2);
    assert_int_equal(server_listen(rig.server, fd), 0);
    say(&c, GET("/hello"));
    assert_int_equal(hear(&c)->status, 200);
    hang_up(&c);
    close(fd);
    stop();
}

/* ---- disks ------------------------------------------------------------------------------------------------- */

static void storage_full(void **state)
{
    struct rlimit before, small = { 100000, 0 };
    struct client c;

    (void)state;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small.rlim_max = before.rlim_max;
    signal(SIGXFSZ, SIG_IGN);
    start(usual_settings());
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    c = dial_and_say(
        "POST /to-file HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n\r\n");
    say_bytes(&c, big_body, 300000);
    expect_refusal(&c, 507, "STORAGE_FULL");
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    stop();
}

static void storage_missing(void **state)
{
    struct server_settings settings = usual_settings();
    struct client c;

    (void)state;
    settings.upload_dir = "/nowhere/at/all";
    start(settings);
    c = dial_and_say("POST /to-file HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc");
    expect_refusal(&c, 500, "INTERNAL");
    stop();
}

/* ---- without memory -------------------------------------------------------------------------------------------- */

static void one_without_memory(const char *request, size_t least)
{
    struct client c = dial();
    struct heard *h;

    say_bytes(&c, request, strlen(request));
    h = hear(&c);
    if (h->status == 200) assert_true(h->n >= least);
    else if (h->status != 0) assert_true(h->status >= 500 || h->status == 413);
    hang_up(&c);
    WAIT_FOR(server_conns(rig.server) == 0);
    assert_int_equal(stats().requests_live, 0);
}

/* The n-th allocation fails, for every n that a request and its answer have. */
static void every_allocation_fails_once(void **state)
{
    static const struct {
        const char *request;
        size_t least;
    } cases[] = {
        { GET("/hello"), 5 },
        { GET("/later") GET("/hello"), 5 },
        { "GET /text HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\n\r\n", 50 },
        { GET("/big"), BIG },
        { GET("/stream"), STREAM_TOTAL },
        { GET("/file"), 100 },
        { "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
          "5\r\nhello\r\n0\r\n\r\n",
          5 },
        { "POST /to-file HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello", 5 },
        { "POST /to-handler HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello", 5 },
        { "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5000000\r\n\r\n", 1 },
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        bool failed = true;

        for (long n = 0; failed; n++) {
            start(usual_settings());
            rig.file_fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
            mem_fail_after(n);
            one_without_memory(cases[i].request, cases[i].least);
            failed = mem_failed();
            mem_fail_after(-1);
            one_without_memory(GET("/hello"), 5);
            stop();
        }
    }
}

static void no_server_without_memory(void **state)
{
    struct server_settings settings = usual_settings();
    struct server_app app = { .on_request = app_request };
    struct server *s = NULL;
    uv_loop_t loop;
    long before = mem_live();
    bool closed = false;

    (void)state;
    assert_int_equal(uv_loop_init(&loop), 0);
    for (long n = 0; s == NULL; n++) {
        mem_fail_after(n);
        s = server_new(&loop, &settings, &app);
        mem_fail_after(-1);
        if (s == NULL) assert_int_equal(mem_live(), before);
        assert_true(n < 10);
    }
    server_close(s, set_true, &closed);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_true(closed);
    assert_int_equal(uv_loop_close(&loop), 0);
    assert_int_equal(mem_live(), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(head_is_refused_without_body),
        cmocka_unit_test(limits),
        cmocka_unit_test(refused_upload_is_told),
        cmocka_unit_test(nothing_after_an_error),
        cmocka_unit_test(malformed_streamed_body),
        cmocka_unit_test(no_answer_at_all),
        cmocka_unit_test(slow_head),
        cmocka_unit_test(slow_body),
        cmocka_unit_test(slow_reader),
        cmocka_unit_test(reset_while_running),
        cmocka_unit_test(closed_while_running),
        cmocka_unit_test(half_closed),
        cmocka_unit_test(half_closed_for_long),
        cmocka_unit_test(half_closed_and_gone),
        cmocka_unit_test(a_thousand_hang_ups),
        cmocka_unit_test(bounded_pipeline),
        cmocka_unit_test(idle_ones_are_shed),
        cmocka_unit_test(the_rest_wait),
        cmocka_unit_test(idle_clients_are_small),
        cmocka_unit_test(drain),
        cmocka_unit_test(close_with_everything_under_way),
        cmocka_unit_test(sockets_come_and_go),
        cmocka_unit_test(storage_full),
        cmocka_unit_test(storage_missing),
        cmocka_unit_test(every_allocation_fails_once),
        cmocka_unit_test(no_server_without_memory),
    };

    if (cmocka_run_group_tests_name("reads of 64 KiB", tests, NULL, NULL) != 0) return 1;
    setenv("OMADE_TEST_READ_BUFFER", "16", 1);
    return cmocka_run_group_tests_name("reads of 16 bytes", tests, NULL, NULL);
}
