/* slots.h -- the worker slots of the supervisor: sockets, processes, signs of life.
 *
 *   EMPTY --start--> STARTING --ready--> SERVING --exit--> EMPTY (back-off) --> ...
 */
#ifndef SLOTS_H
#define SLOTS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/check.h"
#include "base/metrics.h"
#include "config.h"
#include "control.h"

enum { SLOTS_MAX = 256 };

struct slot {
    int listen_fd;
    int control; /* -1 while empty */
    pid_t pid;   /* 0 while empty */
    bool serving;
    bool helped;         /* another worker accepts for it */
    uint64_t generation; /* that it serves */
    int64_t started_ms, start_at_ms;
    int failures; /* quick ends in a row */
    struct heartbeat *heartbeat;
};

struct slots {
    struct slot slot[SLOTS_MAX];
    int count;
    int port;
    int metrics_fd, metrics_port; /* of METRICS_PORT; -1: there is none */
    struct heartbeat *heartbeats; /* shared memory */
    struct metrics *metrics;      /* likewise, one a slot */
};

/* Opens the sockets.  False with a message ("port 3000 is taken ..."). */
MUST_CHECK bool slots_open(struct slots *s, const struct config *config, int count,
                           struct buf *fault);

/* What the new process needs from the supervisor. */
struct slot_start {
    const struct config *config;
    int snapshot_fd;
    uint64_t generation;
    const char *fault;
    void (*in_child)(void *ctx); /* closes what is the supervisor's */
    void *ctx;
};

/* Starts workers for the empty slots whose time has come. */
void slots_start(struct slots *s, const struct slot_start *start);

/* A child has ended: whether it was a worker. */
bool slots_ended(struct slots *s, pid_t pid, int status, bool expected);

/* Kills the workers that give no sign of life. */
void slots_check(struct slots *s, const struct config *config);

/* Nobody comes in any more: closes the sockets, which workers do as they drain. */
void slots_unlisten(struct slots *s);

/* Sends to all workers. */
void slots_send(struct slots *s, enum control_type type, uint64_t number,
                const char *text, int fd);

/* A worker is ready, or not any more: who accepts for the slots without one. */
void slots_help(struct slots *s);

int slots_alive(const struct slots *s);

/* The time of the next planned start; INT64_MAX if there is none. */
int64_t slots_next_start(const struct slots *s);

#endif
