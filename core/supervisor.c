#include "supervisor.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "script/snapshot.h"
#include "slots.h"
#include "trial.h"
#include "watch.h"

enum { LOOK_EVERY_MS = 200, SETTLE_MS = 15, KILL_AFTER_MS = 2000, CLOCK_JUMP_MS = 1000 };

struct supervisor {
    const struct config *config;
    struct slots slots;
    int signals, watch;
    int good_fd;           /* the last scripts that load; -1: none yet */
    uint64_t good, number; /* its number; the newest number given out */
    uint64_t fingerprint;  /* of what was tried last */
    struct trial trial;
    int64_t look_at_ms; /* files changed: try them then; 0: no */
    char *fault;        /* why the scripts on the disk do not load; NULL */
    uint64_t stand_in;  /* the number of the app that says so; 0: none was tried */
    bool announced, draining;
    int64_t kill_at_ms;
    int exit_code;
};

/* ---- scripts --------------------------------------------------------------------- */

static void set_fault(struct supervisor *s, const char *fault)
{
    mem_free(s->fault);
    s->fault = *fault == '\0' ? NULL : mem_copy_text(fault, strlen(fault));
}

/* The scripts on the disk do not load: the last good generation goes on. */
static void refuse_scripts(struct supervisor *s, const char *fault)
{
    set_fault(s, fault);
    if (s->good_fd >= 0 || s->watch >= 0) /* else the caller ends with it */
        log_error("scripts do not load", log_text("error", fault));
    slots_send(&s->slots, CONTROL_FAULT, 0, fault, -1);
}

static void accept_scripts(struct supervisor *s, int fd, uint64_t number)
{
    bool first = s->good_fd < 0;

    if (!first) close(s->good_fd);
    s->good_fd = fd;
    s->good = number;
    set_fault(s, "");
    if (!first) log_info("scripts reloaded", log_int("generation", (int64_t)number));
    slots_send(&s->slots, CONTROL_SCRIPTS, number, "", fd);
}

static uint64_t fingerprint(const struct supervisor *s)
{
    int64_t ignored;

    return snapshot_fingerprint(s->config->app, s->config->home, &ignored);
}

/* Somebody is writing just now: what is there may be half of it, so wait for a pause. */
static bool unsettled(struct supervisor *s)
{
    int64_t newest_us, age_ms;

    s->fingerprint = snapshot_fingerprint(s->config->app, s->config->home, &newest_us);
    age_ms = (clock_wall_us() - newest_us) / 1000;
    if (s->watch < 0 || age_ms < -CLOCK_JUMP_MS || age_ms >= SETTLE_MS) return false;
    s->look_at_ms = clock_ms() + SETTLE_MS - age_ms;
    return true;
}

static void try_scripts(struct supervisor *s)
{
    struct buf fault = { 0 };
    uint64_t number = s->number + 1;
    int fd;

    if (unsettled(s)) return;
    s->look_at_ms = 0;
    fd = snapshot_write(s->config->app, s->config->home, number, &fault);
    if (s->watch >= 0 &&
        fingerprint(s) != s->fingerprint) { /* changed while it was read */
        if (fd >= 0) close(fd);
        buf_free(&fault);
        s->look_at_ms = clock_ms() + SETTLE_MS;
        return;
    }
    s->number = number;
    if (fd < 0 || !trial_start(&s->trial, s->config, fd, number)) {
        buf_add_byte(&fault, '\0');
        refuse_scripts(s, fault.failed || fault.n < 2 ? "out of memory" : fault.p);
        if (fd >= 0) close(fd);
    }
    buf_free(&fault);
}

/* In development scripts that never loaded are told to the browser, too, by an app that
 * stands in for them until they are mended. */
static void try_stand_in(struct supervisor *s)
{
    struct buf fault = { 0 };
    char app[4096];
    int fd;

    if (!s->config->development || s->stand_in != 0) return;
    s->stand_in = ++s->number;
    snprintf(app, sizeof app, "%s/lua/omade/unloaded", s->config->home);
    fd = snapshot_write(app, s->config->home, s->stand_in, &fault);
    if (fd >= 0 && !trial_start(&s->trial, s->config, fd, s->stand_in)) close(fd);
    buf_free(&fault);
}

