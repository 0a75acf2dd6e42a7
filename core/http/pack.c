#include "http/pack.h"

#include "base/mem.h"
#include "http/text.h"

enum { LEVEL = 1, WINDOW_GZIP = 15 + 16, MEMORY = 8 };

/* ---- who takes it ----------------------------------------------------------------------- */

/* ";q=0.5": thousandths; 1000 without one, 0 for one that is malformed. */
static int weight_of(struct slice parameters)
{
    while (parameters.n > 0) {
        struct slice value = text_until(&parameters, ';');
        struct slice name = text_strip(text_until(&value, '='));
        int weight = 0;

        if (!slice_equal_fold(name, SLICE("q"))) continue;
        value = text_strip(value);
        if (value.n == 0 || value.n > 5 || (value.n > 1 && value.p[1] != '.')) return 0;
        for (size_t i = 0; i < 5; i++) {
            char c = i < value.n ? value.p[i] : '0';

            if (i == 1) continue;
            if (c < '0' || c > '9') return 0;
            weight = weight * 10 + (c - '0');
        }
        return weight <= 1000 ? weight : 0;
    }
    return 1000;
}

/* What the header says of the codings; -1: nothing. */
struct weights {
    int gzip, identity, any;
};

static void read_weights(struct slice list, struct weights *w)
{
    while (list.n > 0) {
        struct slice parameters = text_until(&list, ',');
        struct slice coding = text_strip(text_until(&parameters, ';'));
        int weight = weight_of(parameters);

        if (slice_equal_fold(coding, SLICE("gzip"))) w->gzip = weight;
        else if (slice_equal_fold(coding, SLICE("identity"))) w->identity = weight;
        else if (slice_equal(coding, SLICE("*"))) w->any = weight;
    }
}

bool pack_accepted(const struct request *r)
{
    struct weights w = { -1, -1, -1 };
    int gzip;

    for (size_t i = 0; i < r->header_count; i++)
        if (slice_equal_fold(r->headers[i].name, SLICE("Accept-Encoding")))
            read_weights(r->headers[i].value, &w);
    gzip = w.gzip >= 0 ? w.gzip : w.any;
    return gzip > 0 && gzip >= w.identity;
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
