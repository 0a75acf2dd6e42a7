/* pack.h -- gzip for answers.  Not for others. */
#ifndef HTTP_PACK_H
#define HTTP_PACK_H

#include "http/conn.h"

/* Whether an Accept-Encoding takes gzip. */
bool pack_accepted(struct slice accept);

/* The slices in a row as gzip, level 1, in s->packed.  False when there is no memory,
 * or it would not be shorter. */
MUST_CHECK bool pack(struct server *s, const struct slice slices[], size_t count);

void pack_end(struct server *s);

#endif
