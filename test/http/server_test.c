/* The server with well-behaved clients: order, keep-alive, answers of all kinds. */
#include "http/server_rig.h"

#include <sys/epoll.h>
#include <sys/syscall.h>
#include <zlib.h>

#define GET(path) "GET " path " HTTP/1.1\r\nHost: x\r\n\r\n"

/* ---- what an answer costs ------------------------------------------------------------------ */

/* These stand before those of libc, also for libuv. */
static int reads, writes, registrations;

ssize_t read(int fd, void *bytes, size_t n)
{
    reads++;
    return syscall(SYS_read, fd, bytes, n);
}

ssize_t write(int fd, const void *bytes, size_t n)
{
    writes++;
    return syscall(SYS_write, fd, bytes, n);
}

int epoll_ctl(int epoll, int op, int fd, struct epoll_event *event)
{
    registrations++;
    return (int)syscall(SYS_epoll_ctl, epoll, op, fd, event);
}

static void one_read_and_one_write(void **state)
{
    struct client c;

    (void)state;
    start(usual_settings());
    if (rig.settings.read_buffer < 1024) { /* of such a size it takes many */
        stop();
        return;
    }
    c = dial();
    for (int i = 0; i < 4; i++) {
        reads = writes = registrations = 0;
        say(&c, GET("/hello"));
        assert_int_equal(hear(&c)->status, 200);
        for (int turns = 0; turns < 10; turns++) pump();
        if (i == 0) continue; /* the connection was new */
        assert_int_equal(reads, 1);
        assert_int_equal(writes, 1);
        assert_int_equal(registrations, 0);
    }
    hang_up(&c);
    stop();
}

/* ---- connections --------------------------------------------------------------------------- */

