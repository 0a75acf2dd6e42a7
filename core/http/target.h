/* target.h -- the first line of a request, and what its target asks for. */
#ifndef HTTP_TARGET_H
#define HTTP_TARGET_H

#include "http/message.h"

/* Why a request is refused; status 0: it is not. */
struct fault {
    int status;
    const char *code, *message;
};

/* METHOD SP target SP HTTP/1.x with single blanks: sets the method and the minor
 * version, and 'target' to a part of 'line'. */
MUST_CHECK struct fault target_read_line(struct request *r, struct slice line,
                                         struct slice *target);

/* Fills in r->target, path and query from the target as sent; r->method and r->host are
 * set. */
MUST_CHECK struct fault target_read(struct request *r, struct slice sent);

/* uri-host[:port] */
bool target_is_host(struct slice host);

#endif
