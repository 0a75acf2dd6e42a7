#include "db/pg_conn.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"

/* Debian's libpq 15 has no way to unprepare: DEALLOCATE is a statement like others. */
enum answer_kind { ANSWER_PREPARE, ANSWER_STATEMENT, ANSWER_DEALLOCATE, ANSWER_SYNC };

struct answer {
    struct list_node node;
    enum answer_kind kind;
    struct pg_op *op;          /* NULL: its asker is gone, or it is our own */
    int index;                 /* of the statement */
    struct prepared *prepared; /* held while the answer is due */
    uint64_t number;
    bool is_reset; /* the Sync of our ROLLBACK */
};

/* Bits of op->stage. */
enum { STAGE_RETRIED = 1 };

enum { RESET_MS = 5000 };

/* ---- states ------------------------------------------------------------------------ */

void pg_conn_move(struct pg_conn *c, enum conn_state to)
{
    static const bool possible[5][5] = {
        [CONN_DOWN] = { [CONN_CONNECTING] = true },
        [CONN_CONNECTING] = { [CONN_DOWN] = true, [CONN_READY] = true },
        [CONN_READY] = { [CONN_DOWN] = true, [CONN_PINNED] = true },
        [CONN_PINNED] = { [CONN_DOWN] = true,
                          [CONN_READY] = true,
                          [CONN_RESETTING] = true },
        [CONN_RESETTING] = { [CONN_DOWN] = true, [CONN_READY] = true },
    };

    if (!possible[c->state][to]) abort();
    c->state = to;
}

/* ---- the queue of answers -------------------------------------------------------------- */

static struct answer *expect(struct pg_conn *c, enum answer_kind kind, struct pg_op *op,
                             int index, struct prepared *prepared)
{
    struct answer *a = mem_get_clear(sizeof *a);

    if (a == NULL) return NULL;
    a->kind = kind;
    a->op = op;
    a->index = index;
    a->prepared = prepared;
    a->number = ++c->sent;
    if (prepared != NULL) prepared->users++;
    list_append(&c->answers, &a->node);
    return a;
}

static void drop_answer(struct answer *a)
{
    pg_cache_release(a->prepared);
    list_remove(&a->node);
    mem_free(a);
}

static struct answer *head(struct pg_conn *c)
{
    return LIST_ENTRY(c->answers.first, struct answer, node);
}

void pg_conn_forget(struct pg_op *op)
{
    struct pg_conn *c = op->conn;

    for (struct list_node *n = c->answers.first; n != NULL; n = n->next) {
        struct answer *a = LIST_ENTRY(n, struct answer, node);

        if (a->op == op) a->op = NULL;
    }
    list_remove(&op->node);
    op->conn = NULL;
}

/* ---- sending ------------------------------------------------------------------------------ */

static bool send_deallocate(struct pg_conn *c, const char *name)
{
    char sql[48] = "DEALLOCATE ";

    strcat(sql, name);
    return expect(c, ANSWER_DEALLOCATE, NULL, 0, NULL) != NULL &&
           PQsendQueryParams(c->link.pg, sql, 0, NULL, NULL, NULL, NULL, 0) == 1;
}

static bool make_room(struct pg_conn *c, uint64_t generation)
{
    struct prepared *victim;

    if (c->cache.used.count < (size_t)pool_settings(c->pool)->statements_max) return true;
    victim = pg_cache_victim(&c->cache, generation);
    if (victim == NULL) return true; /* all are in use: one more for a while */
    bool sent = send_deallocate(c, victim->name);
    pg_cache_remove(&c->cache, victim);
    return sent;
}

/* The prepared form of the statement, preparing it first when it is new. */
static struct prepared *prepare(struct pg_conn *c, struct pg_op *op, int index)
{
    struct slice sql = op->statements[index].sql;
    uint64_t generation = pool_generation(c->pool);
    struct prepared *p = pg_cache_find(&c->cache, sql, generation);

    if (p != NULL) return p;
    if (!make_room(c, generation)) return NULL;
    p = pg_cache_add(&c->cache, sql, generation);
    if (p == NULL) return NULL;
    if (expect(c, ANSWER_PREPARE, op, index, p) != NULL &&
        PQsendPrepare(c->link.pg, p->name, p->sql, 0, NULL) == 1)
        return p;
    pg_cache_remove(&c->cache, p);
    return NULL;
}

static bool send_unnamed(struct pg_conn *c, const struct pg_statement *s)
{
    char *sql = mem_copy_text(s->sql.p, s->sql.n);
    bool sent = sql != NULL && PQsendQueryParams(c->link.pg, sql, s->value_count, NULL,
                                                 s->values, NULL, NULL, 0) == 1;

    mem_free(sql);
    return sent;
}

