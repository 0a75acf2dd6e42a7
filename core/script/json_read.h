/* json_read.h -- JSON text to Lua values, checked and built in one pass.
 *
 *   null      json.null                    true, false   booleans
 *   "text"    string                       12            integer when int64 holds it
 *   12.50     decimal, the text kept       {}            table
 *   []        table marked json.array, so that an empty list stays one
 *
 * RFC 8259 to the letter: one value, UTF-8, no NUL (not as \u0000 either), no lone
 * surrogate, no duplicate key, nothing behind the value but white space.  -0 is 0;
 * a number beyond a double's range or longer than 400 characters is refused.
 */
#ifndef SCRIPT_JSON_READ_H
#define SCRIPT_JSON_READ_H

#include <lua.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/check.h"
#include "base/slice.h"

struct json_limits {
    size_t depth;  /* arrays and objects around a value; each costs some C stack */
    size_t values; /* everything but keys, the outermost value too */
    bool floats;   /* numbers that are no int64 become floats instead of decimals */
};

/* For bodies of requests. */
extern const struct json_limits json_body_limits;

/* For what scripts decode by themselves. */
extern const struct json_limits json_script_limits;

struct json_fault {
    char message[120];
    size_t offset; /* of the first byte that is wrong */
    int line;      /* from 1, like the column, which counts code points */
    int column;
};

/* Pushes the value, or pushes nothing and fills in 'fault'.  Without 'limits' (NULL)
 * those of bodies count.  Raises when Lua has no
 * memory or the script's CPU time is used up; holds nothing outside of Lua then. */
MUST_CHECK bool json_read(lua_State *L, struct slice text,
                          const struct json_limits *limits, struct json_fault *fault);

#endif
