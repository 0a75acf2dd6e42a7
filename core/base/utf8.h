/* utf8.h -- is it text? */
#ifndef BASE_UTF8_H
#define BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>

#include "base/slice.h"

/* Well-formed UTF-8 as of RFC 3629: no overlong form, no surrogate, nothing
 * above U+10FFFF.  A NUL byte is well-formed. */
bool utf8_valid(const char *bytes, size_t n);

/* The number of code points of well-formed text. */
size_t utf8_length(const char *bytes, size_t n);

#endif
