#include "db/pg_conn.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

/* What an op is going to need, taken before the first byte is sent: afterwards only libpq
 * itself can fail. */
struct plan {
    struct prepared *prepared[PG_STATEMENTS_MAX]; /* NULL: sent unprepared; held */
    bool is_new[PG_STATEMENTS_MAX];               /* to be prepared, first */
};

/* ---- answers ------------------------------------------------------------------------- */

static bool reserve(struct pg_conn *c, size_t count)
{
    while (c->spare.count < count) {
        struct answer *a = mem_get_clear(sizeof *a);

        if (a == NULL) return false;
        list_append(&c->spare, &a->node);
    }
    return true;
}

/* From the reserve. */
static struct answer *expect(struct pg_conn *c, enum answer_kind kind, struct pg_op *op)
{
    struct answer *a = LIST_ENTRY(list_take(&c->spare), struct answer, node);

    assert(a != NULL);
    *a = (struct answer){ .kind = kind, .op = op, .number = ++c->sent };
    if (op != NULL) a->deadline_ms = op->deadline_ms;
    list_append(&c->answers, &a->node);
    return a;
}

static void expect_statement(struct pg_conn *c, enum answer_kind kind, struct pg_op *op,
                             int index, struct prepared *prepared)
{
    struct answer *a = expect(c, kind, op);

    a->index = index;
    a->prepared = prepared;
    if (prepared != NULL) prepared->users++;
}

/* ---- our own statements ------------------------------------------------------------------ */

static bool send_own(struct pg_conn *c, const char *sql)
{
    expect(c, ANSWER_OWN, NULL);
    return PQsendQueryParams(c->link.pg, sql, 0, NULL, NULL, NULL, NULL, 0) == 1;
}

static struct answer *send_sync(struct pg_conn *c, struct pg_op *op)
{
    struct answer *a = expect(c, ANSWER_SYNC, op);

    c->dirty = true;
    return PQpipelineSync(c->link.pg) == 1 ? a : NULL;
}

/* One DEALLOCATE that fails takes those behind it along: each has a Sync of its own. */
static bool send_deallocates(struct pg_conn *c)
{
    char name[24], sql[48];

    while (pg_cache_bury(&c->cache, name)) {
        snprintf(sql, sizeof sql, "DEALLOCATE %s", name);
        if (!send_own(c, sql) || send_sync(c, NULL) == NULL) return false;
    }
    return true;
}

static size_t excess(const struct pg_conn *c)
{
    size_t most = (size_t)pool_settings(c->pool)->statements_max;

    return c->cache.used.count > most ? c->cache.used.count - most : 0;
}

bool pg_send_wants_trim(const struct pg_conn *c)
{
    return c->cache.doomed.count > 0 || excess(c) > 0;
}

static void doom_excess(struct pg_conn *c)
{
    struct prepared *victim;

    while (excess(c) > 0 &&
           (victim = pg_cache_victim(&c->cache, pool_generation(c->pool))) != NULL)
        pg_cache_doom(&c->cache, victim);
}

bool pg_send_reset(struct pg_conn *c, bool rollback)
{
    struct answer *a;

    doom_excess(c);
    if (!reserve(c, 2 + 2 * c->cache.doomed.count)) return false;
    if (rollback && !send_own(c, "ROLLBACK")) return false;
    a = send_sync(c, NULL);
    if (a == NULL) return false;
    if (c->cache.doomed.count > 0) {
        if (!send_deallocates(c)) return false;
        a = LIST_ENTRY(c->answers.last, struct answer, node);
    }
    a->ends_reset = true;
    return true;
}

/* PgBouncer refuses options in the start packet, and keeps these two per client. */
bool pg_send_greeting(struct pg_conn *c)
{
    if (pool_settings(c->pool)->named_statements) return true;
    return reserve(c, 2) &&
           send_own(c, "SELECT set_config('TimeZone', 'UTC', false), "
                       "set_config('DateStyle', 'ISO', false)") &&
           send_sync(c, NULL) != NULL;
}

