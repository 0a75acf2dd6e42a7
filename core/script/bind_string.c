#include "script/bind_string.h"

#include <lauxlib.h>
#include <stdbool.h>
#include <string.h>

#include "base/slice.h"
#include "script/bind_table.h"
#include "script/budget.h"
#include "script/pattern.h"

enum { REP_MAX = 64 * 1024 * 1024, WINDOW = 256 * 1024 };

/* ---- arguments ----------------------------------------------------------- */

static struct slice check_text(lua_State *L, int at)
{
    struct slice text;

    text.p = luaL_checklstring(L, at, &text.n);
    return text;
}

/* The offset that an 'init' means: from 1, or from the end when negative.  May lie
 * beyond the end. */
static size_t offset_of(lua_Integer init, size_t length)
{
    if (init > 0) return (size_t)init - 1;
    if (init == 0 || init < -(lua_Integer)length) return 0;
    return length - (size_t)-init;
}

static bool take_anchor(struct slice *text)
{
    if (text->n == 0 || text->p[0] != '^') return false;
    text->p++;
    text->n--;
    return true;
}

static struct slice between(const char *from, const char *to)
{
    return (struct slice){ from, (size_t)(to - from) };
}

/* ---- find and match ------------------------------------------------------ */

static bool is_plain(struct slice text)
{
    static const bool special[256] = {
        ['^'] = true, ['$'] = true, ['*'] = true, ['+'] = true, ['?'] = true,
        ['.'] = true, ['('] = true, ['['] = true, ['%'] = true, ['-'] = true,
    };

    for (size_t i = 0; i < text.n; i++)
        if (special[(unsigned char)text.p[i]]) return false;
    return true;
}

/* memchr() is the fastest as long as it stops rarely; memmem() is never slow. */
static const char *find_text(struct slice subject, struct slice text)
{
    const char *p = subject.p, *last = subject.p + subject.n - text.n;
    size_t cost = 0;

    for (; cost <= 256 + (size_t)(p - subject.p); cost += 16 + text.n / 4) {
        p = memchr(p, text.p[0], (size_t)(last - p) + 1);
        if (p == NULL || memcmp(p, text.p, text.n) == 0) return p;
        if (p == last) return NULL;
        p++;
    }
    return memmem(p, (size_t)(last - p) + text.n, text.p, text.n);
}

/* In windows that overlap by the length of 'text', to poll in between. */
static const char *find_plain(lua_State *L, struct slice subject, struct slice text)
{
    size_t step = text.n > WINDOW ? text.n : WINDOW;

    if (text.n == 0) return subject.p;
    while (subject.n >= text.n) {
        size_t n = subject.n - text.n < step ? subject.n : step + text.n - 1;
        const char *found = find_text((struct slice){ subject.p, n }, text);

        if (found != NULL || n == subject.n) return found;
        subject.p += step;
        subject.n -= step;
        budget_check(L);
    }
    return NULL;
}

static int push_place(lua_State *L, struct slice subject, const char *from,
                      const char *to)
{
    lua_pushinteger(L, from - subject.p + 1);
    lua_pushinteger(L, to - subject.p);
    return 2;
}

static int find_pattern(lua_State *L, struct slice subject, struct slice text,
                        size_t init, bool find)
{
    struct pattern m;
    const char *from = subject.p + init, *to;
    bool anchored = take_anchor(&text);

    pattern_begin(&m, L, subject, text);
    to = anchored ? pattern_match(&m, from) : pattern_search(&m, &from, NULL);
    if (to == NULL) {
        luaL_pushfail(L);
        return 1;
    }
    if (!find) return pattern_push_all(&m, between(from, to));
    push_place(L, subject, from, to);
    return 2 + (m.captures > 0 ? pattern_push_all(&m, between(from, to)) : 0);
}

