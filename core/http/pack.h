/* pack.h -- gzip for answers.  Not for others. */
#ifndef HTTP_PACK_H
#define HTTP_PACK_H

#include "http/conn.h"

/* Whether the client takes gzip, and does not like the plain form better. */
bool pack_accepted(const struct request *r);

/* The slices in a row as gzip, level 1, in s->packed.  False when there is no memory,
 * or it would not be shorter. */
MUST_CHECK bool pack(struct server *s, const struct slice slices[], size_t count);

void pack_end(struct server *s);

#endif
