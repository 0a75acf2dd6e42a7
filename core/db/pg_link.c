#include "db/pg_link.h"

#include <arpa/inet.h>
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/mem.h"

/* uv handles outlive the link until their close callback. */
struct link_poll {
    uv_poll_t handle;
    struct pg_link *link;
    int fd, events;
};

/* Hosts, as libpq takes them: lists with commas. */
struct targets {
    struct buf hosts, addresses, ports;
    int count;
};

struct link_lookup {
    uv_getaddrinfo_t request;
    struct pg_link *link; /* NULL: nobody waits any more */
    char *hosts, *ports;  /* of the URL */
    int count, done;      /* hosts, and how many of them are among the targets */
    unsigned first;
    struct targets targets;
};

/* ---- the URL ----------------------------------------------------------------------- */

/* A part of it, for PQfreemem; NULL when it has none. */
static char *url_part(const char *url, const char *keyword)
{
    PQconninfoOption *parts = PQconninfoParse(url, NULL);
    char *part = NULL;

    for (PQconninfoOption *o = parts; o != NULL && o->keyword != NULL; o++)
        if (strcmp(o->keyword, keyword) == 0 && o->val != NULL && *o->val != '\0') {
            part = o->val;
            o->val = NULL;
        }
    PQconninfoFree(parts);
    return part;
}

/* ---- readiness ------------------------------------------------------------------- */

static void on_poll(uv_poll_t *handle, int status, int events);

static void poll_closed(uv_handle_t *handle) { mem_free(handle->data); }

static void drop_poll(struct pg_link *link)
{
    if (link->poll == NULL) return;
    uv_poll_stop(&link->poll->handle); /* before the descriptor is closed and reused */
    uv_close((uv_handle_t *)&link->poll->handle, poll_closed);
    link->poll = NULL;
}

static bool watch(struct pg_link *link, int events)
{
    int fd = PQsocket(link->pg);
    struct link_poll *poll = link->poll;

    if (poll != NULL && poll->fd != fd) {
        drop_poll(link);
        poll = NULL;
    }
    if (poll == NULL) {
        poll = mem_get_clear(sizeof *poll);
        if (poll == NULL || fd < 0 || uv_poll_init(link->loop, &poll->handle, fd) != 0) {
            mem_free(poll);
            return false;
        }
        poll->handle.data = poll;
        poll->link = link;
        poll->fd = fd;
        link->poll = poll;
    }
    if (poll->events == events) return true;
    poll->events = events;
    return uv_poll_start(&poll->handle, events, on_poll) == 0;
}

void pg_link_want_write(struct pg_link *link, bool wanted)
{
    if (link->state != LINK_UP || link->writing == wanted) return;
    link->writing = wanted;
    (void)watch(link, UV_READABLE | (wanted ? UV_WRITABLE : 0));
}

/* ---- the handshake ------------------------------------------------------------------ */

static void fail(struct pg_link *link, const char *why)
{
    snprintf(link->fault, sizeof link->fault, "%.*s", (int)strcspn(why, "\n"), why);
    pg_link_down(link);
    link->on_failed(link);
}

/* libpq may close its socket and open another under the same number, which the loop would
 * not notice: it watches anew after each step. */
static void step(struct pg_link *link)
{
    if (link->poll != NULL) {
        uv_poll_stop(&link->poll->handle);
        link->poll->events = 0;
    }
    switch (PQconnectPoll(link->pg)) {
    case PGRES_POLLING_READING:
        if (watch(link, UV_READABLE)) return;
        break;
    case PGRES_POLLING_WRITING:
        if (watch(link, UV_WRITABLE)) return;
        break;
    case PGRES_POLLING_OK:
        if (PQsetnonblocking(link->pg, 1) != 0 || !watch(link, UV_READABLE)) break;
        link->state = LINK_UP;
        link->writing = false;
        link->on_up(link);
        return;
    default: break;
    }
    fail(link, PQerrorMessage(link->pg));
}

static void on_poll(uv_poll_t *handle, int status, int events)
{
    struct link_poll *poll = handle->data;
    struct pg_link *link = poll->link;

    if (link->state == LINK_CONNECTING) {
        step(link);
        return;
    }
    if (link->state != LINK_UP) return;
    if (status !=
        0) { /* libuv stops watching a reset socket, which may still hold bytes */
        poll->events = 0;
        (void)watch(link, UV_READABLE);
    }
    link->on_ready(link, status == 0 && (events & UV_WRITABLE) != 0);
}

