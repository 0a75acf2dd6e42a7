#include "http/message.h"

/* ---- methods ------------------------------------------------------------------ */

static const struct slice methods[] = {
    [METHOD_GET] = { "GET", 3 },         [METHOD_HEAD] = { "HEAD", 4 },
    [METHOD_POST] = { "POST", 4 },       [METHOD_PUT] = { "PUT", 3 },
    [METHOD_PATCH] = { "PATCH", 5 },     [METHOD_DELETE] = { "DELETE", 6 },
    [METHOD_OPTIONS] = { "OPTIONS", 7 }, [METHOD_CONNECT] = { "CONNECT", 7 },
    [METHOD_TRACE] = { "TRACE", 5 },     [METHOD_UNKNOWN] = { "", 0 },
};

struct slice method_name(enum method method) { return methods[method]; }

enum method method_of(struct slice name)
{
    int i = 0;

    while (i < METHOD_COUNT && !slice_equal(methods[i], name)) i++;
    return (enum method)i;
}

/* ---- headers --------------------------------------------------------------------- */

struct slice request_header(const struct request *r, struct slice name)
{
    for (size_t i = 0; i < r->header_count; i++)
        if (slice_equal_fold(r->headers[i].name, name)) return r->headers[i].value;
    return (struct slice){ NULL, 0 };
}

static struct slice strip(const char *p, size_t n)
{
    while (n > 0 && (*p == ' ' || *p == '\t')) p++, n--;
    while (n > 0 && (p[n - 1] == ' ' || p[n - 1] == '\t')) n--;
    return (struct slice){ p, n };
}

int cookie_next(struct slice *rest, struct slice *key, struct slice *value)
{
    while (rest->n > 0) {
        const char *end = memchr(rest->p, ';', rest->n), *equals;
        size_t n = end == NULL ? rest->n : (size_t)(end - rest->p);
        struct slice pair = strip(rest->p, n);

        rest->p += end == NULL ? n : n + 1;
        rest->n -= end == NULL ? n : n + 1;
        equals = pair.n == 0 ? NULL : memchr(pair.p, '=', pair.n);
        if (equals == NULL) continue;
        *key = strip(pair.p, (size_t)(equals - pair.p));
        *value = strip(equals + 1, pair.n - (size_t)(equals - pair.p) - 1);
        if (value->n >= 2 && value->p[0] == '"' && value->p[value->n - 1] == '"')
            *value = (struct slice){ value->p + 1, value->n - 2 };
        return 1;
    }
    return 0;
}

/* ---- the answer -------------------------------------------------------------------- */

const char *status_text(int status)
{
    static const struct {
        int status;
        const char *text;
    } texts[] = {
        { 100, "Continue" },
        { 200, "OK" },
        { 201, "Created" },
        { 202, "Accepted" },
        { 204, "No Content" },
        { 206, "Partial Content" },
        { 301, "Moved Permanently" },
        { 302, "Found" },
        { 303, "See Other" },
        { 304, "Not Modified" },
        { 307, "Temporary Redirect" },
        { 308, "Permanent Redirect" },
        { 400, "Bad Request" },
        { 401, "Unauthorized" },
        { 403, "Forbidden" },
        { 404, "Not Found" },
        { 405, "Method Not Allowed" },
        { 406, "Not Acceptable" },
        { 408, "Request Timeout" },
        { 409, "Conflict" },
        { 410, "Gone" },
        { 411, "Length Required" },
        { 412, "Precondition Failed" },
        { 413, "Content Too Large" },
        { 414, "URI Too Long" },
        { 415, "Unsupported Media Type" },
        { 416, "Range Not Satisfiable" },
        { 417, "Expectation Failed" },
        { 418, "I'm a teapot" },
        { 422, "Unprocessable Content" },
        { 425, "Too Early" },
        { 426, "Upgrade Required" },
        { 428, "Precondition Required" },
        { 429, "Too Many Requests" },
        { 431, "Request Header Fields Too Large" },
        { 500, "Internal Server Error" },
        { 501, "Not Implemented" },
        { 502, "Bad Gateway" },
        { 503, "Service Unavailable" },
        { 504, "Gateway Timeout" },
        { 505, "HTTP Version Not Supported" },
        { 507, "Insufficient Storage" },
    };

    for (size_t i = 0; i < COUNT_OF(texts); i++)
        if (texts[i].status == status) return texts[i].text;
    return "Status";
}

static bool is_token(struct slice name)
{
    for (size_t i = 0; i < name.n; i++) {
        unsigned char c = (unsigned char)name.p[i];

        if (c <= ' ' || c >= 0x7f || memchr("()<>@,;:\\\"/[]?={}", c, 17) != NULL)
            return false;
    }
    return name.n > 0;
}

bool response_header(struct response *a, struct slice name, struct slice value)
{
    if (a->header_count == RESPONSE_HEADERS_MAX || name.p == NULL || !is_token(name))
        return false;
    if (value.n > 0 && value.p == NULL) return false;
    for (size_t i = 0; i < value.n; i++) {
        unsigned char c = (unsigned char)value.p[i];

        if ((c < ' ' && c != '\t') || c == 0x7f) return false;
    }
    a->headers[a->header_count++] = (struct header){ name, value };
    return true;
}
