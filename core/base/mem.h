/* mem.h -- the only way to the heap.
 *
 * Like malloc, realloc and free, but countable and able to fail on purpose:
 * the out-of-memory tests make the n-th allocation of the process fail and
 * look for crashes and leaks.  A NULL is an ordinary outcome that every caller
 * handles.  For the threads of one process the counters are atomic.
 */
#ifndef BASE_MEM_H
#define BASE_MEM_H

#include <stddef.h>

#include "base/check.h"

MUST_CHECK void *mem_get(size_t size); /* not cleared */
MUST_CHECK void *mem_get_clear(size_t size);
MUST_CHECK void *mem_resize(void *block, size_t size); /* block may be NULL */
void mem_free(void *block);                            /* block may be NULL */

/* A copy of n bytes with a NUL behind them. */
MUST_CHECK char *mem_copy_text(const char *text, size_t n);

/* Blocks that are not yet freed; a test compares it before and after. */
long mem_live(void);

/* From now on, lets 'successes' allocations pass and fails the next one (only
 * that).  A negative number switches it off. */
void mem_fail_after(long successes);

/* For allocators of their own (Lua's): whether this allocation is the one to fail. */
int mem_fails_now(void);

/* Whether the planned failure has happened. */
int mem_failed(void);

#endif
