/* figures.h -- GET /metrics on a port of its own, for the private network: no token, no
 * scripts, and nothing else to be had there.  Any worker answers for all. */
#ifndef FIGURES_H
#define FIGURES_H

#include <uv.h>

#include "base/check.h"
#include "base/metrics.h"
#include "http/server.h"

struct figures;

/* Serves the figures of 'workers' workers on a listening socket, which stays the
 * caller's.  NULL when there is no memory, or the socket does not accept. */
MUST_CHECK struct figures *figures_new(uv_loop_t *loop,
                                       const struct server_settings *settings, int fd,
                                       const struct metrics all[], int workers);

/* Nobody comes in any more. */
void figures_drain(struct figures *figures);

/* Closes all, turning the loop until it is done.  NULL is allowed. */
void figures_free(struct figures *figures, uv_loop_t *loop);

#endif
