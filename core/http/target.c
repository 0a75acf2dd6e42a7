#include "http/target.h"

#include "base/utf8.h"
#include "http/text.h"

static const struct fault fine = { 0, NULL, NULL };
static const struct fault no_memory = { 503, "UNAVAILABLE", "Not enough memory" };

static struct fault malformed(const char *message)
{
    return (struct fault){ 400, "BAD_REQUEST", message };
}

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

static bool is_alnum(char c)
{
    return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* ---- the request line --------------------------------------------------------------- */

static bool is_token(struct slice s)
{
    for (size_t i = 0; i < s.n; i++)
        if (!is_alnum(s.p[i]) && memchr("!#$%&'*+-.^_`|~", s.p[i], 15) == NULL)
            return false;
    return s.n > 0;
}

/* HTTP/ and two digits with a dot. */
static bool is_version(struct slice s)
{
    return s.n == 8 && memcmp(s.p, "HTTP/", 5) == 0 && is_digit(s.p[5]) &&
           s.p[6] == '.' && is_digit(s.p[7]);
}

struct fault target_read_line(struct request *r, struct slice line, struct slice *target)
{
    const char *last = line.n == 0 ? NULL : memrchr(line.p, ' ', line.n);
    struct slice method = text_until(&line, ' '), version;

    r->method = method_of(method); /* a HEAD is refused without a body, too */
    if (last == NULL || last < line.p)
        return malformed("The request line must be method, target and version");
    *target = (struct slice){ line.p, (size_t)(last - line.p) };
    version = (struct slice){ last + 1, line.n - target->n - 1 };
    if (target->n == 0 || memchr(target->p, ' ', target->n) != NULL)
        return malformed("The request line must be method, target and version");
    if (!is_token(method)) return malformed("The method is malformed");
    if (!is_version(version)) return malformed("The HTTP version is malformed");
    if (version.p[5] != '1' || version.p[7] > '1')
        return (struct fault){ 505, "HTTP_VERSION_NOT_SUPPORTED",
                               "HTTP/1.0 and HTTP/1.1 are spoken here" };
    r->minor = version.p[7] - '0';
    if (r->method == METHOD_UNKNOWN)
        return (struct fault){ 501, "NOT_IMPLEMENTED", "The method is not known" };
    if (r->method == METHOD_CONNECT)
        return (struct fault){ 405, "METHOD_NOT_ALLOWED", "This is no proxy" };
    return fine;
}

/* ---- hosts ------------------------------------------------------------------------- */

/* The length of what stands in brackets, with them; 0 when it is no IPv6 address. */
static size_t bracketed(struct slice host)
{
    size_t i = 1;

    while (i < host.n &&
           (text_hex(host.p[i]) >= 0 || host.p[i] == ':' || host.p[i] == '.'))
        i++;
    return i >= 3 && i < host.n && host.p[i] == ']' ? i + 1 : 0;
}

static size_t named(struct slice host)
{
    size_t i = 0;

    for (; i < host.n; i++) {
        char c = host.p[i];

        if (c == '%' && (host.n - i < 3 || text_hex(host.p[i + 1]) < 0 ||
                         text_hex(host.p[i + 2]) < 0))
            break;
        if (!is_alnum(c) && memchr("-._~%!$&'()*+,;=", c, 16) == NULL) break;
    }
    return i;
}

bool target_is_host(struct slice host)
{
    size_t n = host.n > 0 && host.p[0] == '[' ? bracketed(host) : named(host);
    struct slice port = { host.p + n, host.n - n };

    if (n == 0) return false;
    if (port.n == 0) return true;
    if (port.p[0] != ':' || port.n > 6) return false;
    for (size_t i = 1; i < port.n; i++)
        if (!is_digit(port.p[i])) return false;
    return true;
}

/* ---- paths ---------------------------------------------------------------------------- */

/* Only what RFC 3986 lets stand in a path or query, loosely: no blanks, controls, '#'.
 * Blanks and controls other than the tab were refused with the line. */
static bool has_odd_bytes(struct slice s)
{
    uint64_t eight, high = 0;
    size_t i = 0;

    for (; i + 8 <= s.n; i += 8) {
        memcpy(&eight, s.p + i, 8);
        high |= eight;
    }
    for (; i < s.n; i++) high |= (uint64_t)(unsigned char)s.p[i];
    return (high & 0x8080808080808080u) != 0 || memchr(s.p, '#', s.n) != NULL ||
           memchr(s.p, '\\', s.n) != NULL || memchr(s.p, '\t', s.n) != NULL;
}

/* Drops one segment from the end of out; false at the root. */
static bool go_up(const char *out, size_t *n)
{
    if (*n == 0) return false;
    while (*n > 0 && out[--*n] != '/') continue;
    return true;
}

/* Decodes and resolves "." and ".." segment by segment.  A decoded "/" would only look
 * like a border between segments, and could change who may do what: it is refused. */
static const char *normalise(struct slice raw, char *out, size_t *out_n)
{
    struct slice rest = { raw.p + 1, raw.n - 1 };
    bool last;

    *out_n = 0;
    do {
        char *segment = out + *out_n + 1;
        size_t n;

        last = memchr(rest.p, '/', rest.n) == NULL;
        if (!text_decode(text_until(&rest, '/'), '+', segment, &n))
            return "The path is malformed";
        if (memchr(segment, '/', n) != NULL)
            return "The path must not hold an encoded slash";
        if (n == 2 && segment[0] == '.' && segment[1] == '.') {
            if (!go_up(out, out_n)) return "The path leaves the root";
            if (last) out[(*out_n)++] = '/';
        } else if (n == 1 && segment[0] == '.') {
            if (last) out[(*out_n)++] = '/';
        } else {
            out[*out_n] = '/';
            *out_n += n + 1;
        }
    } while (!last);
    return utf8_valid(out, *out_n) ? NULL : "The path is not UTF-8";
}

/* Nothing to decode or to resolve, which is the common case. */
static bool is_plain(struct slice raw)
{
    return memchr(raw.p, '%', raw.n) == NULL &&
           (memchr(raw.p, '.', raw.n) == NULL || memmem(raw.p, raw.n, "/.", 2) == NULL);
}

static struct fault read_path(struct request *r, struct slice raw)
{
    const char *message;
    char *out;

    r->path = raw;
    if (is_plain(raw)) return fine;
    out = arena_get(&r->arena, raw.n + 1);
    if (out == NULL) return no_memory;
    message = normalise(raw, out, &r->path.n);
    r->path.p = out;
    return message == NULL ? fine : malformed(message);
}

/* ---- targets ------------------------------------------------------------------------- */

/* "?query" to "/?query". */
static struct fault add_root(struct request *r, struct slice *sent)
{
    char *out = arena_get(&r->arena, sent->n + 1);

    if (out == NULL) return no_memory;
    out[0] = '/';
    memcpy(out + 1, sent->p, sent->n);
    *sent = (struct slice){ out, sent->n + 1 };
    return fine;
}

/* "http://host/path" to "/path", if the host is the Host header's; without a path it is
 * the root that is meant. */
static struct fault strip_authority(struct request *r, struct slice *sent)
{
    size_t scheme = sent->n > 7 && strncasecmp(sent->p, "http://", 7) == 0    ? 7
                    : sent->n > 8 && strncasecmp(sent->p, "https://", 8) == 0 ? 8
                                                                              : 0;
    size_t n = scheme;

    if (scheme == 0) return malformed("The target must begin with a slash");
    while (n < sent->n && sent->p[n] != '/' && sent->p[n] != '?') n++;
    if (n == scheme ||
        !slice_equal_fold((struct slice){ sent->p + scheme, n - scheme }, r->host))
        return malformed("The target's host is not the Host header's");
    *sent = (struct slice){ sent->p + n, sent->n - n };
    return sent->n > 0 && sent->p[0] == '/' ? fine : add_root(r, sent);
}

struct fault target_read(struct request *r, struct slice sent)
{
    struct slice path;

    if (has_odd_bytes(sent))
        return malformed("The target holds characters that must be percent-encoded");
    r->query = SLICE("");
    if (slice_equal(sent, SLICE("*"))) {
        r->target = r->path = sent;
        return r->method == METHOD_OPTIONS
                   ? fine
                   : malformed("The target * is for OPTIONS only");
    }
    if (sent.n == 0 || sent.p[0] != '/') {
        struct fault fault = strip_authority(r, &sent);

        if (fault.status != 0) return fault;
    }
    r->target = sent;
    path = text_until(&sent, '?');
    if (sent.n > 0) r->query = sent;
    return read_path(r, path);
}
