#include "slots.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "worker.h"

enum {
    BACKLOG = 4096,
    QUICK_END_MS = 5000,
    BACKOFF_MS = 100,
    BACKOFF_MAX_MS = 5000,
    ORPHAN_LIMIT_S = 8,
    SYSTEMD_FIRST_FD = 3
};

/* ---- sockets ------------------------------------------------------------------------ */

static struct addrinfo *resolve(const char *setting, const char *host, int port,
                                struct buf *fault)
{
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE },
                    *found = NULL;
    char service[16];
    int error;

    snprintf(service, sizeof service, "%d", port);
    error = getaddrinfo(host, service, &hints, &found);
    if (error == 0) return found;
    buf_addf(fault, "%s '%s': %s", setting, host, gai_strerror(error));
    return NULL;
}

static int bound_socket(const struct addrinfo *at, bool shared)
{
    int fd = socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), on = 1;

    if (fd < 0) return -1;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
        (!shared || setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) == 0) &&
        bind(fd, at->ai_addr, at->ai_addrlen) == 0)
        return fd;
    int why = errno;
    close(fd);
    errno = why;
    return -1;
}

static int port_of(int fd)
{
    struct sockaddr_storage at;
    socklen_t n = sizeof at;

    if (getsockname(fd, (struct sockaddr *)&at, &n) != 0) return 0;
    return ntohs(at.ss_family == AF_INET6
                     ? ((struct sockaddr_in6 *)(void *)&at)->sin6_port
                     : ((struct sockaddr_in *)(void *)&at)->sin_port);
}

static bool refuse(struct buf *fault, const struct config *config, int port)
{
    if (errno == EADDRINUSE)
        buf_addf(fault, "port %d on %s is taken; choose another one with --port or PORT",
                 port, config->host);
    else
        buf_addf(fault, "cannot listen on %s, port %d: %s", config->host, port,
                 strerror(errno));
    return false;
}

/* SO_REUSEPORT would share the port with a stranger of the same user: a plain bind asks
 * first whether it is free. */
static bool port_is_free(const struct addrinfo *at)
{
    int fd = bound_socket(at, false);

    if (fd < 0) return false;
    close(fd);
    return true;
}

static bool open_slot(struct slots *s, int i, const struct config *config,
                      struct buf *fault)
{
    struct addrinfo *at = resolve("HOST", config->host, s->port, fault);
    bool ok;

    if (at == NULL) return false;
    ok = i > 0 || s->port == 0 || port_is_free(at);
    if (ok) s->slot[i].listen_fd = bound_socket(at, true);
    ok = ok && s->slot[i].listen_fd >= 0 && listen(s->slot[i].listen_fd, BACKLOG) == 0;
    if (!ok) refuse(fault, config, s->port);
    else s->port = port_of(s->slot[i].listen_fd);
    freeaddrinfo(at);
    return ok;
}

/* One socket for all workers. */
static bool open_metrics(struct slots *s, const struct config *config, struct buf *fault)
{
    int port = (int)config->metrics_port;
    struct addrinfo *at;

    s->metrics_fd = -1;
    if (port < 0) return true;
    at = resolve("METRICS_HOST", config->metrics_host, port, fault);
    if (at == NULL) return false;
    s->metrics_fd = bound_socket(at, false);
    freeaddrinfo(at);
    if (s->metrics_fd >= 0 && listen(s->metrics_fd, BACKLOG) == 0) {
        s->metrics_port = port_of(s->metrics_fd);
        return true;
    }
    buf_addf(fault, "METRICS_PORT: cannot listen on %s, port %d: %s",
             config->metrics_host, port, strerror(errno));
    return false;
}

/* Under systemd socket activation there is one socket for all. */
static bool activated(void)
{
    const char *pid = getenv("LISTEN_PID"), *fds = getenv("LISTEN_FDS");

    return pid != NULL && fds != NULL && strtol(pid, NULL, 10) == getpid() &&
           strtol(fds, NULL, 10) >= 1;
}

bool slots_open(struct slots *s, const struct config *config, int count,
                struct buf *fault)
{
    size_t size = sizeof(struct heartbeat) * SLOTS_MAX;

