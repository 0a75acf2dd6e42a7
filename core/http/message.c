#include "http/message.h"

#include "http/text.h"

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

int cookie_next(struct slice *rest, struct slice *key, struct slice *value)
{
    while (rest->n > 0) {
        struct slice pair = text_until(rest, ';');

        if (pair.n == 0 || memchr(pair.p, '=', pair.n) == NULL) continue;
        *key = text_strip(text_until(&pair, '='));
        *value = text_strip(pair);
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
    for (size_t i = 0; i < value.n; i++)
        if (text_is_control(value.p[i])) return false;
    a->headers[a->header_count++] = (struct header){ name, value };
    return true;
}
