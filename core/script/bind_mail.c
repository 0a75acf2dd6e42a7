#include "script/bind_mail.h"

#include <curl/curl.h>
#include <lauxlib.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#include "base/clock.h"
#include "base/list.h"
#include "base/mem.h"
#include "base/slice.h"
#include "script/fail.h"
#include "script/task.h"
#include "script/vm.h"

/* One at a time: uv's threads are for passwords and uploads, too. */
enum { SENDING_MAX = 1, WAITING_MAX = 200, ADDRESS_MAX = 320, ANSWER_MAX = 300 };
enum { TIMEOUT_DEFAULT = 10, TIMEOUT_MOST = 120 };

static const char NAME[] = "mail.send";

/* One mail.  It is sent in a thread, because curl says goodbye to a mail server by
 * waiting for its answer. */
struct mail {
    struct list_node node; /* waiting */
    uv_work_t work;
    struct mail_queue *queue;
    struct task *task; /* NULL: nobody waits any more */
    uint32_t ticket;
    struct mail **holder; /* a userdata on the task's stack; NULL: nobody's */
    bool done;
    int64_t deadline_ms;

    CURL *easy; /* the thread's, from its start to its end */
    struct curl_slist *recipients;
    char *message;
    size_t n, at; /* its bytes, and how many were sent */
    CURLcode code;
    int refusal; /* the last 4xx or 5xx; 0: none */
    char line[ANSWER_MAX];

    atomic_bool abandoned;
    pthread_mutex_t lock; /* of 'socket' */
    curl_socket_t socket;
};

struct mail_queue {
    uv_loop_t *loop;
    struct list waiting;
    int running;
    bool ended; /* goes with the last that runs */
};

#define HOLDER_TYPE "omade.mail"

/* ---- life ------------------------------------------------------------------------ */

static void mail_free(struct mail *mail)
{
    if (mail->holder != NULL) *mail->holder = NULL;
    if (mail->easy != NULL) curl_easy_cleanup(mail->easy);
    curl_slist_free_all(mail->recipients);
    pthread_mutex_destroy(&mail->lock);
    mem_free(mail->message);
    mem_free(mail);
}

/* The thread waits for nothing any more. */
static void abandon(struct mail *mail)
{
    atomic_store(&mail->abandoned, true);
    pthread_mutex_lock(&mail->lock);
    if (mail->socket != CURL_SOCKET_BAD) shutdown(mail->socket, SHUT_RDWR);
    pthread_mutex_unlock(&mail->lock);
}

/* Nobody waits any more: what runs is freed when it is done. */
static void mail_leave(struct mail *mail)
{
    bool runs = !mail->done && mail->queue != NULL && !list_on(&mail->node);

    mail->task = NULL;
    if (mail->holder != NULL) *mail->holder = NULL;
    mail->holder = NULL;
    if (list_on(&mail->node)) list_remove(&mail->node);
    if (runs) abandon(mail);
    else mail_free(mail);
}

static void mail_cancel(void *ctx) { mail_leave(ctx); }

static int mail_gc(lua_State *L)
{
    struct mail **holder = lua_touserdata(L, 1);

    if (*holder != NULL) mail_leave(*holder);
    return 0;
}

static void queue_free(struct mail_queue *queue)
{
    curl_global_cleanup();
    mem_free(queue);
}

static struct mail_queue *queue_of(lua_State *L)
{
    struct script_env *env = vm_of(L)->env;
    struct mail_queue *queue = env->mail;

    if (queue != NULL) return queue;
    queue = mem_get_clear(sizeof *queue);
    if (queue == NULL || curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        mem_free(queue);
        luaL_error(L, "not enough memory");
    }
    queue->loop = env->loop;
    return env->mail = queue;
}

void mail_end(struct script_env *env)
{
    struct mail_queue *queue = env->mail;

    env->mail = NULL;
    if (queue == NULL) return;
    queue->ended = true;
    if (queue->running == 0) queue_free(queue);
}

/* ---- in the thread ------------------------------------------------------------------ */

static size_t on_read(char *room, size_t size, size_t n, void *ctx)
{
    struct mail *mail = ctx;
    size_t left = mail->n - mail->at;

    n *= size;
    if (n > left) n = left;
    memcpy(room, mail->message + mail->at, n);
    mail->at += n;
    return n;
}

