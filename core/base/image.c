#include "base/image.h"

#include <stdbool.h>
#include <string.h>

/* ---- numbers ------------------------------------------------------------------------ */

static bool has(struct slice s, size_t at, const char *text, size_t n)
{
    return s.n >= at + n && memcmp(s.p + at, text, n) == 0;
}

static uint32_t byte_at(struct slice s, size_t at) { return (unsigned char)s.p[at]; }

static uint32_t big(struct slice s, size_t at, int bytes)
{
    uint32_t value = 0;

    for (int i = 0; i < bytes; i++) value = value << 8 | byte_at(s, at + (size_t)i);
    return value;
}

static uint32_t little(struct slice s, size_t at, int bytes)
{
    uint32_t value = 0;

    for (int i = bytes - 1; i >= 0; i--) value = value << 8 | byte_at(s, at + (size_t)i);
    return value;
}

static struct image image_if(enum image_kind kind, uint32_t width, uint32_t height)
{
    if (width == 0 || height == 0) kind = IMAGE_NONE;
    return (struct image){ kind, width, height };
}

static const struct image none = { IMAGE_NONE, 0, 0 };

/* ---- formats -------------------------------------------------------------------------- */

static struct image png(struct slice s)
{
    if (s.n < 33 || !has(s, 8, "\0\0\0\rIHDR", 8)) return none;
    return image_if(IMAGE_PNG, big(s, 16, 4), big(s, 20, 4));
}

/* Start of frame: C0 to CF, but C4 (tables), C8 (reserved) and CC (arithmetic). */
static bool is_frame(uint32_t marker)
{
    return marker >= 0xc0 && marker <= 0xcf && marker != 0xc4 && marker != 0xc8 &&
           marker != 0xcc;
}

/* Segments FF, marker, length (of itself, too), up to the frame that has the size. */
static struct image jpeg(struct slice s)
{
    size_t at = 2;

    while (at + 4 <= s.n && byte_at(s, at) == 0xff) {
        uint32_t marker = byte_at(s, at + 1), length;

        if (marker == 0xff) { /* a fill byte */
            at++;
            continue;
        }
        if (marker == 0xd8 || marker == 0xd9 || marker == 0xda) return none;
        length = big(s, at + 2, 2);
        if (length < 2) return none;
        if (is_frame(marker))
            return at + 9 > s.n || length < 8
                       ? none
                       : image_if(IMAGE_JPEG, big(s, at + 7, 2), big(s, at + 5, 2));
        at += 2 + length;
    }
    return none;
}

/* RIFF, size, WEBP, then a chunk: VP8 (lossy), VP8L (lossless) or VP8X (extended). */
static struct image webp(struct slice s)
{
    if (s.n < 30) return none;
    if (has(s, 12, "VP8 ", 4) && has(s, 23, "\x9d\x01\x2a", 3))
        return image_if(IMAGE_WEBP, little(s, 26, 2) & 0x3fff, little(s, 28, 2) & 0x3fff);
    if (has(s, 12, "VP8L", 4) && byte_at(s, 20) == 0x2f) {
        uint32_t bits = little(s, 21, 4);

        return image_if(IMAGE_WEBP, (bits & 0x3fff) + 1, (bits >> 14 & 0x3fff) + 1);
    }
    if (has(s, 12, "VP8X", 4))
        return image_if(IMAGE_WEBP, little(s, 24, 3) + 1, little(s, 27, 3) + 1);
    return none;
}

struct image image_of(struct slice bytes)
{
    if (has(bytes, 0, "\x89PNG\r\n\x1a\n", 8)) return png(bytes);
    if (has(bytes, 0, "\xff\xd8\xff", 3)) return jpeg(bytes);
    if (has(bytes, 0, "RIFF", 4) && has(bytes, 8, "WEBP", 4)) return webp(bytes);
    return none;
}
