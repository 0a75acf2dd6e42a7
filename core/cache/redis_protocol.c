#include "cache/redis_protocol.h"

#include "base/mem.h"

enum { FIRST_ITEMS = 64, READER_KEPT = 256 * 1024 };

/* ---- replies ------------------------------------------------------------------ */

void redis_reply_free(struct redis_reply *reply)
{
    if (reply == NULL) return;
    for (size_t i = 0; i < reply->item_count; i++) redis_reply_free(reply->items[i]);
    mem_free(reply->items);
    mem_free(reply);
}

/* The text lies behind the reply, with a NUL. */
static struct redis_reply *reply_new(enum redis_type type, struct slice text)
{
    struct redis_reply *reply = mem_get(sizeof *reply + text.n + 1);
    char *bytes;

    if (reply == NULL) return NULL;
    bytes = (char *)(reply + 1);
    if (text.n > 0) memcpy(bytes, text.p, text.n);
    bytes[text.n] = '\0';
    *reply = (struct redis_reply){ .type = type, .text = { bytes, text.n } };
    return reply;
}

struct redis_reply *redis_reply_error(struct slice text)
{
    return reply_new(REDIS_ERROR_TEXT, text);
}

/* Room for one more item.  The capacity is not stored, it follows from the count:
 * FIRST_ITEMS and its doublings, but never more than the header promised. */
static bool make_room(struct redis_reply *list, size_t promised)
{
    size_t n = list->item_count, cap = n == 0 ? FIRST_ITEMS : n * 2;
    struct redis_reply **items;

    if (n != 0 && (n < FIRST_ITEMS || (n & (n - 1)) != 0)) return true;
    if (cap > promised) cap = promised;
    items = mem_resize(list->items, cap * sizeof(struct redis_reply *));
    if (items == NULL) return false;
    list->items = items;
    return true;
}

/* ---- what the parser calls -------------------------------------------------------- */

/* Hands the new reply to the list that it belongs to. */
static void *attach(const redisReadTask *task, struct redis_reply *reply)
{
    struct redis_reply *list;

    if (reply == NULL || task->parent == NULL) return reply;
    list = task->parent->obj;
    if (!make_room(list, (size_t)task->parent->elements)) {
        redis_reply_free(reply);
        return NULL;
    }
    list->items[list->item_count++] = reply;
    return reply;
}

static void *create_string(const redisReadTask *task, char *text, size_t n)
{
    enum redis_type type = task->type == REDIS_REPLY_ERROR    ? REDIS_ERROR_TEXT
                           : task->type == REDIS_REPLY_STATUS ? REDIS_STATUS_TEXT
                                                              : REDIS_STRING;

    return attach(task, reply_new(type, (struct slice){ text, n }));
}

static void *create_array(const redisReadTask *task, int elements)
{
    (void)elements;
    return attach(task, reply_new(REDIS_LIST, (struct slice){ 0 }));
}

static void *create_integer(const redisReadTask *task, long long value)
{
    struct redis_reply *reply = reply_new(REDIS_INT, (struct slice){ 0 });

    if (reply != NULL) reply->number = value;
    return attach(task, reply);
}

static void *create_nil(const redisReadTask *task)
{
    return attach(task, reply_new(REDIS_NIL, (struct slice){ 0 }));
}

static void free_object(void *reply) { redis_reply_free(reply); }

static redisReplyObjectFunctions functions = {
    .createString = create_string,
    .createArray = create_array,
    .createInteger = create_integer,
    .createNil = create_nil,
    .freeObject = free_object,
};

/* ---- the parser --------------------------------------------------------------------- */

/* The parser's own memory is not from mem.h; it takes part in the failures that
 * tests plan. */
redisReader *redis_reader_new(void)
{
    redisReader *reader =
        mem_fails_now() ? NULL : redisReaderCreateWithFunctions(&functions);

    /* Its buffer stays when it is empty, up to this size; 16 KiB, its default, are
     * less than one read brings. */
    if (reader != NULL) reader->maxbuf = READER_KEPT;
    return reader;
}

bool redis_reader_feed(redisReader *reader, const char *bytes, size_t n)
{
    return !mem_fails_now() && redisReaderFeed(reader, bytes, n) == REDIS_OK;
}

struct redis_reply *redis_reader_next(redisReader *reader)
{
    void *reply = NULL;

    return redisReaderGetReply(reader, &reply) == REDIS_OK ? reply : NULL;
}

/* ---- commands ------------------------------------------------------------------------ */

void redis_command_add(struct buf *b, int argc, const struct slice argv[])
{
    buf_add_byte(b, '*');
    buf_add_int(b, argc);
    BUF_ADD(b, "\r\n");
    for (int i = 0; i < argc; i++) {
        buf_add_byte(b, '$');
        buf_add_int(b, (int64_t)argv[i].n);
        BUF_ADD(b, "\r\n");
        buf_add_slice(b, argv[i]);
        BUF_ADD(b, "\r\n");
    }
}

/* Commands that change the connection for everybody, block it, or get more or fewer
 * replies than one, after which every reply would go to a wrong asker. */
static const struct slice refused[] = {
    { "SUBSCRIBE", 9 },    { "PSUBSCRIBE", 10 },   { "SSUBSCRIBE", 10 },
    { "UNSUBSCRIBE", 11 }, { "PUNSUBSCRIBE", 12 }, { "MONITOR", 7 },
    { "HELLO", 5 },        { "SUNSUBSCRIBE", 12 }, { "RESET", 5 },
    { "QUIT", 4 },         { "SELECT", 6 },        { "AUTH", 4 },
    { "SYNC", 4 },         { "PSYNC", 5 },         { "WATCH", 5 },
    { "BLPOP", 5 },        { "BRPOP", 5 },         { "BLMOVE", 6 },
    { "BRPOPLPUSH", 10 },  { "BLMPOP", 6 },        { "BZPOPMIN", 8 },
    { "BZPOPMAX", 8 },     { "BZMPOP", 6 },        { "WAIT", 4 },
    { "WAITAOF", 7 },      { "REPLCONF", 8 },      { "SHUTDOWN", 8 },
    { "FAILOVER", 8 },     { "ASKING", 6 },        { "READONLY", 8 },
    { "READWRITE", 9 },
};

static bool is(struct slice word, const char *name)
{
    return slice_equal_fold(word, slice_of(name));
}

static bool blocks(int argc, const struct slice argv[])
{
    if (!is(argv[0], "XREAD") && !is(argv[0], "XREADGROUP")) return false;
    for (int i = 1; i < argc && !is(argv[i], "STREAMS"); i++)
        if (is(argv[i], "BLOCK")) return true;
    return false;
}

const char *redis_commands_refused(int count, const int argc[], const struct slice argv[])
{
    bool transaction = false;

    for (int i = 0; i < count; argv += argc[i++]) {
        for (size_t k = 0; k < COUNT_OF(refused); k++)
            if (slice_equal_fold(argv[0], refused[k]))
                return "ERR this command is not for a shared connection";
        if (argc[i] > 1 && is(argv[0], "CLIENT") && is(argv[1], "REPLY"))
            return "ERR CLIENT REPLY is not for a shared connection";
        if (blocks(argc[i], argv))
            return "ERR a command that blocks is not for a shared connection";
        if (is(argv[0], "MULTI")) transaction = true;
        if (is(argv[0], "EXEC") || is(argv[0], "DISCARD")) transaction = false;
    }
    return transaction ? "ERR MULTI and its EXEC are sent together" : NULL;
}
