#include "base/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

/* 0: as it is; 'u': \u00XX; else the letter behind the backslash. */
static char escape_of(unsigned char byte)
{
    switch (byte) {
    case '"': return '"';
    case '\\': return '\\';
    case '\b': return 'b';
    case '\f': return 'f';
    case '\n': return 'n';
    case '\r': return 'r';
    case '\t': return 't';
    default: return byte < 0x20 || byte == 0x7f ? 'u' : 0;
    }
}

#define EACH(byte) (0x0101010101010101u * (byte))

/* The high bit is set for some byte of eight unless all are ASCII that needs no
 * escape.  A borrow can only set more of them: then the slow way is taken. */
static uint64_t unusual(uint64_t eight)
{
    return (eight | (eight - EACH(0x20)) | ((eight ^ EACH('"')) - EACH(1)) |
            ((eight ^ EACH('\\')) - EACH(1)) | ((eight ^ EACH(0x7f)) - EACH(1))) &
           EACH(0x80);
}

bool json_is_plain(struct slice text)
{
    uint64_t eight, found = 0;
    size_t i = 0;

    for (; i + 8 <= text.n && found == 0; i += 8) {
        memcpy(&eight, text.p + i, 8);
        found = unusual(eight);
    }
    if (found == 0 && i < text.n) {
        eight = EACH(' ');
        memcpy(&eight, text.p + i, text.n - i);
        found = unusual(eight);
    }
    return found == 0;
}

void json_add_plain(struct buf *b, struct slice text)
{
    char *room = buf_room(b, text.n + 2);

    if (room == NULL) return;
    room[0] = '"';
    if (text.n > 0) memcpy(room + 1, text.p, text.n);
    room[text.n + 1] = '"';
    b->n += text.n + 2;
}

void json_add_string(struct buf *b, struct slice text)
{
    size_t plain = 0;

    if (json_is_plain(text)) {
        json_add_plain(b, text);
        return;
    }
    buf_add_byte(b, '"');
    for (size_t i = 0; i < text.n; i++) {
        unsigned char byte = (unsigned char)text.p[i];

        if (byte >= 0x20 && byte != '"' && byte != '\\' && byte != 0x7f) continue;
        char letter = escape_of(byte);
        buf_add(b, text.p + plain, i - plain);
        plain = i + 1;
        if (letter == 'u') buf_addf(b, "\\u%04x", byte);
        else buf_add(b, (char[]){ '\\', letter }, 2);
    }
    if (text.n > plain) buf_add(b, text.p + plain, text.n - plain);
    buf_add_byte(b, '"');
}

void json_add_double(struct buf *b, double number)
{
    char text[40];

    if (!isfinite(number)) {
        BUF_ADD(b, "null");
        return;
    }
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, number);
        if (strtod(text, NULL) == number) break;
    }
    buf_add_text(b, text);
}

/* ---- whether a text is JSON ------------------------------------------------ */

enum { DEPTH_MAX = 100 };

struct look {
    const char *p, *end; /* p: what is looked at next */
    int depth;
};

static bool skip_value(struct look *l);

static void skip_space(struct look *l)
{
    while (l->p < l->end &&
           (*l->p == ' ' || *l->p == '\n' || *l->p == '\r' || *l->p == '\t'))
        l->p++;
}

static bool skip_byte(struct look *l, char byte)
{
    if (l->p == l->end || *l->p != byte) return false;
    l->p++;
    return true;
}

static bool skip_word(struct look *l, struct slice word)
{
    if ((size_t)(l->end - l->p) < word.n || memcmp(l->p, word.p, word.n) != 0)
        return false;
    l->p += word.n;
    return true;
}

static bool is_hex(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

/* Behind a backslash. */
static bool skip_escape(struct look *l)
{
    if (l->p == l->end || memchr("\"\\/bfnrtu", *l->p, 9) == NULL) return false;
    if (*l->p++ != 'u') return true;
    for (int i = 0; i < 4; i++, l->p++)
        if (l->p == l->end || !is_hex(*l->p)) return false;
    return true;
}

static bool skip_string(struct look *l)
{
    if (!skip_byte(l, '"')) return false;
    while (l->p < l->end) {
        unsigned char byte = (unsigned char)*l->p++;

        if (byte == '"') return true;
        if (byte < 0x20) return false;
        if (byte == '\\' && !skip_escape(l)) return false;
    }
    return false;
}

/* One at least. */
static bool skip_digits(struct look *l)
{
    const char *start = l->p;

    while (l->p < l->end && *l->p >= '0' && *l->p <= '9') l->p++;
    return l->p > start;
}

static bool skip_number(struct look *l)
{
    skip_byte(l, '-');
    if (!skip_byte(l, '0') && !skip_digits(l)) return false;
    if (skip_byte(l, '.') && !skip_digits(l)) return false;
    if (!skip_byte(l, 'e') && !skip_byte(l, 'E')) return true;
    if (!skip_byte(l, '+')) skip_byte(l, '-');
    return skip_digits(l);
}

static bool skip_key(struct look *l)
{
    skip_space(l);
    if (!skip_string(l)) return false;
    skip_space(l);
    return skip_byte(l, ':');
}

/* Behind the bracket that opens it. */
static bool skip_inside(struct look *l, char closing)
{
    if (++l->depth > DEPTH_MAX) return false;
    skip_space(l);
    if (!skip_byte(l, closing)) {
        do {
            if (closing == '}' && !skip_key(l)) return false;
            if (!skip_value(l)) return false;
        } while (skip_byte(l, ','));
        if (!skip_byte(l, closing)) return false;
    }
    l->depth--;
    return true;
}

/* With the white space around it. */
static bool skip_value(struct look *l)
{
    bool good = false;

    skip_space(l);
    if (l->p == l->end) return false;
    switch (*l->p) {
    case '{': l->p++, good = skip_inside(l, '}'); break;
    case '[': l->p++, good = skip_inside(l, ']'); break;
    case '"': good = skip_string(l); break;
    case 't': good = skip_word(l, SLICE("true")); break;
    case 'f': good = skip_word(l, SLICE("false")); break;
    case 'n': good = skip_word(l, SLICE("null")); break;
    default: good = skip_number(l); break;
    }
    skip_space(l);
    return good;
}

bool json_is_text(struct slice text)
{
    struct look l = { text.p, text.p, 0 };

    if (text.n == 0 || !utf8_valid(text.p, text.n)) return false;
    l.end = text.p + text.n;
    return skip_value(&l) && l.p == l.end;
}
