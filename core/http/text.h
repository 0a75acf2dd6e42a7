/* text.h -- the few things that every reader of HTTP text does.  Private to http/. */
#ifndef HTTP_TEXT_H
#define HTTP_TEXT_H

#include <stdint.h>

#include "base/slice.h"

/* Without the blanks around it. */
static inline struct slice text_strip(struct slice s)
{
    while (s.n > 0 && (*s.p == ' ' || *s.p == '\t')) s.p++, s.n--;
    while (s.n > 0 && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t')) s.n--;
    return s;
}

/* What stands before the first 'mark', which is dropped, or all of it. */
static inline struct slice text_until(struct slice *rest, char mark)
{
    const char *end = rest->n == 0 ? NULL : memchr(rest->p, mark, rest->n);
    struct slice part = { rest->p, end == NULL ? rest->n : (size_t)(end - rest->p) };
    size_t used = end == NULL ? part.n : part.n + 1;

    if (used > 0) *rest = (struct slice){ rest->p + used, rest->n - used };
    return part;
}

/* A digit's value, or -1. */
static inline int text_hex(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

/* Percent-decodes into 'out', which has room for raw.n bytes; 'plus' is what a '+'
 * stands for.  False when the encoding is malformed or a NUL comes out. */
static inline bool text_decode(struct slice raw, char plus, char *out, size_t *n)
{
    *n = 0;
    for (size_t i = 0; i < raw.n; i++) {
        char c = raw.p[i];

        if (c == '+') c = plus;
        else if (c == '%') {
            int high = raw.n - i > 2 ? text_hex(raw.p[i + 1]) : -1;
            int low = raw.n - i > 2 ? text_hex(raw.p[i + 2]) : -1;

            if (high < 0 || low < 0) return false;
            c = (char)(high * 16 + low);
            i += 2;
        }
        if (c == '\0') return false;
        out[(*n)++] = c;
    }
    return true;
}

/* A control character other than the tab: nothing that stands in a line of text. */
static inline bool text_is_control(char c)
{
    return ((unsigned char)c < ' ' && c != '\t') || c == 0x7f;
}

/* The length of the text at p: up to the first control character. */
static inline size_t text_length(const char *p, size_t n)
{
    const uint64_t ones = 0x0101010101010101u, tops = ones * 0x80;
    size_t i = 0;

    for (; i + 8 <= n; i += 8) { /* eight bytes at a time: none below ' ', none DEL */
        uint64_t v, del;

        memcpy(&v, p + i, 8);
        del = v ^ ones * 0x7f;
        if ((((v - ones * ' ') & ~v) | ((del - ones) & ~del)) & tops) {
            for (size_t end = i + 8; i < end; i++)
                if (text_is_control(p[i])) return i;
            i -= 8;
        }
    }
    while (i < n && !text_is_control(p[i])) i++;
    return i;
}

#endif
