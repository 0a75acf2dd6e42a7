#include "db/pg_conn.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"

enum { RESET_MS = 5000, RESET_CANCEL_MS = 50 };

/* Bits of op->stage. */
enum { STAGE_RETRIED = 1 };

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

bool pg_conn_up(struct pg_conn *c)
{
    if (PQenterPipelineMode(c->link.pg) != 1) return false;
    pg_conn_move(c, CONN_READY);
    c->failures = 0;
    c->sent = c->stray_until = 0;
    c->cancel_again_ms = 0;
    return pg_send_greeting(c);
}

/* ---- queue and flush ------------------------------------------------------------------- */

void pg_conn_queue(struct pg_conn *c, struct pg_op *op)
{
    op->conn = c;
    op->failed_at = -1;
    list_append(&c->queued, &op->node);
    c->dirty = true;
}

/* False: the connection is lost. */
static bool hand_over(struct pg_conn *c, struct pg_op *op)
{
    list_remove(&op->node);
    switch (pg_send_op(c, op)) {
    case SEND_DONE: list_append(&c->running, &op->node); return true;
    case SEND_REFUSED:
        op->conn = NULL;
        pool_finish_later(c->pool, op, PG_BUSY);
        return true;
    case SEND_NOT: list_prepend(&c->queued, &op->node); return false;
    case SEND_UNKNOWN: list_append(&c->running, &op->node); return false;
    }
    return false;
}

/* PQpipelineSync of libpq 15 writes at once; what the socket does not take stays with
 * libpq, and the ops behind it stay with us. */
bool pg_conn_flush(struct pg_conn *c)
{
    int left;

    if (c->link.state != LINK_UP) return true;
    c->dirty = false;
    left = PQflush(c->link.pg);
    while (left == 0 && c->queued.first != NULL) {
        if (!hand_over(c, LIST_ENTRY(c->queued.first, struct pg_op, node))) return false;
        left = PQflush(c->link.pg);
    }
    pg_link_want_write(&c->link, left == 1);
    return left >= 0;
}

/* ---- the queue of answers ---------------------------------------------------------------- */

static struct answer *head(struct pg_conn *c)
{
    return LIST_ENTRY(c->answers.first, struct answer, node);
}

static void drop_answer(struct pg_conn *c, struct answer *a)
{
    pg_cache_release(a->prepared);
    if (a->ends_op) c->syncs--;
    list_remove(&a->node);
    list_append(&c->spare, &a->node);
}

void pg_conn_forget(struct pg_op *op)
{
    struct pg_conn *c = op->conn;

    if (op->node.list == &c->running)
        for (struct list_node *n = c->answers.first; n != NULL; n = n->next) {
            struct answer *a = LIST_ENTRY(n, struct answer, node);

            if (a->op == op) a->op = NULL;
        }
    list_remove(&op->node);
    op->conn = NULL;
}

/* ---- results ------------------------------------------------------------------------------- */

static bool is_success(const PGresult *result)
{
    ExecStatusType status = PQresultStatus(result);

    return status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK ||
           status == PGRES_EMPTY_QUERY;
}

/* Whether the result leaves the connection in a state that answers do not end or that is
 * not for its next user: copying, or a transaction on a shared connection. */
static bool spoils(const struct pg_conn *c, PGresult *result)
{
    const char *tag;

    switch (PQresultStatus(result)) {
    case PGRES_COPY_IN:
    case PGRES_COPY_OUT:
    case PGRES_COPY_BOTH: tag = "COPY"; break;
    case PGRES_COMMAND_OK:
        tag = PQcmdStatus(result);
        if (c->state == CONN_READY &&
            (strcmp(tag, "BEGIN") == 0 || strcmp(tag, "START TRANSACTION") == 0))
            break;
        return false;
    default: return false;
    }
    log_error("a statement has no place on this connection, which is closed",
              log_text("statement", tag));
    return true;
}

static bool is_fatal(const PGresult *result)
{
    const char *severity = PQresultErrorField(result, PG_DIAG_SEVERITY_NONLOCALIZED);

    return severity == NULL || strcmp(severity, "ERROR") != 0;
}

