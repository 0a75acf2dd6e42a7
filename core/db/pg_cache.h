/* pg_cache.h -- the prepared statements of one connection, by their SQL text. */
#ifndef DB_PG_CACHE_H
#define DB_PG_CACHE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/check.h"
#include "base/list.h"
#include "base/slice.h"

struct prepared {
    struct list_node used; /* by last use, the oldest first; or among the doomed */
    struct prepared *next; /* in its bucket */
    uint64_t hash;
    uint64_t generation; /* of its last use */
    int users;           /* answers under way that point to it */
    bool sent;           /* PostgreSQL was told to prepare it */
    bool stale;          /* out of the cache; freed with its last user */
    char name[24];
    size_t sql_n;
    char sql[];
};

enum { CACHE_BUCKETS = 256 };

struct pg_cache {
    struct prepared *buckets[CACHE_BUCKETS];
    struct list used;
    struct list doomed; /* out of the cache, still to be DEALLOCATEd */
    uint64_t next_name;
};

/* NULL: not prepared. */
struct prepared *pg_cache_find(struct pg_cache *c, struct slice sql, uint64_t generation);

/* A new one under a fresh name; NULL: no memory. */
MUST_CHECK struct prepared *pg_cache_add(struct pg_cache *c, struct slice sql,
                                         uint64_t generation);

/* The one to give up when there are too many: of an old generation, or least recently
 * used; never one that is in use.  NULL: none. */
struct prepared *pg_cache_victim(struct pg_cache *c, uint64_t generation);

/* Out of the cache: PostgreSQL does not have it (any more). */
void pg_cache_remove(struct pg_cache *c, struct prepared *p);

/* Out of the cache and onto the list of those to be DEALLOCATEd. */
void pg_cache_doom(struct pg_cache *c, struct prepared *p);

/* The next of the doomed, of which DEALLOCATE is sent now: its name.  False: none. */
bool pg_cache_bury(struct pg_cache *c, char name[static 24]);

void pg_cache_release(struct prepared *p); /* a user less; NULL is fine */
void pg_cache_clear(struct pg_cache *c);

#endif