/* The server's lines: a refusal is kept. */
static size_t on_line(char *p, size_t size, size_t n, void *ctx)
{
    struct mail *mail = ctx;
    size_t length = n *= size;

    if (n < 3 || (p[0] != '4' && p[0] != '5')) return n;
    while (length > 0 && (p[length - 1] == '\n' || p[length - 1] == '\r')) length--;
    snprintf(mail->line, sizeof mail->line, "%.*s", (int)length, p);
    mail->refusal = (p[0] - '0') * 100 + (p[1] - '0') * 10 + (p[2] - '0');
    return n;
}

static int on_progress(void *ctx, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
    struct mail *mail = ctx;

    (void)a, (void)b, (void)c, (void)d;
    return atomic_load(&mail->abandoned);
}

static curl_socket_t on_open(void *ctx, curlsocktype purpose, struct curl_sockaddr *at)
{
    struct mail *mail = ctx;
    curl_socket_t s = socket(at->family, at->socktype | SOCK_CLOEXEC, at->protocol);

    (void)purpose;
    pthread_mutex_lock(&mail->lock);
    mail->socket = s;
    pthread_mutex_unlock(&mail->lock);
    return s;
}

static int on_close(void *ctx, curl_socket_t s)
{
    struct mail *mail = ctx;

    pthread_mutex_lock(&mail->lock);
    if (mail->socket == s) mail->socket = CURL_SOCKET_BAD;
    pthread_mutex_unlock(&mail->lock);
    return close(s);
}

/* Its connection ends here, too: that is what may take long. */
static void work(uv_work_t *request)
{
    struct mail *mail = request->data;
    int64_t left = mail->deadline_ms - clock_ms();

    mail->code = CURLE_OPERATION_TIMEDOUT;
    if (left > 0 && !atomic_load(&mail->abandoned)) {
        curl_easy_setopt(mail->easy, CURLOPT_TIMEOUT_MS, (long)left);
        curl_easy_setopt(mail->easy, CURLOPT_SERVER_RESPONSE_TIMEOUT,
                         (long)(left / 1000 + 1));
        mail->code = curl_easy_perform(mail->easy);
    }
    curl_easy_cleanup(mail->easy);
    mail->easy = NULL;
}

/* ---- the queue ------------------------------------------------------------------------ */

static void start_more(struct mail_queue *queue);

static void work_done(uv_work_t *request, int status)
{
    struct mail *mail = request->data;
    struct mail_queue *queue = mail->queue;

    if (status != 0) mail->code = CURLE_ABORTED_BY_CALLBACK;
    queue->running--;
    mail->done = true;
    if (mail->task != NULL) task_wake(mail->task, mail->ticket); /* the finish frees it */
    else mail_free(mail);
    if (!queue->ended) start_more(queue);
    else if (queue->running == 0) queue_free(queue);
}

static void start_more(struct mail_queue *queue)
{
    while (queue->running < SENDING_MAX && queue->waiting.count > 0) {
        struct mail *mail = LIST_ENTRY(list_take(&queue->waiting), struct mail, node);

        mail->work.data = mail;
        if (uv_queue_work(queue->loop, &mail->work, work, work_done) == 0) {
            queue->running++;
            continue;
        }
        mail->done = true;
        mail->code = CURLE_OUT_OF_MEMORY;
        task_wake(mail->task, mail->ticket);
    }
}

/* ---- failures and the answer --------------------------------------------------------- */

static int no_memory(lua_State *L) { return luaL_error(L, "not enough memory"); }

static int refuse(lua_State *L, int status, const char *code, const char *message,
                  const char *why)
{
    const char *detail = lua_pushfstring(L, "%s: %s", NAME, why);

    fail_push(L, status, code, message, detail);
    return lua_error(L);
}

static int raise_code(lua_State *L, CURLcode code)
{
    switch (code) {
    case CURLE_OPERATION_TIMEDOUT:
        return refuse(L, 504, "TIMEOUT", "The mail server did not answer in time",
                      curl_easy_strerror(code));
    case CURLE_OUT_OF_MEMORY: return no_memory(L);
    default:
        return refuse(L, 503, "UNAVAILABLE", "The mail server is away; try again later",
                      curl_easy_strerror(code));
    }
}

