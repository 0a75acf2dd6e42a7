/* check.h -- small words that every layer uses. */
#ifndef BASE_CHECK_H
#define BASE_CHECK_H

#include <stddef.h>

/* The result of such a function must be looked at. */
#define MUST_CHECK __attribute__((warn_unused_result))

#define PRINTF_LIKE(text, first) __attribute__((format(printf, text, first)))

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

/* The struct of which 'pointer' is the member 'name'. */
#define CONTAINER_OF(pointer, type, name)                                                \
    ((type *)(void *)((char *)(pointer)-offsetof(type, name)))

#endif
