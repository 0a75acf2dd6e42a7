#include "http/message.h"

#include "base/utf8.h"

static int hex(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

/* Percent-decodes, '+' is a blank.  False: malformed, NUL, not UTF-8, no memory. */
static bool decode(struct arena *arena, struct slice raw, struct slice *text)
{
    char *out;
    size_t n = 0;

    if (raw.n == 0) {
        *text = SLICE("");
        return true;
    }
    out = arena_get(arena, raw.n);
    if (out == NULL) return false;
    for (size_t i = 0; i < raw.n; i++) {
        char c = raw.p[i];

        if (c == '+') c = ' ';
        else if (c == '%') {
            int high = raw.n - i > 2 ? hex(raw.p[i + 1]) : -1;
            int low = raw.n - i > 2 ? hex(raw.p[i + 2]) : -1;

            if (high < 0 || low < 0) return false;
            c = (char)(high * 16 + low);
            i += 2;
        }
        if (c == '\0') return false;
        out[n++] = c;
    }
    *text = (struct slice){ out, n };
    return utf8_valid(out, n);
}

int form_next(struct arena *arena, struct slice *rest, struct slice *key,
              struct slice *value)
{
    while (rest->n > 0) {
        const char *end = memchr(rest->p, '&', rest->n), *equals;
        size_t n = end == NULL ? rest->n : (size_t)(end - rest->p);
        struct slice pair = { rest->p, n }, raw_key = pair, raw_value = { "", 0 };

        rest->p += end == NULL ? n : n + 1;
        rest->n -= end == NULL ? n : n + 1;
        if (pair.n == 0) continue;
        equals = memchr(pair.p, '=', pair.n);
        if (equals != NULL) {
            raw_key.n = (size_t)(equals - pair.p);
            raw_value = (struct slice){ equals + 1, pair.n - raw_key.n - 1 };
        }
        return decode(arena, raw_key, key) && decode(arena, raw_value, value) ? 1 : -1;
    }
    return 0;
}
