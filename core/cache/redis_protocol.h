/* redis_protocol.h -- replies out of bytes, and bytes out of commands.
 *
 * The parser is hiredis's; the replies are ours, so that an asker can keep them.
 * A list grows with the items that arrive: a header that promises millions of them
 * costs nothing.
 */
#ifndef CACHE_REDIS_PROTOCOL_H
#define CACHE_REDIS_PROTOCOL_H

#include <hiredis/read.h>
#include <stdbool.h>

#include "base/buf.h"
#include "cache/redis.h"

/* NULL when there is no memory; redisReaderFree() ends it. */
MUST_CHECK redisReader *redis_reader_new(void);

/* False when there is no memory. */
MUST_CHECK bool redis_reader_feed(redisReader *reader, const char *bytes, size_t n);

/* The next whole reply, which is the caller's; NULL when there is none, or when
 * reader->err tells why there never will be. */
MUST_CHECK struct redis_reply *redis_reader_next(redisReader *reader);

/* A reply of our own making. */
MUST_CHECK struct redis_reply *redis_reply_error(struct slice text);

void redis_command_add(struct buf *b, int argc, const struct slice argv[]);

/* Why these commands of one asker may not be sent on a connection that is shared;
 * NULL when they may. */
MUST_CHECK const char *redis_commands_refused(int count, const int argc[],
                                              const struct slice argv[]);

#endif
