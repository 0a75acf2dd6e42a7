/* keep.h -- bytes into a new file: whole and on the disk, or not at all. */
#ifndef BASE_KEEP_H
#define BASE_KEEP_H

#include "base/check.h"
#include "base/slice.h"

/* 0, or an errno: EEXIST when there is such a file, ENOSPC, EDQUOT or EFBIG when there is
 * no room.  Blocks; from any thread. */
MUST_CHECK int keep_file(const char *path, struct slice bytes);

#endif
