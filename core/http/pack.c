#include "http/pack.h"

#include "base/mem.h"

enum { LEVEL = 1, WINDOW_GZIP = 15 + 16, MEMORY = 8 };

/* ---- who takes it ----------------------------------------------------------------------- */

static struct slice trim(const char *p, const char *end)
{
    while (p < end && (*p == ' ' || *p == '\t')) p++;
    while (end > p && (end[-1] == ' ' || end[-1] == '\t')) end--;
    return (struct slice){ p, (size_t)(end - p) };
}

/* ";q=0", ";q=0.000": not at all. */
static bool weight_is_zero(struct slice parameters)
{
    const char *p = parameters.p, *end = p + parameters.n;

    while (p < end && (*p == ';' || *p == ' ' || *p == '\t')) p++;
    if (end - p < 3 || (p[0] | 0x20) != 'q' || p[1] != '=') return false;
    for (p += 2; p < end; p++)
        if (*p != '0' && *p != '.') return false;
    return true;
}

bool pack_accepted(struct slice accept)
{
    const char *p = accept.p, *end;
    bool any = false;

    if (accept.n == 0) return false;
    for (end = p + accept.n; p < end;) {
        const char *comma = memchr(p, ',', (size_t)(end - p));
        const char *stop = comma == NULL ? end : comma;
        const char *semicolon = memchr(p, ';', (size_t)(stop - p));
        struct slice coding = trim(p, semicolon == NULL ? stop : semicolon);
        bool refused =
            semicolon != NULL &&
            weight_is_zero((struct slice){ semicolon, (size_t)(stop - semicolon) });

        if (slice_equal_fold(coding, SLICE("gzip"))) return !refused;
        if (slice_equal(coding, SLICE("*"))) any = !refused;
        p = stop + 1;
    }
    return any;
}

/* ---- deflate ------------------------------------------------------------------------------ */

static voidpf get(voidpf ctx, uInt items, uInt size)
{
    (void)ctx;
    return mem_get((size_t)items * size);
}

static void release(voidpf ctx, voidpf block)
{
    (void)ctx;
    mem_free(block);
}

/* One stream for all answers: its 256 KiB are got once. */
static bool begin(struct server *s)
{
    if (s->gzip_ready) return deflateReset(&s->gzip) == Z_OK;
    s->gzip = (z_stream){ .zalloc = get, .zfree = release };
    s->gzip_ready = deflateInit2(&s->gzip, LEVEL, Z_DEFLATED, WINDOW_GZIP, MEMORY,
                                 Z_DEFAULT_STRATEGY) == Z_OK;
    return s->gzip_ready;
}

bool pack(struct server *s, const struct slice slices[], size_t count)
{
    size_t total = 0;
    char *room;
    int result = Z_OK;

    for (size_t i = 0; i < count; i++) total += slices[i].n;
    buf_clear(&s->packed);
    room = buf_room(&s->packed, total); /* enough for what is shorter */
    if (room == NULL || !begin(s)) return false;
    s->gzip.next_out = (Bytef *)room;
    s->gzip.avail_out = (uInt)total;
    for (size_t i = 0; i < count && result == Z_OK; i++) {
        if (slices[i].n == 0) continue;
        s->gzip.next_in = (Bytef *)(uintptr_t)slices[i].p;
        s->gzip.avail_in = (uInt)slices[i].n;
        result = deflate(&s->gzip, Z_NO_FLUSH);
        if (s->gzip.avail_in > 0) return false;
    }
    if (result != Z_OK || deflate(&s->gzip, Z_FINISH) != Z_STREAM_END) return false;
    s->packed.n = (size_t)(s->gzip.next_out - (Bytef *)room);
    return true;
}

void pack_end(struct server *s)
{
    if (s->gzip_ready) deflateEnd(&s->gzip);
    s->gzip_ready = false;
    buf_free(&s->packed);
}
