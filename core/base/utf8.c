#include "base/utf8.h"

#include <stdint.h>

/* The length of the well-formed sequence at p, or 0. */
static size_t sequence(const unsigned char *p, size_t n)
{
    unsigned char lead = p[0], low = 0x80, high = 0xbf;
    size_t length;

    if (lead < 0x80) return 1;
    if (lead >= 0xc2 && lead <= 0xdf) length = 2;
    else if (lead >= 0xe0 && lead <= 0xef) length = 3;
    else if (lead >= 0xf0 && lead <= 0xf4) length = 4;
    else return 0;
    if (n < length) return 0;

    /* The second byte's range shuts out overlong forms, surrogates and what
     * lies above U+10FFFF (table 3-7 of the Unicode standard). */
    if (lead == 0xe0) low = 0xa0;
    if (lead == 0xed) high = 0x9f;
    if (lead == 0xf0) low = 0x90;
    if (lead == 0xf4) high = 0x8f;
    if (p[1] < low || p[1] > high) return 0;
    for (size_t i = 2; i < length; i++)
        if ((p[i] & 0xc0) != 0x80) return 0;
    return length;
}

bool utf8_valid(const char *bytes, size_t n)
{
    const unsigned char *p = (const unsigned char *)bytes;
    size_t i = 0;

    while (i < n) {
        uint64_t eight;

        if (n - i >= 8) { /* plain ASCII, eight bytes at a time */
            memcpy(&eight, p + i, 8);
            if ((eight & 0x8080808080808080u) == 0) {
                i += 8;
                continue;
            }
        }
        size_t length = sequence(p + i, n - i);
        if (length == 0) return false;
        i += length;
    }
    return true;
}

size_t utf8_length(const char *bytes, size_t n)
{
    size_t length = 0;

    for (size_t i = 0; i < n; i++)
        if (((unsigned char)bytes[i] & 0xc0) != 0x80) length++;
    return length;
}

void utf8_repair(struct buf *out, struct slice bytes)
{
    const unsigned char *p = (const unsigned char *)bytes.p;
    size_t from = 0, i = 0;

    while (i < bytes.n) {
        size_t length = sequence(p + i, bytes.n - i);

        if (length == 0) {
            buf_add(out, bytes.p + from, i - from);
            BUF_ADD(out, "\xef\xbf\xbd");
            from = ++i;
        }
        i += length;
    }
    buf_add(out, bytes.p + from, i - from);
}
