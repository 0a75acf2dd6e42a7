#include "script/pattern.h"

#include <ctype.h>
#include <lauxlib.h>
#include <string.h>

#include "script/budget.h"

enum { POLL_EVERY = 256 };         /* steps */
enum { OPEN = -1, POSITION = -2 }; /* a capture's length while it has none */

static const char *match(struct pattern *m, const char *s, const char *p);

/* ---- the budget ---------------------------------------------------------- */

static inline void work(struct pattern *m, size_t n)
{
    if (n >= POLL_EVERY - m->work) {
        m->work = 0;
        budget_check(m->L);
    } else {
        m->work += (unsigned)n;
    }
}

void pattern_work(struct pattern *m, size_t n) { work(m, n); }

/* Bytes that a fast loop of the C library reads count less. */
static inline size_t bytes(const char *from, const char *to)
{
    return 1 + (size_t)(to - from) / 16;
}

/* ---- one byte ------------------------------------------------------------ */

static bool class_holds(int c, int letter)
{
    bool in;

    switch (letter | 0x20) {
    case 'a': in = isalpha(c); break;
    case 'c': in = iscntrl(c); break;
    case 'd': in = isdigit(c); break;
    case 'g': in = isgraph(c); break;
    case 'l': in = islower(c); break;
    case 'p': in = ispunct(c); break;
    case 's': in = isspace(c); break;
    case 'u': in = isupper(c); break;
    case 'w': in = isalnum(c); break;
    case 'x': in = isxdigit(c); break;
    case 'z': in = c == '\0'; break; /* from Lua 5.1, still understood */
    default: return letter == c;
    }
    return in == ((letter & 0x20) != 0); /* a capital letter: all the others */
}

/* 'set' is at its '[', 'close' at its ']'. */
static bool set_holds(int c, const char *set, const char *close)
{
    const unsigned char *p = (const unsigned char *)set + 1;
    const unsigned char *last = (const unsigned char *)close - 1;
    bool in = *p != '^';

    if (!in) p++;
    for (; p <= last; p++) {
        if (*p == '%') {
            p++;
            if (class_holds(c, *p)) return in;
        } else if (p[1] == '-' && p + 2 <= last) {
            if (p[0] <= c && c <= p[2]) return in;
            p += 2;
        } else if (*p == c) {
            return in;
        }
    }
    return !in;
}

/* Whether the byte at 's' is one of the item p..end. */
static inline bool fits(const struct pattern *m, const char *s, const char *p,
                        const char *end)
{
    int c;

    if (s >= m->subject_end) return false;
    c = (unsigned char)*s;
    switch (*p) {
    case '.': return true;
    case '%': return class_holds(c, (unsigned char)p[1]);
    case '[': return set_holds(c, p, end - 1);
    default: return (unsigned char)*p == c;
    }
}

/* The first ']' of a set belongs to it, and so does what '%' escapes. */
static const char *set_end(struct pattern *m, const char *p)
{
    const char *set = p++;

    if (*p == '^') p++;
    do {
        if (p == m->text_end) luaL_error(m->L, "malformed pattern (missing ']')");
        if (*p++ == '%' && p < m->text_end) p++;
    } while (*p != ']');
    work(m, bytes(set, p));
    return p + 1;
}

/* The end of the single-byte item at 'p', where its repetition would be. */
static inline const char *item_end(struct pattern *m, const char *p)
{
    if (*p == '[') return set_end(m, p);
    if (*p != '%') return p + 1;
    if (p + 1 == m->text_end) luaL_error(m->L, "malformed pattern (ends with '%%')");
    return p + 2;
}

/* ---- repetitions --------------------------------------------------------- */

static const char *run_end(struct pattern *m, const char *s, const char *p,
                           const char *end)
{
    size_t step = bytes(p, end);

    if (*p == '.') return m->subject_end;
    while (fits(m, s, p, end)) {
        work(m, step);
        s++;
    }
    return s;
}

