#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static int64_t read_ns(clockid_t id)
{
    struct timespec t;

    clock_gettime(id, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int64_t clock_ns(void) { return read_ns(CLOCK_MONOTONIC); }
int64_t clock_ms(void) { return read_ns(CLOCK_MONOTONIC) / 1000000; }
int64_t clock_thread_cpu_ns(void) { return read_ns(CLOCK_THREAD_CPUTIME_ID); }
int64_t clock_wall_us(void) { return read_ns(CLOCK_REALTIME) / 1000; }

size_t clock_iso(int64_t us, char text[static CLOCK_ISO_MAX])
{
    time_t seconds = (time_t)(us / 1000000);
    struct tm t;
    int n;

    if (gmtime_r(&seconds, &t) == NULL) t = (struct tm){ .tm_mday = 1, .tm_year = 70 };
    n = snprintf(text, CLOCK_ISO_MAX, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ",
                 (t.tm_year + 1900) % 10000, t.tm_mon + 1, t.tm_mday, t.tm_hour, t.tm_min,
                 t.tm_sec, (int)(us / 1000 % 1000));
    return n < 0 || n >= CLOCK_ISO_MAX ? 0 : (size_t)n;
}

static int64_t scale; /* 0: not known yet */

void clock_scale_by(int64_t factor) { scale = factor; }

int64_t clock_scaled(int64_t limit)
{
    if (scale == 0) {
        const char *text = getenv("OMADE_TIME_SCALE");
        long asked = text == NULL ? 1 : strtol(text, NULL, 10);

        scale = asked >= 1 && asked <= 1000 ? asked : 1;
    }
    return limit * scale;
}
