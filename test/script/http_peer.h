/* http_peer.h -- the other side of the tests of http.request: a small server, a thread
 * for each connection, on a free port of 127.0.0.1. */
#ifndef TEST_HTTP_PEER_H
#define TEST_HTTP_PEER_H

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PEER_TEXT_MAX = 64 * 1024, PEER_BIG = 2 * 1024 * 1024 };

static struct {
    int listener, port;
    pthread_t thread;
    atomic_int live;     /* connections */
    atomic_int accepted; /* connections since the start */
    atomic_int held;     /* requests that wait until their client leaves */
} peer;

struct peer_request {
    char method[16], path[128];
    char text[PEER_TEXT_MAX]; /* head and body */
    const char *body;
    size_t body_n;
};

/* ---- answers --------------------------------------------------------------------- */

static inline bool peer_send(int fd, const void *bytes, size_t n)
{
    for (const char *p = bytes; n > 0;) {
        ssize_t sent = send(fd, p, n, MSG_NOSIGNAL);

        if (sent <= 0) return false;
        p += sent;
        n -= (size_t)sent;
    }
    return true;
}

static inline bool peer_text(int fd, const char *text)
{
    return peer_send(fd, text, strlen(text));
}

static inline bool peer_answer(int fd, const char *status, const char *headers,
                               const char *body, size_t n)
{
    char head[512];

    snprintf(head, sizeof head, "HTTP/1.1 %s\r\nContent-Length: %zu\r\n%s\r\n", status, n,
             headers);
    return peer_text(fd, head) && peer_send(fd, body, n);
}

/* Until the client leaves. */
static inline bool peer_hold(int fd)
{
    char byte;

    peer.held++;
    while (recv(fd, &byte, 1, 0) > 0) continue;
    peer.held--;
    return false;
}

static inline bool peer_endless(int fd)
{
    char piece[1024];

    memset(piece, 'x', sizeof piece);
    if (!peer_text(fd, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"))
        return false;
    while (peer_text(fd, "400\r\n") && peer_send(fd, piece, sizeof piece) &&
           peer_text(fd, "\r\n"))
        continue;
    return false;
}

static inline bool peer_endless_head(int fd)
{
    if (!peer_text(fd, "HTTP/1.1 200 OK\r\n")) return false;
    while (peer_text(fd, "X-More: 0123456789012345678901234567890123456789\r\n"))
        continue;
    return false;
}

static inline bool peer_big(int fd)
{
    char *body = calloc(1, PEER_BIG);
    bool ok = body != NULL && peer_answer(fd, "200 OK", "", body, PEER_BIG);

    free(body);
    return ok;
}

/* Whether the connection goes on. */
static inline bool peer_serve(int fd, const struct peer_request *r)
{
    if (strcmp(r->path, "/hello") == 0)
        return peer_answer(fd, "200 OK", "X-Kind: greeting\r\n", "hello",
                           strcmp(r->method, "HEAD") == 0 ? 0 : 5);
    if (strcmp(r->path, "/echo") == 0)
        return peer_answer(fd, "200 OK", "", r->text,
                           (size_t)(r->body - r->text) + r->body_n);
    if (strcmp(r->path, "/headers") == 0)
        return peer_text(fd, "HTTP/1.1 103 Early Hints\r\nX-Early: 1\r\n\r\n"
                             "HTTP/1.1 200 OK\r\nX-Two: a\r\nx-two:  b \r\nX-Empty:\r\n"
                             "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n"
                             "X-Trailer: 1\r\nX-Two: c\r\n\r\n");
    if (strcmp(r->path, "/away") == 0)
        return peer_answer(fd, "503 Service Unavailable", "", "later", 5);
    if (strcmp(r->path, "/redirect") == 0)
        return peer_answer(fd, "302 Found", "Location: /hello\r\n", "moved", 5);
    if (strcmp(r->path, "/circle") == 0)
        return peer_answer(fd, "302 Found", "Location: /circle\r\n", "", 0);
    if (strcmp(r->path, "/file") == 0)
        return peer_answer(fd, "302 Found", "Location: file:///etc/passwd\r\n", "", 0);
    if (strcmp(r->path, "/big") == 0) return peer_big(fd);
    if (strcmp(r->path, "/endless") == 0) return peer_endless(fd);
    if (strcmp(r->path, "/endless-head") == 0) return peer_endless_head(fd);
    if (strcmp(r->path, "/hold") == 0) return peer_hold(fd);
    if (strcmp(r->path, "/drip") == 0)
        return peer_text(fd, "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nsome") &&
               peer_hold(fd);
    if (strcmp(r->path, "/half") == 0)
        peer_text(fd, "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nsome");
    if (strcmp(r->path, "/half-head") == 0) peer_text(fd, "HTTP/1.1 200 OK\r\nX-Ki");
    if (strcmp(r->path, "/rubbish") == 0) peer_text(fd, "220 mail.example ESMTP\r\n\r\n");
    return false;
}

/* ---- requests -------------------------------------------------------------------- */

static inline bool peer_read(int fd, struct peer_request *r)
{
    size_t n = 0, length = 0;
    char *end;

    for (;;) {
        ssize_t got = recv(fd, r->text + n, sizeof r->text - 1 - n, 0);

        if (got <= 0) return false;
        if (r->text[0] < 'A' || r->text[0] > 'Z') return false; /* TLS */
        n += (size_t)got;
        r->text[n] = '\0';
        end = strstr(r->text, "\r\n\r\n");
        if (end == NULL) continue;
        const char *field = strcasestr(r->text, "\r\nContent-Length:");
        if (field != NULL && field < end) length = strtoul(field + 17, NULL, 10);
        r->body = end + 4;
        if (n >= (size_t)(r->body - r->text) + length) break;
    }
    r->body_n = length;
    return sscanf(r->text, "%15s %127s", r->method, r->path) == 2;
}

static inline void *peer_connection(void *arg)
{
    struct peer_request *r = malloc(sizeof *r);
    int fd = (int)(intptr_t)arg;

    while (r != NULL && peer_read(fd, r) && peer_serve(fd, r)) continue;
    free(r);
    close(fd);
    peer.live--;
    return NULL;
}

/* ---- life ------------------------------------------------------------------------ */

static inline void *peer_run(void *arg)
{
    int fd;

    while ((fd = accept(peer.listener, NULL, NULL)) >= 0) {
        pthread_t thread;

        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
        peer.live++;
        peer.accepted++;
        if (pthread_create(&thread, NULL, peer_connection, (void *)(intptr_t)fd) != 0)
            abort();
        pthread_detach(thread);
    }
    return arg;
}

static inline int peer_listen(int *port)
{
    struct sockaddr_in at = { .sin_family = AF_INET,
                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t n = sizeof at;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (bind(fd, (struct sockaddr *)&at, n) != 0 || listen(fd, 512) != 0 ||
        getsockname(fd, (struct sockaddr *)&at, &n) != 0)
        abort();
    *port = ntohs(at.sin_port);
    return fd;
}

static inline void peer_start(void)
{
    memset(&peer, 0, sizeof peer);
    peer.listener = peer_listen(&peer.port);
    if (pthread_create(&peer.thread, NULL, peer_run, NULL) != 0) abort();
}

/* All clients have left, or do so now. */
static inline void peer_stop(void)
{
    shutdown(peer.listener, SHUT_RDWR);
    pthread_join(peer.thread, NULL);
    close(peer.listener);
    while (peer.live > 0) usleep(1000);
}

#endif
