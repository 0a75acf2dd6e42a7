#include "http/message.h"

/* ---- parameters: name="value" ----------------------------------------------------- */

static struct slice strip(struct slice s)
{
    while (s.n > 0 && (*s.p == ' ' || *s.p == '\t')) s.p++, s.n--;
    while (s.n > 0 && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t')) s.n--;
    return s;
}

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
        struct slice part = strip((struct slice){ value.p, n });
        const char *equals = part.n == 0 ? NULL : memchr(part.p, '=', part.n);

        if (equals != NULL &&
            slice_equal_fold(strip((struct slice){ part.p, (size_t)(equals - part.p) }),
                             name)) {
            struct slice text = { equals + 1, part.n - (size_t)(equals - part.p) - 1 };

            text = strip(text);
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

/* The lines of a part's head, up to the empty one; false when it is malformed. */
static bool read_head(struct slice *rest, struct form_part *part)
{
    for (;;) {
        const char *end = memmem(rest->p, rest->n, "\r\n", 2), *colon;
        struct slice line, name, value;

        if (end == NULL) return false;
        line = (struct slice){ rest->p, (size_t)(end - rest->p) };
        rest->p += line.n + 2;
        rest->n -= line.n + 2;
        if (line.n == 0) return part->name.p != NULL;
        colon = memchr(line.p, ':', line.n);
        if (colon == NULL) return false;
        name = (struct slice){ line.p, (size_t)(colon - line.p) };
        value = strip((struct slice){ colon + 1, line.n - name.n - 1 });
        if (slice_equal_fold(name, SLICE("Content-Disposition"))) {
            if (value.n < 9 || strncasecmp(value.p, "form-data", 9) != 0) return false;
            part->name = parameter(value, SLICE("name"));
            part->filename = parameter(value, SLICE("filename"));
        } else if (slice_equal_fold(name, SLICE("Content-Type"))) {
            part->content_type = value;
        }
    }
}

enum { BOUNDARY_MAX = 70 };

int multipart_split(struct slice content_type, struct slice body,
                    struct form_part parts[], int max)
{
    struct slice boundary = parameter(content_type, SLICE("boundary")), rest = body;
    char mark[BOUNDARY_MAX + 4] = "\r\n--";
    size_t mark_n;
    int count = 0;

    if (boundary.p == NULL || boundary.n == 0 || boundary.n > BOUNDARY_MAX) return -1;
    memcpy(mark + 4, boundary.p, boundary.n);
    mark_n = boundary.n + 4;
    if (body.n < mark_n - 2 || memcmp(body.p, mark + 2, mark_n - 2) != 0) return -1;
    rest.p += mark_n - 2;
    rest.n -= mark_n - 2;
    for (;;) {
        const char *end;

        if (rest.n >= 2 && memcmp(rest.p, "--", 2) == 0) return count;
        if (rest.n < 2 || memcmp(rest.p, "\r\n", 2) != 0 || count == max) return -1;
        rest.p += 2;
        rest.n -= 2;
        parts[count] = (struct form_part){ 0 };
        if (!read_head(&rest, &parts[count])) return -1;
        end = memmem(rest.p, rest.n, mark, mark_n);
        if (end == NULL) return -1;
        parts[count++].body = (struct slice){ rest.p, (size_t)(end - rest.p) };
        rest.n -= (size_t)(end - rest.p) + mark_n;
        rest.p = end + mark_n;
    }
}
