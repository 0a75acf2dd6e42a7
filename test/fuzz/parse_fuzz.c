/* Any bytes as requests on one connection: fed whole, in two pieces (cut where the first
 * byte says) and byte by byte, they come out the same. */
#include <stdint.h>
#include <stdlib.h>

#include "../http/parse_rig.h"
#include "base/mem.h"
#include "base/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { BODY_LIMIT = 64 };

static void require(bool holds)
{
    if (!holds) abort();
}

static bool within(struct slice part, char from, char to)
{
    for (size_t i = 0; i < part.n; i++)
        if (part.p[i] >= from && part.p[i] <= to) return true;
    return false;
}

/* What holds for every request that is let through. */
static void check_request(const struct rig *rig)
{
    const struct request *r = &rig->request;

    require(r->method < METHOD_COUNT && r->method != METHOD_CONNECT);
    require(r->header_count <= HEADERS_MAX);
    require(r->path.n > 0 && (r->path.p[0] == '/' || r->method == METHOD_OPTIONS));
    require(utf8_valid(r->path.p, r->path.n) && !within(r->path, '\0', '\0'));
    require(memmem(r->path.p, r->path.n, "/../", 4) == NULL);
    require(r->minor == 0 || r->host.n > 0);
    require(!within(r->target, '\0', ' ') && !within(r->query, '\0', ' '));
    for (size_t i = 0; i < r->header_count; i++) {
        require(r->headers[i].name.n > 0 && !within(r->headers[i].name, '\0', ' '));
        require(!within(r->headers[i].value, '\0', '\x08'));
        require(!within(r->headers[i].value, '\n', '\x1f'));
    }
    require(rig->body.n <= BODY_LIMIT);
    require(rig->parse.content_length < 0 ||
            (size_t)rig->parse.content_length == rig->body.n);
}

/* All requests of the input, described one behind the other. */
static void parse_all(struct slice input, size_t first, size_t step, struct buf *out)
{
    struct rig rig;
    size_t at = 0, n = first < input.n ? first : input.n;

    rig_begin(&rig, BODY_LIMIT);
    while (rig.result != PARSE_BAD) {
        for (size_t end = at + n; at < end && rig.result != PARSE_BAD;) {
            at += rig_feed(&rig, input.p + at, end - at);
            if (rig.result != PARSE_DONE) continue;
            check_request(&rig);
            rig_describe(&rig, out);
            require(rig.wrong == NULL);
            rig_end(&rig);
            rig_begin(&rig, BODY_LIMIT);
        }
        if (at == input.n) break;
        n = input.n - at < step ? input.n - at : step;
    }
    rig_describe(&rig, out);
    require(rig.wrong == NULL);
    rig_end(&rig);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buf whole = { 0 }, halves = { 0 }, bytes = { 0 };
    struct slice input = { (const char *)data + 1, size - 1 };

    if (size == 0) return 0;
    parse_all(input, input.n, 1, &whole);
    parse_all(input, input.n * data[0] / 255, input.n, &halves);
    parse_all(input, 1, 1, &bytes);
    require(slice_equal(buf_slice(&whole), buf_slice(&halves)));
    require(slice_equal(buf_slice(&whole), buf_slice(&bytes)));
    buf_free(&whole);
    buf_free(&halves);
    buf_free(&bytes);
    require(mem_live() == 0);
    return 0;
}
