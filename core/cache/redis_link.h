/* redis_link.h -- keeps one connection to Redis alive.
 *
 * A lost connection is made anew after 50 ms, doubling to 500 ms, with jitter.  Going
 * up and going down are logged once each, attempts are not.
 */
#ifndef CACHE_REDIS_LINK_H
#define CACHE_REDIS_LINK_H

#include "cache/redis_conn.h"

struct redis_link_events {
    void (*on_ready)(void *ctx);
    void (*on_input)(void *ctx);

    /* Also when a connection could not be made; 'was_ready' tells which.  It must not
     * stop the link, but may set steady_wait: the next attempt is planned afterwards. */
    void (*on_lost)(void *ctx, bool was_ready);
};

struct redis_link {
    /* readable */
    struct redis_conn *conn; /* NULL between attempts */
    bool ready;
    bool tried; /* the first connection was made or has failed */
    int64_t connects;

    /* writable: the wait between attempts instead of the doubling one; 0 is none */
    int64_t steady_wait;

    /* its own */
    uv_loop_t *loop;
    const struct redis_address *address;
    int64_t timeout;
    const char *name;
    const struct redis_link_events *events;
    void *ctx;
    uv_timer_t again;
    int64_t wait;
    bool told_down;
};

/* 'name' is for the log. */
void redis_link_init(struct redis_link *link, uv_loop_t *loop, const char *name,
                     const struct redis_address *address, int64_t timeout,
                     const struct redis_link_events *events, void *ctx);

/* Does nothing when it is started. */
void redis_link_start(struct redis_link *link);

/* Gives up the connection, which is in use, as if it was lost. */
void redis_link_break(struct redis_link *link, const char *why);

/* Ends connection and attempts without an event; it may be started again. */
void redis_link_stop(struct redis_link *link);

/* Stops it for good.  'then' comes from the loop with handle->data == data. */
void redis_link_close(struct redis_link *link, uv_close_cb then, void *data);

#endif
