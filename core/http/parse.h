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

/* How far the head was checked; the places count from its first byte. */
struct parse_scan {
    size_t begin;               /* of the request line: behind an empty line, perhaps */
    size_t at;                  /* all before it is checked */
    size_t line;                /* where the line at 'at' begins */
    size_t lines;               /* complete ones */
    size_t headers;             /* where the second line begins */
    size_t target_at, target_n; /* counted from 'begin' */
    bool skipped;               /* an empty line in front of the request */
};

/* Where a chunked body stands: inside of a chunk, or in the lines around the data. */
struct parse_framing {
    bool data;     /* inside of a chunk */
    bool trailers; /* behind the last chunk's line */
    bool extension;
    char last; /* the byte before */
    size_t digits, extension_bytes, trailer_bytes;
};

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
    int state;
    struct buf head; /* an incomplete head; empty between requests */
    struct parse_scan scan;
    struct parse_framing framing;
    llhttp_t llhttp;
    struct slice header_name;
    int64_t body_bytes;
};

/* Starts with the next request, whose arena takes the head's bytes. */
void parse_begin(struct parse *p, struct request *request,
                 const struct parse_limits *limits);

MUST_CHECK enum parse_result parse_feed(struct parse *p, const char *bytes, size_t n,
                                        size_t *used);

/* Whether a byte of the current request was seen; the empty line that may stand in front
 * of one is none. */
bool parse_started(const struct parse *p);

/* Frees what the parser holds; the request is the caller's. */
void parse_end(struct parse *p);

#endif