/* libpq has read all of it into memory by then: the bounds protect who reads the rows, and
 * the statement itself (its LIMIT) what comes. */
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

static void keep_result(struct pg_op *op, int index, PGresult *result)
{
    PQclear(op->statements[index].result);
    op->statements[index].result = result;
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
    keep_result(op, a->index, result);
    if (!ok) op->failed_at = a->index;
    else if (is_too_large(c, op)) {
        op->too_large = true;
        op->failed_at = a->index;
    }
}

/* An error in place of the Sync's answer: what was deferred to the commit failed, and with
 * it the whole op.  False: it is the server's good-bye. */
static bool take_commit_error(struct answer *a, PGresult *result)
{
    struct pg_op *op = a->op;

    if (is_fatal(result)) {
        PQclear(result);
        return false;
    }
    if (op == NULL || (op->failed_at >= 0 && !op->too_large)) {
        PQclear(result);
        return true;
    }
    op->too_large = false;
    op->failed_at = op->statement_count - 1;
    keep_result(op, op->failed_at, result);
    return true;
}

/* ---- once more --------------------------------------------------------------------------------- */

/* Its names or plans are gone: prepared anew next time, also by the one who restarts a
 * transaction.  DEALLOCATE does no harm where there is none. */
static void forget_statements(struct pg_conn *c, const struct pg_op *op)
{
    for (int i = 0; i < op->statement_count; i++) {
        struct prepared *p =
            pg_cache_find(&c->cache, op->statements[i].sql, pool_generation(c->pool));

        if (p != NULL) pg_cache_doom(&c->cache, p);
    }
}

/* Whether it failed in a way that a second try mends, and did nothing: its plan or name
 * was gone, or a cancel meant for its predecessor hit it. */
static bool wants_retry(struct pg_conn *c, struct pg_op *op, bool may_be_stray)
{
    const char *state = pg_op_sqlstate(op);

    if (strcmp(state, "26000") == 0 || strcmp(state, "0A000") == 0) {
        forget_statements(c, op);
        if (op->stage & STAGE_RETRIED) return false;
        op->stage |= STAGE_RETRIED;
        return c->state == CONN_READY;
    }
    return may_be_stray && c->state == CONN_READY && strcmp(state, "57014") == 0;
}

static void send_again(struct pg_conn *c, struct pg_op *op)
{
    for (int i = 0; i < op->statement_count; i++) keep_result(op, i, NULL);
    op->too_large = false;
    list_remove(&op->node);
    pg_conn_queue(c, op);
}

static void finish_op(struct pg_conn *c, struct pg_op *op, bool may_be_stray)
{
    if (op->failed_at >= 0 && wants_retry(c, op, may_be_stray)) {
        send_again(c, op);
        return;
    }
    list_remove(&op->node);
    op->conn = NULL;
    pool_finish(c->pool, op, op->failed_at >= 0 ? PG_ERROR : PG_OK);
}

/* ---- reading -------------------------------------------------------------------------------------- */

static bool take_sync(struct pg_conn *c, struct answer *a)
{
    struct pg_op *op = a->op;
    bool ends_reset = a->ends_reset;
    bool may_be_stray = c->cancel != NULL || a->number <= c->stray_until;

    drop_answer(c, a);
    if (ends_reset) {
        if (PQtransactionStatus(c->link.pg) != PQTRANS_IDLE || c->answers.count > 0)
            return false;
        pg_conn_move(c, CONN_READY);
    }
    if (op != NULL) finish_op(c, op, may_be_stray);
    return true;
}

/* One result, or NULL: the end of one statement's results.  False: give it up. */
static bool take(struct pg_conn *c, PGresult *result)
{
    struct answer *a = head(c);
    bool ended = c->got_result;

    c->got_result = result != NULL;
    if (result == NULL) {
        if (ended && a->kind != ANSWER_SYNC) drop_answer(c, a);
        return true;
    }
    if (PQresultStatus(result) == PGRES_PIPELINE_SYNC) {
        PQclear(result);
        c->got_result = false;
        return a->kind == ANSWER_SYNC && take_sync(c, a);
    }
    if (a->kind == ANSWER_SYNC) return take_commit_error(a, result);
    if (spoils(c, result)) {
        PQclear(result);
        return false;
    }
    take_result(c, a, result);
    return true;
}