/* A refusal is an answer: its code, and what the server said.  [top] the holder */
static int send_finish(lua_State *L, int status, lua_KContext ctx)
{
    struct mail **holder = lua_touserdata(L, -1), *mail;
    CURLcode code;
    int refusal;

    (void)status;
    (void)ctx;
    task_resumed(L);
    mail = *holder;
    code = mail->code;
    refusal = mail->refusal;
    lua_pushstring(L, mail->line);
    mail_leave(mail);
    if (code != CURLE_OK && refusal == 0) return raise_code(L, code);
    lua_pushinteger(L, code == CURLE_OK ? 250 : refusal);
    lua_insert(L, -2);
    return 2;
}

/* ---- options --------------------------------------------------------------------- */

static void check(lua_State *L, CURLcode code)
{
    if (code != CURLE_OK) no_memory(L);
}

/* [1] the options.  The text stays on the stack's table; NULL when there is none. */
static const char *text_option(lua_State *L, const char *name, size_t *n, bool must)
{
    const char *text = NULL;

    lua_pushstring(L, name);
    if (lua_rawget(L, 1) == LUA_TSTRING) {
        text = lua_tolstring(L, -1, n);
        if (strlen(text) != *n) luaL_error(L, "%s: %s holds NUL", NAME, name);
    } else if (must || !lua_isnil(L, -1)) {
        luaL_error(L, "%s: %s must be text", NAME, name);
    }
    lua_pop(L, 1);
    return text;
}

/* Nothing that could be taken for more than one address. */
static const char *address_option(lua_State *L, const char *name)
{
    size_t n = 0;
    const char *text = text_option(L, name, &n, true);
    bool ok = n > 0 && n <= ADDRESS_MAX && strchr(text, '@') != NULL;

    for (const char *p = text; ok && *p != '\0'; p++)
        ok = *p > ' ' && *p < 127 && strchr("<>,;\\\"", *p) == NULL;
    if (!ok) luaL_error(L, "%s: %s is no mail address", NAME, name);
    return text;
}

/* Lines end with CRLF: another end could hide a second mail from a server. */
static struct slice message_option(lua_State *L)
{
    struct slice s = { 0 };
    bool ok = true;

    s.p = text_option(L, "message", &s.n, true);
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] == '\n') ok = ok && i > 0 && s.p[i - 1] == '\r';
        if (s.p[i] == '\r') ok = ok && i + 1 < s.n && s.p[i + 1] == '\n';
    }
    if (!ok) luaL_error(L, "%s: the message's lines must end with CRLF", NAME);
    return s;
}

static int64_t timeout_option(lua_State *L)
{
    lua_Number seconds = TIMEOUT_DEFAULT;

    lua_pushliteral(L, "timeout");
    if (lua_rawget(L, 1) != LUA_TNIL)
        seconds = lua_type(L, -1) == LUA_TNUMBER ? lua_tonumber(L, -1) : 0;
    lua_pop(L, 1);
    if (!(seconds >= 0.001 && seconds <= TIMEOUT_MOST))
        luaL_error(L, "%s: timeout is above 0, up to 120 seconds", NAME);
    return (int64_t)(seconds * 1000);
}

static void set_server(lua_State *L, CURL *easy)
{
    size_t n;
    const char *url = text_option(L, "url", &n, true);
    const char *user = text_option(L, "user", &n, false);
    const char *password = text_option(L, "password", &n, false);
    const char *ca_file = text_option(L, "ca_file", &n, false);
    long tls;

    if (strncmp(url, "smtp://", 7) != 0 && strncmp(url, "smtps://", 8) != 0)
        luaL_error(L, "%s: the url must be smtp://... or smtps://...", NAME);
    lua_pushliteral(L, "starttls");
    lua_rawget(L, 1);
    tls = lua_toboolean(L, -1) ? CURLUSESSL_ALL : CURLUSESSL_NONE;
    lua_pop(L, 1);
    check(L, curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "smtp,smtps"));
    check(L, curl_easy_setopt(easy, CURLOPT_URL, url));
    check(L, curl_easy_setopt(easy, CURLOPT_USE_SSL, tls));
    check(L, curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 1L));
    check(L, curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 2L));
    check(L, curl_easy_setopt(easy, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED));
    check(L, curl_easy_setopt(easy, CURLOPT_USERNAME, user));
    check(L, curl_easy_setopt(easy, CURLOPT_PASSWORD, password));
    if (ca_file != NULL) check(L, curl_easy_setopt(easy, CURLOPT_CAINFO, ca_file));
}

