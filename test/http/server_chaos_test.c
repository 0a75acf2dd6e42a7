/* Forty clients that do anything at any time, each run from its own seed, also with
 * failing allocations: the sanitizers and the leftovers at the end are the judges. */
#include "http/server_rig.h"

#include "http/conn.h"

enum { CLIENTS = 40, MOST = 12, STEPS = 20000 };

static const char *const requests[] = {
    "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n",
    "GET /later HTTP/1.1\r\nHost: x\r\n\r\n",
    "GET /big HTTP/1.1\r\nHost: x\r\n\r\n",
    "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n",
    "GET /stream HTTP/1.0\r\n\r\n",
    "GET /file HTTP/1.1\r\nHost: x\r\n\r\n",
    "HEAD /file HTTP/1.0\r\n\r\n",
    "GET /hang HTTP/1.1\r\nHost: x\r\n\r\n",
    "GET /none HTTP/1.1\r\nHost: x\r\n\r\n",
    "GET /text HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\n\r\n",
    "GET /hello?later HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "POST /echo HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello",
    "POST /to-file HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n",
    "POST /to-handler HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1000\r\n",
    "POST /pauses HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n",
    "0\r\n\r\n",
    "nonsense\r\n\r\n",
};

static uint64_t seed;
static int sockets[CLIENTS];

static unsigned any(unsigned below)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(seed >> 33) % below;
}

/* ---- what clients do ----------------------------------------------------------------------- */

static void begin(int *fd)
{
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_port = htons(rig.port),
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };

    *fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    assert_true(*fd >= 0);
    assert_true(connect(*fd, (void *)&address, sizeof address) == 0 ||
                errno == EINPROGRESS);
}

static void send_some(int fd, const char *bytes, size_t n)
{
    ssize_t sent = send(fd, bytes, n, MSG_DONTWAIT | MSG_NOSIGNAL);

    assert_true(sent <= (ssize_t)n);
}

static void ask(int fd)
{
    const char *request = requests[any(COUNT_OF(requests))];
    size_t n = strlen(request);

    send_some(fd, request, any(4) == 0 ? any((unsigned)n) : n);
}

static void listen_a_little(int fd)
{
    static char bytes[65536];

    for (unsigned i = any(20); i > 0; i--)
        if (recv(fd, bytes, sizeof bytes, MSG_DONTWAIT) <= 0) break;
}

static void leave(int *fd)
{
    struct linger now = { 1, 0 };

    if (any(2))
        assert_int_equal(setsockopt(*fd, SOL_SOCKET, SO_LINGER, &now, sizeof now), 0);
    close(*fd);
    *fd = -1;
}

/* ---- what the application does ------------------------------------------------------------------ */

static void stir_held(void)
{
    for (struct list_node *n = rig.held.first; n != NULL; n = n->next) {
        struct exchange *x = LIST_ENTRY(n, struct exchange, node);
        bool hangs = is(x->request, "/hang"), pauses = is(x->request, "/pauses");

        if (x->later || any(3) != 0 || (!hangs && !pauses)) continue;
        if (pauses) request_pause(x->request, any(2));
        if (pauses && any(4) != 0) continue;
        list_remove(n);
        if (hangs) give_text(x->request, 200, SLICE("at last"));
        else request_done(x->request);
        return;
    }
}

static void step(int *fd)
{
    if (*fd < 0) begin(fd);
    switch (any(8)) {
    case 0:
    case 1:
    case 2: ask(*fd); break;
    case 3: send_some(*fd, big_body, any(256 * 1024)); break;
    case 4:
    case 5: listen_a_little(*fd); break;
    case 6:
        if (any(3) == 0) leave(fd);
        else if (any(4) == 0) shutdown(*fd, SHUT_WR);
        break;
    default: stir_held(); break;
    }
}

/* ---- runs ----------------------------------------------------------------------------------------- */

static void run(uint64_t from, bool failing)
{
    static const int64_t read_buffers[] = { 16, 100, 4096, 65536 };
    struct server_settings settings = usual_settings();

    seed = from;
    settings.head_timeout = 60;
    settings.idle_timeout = 80;
    settings.write_timeout = 100;
    settings.max_connections = MOST;
    settings.write_buffer = 65536;
    settings.read_buffer = read_buffers[from % COUNT_OF(read_buffers)];
    start(settings);
    rig.file_fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    for (int i = 0; i < CLIENTS; i++) sockets[i] = -1;
    for (int i = 0; i < STEPS; i++) {
        step(&sockets[any(CLIENTS)]);
        if (failing && any(3) == 0) mem_fail_after(any(6));
        for (unsigned turns = any(4); turns > 0; turns--) pump();
        assert_true(server_conns(rig.server) <= MOST);
    }
    mem_fail_after(-1);
    assert_true(stats().requests > 0);
    if (any(2)) {
        server_drain(rig.server, set_true, &rig.drained);
        for (int turns = 0; turns < 300; turns++) pump();
    }
    stop();
    for (int i = 0; i < CLIENTS; i++)
        if (sockets[i] >= 0) close(sockets[i]);
}

static void anything_at_any_time(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < 4; i++) run(i, false);
}

static void and_without_memory(void **state)
{
    (void)state;
    for (uint64_t i = 4; i < 12; i++) run(i, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(anything_at_any_time),
        cmocka_unit_test(and_without_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