/* What came before the end of the connection still counts: so a commit that was answered is
 * not reported as unknown. */
bool pg_conn_read(struct pg_conn *c)
{
    bool open = PQconsumeInput(c->link.pg) == 1;

    while (c->answers.count > 0 && !PQisBusy(c->link.pg)) {
        PGresult *result = PQgetResult(c->link.pg);
        bool again = result != NULL || c->got_result;

        if (!take(c, result)) return false;
        if (c->link.state != LINK_UP) return true; /* closed by an on_done */
        if (!again) break;
    }
    if (c->answers.count == 0 && !PQisBusy(c->link.pg)) PQclear(PQgetResult(c->link.pg));
    return open && PQstatus(c->link.pg) == CONNECTION_OK && pg_conn_step_reset(c);
}

/* ---- back to the pool --------------------------------------------------------------------------------- */

bool pg_conn_reset(struct pg_conn *c)
{
    bool idle;

    c->pin = NULL;
    while (c->queued.first != NULL)
        pg_conn_forget(LIST_ENTRY(c->queued.first, struct pg_op, node));
    while (c->running.first != NULL)
        pg_conn_forget(LIST_ENTRY(c->running.first, struct pg_op, node));
    idle = c->answers.count == 0 && c->cancel == NULL &&
           PQtransactionStatus(c->link.pg) == PQTRANS_IDLE;
    if (idle && !pg_send_wants_trim(c)) {
        pg_conn_move(c, CONN_READY);
        return true;
    }
    pg_conn_move(c, CONN_RESETTING);
    c->reset_sent = false;
    c->cancel_again_ms = 0;
    c->reset_until_ms = clock_ms() + clock_scaled(RESET_MS);
    return pg_conn_step_reset(c);
}

/* What runs is interrupted, again and again: a cancel that comes between two statements is
 * ignored.  Only when nothing runs is ROLLBACK sent, so that no cancel can hit it, or a
 * statement of the next owner. */
bool pg_conn_step_reset(struct pg_conn *c)
{
    if (c->state != CONN_RESETTING || c->reset_sent || c->cancel != NULL) return true;
    if (c->answers.count > 0) {
        if (clock_ms() >= c->cancel_again_ms && pg_cancel_running(c))
            c->cancel_again_ms = clock_ms() + RESET_CANCEL_MS;
        return true;
    }
    c->reset_sent = true;
    return pg_send_reset(c, PQtransactionStatus(c->link.pg) != PQTRANS_IDLE);
}

/* ---- loss -------------------------------------------------------------------------------------------- */

static void fail_all(struct pg_conn *c, struct list *ops, enum pg_outcome outcome)
{
    while (ops->first != NULL) {
        struct pg_op *op = LIST_ENTRY(list_take(ops), struct pg_op, node);

        op->conn = NULL;
        op->failed_at = -1;
        op->too_large = false;
        pool_finish_later(c->pool, op, outcome);
    }
}

void pg_conn_lose(struct pg_conn *c)
{
    fail_all(c, &c->running, PG_LOST);
    fail_all(c, &c->queued, PG_NOT_SENT);
    while (c->answers.first != NULL) drop_answer(c, head(c));
    assert(c->syncs == 0);
    pg_cache_clear(&c->cache);
    pg_cancel_abandon(c);
    c->dirty = c->got_result = false;
    pg_link_down(&c->link);
    pg_conn_move(c, CONN_DOWN);
}

void pg_conn_free(struct pg_conn *c)
{
    struct list_node *node;

    while ((node = list_take(&c->spare)) != NULL)
        mem_free(LIST_ENTRY(node, struct answer, node));
    buf_free(&c->scratch);
}
