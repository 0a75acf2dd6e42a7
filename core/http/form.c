#include "http/message.h"

#include "base/utf8.h"
#include "http/text.h"

/* False: malformed, NUL, not UTF-8, no memory. */
static bool decode(struct arena *arena, struct slice raw, struct slice *text)
{
    char *out = arena_get(arena, raw.n);
    size_t n;

    if (out == NULL || !text_decode(raw, ' ', out, &n)) return false;
    *text = (struct slice){ out, n };
    return utf8_valid(out, n);
}

int form_next(struct arena *arena, struct slice *rest, struct slice *key,
              struct slice *value)
{
    while (rest->n > 0) {
        struct slice pair = text_until(rest, '&'), raw = pair;

        if (pair.n == 0) continue;
        raw = text_until(&pair, '=');
        return decode(arena, raw, key) && decode(arena, pair, value) ? 1 : -1;
    }
    return 0;
}