static void ignore_notice(void *ctx, const PGresult *notice)
{
    (void)ctx;
    (void)notice;
}

/* What the session is to be like; the URL's own options come behind and win. */
static void add_options(struct buf *b, const struct pg_link *link, const char *own)
{
    if (!link->bare && link->statement_timeout > 0)
        buf_addf(
            b, "-c statement_timeout=%lld -c idle_in_transaction_session_timeout=60000 ",
            (long long)link->statement_timeout);
    if (!link->bare && link->timezone != NULL)
        buf_addf(b, "-c app.timezone=%s ", link->timezone);
    if (own != NULL) buf_addf(b, "%s ", own);
    if (!link->bare) BUF_ADD(b, "-c TimeZone=UTC -c DateStyle=ISO");
    buf_add_byte(b, '\0');
}

/* 'targets' NULL: libpq takes the URL's hosts as they are. */
static void start(struct pg_link *link, const struct targets *targets)
{
    struct buf options = { 0 };
    char *own = url_part(link->url, "options");
    const char *keys[10] = { "dbname", "application_name", "client_encoding" };
    const char *values[10] = { link->url, link->application_name, "UTF8" };
    int n = 3;

    add_options(&options, link, own);
    PQfreemem(own);
    link->state = LINK_CONNECTING;
    if (options.failed) {
        buf_free(&options);
        fail(link, "out of memory");
        return;
    }
    if (options.n > 1) {
        keys[n] = "options";
        values[n++] = options.p;
    }
    if (targets != NULL) {
        keys[n] = "host";
        values[n++] = targets->hosts.p;
        keys[n] = "hostaddr";
        values[n++] = targets->addresses.p;
        keys[n] = "port";
        values[n++] = targets->ports.p;
    }
    link->pg = PQconnectStartParams(keys, values, 1);
    buf_free(&options);
    if (link->pg == NULL) {
        fail(link, "out of memory");
        return;
    }
    PQsetNoticeReceiver(link->pg, ignore_notice, NULL);
    if (PQstatus(link->pg) == CONNECTION_BAD) fail(link, PQerrorMessage(link->pg));
    else if (!watch(link, UV_WRITABLE)) fail(link, "out of memory");
}

/* ---- names ---------------------------------------------------------------------------- */

/* PQconnectStart would look up names synchronously: it gets their addresses, all of them,
 * in the order of the resolver. */

static void add_item(struct buf *list, bool first, struct slice item)
{
    if (!first) buf_add_byte(list, ',');
    buf_add_slice(list, item);
}

static void add_target(struct targets *t, struct slice host, const char *address,
                       struct slice port)
{
    add_item(&t->hosts, t->count == 0, host);
    add_item(&t->addresses, t->count == 0, slice_of(address));
    add_item(&t->ports, t->count == 0, port);
    t->count++;
}

static struct slice item_of(const char *list, int index)
{
    for (; index > 0; index--) {
        list += strcspn(list, ",");
        if (*list == ',') list++;
    }
    return (struct slice){ list, strcspn(list, ",") };
}

static int item_count(const char *list)
{
    int n = 1;

    for (; *list != '\0'; list++) n += *list == ',';
    return n;
}

static void free_lookup(struct link_lookup *lookup)
{
    buf_free(&lookup->targets.hosts);
    buf_free(&lookup->targets.addresses);
    buf_free(&lookup->targets.ports);
    mem_free(lookup->hosts);
    mem_free(lookup->ports);
    mem_free(lookup);
}

static struct slice lookup_host(const struct link_lookup *lookup)
{
    return item_of(lookup->hosts, (lookup->done + (int)lookup->first) % lookup->count);
}

static struct slice lookup_port(const struct link_lookup *lookup)
{
    int index = (lookup->done + (int)lookup->first) % lookup->count;

    return item_of(lookup->ports, item_count(lookup->ports) == 1 ? 0 : index);
}

static bool is_name(struct slice host, char name[static 256])
{
    unsigned char ignored[16];

    if (host.n == 0 || host.n >= 256 || *host.p == '/' || *host.p == '@') return false;
    memcpy(name, host.p, host.n);
    name[host.n] = '\0';
    return inet_pton(AF_INET, name, ignored) != 1 &&
           inet_pton(AF_INET6, name, ignored) != 1;
}

