/* Bytes to requests: every input is fed whole, byte by byte, and cut in two at every
 * place, and must come out the same. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "base/check.h"
#include "base/mem.h"
#include "http/parse_rig.h"

enum { BODY_LIMIT = 64 };

struct example {
    struct slice input;
    const char *outcome; /* the first line of it */
};

/* ---- every cut -------------------------------------------------------------------- */

static void assert_cut(struct slice input, size_t first, size_t step,
                       const char *expected)
{
    struct buf out = { 0 };

    rig_outcome(input, first, step, BODY_LIMIT, &out);
    buf_add_byte(&out, '\0');
    assert_false(out.failed);
    if (strcmp(out.p, expected) != 0) {
        print_message("input <<%.*s>> cut at %zu, then every %zu bytes\n",
                      (int)(input.n > 300 ? 300 : input.n), input.p, first, step);
        assert_string_equal(out.p, expected);
    }
    buf_free(&out);
}

/* The outcome of the whole input, once it is known that no cut changes it.  A prefix of a
 * good request is never one. */
static char *outcome_of(struct slice input)
{
    struct buf whole = { 0 };
    bool good;

    rig_outcome(input, input.n, 1, BODY_LIMIT, &whole);
    buf_add_byte(&whole, '\0');
    assert_false(whole.failed);
    good = strstr(whole.p, "length=") != NULL;
    assert_cut(input, 1, 1, whole.p);
    assert_cut(input, 3, 7, whole.p);
    for (size_t i = 0; i <= input.n; i += input.n < 2000 || i + 40 > input.n ? 1 : 37)
        assert_cut(input, i, input.n, whole.p);
    for (size_t i = 0; good && i < input.n && input.n < 2000; i++) {
        struct slice prefix = { input.p, i };
        size_t length = strtoul(strstr(whole.p, "length=") + 7, NULL, 10);

        if (i < length) assert_cut(prefix, i, 1, "more\n");
    }
    return whole.p;
}

static void assert_example(const struct example *example)
{
    char *outcome = outcome_of(example->input);
    size_t n = strlen(example->outcome);

    if (strncmp(outcome, example->outcome, n) != 0 || outcome[n] != '\n') {
        print_message("input <<%.*s>>\n", (int)example->input.n, example->input.p);
        assert_string_equal(outcome, example->outcome);
    }
    mem_free(outcome);
}

static void assert_examples(const struct example examples[], size_t n)
{
    long live = mem_live();

    for (size_t i = 0; i < n; i++) assert_example(&examples[i]);
    assert_int_equal(mem_live(), live);
}

/* ---- good ones -------------------------------------------------------------------------- */

#define H "Host: a\r\n"

