#include "base/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

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

void json_add_string(struct buf *b, struct slice text)
{
    size_t plain = 0;

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