static void stand_in_over(struct supervisor *s, int fd, bool loads)
{
    if (!loads) close(fd); /* our own scripts are broken: only the log tells */
    else {
        s->good_fd = fd;
        s->good = s->stand_in;
    }
}

static void trial_over(struct supervisor *s)
{
    int fd = s->trial.fd;
    uint64_t number = s->trial.number;
    const char *fault = trial_result(&s->trial);

    if (number == s->stand_in) stand_in_over(s, fd, fault == NULL);
    else if (fault == NULL) accept_scripts(s, fd, number);
    else {
        refuse_scripts(s, fault);
        close(fd);
    }
    trial_end(&s->trial);
    if (s->watch >= 0 && fingerprint(s) != s->fingerprint) s->look_at_ms = clock_ms();
}

static void start_watch(struct supervisor *s)
{
    char lua[4096];

    snprintf(lua, sizeof lua, "%s/lua", s->config->home);
    watch_folder(s->watch, s->config->app);
    watch_folder(s->watch, lua);
}

static void on_watch(struct supervisor *s)
{
    if (!watch_read(s->watch)) return;
    start_watch(s);
    if (fingerprint(s) != s->fingerprint) s->look_at_ms = clock_ms() + SETTLE_MS;
}

/* ---- workers ----------------------------------------------------------------------- */

static void close_ours(void *ctx)
{
    struct supervisor *s = ctx;

    close(s->signals);
    if (s->watch >= 0) close(s->watch);
    trial_forget(&s->trial);
}

static void start_workers(struct supervisor *s)
{
    struct slot_start start = {
        .config = s->config,
        .snapshot_fd = s->good_fd,
        .generation = s->good,
        .fault = s->fault == NULL ? "" : s->fault,
        .in_child = close_ours,
        .ctx = s,
    };

    if (s->good_fd < 0 || s->draining) return;
    log_flush_all();
    slots_start(&s->slots, &start);
}

static void announce(struct supervisor *s)
{
    for (int i = 0; i < s->slots.count; i++)
        if (!s->slots.slot[i].serving) return;
    if (s->announced) return;
    s->announced = true;
    log_info("serving", log_text("host", s->config->host), log_int("port", s->slots.port),
             log_int("workers", s->slots.count), log_text("app", s->config->app));
    if (s->slots.metrics_fd >= 0)
        log_info("figures at /metrics", log_text("host", s->config->metrics_host),
                 log_int("port", s->slots.metrics_port));
}

static void on_control(struct supervisor *s, struct slot *slot)
{
    struct control_message m;
    int fd;

    while (slot->control >= 0 && control_receive(slot->control, &m, &fd) == 1) {
        if (fd >= 0) close(fd);
        if (m.type == CONTROL_READY) {
            slot->serving = true;
            slot->generation = m.number;
            slots_help(&s->slots);
            announce(s);
            if (m.number < s->good &&
                !control_send(slot->control, CONTROL_SCRIPTS, 0, s->good, "", s->good_fd))
                log_warn("a worker does not listen");
        } else if (m.type == CONTROL_REFUSED) {
            log_error("worker could not load", log_text("error", m.text));
        }
    }
}

/* ---- signals ------------------------------------------------------------------------- */

static void begin_drain(struct supervisor *s)
{
    if (s->draining) return;
    s->draining = true;
    s->kill_at_ms = clock_ms() + clock_scaled(s->config->drain_timeout) + KILL_AFTER_MS;
    slots_send(&s->slots, CONTROL_DRAIN, 0, "", -1);
    slots_unlisten(&s->slots);
}

static void reap(struct supervisor *s)
{
    int status;
    pid_t pid;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (trial_ended(&s->trial, pid, status)) continue;
        bool clean = WIFEXITED(status) && WEXITSTATUS(status) == 0;
        if (s->draining && !clean) s->exit_code = 1;
        slots_ended(&s->slots, pid, status, s->draining || clean);
    }
}

static void on_signal(struct supervisor *s)
{
    struct signalfd_siginfo info;

    while (read(s->signals, &info, sizeof info) == (ssize_t)sizeof info) {
        switch (info.ssi_signo) {
        case SIGCHLD: reap(s); break;
        case SIGHUP: s->look_at_ms = clock_ms(); break;
        case SIGTERM:
        case SIGINT: begin_drain(s); break;
        default: break;
        }
    }
}

