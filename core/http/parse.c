#include "http/parse.h"

#include <assert.h>

#include "http/target.h"

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

/* Every CR is followed by LF and every LF preceded by CR, no NUL. */
static const char *check_lines(const char *p, size_t n)
{
    if (memchr(p, '\0', n) != NULL) return "The head holds a NUL";
    for (const char *lf = p, *end = p + n;
         (lf = memchr(lf, '\n', (size_t)(end - lf))) != NULL; lf++)
        if (lf == p || lf[-1] != '\r') return "A line of the head ends without CR";
    for (const char *cr = p, *end = p + n;
         (cr = memchr(cr, '\r', (size_t)(end - cr))) != NULL; cr++)
        if (cr + 1 < end && cr[1] != '\n') return "The head holds a bare CR";
    return NULL;
}

/* Limits that hold for an unfinished head, too. */
static enum parse_result check_limits(struct parse *p, const char *head, size_t n)
{
    const char *lf = memchr(head, '\n', n);
    size_t line = lf == NULL ? n : (size_t)(lf - head) + 1, lines = 0;

    if (line > p->limits->line_max + 2)
        return bad(p, 414, "URI_TOO_LONG", "The request line is longer than 8 KiB");
    if (n - line > p->limits->head_max)
        return bad(p, 431, "HEADERS_TOO_LARGE", "The headers are larger than 16 KiB");
    for (const char *at = lf; at != NULL;
         at = memchr(at + 1, '\n', n - (size_t)(at + 1 - head)))
        lines++;
    if (lines > p->limits->header_max + 2)
        return bad(p, 431, "HEADERS_TOO_LARGE", "There are more than 100 headers");
    return PARSE_DONE;
}

/* METHOD SP target SP HTTP/1.x, single blanks. */
static enum parse_result read_line(struct parse *p, const char *line, size_t n,
                                   struct slice *target)
{
    struct request *r = p->request;
    const char *first = memchr(line, ' ', n), *last;
    struct slice method, version;

    if (first == NULL || first == line)
        return malformed(p, "The request line is malformed");
    last = memrchr(line, ' ', n);
    method = (struct slice){ line, (size_t)(first - line) };
    *target = (struct slice){ first + 1, last == first ? 0 : (size_t)(last - first) - 1 };
    version = (struct slice){ last + 1, n - (size_t)(last - line) - 1 };
    if (last == first || target->n == 0 || memchr(target->p, ' ', target->n) != NULL)
        return malformed(p, "The request line is malformed");
    for (size_t i = 0; i < method.n; i++)
        if (memchr("!#$%&'*+-.^_`|~", method.p[i], 15) == NULL &&
            !(method.p[i] >= '0' && method.p[i] <= '9') &&
            !((method.p[i] | 0x20) >= 'a' && (method.p[i] | 0x20) <= 'z'))
            return malformed(p, "The method is malformed");
    if (version.n != 8 || memcmp(version.p, "HTTP/", 5) != 0 || version.p[6] != '.' ||
        version.p[5] < '0' || version.p[5] > '9' || version.p[7] < '0' ||
        version.p[7] > '9')
        return malformed(p, "The HTTP version is malformed");
    if (version.p[5] != '1' || version.p[7] > '1')
        return bad(p, 505, "HTTP_VERSION_NOT_SUPPORTED",
                   "HTTP/1.0 and HTTP/1.1 are spoken here");
    r->minor = version.p[7] - '0';
    r->method = method_of(method);
    if (r->method == METHOD_UNKNOWN)
        return bad(p, 501, "NOT_IMPLEMENTED", "The method is not known");
    if (r->method == METHOD_CONNECT)
        return bad(p, 405, "METHOD_NOT_ALLOWED", "This is no proxy");
    return PARSE_DONE;
}

/* ---- llhttp --------------------------------------------------------------------------------- */

static int on_header_field(llhttp_t *llhttp, const char *at, size_t n)
{
    struct parse *p = llhttp->data;

    if (p->state != HEAD) {
        p->trailer_bytes += n + 4;
        return p->trailer_bytes > p->limits->trailer_max ? HPE_USER : HPE_OK;
    }
    p->header_name = (struct slice){ at, n };
    return n == 0 ? HPE_USER : HPE_OK;
}

static int on_header_value(llhttp_t *llhttp, const char *at, size_t n)
{
    struct parse *p = llhttp->data;
    struct request *r = p->request;

    if (p->state != HEAD) {
        p->trailer_bytes += n;
        return p->trailer_bytes > p->limits->trailer_max ? HPE_USER : HPE_OK;
    }
    while (n > 0 && (at[n - 1] == ' ' || at[n - 1] == '\t')) n--;
    while (n > 0 && (*at == ' ' || *at == '\t')) at++, n--;
    r->headers[r->header_count++] = (struct header){ p->header_name, { at, n } };
    return HPE_OK;
}

/* Upgrade is for routes to take, not for the parser. */
static int on_headers_complete(llhttp_t *llhttp)
{
    llhttp->upgrade = 0;
    return 0;
}

