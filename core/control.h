/* control.h -- messages between the supervisor and a worker, on a SOCK_SEQPACKET pair. */
#ifndef CONTROL_H
#define CONTROL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/check.h"

enum control_type {
    CONTROL_SCRIPTS = 1, /* with the descriptor of a snapshot: load and swap */
    CONTROL_FAULT,       /* text: the scripts on the disk do not load; "" they do */
    CONTROL_LISTEN,      /* with a socket: accept on it, too */
    CONTROL_UNLISTEN,    /* slot: no longer */
    CONTROL_DRAIN,       /* finish and end */
    CONTROL_READY,       /* worker: it serves generation 'number' */
    CONTROL_REFUSED,     /* worker: text: generation 'number' did not load */
};

enum { CONTROL_TEXT_MAX = 8000 };

struct control_message {
    uint32_t type;
    uint32_t slot;
    uint64_t number;
    uint32_t text_size;
    char text[CONTROL_TEXT_MAX];
};

/* 'fd' is passed along unless it is -1.  False when the other side is gone, or does
 * not read. */
MUST_CHECK bool control_send(int socket, enum control_type type, uint32_t slot,
                             uint64_t number, const char *text, int fd);

/* 1: a message, with its descriptor or -1 in '*fd'; 0: none yet; -1: the end. */
int control_receive(int socket, struct control_message *message, int *fd);

/* What a worker tells by shared memory; written by it alone. */
struct heartbeat {
    _Atomic int64_t beat_ms;     /* clock_ms() of the last turn */
    _Atomic int64_t beat_cpu_ns; /* its process's CPU time then */
};

void heartbeat_now(struct heartbeat *h);

/* The next sign of life may come 'ms' later than usual, also in CPU time. */
void heartbeat_excuse(struct heartbeat *h, int64_t ms);

/* Whether process 'pid' gave no sign of life for 'cpu_ms' of its CPU time, or 'wall_ms'. */
bool heartbeat_stale(const struct heartbeat *h, pid_t pid, int64_t cpu_ms,
                     int64_t wall_ms);

#endif
