/* server.h -- sockets to requests and answers to sockets, on a uv loop.
 *
 *            on_head        on_request       request_answer
 *   READING ---------> ... -----------> RUNNING ----------> WRITING --+--> READING
 *                                                                     +--> CLOSING
 *
 * One client has at most one request running; what it pipelines waits in a
 * bounded buffer.  The callbacks of struct server_app come from the loop, never
 * from inside request_answer() and its kin.
 */
#ifndef HTTP_SERVER_H
#define HTTP_SERVER_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "http/message.h"
#include "http/proxy.h"

struct server;

/* ---- what the application decides ---------------------------------------- */

enum body_mode {
    BODY_WHOLE,  /* in memory, then on_request */
    BODY_STREAM, /* on_request with its first bytes, then on_body */
    BODY_FILE,   /* into an unlinked temporary file (request.body_fd), then on_request */
};

struct body_plan {
    enum body_mode mode;
    int64_t limit; /* bytes; more is 413 */
};

struct server_app {
    void *ctx;

    /* The head is complete and legal.  '*plan' holds the defaults.  The handler
     * does not run yet: the body may still turn out to be malformed. */
    void (*on_head)(void *ctx, struct request *r, struct body_plan *plan);

    /* The request is the application's from here until request_done(). */
    void (*on_request)(void *ctx, struct request *r);

    /* BODY_STREAM: the next bytes, valid during the call; 'last' comes once, with
     * or without bytes.  Reading goes on at once, unless request_pause(). */
    void (*on_body)(void *ctx, struct request *r, struct slice bytes, bool last);

    /* The client is gone before its answer was complete, or its streamed body
     * turned out malformed.  r->conn is NULL; request_done() is still due.  It comes
     * only to who still owes the answer: not after request_answer(), the file's, or
     * request_stream_end(). */
    void (*on_gone)(void *ctx, struct request *r);

    /* A streamed answer that was told to wait (see request_stream) may go on. */
    void (*on_drain)(void *ctx, struct request *r);

    /* The engine refuses a request by itself (400, 408, 413, 414, 431, 501 ...):
     * fills in 'body' with the error answer in the application's form.  'r' is
     * NULL when there is not even an id. */
    void (*make_error)(void *ctx, int status, const char *code, const char *message,
                       const char *request_id, struct buf *body);

    /* Adds header lines that every answer carries ("Name: value\r\n" each). */
    void (*add_headers)(void *ctx, const struct request *r, int status, struct buf *head);

    /* After the last byte of an answer: for the access log.  'status' is 0 when
     * the client left before. */
    void (*on_answered)(void *ctx, const struct request *r, int status, int64_t bytes);
};

/* Times in milliseconds, sizes in bytes; see `omade config` for the defaults. */
struct server_settings {
    int64_t head_timeout, idle_timeout, write_timeout;
    int64_t body_min_rate; /* bytes a second, after a grace of head_timeout */
    int64_t body_limit;    /* the default of body_plan.limit */
    int64_t write_buffer;  /* an answer above it makes the writer wait */
    int64_t max_connections;
    int64_t read_buffer;           /* 64 KiB; 16 in the hostile build */
    const char *upload_dir;        /* where BODY_FILE makes its temporary files */
    const char *server_name;       /* NULL: no Server header */
    const struct proxies *proxies; /* whose word counts; NULL: nobody's.  Outlives it */
};

/* ---- life ------------------------------------------------------------------ */

MUST_CHECK struct server *server_new(uv_loop_t *loop,
                                     const struct server_settings *settings,
                                     const struct server_app *app);

/* Accepts on a bound and listening socket, which stays the caller's (the server
 * works on a duplicate).  0 or a uv error. */
MUST_CHECK int server_listen(struct server *s, int fd);
void server_unlisten(struct server *s, int fd);

/* Stops accepting and closes idle connections; running requests are answered
 * with "Connection: close".  on_drained is called once, when none is left. */
void server_drain(struct server *s, void (*on_drained)(void *ctx), void *ctx);

/* Closes everything now; then, from the loop, frees the server and calls on_closed. */
void server_close(struct server *s, void (*on_closed)(void *ctx), void *ctx);

struct server_stats {
    size_t reading, running, writing, closing, idle;
    int64_t accepted, requests, refused, shed;
    size_t requests_live; /* handed over and not yet done */
};
void server_stats(const struct server *s, struct server_stats *stats);

/* ---- answering -------------------------------------------------------------- */

/* Writes the whole answer.  Once per request; a no-op but for the release of the
 * body when the client is gone.  A body of up to 16 KiB is copied before it returns. */
void request_answer(struct request *r, struct response *a);

/* An error in the application's words (make_error), a 503 with Retry-After.  Needs no memory
 * that could be lacking. */
void request_answer_error(struct request *r, int status, const char *code,
                          const char *message);

/* A streamed answer: head, pieces, end.  The body is chunked, on HTTP/1.0 it ends
 * with the connection.  request_stream returns false when the writer should wait
 * for on_drain (the bytes are accepted nevertheless), or the client is gone. */
void request_stream_begin(struct request *r, struct response *head);
bool request_stream(struct request *r, struct slice bytes);
/* Bytes that the client has not taken yet. */
size_t request_stream_pending(const struct request *r);
void request_stream_end(struct request *r);

/* An open regular file as the answer's body; takes over 'fd'.  Range requests
 * are not honoured; ETag and Last-Modified come from the file. */
void request_answer_file(struct request *r, struct response *head, int fd);

/* BODY_STREAM: stop and go on reading. */
void request_pause(struct request *r, bool pause);

/* Gives the request back; valid in any state (an unanswered one gets its
 * connection closed).  'r' is gone after it. */
void request_done(struct request *r);

#endif
