/* clock.h -- the clocks that the engine uses. */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stddef.h>
#include <stdint.h>

/* Monotonic; only differences mean something.  All deadlines use it. */
int64_t clock_ms(void);
int64_t clock_ns(void);

/* CPU time of the calling thread. */
int64_t clock_thread_cpu_ns(void);

/* Wall clock: microseconds since 1970, UTC. */
int64_t clock_wall_us(void);

/* Writes "2026-01-15T10:30:00.123Z" (24 bytes and a NUL) for wall-clock 'us'. */
enum { CLOCK_ISO_MAX = 32 };
size_t clock_iso(int64_t us, char text[static CLOCK_ISO_MAX]);

/* Every time limit times OMADE_TIME_SCALE (1 unless set; sanitizer builds, which
 * are slower, set it): the environment's, unless clock_scale_by() said another. */
int64_t clock_scaled(int64_t limit);
void clock_scale_by(int64_t factor);

#endif
