/* utf8.h -- is it text? */
#ifndef BASE_UTF8_H
#define BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/slice.h"

/* Well-formed UTF-8 as of RFC 3629: no overlong form, no surrogate, nothing
 * above U+10FFFF.  A NUL byte is well-formed. */
bool utf8_valid(const char *bytes, size_t n);

/* The number of code points of well-formed text. */
size_t utf8_length(const char *bytes, size_t n);

/* Appends the bytes, with U+FFFD for each that is part of no well-formed sequence. */
void utf8_repair(struct buf *out, struct slice bytes);

#endif