static const struct example good[] = {
    { SLICE("GET / HTTP/1.1\r\n" H "\r\n"), "GET / 1.1 keep host=a" },
    { SLICE("HEAD /x HTTP/1.1\r\n" H "\r\n"), "HEAD /x 1.1 keep host=a" },
    { SLICE("PUT /x HTTP/1.1\r\n" H "\r\n"), "PUT /x 1.1 keep host=a" },
    { SLICE("PATCH /x HTTP/1.1\r\n" H "\r\n"), "PATCH /x 1.1 keep host=a" },
    { SLICE("DELETE /x HTTP/1.1\r\n" H "\r\n"), "DELETE /x 1.1 keep host=a" },
    { SLICE("TRACE /x HTTP/1.1\r\n" H "\r\n"), "TRACE /x 1.1 keep host=a" },
    { SLICE("OPTIONS * HTTP/1.1\r\n" H "\r\n"), "OPTIONS * 1.1 keep host=a" },
    { SLICE("OPTIONS /x HTTP/1.1\r\n" H "\r\n"), "OPTIONS /x 1.1 keep host=a" },
    { SLICE("GET / HTTP/1.0\r\n\r\n"), "GET / 1.0 close" },
    { SLICE("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"), "GET / 1.0 keep" },
    { SLICE("GET / HTTP/1.1\r\nConnection: x, Close\r\n" H "\r\n"),
      "GET / 1.1 close host=a" },
    { SLICE("GET / HTTP/1.1\r\nConnection: keep-alive, close\r\n" H "\r\n"),
      "GET / 1.1 close host=a" },
    /* one empty line in front */
    { SLICE("\r\nGET / HTTP/1.1\r\n" H "\r\n"), "GET / 1.1 keep host=a" },
    /* blanks around values, and none */
    { SLICE("GET / HTTP/1.1\r\nHost: \t a\t \r\n\r\n"), "GET / 1.1 keep host=a" },
    { SLICE("GET / HTTP/1.1\r\nHost:a\r\nX:\r\nY: \r\n\r\n"), "GET / 1.1 keep host=a" },
    { SLICE("POST / HTTP/1.1\r\n" H "Content-Length:\t2 \t\t\r\n\r\nok"),
      "POST / 1.1 keep host=a body=ok" },
    { SLICE("POST / HTTP/1.1\r\n" H "Transfer-Encoding:\tchunked\t\r\n\r\n0\r\n\r\n"),
      "POST / 1.1 keep host=a body=" },
    { SLICE("GET / HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n"),
      "GET / 1.1 keep host=[::1]:8080" },
    { SLICE("GET / HTTP/1.1\r\nhOST: a.example:80\r\n\r\n"),
      "GET / 1.1 keep host=a.example:80" },
    /* an upgrade is not for the parser */
    { SLICE("GET / HTTP/1.1\r\n" H "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"),
      "GET / 1.1 keep host=a" },
    { SLICE("POST / HTTP/1.1\r\n" H "Connection: Upgrade\r\nUpgrade: h2c\r\n"
            "Content-Length: 2\r\n\r\nok"),
      "POST / 1.1 keep host=a body=ok" },
    /* bodies by length */
    { SLICE("POST / HTTP/1.1\r\n" H "Content-Length: 5\r\n\r\nhello"),
      "POST / 1.1 keep host=a body=hello" },
    { SLICE("POST / HTTP/1.1\r\n" H "content-length:0005\r\n\r\nhello"),
      "POST / 1.1 keep host=a body=hello" },
    { SLICE("POST / HTTP/1.1\r\n" H "Content-Length: 0\r\n\r\n"),
      "POST / 1.1 keep host=a" },
    { SLICE("POST / HTTP/1.1\r\n" H "\r\n"), "POST / 1.1 keep host=a" },
    { SLICE("GET / HTTP/1.1\r\n" H "Content-Length: 2\r\n\r\nok"),
      "GET / 1.1 keep host=a body=ok" },
    { SLICE("POST / HTTP/1.0\r\nContent-Length: 2\r\n\r\nok"),
      "POST / 1.0 close body=ok" },
    /* a body may hold anything */
    { SLICE("POST / HTTP/1.1\r\n" H "Content-Length: 6\r\n\r\n\n\r\n\r\n "),
      "POST / 1.1 keep host=a body=\n\r\n\r\n " },
    /* expectations */
    { SLICE("POST / HTTP/1.1\r\n" H "Expect: 100-Continue\r\nContent-Length: 1\r\n\r\nx"),
      "POST / 1.1 keep host=a expect body=x" },
    { SLICE("POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx"),
      "POST / 1.0 close body=x" },
    /* chunks */
    { SLICE("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
      "POST / 1.1 keep host=a body=" },
    { SLICE("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n"
            "5\r\nhello\r\n00A\r\n, my world\r\n0\r\n\r\n"),
      "POST / 1.1 keep host=a body=hello, my world" },
    { SLICE("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n"
            "2;a=b;c; d=\";\";\r\nok\r\n0;x\r\nTrailer: 1\r\nHost: evil\r\n\r\n"),
      "POST / 1.1 keep host=a body=ok" },
};

static void good_requests(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(good); i++) {
        struct buf expected = { 0 };

        /* Each is one request, of which every byte is used. */
        buf_addf(&expected, "%s length=%zu%c", good[i].outcome, good[i].input.n, 0);
        assert_example(&(struct example){ good[i].input, expected.p });
        buf_free(&expected);
    }
    assert_int_equal(mem_live(), 0);
}

/* What follows a good request belongs to the next one. */
static void used_ends_with_the_request(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(good); i++) {
        struct buf longer = { 0 };
        char *outcome = outcome_of(good[i].input), *again;

        buf_add_slice(&longer, good[i].input);
        BUF_ADD(&longer, "\r\nGET /next HTTP/1.1\r\n\r\n\n\0");
        again = outcome_of(buf_slice(&longer));
        assert_string_equal(again, outcome);
        mem_free(again);
        mem_free(outcome);
        buf_free(&longer);
    }
}

static void headers_as_they_came(void **state)
{
    static const struct slice input =
        SLICE("GET /a%20b?q=1 HTTP/1.1\r\nHost: a\r\nX-One:  1 2\t3  \r\nx_two:\r\n"
              "Content_Length: 7\r\nX-One: again\r\nX-High: \xc3\xa9\xff\r\n\r\n");
    char *outcome = outcome_of(input);

    (void)state;
    assert_string_equal(outcome,
                        "GET /a b?q=1 1.1 keep host=a length=107\nHost=a\nX-One=1 2\t3\n"
                        "x_two=\nContent_Length=7\nX-One=again\nX-High=\xc3\xa9\xff\n");
    mem_free(outcome);
}

/* ---- bad ones ----------------------------------------------------------------------------- */

#define GET "GET / HTTP/1.1\r\n"
#define POST "POST / HTTP/1.1\r\nHost: a\r\n"
#define CHUNKED POST "Transfer-Encoding: chunked\r\n\r\n"
#define BAD "400 BAD_REQUEST"

