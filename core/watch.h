/* watch.h -- tells when files below some folders change (inotify). */
#ifndef WATCH_H
#define WATCH_H

#include <stdbool.h>

#include "base/check.h"

/* A descriptor to poll; -1 when the kernel has none left. */
MUST_CHECK int watch_open(void);

/* Watches 'folder' and all folders below; again after every change, for new ones. */
void watch_folder(int fd, const char *folder);

/* Reads what happened; whether anything did that a reload should look at. */
bool watch_read(int fd);

#endif
