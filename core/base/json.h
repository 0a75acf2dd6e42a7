/* json.h -- writing JSON text; who reads it is script/json_read. */
#ifndef BASE_JSON_H
#define BASE_JSON_H

#include "base/buf.h"
#include "base/slice.h"

/* Adds "text" with its quotation marks.  The bytes must be UTF-8; control
 * characters, quotation marks and backslashes are escaped. */
void json_add_string(struct buf *b, struct slice text);

/* Adds a finite double in the shortest form that reads back the same, or null
 * for what JSON cannot hold (NaN, the infinities). */
void json_add_double(struct buf *b, double number);

#endif
