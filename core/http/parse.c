#include "http/parse.h"

#include <assert.h>

#include "http/target.h"
#include "http/text.h"

_Static_assert(LLHTTP_STRICT_MODE == 1, "loose mode lets a bare CR end a header");

const struct parse_limits parse_default_limits = {
    .line_max = 8 * 1024,
    .head_max = 16 * 1024,
    .header_max = HEADERS_MAX,
    .chunk_extension_max = 1024,
    .trailer_max = 4 * 1024,
};

enum state { HEAD, BODY_PLAN, BODY_LENGTH, BODY_CHUNKED, COMPLETE, BROKEN };

static enum parse_result bad(struct parse *p, int status, const char *code,
                             const char *message)
{
    p->status = status;
    p->code = code;
    p->message = message;
    p->state = BROKEN;
    return PARSE_BAD;
}

static enum parse_result malformed(struct parse *p, const char *message)
{
    return bad(p, 400, "BAD_REQUEST", message);
}

/* ---- the head: rules that come before the grammar --------------------------------------- */

/* Limits hold for a line that is not complete, too.  The empty line counts nothing. */
static enum parse_result check_limits(struct parse *p, const char *head)
{
    const struct parse_scan *s = &p->scan;
    size_t length = s->at - s->line;

    if (s->lines == 0 && length > p->limits->line_max) {
        struct slice line = { head + s->line, length };

        p->request->method = method_of(text_until(&line, ' '));
        return bad(p, 414, "URI_TOO_LONG", "The request line is too long");
    }
    if (s->lines > 0 && length > 0 && s->at + 2 - s->headers > p->limits->head_max)
        return bad(p, 431, "HEADERS_TOO_LARGE", "The headers are too large");
    return PARSE_MORE;
}

static enum parse_result end_first_line(struct parse *p, struct slice line)
{
    struct parse_scan *s = &p->scan;
    struct slice target;
    struct fault fault;

    if (line.n == 0 && !s->skipped) { /* a courtesy of RFC 9112, 2.2 */
        s->skipped = true;
        s->begin = s->at;
        return PARSE_MORE;
    }
    fault = target_read_line(p->request, line, &target);
    if (fault.status != 0) return bad(p, fault.status, fault.code, fault.message);
    s->target_at = (size_t)(target.p - line.p);
    s->target_n = target.n;
    s->headers = s->at;
    s->lines = 1;
    return PARSE_MORE;
}

/* PARSE_HEAD behind the empty line. */
static enum parse_result end_line(struct parse *p, const char *head)
{
    struct parse_scan *s = &p->scan;
    struct slice line = { head + s->line, s->at - s->line };

    s->at += 2;
    s->line = s->at;
    if (s->lines == 0) return end_first_line(p, line);
    if (line.n == 0) return PARSE_HEAD;
    if (line.p[0] == ' ' || line.p[0] == '\t')
        return malformed(p, "A header line begins with a blank");
    if (s->lines++ > p->limits->header_max)
        return bad(p, 431, "HEADERS_TOO_LARGE", "There are too many headers");
    return PARSE_MORE;
}

/* Goes on where the last feed ended, strictly in the order of the bytes, so that the
 * outcome never depends on how they were cut. */
static enum parse_result scan(struct parse *p, const char *head, size_t n)
{
    struct parse_scan *s = &p->scan;
    enum parse_result result = PARSE_MORE;

    while (result == PARSE_MORE && s->at < n) {
        s->at += text_length(head + s->at, n - s->at);
        result = check_limits(p, head);
        if (result != PARSE_MORE || s->at == n) break;
        if (head[s->at] == '\n')
            return malformed(p, "A line of the head ends without CR");
        if (head[s->at] != '\r') return malformed(p, "The head holds control characters");
        if (s->at + 1 == n) break;
        if (head[s->at + 1] != '\n') return malformed(p, "The head holds a bare CR");
        result = end_line(p, head);
    }
    return result;
}

/* ---- llhttp --------------------------------------------------------------------------------- */

/* Trailers come through the same callbacks; they are dropped. */
static int on_header_field(llhttp_t *llhttp, const char *at, size_t n)
{
    struct parse *p = llhttp->data;

    if (p->state != HEAD) return HPE_OK;
    p->header_name = (struct slice){ at, n };
    return n == 0 ? HPE_USER : HPE_OK;
}

static int on_header_value(llhttp_t *llhttp, const char *at, size_t n)
{
    struct parse *p = llhttp->data;
    struct request *r = p->request;

    if (p->state != HEAD) return HPE_OK;
    if (r->header_count == p->scan.lines - 1) return HPE_USER; /* one a line, no more */
    r->headers[r->header_count++] =
        (struct header){ p->header_name, text_strip((struct slice){ at, n }) };
    return HPE_OK;
}

