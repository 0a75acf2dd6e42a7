#include "http/message.h"

#include "base/utf8.h"
#include "http/text.h"

/* ---- parameters: name="value" ----------------------------------------------------- */

/* The length of the parameter at p, a ';' inside quotation marks does not end it. */
static size_t parameter_length(struct slice s)
{
    bool quoted = false;
    size_t n = 0;

    for (; n < s.n && (quoted || s.p[n] != ';'); n++) {
        if (s.p[n] == '"') quoted = !quoted;
        else if (s.p[n] == '\\' && quoted && n + 1 < s.n) n++;
    }
    return n;
}

/* The parameter of a header's value; p is NULL when there is none. */
static struct slice parameter(struct slice value, struct slice name)
{
    while (value.n > 0) {
        size_t n = parameter_length(value);
        struct slice part = text_strip((struct slice){ value.p, n });
        const char *equals = part.n == 0 ? NULL : memchr(part.p, '=', part.n);

        if (equals != NULL &&
            slice_equal_fold(
                text_strip((struct slice){ part.p, (size_t)(equals - part.p) }), name)) {
            struct slice text = { equals + 1, part.n - (size_t)(equals - part.p) - 1 };

            text = text_strip(text);
            if (text.n >= 2 && text.p[0] == '"' && text.p[text.n - 1] == '"')
                text = (struct slice){ text.p + 1, text.n - 2 };
            return text;
        }
        if (n < value.n) n++;
        value = (struct slice){ value.p + n, value.n - n };
    }
    return (struct slice){ NULL, 0 };
}

/* ---- parts -------------------------------------------------------------------------- */

static void skip(struct slice *s, size_t n)
{
    s->p += n;
    s->n -= n;
}

static bool begins_with(struct slice s, struct slice start)
{
    return s.n >= start.n && memcmp(s.p, start.p, start.n) == 0;
}

static bool is_text(struct slice line)
{
    for (size_t i = 0; i < line.n; i++)
        if (text_is_control(line.p[i])) return false;
    return utf8_valid(line.p, line.n);
}

static bool read_disposition(struct slice value, struct form_part *part)
{
    struct slice rest = value;

    if (part->name.p != NULL) return false; /* said twice */
    if (!slice_equal_fold(text_strip(text_until(&rest, ';')), SLICE("form-data")))
        return false;
    part->name = parameter(value, SLICE("name"));
    part->filename = parameter(value, SLICE("filename"));
    return part->name.p != NULL;
}

/* The lines of a part's head, up to the empty one; false when it is malformed. */
static bool read_head(struct slice *rest, struct form_part *part)
{
    for (;;) {
        const char *end = rest->n == 0 ? NULL : memmem(rest->p, rest->n, "\r\n", 2);
        struct slice line, name, value;

        if (end == NULL) return false;
        line = (struct slice){ rest->p, (size_t)(end - rest->p) };
        skip(rest, line.n + 2);
        if (line.n == 0) return part->name.p != NULL;
        if (!is_text(line) || memchr(line.p, ':', line.n) == NULL) return false;
        name = text_until(&line, ':');
        value = text_strip(line);
        if (slice_equal_fold(name, SLICE("Content-Disposition"))) {
            if (!read_disposition(value, part)) return false;
        } else if (slice_equal_fold(name, SLICE("Content-Type"))) {
            part->content_type = value;
        }
    }
}

/* Steps behind the next boundary and returns what stands before it; p is NULL when there
 * is none. */
static struct slice until_boundary(struct slice *rest, struct slice mark)
{
    const char *at = rest->n == 0 ? NULL : memmem(rest->p, rest->n, mark.p, mark.n);
    struct slice before = { NULL, 0 };

    if (at == NULL) return before;
    before = (struct slice){ rest->p, (size_t)(at - rest->p) };
    skip(rest, before.n + mark.n);
    return before;
}

enum { BOUNDARY_MAX = 70 };

int multipart_split(struct slice content_type, struct slice body,
                    struct form_part parts[], int max)
{
    struct slice boundary = parameter(content_type, SLICE("boundary")), rest = body;
    char text[BOUNDARY_MAX + 4] = "\r\n--";
    struct slice mark = { text, boundary.n + 4 };
    int count = 0;

    if (boundary.n == 0 || boundary.n > BOUNDARY_MAX) return -1;
    memcpy(text + 4, boundary.p, boundary.n);
    if (begins_with(body, (struct slice){ text + 2, mark.n - 2 }))
        skip(&rest, mark.n - 2);
    else if (until_boundary(&rest, mark).p == NULL) return -1;
    while (!begins_with(rest, SLICE("--"))) {
        struct form_part part = { 0 };

        while (rest.n > 0 && (*rest.p == ' ' || *rest.p == '\t')) skip(&rest, 1);
        if (!begins_with(rest, SLICE("\r\n")) || count == max) return -1;
        skip(&rest, 2);
        if (!read_head(&rest, &part)) return -1;
        part.body = until_boundary(&rest, mark);
        if (part.body.p == NULL) return -1;
        parts[count++] = part;
    }
    return count;
}