static void finish_lookup(struct link_lookup *lookup)
{
    struct pg_link *link = lookup->link;
    struct targets *t = &lookup->targets;

    link->lookup = NULL;
    buf_add_byte(&t->hosts, '\0');
    buf_add_byte(&t->addresses, '\0');
    buf_add_byte(&t->ports, '\0');
    if (t->hosts.failed || t->addresses.failed || t->ports.failed)
        fail(link, "out of memory");
    else if (t->count == 0) fail(link, "no host's name can be resolved");
    else start(link, t);
    free_lookup(lookup);
}

static void on_resolved(uv_getaddrinfo_t *request, int status, struct addrinfo *found);

/* Up to the next name that must be asked for, or the end. */
static void resolve(struct link_lookup *lookup)
{
    const struct addrinfo hints = { .ai_socktype = SOCK_STREAM };
    char name[256];

    for (; lookup->done < lookup->count; lookup->done++) {
        struct slice host = lookup_host(lookup);

        if (!is_name(host, name))
            add_target(&lookup->targets, host, "", lookup_port(lookup));
        else if (uv_getaddrinfo(lookup->link->loop, &lookup->request, on_resolved, name,
                                NULL, &hints) == 0)
            return;
    }
    finish_lookup(lookup);
}

static void add_found(struct link_lookup *lookup, const struct addrinfo *found)
{
    char address[64];

    for (const struct addrinfo *i = found; i != NULL; i = i->ai_next) {
        if (uv_ip_name(i->ai_addr, address, sizeof address) == 0)
            add_target(&lookup->targets, lookup_host(lookup), address,
                       lookup_port(lookup));
    }
}

static void on_resolved(uv_getaddrinfo_t *request, int status, struct addrinfo *found)
{
    struct link_lookup *lookup = request->data;

    if (lookup->link == NULL) {
        free_lookup(lookup);
    } else {
        if (status == 0) add_found(lookup, found);
        lookup->done++;
        resolve(lookup);
    }
    uv_freeaddrinfo(found);
}

/* False: there is nothing to look up, or no memory for it ('*failed'). */
static bool prepare_lookup(struct pg_link *link, bool *failed)
{
    char *hosts = url_part(link->url, "host"), name[256];
    char *addresses = url_part(link->url, "hostaddr");
    char *ports = url_part(link->url, "port");
    struct link_lookup *lookup = NULL;
    bool needed = hosts != NULL && addresses == NULL &&
                  (strchr(hosts, ',') != NULL || is_name(slice_of(hosts), name));

    if (needed) lookup = mem_get_clear(sizeof *lookup);
    if (lookup != NULL) {
        lookup->hosts = mem_copy_text(hosts, strlen(hosts));
        lookup->ports =
            mem_copy_text(ports == NULL ? "" : ports, ports == NULL ? 0 : strlen(ports));
        lookup->count = item_count(hosts);
        lookup->first = link->first_host % (unsigned)lookup->count;
        lookup->link = link;
        lookup->request.data = lookup;
    }
    *failed =
        needed && (lookup == NULL || lookup->hosts == NULL || lookup->ports == NULL);
    if (*failed && lookup != NULL) free_lookup(lookup);
    else link->lookup = lookup;
    PQfreemem(hosts);
    PQfreemem(addresses);
    PQfreemem(ports);
    return needed && !*failed;
}

void pg_link_connect(struct pg_link *link)
{
    bool failed;

    assert(link->state == LINK_DOWN);
    link->deadline_ms = clock_ms() + link->connect_timeout;
    link->state = LINK_RESOLVING;
    if (prepare_lookup(link, &failed)) resolve(link->lookup);
    else if (failed) fail(link, "out of memory");
    else start(link, NULL);
}

void pg_link_down(struct pg_link *link)
{
    if (link->lookup != NULL) {
        link->lookup->link = NULL;
        uv_cancel((uv_req_t *)&link->lookup->request);
        link->lookup = NULL;
    }
    drop_poll(link);
    PQfinish(link->pg);
    link->pg = NULL;
    link->state = LINK_DOWN;
}

void pg_link_check(struct pg_link *link, int64_t now_ms)
{
    if (link->state == LINK_DOWN || link->state == LINK_UP || now_ms < link->deadline_ms)
        return;
    link->first_host++;
    fail(link, "no connection within DB_CONNECT_TIMEOUT");
}
