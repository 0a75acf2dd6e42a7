#include "db/pg_listen.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "db/pg_link.h"

enum { RETRY_MS = 500 };

struct pg_listener {
    struct list_node node;
    struct pg_listening *listening;
    void (*on_notify)(void *ctx, struct slice payload);
    void *ctx;
    bool removed;       /* while notifications are told */
    bool unsure, asked; /* its LISTEN is not known to be done; is under way */
    char channel[64];
};

struct pg_listening {
    struct pg_link link;
    struct list listeners;
    struct buf script; /* LISTEN and UNLISTEN that are still to be sent */
    bool busy, telling, stopped;
    int64_t retry_at_ms;
};

/* ---- statements --------------------------------------------------------------------- */

static void lose(struct pg_listening *l)
{
    pg_link_down(&l->link);
    l->retry_at_ms = clock_ms() + RETRY_MS + random() % RETRY_MS;
}

static void send_script(struct pg_listening *l)
{
    int left = -1;

    if (l->link.state != LINK_UP || l->busy || l->script.n == 0) return;
    buf_add_byte(&l->script, '\0');
    l->busy = true;
    for (struct list_node *n = l->listeners.first; n != NULL; n = n->next) {
        struct pg_listener *one = LIST_ENTRY(n, struct pg_listener, node);

        one->asked = one->unsure;
    }
    if (!l->script.failed && PQsendQuery(l->link.pg, l->script.p) == 1)
        left = PQflush(l->link.pg);
    buf_clear(&l->script);
    if (left >= 0) pg_link_want_write(&l->link, left == 1);
    else lose(l); /* it would not hear what it should */
}

static void add_statement(struct pg_listening *l, const char *verb, const char *channel)
{
    if (l->link.state != LINK_UP) return; /* sent once it is */
    buf_addf(&l->script, "%s \"%s\";", verb, channel);
    send_script(l);
}

/* ---- telling ---------------------------------------------------------------------------- */

static void sweep(struct pg_listening *l)
{
    struct list_node *next;

    for (struct list_node *n = l->listeners.first; n != NULL; n = next) {
        struct pg_listener *one = LIST_ENTRY(n, struct pg_listener, node);

        next = n->next;
        if (!one->removed) continue;
        list_remove(&one->node);
        mem_free(one);
    }
}

static void tell(struct pg_listening *l, const char *channel, struct slice payload)
{
    l->telling = true;
    for (struct list_node *n = l->listeners.first; n != NULL && !l->stopped;
         n = n->next) {
        struct pg_listener *one = LIST_ENTRY(n, struct pg_listener, node);

        if (!one->removed && strcmp(one->channel, channel) == 0)
            one->on_notify(one->ctx, payload);
    }
    l->telling = false;
    sweep(l);
}

/* To those whose LISTEN is done now: until then they may have missed some. */
static void tell_missed(struct pg_listening *l)
{
    l->telling = true;
    for (struct list_node *n = l->listeners.first; n != NULL && !l->stopped;
         n = n->next) {
        struct pg_listener *one = LIST_ENTRY(n, struct pg_listener, node);

        if (one->removed || !one->asked) continue;
        one->asked = one->unsure = false;
        one->on_notify(one->ctx, (struct slice){ NULL, 0 });
    }
    l->telling = false;
    sweep(l);
}

/* ---- the link ------------------------------------------------------------------------------ */

static struct pg_listening *of(struct pg_link *link)
{
    return CONTAINER_OF(link, struct pg_listening, link);
}

static void on_up(struct pg_link *link)
{
    struct pg_listening *l = of(link);

    l->busy = false;
    buf_clear(&l->script);
    for (struct list_node *n = l->listeners.first; n != NULL; n = n->next) {
        struct pg_listener *one = LIST_ENTRY(n, struct pg_listener, node);

        one->unsure = true;
        buf_addf(&l->script, "LISTEN \"%s\";", one->channel);
    }
    send_script(l);
}

static void on_failed(struct pg_link *link)
{
    struct pg_listening *l = of(link);

    l->retry_at_ms = clock_ms() + RETRY_MS + random() % RETRY_MS;
}