static const struct example bad[] = {
    /* R1: the lines of the head */
    { SLICE("GET / HTTP/1.1\nHost: a\n\n"), BAD },
    { SLICE("GET / HTTP/1.1\n"), BAD },
    { SLICE("\nGET / HTTP/1.1\r\n" H "\r\n"), BAD },
    { SLICE("\r\n\r\nGET / HTTP/1.1\r\n" H "\r\n"), BAD },
    { SLICE("\r\n\nGET / HTTP/1.1\r\n" H "\r\n"), BAD },
    { SLICE("\rGET / HTTP/1.1\r\n" H "\r\n"), BAD },
    { SLICE(GET "Host: a\n\r\n"), BAD },
    { SLICE(GET "Host: a\r\n\n"), BAD },
    { SLICE(GET "Host: a\r\rX: b\r\n\r\n"), BAD },
    { SLICE(GET "Host: a\rX: b\r\n\r\n"), BAD },
    { SLICE(GET H "X: a\r\r\n\r\n"), BAD },
    { SLICE(GET H " folded\r\n\r\n"), BAD },
    { SLICE(GET H "\tfolded\r\n\r\n"), BAD },
    { SLICE(GET H "X: a\r\n b\r\n\r\n"), BAD },
    { SLICE(GET H "X: a\r\n\tb\r\n\r\n"), BAD },
    { SLICE(GET " Host: a\r\n\r\n"), BAD },
    { SLICE(GET H "X: a\x01\nY: b\r\n\r\n"), BAD },
    { SLICE(GET H "Transfer-Encoding:\r\n chunked\r\n\r\n"), BAD },
    { SLICE(GET H "X: a\0b\r\n\r\n"), BAD },
    { SLICE(GET H "X\0: a\r\n\r\n"), BAD },
    { SLICE("GET /\0 HTTP/1.1\r\n" H "\r\n"), BAD },
    { SLICE(GET H "X: a\x01\r\n\r\n"), BAD },
    { SLICE(GET H "X: \x1b[2J\r\n\r\n"), BAD },
    { SLICE(GET H "X: a\x7f\r\n\r\n"), BAD },
    { SLICE("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"), BAD },
    /* R2: the request line, at once */
    { SLICE("GET /\r\n"), BAD },
    { SLICE("GET\r\n"), BAD },
    { SLICE(" GET / HTTP/1.1\r\n"), BAD },
    { SLICE("GET  / HTTP/1.1\r\n"), BAD },
    { SLICE("GET /  HTTP/1.1\r\n"), BAD },
    { SLICE("GET  HTTP/1.1\r\n"), BAD },
    { SLICE("GET /a b HTTP/1.1\r\n"), BAD },
    { SLICE("GET\t/ HTTP/1.1\r\n"), BAD },
    { SLICE("GET /\tHTTP/1.1\r\n"), BAD },
    { SLICE("GET / HTTP/1.1 \r\n"), BAD },
    { SLICE("GET / http/1.1\r\n"), BAD },
    { SLICE("GET / HTTP/1\r\n"), BAD },
    { SLICE("GET / HTTP/1.\r\n"), BAD },
    { SLICE("GET / HTTP/1.11\r\n"), BAD },
    { SLICE("GET / HTTP/01.1\r\n"), BAD },
    { SLICE("GET / HTTP/a.b\r\n"), BAD },
    { SLICE("GET / HTTP/1,1\r\n"), BAD },
    { SLICE("GET / HTTPS/1.1\r\n"), BAD },
    { SLICE("GET / ICE/1.0\r\n"), BAD },
    { SLICE("G(T / HTTP/1.1\r\n"), BAD },
    { SLICE("G\xc3\xa9T / HTTP/1.1\r\n"), BAD },
    { SLICE("{\"json\": 1} / HTTP/1.1\r\n"), BAD },
    { SLICE("GET http:///x HTTP/1.0\r\n\r\n"), BAD },
    { SLICE("GET http://a/x HTTP/1.0\r\n\r\n"), BAD },
    /* R10, R11, R12 */
    { SLICE("GET / HTTP/2.0\r\n"), "505 HTTP_VERSION_NOT_SUPPORTED" },
    { SLICE("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), "505 HTTP_VERSION_NOT_SUPPORTED" },
    { SLICE("GET / HTTP/1.2\r\n"), "505 HTTP_VERSION_NOT_SUPPORTED" },
    { SLICE("GET / HTTP/0.9\r\n"), "505 HTTP_VERSION_NOT_SUPPORTED" },
    { SLICE("GET / HTTP/3.1\r\n"), "505 HTTP_VERSION_NOT_SUPPORTED" },
    { SLICE("BREW / HTTP/1.1\r\n" H "\r\n"), "501 NOT_IMPLEMENTED" },
    { SLICE("get / HTTP/1.1\r\n" H "\r\n"), "501 NOT_IMPLEMENTED" },
    { SLICE("PROPFIND / HTTP/1.1\r\n" H "\r\n"), "501 NOT_IMPLEMENTED" },
    { SLICE("GETX / HTTP/1.1\r\n" H "\r\n"), "501 NOT_IMPLEMENTED" },
    { SLICE("CONNECT a:443 HTTP/1.1\r\n" H "\r\n"), "405 METHOD_NOT_ALLOWED" },
    /* R3: Host */
    { SLICE(GET "\r\n"), BAD },
    { SLICE(GET H H "\r\n"), BAD },
    { SLICE(GET H "host: b\r\n\r\n"), BAD },
    { SLICE("GET / HTTP/1.0\r\n" H H "\r\n"), BAD },
    { SLICE(GET "Host_: a\r\n\r\n"), BAD },
    { SLICE(GET "Host:\r\n\r\n"), BAD },
    { SLICE(GET "Host: a b\r\n\r\n"), BAD },
    { SLICE(GET "Host: a,b/c\r\n\r\n"), BAD },
    { SLICE(GET "Host: u@a\r\n\r\n"), BAD },
    { SLICE(GET "Host: a:b\r\n\r\n"), BAD },
    { SLICE(GET "Host: a:123456\r\n\r\n"), BAD },
    { SLICE(GET "Host: a%zz\r\n\r\n"), BAD },
    { SLICE(GET "Host: a%4\r\n\r\n"), BAD },
    { SLICE(GET "Host: :80\r\n\r\n"), BAD },
    { SLICE(GET "Host: a:1:2\r\n\r\n"), BAD },
    { SLICE(GET "Host: [::1\r\n\r\n"), BAD },
    { SLICE(GET "Host: [::1]x\r\n\r\n"), BAD },
    { SLICE(GET "Host: []\r\n\r\n"), BAD },
    { SLICE(GET "Host: \xc3\xa9\r\n\r\n"), BAD },
    /* R13: header names */
    { SLICE(GET H ": a\r\n\r\n"), BAD },
    { SLICE(GET H "X : a\r\n\r\n"), BAD },
    { SLICE(GET H "X Y: a\r\n\r\n"), BAD },
    { SLICE(GET H "X\r\n\r\n"), BAD },
    { SLICE(GET H "X(: a\r\n\r\n"), BAD },
    { SLICE(GET H "X\xc3\xa9: a\r\n\r\n"), BAD },
    { SLICE(GET H "\"X\": a\r\n\r\n"), BAD },
    /* R5, R6: lengths and encodings */
    { SLICE(POST "Content-Length: 2\r\nContent-Length: 2\r\n\r\nok"), BAD },
    { SLICE(POST "Content-Length: 2\r\ncontent-length: 3\r\n\r\nok"), BAD },
    { SLICE(POST "Content-Length: 2, 2\r\n\r\nok"), BAD },
    { SLICE(POST "Content-Length:\r\n\r\n"), BAD },
    { SLICE(POST "Content-Length: +2\r\n\r\nok"), BAD },
    { SLICE(POST "Content-Length: -2\r\n\r\nok"), BAD },
    { SLICE(POST "Content-Length: 0x2\r\n\r\nok"), BAD },
    { SLICE(POST "Content-Length: 2 2\r\n\r\nok"), BAD },
    { SLICE(POST "Content-Length: 2a\r\n\r\nok"), BAD },
    { SLICE(POST "Content-Length : 2\r\n\r\nok"), BAD },
    { SLICE(POST "Content-Length: 9223372036854775808\r\n\r\n"), BAD },
    { SLICE(POST "Content-Length: 00000000000000000002\r\n\r\nok"), BAD },
    { SLICE(POST "Content-Length: 18446744073709551618\r\n\r\nok"), BAD },
    { SLICE(POST "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
      BAD },
    { SLICE(POST "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"),
      BAD },
    { SLICE(POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"),
      BAD },
    { SLICE(POST "Transfer-Encoding: identity\r\n\r\n"), BAD },
    { SLICE(POST "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"), BAD },
    { SLICE(POST "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"), BAD },
    { SLICE(POST "Transfer-Encoding: chunked,\r\n\r\n0\r\n\r\n"), BAD },
    { SLICE(POST "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"), BAD },
    { SLICE(POST "Transfer-Encoding: Chunked\r\n\r\n0\r\n\r\n"), BAD },
    { SLICE(POST "Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n"), BAD },
    { SLICE(POST "Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n"), BAD },
    { SLICE(POST "Transfer-Encoding:\r\n\r\n"), BAD },
    { SLICE(POST "Transfer-Encoding:\r\nContent-Length: 1\r\n\r\nx"), BAD },
    { SLICE("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), BAD },
    /* expectations */
    { SLICE(POST "Expect: 200-ok\r\n\r\n"), "417 EXPECTATION_FAILED" },
    { SLICE(POST "Expect: 100-continue, x\r\n\r\n"), "417 EXPECTATION_FAILED" },
    { SLICE("POST / HTTP/1.0\r\nExpect: x\r\n\r\n"), "417 EXPECTATION_FAILED" },
    /* R2, R8: chunks */
    { SLICE(CHUNKED "2;a=b;5\r\nok\r\n0;a=b;\r\nX\r\n\r\n"), BAD },
    { SLICE(CHUNKED "0\r\n\n"), BAD },
    { SLICE(CHUNKED "0\n\r\n"), BAD },
    { SLICE(CHUNKED "0\r\r\n"), BAD },
    { SLICE(CHUNKED "\r\n"), BAD },
    { SLICE(CHUNKED "2\nok\r\n0\r\n\r\n"), BAD },
    { SLICE(CHUNKED "2\r\nokX0\r\n\r\n"), BAD },
    { SLICE(CHUNKED "2\r\nok\n0\r\n\r\n"), BAD },
    { SLICE(CHUNKED "2\r\nok\r0\r\n\r\n"), BAD },
    { SLICE(CHUNKED "2\r\nok!\r\n0\r\n\r\n"), BAD },
    { SLICE(CHUNKED "2 \r\nok\r\n0\r\n\r\n"), BAD },
    { SLICE(CHUNKED " 2\r\nok\r\n0\r\n\r\n"), BAD },
    { SLICE(CHUNKED "0x2\r\nok\r\n0\r\n\r\n"), BAD },
    { SLICE(CHUNKED "-2\r\nok\r\n0\r\n\r\n"), BAD },
    { SLICE(CHUNKED "+2\r\nok\r\n0\r\n\r\n"), BAD },
    { SLICE(CHUNKED "2,\r\nok\r\n0\r\n\r\n"), BAD },
    { SLICE(CHUNKED "g\r\n"), BAD },
    { SLICE(CHUNKED ";a\r\n"), BAD },
    { SLICE(CHUNKED "10000000000000002\r\nok\r\n0\r\n\r\n"), BAD },
    { SLICE(CHUNKED "00000000000000002\r\nok\r\n0\r\n\r\n"), BAD },
    { SLICE(CHUNKED "2;a\0\r\nok\r\n0\r\n\r\n"), BAD },
    { SLICE(CHUNKED "2;a\x01\r\nok\r\n0\r\n\r\n"), BAD },
    { SLICE(CHUNKED "2;a\nok\r\n0\r\n\r\n"), BAD },
    { SLICE(CHUNKED "2;a\rb\r\nok\r\n0\r\n\r\n"), BAD },
    { SLICE(CHUNKED "ffffffffffffffff\r\n"), "413 PAYLOAD_TOO_LARGE" },
    { SLICE(CHUNKED "7fffffffffffffff\r\n"), "413 PAYLOAD_TOO_LARGE" },
    { SLICE(CHUNKED "1\r\nx\r\n7fffffffffffffff\r\n"), "413 PAYLOAD_TOO_LARGE" },
    /* R9: trailers */
    { SLICE(CHUNKED "0\r\nX: a\n\r\n"), BAD },
    { SLICE(CHUNKED "0\r\nX: a\r\n b\r\n\r\n"), BAD },
    { SLICE(CHUNKED "0\r\n X: a\r\n\r\n"), BAD },
    { SLICE(CHUNKED "0\r\nX: a\0\r\n\r\n"), BAD },
    { SLICE(CHUNKED "0\r\nX\r\n\r\n"), BAD },
    { SLICE(CHUNKED "0\r\n: a\r\n\r\n"), BAD },
    { SLICE(CHUNKED "0\r\nX : a\r\n\r\n"), BAD },
    { SLICE(CHUNKED "0\r\nX: a\r\n\n"), BAD },
};

static void bad_requests(void **state)
{
    (void)state;
    assert_examples(bad, COUNT_OF(bad));
}

/* After a refusal every further feed says the same, and takes nothing. */
static void refused_for_good(void **state)
{
    struct rig rig;
    size_t used = 9;

    (void)state;
    rig_begin(&rig, BODY_LIMIT);
    rig_feed(&rig, "BREW / HTTP/1.1\r\n", 17);
    assert_int_equal(rig.result, PARSE_BAD);
    assert_int_equal(parse_feed(&rig.parse, "GET / HTTP/1.0\r\n\r\n", 18, &used),
                     PARSE_BAD);
    assert_int_equal(used, 0);
    assert_int_equal(rig.parse.status, 501);
    rig_end(&rig);
}

/* ---- targets --------------------------------------------------------------------------------- */

struct target {
    const char *sent, *outcome;
};

static const struct target targets[] = {
    /* paths are decoded once, dot segments are resolved, empty segments stay */
    { "/a/b", "/a/b" },
    { "/a%2Db", "/a-b" },
    { "/a%252Fb", "/a%2Fb" },
    { "/%c3%a9", "/\xc3\xa9" },
    { "/a+b", "/a+b" },
    { "/a%3Fb?c", "/a?b?c" },
    { "/a?", "/a" },
    { "/a?b?c=%zz&d", "/a?b?c=%zz&d" },
    { "/?..", "/?.." },
    { "//", "//" },
    { "//a/b", "//a/b" },
    { "/a//b", "/a//b" },
    { "/a//../b", "/a/b" },
    { "/./a", "/a" },
    { "/a/./b", "/a/b" },
    { "/a/.", "/a/" },
    { "/a/..", "/" },
    { "/a/../b", "/b" },
    { "/a/b/..", "/a/" },
    { "/a/b/../../c", "/c" },
    { "/a/%2e%2E/b", "/b" },
    { "/a/.%2e/b", "/b" },
    { "/a/%2e/b", "/a/b" },
    { "/.well-known/x", "/.well-known/x" },
    { "/...", "/..." },
    { "/..a/.b/c..", "/..a/.b/c.." },
    { "/a%09b", "/a\tb" },
    /* absolute form, of the Host header */
    { "http://a.example/x?y", "/x?y" },
    { "HTTP://A.Example/x/../y", "/y" },
    { "https://a.example/", "/" },
    { "http://a.example", "/" },
    { "http://a.example/http://b", "/http://b" },
    /* refused */
    { "http://b.example/", BAD },
    { "http://a.example:80/", BAD },
    { "http://u@a.example/", BAD },
    { "http://a.example?x", "/?x" },
    { "http://", BAD },
    { "http:///x", BAD },
    { "ftp://a.example/", BAD },
    { "a.example:80", BAD },
    { "a", BAD },
    { "?x", BAD },
    { "*", BAD },
    { "*/", BAD },
    { "/..", BAD },
    { "/../", BAD },
    { "/a/../..", BAD },
    { "/a/../../b", BAD },
    { "/%2e%2e/etc/passwd", BAD },
    { "/.%2E/a", BAD },
    { "/./../a", BAD },
    { "/a%2fb", BAD },
    { "/..%2fb", BAD },
    { "/a%00b", BAD },
    { "/a%", BAD },
    { "/a%1", BAD },
    { "/a%g0", BAD },
    { "/a%0g", BAD },
    { "/a%%41", BAD },
    { "/%ff", BAD },
    { "/%c0%af", BAD },
    { "/%ed%a0%80", BAD },
    { "/%c3/%a9", BAD },
    { "/\xc3\xa9", BAD },
    { "/a#b", BAD },
    { "/a?b#c", BAD },
    { "/a\\b", BAD },
    { "\\a", BAD },
};

static void request_targets(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(targets); i++) {
        const struct target *t = &targets[i];
        struct buf input = { 0 }, expected = { 0 };

        buf_addf(&input, "GET %s HTTP/1.1\r\nHost: a.example\r\n\r\n", t->sent);
        if (t->outcome[0] == '/')
            buf_addf(&expected, "GET %s 1.1 keep host=a.example length=%zu", t->outcome,
                     input.n);
        else buf_add_text(&expected, t->outcome);
        buf_add_byte(&expected, '\0');
        assert_example(&(struct example){ buf_slice(&input), expected.p });
        buf_free(&input);
        buf_free(&expected);
    }
    assert_int_equal(mem_live(), 0);
}

/* What the request shows of its target. */
static void target_as_sent(void **state)
{
    static const struct slice input =
        SLICE("GET http://a/x%20y/../z?q=%20 HTTP/1.1\r\nHost: a\r\n\r\n");
    struct rig rig;

    (void)state;
    rig_begin(&rig, BODY_LIMIT);
    rig_run(&rig, input, input.n, 1);
    assert_int_equal(rig.result, PARSE_DONE);
    assert_true(slice_equal(rig.request.target, SLICE("/x%20y/../z?q=%20")));
    assert_true(slice_equal(rig.request.path, SLICE("/z")));
    assert_true(slice_equal(rig.request.query, SLICE("q=%20")));
    rig_end(&rig);
}

/* ---- limits -------------------------------------------------------------------------------------- */

static void add_many(struct buf *b, char byte, size_t n)
{
    while (n-- > 0) buf_add_byte(b, byte);
}

/* Whether an outcome begins so; frees the input. */
static void assert_begins(struct buf *input, const char *expected)
{
    char *outcome = outcome_of(buf_slice(input));

    if (strncmp(outcome, expected, strlen(expected)) != 0)
        assert_string_equal(outcome, expected);
    mem_free(outcome);
    buf_free(input);
}

/* A request line of n bytes; 'rest' follows it. */
static struct buf with_line(size_t n, const char *rest)
{
    struct buf b = { 0 };

    BUF_ADD(&b, "GET /");
    add_many(&b, 'x', n - 14);
    buf_addf(&b, " HTTP/1.1%s", rest);
    return b;
}

static void request_line_limit(void **state)
{
    struct buf b;

    (void)state;
    b = with_line(8191, "\r\n" H "\r\n");
    assert_begins(&b, "GET /xxx");
    b = with_line(8192, "\r\n" H "\r\n");
    assert_begins(&b, "GET /xxx");
    b = with_line(8193, "\r\n" H "\r\n");
    assert_begins(&b, "414 URI_TOO_LONG");
    b = with_line(8192, "");
    assert_begins(&b, "more");
    b = with_line(8193, ""); /* at once, without its end */
    assert_begins(&b, "414 URI_TOO_LONG");
    b = with_line(9500, "\n\nX\0");
    assert_begins(&b, "414 URI_TOO_LONG");
    b = with_line(60000, "\r\n" H "\r\n");
    assert_begins(&b, "414 URI_TOO_LONG");
}

/* Header lines of n bytes in all. */
static struct buf with_headers(size_t n, const char *rest)
{
    struct buf b = { 0 };

    BUF_ADD(&b, "GET / HTTP/1.1\r\n" H "X: ");
    add_many(&b, 'x', n - 9 - 3 - 2);
    buf_add_text(&b, rest);
    return b;
}

static void header_bytes_limit(void **state)
{
    struct buf b;

    (void)state;
    b = with_headers(16383, "\r\n\r\n");
    assert_begins(&b, "GET / ");
    b = with_headers(16384, "\r\n\r\n");
    assert_begins(&b, "GET / ");
    b = with_headers(16385, "\r\n\r\n");
    assert_begins(&b, "431 HEADERS_TOO_LARGE");
    b = with_headers(16384, "");
    assert_begins(&b, "more");
    b = with_headers(16384, "\r\nY");
    assert_begins(&b, "431 HEADERS_TOO_LARGE");
    b = with_headers(16385, "");
    assert_begins(&b, "431 HEADERS_TOO_LARGE");
    b = with_headers(100000, "\r\n\r\n");
    assert_begins(&b, "431 HEADERS_TOO_LARGE");
}

/* The largest request line and the largest headers together, and one byte each less. */
static void both_limits(void **state)
{
    struct buf b = with_line(8192, "\r\n" H "X: ");

    (void)state;
    add_many(&b, 'x', 16384 - 9 - 3 - 2);
    BUF_ADD(&b, "\r\n\r\n");
    assert_begins(&b, "GET /xxx");
}

static void header_count_limit(void **state)
{
    (void)state;
    for (int count = 99; count <= 101; count++) {
        struct buf b = { 0 };

        BUF_ADD(&b, "GET / HTTP/1.1\r\n" H);
        for (int i = 1; i < count; i++) buf_addf(&b, "X-%d: %d\r\n", i, i);
        BUF_ADD(&b, "\r\n");
        assert_begins(&b, count > 100 ? "431 HEADERS_TOO_LARGE" : "GET / ");
    }
}

/* The extensions of all chunks together: a ';' and what follows it. */
static void chunk_extension_limit(void **state)
{
    (void)state;
    for (size_t n = 1023; n <= 1025; n++) {
        struct buf b = { 0 };

        BUF_ADD(&b, CHUNKED "1;");
        add_many(&b, 'x', 499);
        BUF_ADD(&b, "\r\ny\r\n1;");
        add_many(&b, 'x', n - 501);
        BUF_ADD(&b, "\r\nz\r\n0\r\n\r\n");
        assert_begins(&b, n > 1024 ? BAD : "POST / 1.1 keep host=a body=yz length=");
    }
}

static void trailer_limit(void **state)
{
    (void)state;
    for (size_t n = 4095; n <= 4097; n++) {
        struct buf b = { 0 };

        BUF_ADD(&b, CHUNKED "0\r\nX: 1\r\nY: ");
        add_many(&b, 'x', n - 6 - 5);
        BUF_ADD(&b, "\r\n\r\n");
        assert_begins(&b, n > 4096 ? "431 HEADERS_TOO_LARGE" : "POST / ");
    }
}

static void body_limit(void **state)
{
    (void)state;
    for (size_t n = BODY_LIMIT - 1; n <= BODY_LIMIT + 1; n++) {
        const char *expected = n > BODY_LIMIT ? "413 PAYLOAD_TOO_LARGE" : "POST / ";
        struct buf b = { 0 };

        buf_addf(&b, POST "Content-Length: %zu\r\n\r\n", n);
        add_many(&b, 'x', n);
        assert_begins(&b, expected);
        buf_addf(&b, CHUNKED "%zx\r\n", n);
        add_many(&b, 'x', n);
        BUF_ADD(&b, "\r\n0\r\n\r\n");
        assert_begins(&b, expected);
        BUF_ADD(&b, CHUNKED);
        for (size_t i = 0; i < n; i++) BUF_ADD(&b, "1\r\nx\r\n");
        BUF_ADD(&b, "0\r\n\r\n");
        assert_begins(&b, expected);
        buf_addf(&b, POST "Content-Length: %zu\r\n\r\n", n); /* before any of it came */
        assert_begins(&b, n > BODY_LIMIT ? expected : "more");
        buf_addf(&b, CHUNKED "%zx\r\n", n);
        assert_begins(&b, n > BODY_LIMIT ? expected : "more");
    }
}

/* A feed of nothing is enough to refuse what the head announces. */
static void refused_before_the_body(void **state)
{
    static const struct slice input = SLICE(POST "Content-Length: 65\r\n\r\n");
    struct rig rig;
    size_t used;

    (void)state;
    rig_begin(&rig, BODY_LIMIT);
    assert_int_equal(parse_feed(&rig.parse, input.p, input.n, &used), PARSE_HEAD);
    assert_int_equal(used, input.n);
    assert_int_equal(rig.parse.content_length, 65);
    assert_true(rig.request.has_body);
    rig.parse.body_limit = BODY_LIMIT;
    assert_int_equal(parse_feed(&rig.parse, NULL, 0, &used), PARSE_BAD);
    assert_int_equal(rig.parse.status, 413);
    rig_end(&rig);
}

/* Other limits than the usual ones are kept, too. */
static void given_limits(void **state)
{
    static const struct parse_limits small = { 16, 32, 2, 4, 8 };
    static const struct example examples[] = {
        { SLICE("GET /23 HTTP/1.1\r\n" H "\r\n"), "GET" },
        { SLICE("GET /234 HTTP/1.1\r\n" H "\r\n"), "414" },
        { SLICE("GET / HTTP/1.1\r\n" H "X: 3456789012345678901\r\n\r\n"), "431" },
        { SLICE("GET / HTTP/1.1\r\n" H "X:\r\nY:\r\n\r\n"), "431" },
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(examples); i++) {
        struct buf out = { 0 };
        struct rig rig = { .body_limit = BODY_LIMIT };

        parse_begin(&rig.parse, &rig.request, &small);
        rig_run(&rig, examples[i].input, 1, 1);
        rig_describe(&rig, &out);
        assert_memory_equal(out.p, examples[i].outcome, 3);
        rig_end(&rig);
        buf_free(&out);
    }
}

/* ---- more than one request ------------------------------------------------------------------------ */

/* Parses all that is there, cut in two, and describes each request. */
static void pipeline(struct slice input, size_t cut, struct buf *out)
{
    struct slice pieces[2] = { { input.p, cut }, { input.p + cut, input.n - cut } };
    struct rig rig;

    rig_begin(&rig, BODY_LIMIT);
    for (int i = 0; i < 2; i++) {
        struct slice rest = pieces[i];

        while (rest.n > 0 && rig.result != PARSE_BAD) {
            size_t used = rig_feed(&rig, rest.p, rest.n);

            rest.p += used;
            rest.n -= used;
            if (rig.result != PARSE_DONE) continue;
            rig_describe(&rig, out);
            rig_end(&rig);
            rig_begin(&rig, BODY_LIMIT);
        }
    }
    rig_describe(&rig, out);
    rig_end(&rig);
}

static void pipelining(void **state)
{
    static const struct slice input =
        SLICE("POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\none"
              "GET /2 HTTP/1.0\r\n\r\n\r\n"
              "POST /3 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
              "5\r\nthree\r\n0\r\nX: y\r\n\r\n"
              "GET /4 HTTP/1.1\r\nHost: a\r\n\r\n"
              "BREW /5 HTTP/1.1\r\n");
    static const char expected[] =
        "POST /1 1.1 keep host=a body=one length=51\nHost=a\nContent-Length=3\n"
        "GET /2 1.0 close length=19\n"
        "POST /3 1.1 keep host=a body=three length=80\nHost=a\n"
        "Transfer-Encoding=chunked\n"
        "GET /4 1.1 keep host=a length=28\nHost=a\n"
        "501 NOT_IMPLEMENTED\n";

    (void)state;
    for (size_t cut = 0; cut <= input.n; cut++) {
        struct buf out = { 0 };

        pipeline(input, cut, &out);
        buf_add_byte(&out, '\0');
        assert_string_equal(out.p, expected);
        buf_free(&out);
    }
    assert_int_equal(mem_live(), 0);
}

static void started(void **state)
{
    struct rig rig;

    (void)state;
    rig_begin(&rig, BODY_LIMIT);
    assert_false(parse_started(&rig.parse));
    rig_feed(&rig, "\r\n", 2); /* left behind by a careless client */
    assert_false(parse_started(&rig.parse));
    rig_feed(&rig, "G", 1);
    assert_true(parse_started(&rig.parse));
    rig_feed(&rig, "ET / HTTP/1.0\r\n\r\n", 17);
    assert_int_equal(rig.result, PARSE_DONE);
    assert_true(parse_started(&rig.parse));
    rig_end(&rig);
    rig_begin(&rig, BODY_LIMIT);
    rig_feed(&rig, "\r", 1);
    rig_feed(&rig, "\n", 1);
    assert_false(parse_started(&rig.parse));
    rig_end(&rig);
}

/* ---- no memory --------------------------------------------------------------------------------------- */

/* Fails each allocation in turn: the right answer, or 503. */
static void fail_each(struct slice input, size_t step)
{
    long live = mem_live();
    bool failed = true;

    for (long n = 0; failed; n++) {
        struct rig rig;

        rig_begin(&rig, BODY_LIMIT);
        mem_fail_after(n);
        rig_run(&rig, input, step, step);
        failed = mem_failed();
        mem_fail_after(-1);
        if (rig.result == PARSE_BAD) {
            assert_true(failed);
            assert_int_equal(rig.parse.status, 503);
            assert_string_equal(rig.parse.code, "UNAVAILABLE");
        } else {
            assert_int_equal(rig.result, PARSE_DONE);
        }
        assert_null(rig.wrong);
        rig_end(&rig);
        assert_int_equal(mem_live(), live);
        assert_true(n < 100);
    }
}

static void out_of_memory(void **state)
{
    static const struct slice input =
        SLICE("POST /a%20b/../c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
              "5\r\nthree\r\n0\r\nX: y\r\n\r\n");
    struct buf large = with_line(8000, "\r\n" H "X: ");

    (void)state;
    add_many(&large, 'x', 16000);
    BUF_ADD(&large, "\r\n\r\n");
    fail_each(input, input.n);
    fail_each(input, 1);
    fail_each(buf_slice(&large), large.n);
    fail_each(buf_slice(&large), 100);
    buf_free(&large);
    assert_int_equal(mem_live(), 0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_requests),
        cmocka_unit_test(used_ends_with_the_request),
        cmocka_unit_test(headers_as_they_came),
        cmocka_unit_test(bad_requests),
        cmocka_unit_test(refused_for_good),
        cmocka_unit_test(request_targets),
        cmocka_unit_test(target_as_sent),
        cmocka_unit_test(request_line_limit),
        cmocka_unit_test(header_bytes_limit),
        cmocka_unit_test(both_limits),
        cmocka_unit_test(header_count_limit),
        cmocka_unit_test(chunk_extension_limit),
        cmocka_unit_test(trailer_limit),
        cmocka_unit_test(body_limit),
        cmocka_unit_test(refused_before_the_body),
        cmocka_unit_test(given_limits),
        cmocka_unit_test(pipelining),
        cmocka_unit_test(started),
        cmocka_unit_test(out_of_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
