#include "script/cors.h"

static bool lists(const char *allowed, struct slice origin)
{
    while (*allowed != '\0') {
        size_t n = strcspn(allowed, ",");
        const char *p = allowed;
        size_t length = n;

        while (length > 0 && *p == ' ') p++, length--;
        while (length > 0 && p[length - 1] == ' ') length--;
        if (slice_equal((struct slice){ p, length }, origin)) return true;
        allowed += allowed[n] == ',' ? n + 1 : n;
    }
    return false;
}

static bool is_allowed(const char *allowed, const struct request *r, struct slice *origin)
{
    *origin = request_header(r, SLICE("Origin"));
    return origin->p != NULL && (strcmp(allowed, "*") == 0 || lists(allowed, *origin));
}

void cors_headers(const char *allowed, const struct request *r, struct buf *head)
{
    struct slice origin;

    if (*allowed == '\0' || r == NULL) return;
    if (strcmp(allowed, "*") != 0) BUF_ADD(head, "Vary: Origin\r\n");
    if (!is_allowed(allowed, r, &origin)) return;
    if (strcmp(allowed, "*") == 0) {
        BUF_ADD(head, "Access-Control-Allow-Origin: *\r\n");
    } else {
        BUF_ADD(head, "Access-Control-Allow-Origin: ");
        buf_add_slice(head, origin);
        BUF_ADD(head, "\r\nAccess-Control-Allow-Credentials: true\r\n");
    }
    BUF_ADD(head, "Access-Control-Expose-Headers: X-Request-Id, ETag, Retry-After, "
                  "X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset, "
                  "Idempotency-Replayed\r\n");
}

bool cors_is_preflight(const char *allowed, const struct request *r)
{
    struct slice origin;

    return r->method == METHOD_OPTIONS && *allowed != '\0' &&
           request_header(r, SLICE("Access-Control-Request-Method")).p != NULL &&
           is_allowed(allowed, r, &origin);
}
