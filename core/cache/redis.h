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
    struct redis_reply **replies; /* room for command_count; cleared by redis_submit();
                                     what is in it afterwards, in on_done or after
                                     redis_cancel(), is the asker's to free */
    int64_t timeout_ms;           /* 0: the client's; more than silence_timeout is
                                     as good as that */
    void (*on_done)(void *ctx, struct redis_op *op);
    void *ctx;

    /* the client's: REDIS_WAITING until on_done */
    enum redis_outcome outcome;

    /* the client's own */
    struct list_node node;
    int answered;
    enum redis_outcome decided; /* what on_done will be told */
    int64_t deadline_ms;
    void *slot; /* its place in the queue of replies */
};

struct redis;

/* Sends the commands: op->command_count times argc and argv, flattened ('argv' has
 * argc[0] slices, then argc[1] ...; each at least 1).  The bytes are copied at once.
 *
 * The connection is everybody's.  Commands that would change or block it, or have
 * other than one reply (SUBSCRIBE, SELECT, AUTH, WATCH, BLPOP, CLIENT REPLY ...), and
 * a MULTI whose EXEC or DISCARD is not in the same op, are not sent: the replies are
 * REDIS_ERROR_TEXT. */
void redis_submit(struct redis *r, struct redis_op *op, const int argc[],
                  const struct slice argv[]);

/* The asker loses interest: on_done is never called, the op may be freed at once. */
void redis_cancel(struct redis_op *op);

/* ---- pub/sub -------------------------------------------------------------------- */

/* on_message comes with each message; with p == NULL once Redis listens, for
 * the first time or after a reconnect ("what came before you may have missed").  NULL when there is no memory. */
struct redis_subscription;
MUST_CHECK struct redis_subscription *redis_subscribe(
    struct redis *r, struct slice channel,
    void (*on_message)(void *ctx, struct slice text), void *ctx);

/* Frees it; also from inside its on_message, and after redis_close(). */
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

/* What is under way is answered REDIS_LOST; then the client is freed, and on_closed
 * comes from the loop.  No flush after on_closed. */
void redis_close(struct redis *r, void (*on_closed)(void *ctx), void *ctx);

struct redis_stats {
    bool connected, breaker_open;
    size_t in_flight, subscriptions;
    int64_t commands, failures, reconnects;
};
void redis_stats(const struct redis *r, struct redis_stats *stats);

#endif
