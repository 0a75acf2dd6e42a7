#include "http/target.h"

#include "base/utf8.h"

static bool is_alnum(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static int hex(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

/* ---- hosts ------------------------------------------------------------------------- */

bool target_is_host(struct slice host)
{
    size_t i = 0;

    if (i < host.n && host.p[i] == '[') { /* an IPv6 address */
        for (i++;
             i < host.n && (hex(host.p[i]) >= 0 || host.p[i] == ':' || host.p[i] == '.');
             i++)
            continue;
        if (i == host.n || host.p[i++] != ']' || i < 4) return false;
    } else {
        while (i < host.n &&
               (is_alnum(host.p[i]) || memchr("-._~%!$&'()*+,;=", host.p[i], 16) != NULL))
            i++;
        if (i == 0) return false;
    }
    if (i == host.n) return true;
    if (host.p[i++] != ':' || host.n - i > 5) return false;
    for (; i < host.n; i++)
        if (host.p[i] < '0' || host.p[i] > '9') return false;
    return true;
}

/* ---- paths ---------------------------------------------------------------------------- */

/* Only what RFC 3986 lets stand in a path or query, loosely: no blanks, controls, '#'. */
static bool has_odd_bytes(struct slice s)
{
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];

        if (c <= ' ' || c >= 0x7f || c == '#' || c == '\\') return true;
    }
    return false;
}

static bool decode(const char *p, size_t n, char *out, size_t *out_n)
{
    *out_n = 0;
    for (size_t i = 0; i < n; i++) {
        char c = p[i];

        if (c == '%') {
            int high = n - i > 2 ? hex(p[i + 1]) : -1,
                low = n - i > 2 ? hex(p[i + 2]) : -1;

            if (high < 0 || low < 0) return false;
            c = (char)(high * 16 + low);
            i += 2;
        }
        if (c == '\0') return false;
        out[(*out_n)++] = c;
    }
    return true;
}

/* Drops one segment from the end of out; false at the root. */
static bool go_up(const char *out, size_t *n)
{
    if (*n == 0) return false;
    while (*n > 0 && out[--*n] != '/') continue;
    return true;
}

/* Decodes and resolves "." and ".." segment by segment.  A decoded "/" stays one of its
 * segment's bytes only in appearance, so it is refused: it could change who may do what. */
static const char *normalise(struct slice raw, char *out, size_t *out_n)
{
    size_t at = 1; /* behind the first slash */

    *out_n = 0;
    for (;;) {
        const char *slash = memchr(raw.p + at, '/', raw.n - at);
        size_t n = slash == NULL ? raw.n - at : (size_t)(slash - raw.p) - at, got;
        char *segment = out + *out_n + 1;

        if (!decode(raw.p + at, n, segment, &got)) return "The path is malformed";
        if (memchr(segment, '/', got) != NULL)
            return "The path must not hold an encoded slash";
        if (got == 2 && segment[0] == '.' && segment[1] == '.') {
            if (!go_up(out, out_n)) return "The path leaves the root";
            if (slash == NULL) out[(*out_n)++] = '/';
        } else if (got == 1 && segment[0] == '.') {
            if (slash == NULL) out[(*out_n)++] = '/';
        } else {
            out[*out_n] = '/';
            *out_n += got + 1;
        }
        if (slash == NULL) break;
        at += n + 1;
    }
    if (*out_n == 0) out[(*out_n)++] = '/';
    return utf8_valid(out, *out_n) ? NULL : "The path is not UTF-8";
}

/* A path without anything to decode or resolve is the common case. */
static bool is_plain(struct slice raw)
{
    return memchr(raw.p, '%', raw.n) == NULL && memmem(raw.p, raw.n, "/.", 2) == NULL;
}

/* "http://host/path" to "/path", if the host is the Host header's. */
static const char *strip_authority(const struct request *r, struct slice *sent)
{
    static const char text[] = "The target's host is not the Host header's";
    size_t scheme = sent->n > 7 && strncasecmp(sent->p, "http://", 7) == 0    ? 7
                    : sent->n > 8 && strncasecmp(sent->p, "https://", 8) == 0 ? 8
                                                                              : 0;
    size_t n = scheme;

    if (scheme == 0) return "The target must begin with a slash";
    while (n < sent->n && sent->p[n] != '/' && sent->p[n] != '?') n++;
    if (!slice_equal_fold((struct slice){ sent->p + scheme, n - scheme }, r->host))
        return text;
    *sent = (struct slice){ sent->p + n, sent->n - n };
    if (sent->n == 0) *sent = SLICE("/");
    return sent->p[0] == '/' ? NULL : "The target must have a path";
}

const char *target_read(struct request *r, struct slice sent)
{
    const char *query, *fault;
    struct slice raw;
    char *out;

    if (has_odd_bytes(sent))
        return "The target holds characters that must be percent-encoded";
    if (slice_equal(sent, SLICE("*"))) {
        r->target = r->path = sent;
        return r->method == METHOD_OPTIONS ? NULL : "The target * is for OPTIONS only";
    }
    if (sent.n == 0 || sent.p[0] != '/') {
        fault = strip_authority(r, &sent);
        if (fault != NULL) return fault;
    }
    r->target = sent;
    query = memchr(sent.p, '?', sent.n);
    raw = (struct slice){ sent.p, query == NULL ? sent.n : (size_t)(query - sent.p) };
    r->query = query == NULL ? (struct slice){ "", 0 }
                             : (struct slice){ query + 1, sent.n - raw.n - 1 };
    r->path = raw;
    if (is_plain(raw)) return NULL;
    out = arena_get(&r->arena, raw.n + 2);
    if (out == NULL) return "Not enough memory";
    fault = normalise(raw, out, &r->path.n);
    r->path.p = out;
    return fault;
}