static int find_or_match(lua_State *L, bool find)
{
    struct slice subject = check_text(L, 1), text = check_text(L, 2), rest;
    size_t init = offset_of(luaL_optinteger(L, 3, 1), subject.n);
    const char *found;

    if (init > subject.n) {
        luaL_pushfail(L);
        return 1;
    }
    if (!find || !(lua_toboolean(L, 4) || is_plain(text)))
        return find_pattern(L, subject, text, init, find);
    rest = (struct slice){ subject.p + init, subject.n - init };
    found = find_plain(L, rest, text);
    if (found != NULL) return push_place(L, subject, found, found + text.n);
    luaL_pushfail(L);
    return 1;
}

static int string_find(lua_State *L) { return find_or_match(L, true); }

static int string_match(lua_State *L) { return find_or_match(L, false); }

/* ---- gmatch -------------------------------------------------------------- */

struct walk {
    const char *at;
    const char *last_end; /* of the match before; an empty one there does not count */
};

/* Upvalues: the subject, the pattern, the walk. */
static int next_match(lua_State *L)
{
    struct walk *walk = lua_touserdata(L, lua_upvalueindex(3));
    struct slice subject = check_text(L, lua_upvalueindex(1));
    struct pattern m;
    const char *from = walk->at, *to;

    pattern_begin(&m, L, subject, check_text(L, lua_upvalueindex(2)));
    to = pattern_search(&m, &from, walk->last_end);
    if (to == NULL) return 0;
    walk->at = walk->last_end = to;
    return pattern_push_all(&m, between(from, to));
}

static int string_gmatch(lua_State *L)
{
    struct slice subject = check_text(L, 1);
    size_t init;
    struct walk *walk;

    check_text(L, 2);
    init = offset_of(luaL_optinteger(L, 3, 1), subject.n);
    if (init > subject.n) init = subject.n + 1;
    lua_settop(L, 2);
    walk = lua_newuserdatauv(L, sizeof *walk, 0);
    *walk = (struct walk){ subject.p + init, NULL };
    lua_pushcclosure(L, next_match, 3);
    return 1;
}

/* ---- gsub ---------------------------------------------------------------- */

/* The replacement as text: %0 to %9 are captures, %% is a percent sign. */
static void add_template(struct pattern *m, luaL_Buffer *b, struct slice text,
                         struct slice whole)
{
    const char *end = text.p + text.n, *p = text.p, *escape;

    while ((escape = memchr(p, '%', (size_t)(end - p))) != NULL) {
        struct slice piece = whole;
        lua_Integer position = 0;
        char c = escape[1];

        luaL_addlstring(b, p, (size_t)(escape - p));
        pattern_work(m, 1);
        if (c == '%') piece = (struct slice){ escape, 1 };
        else if (c >= '1' && c <= '9')
            piece = pattern_capture(m, c - '1', whole, &position);
        else if (c != '0')
            luaL_error(m->L, "invalid use of '%c' in replacement string", '%');
        if (position != 0) {
            lua_pushinteger(m->L, position);
            luaL_addvalue(b);
        } else {
            luaL_addlstring(b, piece.p, piece.n);
        }
        p = escape + 2;
    }
    luaL_addlstring(b, p, (size_t)(end - p));
}

/* Asks the function or the table at 3; adds nothing and returns false if it says
 * false or nil: the match stays as it is. */
static bool add_answer(struct pattern *m, luaL_Buffer *b, int type, struct slice whole)
{
    lua_State *L = m->L;

    if (type == LUA_TFUNCTION) {
        lua_pushvalue(L, 3);
        lua_call(L, pattern_push_all(m, whole), 1);
    } else {
        pattern_push(m, 0, whole);
        lua_gettable(L, 3);
    }
    if (!lua_toboolean(L, -1)) {
        lua_pop(L, 1);
        return false;
    }
    if (!lua_isstring(L, -1))
        luaL_error(L, "invalid replacement value (a %s)", luaL_typename(L, -1));
    luaL_addvalue(b);
    return true;
}

