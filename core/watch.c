#include "watch.h"

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

enum { DEPTH_MAX = 12 };

int watch_open(void) { return inotify_init1(IN_NONBLOCK | IN_CLOEXEC); }

/* What a link leads to may be changed where nobody looks. */
static void watch_target(int fd, const char *link)
{
    const uint32_t what = IN_CLOSE_WRITE | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF;

    if (inotify_add_watch(fd, link, what) < 0) return; /* it leads nowhere */
}

static void watch_below(int fd, const char *folder, int depth)
{
    const uint32_t what = IN_CLOSE_WRITE | IN_CREATE | IN_DELETE | IN_MOVED_FROM |
                          IN_MOVED_TO | IN_ATTRIB | IN_DELETE_SELF | IN_ONLYDIR;
    DIR *dir;
    struct dirent *entry;

    if (inotify_add_watch(fd, folder, what) < 0 || depth > DEPTH_MAX) return;
    dir = opendir(folder);
    if (dir == NULL) return;
    while ((entry = readdir(dir)) != NULL) {
        char path[PATH_MAX];

        if (entry->d_name[0] == '.' || entry->d_type == DT_REG) continue;
        if (snprintf(path, sizeof path, "%s/%s", folder, entry->d_name) >=
            (int)sizeof path)
            continue;
        if (entry->d_type != DT_DIR) watch_target(fd, path);
        watch_below(fd, path, depth + 1); /* unless it is a folder, nothing */
    }
    closedir(dir);
}

void watch_folder(int fd, const char *folder) { watch_below(fd, folder, 0); }

bool watch_read(int fd)
{
    _Alignas(struct inotify_event) char events[8192];
    bool any = false;

    while (read(fd, events, sizeof events) > 0) any = true;
    return any;
}
