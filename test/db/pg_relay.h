/* pg_relay.h -- stands between the pool and PostgreSQL, and can be cut, stalled, away. */
#ifndef TEST_PG_RELAY_H
#define TEST_PG_RELAY_H

#include "db/pg_rig.h"

enum { PAIRS_MAX = 64 };

struct half { /* one direction's reader */
    uv_tcp_t tcp;
    uv_pipe_t pipe;
    uv_stream_t *stream;
    struct half *other;
    struct relay *relay;
    bool open, reading;
    char room[65536];
};

struct pair {
    struct half client, server;
};

struct relay {
    struct rig *rig;
    uv_tcp_t listener;
    bool listening, stalled; /* stalled: nothing passes, in neither direction */
    int port, pairs_begun;
    struct pair *pairs[PAIRS_MAX];
    char url[600];
};

/* ---- bytes ------------------------------------------------------------------------------- */

static inline void half_close(struct half *half)
{
    if (half->open) uv_close((uv_handle_t *)half->stream, NULL);
    half->open = half->reading = false;
}

static inline void relay_room(uv_handle_t *handle, size_t suggested, uv_buf_t *room)
{
    struct half *half = handle->data;

    (void)suggested;
    *room = uv_buf_init(half->room, sizeof half->room);
}

struct relay_write {
    uv_write_t request;
    char bytes[65536];
};

static inline void relay_written(uv_write_t *request, int status)
{
    (void)status;
    free(request->data);
}

static inline void relay_bytes(uv_stream_t *stream, ssize_t n, const uv_buf_t *bytes)
{
    struct half *half = stream->data;
    struct relay_write *write;
    uv_buf_t out;

    if (n < 0) {
        half_close(half->other);
        half_close(half);
    }
    if (n <= 0 || !half->other->open) return;
    write = malloc(sizeof *write);
    assert_non_null(write);
    memcpy(write->bytes, bytes->base, (size_t)n);
    write->request.data = write;
    out = uv_buf_init(write->bytes, (unsigned)n);
    uv_write(&write->request, half->other->stream, &out, 1, relay_written);
}

static inline void half_read(struct half *half)
{
    if (!half->open || half->reading || half->relay->stalled) return;
    half->reading = uv_read_start(half->stream, relay_room, relay_bytes) == 0;
}

/* ---- connections ----------------------------------------------------------------------------- */

static inline void relay_connected(uv_connect_t *request, int status)
{
    struct pair *pair = request->data;

    free(request);
    if (status != 0) {
        half_close(&pair->server);
        half_close(&pair->client);
    }
    half_read(&pair->client);
    half_read(&pair->server);
}

/* To where the side session is. */
static inline void connect_upstream(struct pair *pair)
{
    uv_loop_t *loop = &pair->client.relay->rig->loop;
    uv_connect_t *request = malloc(sizeof *request);
    struct half *half = &pair->server;
    char path[200];

    assert_non_null(request);
    request->data = pair;
    if (*PQhost(side) == '/') {
        snprintf(path, sizeof path, "%s/.s.PGSQL.%s", PQhost(side), PQport(side));
        uv_pipe_init(loop, &half->pipe, 0);
        half->stream = (uv_stream_t *)&half->pipe;
        uv_pipe_connect(request, &half->pipe, path, relay_connected);
    } else {
        struct sockaddr_in address;

        uv_ip4_addr(PQhostaddr(side), number(PQport(side)), &address);
        uv_tcp_init(loop, &half->tcp);
        half->stream = (uv_stream_t *)&half->tcp;
        uv_tcp_connect(request, &half->tcp, (struct sockaddr *)&address, relay_connected);
    }
    half->stream->data = half;
    half->open = true;
}

