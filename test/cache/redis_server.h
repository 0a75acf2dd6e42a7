/* redis_server.h -- a redis-server of the test's own, on a socket in a folder of its
 * own.  Where none is installed the tests are skipped. */
#ifndef TEST_REDIS_SERVER_H
#define TEST_REDIS_SERVER_H

#include "cache/redis_rig.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- the server --------------------------------------------------------------------- */

static struct {
    char folder[64], path[96], url[128];
    char port[8];
    pid_t pid;
    bool missing;
} server;

static inline int free_port(void)
{
    struct sockaddr_in any = { .sin_family = AF_INET,
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t n = sizeof any;
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_int_equal(bind(fd, (struct sockaddr *)&any, sizeof any), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&any, &n), 0);
    close(fd);
    return ntohs(any.sin_port);
}

static inline bool connects(void)
{
    struct sockaddr_un to = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    bool yes;

    snprintf(to.sun_path, sizeof to.sun_path, "%s", server.path);
    yes = connect(fd, (struct sockaddr *)&to, sizeof to) == 0;
    close(fd);
    return yes;
}

static inline void server_start(const char *password)
{
    const char *const argv[] = { "redis-server",
                                 "--port",
                                 server.port,
                                 "--bind",
                                 "127.0.0.1",
                                 "--unixsocket",
                                 server.path,
                                 "--save",
                                 "",
                                 "--appendonly",
                                 "no",
                                 "--dir",
                                 server.folder,
                                 "--enable-debug-command",
                                 "yes",
                                 "--loglevel",
                                 "warning",
                                 password == NULL ? NULL : "--requirepass",
                                 password,
                                 NULL };
    int64_t until = clock_ms() + clock_scaled(10000);

    server.pid = fork();
    assert_true(server.pid >= 0);
    if (server.pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        (void)!freopen("/dev/null", "w", stdout);
        execvp(argv[0], (char *const *)(uintptr_t)argv);
        _exit(127);
    }
    while (!connects()) {
        if (waitpid(server.pid, NULL, WNOHANG) == server.pid) {
            server.missing = true;
            server.pid = 0;
            return;
        }
        assert_true(clock_ms() < until);
        usleep(5000);
    }
}

static inline void server_stop(void)
{
    if (server.pid == 0) return;
    kill(server.pid, SIGKILL);
    waitpid(server.pid, NULL, 0);
    server.pid = 0;
    unlink(server.path);
}

static inline int setup(void **state)
{
    (void)state;
    log_setup(LOG_OFF, LOG_KEY_VALUE, "test");
    strcpy(server.folder, "/tmp/redis-test-XXXXXX");
    if (mkdtemp(server.folder) == NULL) return -1;
    snprintf(server.path, sizeof server.path, "%s/redis.sock", server.folder);
    snprintf(server.url, sizeof server.url, "unix://%s", server.path);
    snprintf(server.port, sizeof server.port, "%d", free_port());
    server_start(NULL);
    return 0;
}

static inline int teardown(void **state)
{
    (void)state;
    server_stop();
    return rmdir(server.folder);
}

/* Begins a test: the server runs, is empty and has no password. */
static inline void begin(struct rig *rig)
{
    if (server.missing) skip();
    if (server.pid == 0) server_start(NULL);
    rig_start(rig, server.url);
    expect_answer(rig, "FLUSHALL", REDIS_STATUS_TEXT, "OK");
}

#endif