    s->count = count;
    s->port = (int)config->port;
    s->heartbeats =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (s->heartbeats == MAP_FAILED) {
        buf_add_text(fault, "out of memory");
        return false;
    }
    s->metrics = mmap(NULL, sizeof *s->metrics * (size_t)count, PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (s->metrics == MAP_FAILED) {
        buf_add_text(fault, "out of memory");
        return false;
    }
    for (int i = 0; i < count; i++) {
        s->slot[i] = (struct slot){ .listen_fd = -1,
                                    .control = -1,
                                    .heartbeat = &s->heartbeats[i] };
        if (activated()) s->slot[i].listen_fd = SYSTEMD_FIRST_FD;
        else if (!open_slot(s, i, config, fault)) return false;
    }
    if (activated()) s->port = port_of(SYSTEMD_FIRST_FD);
    return open_metrics(s, config, fault);
}

void slots_unlisten(struct slots *s)
{
    if (s->metrics_fd >= 0) close(s->metrics_fd);
    s->metrics_fd = -1;
    for (int i = 0; i < s->count; i++) {
        int fd = s->slot[i].listen_fd;

        if (fd >= 0 && (i == 0 || fd != SYSTEMD_FIRST_FD)) close(fd);
        s->slot[i].listen_fd = -1;
    }
}

/* ---- starting ---------------------------------------------------------------------------- */

static void on_orphaned(int number)
{
    (void)number;
    alarm(ORPHAN_LIMIT_S);
}

/* In the child: signals as a worker wants them. */
static void child_signals(void)
{
    struct sigaction orphaned = { .sa_handler = on_orphaned };
    sigset_t none;

    sigemptyset(&none);
    signal(SIGINT, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a file that is too large is an error like a full disk */
    signal(SIGCHLD, SIG_DFL);
    sigaction(SIGVTALRM, &orphaned, NULL);
    prctl(PR_SET_PDEATHSIG, SIGVTALRM);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static void run_child(struct slots *s, int i, int control, const struct slot_start *start)
{
    struct worker_plan plan = {
        .config = start->config,
        .slot = (uint32_t)i,
        .control = control,
        .listen_fd = s->slot[i].listen_fd,
        .metrics_fd = s->metrics_fd,
        .snapshot_fd = start->snapshot_fd,
        .generation = start->generation,
        .heartbeat = s->slot[i].heartbeat,
        .metrics = s->metrics,
        .slot_count = s->count,
        .fault = start->fault,
    };

    child_signals();
    log_forget();
    start->in_child(start->ctx);
    for (int k = 0; k < s->count; k++) {
        if (s->slot[k].control >= 0) close(s->slot[k].control);
        if (k != i && s->slot[k].listen_fd != plan.listen_fd) close(s->slot[k].listen_fd);
    }
    exit(worker_run(&plan));
}

static void start_one(struct slots *s, int i, const struct slot_start *start)
{
    struct slot *slot = &s->slot[i];
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) !=
        0) {
        log_error("no control socket", log_text("error", strerror(errno)));
        slot->start_at_ms = clock_ms() + BACKOFF_MAX_MS;
        return;
    }
    heartbeat_excuse(slot->heartbeat, clock_scaled(30000));
    slot->pid = fork();
    if (slot->pid == 0) {
        close(pair[0]);
        run_child(s, i, pair[1], start);
    }
#ifdef OMADE_OOM
    unsetenv("OMADE_FAIL_AFTER");
#endif
    close(pair[1]);
    slot->control = pair[0];
    slot->started_ms = clock_ms();
    slot->serving = false;
    slot->generation = start->generation;
    if (slot->pid > 0) return;
    log_error("cannot start a worker", log_text("error", strerror(errno)));
    close(slot->control);
    slot->control = -1;
    slot->pid = 0;
    slot->start_at_ms = clock_ms() + BACKOFF_MAX_MS;
}

void slots_start(struct slots *s, const struct slot_start *start)
{
    for (int i = 0; i < s->count; i++)
        if (s->slot[i].pid == 0 && clock_ms() >= s->slot[i].start_at_ms)
            start_one(s, i, start);
}

int64_t slots_next_start(const struct slots *s)
{
    int64_t next = INT64_MAX;

    for (int i = 0; i < s->count; i++)
        if (s->slot[i].pid == 0 && s->slot[i].start_at_ms < next)
            next = s->slot[i].start_at_ms;
    return next;
}

/* ---- the end of a worker ------------------------------------------------------------------ */

/* The first crash is replaced at once; those that follow quickly wait longer and longer. */
static int64_t backoff(struct slot *slot)
{
    int64_t wait = BACKOFF_MS;

    if (clock_ms() - slot->started_ms > clock_scaled(QUICK_END_MS)) slot->failures = 0;
    slot->failures++;
    if (slot->failures == 1) return 0;
    for (int i = 2; i < slot->failures && wait < BACKOFF_MAX_MS; i++) wait *= 2;
    return wait < BACKOFF_MAX_MS ? wait : BACKOFF_MAX_MS;
}

bool slots_ended(struct slots *s, pid_t pid, int status, bool expected)
{
    for (int i = 0; i < s->count; i++) {
        struct slot *slot = &s->slot[i];

        if (slot->pid != pid) continue;
        close(slot->control);
        slot->control = -1;
        slot->pid = 0;
        slot->serving = false;
        slot->start_at_ms = clock_ms() + (expected ? 0 : backoff(slot));
        if (!expected)
            log_error("worker ended", log_int("slot", i + 1), log_int("pid", pid),
                      log_int("signal", WIFSIGNALED(status) ? WTERMSIG(status) : 0),
                      log_int("exit", WIFEXITED(status) ? WEXITSTATUS(status) : 0),
                      log_int("restart_in_ms", slot->start_at_ms - clock_ms()));
        slots_help(s);
        return true;
    }
    return false;
}

void slots_check(struct slots *s, const struct config *config)
{
    for (int i = 0; i < s->count; i++) {
        struct slot *slot = &s->slot[i];

        if (slot->pid == 0 || !heartbeat_stale(slot->heartbeat, slot->pid,
                                               clock_scaled(config->heartbeat_cpu),
                                               clock_scaled(config->heartbeat)))
            continue;
        log_error("worker gives no sign of life: killed", log_int("slot", i + 1),
                  log_int("pid", slot->pid));
        kill(slot->pid, SIGKILL);
        heartbeat_excuse(slot->heartbeat, clock_scaled(config->heartbeat));
    }
}

/* ---- all of them ------------------------------------------------------------------------------ */

void slots_send(struct slots *s, enum control_type type, uint64_t number,
                const char *text, int fd)
{
    for (int i = 0; i < s->count; i++)
        if (s->slot[i].control >= 0 &&
            !control_send(s->slot[i].control, type, (uint32_t)i, number, text, fd))
            log_warn("a worker does not listen", log_int("slot", i + 1));
}

static struct slot *a_serving_slot(struct slots *s)
{
    for (int i = 0; i < s->count; i++)
        if (s->slot[i].serving) return &s->slot[i];
    return NULL;
}

/* Whoever helped: the others know nothing of the slot. */
static void end_help(struct slots *s, uint32_t number)
{
    for (int i = 0; i < s->count; i++)
        if (s->slot[i].control >= 0 &&
            !control_send(s->slot[i].control, CONTROL_UNLISTEN, number, 0, "", -1))
            log_warn("a worker does not listen", log_int("slot", i + 1));
}

void slots_help(struct slots *s)
{
    struct slot *helper = a_serving_slot(s);

    for (int i = 0; i < s->count; i++) {
        struct slot *slot = &s->slot[i];

        if (slot->serving && slot->helped) {
            end_help(s, (uint32_t)i);
            slot->helped = false;
        } else if (slot->pid == 0 && helper != NULL && slot->failures > 1 &&
                   !slot->helped) {
            slot->helped = control_send(helper->control, CONTROL_LISTEN, (uint32_t)i, 0,
                                        "", slot->listen_fd);
        }
    }
}

int slots_alive(const struct slots *s)
{
    int alive = 0;

    for (int i = 0; i < s->count; i++) alive += s->slot[i].pid != 0;
    return alive;
}
