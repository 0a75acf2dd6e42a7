/* redis_pubsub.h -- the connection for messages, which all subscriptions share. */
#ifndef CACHE_REDIS_PUBSUB_H
#define CACHE_REDIS_PUBSUB_H

#include "base/list.h"
#include "cache/redis_link.h"
#include "cache/redis_protocol.h"

struct redis_pubsub {
    struct redis_link link;
    struct list subscriptions;
    uv_timer_t beat; /* a silent connection may be a dead one: a PING now and then */
    bool heard;      /* since the last beat */
    bool delivering; /* subscriptions that end now are freed afterwards */
    bool closed;
};

enum { REDIS_PUBSUB_HANDLES = 2 };

void redis_pubsub_init(struct redis_pubsub *p, uv_loop_t *loop,
                       const struct redis_address *address, int64_t timeout);

MUST_CHECK struct redis_subscription *redis_pubsub_add(
    struct redis_pubsub *p, struct slice channel,
    void (*on_message)(void *ctx, struct slice text), void *ctx);

void redis_pubsub_flush(struct redis_pubsub *p);

/* No message comes any more, apart from one that is being delivered. */
void redis_pubsub_stop(struct redis_pubsub *p);

/* After that, from the loop: closes its REDIS_PUBSUB_HANDLES handles with 'then',
 * handle->data == data.  Subscriptions that are left belong to their askers. */
void redis_pubsub_close(struct redis_pubsub *p, uv_close_cb then, void *data);

#endif