/* As many as there are from 's' on, then fewer, down to the place 'least'. */
static const char *expand_most(struct pattern *m, const char *least, const char *s,
                               const char *p, const char *end)
{
    for (s = run_end(m, s, p, end);; s--) {
        const char *e = match(m, s, end + 1);

        if (e != NULL) return e;
        if (s == least) return NULL;
    }
}

static const char *expand_least(struct pattern *m, const char *s, const char *p,
                                const char *end)
{
    size_t step = bytes(p, end);

    for (;; s++) {
        const char *e = match(m, s, end + 1);

        if (e != NULL) return e;
        if (!fits(m, s, p, end)) return NULL;
        work(m, step);
    }
}

/* ---- captures ------------------------------------------------------------ */

static const char *open_capture(struct pattern *m, const char *s, const char *p)
{
    bool position = p[1] == ')';
    const char *e;

    if (m->captures == PATTERN_CAPTURES_MAX) luaL_error(m->L, "too many captures");
    m->capture[m->captures].at = s;
    m->capture[m->captures].length = position ? POSITION : OPEN;
    m->captures++;
    e = match(m, s, position ? p + 2 : p + 1);
    if (e == NULL) m->captures--;
    return e;
}

static const char *close_capture(struct pattern *m, const char *s, const char *p)
{
    int i = m->captures - 1;
    const char *e;

    while (i >= 0 && m->capture[i].length != OPEN) i--;
    if (i < 0) luaL_error(m->L, "invalid pattern capture");
    m->capture[i].length = s - m->capture[i].at;
    e = match(m, s, p + 1);
    if (e == NULL) m->capture[i].length = OPEN;
    return e;
}

/* ---- items of more than one byte, after their '%' ------------------------ */

/* b and its two delimiters */
static const char *balanced(struct pattern *m, const char *s, const char *p)
{
    size_t depth = 1;
    char open, close;

    if (m->text_end - p < 3)
        luaL_error(m->L, "malformed pattern (missing arguments to '%%b')");
    open = p[1];
    close = p[2];
    if (s == m->subject_end || *s != open) return NULL;
    for (s++; s < m->subject_end; s++) {
        work(m, 1);
        if (*s == close) {
            if (--depth == 0) return s + 1;
        } else if (*s == open) {
            depth++;
        }
    }
    return NULL;
}

/* f and a set, up to 'end': outside of the subject there are only NULs. */
static bool at_frontier(const struct pattern *m, const char *s, const char *p,
                        const char *end)
{
    int before = s == m->subject ? '\0' : (unsigned char)s[-1];
    int here = s == m->subject_end ? '\0' : (unsigned char)*s;

    return !set_holds(before, p + 1, end - 1) && set_holds(here, p + 1, end - 1);
}

/* a digit; a position is never matched again */
static const char *back_reference(struct pattern *m, const char *s, int digit)
{
    int i = digit - '1';
    size_t n;

    if (i < 0 || i >= m->captures || m->capture[i].length == OPEN)
        luaL_error(m->L, "invalid capture index %%%d", i + 1);
    if (m->capture[i].length == POSITION) return NULL;
    n = (size_t)m->capture[i].length;
    work(m, 1 + n / 16);
    if ((size_t)(m->subject_end - s) < n) return NULL;
    return memcmp(m->capture[i].at, s, n) == 0 ? s + n : NULL;
}

static inline bool is_long_item(char c)
{
    return c == 'b' || c == 'f' || (c >= '0' && c <= '9');
}

/* Moves '*p' behind the item. */
static const char *match_long_item(struct pattern *m, const char *s, const char **p)
{
    const char *item = *p + 1;

    if (*item == 'b') {
        *p = item + 3;
        return balanced(m, s, item);
    }
    if (*item == 'f') {
        if (item[1] != '[') luaL_error(m->L, "missing '[' after '%%f' in pattern");
        *p = set_end(m, item + 1);
        return at_frontier(m, s, item, *p) ? s : NULL;
    }
    *p = item + 1;
    return back_reference(m, s, *item);
}

/* ---- the match ----------------------------------------------------------- */

