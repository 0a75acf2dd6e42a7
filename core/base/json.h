/* json.h -- writing JSON text, and whether a text is JSON; who reads it is
 * script/json_read. */
#ifndef BASE_JSON_H
#define BASE_JSON_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/check.h"
#include "base/slice.h"

/* Adds "text" with its quotation marks.  The bytes must be UTF-8; control
 * characters, quotation marks and backslashes are escaped. */
void json_add_string(struct buf *b, struct slice text);

/* Whether the text needs no escape and is ASCII, by a quick look that may say no to more;
 * and its addition then. */
bool json_is_plain(struct slice text);
void json_add_plain(struct buf *b, struct slice text);

/* Adds a finite double in the shortest form that reads back the same, or null
 * for what JSON cannot hold (NaN, the infinities). */
void json_add_double(struct buf *b, double number);

/* Whether a text is one JSON value (RFC 8259) in UTF-8, at most 100 deep: what may be
 * spliced into an answer unread.  Keys may come twice, numbers may be of any size. */
MUST_CHECK bool json_is_text(struct slice text);

#endif
