/* trial.h -- a child process loads a snapshot first, under the limits of scripts: what
 * hangs or breaks there never reaches a worker. */
#ifndef TRIAL_H
#define TRIAL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/check.h"
#include "config.h"

struct trial {
    pid_t pid; /* 0: none is running */
    int pipe;  /* its report; -1 */
    int fd;    /* the snapshot */
    uint64_t number;
    struct buf report;
    bool ended, late;
    int status;
    int64_t until_ms;
};

void trial_init(struct trial *t);

/* Starts it on the snapshot 'fd', which stays the caller's. */
MUST_CHECK bool trial_start(struct trial *t, const struct config *config, int fd,
                            uint64_t number);
bool trial_running(const struct trial *t);
int trial_fd(const struct trial *t); /* to poll; -1 */
void trial_read(struct trial *t);
bool trial_ended(struct trial *t, pid_t pid, int status); /* whether it was this child */
void trial_check(struct trial *t); /* kills it when it takes too long */
bool trial_done(const struct trial *t);

/* NULL: the scripts load; else why not. */
const char *trial_result(struct trial *t);
void trial_end(struct trial *t);
void trial_forget(struct trial *t); /* in another child */

#endif
