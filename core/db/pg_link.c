#include "db/pg_link.h"

#include <arpa/inet.h>
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"

/* uv handles outlive the link until their close callback. */
struct link_poll {
    uv_poll_t handle;
    struct pg_link *link;
    int fd, events;
};

struct link_lookup {
    uv_getaddrinfo_t request;
    struct pg_link *link; /* NULL: nobody waits any more */
};

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

static void step(struct pg_link *link)
{
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
    struct pg_link *link = ((struct link_poll *)handle->data)->link;

    if (link->state == LINK_CONNECTING) step(link);
    else if (link->state == LINK_UP)
        link->on_ready(link, status != 0 || (events & UV_READABLE),
                       (events & UV_WRITABLE) != 0);
}

static void ignore_notice(void *ctx, const PGresult *notice)
{
    (void)ctx;
    (void)notice;
}

/* 'address' is what the host's name was resolved to; NULL: libpq takes the URL as it is. */
static void start(struct pg_link *link, const char *address)
{
    char options[200] = "-c TimeZone=UTC -c DateStyle=ISO";
    const char *keys[] = { "dbname",
                           "application_name",
                           "client_encoding",
                           "options",
                           address == NULL ? NULL : "hostaddr",
                           NULL };
    const char *values[] = { link->url, link->application_name, "UTF8", options, address,
                             NULL };

    if (link->statement_timeout > 0)
        snprintf(options, sizeof options,
                 "-c TimeZone=UTC -c DateStyle=ISO -c statement_timeout=%lld "
                 "-c idle_in_transaction_session_timeout=60000",
                 (long long)link->statement_timeout);
    link->state = LINK_CONNECTING;
    link->pg = PQconnectStartParams(keys, values, 1);
    if (link->pg == NULL) {
        fail(link, "out of memory");
        return;
    }
    PQsetNoticeReceiver(link->pg, ignore_notice, NULL);
    if (PQstatus(link->pg) == CONNECTION_BAD) fail(link, PQerrorMessage(link->pg));
    else if (!watch(link, UV_WRITABLE)) fail(link, "out of memory");
}

/* ---- names ---------------------------------------------------------------------------- */

static void on_resolved(uv_getaddrinfo_t *request, int status, struct addrinfo *found)
{
    struct link_lookup *lookup = request->data;
    struct pg_link *link = lookup->link;
    char address[64] = "";

    if (link != NULL) {
        link->lookup = NULL;
        if (status != 0) fail(link, uv_strerror(status));
        else if (found->ai_family == AF_INET6)
            uv_ip6_name((struct sockaddr_in6 *)(void *)found->ai_addr, address,
                        sizeof address);
        else
            uv_ip4_name((struct sockaddr_in *)(void *)found->ai_addr, address,
                        sizeof address);
        if (*address != '\0') start(link, address);
    }
    uv_freeaddrinfo(found);
    mem_free(lookup);
}

/* The one host name that must be resolved, copied to 'host'; else false: sockets,
 * addresses, several hosts (libpq resolves these itself, synchronously). */
static bool host_to_resolve(const char *url, char host[static 256])
{
    PQconninfoOption *parts = PQconninfoParse(url, NULL);
    const char *name = NULL;
    bool has_address = false;
    unsigned char ignored[16];

    for (PQconninfoOption *o = parts; o != NULL && o->keyword != NULL; o++) {
        if (strcmp(o->keyword, "host") == 0) name = o->val;
        if (strcmp(o->keyword, "hostaddr") == 0 && o->val != NULL) has_address = true;
    }
    bool needed = name != NULL && !has_address && *name != '/' && *name != '@' &&
                  *name != '\0' && strchr(name, ',') == NULL && strlen(name) < 256 &&
                  inet_pton(AF_INET, name, ignored) != 1 &&
                  inet_pton(AF_INET6, name, ignored) != 1;
    if (needed) strcpy(host, name);
    PQconninfoFree(parts);
    return needed;
}

void pg_link_connect(struct pg_link *link)
{
    const struct addrinfo hints = { .ai_socktype = SOCK_STREAM };
    char host[256];

    assert(link->state == LINK_DOWN);
    link->deadline_ms = clock_ms() + link->connect_timeout;
    if (!host_to_resolve(link->url, host)) {
        start(link, NULL);
        return;
    }
    link->state = LINK_RESOLVING;
    link->lookup = mem_get_clear(sizeof *link->lookup);
    if (link->lookup == NULL) {
        fail(link, "out of memory");
        return;
    }
    link->lookup->link = link;
    link->lookup->request.data = link->lookup;
    if (uv_getaddrinfo(link->loop, &link->lookup->request, on_resolved, host, NULL,
                       &hints) == 0)
        return;
    mem_free(link->lookup);
    link->lookup = NULL;
    fail(link, "the host's name cannot be resolved");
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
    fail(link, "no connection within DB_CONNECT_TIMEOUT");
}
