#include "base/buf.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

enum { FIRST_CAP = 256 };

void buf_free(struct buf *b)
{
    mem_free(b->p);
    *b = (struct buf){ 0 };
}

char *buf_grow(struct buf *b, size_t extra)
{
    size_t need, cap = b->cap == 0 ? FIRST_CAP : b->cap;

    if (b->failed || __builtin_add_overflow(b->n, extra, &need)) goto fail;
    if (need > b->cap) {
        while (cap < need)
            if (__builtin_mul_overflow(cap, (size_t)2, &cap)) goto fail;
        char *p = mem_resize(b->p, cap);
        if (p == NULL) goto fail;
        b->p = p;
        b->cap = cap;
    }
    return b->p + b->n;

fail:
    b->failed = true;
    return NULL;
}

void buf_add_text(struct buf *b, const char *text) { buf_add(b, text, strlen(text)); }

void buf_add_int(struct buf *b, int64_t number)
{
    char digits[24], *p = digits + sizeof digits;
    uint64_t rest = number < 0 ? 0 - (uint64_t)number : (uint64_t)number;

    do *--p = (char)('0' + rest % 10);
    while ((rest /= 10) != 0);
    if (number < 0) *--p = '-';
    buf_add(b, p, (size_t)(digits + sizeof digits - p));
}

void buf_addf(struct buf *b, const char *format, ...)
{
    va_list args;
    int length;
    char *room;

    va_start(args, format);
    length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    assert(length >= 0);
    room = buf_room(b, (size_t)length + 1);
    if (room == NULL) return;
    va_start(args, format);
    vsnprintf(room, (size_t)length + 1, format, args);
    va_end(args);
    b->n += (size_t)length;
}

void buf_drop(struct buf *b, size_t n)
{
    assert(n <= b->n);
    if (n == 0) return;
    memmove(b->p, b->p + n, b->n - n);
    b->n -= n;
}