static int open_signals(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    if (sigprocmask(SIG_BLOCK, &set, NULL) != 0) return -1;
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a file that is too large is an error like a full disk */
    return signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
}

/* ---- the loop ---------------------------------------------------------------------------- */

static int wait_ms(const struct supervisor *s)
{
    int64_t now = clock_ms(), next = now + LOOK_EVERY_MS,
            start = slots_next_start(&s->slots);

    if (s->look_at_ms != 0 && s->look_at_ms < next) next = s->look_at_ms;
    if (!s->draining && s->good_fd >= 0 && start < next) next = start;
    return next > now ? (int)(next - now) : 0;
}

static void turn(struct supervisor *s)
{
    struct pollfd fds[SLOTS_MAX + 3];
    nfds_t n = 0;

    fds[n++] = (struct pollfd){ .fd = s->signals, .events = POLLIN };
    fds[n++] = (struct pollfd){ .fd = s->watch, .events = POLLIN };
    fds[n++] = (struct pollfd){ .fd = trial_fd(&s->trial), .events = POLLIN };
    for (int i = 0; i < s->slots.count; i++)
        fds[n++] = (struct pollfd){ .fd = s->slots.slot[i].control, .events = POLLIN };
    log_flush();
    if (poll(fds, n, wait_ms(s)) < 0 && errno != EINTR)
        log_error("poll", log_int("errno", errno));
    for (int i = 0; i < s->slots.count; i++)
        if (s->slots.slot[i].control == fds[3 + i].fd && fds[3 + i].revents != 0)
            on_control(s, &s->slots.slot[i]);
    if (fds[2].revents != 0) trial_read(&s->trial);
    if (fds[0].revents != 0) on_signal(s);
    if (fds[1].revents != 0) on_watch(s);
    if (trial_done(&s->trial)) trial_over(s);
    if (s->look_at_ms != 0 && clock_ms() >= s->look_at_ms && !trial_running(&s->trial) &&
        !s->draining)
        try_scripts(s);
    trial_check(&s->trial);
    slots_check(&s->slots, s->config);
    start_workers(s);
    if (s->draining && s->kill_at_ms != 0 && clock_ms() > s->kill_at_ms) {
        for (int i = 0; i < s->slots.count; i++)
            if (s->slots.slot[i].pid > 0) kill(s->slots.slot[i].pid, SIGKILL);
        s->kill_at_ms = 0;
    }
}

/* ---- start ------------------------------------------------------------------------------- */

/* The first scripts: in production they must load; in development a mend is waited for. */
static bool first_scripts(struct supervisor *s, struct buf *fault)
{
    try_scripts(s);
    while (s->good_fd < 0 && !s->draining) {
        if (!trial_running(&s->trial) && s->fault != NULL && s->watch < 0) {
            buf_addf(fault, "the scripts do not load: %s", s->fault);
            return false;
        }
        if (!trial_running(&s->trial) && s->fault != NULL) try_stand_in(s);
        turn(s);
    }
    return true;
}

static int worker_count(const struct config *config)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);

    if (config->workers > 0) return (int)config->workers;
    if (config->development || cores < 1) return 1;
    return cores > SLOTS_MAX ? SLOTS_MAX : (int)cores;
}

/* Out of descriptors, libuv would accept and close: never reach it. */
static void raise_descriptors(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
        log_warn("cannot raise the limit of open files");
}

int supervisor_run(const struct config *config, struct buf *fault)
{
    struct supervisor *s = mem_get_clear(sizeof *s);
    int code = 1;

    if (s == NULL) {
        buf_add_text(fault, "out of memory");
        return 1;
    }
    s->config = config;
    s->good_fd = s->watch = -1;
    trial_init(&s->trial);
    raise_descriptors();
    s->signals = open_signals();
    if (config->watch) s->watch = watch_open();
    if (s->watch >= 0) start_watch(s);
    if (s->signals < 0) buf_add_text(fault, "no signal descriptor");
    else if (slots_open(&s->slots, config, worker_count(config), fault) &&
             first_scripts(s, fault)) {
        while (!s->draining || slots_alive(&s->slots) > 0) turn(s);
        code = s->exit_code;
        log_info("stopped");
    }
    log_flush_all();
    set_fault(s, "");
    mem_free(s);
    return code;
}
