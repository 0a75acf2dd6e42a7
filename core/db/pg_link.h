/* pg_link.h -- one libpq connection on the loop: name, socket, handshake, readiness.
 * What is said on it is pg_conn's and pg_listen's. */
#ifndef DB_PG_LINK_H
#define DB_PG_LINK_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "base/check.h"

/*   LINK_DOWN --pg_link_connect--> LINK_RESOLVING --> LINK_CONNECTING --> LINK_UP
 *       ^---------------- any failure, pg_link_down() -------------------'          */
enum link_state { LINK_DOWN, LINK_RESOLVING, LINK_CONNECTING, LINK_UP };

struct link_poll;
struct link_lookup;

struct pg_link {
    uv_loop_t *loop;
    const char *url, *application_name;
    const char *timezone; /* app.timezone of the session; NULL: none */
    int64_t connect_timeout, statement_timeout; /* ms; statement_timeout 0: none */
    bool bare; /* no options in the start packet: PgBouncer refuses them */
    void (*on_up)(struct pg_link *link);
    void (*on_failed)(struct pg_link *link); /* connecting failed: LINK_DOWN now */
    void (*on_ready)(struct pg_link *link, bool writable); /* something may be read */

    enum link_state state;
    PGconn *pg; /* NULL while down */
    struct link_poll *poll;
    struct link_lookup *lookup;
    int64_t deadline_ms; /* of connecting */
    bool writing;        /* waits for writability, too */
    unsigned first_host; /* of several: moves on when an attempt takes too long */
    char fault[200];     /* why it failed last */
};

/* From LINK_DOWN.  on_failed may come at once, when libpq refuses the URL. */
void pg_link_connect(struct pg_link *link);

/* Closes it, from any state; no callback comes any more. */
void pg_link_down(struct pg_link *link);

/* Ends an attempt that takes too long; to be called now and then. */
void pg_link_check(struct pg_link *link, int64_t now_ms);

/* Whether on_ready should also tell when it can be written. */
void pg_link_want_write(struct pg_link *link, bool wanted);

#endif