static int on_extension(llhttp_t *llhttp, const char *at, size_t n)
{
    struct parse *p = llhttp->data;

    (void)at;
    p->extension_bytes += n + 1;
    return p->extension_bytes > p->limits->chunk_extension_max ? HPE_USER : HPE_OK;
}

static int on_chunk(llhttp_t *llhttp)
{
    struct parse *p = llhttp->data;

    p->in_data = llhttp->content_length > 0;
    return HPE_OK;
}

static int on_message_complete(llhttp_t *llhttp)
{
    struct parse *p = llhttp->data;

    p->message_complete = true;
    return p->state == BODY_CHUNKED ? HPE_PAUSED : HPE_OK;
}

static const llhttp_settings_t callbacks = {
    .on_header_field = on_header_field,
    .on_header_value = on_header_value,
    .on_headers_complete = on_headers_complete,
    .on_chunk_extension_name = on_extension,
    .on_chunk_extension_value = on_extension,
    .on_chunk_header = on_chunk,
    .on_message_complete = on_message_complete,
};

/* ---- the head: what the headers say ---------------------------------------------------------- */

static bool has_control(struct slice value)
{
    for (size_t i = 0; i < value.n; i++) {
        unsigned char c = (unsigned char)value.p[i];

        if ((c < ' ' && c != '\t') || c == 0x7f) return true;
    }
    return false;
}

static bool has_word(struct slice list, struct slice word)
{
    while (list.n > 0) {
        const char *comma = memchr(list.p, ',', list.n);
        size_t n = comma == NULL ? list.n : (size_t)(comma - list.p);
        struct slice item = { list.p, n };

        while (item.n > 0 && (*item.p == ' ' || *item.p == '\t')) item.p++, item.n--;
        while (item.n > 0 && (item.p[item.n - 1] == ' ' || item.p[item.n - 1] == '\t'))
            item.n--;
        if (slice_equal_fold(item, word)) return true;
        list.p += comma == NULL ? n : n + 1;
        list.n -= comma == NULL ? n : n + 1;
    }
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
    bool close, keep_alive;
};

static enum parse_result read_header(struct parse *p, const struct header *h,
                                     struct seen *seen)
{
    struct request *r = p->request;

    if (has_control(h->value)) return malformed(p, "A header holds control characters");
    switch (h->name.n) {
    case 4:
        if (!slice_equal_fold(h->name, SLICE("Host"))) break;
        seen->hosts++;
        r->host = h->value;
        break;
    case 6:
        if (!slice_equal_fold(h->name, SLICE("Expect")) || r->minor == 0) break;
        if (!slice_equal_fold(h->value, SLICE("100-continue")))
            return bad(p, 417, "EXPECTATION_FAILED", "Only 100-continue can be expected");
        p->expect_continue = true;
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
        if (!slice_equal_fold(h->value, SLICE("chunked")))
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
    r->keep_alive = !seen.close && (r->minor == 1 || seen.keep_alive);
    return PARSE_DONE;
}

/* Copies the head to where the request's slices point, and reads it. */
static enum parse_result read_head(struct parse *p, const char *head, size_t n)
{
    struct request *r = p->request;
    enum parse_result result = check_limits(p, head, n);
    const char *fault = check_lines(head, n);
    struct slice copy, target;
    size_t line, lines = 0;

