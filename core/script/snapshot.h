/* snapshot.h -- all script files of one moment, numbered and immutable.
 *
 * The supervisor reads the disk into a memory file; every process that loads scripts
 * maps that file and never looks at the disk, so all of them see the same text.
 */
#ifndef SCRIPT_SNAPSHOT_H
#define SCRIPT_SNAPSHOT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/check.h"
#include "base/slice.h"

struct snapshot;

/* Reads the app folder and home/lua into a sealed memory file.  Returns its descriptor,
 * the caller's; -1 with a message in 'fault' (no such folder, no app.lua, too large). */
MUST_CHECK int snapshot_write(const char *app, const char *home, uint64_t number,
                              struct buf *fault);

/* Maps the file; NULL: not a snapshot, or no memory.  'fd' stays the caller's. */
MUST_CHECK struct snapshot *snapshot_map(int fd);
struct snapshot *snapshot_hold(struct snapshot *s);
void snapshot_release(struct snapshot *s); /* may be NULL */
uint64_t snapshot_number(const struct snapshot *s);

/* A module by its name ("routes.products"): first in the app folder, then below the
 * app's parent folder, then in home/lua.  'path' is for messages. */
bool snapshot_module(const struct snapshot *s, struct slice name, struct slice *path,
                     struct slice *text);

/* A file of the app folder by its path there ("mail/order.html"). */
bool snapshot_file(const struct snapshot *s, struct slice path, struct slice *text);

/* A number that changes with the names, sizes and times of the files; 0 when the
 * folder cannot be read.  Cheaper than a snapshot.  '*newest_us' is the time of the
 * latest change, as clock_wall_us() tells it; an empty file, which is likely only opened
 * so far, counts as changed half a second later. */
uint64_t snapshot_fingerprint(const char *app, const char *home, int64_t *newest_us);

#endif