static void take_results(struct pg_listening *l)
{
    while (l->busy && !PQisBusy(l->link.pg)) {
        PGresult *result = PQgetResult(l->link.pg);

        if (result == NULL) l->busy = false;
        else if (PQresultStatus(result) != PGRES_COMMAND_OK)
            log_error("LISTEN failed", log_text("error", PQresultErrorMessage(result)));
        PQclear(result);
    }
    if (!l->busy) tell_missed(l);
}

static void on_ready(struct pg_link *link, bool writable)
{
    struct pg_listening *l = of(link);
    PGnotify *notify;

    if (writable) pg_link_want_write(link, PQflush(link->pg) == 1);
    if (PQconsumeInput(link->pg) != 1 || PQstatus(link->pg) != CONNECTION_OK) {
        log_warn("LISTEN connection lost");
        lose(l);
        l->retry_at_ms = clock_ms(); /* once at once */
        return;
    }
    take_results(l);
    while (link->state == LINK_UP && (notify = PQnotifies(link->pg)) != NULL) {
        tell(l, notify->relname, slice_of(notify->extra));
        PQfreemem(notify);
    }
    send_script(l);
}

/* ---- life ------------------------------------------------------------------------------------- */

struct pg_listening *listening_new(uv_loop_t *loop, const struct pg_settings *settings)
{
    struct pg_listening *l = mem_get_clear(sizeof *l);

    if (l == NULL) return NULL;
    l->link = (struct pg_link){
        .loop = loop,
        .url = settings->listen_url != NULL ? settings->listen_url : settings->url,
        .application_name = settings->application_name,
        .connect_timeout = clock_scaled(settings->connect_timeout),
        .bare = !settings->named_statements,
        .on_up = on_up,
        .on_failed = on_failed,
        .on_ready = on_ready,
    };
    return l;
}

void listening_stop(struct pg_listening *l)
{
    if (l == NULL) return;
    l->stopped = true;
    pg_link_down(&l->link);
}

void listening_free(struct pg_listening *l)
{
    struct list_node *node;

    if (l == NULL) return;
    pg_link_down(&l->link);
    while ((node = list_take(&l->listeners)) != NULL)
        mem_free(LIST_ENTRY(node, struct pg_listener, node));
    buf_free(&l->script);
    mem_free(l);
}

void listening_check(struct pg_listening *l, int64_t now_ms)
{
    if (l->stopped) return;
    if (l->link.state == LINK_DOWN && l->listeners.count > 0 && now_ms >= l->retry_at_ms)
        pg_link_connect(&l->link);
    else pg_link_check(&l->link, now_ms);
}

struct pg_listener *listening_add(struct pg_listening *l, struct slice channel,
                                  void (*on_notify)(void *ctx, struct slice payload),
                                  void *ctx)
{
    struct pg_listener *one;

    if (l->stopped || channel.n == 0 || channel.n >= sizeof one->channel) return NULL;
    for (size_t i = 0; i < channel.n; i++)
        if (channel.p[i] == '"' || channel.p[i] == '\0') return NULL;
    one = mem_get_clear(sizeof *one);
    if (one == NULL) return NULL;
    one->listening = l;
    one->on_notify = on_notify;
    one->ctx = ctx;
    one->unsure = true;
    memcpy(one->channel, channel.p, channel.n);
    list_append(&l->listeners, &one->node);
    if (l->link.state == LINK_DOWN && clock_ms() >= l->retry_at_ms)
        pg_link_connect(&l->link);
    else add_statement(l, "LISTEN", one->channel);
    return one;
}

void pg_unlisten(struct pg_listener *listener)
{
    struct pg_listening *l = listener->listening;
    bool others = false;

    for (struct list_node *n = l->listeners.first; n != NULL; n = n->next) {
        struct pg_listener *one = LIST_ENTRY(n, struct pg_listener, node);

        others = others || (one != listener && !one->removed &&
                            strcmp(one->channel, listener->channel) == 0);
    }
    if (!others) add_statement(l, "UNLISTEN", listener->channel);
    listener->removed = true;
    if (!l->telling) sweep(l);
}
