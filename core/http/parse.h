/* parse.h -- bytes to requests: done, need more, or bad.  Pure.
 *
 * llhttp does the grammar; the rules above it (no bare CR or LF, no obs-fold, one
 * Host, one Transfer-Encoding, limits, targets) are ours, because strict mode alone
 * accepts too much.  After PARSE_BAD the connection closes: nothing resynchronises.
 *
 *   parse_begin(p, request, limits);
 *   for (;;) switch (parse_feed(p, bytes, n, &used)) ...      bytes += used, n -= used
 *
 *   PARSE_MORE   all bytes are used (n may be 0)
 *   PARSE_HEAD   once: the request's head is filled in; the caller decides about the
 *                body (p->body_limit) and feeds on, even with n == 0
 *   PARSE_DATA   p->data: decoded body bytes, in the caller's buffer; feed on
 *   PARSE_DONE   the request is complete; what is not used belongs to the next one
 *   PARSE_BAD    p->status, p->code, p->message: the answer; then close
 */
#ifndef HTTP_PARSE_H
#define HTTP_PARSE_H

#include <llhttp.h>

#include "http/message.h"

struct parse_limits {
    size_t line_max;            /* request line: 8 KiB, else 414 */
    size_t head_max;            /* all header lines: 16 KiB, else 431 */
    size_t header_max;          /* 100 lines (HEADERS_MAX), else 431 */
    size_t chunk_extension_max; /* 1 KiB in total */
    size_t trailer_max;         /* 4 KiB in total, dropped */
};

extern const struct parse_limits parse_default_limits;

enum parse_result { PARSE_MORE, PARSE_HEAD, PARSE_DATA, PARSE_DONE, PARSE_BAD };

struct parse {
    struct request *request;
    const struct parse_limits *limits;

    /* after PARSE_HEAD */
    int64_t body_limit;     /* the caller's; checked against Content-Length at the
                                     next feed, and while counting: 413 */
    int64_t content_length; /* -1 when chunked */
    bool expect_continue;   /* the client waits for 100 Continue */

    struct slice data; /* PARSE_DATA */

    int status; /* PARSE_BAD */
    const char *code, *message;

    /* its own */
    struct buf head; /* an incomplete head; empty between requests */
    llhttp_t llhttp;
    int state;
    int64_t body_bytes;
    size_t extension_bytes, trailer_bytes;
    struct slice header_name;
    char tail[2]; /* the last bytes of a chunked body's framing */
    bool skipped; /* an empty line in front of the request */
    bool in_data; /* inside of a chunk */
    bool message_complete;
};

/* Starts with the next request, whose arena takes the head's bytes. */
void parse_begin(struct parse *p, struct request *request,
                 const struct parse_limits *limits);

MUST_CHECK enum parse_result parse_feed(struct parse *p, const char *bytes, size_t n,
                                        size_t *used);

/* Whether a byte of the current request was seen. */
bool parse_started(const struct parse *p);

/* Frees what the parser holds; the request is the caller's. */
void parse_end(struct parse *p);

#endif
