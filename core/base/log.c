#include "base/log.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/json.h"

enum { BACKLOG_MAX = 1 << 20, TEXT_MAX = 16 * 1024 };
enum { PIECE = 4096 }; /* what a pipe takes at once */

static struct {
    enum log_level least;
    enum log_format format;
    char who[24];
    struct buf lines;
    int64_t dropped;
} out = { .least = LOG_INFO, .who = "omade" };

static const char *const level_names[] = { "debug", "info", "warn", "error" };

void log_setup(enum log_level least, enum log_format format, const char *who)
{
    out.least = least;
    out.format = format;
    strncpy(out.who, who, sizeof out.who - 1);
}

bool log_wants(enum log_level level) { return level >= out.least && level < LOG_OFF; }

/* ---- one line ---------------------------------------------------------- */

static bool is_plain(struct slice text)
{
    if (text.n == 0) return false;
    for (size_t i = 0; i < text.n; i++) {
        unsigned char byte = (unsigned char)text.p[i];

        if (byte <= ' ' || byte == '"' || byte == '=' || byte == '\\' || byte >= 0x7f)
            return false;
    }
    return true;
}

/* Events and keys are the engine's own texts, or a script's. */
static void add_name(struct buf *b, const char *name)
{
    for (size_t n = 0; *name != '\0' && n < TEXT_MAX; name++, n++)
        buf_add_byte(b, (unsigned char)*name < ' ' || *name == 127 ? '?' : *name);
}

static void add_key_value(struct buf *b, const struct log_field *field)
{
    buf_add_byte(b, ' ');
    add_name(b, field->key);
    buf_add_byte(b, '=');
    if (field->kind == LOG_FIELD_INT) buf_add_int(b, field->number);
    else if (is_plain(field->text)) buf_add_slice(b, field->text);
    else json_add_string(b, field->text);
}

static void add_json(struct buf *b, const struct log_field *field)
{
    buf_add_byte(b, ',');
    json_add_string(b, slice_of(field->key));
    buf_add_byte(b, ':');
    if (field->kind == LOG_FIELD_INT) buf_add_int(b, field->number);
    else json_add_string(b, field->text);
}

/* Texts of scripts may be long, and lines are for people. */
static struct log_field cut(const struct log_field *field)
{
    struct log_field short_one = *field;

    if (field->kind == LOG_FIELD_TEXT && field->text.n > TEXT_MAX)
        short_one.text.n = TEXT_MAX;
    return short_one;
}

static void add_line(struct buf *b, enum log_level level, const char *event,
                     const struct log_field fields[])
{
    char time[CLOCK_ISO_MAX];

    clock_iso(clock_wall_us(), time);
    if (out.format == LOG_JSON) {
        buf_addf(b,
                 "{\"time\":\"%s\",\"level\":\"%s\",\"process\":\"%s\",\"event\":", time,
                 level_names[level], out.who);
        json_add_string(b, slice_of(event));
        for (; fields->key != NULL; fields++) {
            struct log_field field = cut(fields);

            add_json(b, &field);
        }
        BUF_ADD(b, "}\n");
        return;
    }
    buf_addf(b, "%s %-5s [%s] ", time, level_names[level], out.who);
    add_name(b, event);
    for (; fields->key != NULL; fields++) {
        struct log_field field = cut(fields);

        add_key_value(b, &field);
    }
    BUF_ADD(b, "\n");
}

void log_write(enum log_level level, const char *event, const struct log_field fields[])
{
    size_t before = out.lines.n;

    if (!log_wants(level)) return;
    if (before < BACKLOG_MAX) {
        add_line(&out.lines, level, event, fields);
        if (!out.lines.failed) return;
        out.lines.n = before;
        out.lines.failed = false;
    }
    out.dropped++;
}

/* ---- to standard error ------------------------------------------------- */

/* poll() first: the descriptor may be shared with other processes, so it is not
 * ours to make non-blocking. */
static bool write_piece(int wait_ms)
{
    struct pollfd ready = { .fd = STDERR_FILENO, .events = POLLOUT };
    size_t n = out.lines.n < PIECE ? out.lines.n : PIECE;
    ssize_t written;

    if (poll(&ready, 1, wait_ms) != 1 || !(ready.revents & POLLOUT)) return false;
    written = write(STDERR_FILENO, out.lines.p, n);
    if (written <= 0) {
        if (written < 0 && errno != EINTR && errno != EAGAIN) out.lines.n = 0;
        return false;
    }
    buf_drop(&out.lines, (size_t)written);
    return true;
}

void log_flush(void)
{
    if (out.lines.n == 0) return;
    while (out.lines.n > 0 && write_piece(0)) continue;
    if (out.dropped > 0 && out.lines.n == 0) {
        int64_t dropped = out.dropped;

        out.dropped = 0;
        log_warn("log lines dropped", log_int("lines", dropped));
    }
    if (out.lines.n == 0 && out.lines.cap > BACKLOG_MAX / 4) buf_free(&out.lines);
}

void log_flush_all(void)
{
    int64_t until = clock_ms() + 1000;

    while (out.lines.n > 0 && clock_ms() < until)
        if (!write_piece(100) && out.lines.n == 0) break;
    buf_free(&out.lines);
}

void log_forget(void)
{
    buf_clear(&out.lines);
    out.dropped = 0;
}
