/* bind_pg.h -- the module omade.db: straight-line SQL for scripts. */
#ifndef SCRIPT_BIND_PG_H
#define SCRIPT_BIND_PG_H

#include <lua.h>

#include "db/pg_pool.h"
#include "script/task.h"

int luaopen_omade_db(lua_State *L);

/* ---- between bind_pg.c and bind_pg_tx.c ----------------------------------------- */

/* What a transaction adds to the task: its statements go to the pinned connection. */
struct pg_transaction {
    struct pg_pin pin;
    struct task *task;
    uint32_t ticket;
    bool open;      /* the pin is held, or waited for */
    bool begun;     /* BEGIN was sent */
    bool committed; /* by db.commit: nothing may follow */
    int attempt;
    struct pg_op commit; /* COMMIT, an operation of its own */
    struct pg_statement commit_statement;
};

int pg_transaction_call(lua_State *L);  /* db.transaction(fn) */
void pg_transaction_open(lua_State *L); /* makes the metatable */

/* Its COMMIT came with its last statements: the connection goes back. */
void pg_transaction_committed(struct pg_transaction *tx);

#endif
