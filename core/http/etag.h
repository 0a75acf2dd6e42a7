/* etag.h -- validators and dates of HTTP.  Pure. */
#ifndef HTTP_ETAG_H
#define HTTP_ETAG_H

#include <stdint.h>

#include "base/check.h"
#include "base/slice.h"

enum { ETAG_MAX = 48, HTTP_DATE_MAX = 32 };

/* W/"..." of the bytes of all slices in a row, the same in every process. */
struct slice etag_of_bytes(const struct slice slices[], size_t count,
                           char text[static ETAG_MAX]);

/* W/"..." of a file. */
struct slice etag_of_file(int64_t size, int64_t modified_ns, char text[static ETAG_MAX]);

/* Whether an If-None-Match names the tag (weak comparison), or is "*". */
bool etag_listed(struct slice list, struct slice tag);

/* "Sun, 06 Nov 1994 08:49:37 GMT" of seconds since 1970. */
struct slice http_date_write(int64_t seconds, char text[static HTTP_DATE_MAX]);

/* The same backwards; false for any other form. */
MUST_CHECK bool http_date_read(struct slice text, int64_t *seconds);

#endif
