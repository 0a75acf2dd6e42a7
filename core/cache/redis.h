/* redis.h -- Redis for one worker: one connection for commands, one for pub/sub.
 *
 * Commands are pipelined and leave once per turn of the loop.  Replies are
 * positional: a waiter that gave up keeps its place in the queue.  Each command has
 * a deadline; after failures in a row the breaker opens and everything fails at
 * once (REDIS_DOWN) until a probe succeeds.
 *
 * Nothing here answers synchronously: on_done comes from a later turn of the loop,
 * also for failures.
 */
#ifndef CACHE_REDIS_H
#define CACHE_REDIS_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "base/check.h"
#include "base/list.h"
#include "base/slice.h"

/* ---- replies ------------------------------------------------------------------ */

enum redis_type {
    REDIS_NIL,
    REDIS_STRING,
    REDIS_STATUS_TEXT,
    REDIS_ERROR_TEXT,
    REDIS_INT,
    REDIS_LIST
};

struct redis_reply {
    enum redis_type type;
    int64_t number;             /* REDIS_INT */
    struct slice text;          /* the text types; belongs to the reply */
    struct redis_reply **items; /* REDIS_LIST; an item is never NULL */
    size_t item_count;
};

void redis_reply_free(struct redis_reply *reply); /* may be NULL */

/* ---- commands ------------------------------------------------------------------ */

enum redis_outcome {
    REDIS_WAITING,
    REDIS_OK_REPLY, /* 'reply' is there; it may be a REDIS_ERROR_TEXT */
    REDIS_DOWN,     /* not connected, breaker open: nothing was sent */
    REDIS_LOST,     /* the connection broke, or the deadline passed: unknown */
};

enum { REDIS_COMMANDS_MAX = 128 };

/* One or more commands that one asker sends together; on_done comes when all have
 * their reply, or once they failed. */
struct redis_op {
    /* filled in by the asker */
    int command_count;
    struct redis_reply **replies; /* room for command_count; the asker frees each */
    int64_t timeout_ms;           /* 0: the client's */
    void (*on_done)(void *ctx, struct redis_op *op);
    void *ctx;

    /* the client's, readable in on_done */
    enum redis_outcome outcome;

    /* the client's own */
    struct list_node node;
    int answered;
    int64_t deadline_ms;
    void *slot; /* its place in the queue of replies */
};

struct redis;

/* Sends the commands: op->command_count times argc and argv, flattened ('argv' has
 * argc[0] slices, then argc[1] ...).  The bytes are copied at once. */
void redis_submit(struct redis *r, struct redis_op *op, const int argc[],
                  const struct slice argv[]);

/* The asker loses interest: on_done is never called, the op may be freed at once. */
void redis_cancel(struct redis_op *op);

/* ---- pub/sub -------------------------------------------------------------------- */

/* on_message comes with each message; with p == NULL after a reconnect ("you may
 * have missed some").  NULL when there is no memory. */
struct redis_subscription;
MUST_CHECK struct redis_subscription *redis_subscribe(
    struct redis *r, struct slice channel,
    void (*on_message)(void *ctx, struct slice text), void *ctx);
void redis_unsubscribe(struct redis_subscription *s);

/* ---- life ----------------------------------------------------------------------- */

/* Times in milliseconds. */
struct redis_settings {
    const char *url;         /* redis://[user:pass@]host:port/db, or
                                        unix:///path.sock?db=N, redis+unix likewise */
    int64_t connect_timeout; /* 1000 */
    int64_t command_timeout; /* 100 */
    int64_t silence_timeout; /* 1000: replies are due and none comes: closed */
    int breaker_failures;    /* 5 */
    int64_t breaker_probe;   /* 200 */
    int in_flight_max;       /* 10,000 commands; more: REDIS_DOWN */
};

/* False, and a message, when the URL makes no sense. */
MUST_CHECK bool redis_url_check(const char *url, char message[static 160]);

/* The strings of 'settings' must live as long as the client. */
MUST_CHECK struct redis *redis_new(uv_loop_t *loop,
                                   const struct redis_settings *settings);
void redis_flush(struct redis *r); /* once per turn of the loop, before it waits */
bool redis_up(const struct redis *r);
void redis_close(struct redis *r, void (*on_closed)(void *ctx), void *ctx);

struct redis_stats {
    bool connected, breaker_open;
    size_t in_flight, subscriptions;
    int64_t commands, failures, reconnects;
};
void redis_stats(const struct redis *r, struct redis_stats *stats);

#endif
