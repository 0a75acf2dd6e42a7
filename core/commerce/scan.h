/* scan.h -- JSON text, taken apart without making values of it.
 *
 * What a cart keeps of others (a product's name, a cake's configuration) stays the JSON
 * that it came as: it is checked here and copied as it is.  The grammar is RFC 8259's,
 * without NUL and halves of characters in strings; whether the bytes are UTF-8 is for
 * the caller to know.  Nothing is allocated.
 */
#ifndef COMMERCE_SCAN_H
#define COMMERCE_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "commerce/money.h"

enum { SCAN_DEPTH = 16 }; /* arrays and objects around a value of scan_value */

/* Bytes in somebody else's memory. */
struct text {
    const char *p;
    size_t n;
};

/* What is still to be read.  After a function returned false it is anywhere before
 * the end. */
struct scan {
    const char *p, *end;
};

bool text_equal(struct text a, struct text b);

/* Steps over white space and then over 'mark'; false, with 'p' at what is there
 * instead. */
MONEY_MUST_CHECK bool scan_mark(struct scan *s, char mark);

/* Whether nothing but white space is left. */
MONEY_MUST_CHECK bool scan_end(struct scan *s);

/* A string; 'body' is what stands between the quotes, escapes as they are. */
MONEY_MUST_CHECK bool scan_string(struct scan *s, struct text *body);

/* Any value; 'value' is its text. */
MONEY_MUST_CHECK bool scan_value(struct scan *s, struct text *value);

/* An integer that int64 holds; an amount with at most two decimals. */
MONEY_MUST_CHECK bool scan_integer(struct scan *s, int64_t *value);
MONEY_MUST_CHECK bool scan_money(struct scan *s, money *value);

/* A member of an object: 'read' gets the place behind "name": and the object that is
 * being filled in. */
struct scan_member {
    struct text name;
    bool (*read)(struct scan *s, void *object);
    bool optional;
};

/* An object with these members, in any order (their own is the fastest), each at most
 * once and no others.  'seen', which may be NULL, gets a bit for each one found.
 * 'count' is 1 to 31. */
MONEY_MUST_CHECK bool scan_object(struct scan *s, const struct scan_member *members,
                                  size_t count, void *object, uint32_t *seen);

#endif
