#include "script/form_fields.h"

#include <lauxlib.h>
#include <string.h>

#include "base/utf8.h"
#include "script/fail.h"

static const char TWICE[] = "must be given once";

/* Whether the table at 'seen' has the name; then it has. */
static bool is_again(lua_State *L, int seen, struct slice name)
{
    bool again;

    lua_pushlstring(L, name.p, name.n);
    lua_pushvalue(L, -1);
    again = lua_rawget(L, seen) != LUA_TNIL;
    lua_pop(L, 1);
    lua_pushboolean(L, 1);
    lua_rawset(L, seen);
    return again;
}

static bool is_text(struct slice s)
{
    return utf8_valid(s.p, s.n) && memchr(s.p, 0, s.n) == NULL;
}

static const char *fault_of(lua_State *L, int seen, const struct form_part *part)
{
    if (is_again(L, seen, part->name)) return TWICE;
    if (part->filename.p != NULL || is_text(part->body)) return NULL;
    return "must be UTF-8 text without NUL";
}

void form_fields_check(lua_State *L, const struct form_part parts[], int count)
{
    int seen = lua_gettop(L) + 1;

    lua_newtable(L);
    for (int i = 0; i < count; i++) {
        const char *fault = fault_of(L, seen, &parts[i]);

        if (fault == NULL) continue;
        if (lua_gettop(L) == seen) fail_push_fields(L);
        fail_add_field(L, parts[i].name, fault);
    }
    if (lua_gettop(L) > seen) lua_error(L);
    lua_pop(L, 1);
}

int form_field_twice(lua_State *L, struct slice name)
{
    fail_push_fields(L);
    fail_add_field(L, name, TWICE);
    return lua_error(L);
}
