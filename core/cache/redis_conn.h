/* redis_conn.h -- one connection to Redis, from the name look-up to its end.
 *
 *   RESOLVING -> CONNECTING -> GREETING -> READY -> CLOSED
 *
 * Each stage up to READY has the connect timeout.  The greeting is AUTH and SELECT as
 * the address asks, and a PING; an error in its replies (LOADING, NOAUTH, too many
 * clients) ends the connection.  A connection is used once and frees itself on the
 * loop after it was lost or dropped.
 */
#ifndef CACHE_REDIS_CONN_H
#define CACHE_REDIS_CONN_H

#include <uv.h>

#include "base/buf.h"
#include "cache/redis.h"
#include "cache/redis_url.h"

struct redis_conn;

/* All come from the loop, or from redis_conn_flush(). */
struct redis_conn_events {
    void (*on_ready)(void *ctx);

    /* Bytes came: take what redis_conn_next() gives.  Not before on_ready. */
    void (*on_input)(void *ctx);

    /* The last event. */
    void (*on_lost)(void *ctx, const char *why);
};

/* NULL when there is no memory.  'address' and 'events' must live as long as the
 * connection is in use. */
MUST_CHECK struct redis_conn *redis_conn_open(uv_loop_t *loop,
                                              const struct redis_address *address,
                                              int64_t timeout,
                                              const struct redis_conn_events *events,
                                              void *ctx);

/* Where commands are written to.  They leave with a flush once it is READY. */
struct buf *redis_conn_output(struct redis_conn *conn);
void redis_conn_flush(struct redis_conn *conn);

/* The next reply, which is the caller's, or NULL; also NULL once it was dropped. */
MUST_CHECK struct redis_reply *redis_conn_next(struct redis_conn *conn);

/* Closes it; no event comes any more. */
void redis_conn_drop(struct redis_conn *conn);

#endif
