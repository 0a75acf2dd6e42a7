#include "script/bind_crypto.h"

#include <crypt.h>
#include <lauxlib.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "base/list.h"
#include "base/mem.h"
#include "script/fail.h"
#include "script/task.h"

/* bcrypt reads 72 bytes: longer passwords are hashed first, never cut. */
enum { BCRYPT_BYTES = 72, COST_DEFAULT = 12, COST_LEAST = 4, COST_MOST = 15 };

/* Half of uv's four threads; what else needs them is not kept waiting. */
enum { HASHING_MAX = 2, WAITING_MAX = 200 };

/* ---- texts ------------------------------------------------------------------------ */

static void push_hex(lua_State *L, const unsigned char *bytes, size_t n)
{
    static const char digits[] = "0123456789abcdef";
    luaL_Buffer b;
    char *p = luaL_buffinitsize(L, &b, 2 * n);

    for (size_t i = 0; i < n; i++) {
        *p++ = digits[bytes[i] >> 4];
        *p++ = digits[bytes[i] & 15];
    }
    luaL_pushresultsize(&b, 2 * n);
}

/* crypto.sha256(text): hex */
static int crypto_sha256(lua_State *L)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int n = 0;
    size_t size;
    const char *text = luaL_checklstring(L, 1, &size);

    if (EVP_Digest(text, size, digest, &n, EVP_sha256(), NULL) != 1)
        return luaL_error(L, "crypto.sha256 failed");
    push_hex(L, digest, n);
    return 1;
}

/* crypto.hmac_sha256(key, text): hex */
static int crypto_hmac(lua_State *L)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int n = 0;
    size_t key_n, size;
    const char *key = luaL_checklstring(L, 1, &key_n),
               *text = luaL_checklstring(L, 2, &size);

    luaL_argcheck(L, key_n < 65536, 1, "the key is too long");
    if (HMAC(EVP_sha256(), key, (int)key_n, (const unsigned char *)text, size, digest,
             &n) == NULL)
        return luaL_error(L, "crypto.hmac_sha256 failed");
    push_hex(L, digest, n);
    return 1;
}

/* crypto.equal(a, b): in a time that does not tell where they differ */
static int crypto_equal(lua_State *L)
{
    size_t a_n, b_n;
    const char *a = luaL_checklstring(L, 1, &a_n), *b = luaL_checklstring(L, 2, &b_n);

    lua_pushboolean(L, a_n == b_n && CRYPTO_memcmp(a, b, a_n) == 0);
    return 1;
}

/* crypto.random(n): n random bytes */
static int crypto_random(lua_State *L)
{
    lua_Integer n = luaL_optinteger(L, 1, 32);
    luaL_Buffer b;
    char *room;

    luaL_argcheck(L, n >= 1 && n <= 1024, 1, "1 to 1,024 bytes");
    room = luaL_buffinitsize(L, &b, (size_t)n);
    for (size_t got = 0; got < (size_t)n;) {
        ssize_t more = getrandom(room + got, (size_t)n - got, 0);

        if (more < 0) return luaL_error(L, "no randomness");
        got += (size_t)more;
    }
    luaL_pushresultsize(&b, (size_t)n);
    return 1;
}

/* crypto.token([n]): n random bytes (32) in hex, for whoever must not be guessed */
static int crypto_token(lua_State *L)
{
    size_t n;

    lua_settop(L, 1);
    crypto_random(L);
    const char *bytes = lua_tolstring(L, -1, &n);
    push_hex(L, (const unsigned char *)bytes, n);
    return 1;
}

/* ---- bcrypt, off the loop --------------------------------------------------------------- */

struct hashing {
    struct list_node node; /* waiting */
    uv_work_t work;
    struct crypto_queue *queue;
    struct task *task; /* NULL: nobody waits any more */
    uint32_t ticket;
    bool verify, ok, done, no_memory;
    char password[BCRYPT_BYTES + 1], setting[CRYPT_OUTPUT_SIZE], hash[CRYPT_OUTPUT_SIZE];
    struct hashing **holder; /* a userdata on the task's stack; NULL: nobody's */
};

