/* buf.h -- bytes that grow.
 *
 * A failed allocation sets 'failed' and drops what was to be added; later
 * additions do nothing.  So a writer of many parts checks once, at its end:
 * what was written is whole exactly when 'failed' is false.
 */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/check.h"
#include "base/slice.h"

struct buf {
    char *p;  /* owned by the buf */
    size_t n; /* bytes in use */
    size_t cap;
    bool failed;
};

void buf_free(struct buf *b); /* empty again, as after { 0 } */
static inline void buf_clear(struct buf *b)
{
    b->n = 0;
    b->failed = false;
}

MUST_CHECK char *buf_grow(struct buf *b, size_t extra); /* for buf_room() */

/* Room for 'extra' more bytes; the place to write them, or NULL.  Whoever
 * writes there adds to 'n' what was written. */
MUST_CHECK static inline char *buf_room(struct buf *b, size_t extra)
{
    return !b->failed && b->cap - b->n >= extra && b->cap > 0 ? b->p + b->n
                                                              : buf_grow(b, extra);
}

static inline void buf_add(struct buf *b, const void *bytes, size_t n)
{
    char *room;

    if (n == 0) return;
    room = buf_room(b, n);
    if (room == NULL) return;
    memcpy(room, bytes, n);
    b->n += n;
}

static inline void buf_add_byte(struct buf *b, char byte) { buf_add(b, &byte, 1); }
static inline void buf_add_slice(struct buf *b, struct slice s) { buf_add(b, s.p, s.n); }
void buf_add_text(struct buf *b, const char *text);
void buf_add_int(struct buf *b, int64_t number);
void buf_addf(struct buf *b, const char *format, ...) PRINTF_LIKE(2, 3);
#define BUF_ADD(b, literal) buf_add((b), "" literal, sizeof(literal) - 1)

/* Drops the first n bytes. */
void buf_drop(struct buf *b, size_t n);

static inline struct slice buf_slice(const struct buf *b)
{
    return (struct slice){ b->p, b->n };
}

#endif