static bool send_statement(struct pg_conn *c, struct pg_op *op, int index)
{
    const struct pg_statement *s = &op->statements[index];
    struct prepared *p;

    if (s->unprepared || !pool_settings(c->pool)->named_statements)
        return expect(c, ANSWER_STATEMENT, op, index, NULL) != NULL && send_unnamed(c, s);
    p = prepare(c, op, index);
    return p != NULL && expect(c, ANSWER_STATEMENT, op, index, p) != NULL &&
           PQsendQueryPrepared(c->link.pg, p->name, s->value_count, s->values, NULL, NULL,
                               0) == 1;
}

static bool send_sync(struct pg_conn *c, struct pg_op *op, bool is_reset)
{
    struct answer *a = expect(c, ANSWER_SYNC, op, 0, NULL);

    if (a == NULL) return false;
    a->is_reset = is_reset;
    c->dirty = true;
    return PQpipelineSync(c->link.pg) == 1;
}

bool pg_conn_send(struct pg_conn *c, struct pg_op *op)
{
    op->conn = c;
    op->failed_at = -1;
    list_append(&c->running, &op->node);
    for (int i = 0; i < op->statement_count; i++)
        if (!send_statement(c, op, i)) return false;
    return send_sync(c, op, false);
}

void pg_conn_flush(struct pg_conn *c)
{
    int left;

    if (c->link.state != LINK_UP || (!c->dirty && !c->link.writing)) return;
    c->dirty = false;
    left = PQflush(c->link.pg);
    if (left == 0) c->flushed = c->sent;
    pg_link_want_write(&c->link, left == 1);
}

/* ---- cancelling what runs -------------------------------------------------------------------- */

struct cancel {
    uv_work_t work;
    struct pg_pool *pool;
    struct pg_conn *conn; /* NULL: the connection is gone meanwhile */
    PGcancel *cancel;
};

static void cancel_work(uv_work_t *work)
{
    struct cancel *cancel = work->data;
    char ignored[256];

    (void)PQcancel(cancel->cancel, ignored, sizeof ignored);
}

static void cancel_done(uv_work_t *work, int status)
{
    struct cancel *cancel = work->data;

    (void)status;
    if (cancel->conn != NULL) cancel->conn->cancel = NULL;
    PQfreeCancel(cancel->cancel);
    pool_cancel_ended(cancel->pool);
    mem_free(cancel);
}

/* It may arrive late and hit the statement behind: that one then fails with 57014, without
 * having done anything, and is sent again (see finish_op). */
void pg_conn_cancel_running(struct pg_conn *c)
{
    struct cancel *cancel;

    if (c->cancel != NULL || c->link.state != LINK_UP) return;
    cancel = mem_get_clear(sizeof *cancel);
    if (cancel == NULL) return;
    cancel->cancel = PQgetCancel(c->link.pg);
    cancel->pool = c->pool;
    cancel->conn = c;
    cancel->work.data = cancel;
    if (cancel->cancel != NULL &&
        uv_queue_work(pool_loop(c->pool), &cancel->work, cancel_work, cancel_done) == 0) {
        c->cancel = cancel;
        c->stray_cancel = true;
        pool_cancel_started(c->pool);
        return;
    }
    PQfreeCancel(cancel->cancel);
    mem_free(cancel);
}

bool pg_conn_reset(struct pg_conn *c)
{
    pg_conn_move(c, CONN_RESETTING);
    c->pin = NULL;
    c->reset_until_ms = clock_ms() + clock_scaled(RESET_MS);
    return expect(c, ANSWER_STATEMENT, NULL, 0, NULL) != NULL &&
           PQsendQueryParams(c->link.pg, "ROLLBACK", 0, NULL, NULL, NULL, NULL, 0) == 1 &&
           send_sync(c, NULL, true);
}

/* ---- answers ------------------------------------------------------------------------------------ */

static bool is_success(const PGresult *result)
{
    ExecStatusType status = PQresultStatus(result);

    return status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK ||
           status == PGRES_EMPTY_QUERY;
}

static bool is_too_large(struct pg_conn *c, struct pg_op *op)
{
    const struct pg_settings *settings = pool_settings(c->pool);
    int64_t rows = 0, bytes = 0;
    int64_t row_max = op->row_max > 0 ? op->row_max : settings->row_max;
    int64_t byte_max = op->byte_max > 0 ? op->byte_max : settings->byte_max;

    for (int i = 0; i < op->statement_count; i++) {
        if (op->statements[i].result == NULL) continue;
        rows += PQntuples(op->statements[i].result);
        bytes += (int64_t)PQresultMemorySize(op->statements[i].result);
    }
    return (row_max > 0 && rows > row_max) || (byte_max > 0 && bytes > byte_max);
}