/* ---- the plan of an op --------------------------------------------------------------------- */

static void drop_plan(struct pg_conn *c, struct plan *plan, int count)
{
    for (int i = 0; i < count; i++) {
        if (plan->is_new[i]) pg_cache_remove(&c->cache, plan->prepared[i]);
        pg_cache_release(plan->prepared[i]);
    }
}

static bool plan_statement(struct pg_conn *c, const struct pg_statement *s,
                           struct plan *plan, int i)
{
    uint64_t generation = pool_generation(c->pool);
    char *room;

    plan->prepared[i] = NULL;
    plan->is_new[i] = false;
    if (s->unprepared || !pool_settings(c->pool)->named_statements) {
        buf_clear(&c->scratch);
        room = buf_room(&c->scratch, s->sql.n + 1);
        return room != NULL;
    }
    plan->prepared[i] = pg_cache_find(&c->cache, s->sql, generation);
    if (plan->prepared[i] == NULL) {
        plan->prepared[i] = pg_cache_add(&c->cache, s->sql, generation);
        if (plan->prepared[i] == NULL) return false;
        plan->is_new[i] = true;
    }
    plan->prepared[i]->users++;
    return true;
}

static bool make_plan(struct pg_conn *c, const struct pg_op *op, struct plan *plan)
{
    int n = 0;

    for (; n < op->statement_count; n++)
        if (!plan_statement(c, &op->statements[n], plan, n)) goto fail;
    /* Inside a transaction a DEALLOCATE could do harm: it waits for the end. */
    if (c->state == CONN_READY) doom_excess(c);
    if (reserve(c, 2 * (size_t)n + 1 + 2 * c->cache.doomed.count)) return true;

fail:
    drop_plan(c, plan, n);
    return false;
}

/* ---- sending ---------------------------------------------------------------------------------- */

static bool send_unnamed(struct pg_conn *c, const struct pg_statement *s)
{
    buf_clear(&c->scratch);
    buf_add_slice(&c->scratch, s->sql);
    buf_add_byte(&c->scratch, '\0');
    return !c->scratch.failed &&
           PQsendQueryParams(c->link.pg, c->scratch.p, s->value_count, NULL, s->values,
                             NULL, NULL, 0) == 1;
}

static bool send_statement(struct pg_conn *c, struct pg_op *op, int index,
                           struct prepared *p)
{
    const struct pg_statement *s = &op->statements[index];

    if (p == NULL) {
        expect_statement(c, ANSWER_STATEMENT, op, index, NULL);
        return send_unnamed(c, s);
    }
    if (!p->sent) {
        expect_statement(c, ANSWER_PREPARE, op, index, p);
        p->sent = true;
        if (PQsendPrepare(c->link.pg, p->name, p->sql, 0, NULL) != 1) return false;
    }
    expect_statement(c, ANSWER_STATEMENT, op, index, p);
    return PQsendQueryPrepared(c->link.pg, p->name, s->value_count, s->values, NULL, NULL,
                               0) == 1;
}

static bool send_statements(struct pg_conn *c, struct pg_op *op, const struct plan *plan)
{
    if (c->state == CONN_READY && !send_deallocates(c)) return false;
    for (int i = 0; i < op->statement_count; i++)
        if (!send_statement(c, op, i, plan->prepared[i])) return false;
    return true;
}

enum send_outcome pg_send_op(struct pg_conn *c, struct pg_op *op)
{
    struct plan plan;
    struct answer *a;
    bool sent;

    if (!make_plan(c, op, &plan)) return SEND_REFUSED;
    sent = send_statements(c, op, &plan);
    for (int i = 0; i < op->statement_count; i++) pg_cache_release(plan.prepared[i]);
    if (!sent) return SEND_NOT; /* without its Sync nothing is committed */
    a = send_sync(c, op);
    if (a == NULL) return SEND_UNKNOWN;
    a->ends_op = true;
    c->syncs++;
    return SEND_DONE;
}