struct replacing {
    struct slice subject, template;
    int type; /* of the replacement */
    bool anchored;
    lua_Integer max;
    const char *kept; /* from here on, the subject is not yet in the buffer */
    bool changed;
};

static lua_Integer replace_all(struct pattern *m, luaL_Buffer *b, struct replacing *r)
{
    const char *from = r->subject.p, *last_end = NULL;
    lua_Integer n = 0;

    while (n < r->max) {
        const char *to =
            r->anchored ? pattern_match(m, from) : pattern_search(m, &from, last_end);
        struct slice whole;

        if (to == NULL) break;
        whole = between(from, to);
        n++;
        luaL_addlstring(b, r->kept, (size_t)(from - r->kept));
        r->kept = from;
        if (r->type != LUA_TFUNCTION && r->type != LUA_TTABLE) {
            add_template(m, b, r->template, whole);
            r->kept = to;
            r->changed = true;
        } else if (add_answer(m, b, r->type, whole)) {
            r->kept = to;
            r->changed = true;
        }
        from = last_end = to;
        if (r->anchored) break;
    }
    return n;
}

static int string_gsub(lua_State *L)
{
    struct replacing r = { .subject = check_text(L, 1), .type = lua_type(L, 3) };
    struct slice text = check_text(L, 2);
    struct pattern m;
    luaL_Buffer b;
    lua_Integer n;

    r.max = luaL_optinteger(L, 4, (lua_Integer)r.subject.n + 1);
    luaL_argexpected(L,
                     r.type == LUA_TNUMBER || r.type == LUA_TSTRING ||
                         r.type == LUA_TFUNCTION || r.type == LUA_TTABLE,
                     3, "string/function/table");
    if (lua_isstring(L, 3)) r.template = check_text(L, 3);
    r.anchored = take_anchor(&text);
    r.kept = r.subject.p;
    pattern_begin(&m, L, r.subject, text);
    luaL_buffinit(L, &b);
    n = replace_all(&m, &b, &r);
    if (r.changed) {
        luaL_addlstring(&b, r.kept, (size_t)(r.subject.p + r.subject.n - r.kept));
        luaL_pushresult(&b);
    } else {
        lua_pushvalue(L, 1);
    }
    lua_pushinteger(L, n);
    return 2;
}

/* ---- rep ----------------------------------------------------------------- */

/* Doubles what is there: 'total' bytes of a text that repeats after 'period'. */
static void repeat(char *text, size_t period, size_t total)
{
    for (size_t done = period; done < total;) {
        size_t n = total - done < done ? total - done : done;

        memcpy(text + done, text, n);
        done += n;
    }
}

static int string_rep(lua_State *L)
{
    struct slice text = check_text(L, 1), separator = SLICE("");
    lua_Integer times = luaL_checkinteger(L, 2);
    size_t period, total;
    luaL_Buffer b;
    char *out;

    separator.p = luaL_optlstring(L, 3, "", &separator.n);
    period = text.n + separator.n;
    if (times <= 0 || period == 0) {
        lua_pushliteral(L, "");
        return 1;
    }
    if ((lua_Unsigned)times > (REP_MAX + separator.n) / period)
        return luaL_error(L, "resulting string too large");
    total = period * (size_t)times - separator.n;
    out = luaL_buffinitsize(L, &b, total);
    memcpy(out, text.p, text.n);
    if (times > 1) memcpy(out + text.n, separator.p, separator.n);
    repeat(out, period, total);
    luaL_pushresultsize(&b, total);
    return 1;
}

/* ---- all together -------------------------------------------------------- */

void string_install(lua_State *L)
{
    static const luaL_Reg ours[] = {
        { "find", string_find },   { "gmatch", string_gmatch }, { "gsub", string_gsub },
        { "match", string_match }, { "rep", string_rep },       { NULL, NULL },
    };

    lua_getglobal(L, "string");
    luaL_setfuncs(L, ours, 0);
    lua_pushnil(L);
    lua_setfield(L, -2, "dump");
    lua_pop(L, 1);
    table_install(L);
}