/* Upgrade is for routes to take, not for the parser. */
static int on_headers_complete(llhttp_t *llhttp)
{
    llhttp->upgrade = 0;
    return 0;
}

/* Behind the line in front of a chunk; the last one is empty. */
static int on_chunk(llhttp_t *llhttp)
{
    struct parse *p = llhttp->data;

    p->framing.data = llhttp->content_length > 0;
    p->framing.trailers = llhttp->content_length == 0;
    return HPE_OK;
}

/* Only a chunked body's end is not known beforehand. */
static int on_message_complete(llhttp_t *llhttp)
{
    struct parse *p = llhttp->data;

    return p->state == BODY_CHUNKED ? HPE_PAUSED : HPE_OK;
}

static const llhttp_settings_t callbacks = {
    .on_header_field = on_header_field,
    .on_header_value = on_header_value,
    .on_headers_complete = on_headers_complete,
    .on_chunk_header = on_chunk,
    .on_message_complete = on_message_complete,
};

/* ---- the head: what the headers say ---------------------------------------------------------- */

static bool has_word(struct slice list, struct slice word)
{
    while (list.n > 0)
        if (slice_equal_fold(text_strip(text_until(&list, ',')), word)) return true;
    return false;
}

/* 1 to 19 digits that fit. */
static bool read_length(struct slice value, int64_t *length)
{
    *length = 0;
    if (value.n == 0 || value.n > 19) return false;
    for (size_t i = 0; i < value.n; i++) {
        if (value.p[i] < '0' || value.p[i] > '9') return false;
        if (__builtin_mul_overflow(*length, (int64_t)10, length) ||
            __builtin_add_overflow(*length, (int64_t)(value.p[i] - '0'), length))
            return false;
    }
    return true;
}

/* What several headers say together. */
struct seen {
    int hosts, lengths, encodings;
    bool close, keep_alive, expect;
};

static enum parse_result read_header(struct parse *p, const struct header *h,
                                     struct seen *seen)
{
    struct request *r = p->request;

    switch (h->name.n) {
    case 4:
        if (!slice_equal_fold(h->name, SLICE("Host"))) break;
        seen->hosts++;
        r->host = h->value;
        break;
    case 6:
        if (!slice_equal_fold(h->name, SLICE("Expect"))) break;
        if (!slice_equal_fold(h->value, SLICE("100-continue")))
            return bad(p, 417, "EXPECTATION_FAILED", "Only 100-continue can be expected");
        seen->expect = true;
        break;
    case 10:
        if (!slice_equal_fold(h->name, SLICE("Connection"))) break;
        seen->close = seen->close || has_word(h->value, SLICE("close"));
        seen->keep_alive = seen->keep_alive || has_word(h->value, SLICE("keep-alive"));
        break;
    case 14:
        if (!slice_equal_fold(h->name, SLICE("Content-Length"))) break;
        seen->lengths++;
        if (!read_length(h->value, &p->content_length))
            return malformed(p, "Content-Length must be a number");
        break;
    case 17:
        if (!slice_equal_fold(h->name, SLICE("Transfer-Encoding"))) break;
        seen->encodings++;
        if (!slice_equal(h->value, SLICE("chunked")))
            return malformed(p, "Transfer-Encoding must be chunked");
        break;
    default: break;
    }
    return PARSE_DONE;
}

static enum parse_result read_headers(struct parse *p)
{
    struct request *r = p->request;
    struct seen seen = { 0 };

    for (size_t i = 0; i < r->header_count; i++) {
        enum parse_result result = read_header(p, &r->headers[i], &seen);

        if (result != PARSE_DONE) return result;
    }
    if (seen.hosts > 1 || (seen.hosts == 0 && r->minor == 1))
        return malformed(p, "There must be one Host header");
    if (seen.hosts == 1 && !target_is_host(r->host))
        return malformed(p, "The Host header is malformed");
    if (seen.lengths > 1) return malformed(p, "There are several Content-Length headers");
    if (seen.encodings > 1)
        return malformed(p, "There are several Transfer-Encoding headers");
    if (seen.encodings == 1 && (seen.lengths > 0 || r->minor == 0))
        return malformed(p, "Transfer-Encoding has no place here");
    if (seen.encodings == 1) p->content_length = -1;
    r->has_body = p->content_length != 0;
    p->expect_continue = seen.expect && r->minor == 1 && r->has_body;
    r->keep_alive = !seen.close && (r->minor == 1 || seen.keep_alive);
    return PARSE_DONE;
}

static enum parse_result no_memory(struct parse *p)
{
    return bad(p, 503, "UNAVAILABLE", "Not enough memory");
}

