/* log.h -- one line per event, key=value or JSON.
 *
 *   log_warn("redis lost", log_text("error", message), log_int("in_flight", n));
 *
 * writes   2026-01-15T10:30:00.123Z warn redis lost error="..." in_flight=3
 *
 * Lines go to a buffer in memory and from there to standard error without ever
 * blocking; what does not fit is dropped and counted in a later line.  Control
 * characters are escaped, so a line is a line.  Nothing secret belongs here.
 * Not for other threads than the loop's, and not for signal handlers.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR, LOG_OFF };
enum log_format { LOG_KEY_VALUE, LOG_JSON };

struct log_field {
    const char *key; /* NULL ends a list of fields */
    enum { LOG_FIELD_TEXT, LOG_FIELD_INT } kind;
    struct slice text;
    int64_t number;
};

static inline struct log_field log_slice(const char *key, struct slice text)
{
    return (struct log_field){ key, LOG_FIELD_TEXT, text, 0 };
}

static inline struct log_field log_text(const char *key, const char *text)
{
    return log_slice(key, slice_of(text));
}

static inline struct log_field log_int(const char *key, int64_t number)
{
    return (struct log_field){ key, LOG_FIELD_INT, { 0 }, number };
}

/* 'who' names the process in each line: "supervisor", "worker 1". */
void log_setup(enum log_level least, enum log_format format, const char *who);

static inline bool log_level_of(struct slice text, enum log_level *level)
{
    static const char *const names[] = { "debug", "info", "warn", "error", "off" };

    for (int i = 0; i <= LOG_OFF; i++)
        if (slice_equal(text, slice_of(names[i]))) {
            *level = (enum log_level)i;
            return true;
        }
    return false;
}

bool log_wants(enum log_level level);

/* 'fields' ends with one whose key is NULL. */
void log_write(enum log_level level, const char *event, const struct log_field fields[]);

#define LOG_FIELDS(...)                                                                  \
    (const struct log_field[])                                                           \
    {                                                                                    \
        __VA_ARGS__ __VA_OPT__(, ) { 0 }                                                 \
    }
#define log_debug(event, ...) log_write(LOG_DEBUG, event, LOG_FIELDS(__VA_ARGS__))
#define log_info(event, ...) log_write(LOG_INFO, event, LOG_FIELDS(__VA_ARGS__))
#define log_warn(event, ...) log_write(LOG_WARN, event, LOG_FIELDS(__VA_ARGS__))
#define log_error(event, ...) log_write(LOG_ERROR, event, LOG_FIELDS(__VA_ARGS__))

/* Writes what the file descriptor takes now.  The loop calls it every turn. */
void log_flush(void);

/* The same, waiting up to a second for it; for the end of a process. */
void log_flush_all(void);

/* After a fork: the child forgets what the parent has still to write. */
void log_forget(void);

#endif