static void keep_alive(void **state)
{
    struct client c;
    char first_id[40];

    (void)state;
    start(usual_settings());
    c = dial();
    for (int i = 0; i < 5; i++) {
        say(&c, i % 2 ? GET("/hello") : GET("/later"));
        struct heard *h = hear(&c);
        assert_int_equal(h->status, 200);
        assert_true(body_is(h, "hello"));
        assert_null(header_of(h, "\nConnection"));
        assert_non_null(header_of(h, "\nDate"));
        assert_string_equal(header_of(h, "\nX-Request-Id"), rig.last_id);
        assert_int_equal(strlen(rig.last_id), 24);
        if (i == 0) memcpy(first_id, rig.last_id, sizeof first_id);
        else assert_string_not_equal(first_id, rig.last_id);
    }
    assert_int_equal(stats().accepted, 1);
    assert_int_equal(stats().idle, 1);
    WAIT_FOR(rig.answered == 5);
    assert_int_equal(rig.last_status, 200);
    say(&c, GET("/peer"));
    assert_true(body_is(hear(&c), "127.0.0.1"));
    say(&c, "GET /hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert_string_equal(header_of(hear(&c), "\nConnection"), "close");
    expect_end(&c);
    hang_up(&c);
    WAIT_FOR(stats().closing == 0);
    stop();
}

static void http_1_0(void **state)
{
    struct client c;

    (void)state;
    start(usual_settings());
    c = dial();
    say(&c, "GET /hello HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert_string_equal(header_of(hear(&c), "\nConnection"), "keep-alive");
    say(&c, "GET /stream HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    struct heard *h = hear(&c); /* no chunks: the end is the connection's */
    assert_string_equal(header_of(h, "\nConnection"), "close");
    assert_null(header_of(h, "\nTransfer-Encoding"));
    assert_int_equal(h->n, STREAM_TOTAL);
    hang_up(&c);
    c = dial();
    say(&c, "GET /hello HTTP/1.0\r\n\r\n");
    assert_string_equal(header_of(hear(&c), "\nConnection"), "close");
    expect_end(&c);
    hang_up(&c);
    stop();
}

/* ---- pipelines ------------------------------------------------------------------------------- */

static void twenty_in_order(void **state)
{
    struct client c;
    char all[4096], number[32];
    int n = 0;

    (void)state;
    start(usual_settings());
    c = dial();
    for (int i = 0; i < 20; i++) /* some at once, some in another turn */
        n += snprintf(all + n, sizeof all - (size_t)n,
                      i % 3 == 1 ? "GET /hello?later HTTP/1.1\r\nHost: x\r\n\r\n"
                                 : "GET /query?%d HTTP/1.1\r\nHost: x\r\n\r\n",
                      i);
    say(&c, all);
    for (int i = 0; i < 20; i++) {
        struct heard *h = hear(&c);

        snprintf(number, sizeof number, "%d", i);
        assert_int_equal(h->status, 200);
        assert_true(body_is(h, i % 3 == 1 ? "hello" : number));
    }
    hang_up(&c);
    stop();
}

/* The depth of the stack in the handler may not depend on the number of requests. */
static void ten_thousand(void **state)
{
    enum { COUNT = 10000 };
    size_t each = strlen(GET("/hello")), sent = 0;
    char *all = malloc(COUNT * each);
    struct client c;

    (void)state;
    assert_non_null(all);
    start(usual_settings());
    for (size_t i = 0; i < COUNT; i++)
        memcpy(all + i * each, i % 100 == 7 ? GET("/later") : GET("/hello"), each);
    c = dial();
    for (int heard = 0; heard < COUNT; heard++) {
        while (sent < COUNT * each) {
            ssize_t n = send(c.fd, all + sent, COUNT * each - sent, MSG_DONTWAIT);

            if (n <= 0) break;
            sent += (size_t)n;
        }
        assert_int_equal(hear(&c)->status, 200);
    }
    assert_int_equal(rig.requests, COUNT);
    assert_true(rig.stack_top - rig.stack_bottom < 65536);
    hang_up(&c);
    free(all);
    stop();
}

static void cut_at_every_byte(void **state)
{
    static const char request[] =
        "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n\r\n"
        "hello there";
    struct client c;

    (void)state;
    start(usual_settings());
    c = dial();
    for (size_t cut = 1; cut < sizeof request - 1; cut++) {
        assert_true(say_bytes(&c, request, cut));
        for (int turns = 0; turns < 3; turns++) pump();
        say(&c, request + cut);
        struct heard *h = hear(&c);
        assert_int_equal(h->status, 200);
        assert_true(body_is(h, "hello there"));
    }
    assert_int_equal(stats().accepted, 1);
    hang_up(&c);
    stop();
}

/* ---- answers ---------------------------------------------------------------------------------- */

static void head_is_get_without_body(void **state)
{
    static const char *const paths[] = { "/hello", "/text", "/big", "/file" };
    struct client c;
    char request[256], length[64];

    (void)state;
    start(usual_settings());
    rig.file_fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    assert_true(rig.file_fd >= 0);
    c = dial();
    for (size_t i = 0; i < COUNT_OF(paths); i++) {
        snprintf(request, sizeof request,
                 "GET %s HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\n\r\n", paths[i]);
        say(&c, request);
        snprintf(length, sizeof length, "%s", header_of(hear(&c), "\nContent-Length"));
        snprintf(request, sizeof request,
                 "HEAD %s HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\n\r\n",
                 paths[i]);
        say(&c, request);
        say(&c, GET("/query?x"));
        assert_string_equal(header_of(hear_to(&c, true), "\nContent-Length"), length);
        assert_true(body_is(hear(&c), "x"));
    }
    say(&c, "HEAD /stream HTTP/1.1\r\nHost: x\r\n\r\n");
    say(&c, GET("/empty"));
    assert_int_equal(hear_to(&c, true)->status, 200);
    struct heard *h = hear(&c);
    assert_int_equal(h->status, 204);
    assert_null(header_of(h, "\nContent-"));
    assert_int_equal(rig.released, 2);
    hang_up(&c);
    stop();
}

static void not_modified(void **state)
{
    struct client c;
    char tag[128], request[512];

    (void)state;
    start(usual_settings());
    c = dial();
    say(&c, GET("/text"));
    struct heard *h = hear(&c);
    assert_int_equal(h->n, sizeof text_body + 4);
    assert_string_equal(header_of(h, "\nVary"), "Accept-Encoding");
    snprintf(tag, sizeof tag, "%s", header_of(h, "\nETag"));
    assert_memory_equal(tag, "W/\"", 3);
    static const char *const forms[] = { "%s", "\"a\", %s", "%s, \"b\"", "*" };
    for (size_t i = 0; i < COUNT_OF(forms); i++) {
        char list[256];

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        snprintf(list, sizeof list, forms[i], tag);
#pragma GCC diagnostic pop
        snprintf(request, sizeof request,
                 "GET /text HTTP/1.1\r\nHost: x\r\nIf-None-Match: %s\r\n\r\n", list);
        say(&c, request);
        h = hear(&c);
        assert_int_equal(h->status, 304);
        assert_string_equal(header_of(h, "\nETag"), tag);
        assert_string_equal(header_of(h, "\nVary"), "Accept-Encoding");
        assert_null(header_of(h, "\nContent-Length"));
        assert_null(header_of(h, "\nConnection"));
    }
    snprintf(request, sizeof request,
             "GET /text HTTP/1.1\r\nHost: x\r\nIf-None-Match: %s\r\n\r\n", tag + 2);
    say(&c, request); /* the comparison is weak */
    assert_int_equal(hear(&c)->status, 304);
    say(&c, "GET /text HTTP/1.1\r\nHost: x\r\nIf-None-Match: W/\"0-0\"\r\n\r\n");
    assert_int_equal(hear(&c)->status, 200);
    text_body[100]++;
    snprintf(request, sizeof request,
             "GET /text HTTP/1.1\r\nHost: x\r\nIf-None-Match: %s\r\n\r\n", tag);
    say(&c, request);
    assert_int_equal(hear(&c)->status, 200);
    hang_up(&c);
    stop();
}

static void gzip_round_trip(void **state)
{
    static const struct {
        const char *accept;
        bool packed;
    } cases[] = { { "gzip", true },
                  { "deflate, gzip;q=0.5", true },
                  { "br;q=1.0, *;q=0.1", true },
                  { "GZIP ; Q=1.000", true },
                  { "identity;q=0.5, gzip", true },
                  { "*;q=0, gzip", true },
                  { "identity\r\nAccept-Encoding: gzip", true },
                  { "identity, gzip;q=0.999", false },
                  { "gzip;x=y;q=0", false },
                  { "gzip;q=2.", false },
                  { "gzip;q=", false },
                  { "*;q=0", false },
                  { "", false },
                  { "gzip;q=0", false },
                  { "gzip;q=0.000, *", false },
                  { "identity", false },
                  { "xgzip", false } };
    static unsigned char plain[BIG];
    struct client c;
    char request[512];

    (void)state;
    start(usual_settings());
    c = dial();
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        snprintf(request, sizeof request,
                 "GET /text HTTP/1.1\r\nHost: x\r\nAccept-Encoding: %s\r\n\r\n",
                 cases[i].accept);
        say(&c, request);
        struct heard *h = hear(&c);
        assert_string_equal(header_of(h, "\nVary"), "Accept-Encoding");
        if (!cases[i].packed) {
            assert_null(header_of(h, "\nContent-Encoding"));
            assert_int_equal(h->n, sizeof text_body + 4);
            continue;
        }
        z_stream z = { .next_in = (Bytef *)h->body,
                       .avail_in = (uInt)h->n,
                       .next_out = plain,
                       .avail_out = sizeof plain };
        assert_string_equal(header_of(h, "\nContent-Encoding"), "gzip");
        assert_true(h->n < sizeof text_body / 4);
        assert_int_equal(inflateInit2(&z, 31), Z_OK);
        assert_int_equal(inflate(&z, Z_FINISH), Z_STREAM_END);
        assert_int_equal(z.total_out, sizeof text_body + 4);
        assert_memory_equal(plain, "<<omade", 7);
        assert_memory_equal(plain + 2, text_body, sizeof text_body);
        inflateEnd(&z);
    }
    hang_up(&c);
    stop();
}

static void large_answers(void **state)
{
    struct client c, slow;

    (void)state;
    start(usual_settings());
    slow = dial();
    say(&slow, GET("/big"));
    c = dial();
    for (int i = 0; i < 3; i++) {
        say(&c, GET("/big"));
        struct heard *h = hear(&c);
        assert_int_equal(h->n, BIG);
        assert_memory_equal(h->body, big_body, BIG);
    }
    assert_true(rig.released >= 3); /* the slow one keeps its own */
    assert_memory_equal(hear(&slow)->body, big_body, BIG);
    WAIT_FOR(rig.released == 4);
    hang_up(&slow);
    slow = dial(); /* leaves in the middle of it */
    say(&slow, GET("/big"));
    WAIT_FOR(rig.requests == 5);
    slam(&slow);
    WAIT_FOR(rig.released == 5);
    WAIT_FOR(rig.answered == 5);
    assert_int_equal(rig.gone, 0);
    hang_up(&c);
    stop();
}

static void streamed_answer_waits(void **state)
{
    struct client c;

    (void)state;
    start(usual_settings());
    c = dial();
    say(&c, GET("/stream"));
    WAIT_FOR(rig.stalls == 1);
    for (int i = 0; i < 100; i++) pump();
    assert_int_equal(rig.stalls, 1); /* nothing is read, so nothing more is written */
    assert_int_equal(rig.drains, 0);
    struct exchange *x = rig.streaming->owner;
    assert_true(x->bytes < STREAM_TOTAL);
    struct heard *h = hear(&c);
    assert_int_equal(h->status, 200);
    assert_string_equal(header_of(h, "\nTransfer-Encoding"), "chunked");
    assert_int_equal(h->n, STREAM_TOTAL);
    for (size_t at = 0; at < h->n; at += STREAM_PIECE)
        assert_memory_equal(h->body + at, big_body, STREAM_PIECE);
    assert_true(rig.drains > 0);
    say(&c, GET("/hello"));
    assert_true(body_is(hear(&c), "hello"));
    hang_up(&c);
    stop();
}

/* ---- files -------------------------------------------------------------------------------------- */

static int make_file(size_t size)
{
    char path[] = "/tmp/omade-test-XXXXXX";
    int fd = mkstemp(path);

    assert_true(fd >= 0);
    unlink(path);
    for (size_t at = 0; at < size; at += BIG) {
        size_t n = size - at < BIG ? size - at : BIG;
        assert_int_equal(pwrite(fd, big_body, n, (off_t)at), n);
    }
    return fd;
}

static void file_answers(void **state)
{
    static const size_t sizes[] = { 0, 1, 65535, 65536, 65537, 5 * BIG + 17 };
    struct client c;

    (void)state;
    start(usual_settings());
    c = dial();
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        if (rig.file_fd >= 0) close(rig.file_fd);
        rig.file_fd = make_file(sizes[i]);
        say(&c, GET("/file"));
        struct heard *h = hear(&c);
        assert_int_equal(h->status, 200);
        assert_int_equal(h->n, sizes[i]);
        for (size_t at = 0; at < h->n; at += BIG)
            assert_memory_equal(h->body + at, big_body,
                                h->n - at < BIG ? h->n - at : BIG);
    }
    assert_int_equal(stats().accepted, 1);
    hang_up(&c);
    stop();
}

static void ask_file(struct client *c, const char *header, const char *value, int status)
{
    char request[512];

    snprintf(request, sizeof request, "GET /file HTTP/1.1\r\nHost: x\r\n%s: %s\r\n\r\n",
             header, value);
    say(c, request);
    assert_int_equal(hear(c)->status, status);
}

static void file_validators(void **state)
{
    struct timespec times[2] = { { 784111777, 0 }, { 784111777, 0 } };
    struct client c;
    char tag[128];

    (void)state;
    start(usual_settings());
    rig.file_fd = make_file(1000);
    assert_int_equal(futimens(rig.file_fd, times), 0);
    c = dial();
    say(&c, GET("/file"));
    struct heard *h = hear(&c);
    assert_string_equal(header_of(h, "\nLast-Modified"), "Sun, 06 Nov 1994 08:49:37 GMT");
    snprintf(tag, sizeof tag, "%s", header_of(h, "\nETag"));
    ask_file(&c, "If-None-Match", tag, 304);
    ask_file(&c, "If-None-Match", "\"other\"", 200);
    ask_file(&c, "If-Modified-Since", "Sun, 06 Nov 1994 08:49:37 GMT", 304);
    ask_file(&c, "If-Modified-Since", "Sun, 06 Nov 1994 08:49:36 GMT", 200);
    ask_file(&c, "If-Modified-Since", "Mon, 06 Nov 1994 08:49:38 GMT",
             200); /* no such day */
    ask_file(&c, "If-Modified-Since", "yesterday", 200);
    times[1].tv_nsec = 1000;
    assert_int_equal(futimens(rig.file_fd, times), 0);
    ask_file(&c, "If-None-Match", tag, 200);
    hang_up(&c);
    stop();
}

/* The length is promised: what cannot be kept is cut, never filled up. */
static void file_cut_short(void **state)
{
    struct client c;

    (void)state;
    start(usual_settings());
    rig.file_fd = make_file(4 * BIG);
    c = dial();
    say(&c, GET("/file"));
    WAIT_FOR(rig.requests == 1);
    assert_int_equal(ftruncate(rig.file_fd, 100), 0);
    assert_int_equal(hear(&c)->status, 0);
    hang_up(&c);
    WAIT_FOR(rig.answered == 1);
    assert_int_equal(rig.last_status, 0);
    stop();
}

/* ---- bodies -------------------------------------------------------------------------------------- */

static void chunked_request(void **state)
{
    struct client c;

    (void)state;
    start(usual_settings());
    c = dial();
    for (int i = 0; i < 3; i++) {
        say(&c, "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
                "5\r\nhello\r\n1\r\n \r\n5\r\nthere\r\n0\r\n\r\n");
        assert_true(body_is(hear(&c), "hello there"));
    }
    hang_up(&c);
    stop();
}

/* Sends 'total' bytes in chunks and compares what arrived. */
static void send_body(struct client *c, const char *path, size_t total)
{
    uint32_t sum = 0;
    char line[256];

    snprintf(line, sizeof line,
             "POST %s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", path);
    say(c, line);
    for (size_t at = 0, n; at < total; at += n) {
        n = total - at < 50000 ? total - at : 50000;
        snprintf(line, sizeof line, "%zx\r\n", n);
        say(c, line);
        assert_true(say_bytes(c, big_body, n));
        say(c, "\r\n");
        for (size_t i = 0; i < n; i++) sum = sum * 31 + (unsigned char)big_body[i];
    }
    say(c, "0\r\n\r\n");
    snprintf(line, sizeof line, "%zu %u", total, sum);
    struct heard *h = hear(c);
    assert_int_equal(h->status, 200);
    assert_true(body_is(h, line));
}

static void body_to_handler(void **state)
{
    struct client c;

    (void)state;
    start(usual_settings());
    c = dial();
    send_body(&c, "/to-handler", 0);
    send_body(&c, "/to-handler", 1);
    send_body(&c, "/to-handler", 3 * BIG);
    assert_int_equal(stats().accepted, 1);
    hang_up(&c);
    stop();
}

static void body_to_file(void **state)
{
    struct client c;

    (void)state;
    start(usual_settings());
    c = dial();
    send_body(&c, "/to-file", 0);
    send_body(&c, "/to-file", 1);
    send_body(&c, "/to-file", 6 * BIG);
    assert_int_equal(stats().accepted, 1);
    hang_up(&c);
    stop();
}

static void paused_body(void **state)
{
    size_t total = 8 * BIG, sent = 0;
    char line[128];
    struct client c;

    (void)state;
    start(usual_settings());
    c = dial();
    snprintf(line, sizeof line,
             "POST /pauses HTTP/1.1\r\nHost: x\r\nContent-Length: %zu\r\n\r\n", total);
    say(&c, line);
    for (int quiet = 0; quiet < 200; quiet++) { /* until the kernel's buffers are full */
        ssize_t n = send(c.fd, big_body, BIG, MSG_DONTWAIT);

        pump();
        if (n <= 0) continue;
        quiet = 0;
        sent += (size_t)n;
        assert_true(sent < total);
    }
    assert_true(rig.paused_once);
    struct exchange *x = LIST_ENTRY(rig.held.first, struct exchange, node);
    assert_true(x->bytes <= (size_t)rig.settings.read_buffer);
    request_pause(x->request, false);
    while (sent < total) {
        size_t n = total - sent < BIG ? total - sent : BIG;
        assert_true(say_bytes(&c, big_body, n));
        sent += n;
    }
    struct heard *h = hear(&c);
    assert_int_equal(h->status, 200);
    assert_int_equal(strtoul(h->body, NULL, 10), total);
    hang_up(&c);
    stop();
}

static void continues(void **state)
{
    struct client c;

    (void)state;
    start(usual_settings());
    c = dial();
    say(&c,
        "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    assert_int_equal(hear(&c)->status, 100);
    say(&c, "hello");
    assert_true(body_is(hear(&c), "hello"));
    say(&c, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5000000\r\n"
            "Expect: 100-continue\r\n\r\n");
    assert_int_equal(hear(&c)->status, 413); /* and nothing before it */
    expect_end(&c);
    hang_up(&c);
    stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_read_and_one_write),
        cmocka_unit_test(keep_alive),
        cmocka_unit_test(http_1_0),
        cmocka_unit_test(twenty_in_order),
        cmocka_unit_test(ten_thousand),
        cmocka_unit_test(cut_at_every_byte),
        cmocka_unit_test(head_is_get_without_body),
        cmocka_unit_test(not_modified),
        cmocka_unit_test(gzip_round_trip),
        cmocka_unit_test(large_answers),
        cmocka_unit_test(streamed_answer_waits),
        cmocka_unit_test(file_answers),
        cmocka_unit_test(file_validators),
        cmocka_unit_test(file_cut_short),
        cmocka_unit_test(chunked_request),
        cmocka_unit_test(body_to_handler),
        cmocka_unit_test(body_to_file),
        cmocka_unit_test(paused_body),
        cmocka_unit_test(continues),
    };

    if (cmocka_run_group_tests_name("reads of 64 KiB", tests, NULL, NULL) != 0) return 1;
    setenv("OMADE_TEST_READ_BUFFER", "16", 1);
    return cmocka_run_group_tests_name("reads of 16 bytes", tests, NULL, NULL);
}
