/* The session of commands: in UTC, and without what PgBouncer refuses. */
#include "db/pg_session.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static void is_in_utc(void **state)
{
    PGconn *session = pg_session_open(getenv("TEST_DATABASE_URL"));
    PGresult *result;

    (void)state;
    assert_int_equal(PQstatus(session), CONNECTION_OK);
    result = pg_session_run(session, "SHOW TimeZone");
    assert_int_equal(PQresultStatus(result), PGRES_TUPLES_OK);
    assert_string_equal(PQgetvalue(result, 0, 0), "UTC");
    PQclear(result);
    PQfinish(session);
}

/* A socket that listens, and its port. */
static int listen_somewhere(int *port)
{
    struct sockaddr_in address = { .sin_family = AF_INET };
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_true(fd >= 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, size), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &size), 0);
    *port = ntohs(address.sin_port);
    return fd;
}

static pid_t connect_in_a_child(int port)
{
    char url[100];
    pid_t pid = fork();

    if (pid != 0) return pid;
    snprintf(url, sizeof url,
             "postgres://somebody@127.0.0.1:%d/x?sslmode=disable&"
             "gssencmode=disable",
             port);
    PQfinish(pg_session_open(url));
    _exit(0);
}

static size_t read_start_packet(int fd, char *packet, size_t room)
{
    size_t n = 0, size = 4;

    while (n < size) {
        ssize_t more = read(fd, packet + n, room - n);

        assert_true(more > 0);
        n += (size_t)more;
        if (n >= 4)
            size = (size_t)(unsigned char)packet[2] << 8 | (unsigned char)packet[3];
        assert_true(size <= room);
    }
    return n;
}

static void sends_no_options(void **state)
{
    char packet[1000];
    int port, fd, status, listener = listen_somewhere(&port);
    pid_t child = connect_in_a_child(port);
    size_t n;

    (void)state;
    assert_true(child > 0);
    fd = accept(listener, NULL, NULL);
    assert_true(fd >= 0);
    n = read_start_packet(fd, packet, sizeof packet);
    close(fd);
    close(listener);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_non_null(memmem(packet, n, "somebody", 9));
    assert_null(memmem(packet, n, "options", 8));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(is_in_utc),
        cmocka_unit_test(sends_no_options),
    };

    unsetenv("PGOPTIONS");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
