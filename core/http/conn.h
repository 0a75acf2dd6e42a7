/* conn.h -- one client, and what the files of the server share.  Not for others.
 *
 *   FRESH --+                +-------- kept alive ---------+
 *           +--> READING --> RUNNING --> WRITING --+--> IDLE --> READING ...
 *   IDLE  --+                                      +--> CLOSING
 *
 * A conn is on exactly one list of its server, that of its state.  Loop callbacks
 * change it and then call conn_settle(), which does whatever has become possible:
 * finish an answer, parse what waits, end.  It loops and never calls itself, so any
 * number of pipelined requests needs the stack of one.  Calls of the application
 * (request_answer and its kin) change the conn only; when they come from outside the
 * conn's own callbacks, conn_later() brings it to conn_settle() in the next turn.
 */
#ifndef HTTP_CONN_H
#define HTTP_CONN_H

#include <zlib.h>

#include "base/list.h"
#include "http/parse.h"
#include "http/server.h"

enum {
    KEPT_MAX = 64 * 1024,          /* pipelined bytes of one client */
    LINGER_MAX = 16 * 1024 * 1024, /* bytes thrown away after the last answer */
    LINGER_MS = 1000,
    HALF_CLOSED_MS = 1000, /* after its FIN a client is asked whether it is there */
    FRESH_GRACE_MS = 1000, /* of a new client that says nothing, while others wait */
    DRAIN_GRACE_MS = 200,  /* of an idle client: its next request may be on its way */
    COPY_MAX = 16 * 1024,  /* larger bodies are written from where they are */
    PIECE_MAX = 64 * 1024, /* of a file */
    SPARE_CALLS_MAX = 256,
    PEER_MAX = 48,
    BODY_SLICES = 3,
};

struct upload;    /* BODY_FILE under way, see body.c */
struct file_send; /* request_answer_file under way, see static.c */

/* ---- a request and its answer, as the server sees them ------------------- */

struct call {
    struct request request; /* the first member: the application has its address */
    struct list_node node;  /* on server->spare when nobody's */
    struct server *server;
    struct buf body; /* BODY_WHOLE */
    struct upload *upload;
    struct file_send *file;
    int64_t body_bytes, sent; /* bytes of the body in, of the answer out */
    enum body_mode mode;
    int status;     /* of the answer; 0: none yet */
    bool head_done; /* the head was parsed */
    bool body_done; /* no more of its body comes */
    bool handed;    /* on_request was called */
    bool done;      /* request_done was called, or it never was handed over */
    bool answered;  /* the application gave its answer, or began to */
    bool ended;     /* no more of the answer comes */
    bool streaming, chunked, no_body;
    bool close; /* the answer said "Connection: close" */
};

static inline struct call *call_of(struct request *r) { return (struct call *)(void *)r; }

/* A cleared one, with its id; NULL when there is no memory. */
MUST_CHECK struct call *call_new(struct server *s);

/* Takes it from its conn, if any, and recycles it once the application is done. */
void call_detach(struct call *call);

/* ---- one client ----------------------------------------------------------- */

enum conn_state {
    CONN_FRESH, /* accepted, nothing read yet */
    CONN_IDLE,  /* between two requests: holds neither request nor buffers */
    CONN_READING,
    CONN_RUNNING,
    CONN_WRITING,
    CONN_CLOSING,
    CONN_STATES
};

/* What conn_settle() finds to do before all else. */
enum conn_fate { FATE_NONE, FATE_BROKEN, FATE_CLOSE, FATE_TIMED_OUT };

/* Bytes since a moment, to tell who is too slow. */
struct pace {
    int64_t since, bytes;
};

struct conn {
    struct list_node node;  /* on server->conns[state] */
    struct list_node later; /* on server->later: conn_settle is due */
    struct server *server;
    enum conn_state state;
    enum conn_fate fate;
    uv_tcp_t tcp;
    struct parse parse;
    struct call *call; /* NULL when FRESH or IDLE */

    struct slice in; /* not parsed yet; in the server's read buffer, or in 'kept' */
    struct buf kept;
    bool again;             /* the parser is to be called even without bytes */
    bool reading;           /* uv reads */
    bool eof, paused, held; /* client's FIN; request_pause; the disk is behind */
    bool settling;          /* a callback of this conn runs: conn_settle follows */
    bool closed;            /* uv_close was called */

    struct buf out, sending;        /* accepted; what uv_write works on */
    struct slice body[BODY_SLICES]; /* of a large answer, and its owner, while ... */
    void (*release)(void *owner);
    void *owner;
    bool write_busy; /* ... uv_write works */
    bool drain_due;  /* a stream waits for on_drain */
    uv_write_t write;