/* A result for a statement of an op: kept, or thrown away when nobody wants it. */
static void take_result(struct pg_conn *c, struct answer *a, PGresult *result)
{
    struct pg_op *op = a->op;
    bool ok = is_success(result);

    if (!ok && a->kind == ANSWER_PREPARE) pg_cache_remove(&c->cache, a->prepared);
    if (op == NULL || (a->kind != ANSWER_STATEMENT && ok) || op->failed_at >= 0) {
        PQclear(result);
        return;
    }
    PQclear(op->statements[a->index].result);
    op->statements[a->index].result = result;
    if (!ok) op->failed_at = a->index;
    else if (is_too_large(c, op)) {
        op->too_large = true;
        op->failed_at = a->index;
    }
}

/* Whether it failed in a way that a second try mends, and did nothing: its plan or name
 * was gone, or a cancel meant for its predecessor hit it. */
static bool may_retry(struct pg_conn *c, const struct pg_op *op)
{
    const char *state = pg_op_sqlstate(op);

    if (op->failed_at < 0 || op->too_large || (op->stage & STAGE_RETRIED)) return false;
    if (c->stray_cancel && strcmp(state, "57014") == 0) return c->state == CONN_READY;
    return c->state == CONN_READY &&
           (strcmp(state, "26000") == 0 || strcmp(state, "0A000") == 0);
}

static bool send_again(struct pg_conn *c, struct pg_op *op)
{
    for (int i = 0; i < op->statement_count; i++) {
        struct prepared *p =
            pg_cache_find(&c->cache, op->statements[i].sql, pool_generation(c->pool));

        if (p != NULL && strcmp(pg_op_sqlstate(op), "57014") != 0)
            pg_cache_remove(&c->cache, p);
    }
    for (int i = 0; i < op->statement_count; i++) {
        PQclear(op->statements[i].result);
        op->statements[i].result = NULL;
    }
    op->stage |= STAGE_RETRIED;
    list_remove(&op->node);
    return pg_conn_send(c, op);
}

static bool finish_op(struct pg_conn *c, struct pg_op *op)
{
    if (may_retry(c, op)) return send_again(c, op);
    list_remove(&op->node);
    op->conn = NULL;
    pool_finish(c->pool, op, op->failed_at >= 0 ? PG_ERROR : PG_OK);
    return true;
}

static bool take_sync(struct pg_conn *c, struct answer *a)
{
    struct pg_op *op = a->op;
    bool is_reset = a->is_reset;

    drop_answer(a);
    if (c->answers.count == 0 && c->cancel == NULL) c->stray_cancel = false;
    if (is_reset) {
        if (PQtransactionStatus(c->link.pg) != PQTRANS_IDLE || c->answers.count > 0)
            return false;
        pg_conn_move(c, CONN_READY);
        return true;
    }
    return op == NULL || finish_op(c, op);
}

bool pg_conn_read(struct pg_conn *c)
{
    if (PQconsumeInput(c->link.pg) != 1) return false;
    while (c->answers.count > 0 && !PQisBusy(c->link.pg)) {
        PGresult *result = PQgetResult(c->link.pg);
        struct answer *a = head(c);

        if (result == NULL) { /* the end of one statement's results */
            if (!c->got_result) return PQstatus(c->link.pg) == CONNECTION_OK;
            c->got_result = false;
            drop_answer(a);
        } else if (PQresultStatus(result) == PGRES_PIPELINE_SYNC) {
            PQclear(result);
            if (a->kind != ANSWER_SYNC || !take_sync(c, a)) return false;
        } else if (a->kind == ANSWER_SYNC) {
            PQclear(result); /* FATAL: the server says good-bye */
            return false;
        } else {
            c->got_result = true;
            take_result(c, a, result);
        }
        if (c->link.state != LINK_UP) return true;
    }
    if (c->answers.count == 0 && !PQisBusy(c->link.pg)) PQclear(PQgetResult(c->link.pg));
    return PQstatus(c->link.pg) == CONNECTION_OK;
}

/* ---- loss -------------------------------------------------------------------------------------------- */

void pg_conn_lose(struct pg_conn *c)
{
    while (c->running.first != NULL) {
        struct pg_op *op = LIST_ENTRY(c->running.first, struct pg_op, node);
        bool written = false;

        for (struct list_node *n = c->answers.first; n != NULL; n = n->next) {
            struct answer *a = LIST_ENTRY(n, struct answer, node);

            if (a->op == op && a->number <= c->flushed) written = true;
        }
        list_remove(&op->node);
        op->conn = NULL;
        op->failed_at = -1;
        pool_finish_later(c->pool, op, written ? PG_LOST : PG_NOT_SENT);
    }
    while (c->answers.first != NULL) drop_answer(head(c));
    pg_cache_clear(&c->cache);
    if (c->cancel != NULL) c->cancel->conn = NULL;
    c->cancel = NULL;
    c->stray_cancel = c->dirty = c->got_result = false;
    pg_link_down(&c->link);
    pg_conn_move(c, CONN_DOWN);
}