/* llhttp takes no tab behind a Content-Length, though RFC 9110 does. */
static void blank_tabs(char *head, size_t n)
{
    char *p = head, *end = head + n;

    while (p < end && (p = memchr(p, '\t', (size_t)(end - p))) != NULL) {
        char *tab = p;

        while (*p == ' ' || *p == '\t') p++; /* every line ends with CR LF */
        if (*p == '\r') memset(tab, ' ', (size_t)(p - tab));
    }
}

/* Copies the checked head to where the request's slices point, and reads it. */
static enum parse_result read_head(struct parse *p, const char *head, size_t n)
{
    struct request *r = p->request;
    struct slice copy = arena_copy(&r->arena, head, n);
    enum parse_result result;
    struct fault fault;

    r->headers = arena_get(&r->arena, (p->scan.lines - 1) * sizeof *r->headers);
    r->header_count = 0;
    if (copy.p == NULL || r->headers == NULL) return no_memory(p);
    blank_tabs((char *)(uintptr_t)copy.p, n);
    if (llhttp_execute(&p->llhttp, copy.p, n) != HPE_OK)
        return malformed(p, "The head is malformed");
    result = read_headers(p);
    if (result != PARSE_DONE) return result;
    fault =
        target_read(r, (struct slice){ copy.p + p->scan.target_at, p->scan.target_n });
    if (fault.status != 0) return bad(p, fault.status, fault.code, fault.message);
    p->state = BODY_PLAN;
    return PARSE_HEAD;
}

/* ---- collecting the head ------------------------------------------------------------------------ */

/* Keeps what a feed that did not complete the head has of it. */
static enum parse_result keep(struct parse *p, const char *bytes, size_t n)
{
    struct parse_scan *s = &p->scan;

    buf_add(&p->head, bytes + s->begin, n - s->begin);
    s->at -= s->begin;
    s->line -= s->begin;
    if (s->lines > 0) s->headers -= s->begin;
    s->begin = 0;
    return p->head.failed ? no_memory(p) : PARSE_MORE;
}

/* The common case: the whole head is in the caller's buffer. */
static enum parse_result feed_first(struct parse *p, const char *bytes, size_t n,
                                    size_t *used)
{
    const struct parse_scan *s = &p->scan;
    enum parse_result result = scan(p, bytes, n);

    *used = result == PARSE_HEAD ? s->at : n;
    if (result == PARSE_MORE) return keep(p, bytes, n);
    if (result != PARSE_HEAD) return result;
    return read_head(p, bytes + s->begin, s->at - s->begin);
}

static enum parse_result feed_more(struct parse *p, const char *bytes, size_t n,
                                   size_t *used)
{
    const struct parse_scan *s = &p->scan;
    size_t had = p->head.n, room = p->limits->line_max + p->limits->head_max + 8;
    enum parse_result result;

    /* More than 'room' bytes without an end are a fault that scan() finds in them. */
    buf_add(&p->head, bytes, n < room ? n : room);
    if (p->head.failed) return no_memory(p);
    result = scan(p, p->head.p, p->head.n);
    *used = result == PARSE_HEAD ? s->at - had : n;
    if (result != PARSE_HEAD) return result;
    result = read_head(p, p->head.p + s->begin, s->at - s->begin);
    buf_free(&p->head);
    return result;
}

/* ---- bodies ------------------------------------------------------------------------------------------ */

static enum parse_result too_large(struct parse *p)
{
    return bad(p, 413, "PAYLOAD_TOO_LARGE", "The body is too large");
}

static enum parse_result feed_length(struct parse *p, const char *bytes, size_t n,
                                     size_t *used)
{
    int64_t left = p->content_length - p->body_bytes;

    if (left == 0) {
        p->state = COMPLETE;
        return PARSE_DONE;
    }
    if (n == 0) return PARSE_MORE;
    *used = (int64_t)n < left ? n : (size_t)left;
    p->body_bytes += (int64_t)*used;
    p->data = (struct slice){ bytes, *used };
    return PARSE_DATA;
}

static enum parse_result check_trailers(struct parse *p, char c)
{
    struct parse_framing *f = &p->framing;

    if (f->last == '\n' && (c == ' ' || c == '\t' || c == ':'))
        return malformed(p, "A trailer has no name");
    /* The empty line counts nothing. */
    if (++f->trailer_bytes > p->limits->trailer_max + 2)
        return bad(p, 431, "HEADERS_TOO_LARGE", "The trailers are too large");
    return PARSE_MORE;
}

/* A size of up to 16 digits, and perhaps extensions, which are any text. */
static enum parse_result check_size(struct parse *p, char c)
{
    struct parse_framing *f = &p->framing;

