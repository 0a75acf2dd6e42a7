#include "script/bind_shared.h"

#include <lauxlib.h>
#include <stdint.h>
#include <string.h>

#include "base/mem.h"
#include "base/slice.h"
#include "script/vm.h"

enum { BUCKETS = 1024, KEY_MAX = 256 };

enum kind { KIND_TEXT, KIND_INTEGER, KIND_BOOLEAN };

struct entry {
    struct entry *next;
    enum kind kind;
    int64_t number; /* integer, boolean */
    size_t key_n, text_n;
    char bytes[]; /* the key, then the text */
};

struct shared {
    size_t bytes, byte_max;
    struct entry *buckets[BUCKETS];
};

struct shared *shared_new(size_t byte_max)
{
    struct shared *shared = mem_get_clear(sizeof *shared);

    if (shared != NULL) shared->byte_max = byte_max;
    return shared;
}

static size_t size_of(const struct entry *e) { return sizeof *e + e->key_n + e->text_n; }

static void unlink_entry(struct shared *shared, struct entry **at)
{
    struct entry *e = *at;

    *at = e->next;
    shared->bytes -= size_of(e);
    mem_free(e);
}

void shared_free(struct shared *shared)
{
    if (shared == NULL) return;
    for (int i = 0; i < BUCKETS; i++)
        while (shared->buckets[i] != NULL) unlink_entry(shared, &shared->buckets[i]);
    mem_free(shared);
}

/* Where the entry of 'key' hangs, or the end of its chain. */
static struct entry **find(struct shared *shared, struct slice key)
{
    uint32_t hash = 2166136261u;
    struct entry **at;

    for (size_t i = 0; i < key.n; i++)
        hash = (hash ^ (unsigned char)key.p[i]) * 16777619u;
    at = &shared->buckets[hash % BUCKETS];
    while (*at != NULL && !slice_equal((struct slice){ (*at)->bytes, (*at)->key_n }, key))
        at = &(*at)->next;
    return at;
}

/* ---- for Lua ------------------------------------------------------------------- */

static struct shared *shared_of(lua_State *L)
{
    struct shared *shared = vm_of(L)->env->shared;

    if (shared == NULL) luaL_error(L, "omade.shared is for workers");
    return shared;
}

static struct slice check_key(lua_State *L, int at)
{
    size_t n;
    const char *p = luaL_checklstring(L, at, &n);

    luaL_argcheck(L, n <= KEY_MAX, at, "a key has at most 256 bytes");
    return (struct slice){ p, n };
}

static void push(lua_State *L, const struct entry *e)
{
    if (e == NULL) lua_pushnil(L);
    else if (e->kind == KIND_TEXT) lua_pushlstring(L, e->bytes + e->key_n, e->text_n);
    else if (e->kind == KIND_INTEGER) lua_pushinteger(L, e->number);
    else lua_pushboolean(L, e->number != 0);
}

/* shared.get(key): the value, or nil */
static int shared_get(lua_State *L)
{
    struct shared *shared = shared_of(L);

    push(L, *find(shared, check_key(L, 1)));
    return 1;
}

static struct entry *make(lua_State *L, struct shared *shared, struct slice key,
                          enum kind kind, int64_t number, struct slice text)
{
    struct entry *e;

    if (shared->bytes + sizeof *e + key.n + text.n > shared->byte_max)
        luaL_error(L, "omade.shared is full (SHARED_MEMORY)");
    e = mem_get(sizeof *e + key.n + text.n);
    if (e == NULL) luaL_error(L, "not enough memory");
    *e = (struct entry){ NULL, kind, number, key.n, text.n };
    memcpy(e->bytes, key.p, key.n);
    if (text.n > 0) memcpy(e->bytes + key.n, text.p, text.n);
    return e;
}

static void put(struct shared *shared, struct entry *e)
{
    struct entry **at = find(shared, (struct slice){ e->bytes, e->key_n });

    if (*at != NULL) unlink_entry(shared, at);
    e->next = *at;
    *at = e;
    shared->bytes += size_of(e);
}

/* shared.set(key, value): a string, an integer, a boolean; nil removes */
static int shared_set(lua_State *L)
{
    struct shared *shared = shared_of(L);
    struct slice key = check_key(L, 1), text = { NULL, 0 };
    struct entry **at;

    switch (lua_type(L, 2)) {
    case LUA_TSTRING:
        text.p = lua_tolstring(L, 2, &text.n);
        put(shared, make(L, shared, key, KIND_TEXT, 0, text));
        break;
    case LUA_TBOOLEAN:
        put(shared, make(L, shared, key, KIND_BOOLEAN, lua_toboolean(L, 2), text));
        break;
    case LUA_TNIL:
        at = find(shared, key);
        if (*at != NULL) unlink_entry(shared, at);
        break;
    default:
        luaL_argexpected(L, lua_isinteger(L, 2), 2, "string, integer, boolean or nil");
        put(shared, make(L, shared, key, KIND_INTEGER, lua_tointeger(L, 2), text));
    }
    return 0;
}

/* shared.incr(key [, by]): the new value; an absent one counts from 0 */
static int shared_incr(lua_State *L)
{
    struct shared *shared = shared_of(L);
    struct slice key = check_key(L, 1);
    int64_t by = luaL_optinteger(L, 2, 1);
    struct entry **at = find(shared, key);

    if (*at == NULL)
        put(shared, make(L, shared, key, KIND_INTEGER, 0, (struct slice){ 0 }));
    at = find(shared, key);
    if ((*at)->kind != KIND_INTEGER) return luaL_error(L, "shared.incr: not an integer");
    if (__builtin_add_overflow((*at)->number, by, &(*at)->number))
        return luaL_error(L, "shared.incr: the number is too large");
    push(L, *at);
    return 1;
}

int luaopen_omade_shared(lua_State *L)
{
    static const luaL_Reg functions[] = {
        { "get", shared_get },
        { "set", shared_set },
        { "incr", shared_incr },
        { NULL, NULL },
    };

    luaL_newlib(L, functions);
    return 1;
}
