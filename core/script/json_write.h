/* json_write.h -- Lua values to JSON text.
 *
 *   nil, json.null   null             integer   all its digits
 *   string           must be UTF-8    float     shortest form; 1.0 is 1
 *   money            25.99            decimal   its own digits
 *   bytes            spliced in when they are JSON, else a string
 *   list             marked json.array, or keys exactly 1..n with n > 0
 *   row              metatable with __columns, a list of distinct names: these in
 *                    their order, absent ones null, then other keys, sorted
 *   other table      object, keys sorted bytewise: the same value is the same bytes
 *
 * Everything is read raw: no metamethod runs.  Of a read-only table (sandbox.h) the
 * fields that it hides are written.
 */
#ifndef SCRIPT_JSON_WRITE_H
#define SCRIPT_JSON_WRITE_H

#include <lua.h>
#include <stdbool.h>

#include "base/buf.h"

enum {
    JSON_WRITE_DEPTH = 100,
    JSON_WRITE_MAX =
        16 * 1024 * 1024, /* bytes of one call: tables may repeat each other */
};

/* Adds the value at 'at' to 'out'.  On false 'out' is as long as before and '*fault'
 * says what and where, in a text that lives until the next call.  Never raises and
 * allocates nothing in Lua but room on its stack. */
MUST_CHECK bool json_write(lua_State *L, int at, struct buf *out, const char **fault);

#endif