    if (c == '\n') {
        f->extension = false;
        f->digits = 0;
    } else if (f->extension || c == ';') {
        f->extension = true;
        if (c != '\r' && ++f->extension_bytes > p->limits->chunk_extension_max)
            return malformed(p, "The chunk extensions are too large");
    } else if (c != '\r' && (text_hex(c) < 0 || ++f->digits > 16)) {
        return malformed(p, "A chunk's size is malformed");
    }
    return PARSE_MORE;
}

/* The rules for what stands around the data, before llhttp sees it: every CR is followed
 * by LF and every LF preceded by CR, and no other controls. */
static enum parse_result check_framing(struct parse *p, char c)
{
    struct parse_framing *f = &p->framing;
    enum parse_result result;

    if ((f->last == '\r') != (c == '\n') ||
        (text_is_control(c) && c != '\r' && c != '\n'))
        return malformed(p, "The lines of the chunks are malformed");
    result = f->trailers ? check_trailers(p, c) : check_size(p, c);
    f->last = c;
    return result;
}

static enum parse_result feed_framing(struct parse *p, const char *at)
{
    enum parse_result result = check_framing(p, *at);
    llhttp_errno_t error;

    if (result != PARSE_MORE) return result;
    /* llhttp 8.1 takes some extensions for parts of the size; it sees none of them. */
    if (p->framing.extension && *at != '\r') return PARSE_MORE;
    error = llhttp_execute(&p->llhttp, at, 1);
    if (error == HPE_PAUSED && *at == '\n') {
        p->state = COMPLETE;
        return PARSE_DONE;
    }
    if (error != HPE_OK) return malformed(p, "The chunks are malformed");
    if (p->framing.data &&
        (p->llhttp.content_length > INT64_MAX ||
         (int64_t)p->llhttp.content_length > p->body_limit - p->body_bytes))
        return too_large(p);
    return PARSE_MORE;
}

static enum parse_result feed_data(struct parse *p, const char *bytes, size_t n,
                                   size_t *used)
{
    uint64_t left = p->llhttp.content_length;
    size_t step = left < n ? (size_t)left : n;

    *used += step;
    if (llhttp_execute(&p->llhttp, bytes, step) != HPE_OK)
        return malformed(p, "The chunks are malformed");
    p->framing.data = p->llhttp.content_length > 0;
    p->body_bytes += (int64_t)step;
    p->data = (struct slice){ bytes, step };
    return PARSE_DATA;
}

/* Framing goes to llhttp byte by byte, data in one piece, so that each call sees either
 * the one or the other. */
static enum parse_result feed_chunked(struct parse *p, const char *bytes, size_t n,
                                      size_t *used)
{
    enum parse_result result = PARSE_MORE;

    while (result == PARSE_MORE && *used < n && !p->framing.data)
        result = feed_framing(p, bytes + (*used)++);
    if (result != PARSE_MORE || *used == n) return result;
    return feed_data(p, bytes + *used, n - *used, used);
}

static enum parse_result feed_body(struct parse *p, const char *bytes, size_t n,
                                   size_t *used)
{
    if (p->content_length > p->body_limit) return too_large(p);
    p->state = p->content_length < 0 ? BODY_CHUNKED : BODY_LENGTH;
    return parse_feed(p, bytes, n, used);
}

/* ---- the parser ------------------------------------------------------------------------------------------ */

void parse_begin(struct parse *p, struct request *request,
                 const struct parse_limits *limits)
{
    assert(p->head.n == 0);
    p->request = request;
    p->limits = limits == NULL ? &parse_default_limits : limits;
    p->body_limit = INT64_MAX;
    p->content_length = p->body_bytes = 0;
    p->expect_continue = false;
    p->data = (struct slice){ NULL, 0 };
    p->state = HEAD;
    p->scan = (struct parse_scan){ 0 };
    p->framing = (struct parse_framing){ 0 };
    llhttp_init(&p->llhttp, HTTP_REQUEST, &callbacks);
    p->llhttp.data = p;
}

enum parse_result parse_feed(struct parse *p, const char *bytes, size_t n, size_t *used)
{
    *used = 0;
    switch ((enum state)p->state) {
    case HEAD:
        if (n == 0) return PARSE_MORE;
        return p->head.n == 0 ? feed_first(p, bytes, n, used)
                              : feed_more(p, bytes, n, used);
    case BODY_PLAN: return feed_body(p, bytes, n, used);
    case BODY_LENGTH: return feed_length(p, bytes, n, used);
    case BODY_CHUNKED: return feed_chunked(p, bytes, n, used);
    case COMPLETE: return PARSE_DONE;
    case BROKEN: break;
    }
    return PARSE_BAD;
}

bool parse_started(const struct parse *p)
{
    return p->state != HEAD || p->head.n > p->scan.begin;
}

void parse_end(struct parse *p) { buf_free(&p->head); }
