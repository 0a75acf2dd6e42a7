#include "trial.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "runtime.h"
#include "script/budget.h"
#include "script/snapshot.h"

enum { GRACE_MS = 3000, REPORT_MAX = 7000 };

void trial_init(struct trial *t) { *t = (struct trial){ .pipe = -1, .fd = -1 }; }

/* ---- the child ---------------------------------------------------------------------- */

static void load(const struct config *config, int fd, uint64_t number, struct buf *fault)
{
    struct script_env env;
    struct snapshot *snapshot = snapshot_map(fd);
    struct vm *vm;

    runtime_env(config, &env);
    vm = snapshot == NULL ? NULL : vm_new(&env, snapshot, number);
    if (vm == NULL) {
        buf_add_text(fault, "out of memory");
        return;
    }
    if (!budget_start()) buf_add_text(fault, "no watchdog thread");
    else if (!vm_load(vm, fault) && fault->n == 0)
        buf_add_text(fault, "the scripts do not load");
}

static void run_child(const struct config *config, int fd, uint64_t number, int report)
{
    struct buf fault = { 0 };
    sigset_t none;
    size_t n, done = 0;

    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    log_forget();
    log_setup(LOG_OFF, LOG_KEY_VALUE, "trial");
    load(config, fd, number, &fault);
    n = fault.n < REPORT_MAX ? fault.n : REPORT_MAX;
    while (done < n) {
        ssize_t written = write(report, fault.p + done, n - done);

        if (written <= 0 && errno != EINTR) break;
        if (written > 0) done += (size_t)written;
    }
    _exit(fault.n == 0 ? 0 : 1);
}

/* ---- the parent ---------------------------------------------------------------------- */

bool trial_start(struct trial *t, const struct config *config, int fd, uint64_t number)
{
    int ends[2];

    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) return false;
    t->pid = fork();
    if (t->pid == 0) run_child(config, fd, number, ends[1]);
    close(ends[1]);
    if (t->pid < 0) {
        close(ends[0]);
        t->pid = 0;
        return false;
    }
    t->pipe = ends[0];
    t->fd = fd;
    t->number = number;
    t->ended = t->late = false;
    t->until_ms = clock_ms() + clock_scaled(config->script_load_cpu * 2 + GRACE_MS);
    return true;
}

bool trial_running(const struct trial *t) { return t->pid != 0; }
int trial_fd(const struct trial *t) { return t->pipe; }
bool trial_done(const struct trial *t) { return t->ended && t->pipe < 0; }

void trial_read(struct trial *t)
{
    for (;;) {
        char *room = buf_room(&t->report, 4096);
        ssize_t got = room == NULL ? 0 : read(t->pipe, room, 4096);

        if (got < 0 && errno == EINTR) continue;
        if (got < 0 && errno == EAGAIN) return;
        if (got <= 0) break;
        t->report.n += (size_t)got;
    }
    close(t->pipe);
    t->pipe = -1;
}

bool trial_ended(struct trial *t, pid_t pid, int status)
{
    if (t->pid != pid) return false;
    t->ended = true;
    t->status = status;
    if (t->pipe >= 0) trial_read(t);
    return true;
}

void trial_check(struct trial *t)
{
    if (t->pid == 0 || t->ended || t->late || clock_ms() < t->until_ms) return;
    t->late = true;
    kill(t->pid, SIGKILL);
}

const char *trial_result(struct trial *t)
{
    if (WIFEXITED(t->status) && WEXITSTATUS(t->status) == 0) return NULL;
    if (t->late) return "the scripts took too long to load";
    buf_add_byte(&t->report, '\0');
    if (t->report.failed) return "out of memory";
    return t->report.n > 1 ? t->report.p : "the process that tried the scripts crashed";
}

void trial_end(struct trial *t)
{
    buf_free(&t->report);
    trial_init(t);
}

void trial_forget(struct trial *t)
{
    if (t->pipe >= 0) close(t->pipe);
}
