/* bind_bytes.h -- userdata "omade.bytes": bytes outside of Lua's heap.
 *
 * Rows as JSON, a Redis reply, a file: what a handler only passes on never becomes
 * a Lua string.
 */
#ifndef SCRIPT_BIND_BYTES_H
#define SCRIPT_BIND_BYTES_H

#include <lua.h>
#include <stdbool.h>

#include "base/check.h"
#include "base/slice.h"

struct bytes {
    struct slice s;
    void (*release)(void *owner); /* called once, when the value ends; may be NULL */
    void *owner;
    bool json; /* one whole JSON text: json_write splices it in unread */
};

/* Pushes bytes and gives them their owner.  When this raises, the caller still has
 * to release it; who cannot catch that takes bytes_push_empty. */
void bytes_push(lua_State *L, struct slice s, bool json, void (*release)(void *owner),
                void *owner);

/* Pushes empty bytes to be filled in later, when nothing may raise any more. */
struct bytes *bytes_push_empty(lua_State *L);

/* Releases early; empty from then on. */
void bytes_clear(struct bytes *bytes);

/* The bytes at 'at', or NULL.  Never raises. */
MUST_CHECK struct bytes *bytes_test(lua_State *L, int at);

#endif