    if (fault != NULL) return malformed(p, fault);
    if (result != PARSE_DONE) return result;
    copy = arena_copy(&r->arena, head, n);
    for (size_t i = 0; i < n; i++) lines += head[i] == '\n';
    r->headers = copy.p == NULL ? NULL : arena_get(&r->arena, lines * sizeof *r->headers);
    if (r->headers == NULL) return bad(p, 503, "UNAVAILABLE", "Not enough memory");
    line = (size_t)((const char *)memchr(copy.p, '\r', n) - copy.p);
    result = read_line(p, copy.p, line, &target);
    if (result != PARSE_DONE) return result;
    for (const char *lf = copy.p;
         (lf = memchr(lf, '\n', n - (size_t)(lf - copy.p))) != NULL; lf++)
        if (lf + 1 < copy.p + n && (lf[1] == ' ' || lf[1] == '\t'))
            return malformed(p, "A header line begins with a blank");
    if (llhttp_execute(&p->llhttp, copy.p, n) != HPE_OK)
        return malformed(p, "The headers are malformed");
    result = read_headers(p);
    if (result != PARSE_DONE) return result;
    fault = target_read(r, target);
    if (fault != NULL) return malformed(p, fault);
    p->state = BODY_PLAN;
    return PARSE_HEAD;
}

/* ---- collecting the head ------------------------------------------------------------------------ */

static const char *find_end(const char *p, size_t n)
{
    const char *end = n < 4 ? NULL : memmem(p, n, "\r\n\r\n", 4);

    return end == NULL ? NULL : end + 4;
}

/* One empty line in front of a request line is a courtesy of RFC 9112, 2.2. */
static size_t skip_empty_line(struct parse *p, const char *bytes, size_t n)
{
    if (p->skipped || p->head.n > 0 || n < 2 || memcmp(bytes, "\r\n", 2) != 0) return 0;
    p->skipped = true;
    return 2;
}

static enum parse_result collect(struct parse *p, const char *bytes, size_t n,
                                 size_t *used)
{
    size_t had = p->head.n, room = p->limits->line_max + p->limits->head_max + 8;
    size_t take = n < room ? n : room;
    const char *end;
    enum parse_result result;

    buf_add(&p->head, bytes, take);
    if (p->head.failed) return bad(p, 503, "UNAVAILABLE", "Not enough memory");
    *used += take;
    if (p->head.n >= 2 && !p->skipped && memcmp(p->head.p, "\r\n", 2) == 0) {
        p->skipped = true;
        buf_drop(&p->head, 2);
        had = had < 2 ? 0 : had - 2;
    }
    end = find_end(p->head.p, p->head.n);
    if (end != NULL) {
        size_t head_n = (size_t)(end - p->head.p);

        *used -= p->head.n - head_n;
        result = read_head(p, p->head.p, head_n);
        buf_free(&p->head);
        return result;
    }
    const char *fault = p->head.n == 0 ? NULL : check_lines(p->head.p, p->head.n);
    if (fault != NULL) return malformed(p, fault);
    result = p->head.n == 0 ? PARSE_DONE : check_limits(p, p->head.p, p->head.n);
    return result == PARSE_DONE ? PARSE_MORE : result;
}

static enum parse_result feed_head(struct parse *p, const char *bytes, size_t n,
                                   size_t *used)
{
    size_t skip = skip_empty_line(p, bytes, n);
    const char *end;

    *used = skip;
    bytes += skip;
    n -= skip;
    if (n == 0) return PARSE_MORE;
    end = p->head.n == 0 ? find_end(bytes, n) : NULL;
    if (end == NULL) return collect(p, bytes, n, used);
    *used += (size_t)(end - bytes);
    return read_head(p, bytes, (size_t)(end - bytes));
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

/* The bytes around the data: every LF stands behind a CR, every CR before an LF. */
static bool check_framing(struct parse *p, const char *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if ((p->tail[1] == '\r') != (bytes[i] == '\n')) return false;
        p->tail[0] = p->tail[1];
        p->tail[1] = bytes[i];
    }
    return true;
}

/* The end of the body: what is left belongs to the next request. */
static enum parse_result end_chunked(struct parse *p, const char *at, size_t n)
{
    if (!check_framing(p, at, n) || p->tail[0] != '\r' || p->tail[1] != '\n')
        return malformed(p, "The chunks are malformed");
    p->state = COMPLETE;
    return PARSE_DONE;
}

/* Framing goes to llhttp byte by byte, data in one piece, so that each call sees either
 * the one or the other. */
static enum parse_result feed_chunked(struct parse *p, const char *bytes, size_t n,
                                      size_t *used)
{
    while (*used < n) {
        const char *at = bytes + *used;
        uint64_t left = p->in_data ? p->llhttp.content_length : 1;
        size_t step = left < n - *used ? (size_t)left : n - *used;
        bool was_data = p->in_data;
        llhttp_errno_t error;

        error = llhttp_execute(&p->llhttp, at, step);
        *used += step;
        if (error == HPE_PAUSED && p->message_complete) return end_chunked(p, at, step);
        if (p->trailer_bytes > p->limits->trailer_max)
            return bad(p, 431, "HEADERS_TOO_LARGE", "The trailers are too large");
        if (error != HPE_OK) return malformed(p, "The chunks are malformed");
        if (!was_data) {
            if (!check_framing(p, at, step))
                return malformed(p, "The chunks are malformed");
            continue;
        }
        p->in_data = p->llhttp.content_length > 0;
        p->tail[0] = p->tail[1] = 'x';
        p->body_bytes += (int64_t)step;
        if (p->body_bytes > p->body_limit) return too_large(p);
        p->data = (struct slice){ at, step };
        return PARSE_DATA;
    }
    return PARSE_MORE;
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
    p->content_length = 0;
    p->expect_continue = p->skipped = p->message_complete = p->in_data = false;
    p->data = (struct slice){ NULL, 0 };
    p->state = HEAD;
    p->body_bytes = 0;
    p->extension_bytes = p->trailer_bytes = 0;
    memset(p->tail, 'x', sizeof p->tail);
    llhttp_init(&p->llhttp, HTTP_REQUEST, &callbacks);
    p->llhttp.data = p;
}

enum parse_result parse_feed(struct parse *p, const char *bytes, size_t n, size_t *used)
{
    *used = 0;
    switch ((enum state)p->state) {
    case HEAD: return n == 0 ? PARSE_MORE : feed_head(p, bytes, n, used);
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
    return p->state != HEAD || p->head.n > 0 || p->skipped;
}

void parse_end(struct parse *p) { buf_free(&p->head); }