/* One item after the other; a choice is tried by a nested match of all the rest. */
static const char *match_items(struct pattern *m, const char *s, const char *p)
{
    while (p != m->text_end) {
        const char *end, *e;

        work(m, 1);
        switch (*p) {
        case '(': return open_capture(m, s, p);
        case ')': return close_capture(m, s, p);
        case '$':
            if (p + 1 == m->text_end) return s == m->subject_end ? s : NULL;
            break;
        case '%':
            if (!is_long_item(p[1])) break;
            s = match_long_item(m, s, &p);
            if (s == NULL) return NULL;
            continue;
        default: break;
        }

        end = item_end(m, p);
        if (!fits(m, s, p, end)) {
            if (*end != '*' && *end != '?' && *end != '-') return NULL;
            p = end + 1;
            continue;
        }
        switch (*end) {
        case '*': return expand_most(m, s, s + 1, p, end);
        case '+': return expand_most(m, s + 1, s + 1, p, end);
        case '-': return expand_least(m, s, p, end);
        case '?':
            e = match(m, s + 1, end + 1);
            if (e != NULL) return e;
            p = end + 1;
            break;
        default:
            s++;
            p = end;
            break;
        }
    }
    return s;
}

static const char *match(struct pattern *m, const char *s, const char *p)
{
    const char *e;

    if (m->depth == 0) luaL_error(m->L, "pattern too complex");
    m->depth--;
    e = match_items(m, s, p);
    m->depth++;
    return e;
}

/* ---- from outside -------------------------------------------------------- */

/* The literal byte at the front, if there is one that may not be absent. */
static int lead_of(const char *p, const char *end)
{
    int c;

    if (p == end || strchr(".([$)", *p) != NULL) return -1;
    if (*p == '%') {
        p++;
        if (p == end || isalnum((unsigned char)*p)) return -1;
    }
    c = (unsigned char)*p++;
    if (p != end && (*p == '*' || *p == '?' || *p == '-')) return -1;
    return c;
}

void pattern_begin(struct pattern *m, lua_State *L, struct slice subject,
                   struct slice text)
{
    m->L = L;
    m->subject = subject.p;
    m->subject_end = subject.p + subject.n;
    m->text = text.p;
    m->text_end = text.p + text.n;
    m->lead = lead_of(m->text, m->text_end);
    m->depth = PATTERN_DEPTH_MAX;
    m->work = 0;
    m->captures = 0;
}

const char *pattern_match(struct pattern *m, const char *at)
{
    m->captures = 0;
    return match(m, at, m->text);
}

const char *pattern_search(struct pattern *m, const char **at, const char *not_end)
{
    for (const char *s = *at; s <= m->subject_end; s++) {
        const char *e;

        work(m, 1);
        if (m->lead >= 0) {
            s = memchr(s, m->lead, (size_t)(m->subject_end - s));
            if (s == NULL) return NULL;
        }
        e = pattern_match(m, s);
        if (e != NULL && e != not_end) {
            *at = s;
            return e;
        }
    }
    return NULL;
}

struct slice pattern_capture(struct pattern *m, int number, struct slice whole,
                             lua_Integer *position)
{
    *position = 0;
    if (number >= m->captures) {
        if (number != 0) luaL_error(m->L, "invalid capture index %%%d", number + 1);
        return whole;
    }
    if (m->capture[number].length == OPEN) luaL_error(m->L, "unfinished capture");
    if (m->capture[number].length == POSITION) {
        *position = m->capture[number].at - m->subject + 1;
        return (struct slice){ m->capture[number].at, 0 };
    }
    return (struct slice){ m->capture[number].at, (size_t)m->capture[number].length };
}

void pattern_push(struct pattern *m, int number, struct slice whole)
{
    lua_Integer position;
    struct slice text = pattern_capture(m, number, whole, &position);

    if (position != 0) lua_pushinteger(m->L, position);
    else lua_pushlstring(m->L, text.p, text.n);
}

int pattern_push_all(struct pattern *m, struct slice whole)
{
    int n = m->captures > 0 ? m->captures : 1;

    luaL_checkstack(m->L, n, "too many captures");
    for (int i = 0; i < n; i++) pattern_push(m, i, whole);
    return n;
}