static inline void relay_accept(uv_stream_t *listener, int status)
{
    struct relay *relay = listener->data;
    struct pair *pair = calloc(1, sizeof *pair);

    assert_int_equal(status, 0);
    assert_non_null(pair);
    assert_true(relay->pairs_begun < PAIRS_MAX);
    relay->pairs[relay->pairs_begun++] = pair;
    pair->client.relay = pair->server.relay = relay;
    pair->client.other = &pair->server;
    pair->server.other = &pair->client;
    uv_tcp_init(listener->loop, &pair->client.tcp);
    pair->client.stream = (uv_stream_t *)&pair->client.tcp;
    pair->client.tcp.data = &pair->client;
    pair->client.open = true;
    assert_int_equal(uv_accept(listener, pair->client.stream), 0);
    connect_upstream(pair);
}

/* ---- life ---------------------------------------------------------------------------------------- */

static inline void relay_listen(struct relay *relay)
{
    struct sockaddr_in address;
    int size = sizeof address;

    uv_ip4_addr("127.0.0.1", relay->port, &address);
    uv_tcp_init(&relay->rig->loop, &relay->listener);
    relay->listener.data = relay;
    assert_int_equal(uv_tcp_bind(&relay->listener, (struct sockaddr *)&address, 0), 0);
    assert_int_equal(uv_listen((uv_stream_t *)&relay->listener, 64, relay_accept), 0);
    uv_tcp_getsockname(&relay->listener, (struct sockaddr *)&address, &size);
    relay->port = ntohs(address.sin_port);
    relay->listening = true;
}

/* 'host' is how the relay's address is written: "127.0.0.1", "localhost". */
static inline void relay_start(struct rig *rig, struct relay *relay, const char *hosts)
{
    rig_loop(rig, NULL);
    memset(relay, 0, sizeof *relay);
    relay->rig = rig;
    relay_listen(relay);
    snprintf(relay->url, sizeof relay->url,
             "host=%s port=%d dbname='%s' user='%s' password='%s' sslmode=disable", hosts,
             relay->port, PQdb(side), PQuser(side), PQpass(side));
    rig->settings.url = relay->url;
}

static inline void relay_cut(struct relay *relay)
{
    for (int i = 0; i < relay->pairs_begun; i++) {
        half_close(&relay->pairs[i]->client);
        half_close(&relay->pairs[i]->server);
    }
}

/* As a backend does that ends with input unread: its last words, and a reset behind them. */
static inline void relay_reset(struct relay *relay)
{
    char words[] = "S\0\0\0\010a\0b"; /* a ParameterStatus, with the NUL behind it */
    uv_buf_t out = uv_buf_init(words, sizeof words);

    for (int i = 0; i < relay->pairs_begun; i++) {
        struct half *client = &relay->pairs[i]->client;

        if (!client->open) continue;
        assert_int_equal(uv_try_write(client->stream, &out, 1), sizeof words);
        assert_int_equal(uv_tcp_close_reset(&client->tcp, NULL), 0);
        client->open = client->reading = false;
        half_close(&relay->pairs[i]->server);
    }
}

/* As if PostgreSQL were stopped. */
static inline void relay_away(struct relay *relay)
{
    if (relay->listening) uv_close((uv_handle_t *)&relay->listener, NULL);
    relay->listening = false;
    relay_cut(relay);
}

static inline void relay_stall(struct relay *relay, bool stalled)
{
    relay->stalled = stalled;
    for (int i = 0; i < relay->pairs_begun; i++) {
        struct half *halves[] = { &relay->pairs[i]->client, &relay->pairs[i]->server };

        for (int k = 0; k < 2; k++) {
            if (!stalled) half_read(halves[k]);
            else if (halves[k]->reading) uv_read_stop(halves[k]->stream);
            if (stalled) halves[k]->reading = false;
        }
    }
}

static inline void relay_stop(struct relay *relay)
{
    struct rig *rig = relay->rig;

    if (rig->pool != NULL) rig_close_pool(rig);
    relay_away(relay);
    rig_stop(rig);
    for (int i = 0; i < relay->pairs_begun; i++) free(relay->pairs[i]);
}

#endif