    int64_t since;        /* uv_now: of the state, or of the request's first byte */
    int64_t eof_ms;       /* the running request's clock after the FIN */
    int64_t accepted;     /* bytes for the client: sent, and waiting */
    int64_t eof_accepted; /* of them, at eof_ms */
    size_t lingered;
    struct pace in_pace, out_pace;

    bool peer_known;
    uint16_t peer_port;
    char peer[PEER_MAX];
};

/* NULL when there is no memory. */
MUST_CHECK struct conn *conn_accept(struct server *s, uv_stream_t *listener);

void conn_move(struct conn *c, enum conn_state to);
void conn_settle(struct conn *c);
void conn_later(struct conn *c);

/* Answers by itself, with the application's error form, and closes.  The call, if it
 * is still owned by the application, is gone for it. */
void conn_refuse(struct conn *c, int status, const char *code, const char *message);

/* Ends it now; whoever still owes the answer learns it by on_gone. */
void conn_lose(struct conn *c);

/* Without a word; for conns that run no request. */
void conn_close(struct conn *c);

/* Starts or stops uv's reading as the conn's fields say. */
void conn_read_update(struct conn *c);

/* To the application, which answers now or later. */
void conn_hand_over(struct conn *c);

/* ---- output.c: bytes to the client ------------------------------------------ */

/* All of them are accepted; what does not leave at once is copied.  A failure makes
 * the conn's fate. */
void conn_send(struct conn *c, const struct slice slices[], size_t count);

/* The head, which is copied if need be, and a large body, which is not: release(owner)
 * once it is written or dropped. */
void conn_send_owned(struct conn *c, struct slice head,
                     const struct slice body[static BODY_SLICES],
                     void (*release)(void *owner), void *owner);

/* Bytes that the client has not taken yet. */
size_t conn_pending(const struct conn *c);

static inline bool conn_is_flushed(const struct conn *c)
{
    return !c->write_busy && c->out.n == 0;
}

/* Frees what was not sent; when the conn ends. */
void conn_drop_output(struct conn *c);

/* The client left or the memory ran out: conn_settle() ends the conn. */
void conn_break(struct conn *c);

/* ---- body.c: bodies of requests --------------------------------------------- */

/* Each may refuse the request, and so end it. */
void body_begin(struct conn *c);
void body_add(struct conn *c, struct slice bytes);
void body_end(struct conn *c);

/* The call ends: the upload's file closes once nothing works on it. */
void upload_drop(struct call *call);

/* static.c */
void file_send_drop(struct call *call);
bool file_send_next(struct conn *c); /* reads on; false: is reading already */

/* ---- the server -------------------------------------------------------------- */

struct server {
    uv_loop_t *loop;
    struct server_settings settings; /* times scaled */
    struct server_app app;
    struct list conns[CONN_STATES];
    struct list later;
    struct list listeners;
    struct list spare; /* calls to use again */
    size_t waiting;    /* listeners that hold a client back until there is room */
    size_t works;      /* file operations under way */
    size_t handles;    /* that are not closed yet, conns excepted */

    uv_timer_t sweep;
    uv_idle_t turn; /* runs while 'later' is not empty, or an end may have come */

    char *read_buffer;
    struct buf out, text; /* the answer under construction; an error's body */
    struct buf packed;    /* gzip */
    z_stream gzip;
    bool gzip_ready;

    char id[25]; /* of the last request; a random prefix and a counter */
    int64_t date_until;
    char date[48]; /* "Date: ...\r\n" */
    size_t date_n;

    int64_t stat_accepted, stat_requests, stat_refused, stat_shed;
    size_t live; /* requests handed over and not yet done */

    bool draining, drained, closing, freeing;
    bool stalled;
    int64_t swept_ms, drain_ms;
    int64_t drain_grace, fresh_grace, linger, half_closed; /* scaled */
    void (*on_drained)(void *ctx);
    void *drained_ctx;
    void (*on_closed)(void *ctx);
    void *closed_ctx;
};

static inline int64_t server_now(const struct server *s)
{
    return (int64_t)uv_now(s->loop);
}

size_t server_conns(const struct server *s);

/* A conn became idle or is gone: lets those in who wait for room. */
void server_admit(struct server *s);

/* Something ended: the loop looks whether all did. */
void server_turn(struct server *s);

/* Sets the fate of those who are too slow (deadline.c). */
void server_sweep(struct server *s);

#endif
