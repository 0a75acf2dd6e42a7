/* pg_listen.h -- the connection for LISTEN, private to db/. */
#ifndef DB_PG_LISTEN_H
#define DB_PG_LISTEN_H

#include "db/pg_pool.h"

struct pg_listening;

MUST_CHECK struct pg_listening *listening_new(uv_loop_t *loop,
                                              const struct pg_settings *settings);
/* Closes the connection; nobody is told anything any more.  May be NULL, here and below. */
void listening_stop(struct pg_listening *l);
void listening_free(struct pg_listening *l); /* listeners end with it */
void listening_check(struct pg_listening *l, int64_t now_ms);
MUST_CHECK struct pg_listener *listening_add(struct pg_listening *l, struct slice channel,
                                             void (*on_notify)(void *ctx,
                                                               struct slice payload),
                                             void *ctx);

#endif
