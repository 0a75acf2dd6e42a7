#include "db/pg_cache.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

static uint64_t hash_of(struct slice sql)
{
    uint64_t hash = 0x9e3779b97f4a7c15u ^ sql.n, part;
    size_t i = 0;

    for (; i + 8 <= sql.n; i += 8) {
        memcpy(&part, sql.p + i, 8);
        hash = (hash ^ part) * 0xff51afd7ed558ccdu;
        hash ^= hash >> 32;
    }
    for (part = 0; i < sql.n; i++) part = part << 8 | (unsigned char)sql.p[i];
    hash = (hash ^ part) * 0xc4ceb9fe1a85ec53u;
    return hash ^ hash >> 29;
}

struct prepared *pg_cache_find(struct pg_cache *c, struct slice sql, uint64_t generation)
{
    uint64_t hash = hash_of(sql);

    for (struct prepared *p = c->buckets[hash % CACHE_BUCKETS]; p != NULL; p = p->next) {
        if (p->hash != hash || !slice_equal((struct slice){ p->sql, p->sql_n }, sql))
            continue;
        if (c->used.last != &p->used) {
            list_remove(&p->used);
            list_append(&c->used, &p->used);
        }
        p->generation = generation;
        return p;
    }
    return NULL;
}

struct prepared *pg_cache_add(struct pg_cache *c, struct slice sql, uint64_t generation)
{
    struct prepared *p = mem_get_clear(sizeof *p + sql.n + 1);

    if (p == NULL) return NULL;
    p->hash = hash_of(sql);
    p->generation = generation;
    p->sql_n = sql.n;
    memcpy(p->sql, sql.p, sql.n);
    snprintf(p->name, sizeof p->name, "s%llu", (unsigned long long)++c->next_name);
    p->next = c->buckets[p->hash % CACHE_BUCKETS];
    c->buckets[p->hash % CACHE_BUCKETS] = p;
    list_append(&c->used, &p->used);
    return p;
}

struct prepared *pg_cache_victim(struct pg_cache *c, uint64_t generation)
{
    struct prepared *oldest = NULL;

    for (struct list_node *n = c->used.first; n != NULL; n = n->next) {
        struct prepared *p = LIST_ENTRY(n, struct prepared, used);

        if (p->users > 0) continue;
        if (p->generation != generation) return p;
        if (oldest == NULL) oldest = p;
    }
    return oldest;
}

static void take_out(struct pg_cache *c, struct prepared *p)
{
    struct prepared **at = &c->buckets[p->hash % CACHE_BUCKETS];

    while (*at != p) at = &(*at)->next;
    *at = p->next;
    list_remove(&p->used);
    p->stale = true;
}

static void free_unused(struct prepared *p)
{
    if (p->stale && p->users == 0 && !list_on(&p->used)) mem_free(p);
}

void pg_cache_remove(struct pg_cache *c, struct prepared *p)
{
    if (p->stale) return;
    take_out(c, p);
    free_unused(p);
}

void pg_cache_doom(struct pg_cache *c, struct prepared *p)
{
    if (p->stale) return;
    take_out(c, p);
    list_append(&c->doomed, &p->used);
}

bool pg_cache_bury(struct pg_cache *c, char name[static 24])
{
    struct prepared *p = LIST_ENTRY(list_take(&c->doomed), struct prepared, used);

    if (p == NULL) return false;
    memcpy(name, p->name, sizeof p->name);
    free_unused(p);
    return true;
}

void pg_cache_release(struct prepared *p)
{
    if (p == NULL) return;
    assert(p->users > 0);
    p->users--;
    free_unused(p);
}

void pg_cache_clear(struct pg_cache *c)
{
    char ignored[24];

    while (c->used.first != NULL)
        pg_cache_remove(c, LIST_ENTRY(c->used.first, struct prepared, used));
    while (pg_cache_bury(c, ignored)) continue;
}
