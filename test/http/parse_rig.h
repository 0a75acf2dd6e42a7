/* parse_rig.h -- feeds bytes to the parser, cut in any way, and puts what came out into
 * one text, so that two runs can be compared. */
#ifndef TEST_PARSE_RIG_H
#define TEST_PARSE_RIG_H

#include <inttypes.h>
#include <stdlib.h>

#include "http/parse.h"

struct rig {
    struct parse parse;
    struct request request;
    enum parse_result result; /* of the last feed */
    struct buf body;
    int64_t body_limit;
    size_t used;       /* bytes of the request, once it is done */
    size_t heads;      /* how often PARSE_HEAD came */
    const char *wrong; /* what broke the parser's contract */
};

static inline void rig_begin(struct rig *rig, int64_t body_limit)
{
    *rig = (struct rig){ .body_limit = body_limit };
    parse_begin(&rig->parse, &rig->request, NULL);
}

static inline void rig_end(struct rig *rig)
{
    parse_end(&rig->parse);
    arena_end(&rig->request.arena);
    buf_free(&rig->body);
}

static inline void rig_check_data(struct rig *rig, const char *piece, size_t n)
{
    struct slice data = rig->parse.data;

    if (data.n == 0 || data.p < piece || data.p + data.n > piece + n)
        rig->wrong = "data outside of the caller's buffer";
    buf_add_slice(&rig->body, data);
}

/* One piece, in a block of its very size, so that reading past its end is seen.  Returns
 * the bytes used of it. */
static inline size_t rig_feed(struct rig *rig, const char *bytes, size_t n)
{
    char *piece = malloc(n == 0 ? 1 : n);
    size_t at = 0;

    if (piece == NULL) abort();
    if (n > 0) memcpy(piece, bytes, n);
    do {
        size_t used = 0;

        rig->result = parse_feed(&rig->parse, piece + at, n - at, &used);
        if (used > n - at) rig->wrong = "more was used than given";
        if (rig->result == PARSE_MORE && used != n - at)
            rig->wrong = "more is wanted, but not all was used";
        if (rig->result == PARSE_DATA) rig_check_data(rig, piece + at, n - at);
        if (rig->result == PARSE_HEAD) {
            rig->heads++;
            rig->parse.body_limit = rig->body_limit;
        }
        at += used;
    } while (rig->result == PARSE_HEAD || rig->result == PARSE_DATA);
    rig->used += at;
    free(piece);
    return at;
}

/* Feeds all, cut behind 'first' bytes and then every 'step' bytes. */
static inline void rig_run(struct rig *rig, struct slice input, size_t first, size_t step)
{
    size_t at = 0, n = first < input.n ? first : input.n;

    do {
        rig_feed(rig, input.p + at, n);
        at += n;
        n = input.n - at < step ? input.n - at : step;
    } while (at < input.n && rig->result == PARSE_MORE);
}

static inline void rig_describe_request(struct rig *rig, struct buf *out)
{
    const struct request *r = &rig->request;

    buf_add_slice(out, method_name(r->method));
    BUF_ADD(out, " ");
    buf_add_slice(out, r->path);
    if (r->query.n > 0) BUF_ADD(out, "?");
    buf_add_slice(out, r->query);
    buf_addf(out, " 1.%d %s", r->minor, r->keep_alive ? "keep" : "close");
    if (r->host.n > 0) BUF_ADD(out, " host=");
    buf_add_slice(out, r->host);
    if (rig->parse.expect_continue) BUF_ADD(out, " expect");
    if (r->has_body) BUF_ADD(out, " body=");
    buf_add_slice(out, buf_slice(&rig->body));
    buf_addf(out, " length=%zu\n", rig->used);
    for (size_t i = 0; i < r->header_count; i++) {
        buf_add_slice(out, r->headers[i].name);
        BUF_ADD(out, "=");
        buf_add_slice(out, r->headers[i].value);
        BUF_ADD(out, "\n");
    }
}

/* "more", "400 BAD_REQUEST", or the request: its first line tells all but the headers. */
static inline void rig_describe(struct rig *rig, struct buf *out)
{
    switch (rig->result) {
    case PARSE_MORE: BUF_ADD(out, "more\n"); break;
    case PARSE_BAD:
        buf_addf(out, "%d %s\n", rig->parse.status, rig->parse.code);
        if (rig->parse.message == NULL) rig->wrong = "refused without a message";
        break;
    case PARSE_DONE:
        if (rig->heads != 1) rig->wrong = "PARSE_HEAD did not come once";
        if (rig->parse.head.n != 0) rig->wrong = "the head is kept behind the request";
        rig_describe_request(rig, out);
        break;
    case PARSE_HEAD:
    case PARSE_DATA: rig->wrong = "the feed ended in its middle";
    }
    if (rig->wrong != NULL) buf_addf(out, "WRONG: %s\n", rig->wrong);
}

/* What comes of the input when it is cut so; behind it nothing is left. */
static inline void rig_outcome(struct slice input, size_t first, size_t step,
                               int64_t body_limit, struct buf *out)
{
    struct rig rig;

    rig_begin(&rig, body_limit);
    rig_run(&rig, input, first, step);
    rig_describe(&rig, out);
    rig_end(&rig);
}

#endif
