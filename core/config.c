#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/list.h"
#include "base/mem.h"
#include "http/proxy.h"

/* ---- the list --------------------------------------------------------------------- */

enum kind {
    KIND_TEXT,
    KIND_NUMBER,
    KIND_FLAG,
    KIND_CHOICE,
    KIND_SECRET,
    KIND_DATABASE,
    KIND_PROXIES
};

struct setting {
    enum kind kind;
    const char *name;
    size_t offset;
    const char *text;
    int64_t number, least, most;
    const char *unit, *meaning;
    const char *choices; /* "this|that" */
};

#define CONFIG_PLAIN(kind, field, name, value, meaning, choices)                         \
    { kind, name, offsetof(struct config, field), value, 0, 0, 0, "", meaning, choices },
#define CONFIG_TEXT(field, name, value, meaning)                                         \
    CONFIG_PLAIN(KIND_TEXT, field, name, value, meaning, NULL)
#define CONFIG_NUMBER(field, name, value, least, most, unit, meaning)                    \
    { KIND_NUMBER, name, offsetof(struct config, field), NULL, value, least, most, unit, \
      meaning,     NULL },
#define CONFIG_FLAG(field, name, value, meaning)                                         \
    { KIND_FLAG, name, offsetof(struct config, field), NULL, value, 0, 1, "",            \
      meaning,   NULL },
#define CONFIG_CHOICE(field, name, value, choices, meaning)                              \
    CONFIG_PLAIN(KIND_CHOICE, field, name, value, meaning, choices)
#define CONFIG_SECRET(field, name, meaning)                                              \
    CONFIG_PLAIN(KIND_SECRET, field, name, NULL, meaning, NULL)
#define CONFIG_DATABASE(field, name, meaning)                                            \
    CONFIG_PLAIN(KIND_DATABASE, field, name, NULL, meaning, NULL)
#define CONFIG_PROXIES(field, name, meaning)                                             \
    CONFIG_PLAIN(KIND_PROXIES, field, name, "", meaning, NULL)

static const struct setting settings[] = { CONFIG_SETTINGS(
    CONFIG_TEXT, CONFIG_NUMBER, CONFIG_FLAG, CONFIG_CHOICE, CONFIG_SECRET,
    CONFIG_DATABASE, CONFIG_PROXIES) };

static void *place(struct config *config, const struct setting *s)
{
    return (char *)config + s->offset;
}

/* ---- one value ---------------------------------------------------------------------- */

static bool read_number(const struct setting *s, const char *text, int64_t *number)
{
    char *end;

    errno = 0;
    *number = strtoll(text, &end, 10);
    return errno == 0 && end != text && *end == '\0' && *number >= s->least &&
           *number <= s->most;
}

static bool read_flag(const char *text, bool *flag)
{
    static const char *const yes[] = { "on", "1", "true", "yes" };
    static const char *const no[] = { "off", "0", "false", "no", "" };

    for (size_t i = 0; i < COUNT_OF(yes); i++)
        if (strcmp(text, yes[i]) == 0) return *flag = true;
    *flag = false;
    for (size_t i = 0; i < COUNT_OF(no); i++)
        if (strcmp(text, no[i]) == 0) return true;
    return false;
}

static bool is_choice(const char *choices, const char *text)
{
    size_t n = strlen(text);

    if (n == 0 || strchr(text, '|') != NULL) return false;
    for (const char *p = choices; p != NULL; p = strchr(p, '|')) {
        if (*p == '|') p++;
        if (strncmp(p, text, n) == 0 && (p[n] == '|' || p[n] == '\0')) return true;
    }
    return false;
}

/* libpq takes anything without '=' for the name of a database on this machine. */
static bool is_database(const char *text)
{
    return strncmp(text, "postgres://", 11) == 0 ||
           strncmp(text, "postgresql://", 13) == 0 ||
           (strchr(text, '=') != NULL && strstr(text, "://") == NULL);
}

static bool is_proxies(const char *text, const char *name, struct buf *fault)
{
    struct proxies proxies;
    struct slice wrong;

    if (proxies_read(&proxies, slice_of(text), &wrong)) return true;
    if (wrong.p == NULL)
        buf_addf(fault, "%s has more than %d entries", name, PROXIES_MAX);
    else
        buf_addf(fault, "%s: '%.*s' is neither an address nor a range like 10.0.0.0/8",
                 name, (int)wrong.n, wrong.p);
    return false;
}

static bool set(struct config *config, const struct setting *s, const char *text,
                struct buf *fault)
{
    void *at = place(config, s);

    switch (s->kind) {
    case KIND_TEXT:
    case KIND_SECRET: *(const char **)at = text; return true;
    case KIND_CHOICE:
        *(const char **)at = text;
        if (is_choice(s->choices, text)) return true;
        buf_addf(fault, "%s is '%s', but must be one of %s", s->name, text, s->choices);
        return false;
    case KIND_DATABASE:
        *(const char **)at = text;
        if (is_database(text)) return true;
        buf_addf(fault, "%s must be a URL: postgres://user:password@host/database",
                 s->name);
        return false;
    case KIND_PROXIES: *(const char **)at = text; return is_proxies(text, s->name, fault);
    case KIND_NUMBER:
        if (read_number(s, text, at)) return true;
        buf_addf(fault, "%s is '%s', but must be a whole number from %lld to %lld%s%s",
                 s->name, text, (long long)s->least, (long long)s->most,
                 *s->unit == '\0' ? "" : " ", s->unit);
        return false;
    case KIND_FLAG:
        if (read_flag(text, at)) return true;
        buf_addf(fault, "%s is '%s', but must be on or off", s->name, text);
        return false;
    }
    return false;
}

