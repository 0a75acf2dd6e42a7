/* fetch.h -- outgoing HTTP requests of a worker: libcurl on the uv loop.
 *
 *   fetch_start --> WAITING --> RUNNING --> DONE
 *                      +-----------+--fetch_clear--> NEW
 *
 * At most FETCH_RUNNING_MAX run, the next FETCH_WAITING_MAX wait for their turn; the
 * deadline counts from fetch_start.  No Lua here; nothing answers synchronously.
 */
#ifndef SCRIPT_FETCH_H
#define SCRIPT_FETCH_H

#include <curl/curl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/check.h"
#include "base/list.h"

struct fetch_client;
struct script_env;

enum { FETCH_RUNNING_MAX = 64, FETCH_WAITING_MAX = 200, FETCH_HEAD_MAX = 64 * 1024 };

enum fetch_state { FETCH_NEW, FETCH_WAITING, FETCH_RUNNING, FETCH_DONE };

enum fetch_outcome {
    FETCH_PENDING,
    FETCH_OK,     /* a whole answer, whatever its status */
    FETCH_FAILED, /* 'code' tells */
    FETCH_TIMEOUT,
    FETCH_TOO_LARGE, /* the head above FETCH_HEAD_MAX, or the body above byte_max */
    FETCH_NO_MEMORY,
};

struct fetch {
    /* filled in by the asker */
    CURL *easy; /* from fetch_easy(); this module's from then on */
    int64_t timeout_ms;
    size_t byte_max;
    void (*on_done)(void *ctx, struct fetch *fetch);
    void *ctx;

    /* readable in on_done and behind it */
    enum fetch_outcome outcome;
    CURLcode code;
    int status;
    struct buf head; /* the lines of the last answer's head, without the first */
    struct buf body;

    /* the module's own */
    struct list_node node;
    struct fetch_client *client;
    enum fetch_state state;
    int64_t deadline_ms;
    bool head_done;
};

/* A handle with what holds for every request set: http and https only, certificates
 * verified, no signals, no .netrc.  NULL: no memory. */
MUST_CHECK CURL *fetch_easy(struct script_env *env);

enum fetch_begun { FETCH_BEGUN, FETCH_FULL, FETCH_NOT_BEGUN };

/* FETCH_FULL: too many wait; FETCH_NOT_BEGUN: no memory.  What curl does not copy
 * (headers, body) must live until on_done or fetch_clear(). */
MUST_CHECK enum fetch_begun fetch_start(struct script_env *env, struct fetch *fetch);

/* In any state: on_done never comes, all memory is given back. */
void fetch_clear(struct fetch *fetch);

/* Ends the client, if there is one; what still runs is cut off.  The loop has to run
 * once more, to close the handles. */
void fetch_end(struct script_env *env);

#endif
