#include "script/budget.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>
#include <uv.h>

#include "base/clock.h"

enum {
    LOOK_EVERY_MS = 5,
    TRUST_NS = 1000 * 1000,
    SIGNAL = SIGURG
}; /* ignored by default, so a late one is harmless */

/* Written by the loop thread, read by its own signal handler and the watchdog. */
static struct {
    lua_State *volatile running;
    lua_Hook on_expired;
    atomic_llong ends_ns; /* loop thread's CPU clock; 0: no stretch */
    int64_t began_ns;
    int64_t seen_cpu_ns, seen_ns; /* the CPU clock, and when it was read */
    volatile sig_atomic_t expired;
    pthread_t loop_thread, watchdog;
    clockid_t clock;
    atomic_bool stop;
    bool started;
} now;

static int64_t cpu_ns(void)
{
    struct timespec t;

    clock_gettime(now.clock, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Reading a thread's CPU clock is a system call, which would be a tenth of a small
 * request; the monotonic clock costs none.  A thread cannot have run for longer than time
 * has passed, so what the clock showed up to 1 ms ago and the time since are at most 1 ms
 * too much. */
static int64_t cpu_about_ns(void)
{
    int64_t ns = clock_ns();

    if (!now.started) return clock_thread_cpu_ns();
    if (ns - now.seen_ns > TRUST_NS) {
        now.seen_cpu_ns = cpu_ns();
        now.seen_ns = ns;
    }
    return now.seen_cpu_ns + (ns - now.seen_ns);
}

static bool over(void)
{
    int64_t ends = atomic_load_explicit(&now.ends_ns, memory_order_relaxed);

    return ends != 0 && cpu_ns() > ends;
}

/* ---- on the loop thread -------------------------------------------------- */

static void interrupt(lua_State *L) { lua_sethook(L, now.on_expired, LUA_MASKCOUNT, 1); }

/* Looks again by itself: the signal may come late, into the next stretch. */
static void on_signal(int number)
{
    (void)number;
    if (now.running == NULL || !over()) return;
    now.expired = 1;
    interrupt(now.running);
}

void budget_enter(lua_State *L, int64_t limit_ns, lua_Hook on_expired)
{
    now.expired = 0;
    now.on_expired = on_expired;
    now.running = L;
    now.began_ns = cpu_about_ns();
    atomic_store_explicit(&now.ends_ns, now.began_ns + limit_ns, memory_order_relaxed);
}

lua_State *budget_switch(lua_State *L)
{
    lua_State *before = now.running;

    if (before != NULL) now.running = L;
    return before;
}

lua_State *budget_running(void) { return now.running; }

int64_t budget_leave(void)
{
    int64_t took = cpu_about_ns() - now.began_ns;

    atomic_store_explicit(&now.ends_ns, 0, memory_order_relaxed);
    now.running = NULL;
    now.expired = 0;
    return took > 0 ? took : 0;
}

void budget_interrupt(void)
{
    if (now.running != NULL) interrupt(now.running);
}

bool budget_used_up(void) { return now.expired != 0; }

void budget_check(lua_State *L)
{
    if (now.expired && now.running != NULL) now.on_expired(L, NULL);
}

/* ---- the watchdog ---------------------------------------------------------- */

static void *watch(void *unused)
{
    struct timespec pause = { 0, LOOK_EVERY_MS * 1000 * 1000 };

    (void)unused;
    while (!atomic_load(&now.stop)) {
        if (over()) pthread_kill(now.loop_thread, SIGNAL);
        nanosleep(&pause, NULL);
    }
    return NULL;
}

bool budget_start(void)
{
    struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
    sigset_t all, before;
    int failed;

    now.loop_thread = pthread_self();
    now.seen_ns = INT64_MIN / 2; /* of another thread, or of before a fork */
    if (pthread_getcpuclockid(now.loop_thread, &now.clock) != 0) return false;
    if (sigaction(SIGNAL, &action, NULL) != 0) return false;
    atomic_store(&now.stop, false);

    sigfillset(&all); /* every signal is for other threads */
    if (pthread_sigmask(SIG_SETMASK, &all, &before) != 0) return false;
    failed = pthread_create(&now.watchdog, NULL, watch, NULL);
    if (pthread_sigmask(SIG_SETMASK, &before, NULL) != 0 || failed != 0) return false;
    now.started = true;
    return true;
}

void budget_stop(void)
{
    if (!now.started) return;
    atomic_store(&now.stop, true);
    pthread_join(now.watchdog, NULL);
    now.started = false;
}
