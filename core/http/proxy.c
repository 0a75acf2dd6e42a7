#include "http/proxy.h"

#include <arpa/inet.h>
#include <string.h>

#include "base/list.h"

enum { ADDRESS_MAX = INET6_ADDRSTRLEN, V4_BITS = 96 };

static const unsigned char v4_prefix[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };

/* ---- addresses -------------------------------------------------------------------- */

static struct slice strip(struct slice s)
{
    while (s.n > 0 && (*s.p == ' ' || *s.p == '\t'))
        s = (struct slice){ s.p + 1, s.n - 1 };
    while (s.n > 0 && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t')) s.n--;
    return s;
}

/* 'is_v4' tells in which notation it was written. */
static bool read_address(struct slice s, unsigned char address[16], bool *is_v4)
{
    char text[ADDRESS_MAX];

    if (s.n == 0 || s.n >= sizeof text || memchr(s.p, '\0', s.n) != NULL) return false;
    memcpy(text, s.p, s.n);
    text[s.n] = '\0';
    *is_v4 = inet_pton(AF_INET, text, address + sizeof v4_prefix) == 1;
    if (!*is_v4) return inet_pton(AF_INET6, text, address) == 1;
    memcpy(address, v4_prefix, sizeof v4_prefix);
    return true;
}

/* The address of "[2001:db8::1]:443" or "192.0.2.1:443", as some proxies write it. */
static struct slice without_port(struct slice s)
{
    const char *end;

    if (s.n > 0 && *s.p == '[') {
        end = memchr(s.p, ']', s.n);
        if (end == NULL) return s;
        return (struct slice){ s.p + 1, (size_t)(end - s.p) - 1 };
    }
    end = s.n == 0 ? NULL : memchr(s.p, ':', s.n);
    if (end == NULL || memchr(end + 1, ':', s.n - (size_t)(end + 1 - s.p)) != NULL)
        return s;
    return (struct slice){ s.p, (size_t)(end - s.p) };
}

static bool is_in(const struct proxy_range *range, const unsigned char address[16])
{
    int whole = range->bits / 8, rest = range->bits % 8;
    unsigned mask = 0xffU << (8 - rest) & 0xffU;

    return memcmp(range->address, address, (size_t)whole) == 0 &&
           (rest == 0 || ((range->address[whole] ^ address[whole]) & mask) == 0);
}

static bool is_trusted(const struct proxies *proxies, const unsigned char address[16])
{
    for (int i = 0; i < proxies->count; i++)
        if (is_in(&proxies->range[i], address)) return true;
    return false;
}

/* ---- the setting ------------------------------------------------------------------- */

static bool read_bits(struct slice s, int most, int *bits)
{
    *bits = 0;
    if (s.n == 0 || s.n > 3) return false;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] < '0' || s.p[i] > '9') return false;
        *bits = *bits * 10 + (s.p[i] - '0');
    }
    return *bits <= most;
}

static bool read_range(struct slice entry, struct proxy_range *range)
{
    const char *slash = entry.n == 0 ? NULL : memchr(entry.p, '/', entry.n);
    struct slice address = entry;
    bool is_v4;

    if (slash != NULL) address.n = (size_t)(slash - entry.p);
    if (!read_address(address, range->address, &is_v4)) return false;
    range->bits = 128;
    if (slash == NULL) return true;
    if (!read_bits((struct slice){ slash + 1, entry.n - address.n - 1 }, is_v4 ? 32 : 128,
                   &range->bits))
        return false;
    if (is_v4) range->bits += V4_BITS;
    return true;
}

bool proxies_read(struct proxies *proxies, struct slice list, struct slice *wrong)
{
    proxies->count = 0;
    while (list.n > 0) {
        const char *comma = memchr(list.p, ',', list.n);
        size_t n = comma == NULL ? list.n : (size_t)(comma - list.p);
        struct slice entry = strip((struct slice){ list.p, n });

        list.p += comma == NULL ? n : n + 1;
        list.n -= comma == NULL ? n : n + 1;
        if (entry.n == 0) continue;
        *wrong = (struct slice){ NULL, 0 };
        if (proxies->count == PROXIES_MAX) return false;
        *wrong = entry;
        if (!read_range(entry, &proxies->range[proxies->count++])) return false;
    }
    return true;
}

/* ---- a request --------------------------------------------------------------------- */

/* Takes the last element off a list; false when none is left. */
static bool pop(struct slice *list, struct slice *last)
{
    size_t at = list->n;

    if (list->p == NULL) return false;
    while (at > 0 && list->p[at - 1] != ',') at--;
    *last = strip((struct slice){ list->p + at, list->n - at });
    if (at == 0) list->p = NULL;
    else list->n = at - 1;
    return true;
}

static void write_address(const unsigned char address[16], char text[48])
{
    bool is_v4 = memcmp(address, v4_prefix, sizeof v4_prefix) == 0;

    if (is_v4) address += sizeof v4_prefix;
    if (inet_ntop(is_v4 ? AF_INET : AF_INET6, address, text, 48) == NULL) *text = '\0';
}

/* One header, from its end; false when the walk is over. */
static bool walk(const struct proxies *proxies, struct slice list, struct request *r)
{
    unsigned char address[16];
    struct slice entry;
    bool is_v4;

    while (pop(&list, &entry)) {
        if (!read_address(without_port(entry), address, &is_v4)) return false;
        write_address(address, r->peer);
        r->peer_port = 0;
        if (!is_trusted(proxies, address)) return false;
    }
    return true;
}

static bool says_https(const struct request *r)
{
    struct slice list, last = { NULL, 0 };

    for (size_t i = 0; i < r->header_count; i++) {
        if (!slice_equal_fold(r->headers[i].name, SLICE("X-Forwarded-Proto"))) continue;
        list = r->headers[i].value;
        if (!pop(&list, &last)) last.n = 0;
    }
    return slice_equal_fold(last, SLICE("https"));
}

void proxies_apply(const struct proxies *proxies, struct request *r)
{
    unsigned char address[16];
    bool is_v4;

    if (proxies->count == 0) return;
    if (!read_address(slice_of(r->peer), address, &is_v4) ||
        !is_trusted(proxies, address))
        return;
    r->https = says_https(r);
    for (size_t i = r->header_count; i-- > 0;) {
        if (!slice_equal_fold(r->headers[i].name, SLICE("X-Forwarded-For"))) continue;
        if (!walk(proxies, r->headers[i].value, r)) return;
    }
}
