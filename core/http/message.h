/* message.h -- a request and its answer, as bytes and as structs.  Pure: no
 * socket, no clock.
 *
 * A request belongs to whoever answers it (the server hands it over) until
 * request_done() of server.h.  Its slices point into its own arena and are valid
 * as long as it is.
 */
#ifndef HTTP_MESSAGE_H
#define HTTP_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/slice.h"

enum method {
    METHOD_GET,
    METHOD_HEAD,
    METHOD_POST,
    METHOD_PUT,
    METHOD_PATCH,
    METHOD_DELETE,
    METHOD_OPTIONS,
    METHOD_CONNECT,
    METHOD_TRACE,
    METHOD_COUNT,
    METHOD_UNKNOWN = METHOD_COUNT
};

struct slice method_name(enum method method);
enum method method_of(struct slice name); /* METHOD_UNKNOWN for any other */

enum { HEADERS_MAX = 100 };

struct header {
    struct slice name, value; /* value without surrounding blanks */
};

struct conn;

struct request {
    enum method method;
    struct slice target; /* as sent, or the path of the absolute form */
    struct slice path;   /* decoded once, begins with "/"; "*" for OPTIONS * */
    struct slice query;  /* as sent, without the "?" */
    int minor;           /* HTTP/1.minor */
    bool keep_alive;
    struct header *headers; /* of the head, in order; trailers are dropped */
    size_t header_count;
    struct slice host;

    struct slice body;  /* BODY_WHOLE: the body once it is complete */
    bool has_body;      /* a Content-Length above 0, or chunked */
    int body_fd;        /* BODY_FILE: an open file; -1 otherwise */
    int64_t body_bytes; /* bytes of the body that arrived */

    char id[40];   /* X-Request-Id of the answer; never the client's */
    char peer[48]; /* the client's address as text */
    uint16_t peer_port;
    bool https;       /* so a trusted proxy says; see http/proxy.h */
    int64_t began_ns; /* clock_ns() when its first byte was there */

    struct arena arena;
    void *owner;       /* for the one who answers; NULL at first */
    struct conn *conn; /* the server's; NULL once the client is gone */
};

/* The value of the first header of that name (any case); p is NULL if absent. */
struct slice request_header(const struct request *r, struct slice name);

/* Steps over "a=1&b=2" (a query, or an urlencoded form): the next pair, decoded,
 * in the arena; '+' is a blank.  Returns 1 for a pair, 0 at the end, and -1 for
 * malformed percent-encoding, a NUL, invalid UTF-8, or no memory. */
int form_next(struct arena *arena, struct slice *rest, struct slice *key,
              struct slice *value);

/* Steps over "a=1; b=2" of a Cookie header.  1 for a pair, 0 at the end. */
int cookie_next(struct slice *rest, struct slice *key, struct slice *value);

/* ---- multipart/form-data ------------------------------------------------ */

struct form_part {
    struct slice name;
    struct slice filename;     /* p is NULL when the part is no file */
    struct slice content_type; /* p is NULL when the part states none */
    struct slice body;
};

/* Splits a whole multipart body; at most 'max' parts, which point into 'body'.
 * Returns the number of parts, or -1 when it is malformed or has more. */
int multipart_split(struct slice content_type, struct slice body,
                    struct form_part parts[], int max);

/* ---- the answer ---------------------------------------------------------- */

enum { RESPONSE_HEADERS_MAX = 24 };

/* What the body bytes belong to: release(owner) is called once, when they are
 * written or dropped; NULL for bytes in the request's arena or static ones. */
struct response {
    int status;
    struct slice content_type; /* p NULL: no body and no such header */
    struct header headers[RESPONSE_HEADERS_MAX];
    size_t header_count;
    struct slice prefix, body, suffix; /* the body is these three in a row */
    void (*release)(void *owner);
    void *owner;
    bool etag;    /* weak ETag of the body; If-None-Match gets 304 (GET, HEAD) */
    bool no_gzip; /* else compressed when it is 1 KiB or more and accepted */
    bool close;   /* close the connection behind it */
};

const char *status_text(int status);

/* False when the list is full, or name or value hold what would split the
 * response (CR, LF, NUL; a name that is no token). */
MUST_CHECK bool response_header(struct response *a, struct slice name,
                                struct slice value);

#endif
