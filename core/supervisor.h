/* supervisor.h -- owns the listening sockets, the workers and the scripts' snapshots.
 *
 * It opens one SO_REUSEPORT socket per worker slot and keeps all of them open, so that
 * the connections of a worker that died wait for its replacement.  It parses nothing
 * from the network and runs no script: a child process tries each snapshot first.
 */
#ifndef SUPERVISOR_H
#define SUPERVISOR_H

#include "base/buf.h"
#include "config.h"

/* Serves until SIGTERM or SIGINT; returns the exit code.  When it cannot start, 1 and
 * one line in 'fault'. */
int supervisor_run(const struct config *config, struct buf *fault);

#endif