static void set_default(struct config *config, const struct setting *s)
{
    void *at = place(config, s);

    if (s->kind == KIND_NUMBER) *(int64_t *)at = s->number;
    else if (s->kind == KIND_FLAG) *(bool *)at = s->number != 0;
    else *(const char **)at = s->text;
}

/* ---- .env ----------------------------------------------------------------------------- */

struct line {
    struct list_node node;
    char *name, *value;
};

struct config_file {
    struct list lines;
};

static char *strip(char *text)
{
    size_t n;

    while (*text == ' ' || *text == '\t') text++;
    n = strlen(text);
    while (n > 0 && strchr(" \t\r\n", text[n - 1]) != NULL) text[--n] = '\0';
    return text;
}

/* NAME=value, "export" and quotation marks allowed; # begins a comment line. */
static bool read_line(struct config_file *file, char *text)
{
    char *name = strip(text), *equals, *value;
    struct line *line;
    size_t n;

    if (*name == '\0' || *name == '#') return true;
    if (strncmp(name, "export ", 7) == 0) name = strip(name + 7);
    equals = strchr(name, '=');
    if (equals == NULL) return false;
    *equals = '\0';
    name = strip(name);
    value = strip(equals + 1);
    n = strlen(value);
    if (n >= 2 && (*value == '"' || *value == '\'') && value[n - 1] == *value) {
        value[n - 1] = '\0';
        value++;
    }
    line = mem_get_clear(sizeof *line);
    if (line == NULL) return false;
    line->name = mem_copy_text(name, strlen(name));
    line->value = mem_copy_text(value, strlen(value));
    list_append(&file->lines, &line->node);
    return line->name != NULL && line->value != NULL;
}

static bool read_file(struct config *config, struct buf *fault)
{
    char path[4096], *text = NULL;
    size_t cap = 0;
    int number = 0;
    FILE *f;

    config->file = mem_get_clear(sizeof *config->file);
    if (config->file == NULL) {
        buf_add_text(fault, "out of memory");
        return false;
    }
    snprintf(path, sizeof path, "%s/.env", config->home);
    f = fopen(path, "re");
    if (f == NULL) return true;
    while (getline(&text, &cap, f) >= 0) {
        number++;
        if (read_line(config->file, text)) continue;
        buf_addf(fault, "%s, line %d: NAME=value is expected", path, number);
        break;
    }
    free(text);
    fclose(f);
    return fault->n == 0;
}

const char *config_text(const struct config *config, const char *name)
{
    const char *value = getenv(name);

    if (value != NULL) return value;
    for (struct list_node *n = config->file->lines.first; n != NULL; n = n->next) {
        struct line *line = LIST_ENTRY(n, struct line, node);

        if (strcmp(line->name, name) == 0) return line->value;
    }
    return NULL;
}

/* ---- all --------------------------------------------------------------------------------- */

bool config_read(struct config *config, const char *home, struct buf *fault)
{
    *config = (struct config){ .home = home };
    if (!read_file(config, fault)) return false;
    for (size_t i = 0; i < COUNT_OF(settings); i++) {
        const char *text = config_text(config, settings[i].name);

        set_default(config, &settings[i]);
        if (text != NULL && *text != '\0' && !set(config, &settings[i], text, fault))
            return false;
    }
    clock_scale_by(config->time_scale);
    return true;
}

void config_free(struct config *config)
{
    struct list_node *node;

    if (config->file == NULL) return;
    while ((node = list_take(&config->file->lines)) != NULL) {
        struct line *line = LIST_ENTRY(node, struct line, node);

        mem_free(line->name);
        mem_free(line->value);
        mem_free(line);
    }
    mem_free(config->file);
    config->file = NULL;
}

bool config_set(struct config *config, const char *name, const char *value,
                struct buf *fault)
{
    for (size_t i = 0; i < COUNT_OF(settings); i++)
        if (strcmp(settings[i].name, name) == 0)
            return set(config, &settings[i], value, fault);
    buf_addf(fault, "there is no setting %s", name);
    return false;
}

static void print_value(const struct config *config, const struct setting *s,
                        struct buf *out)
{
    const void *at = (const char *)config + s->offset;
    const char *text;

    switch (s->kind) {
    case KIND_NUMBER:
        buf_addf(out, "%lld%s%s", (long long)*(const int64_t *)at,
                 *s->unit == '\0' ? "" : " ", s->unit);
        break;
    case KIND_FLAG: buf_add_text(out, *(const bool *)at ? "on" : "off"); break;
    case KIND_SECRET:
    case KIND_DATABASE:
        buf_add_text(out, *(const char *const *)at == NULL ? "-" : "(set)");
        break;
    case KIND_TEXT:
    case KIND_CHOICE:
    case KIND_PROXIES:
        text = *(const char *const *)at;
        buf_add_text(out, *text == '\0' ? "-" : text);
        break;
    }
}

void config_print(const struct config *config, struct buf *out)
{
    for (size_t i = 0; i < COUNT_OF(settings); i++) {
        const struct setting *s = &settings[i];

        buf_addf(out, "%-28s ", s->name);
        print_value(config, s, out);
        buf_addf(out, "\n    %s", s->meaning);
        if (s->choices != NULL) buf_addf(out, ": %s", s->choices);
        if (s->kind == KIND_NUMBER)
            buf_addf(out, " (default %lld%s%s)", (long long)s->number,
                     *s->unit == '\0' ? "" : " ", s->unit);
        if (s->kind == KIND_FLAG)
            buf_addf(out, " (default %s)", s->number ? "on" : "off");
        if (s->text != NULL && *s->text != '\0') buf_addf(out, " (default %s)", s->text);
        BUF_ADD(out, "\n");
    }
}
