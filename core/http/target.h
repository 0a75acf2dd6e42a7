/* target.h -- the request target: what a client asks for, decoded once. */
#ifndef HTTP_TARGET_H
#define HTTP_TARGET_H

#include "http/message.h"

/* Fills in r->target, path and query from the target as sent; r->method and r->host are
 * set.  NULL, or what is wrong with it. */
MUST_CHECK const char *target_read(struct request *r, struct slice sent);

/* uri-host[:port] */
bool target_is_host(struct slice host);

#endif
