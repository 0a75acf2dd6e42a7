#include "commerce/scan.h"

#include <assert.h>
#include <string.h>

#include "commerce/number.h"

/* ---- marks --------------------------------------------------------------- */

bool text_equal(struct text a, struct text b)
{
    if (a.n != b.n) return false;
    for (size_t i = 0; i < a.n; i++)
        if (a.p[i] != b.p[i]) return false;
    return true;
}

static inline bool is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

static inline void skip_space(struct scan *s)
{
    while (s->p < s->end && is_space(*s->p)) s->p++;
}

bool scan_mark(struct scan *s, char mark)
{
    skip_space(s);
    if (s->p == s->end || *s->p != mark) return false;
    s->p++;
    return true;
}

bool scan_end(struct scan *s)
{
    skip_space(s);
    return s->p == s->end;
}

/* ---- strings ------------------------------------------------------------- */

/* -1 for what is no digit. */
static int hex_value(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

/* Four hexadecimal digits; -1 when there are none. */
static int scan_unit(struct scan *s)
{
    int unit = 0;

    if (s->end - s->p < 4) return -1;
    for (int i = 0; i < 4; i++) {
        int value = hex_value(*s->p++);

        if (value < 0) return -1;
        unit = unit << 4 | value;
    }
    return unit;
}

/* What follows \u: a character other than NUL, in two halves from U+10000 on. */
static bool scan_unicode(struct scan *s)
{
    int unit = scan_unit(s);

    if (unit <= 0 || (unit >= 0xdc00 && unit <= 0xdfff)) return false;
    if (unit < 0xd800 || unit > 0xdbff) return true;
    if (s->end - s->p < 2 || s->p[0] != '\\' || s->p[1] != 'u') return false;
    s->p += 2;
    unit = scan_unit(s);
    return unit >= 0xdc00 && unit <= 0xdfff;
}

/* What follows a backslash. */
static bool scan_escape(struct scan *s)
{
    if (s->p == s->end) return false;
    switch (*s->p++) {
    case '"':
    case '\\':
    case '/':
    case 'b':
    case 'f':
    case 'n':
    case 'r':
    case 't': return true;
    case 'u': return scan_unicode(s);
    default: return false;
    }
}

#define EACH(byte) (0x0101010101010101u * (byte))

/* Whether one of eight bytes may be a quote, a backslash or a control character.  A
 * borrow can only make more of them look so: then the slow way is taken. */
static bool is_special(uint64_t eight)
{
    return (((eight - EACH(0x20)) | ((eight ^ EACH('"')) - EACH(1)) |
             ((eight ^ EACH('\\')) - EACH(1))) &
            ~eight & EACH(0x80)) != 0;
}

static void skip_plain(struct scan *s)
{
    uint64_t eight;

    for (; s->end - s->p >= 8; s->p += 8) {
        memcpy(&eight, s->p, 8);
        if (is_special(eight)) return;
    }
}

bool scan_string(struct scan *s, struct text *body)
{
    const char *from;

    if (!scan_mark(s, '"')) return false;
    from = s->p;
    skip_plain(s);
    while (s->p < s->end) {
        unsigned char c = (unsigned char)*s->p++;

        if (c == '"') {
            *body = (struct text){ from, (size_t)(s->p - 1 - from) };
            return true;
        }
        if (c < 0x20 || (c == '\\' && !scan_escape(s))) return false;
    }
    return false;
}

/* ---- numbers ------------------------------------------------------------- */

/* As digits * 10^places. */
static bool scan_units(struct scan *s, int places, bool integer, int64_t *units)
{
    struct number number;
    bool fits;
    size_t n;

    skip_space(s);
    n = number_scan(s->p, (size_t)(s->end - s->p), &number);
    if (n == 0 || (integer && !number.integer)) return false;
    s->p += n;
    return number_scaled(&number, places, units, &fits);
}

bool scan_integer(struct scan *s, int64_t *value)
{
    return scan_units(s, 0, true, value);
}

bool scan_money(struct scan *s, money *value)
{
    return scan_units(s, 2, false, &value->cents);
}

/* ---- any value ----------------------------------------------------------- */

static bool skip_value(struct scan *s, int depth);

static bool skip_word(struct scan *s, struct text word)
{
    if ((size_t)(s->end - s->p) < word.n) return false;
    if (!text_equal((struct text){ s->p, word.n }, word)) return false;
    s->p += word.n;
    return true;
}

static bool skip_number(struct scan *s)
{
    struct number number;
    size_t n = number_scan(s->p, (size_t)(s->end - s->p), &number);

    s->p += n;
    return n > 0;
}

/* The elements or members up to 'close'; what opened them is read. */
static bool skip_all(struct scan *s, char close, int depth)
{
    struct text name;

    if (depth == SCAN_DEPTH) return false;
    if (scan_mark(s, close)) return true;
    do {
        if (close == '}' && !(scan_string(s, &name) && scan_mark(s, ':'))) return false;
        if (!skip_value(s, depth + 1)) return false;
    } while (scan_mark(s, ','));
    return scan_mark(s, close);
}

static bool skip_value(struct scan *s, int depth)
{
    struct text body;

    skip_space(s);
    if (s->p == s->end) return false;
    switch (*s->p) {
    case '{': s->p++; return skip_all(s, '}', depth);
    case '[': s->p++; return skip_all(s, ']', depth);
    case '"': return scan_string(s, &body);
    case 't': return skip_word(s, (struct text){ "true", 4 });
    case 'f': return skip_word(s, (struct text){ "false", 5 });
    case 'n': return skip_word(s, (struct text){ "null", 4 });
    default: return skip_number(s);
    }
}

bool scan_value(struct scan *s, struct text *value)
{
    const char *from;

    skip_space(s);
    from = s->p;
    if (!skip_value(s, 0)) return false;
    *value = (struct text){ from, (size_t)(s->p - from) };
    return true;
}

/* ---- objects ------------------------------------------------------------- */

/* Steps over "name": when it stands there without any white space. */
static bool skip_name(struct scan *s, struct text name)
{
    const char *p = s->p;

    if ((size_t)(s->end - p) < name.n + 3) return false;
    if (p[0] != '"' || p[name.n + 1] != '"' || p[name.n + 2] != ':') return false;
    if (!text_equal((struct text){ p + 1, name.n }, name)) return false;
    s->p += name.n + 3;
    return true;
}

/* Reads a name and its colon.  Which member it is, the first guess being '*at'. */
static bool read_name(struct scan *s, const struct scan_member *members, size_t count,
                      size_t *at)
{
    struct text name;

    if (skip_name(s, members[*at].name)) return true;
    if (!scan_string(s, &name) || !scan_mark(s, ':')) return false;
    for (size_t i = 0; i < count; i++)
        if (text_equal(members[i].name, name)) {
            *at = i;
            return true;
        }
    return false;
}

bool scan_object(struct scan *s, const struct scan_member *members, size_t count,
                 void *object, uint32_t *seen)
{
    uint32_t found = 0;
    size_t at = 0;

    assert(count > 0 && count < 32);
    if (!scan_mark(s, '{')) return false;
    do {
        if (!read_name(s, members, count, &at)) return false;
        if ((found & 1u << at) != 0) return false;
        found |= 1u << at;
        if (!members[at].read(s, object)) return false;
        at = at + 1 < count ? at + 1 : 0;
    } while (scan_mark(s, ','));
    for (size_t i = 0; i < count; i++)
        if (!members[i].optional && (found & 1u << i) == 0) return false;
    if (seen != NULL) *seen = found;
    return scan_mark(s, '}');
}
