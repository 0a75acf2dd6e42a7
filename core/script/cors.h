/* cors.h -- which pages of other origins may read answers (CORS_ORIGINS). */
#ifndef SCRIPT_CORS_H
#define SCRIPT_CORS_H

#include "base/buf.h"
#include "http/message.h"

/* Adds the header lines of an answer.  'allowed' is "*" (anybody, without credentials), a
 * comma-separated list of origins (with credentials), or "". */
void cors_headers(const char *allowed, const struct request *r, struct buf *head);

/* Whether it asks what it may send, and may know. */
bool cors_is_preflight(const char *allowed, const struct request *r);

#endif