struct crypto_queue {
    uv_loop_t *loop;
    struct list waiting;
    int running;
};

#define HASHING_TYPE "omade.hashing"

static void hash_free(struct hashing *h)
{
    if (h->holder != NULL) *h->holder = NULL;
    OPENSSL_cleanse(h->password, sizeof h->password);
    mem_free(h);
}

/* In a thread of uv's. */
static void work(uv_work_t *request)
{
    struct hashing *h = request->data;
    struct crypt_data *data = mem_get_clear(sizeof *data);
    const char *hash = data == NULL ? NULL : crypt_r(h->password, h->setting, data);

    h->no_memory = data == NULL;
    h->ok = hash != NULL && *hash != '*' && strlen(hash) < sizeof h->hash;
    if (h->ok) strcpy(h->hash, hash);
    if (data != NULL) OPENSSL_cleanse(data, sizeof *data);
    mem_free(data);
}

static void start_more(struct crypto_queue *queue);

static void work_done(uv_work_t *request, int status)
{
    struct hashing *h = request->data;
    struct crypto_queue *queue = h->queue;

    h->ok = h->ok && status == 0;
    queue->running--;
    h->done = true;
    if (h->task != NULL) task_wake(h->task, h->ticket); /* the finish frees it */
    else hash_free(h);
    start_more(queue);
}

static void start_more(struct crypto_queue *queue)
{
    while (queue->running < HASHING_MAX && queue->waiting.count > 0) {
        struct hashing *h = LIST_ENTRY(list_take(&queue->waiting), struct hashing, node);

        h->work.data = h;
        if (uv_queue_work(queue->loop, &h->work, work, work_done) == 0) queue->running++;
        else {
            h->done = h->no_memory = true;
            if (h->task != NULL) task_wake(h->task, h->ticket);
            else hash_free(h);
        }
    }
}

/* Nobody waits any more: what runs is freed when it is done. */
static void hash_leave(struct hashing *h)
{
    h->task = NULL;
    if (h->holder != NULL) *h->holder = NULL;
    h->holder = NULL;
    if (list_on(&h->node)) list_remove(&h->node);
    else if (!h->done) return;
    hash_free(h);
}

static void hash_cancel(void *ctx) { hash_leave(ctx); }

static int hash_gc(lua_State *L)
{
    struct hashing **holder = lua_touserdata(L, 1);

    if (*holder != NULL) hash_leave(*holder);
    return 0;
}

/* [top] the holder */
static int hash_finish(lua_State *L, int status, lua_KContext ctx)
{
    struct hashing **holder = lua_touserdata(L, -1), *h;
    char hash[CRYPT_OUTPUT_SIZE];
    bool verify, ok, no_memory;

    (void)status;
    (void)ctx;
    task_resumed(L);
    h = *holder;
    verify = h->verify;
    no_memory = h->no_memory;
    ok = h->ok && (!verify || (strlen(h->hash) == strlen(h->setting) &&
                               CRYPTO_memcmp(h->hash, h->setting, strlen(h->hash)) == 0));
    memcpy(hash, h->hash, sizeof hash);
    hash_leave(h);
    if (no_memory) return luaL_error(L, "not enough memory");
    if (verify) lua_pushboolean(L, ok);
    else if (ok) lua_pushstring(L, hash);
    else return luaL_error(L, "the password could not be hashed");
    return 1;
}

static struct crypto_queue *queue_of(lua_State *L)
{
    struct script_env *env = vm_of(L)->env;
    struct crypto_queue *queue = env->crypto;

    if (queue != NULL) return queue;
    queue = mem_get_clear(sizeof *queue);
    if (queue == NULL) luaL_error(L, "not enough memory");
    queue->loop = env->loop;
    return env->crypto = queue;
}

void crypto_end(struct script_env *env)
{
    mem_free(env->crypto);
    env->crypto = NULL;
}

