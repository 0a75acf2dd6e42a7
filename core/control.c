#include "control.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

bool control_send(int socket, enum control_type type, uint32_t slot, uint64_t number,
                  const char *text, int fd)
{
    struct control_message message = { .type = type, .slot = slot, .number = number };
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof fd)];
    } extra = { 0 };
    struct iovec part = { .iov_base = &message };
    struct msghdr whole = { .msg_iov = &part, .msg_iovlen = 1 };
    ssize_t sent;

    message.text_size = (uint32_t)strnlen(text, sizeof message.text - 1);
    memcpy(message.text, text, message.text_size);
    part.iov_len = offsetof(struct control_message, text) + message.text_size;
    if (fd >= 0) {
        whole.msg_control = extra.bytes;
        whole.msg_controllen = sizeof extra.bytes;
        struct cmsghdr *c = CMSG_FIRSTHDR(&whole);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof fd);
        memcpy(CMSG_DATA(c), &fd, sizeof fd);
    }
    do sent = sendmsg(socket, &whole, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (sent < 0 && errno == EINTR);
    return sent == (ssize_t)part.iov_len;
}

int control_receive(int socket, struct control_message *message, int *fd)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof *fd)];
    } extra = { 0 };
    struct iovec part = { .iov_base = message, .iov_len = sizeof *message - 1 };
    struct msghdr whole = { .msg_iov = &part,
                            .msg_iovlen = 1,
                            .msg_control = extra.bytes,
                            .msg_controllen = sizeof extra.bytes };
    ssize_t got;

    *fd = -1;
    do got = recvmsg(socket, &whole, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    while (got < 0 && errno == EINTR);
    if (got < 0) return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -1;
    if ((size_t)got < offsetof(struct control_message, text)) return -1;
    struct cmsghdr *c = CMSG_FIRSTHDR(&whole);
    if (c != NULL && c->cmsg_type == SCM_RIGHTS) memcpy(fd, CMSG_DATA(c), sizeof *fd);
    if (message->text_size >= sizeof message->text) return -1;
    message->text[message->text_size] = '\0';
    return 1;
}

/* ---- signs of life ---------------------------------------------------------------- */

static int64_t read_ns(clockid_t clock)
{
    struct timespec t;

    return clock_gettime(clock, &t) == 0 ? (int64_t)t.tv_sec * 1000000000 + t.tv_nsec : 0;
}

void heartbeat_now(struct heartbeat *h) { heartbeat_excuse(h, 0); }

void heartbeat_excuse(struct heartbeat *h, int64_t ms)
{
    h->beat_cpu_ns = read_ns(CLOCK_PROCESS_CPUTIME_ID) + ms * 1000000;
    h->beat_ms = clock_ms() + ms;
}

bool heartbeat_stale(const struct heartbeat *h, pid_t pid, int64_t cpu_ms,
                     int64_t wall_ms)
{
    clockid_t clock;

    if (clock_ms() - h->beat_ms > wall_ms) return true;
    if (clock_getcpuclockid(pid, &clock) != 0) return false;
    return read_ns(clock) - h->beat_cpu_ns > cpu_ms * 1000000;
}
