/* answer.h -- from a struct response to the bytes of an answer.  Not for others. */
#ifndef HTTP_ANSWER_H
#define HTTP_ANSWER_H

#include "http/conn.h"

enum framing {
    FRAMING_LENGTH,  /* Content-Length: length */
    FRAMING_CHUNKED, /* Transfer-Encoding: chunked */
    FRAMING_NONE,    /* no body by the status, or until the connection ends */
};

/* What the engine adds to the application's headers. */
struct answer_head {
    int status;
    enum framing framing;
    int64_t length;
    struct slice etag;     /* p NULL: none */
    struct slice modified; /* Last-Modified; p NULL: none */
    bool vary, gzip;
};

/* Whether an If-None-Match names the tag. */
bool answer_is_known(const struct request *r, struct slice etag);

/* Whether the answer to this request is the connection's last; decides call->close. */
void answer_decide_close(struct conn *c, struct call *call, bool wanted);

/* The head into s->out, which is cleared before; may leave s->out.failed. */
void answer_write_head(struct conn *c, const struct call *call, const struct response *a,
                       const struct answer_head *head);

/* The whole of request_answer() for a call with a conn. */
void answer_give(struct conn *c, struct call *call, struct response *a);

/* An error in the application's words; a 503 says when to come back.  It takes no memory
 * but what the server keeps. */
void answer_error(struct conn *c, struct call *call, int status, const char *code,
                  const char *message, bool close);

/* No more of the answer comes: to WRITING, and on from there when it is written. */
void answer_end(struct conn *c, struct call *call);

/* Whether the status forbids a body. */
static inline bool answer_is_bare(int status)
{
    return status == 204 || status == 304 || status < 200;
}

#endif