static void set_callbacks(lua_State *L, struct mail *mail)
{
    CURL *easy = mail->easy;

    check(L, curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L));
    check(L, curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L));
    check(L, curl_easy_setopt(easy, CURLOPT_UPLOAD, 1L));
    check(L, curl_easy_setopt(easy, CURLOPT_READFUNCTION, on_read));
    check(L, curl_easy_setopt(easy, CURLOPT_READDATA, mail));
    check(L, curl_easy_setopt(easy, CURLOPT_INFILESIZE_LARGE, (curl_off_t)mail->n));
    check(L, curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_line));
    check(L, curl_easy_setopt(easy, CURLOPT_HEADERDATA, mail));
    check(L, curl_easy_setopt(easy, CURLOPT_NOPROGRESS, 0L));
    check(L, curl_easy_setopt(easy, CURLOPT_XFERINFOFUNCTION, on_progress));
    check(L, curl_easy_setopt(easy, CURLOPT_XFERINFODATA, mail));
    check(L, curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, on_open));
    check(L, curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, mail));
    check(L, curl_easy_setopt(easy, CURLOPT_CLOSESOCKETFUNCTION, on_close));
    check(L, curl_easy_setopt(easy, CURLOPT_CLOSESOCKETDATA, mail));
}

static void set_mail(lua_State *L, struct mail *mail)
{
    const char *from = address_option(L, "from"), *to = address_option(L, "to");
    struct slice message = message_option(L);

    if (!task_charge(mail->task, message.n)) no_memory(L);
    mail->message = mem_copy_text(message.p, message.n);
    mail->recipients = curl_slist_append(NULL, to);
    if (mail->message == NULL || mail->recipients == NULL) no_memory(L);
    mail->n = message.n;
    check(L, curl_easy_setopt(mail->easy, CURLOPT_MAIL_FROM, from));
    check(L, curl_easy_setopt(mail->easy, CURLOPT_MAIL_RCPT, mail->recipients));
}

/* ---- the module ------------------------------------------------------------------ */

/* Pushes its holder. */
static struct mail *mail_new(lua_State *L, struct task *task)
{
    struct mail **holder = lua_newuserdatauv(L, sizeof *holder, 0), *mail;

    *holder = NULL;
    luaL_setmetatable(L, HOLDER_TYPE);
    mail = mem_get_clear(sizeof *mail);
    if (mail == NULL) no_memory(L);
    if (pthread_mutex_init(&mail->lock, NULL) != 0) {
        mem_free(mail);
        no_memory(L);
    }
    *holder = mail;
    mail->holder = holder;
    mail->task = task;
    mail->socket = CURL_SOCKET_BAD;
    mail->easy = curl_easy_init();
    if (mail->easy == NULL) no_memory(L);
    return mail;
}

/* mail.send{url =, from =, to =, message =, ...} -> code, what the server said */
static int mail_send(lua_State *L)
{
    struct task *task = task_may_wait(L, NAME);
    struct mail_queue *queue = queue_of(L);
    struct mail *mail;
    int64_t timeout_ms;

    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    timeout_ms = timeout_option(L);
    if (queue->waiting.count >= WAITING_MAX)
        return refuse(L, 503, "UNAVAILABLE", "The server is busy; try again later",
                      "too many mails are under way");
    mail = mail_new(L, task);
    set_server(L, mail->easy);
    set_mail(L, mail);
    set_callbacks(L, mail);
    mail->deadline_ms = clock_ms() + clock_scaled(timeout_ms);
    mail->queue = queue;
    mail->ticket = task_await(task, NAME, mail_cancel, mail);
    list_append(&queue->waiting, &mail->node);
    start_more(queue);
    return lua_yieldk(L, 0, 0, send_finish);
}

int luaopen_omade_mail(lua_State *L)
{
    static const luaL_Reg functions[] = { { "send", mail_send }, { NULL, NULL } };

    luaL_newmetatable(L, HOLDER_TYPE);
    lua_pushcfunction(L, mail_gc);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1);
    luaL_newlib(L, functions);
    return 1;
}
