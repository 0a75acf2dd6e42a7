#include "base/keep.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/types.h>
#include <unistd.h>

static int write_all(int fd, struct slice bytes)
{
    while (bytes.n > 0) {
        ssize_t n = write(fd, bytes.p, bytes.n);

        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return n == 0 ? EIO : errno;
        bytes.p += n;
        bytes.n -= (size_t)n;
    }
    return fdatasync(fd) == 0 ? 0 : errno;
}

/* It gets its name when all is there. */
int keep_file(const char *path, struct slice bytes)
{
    char part[PATH_MAX];
    int n = snprintf(part, sizeof part, "%s.part", path), fd, error;

    if (n < 0 || n >= (int)sizeof part) return ENAMETOOLONG;
    fd = open(part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd < 0) return errno;
    error = write_all(fd, bytes);
    if (close(fd) != 0 && error == 0) error = errno;
    if (error == 0 && link(part, path) != 0) error = errno;
    if (unlink(part) != 0 && error == 0) error = errno;
    return error;
}
