/* worker.h -- one process that serves: one loop, one current generation, one set of pools. */
#ifndef WORKER_H
#define WORKER_H

#include "base/metrics.h"
#include "config.h"
#include "control.h"

struct worker_plan {
    const struct config *config;
    uint32_t slot;
    int control;     /* to the supervisor */
    int listen_fd;   /* its own slot's socket */
    int metrics_fd;  /* of METRICS_PORT, shared by all; -1: none */
    int snapshot_fd; /* the last good scripts */
    uint64_t generation;
    struct heartbeat *heartbeat;
    struct metrics *metrics; /* of all slots */
    int slot_count;
    const char *fault; /* why the scripts on the disk do not load; "" */
};

/* Serves until it is told to drain; returns the exit code of the process. */
int worker_run(const struct worker_plan *plan);

#endif
