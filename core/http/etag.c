#include "http/etag.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

/* ---- tags -------------------------------------------------------------------- */

/* Not cryptographic: who could make two bodies of one tag would fool but the caches of
 * those who ask for these bodies. */
static uint64_t mix(uint64_t a, uint64_t b)
{
    unsigned __int128 product = (unsigned __int128)a * b;

    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static uint64_t hash(uint64_t h, struct slice s)
{
    const uint64_t one = 0xa0761d6478bd642fu, two = 0xe7037ed1a0b428dbu;
    uint64_t a, b;
    size_t i = 0;

    for (; s.n - i >= 16; i += 16) {
        memcpy(&a, s.p + i, 8);
        memcpy(&b, s.p + i + 8, 8);
        h = mix(a ^ one, b ^ h);
    }
    a = b = 0;
    size_t rest = s.n - i;
    if (rest > 0) memcpy(&a, s.p + i, rest < 8 ? rest : 8);
    if (rest > 8) memcpy(&b, s.p + i + 8, rest - 8);
    return mix(mix(a ^ two, b ^ h) ^ s.n, one);
}

static struct slice write_tag(uint64_t first, uint64_t second, char *text)
{
    int n = snprintf(text, ETAG_MAX, "W/\"%llx-%llx\"", (unsigned long long)first,
                     (unsigned long long)second);

    return (struct slice){ text, n < 0 ? 0 : (size_t)n };
}

struct slice etag_of_bytes(const struct slice slices[], size_t count,
                           char text[static ETAG_MAX])
{
    uint64_t h = 0x8ebc6af09c88c6e3u, n = 0;

    for (size_t i = 0; i < count; i++) {
        if (slices[i].n > 0) h = hash(h, slices[i]);
        n += slices[i].n;
    }
    return write_tag(n, h, text);
}

struct slice etag_of_file(int64_t size, int64_t modified_ns, char text[static ETAG_MAX])
{
    return write_tag((uint64_t)size, (uint64_t)modified_ns, text);
}

static struct slice opaque(struct slice tag)
{
    if (tag.n >= 2 && tag.p[0] == 'W' && tag.p[1] == '/')
        return (struct slice){ tag.p + 2, tag.n - 2 };
    return tag;
}

bool etag_listed(struct slice list, struct slice tag)
{
    const char *p = list.p, *end;

    if (list.n == 0) return false;
    end = p + list.n;
    tag = opaque(tag);
    if (slice_equal(list, SLICE("*"))) return true;
    while (p < end) {
        while (p < end && (*p == ' ' || *p == '\t' || *p == ',')) p++;
        const char *from = p;
        const char *quote = memchr(p, '"', (size_t)(end - p));
        const char *close =
            quote == NULL ? NULL : memchr(quote + 1, '"', (size_t)(end - quote - 1));

        if (close == NULL) return false;
        p = close + 1;
        if (slice_equal(opaque((struct slice){ from, (size_t)(p - from) }), tag))
            return true;
    }
    return false;
}

/* ---- dates ------------------------------------------------------------------- */

static const char days[7][4] = { "Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat" };
static const char months[12][4] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                    "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" };

struct slice http_date_write(int64_t seconds, char text[static HTTP_DATE_MAX])
{
    time_t time = (time_t)seconds;
    struct tm t;
    int n;

    if (gmtime_r(&time, &t) == NULL) t = (struct tm){ .tm_mday = 1, .tm_year = 70 };
    n = snprintf(text, HTTP_DATE_MAX, "%s, %02d %s %04d %02d:%02d:%02d GMT",
                 days[t.tm_wday % 7], t.tm_mday, months[t.tm_mon % 12],
                 (t.tm_year + 1900) % 10000, t.tm_hour, t.tm_min, t.tm_sec);
    return (struct slice){ text, n < 0 ? 0 : (size_t)n };
}

static int digits(const char *p, int count)
{
    int number = 0;

    for (int i = 0; i < count; i++) {
        if (p[i] < '0' || p[i] > '9') return -1;
        number = number * 10 + (p[i] - '0');
    }
    return number;
}

bool http_date_read(struct slice text, int64_t *seconds)
{
    char again[HTTP_DATE_MAX];
    const char *p = text.p;
    struct tm t = { 0 };

    if (text.n != 29) return false;
    for (t.tm_mon = 0; t.tm_mon < 12; t.tm_mon++)
        if (memcmp(p + 8, months[t.tm_mon], 3) == 0) break;
    t.tm_mday = digits(p + 5, 2);
    t.tm_year = digits(p + 12, 4) - 1900;
    t.tm_hour = digits(p + 17, 2);
    t.tm_min = digits(p + 20, 2);
    t.tm_sec = digits(p + 23, 2);
    if (t.tm_mon == 12 || t.tm_mday < 1 || t.tm_year < 0 || t.tm_hour < 0 ||
        t.tm_min < 0 || t.tm_sec < 0)
        return false;
    *seconds = (int64_t)timegm(&t);

    /* What does not read the same again was no date, or had a wrong day of the week. */
    return slice_equal(http_date_write(*seconds, again), text);
}