/* The bytes that bcrypt sees: the password, or "sha256:" and its digest. */
static void set_password(lua_State *L, struct hashing *h, const char *password, size_t n)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int digest_n = 0;

    if (n <= BCRYPT_BYTES) {
        memcpy(h->password, password, n);
        return;
    }
    if (EVP_Digest(password, n, digest, &digest_n, EVP_sha256(), NULL) != 1) {
        luaL_error(L, "the password could not be hashed");
    }
    for (unsigned int i = 0; i < 32; i++)
        snprintf(h->password + 2 * i, 3, "%02x", digest[i]);
}

static int hash_start(lua_State *L, const char *name, bool verify, const char *setting)
{
    struct task *task = task_may_wait(L, name);
    struct crypto_queue *queue = queue_of(L);
    struct hashing **holder, *h;
    size_t n;
    const char *password = luaL_checklstring(L, 1, &n);

    luaL_argcheck(L, n >= 1 && n <= 4096 && memchr(password, '\0', n) == NULL, 1,
                  "a password of 1 to 4,096 bytes without NUL");
    luaL_argcheck(L, strlen(setting) < CRYPT_OUTPUT_SIZE, 2, "no bcrypt hash");
    if (queue->waiting.count >= WAITING_MAX) {
        fail_push(L, 503, "UNAVAILABLE", "The server is busy; try again later",
                  "too many passwords wait to be hashed (200)");
        return lua_error(L);
    }
    holder = lua_newuserdatauv(L, sizeof *holder, 0);
    *holder = NULL;
    luaL_setmetatable(L, HASHING_TYPE);
    h = mem_get_clear(sizeof *h);
    if (h == NULL) return luaL_error(L, "not enough memory");
    h->holder = holder;
    *holder = h;
    h->done = true; /* until it waits: freed with the holder */
    h->queue = queue;
    h->verify = verify;
    strcpy(h->setting, setting);
    set_password(L, h, password, n);
    h->task = task;
    h->ticket = task_await(task, name, hash_cancel, h);
    h->done = false;
    list_append(&queue->waiting, &h->node);
    start_more(queue);
    return lua_yieldk(L, 0, (lua_KContext)h, hash_finish);
}

/* crypto.bcrypt(password [, cost]): a hash to store */
static int crypto_bcrypt(lua_State *L)
{
    lua_Integer cost = luaL_optinteger(L, 2, COST_DEFAULT);
    char setting[CRYPT_GENSALT_OUTPUT_SIZE];

    luaL_argcheck(L, cost >= COST_LEAST && cost <= COST_MOST, 2, "4 to 15");
    if (crypt_gensalt_rn("$2b$", (unsigned long)cost, NULL, 0, setting, sizeof setting) ==
        NULL)
        return luaL_error(L, "no randomness");
    return hash_start(L, "crypto.bcrypt", false, setting);
}

/* crypto.verify(password, hash): whether it is the hash of this password */
static int crypto_verify(lua_State *L)
{
    const char *hash = luaL_checkstring(L, 2);
    bool bcrypt = strlen(hash) == 60 && strncmp(hash, "$2", 2) == 0 && hash[3] == '$' &&
                  hash[6] == '$' &&
                  (hash[4] == '0' || (hash[4] == '1' && hash[5] <= '5'));

    luaL_argcheck(L, bcrypt, 2, "no bcrypt hash of cost 15 or less");
    return hash_start(L, "crypto.verify", true, hash);
}

int luaopen_omade_crypto(lua_State *L)
{
    static const luaL_Reg functions[] = {
        { "sha256", crypto_sha256 }, { "hmac_sha256", crypto_hmac },
        { "equal", crypto_equal },   { "random", crypto_random },
        { "token", crypto_token },   { "bcrypt", crypto_bcrypt },
        { "verify", crypto_verify }, { NULL, NULL },
    };

    luaL_newmetatable(L, HASHING_TYPE);
    lua_pushcfunction(L, hash_gc);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1);
    luaL_newlib(L, functions);
    return 1;
}
