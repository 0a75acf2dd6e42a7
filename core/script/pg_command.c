#include "script/pg_command.h"

#include <ctype.h>
#include <lauxlib.h>
#include <string.h>
#include <strings.h>

#include "base/check.h"

/* Behind blanks and comments. */
static struct slice skip_blank(struct slice s)
{
    while (s.n > 0) {
        size_t n = 0;

        if (isspace((unsigned char)*s.p)) n = 1;
        else if (s.n > 1 && s.p[0] == '-' && s.p[1] == '-') {
            const char *line = memchr(s.p, '\n', s.n);

            n = line == NULL ? s.n : (size_t)(line - s.p) + 1;
        } else if (s.n > 1 && s.p[0] == '/' && s.p[1] == '*') {
            size_t depth = 1; /* they nest */

            for (n = 2; n < s.n && depth > 0; n++) {
                if (s.p[n - 1] == '*' && s.p[n] == '/') depth--, n++;
                else if (s.p[n - 1] == '/' && s.p[n] == '*') depth++, n++;
            }
        } else break;
        if (n > s.n) n = s.n;
        s.p += n;
        s.n -= n;
    }
    return s;
}

/* Takes the word at the front, which may be empty. */
static struct slice next_word(struct slice *sql)
{
    struct slice word = skip_blank(*sql);
    size_t n = 0;

    while (n < word.n && (isalnum((unsigned char)word.p[n]) || word.p[n] == '_')) n++;
    *sql = (struct slice){ word.p + n, word.n - n };
    word.n = n;
    return word;
}

/* What stands on both sides of an underline in functions that leave something on the
 * shared connection. */
static void check_functions(lua_State *L, struct slice sql)
{
    static const struct {
        const char *before, *after, *instead;
    } refused[] = {
        { "set", "config", "use db.as, or SET LOCAL inside db.transaction" },
        { "advisory", "lock", "use pg_advisory_xact_lock inside db.transaction" },
        { "advisory", "unlock", "pg_advisory_xact_lock ends with its transaction" },
    };
    const char *end = sql.p + sql.n, *at = sql.p;

    for (; (at = memchr(at, '_', (size_t)(end - at))) != NULL; at++)
        for (size_t i = 0; i < COUNT_OF(refused); i++) {
            size_t n = strlen(refused[i].before), m = strlen(refused[i].after);

            if ((size_t)(at - sql.p) >= n && (size_t)(end - at) > m &&
                strncasecmp(at - n, refused[i].before, n) == 0 &&
                strncasecmp(at + 1, refused[i].after, m) == 0)
                luaL_error(L, "%s_%s is not for scripts: %s", refused[i].before,
                           refused[i].after, refused[i].instead);
        }
}

void pg_command_check(lua_State *L, struct slice sql, bool inside)
{
    static const struct {
        const char *word, *instead;
        bool in_transaction; /* allowed there */
    } refused[] = {
        { "BEGIN", "use db.transaction(function)", false },
        { "START", "use db.transaction(function)", false },
        { "COMMIT", "db.transaction commits when its function returns", false },
        { "END", "db.transaction commits when its function returns", false },
        { "ROLLBACK", "db.transaction rolls back when its function raises", false },
        { "ABORT", "db.transaction rolls back when its function raises", false },
        { "SAVEPOINT", "it belongs into a db.transaction", true },
        { "RELEASE", "it belongs into a db.transaction", true },
        { "SET", "use db.as, or SET LOCAL inside db.transaction", false },
        { "RESET", "the connection is shared by all requests", false },
        { "DISCARD", "the connection is shared by all requests", false },
        { "LISTEN", "use db.listen(channel)", false },
        { "UNLISTEN", "use db.listen(channel) and its close()", false },
        { "PREPARE", "every statement is prepared by itself", false },
        { "EXECUTE", "every statement is prepared by itself", false },
        { "DEALLOCATE", "every statement is prepared by itself", false },
        { "COPY", "use INSERT, or psql", false },
        { "DECLARE", "use LIMIT, or a cursor inside db.transaction", true },
        { "FETCH", "use LIMIT, or a cursor inside db.transaction", true },
        { "LOCK", "it belongs into a db.transaction", true },
    };
    static const char *const local[] = { "LOCAL", "TRANSACTION", "CONSTRAINTS" };
    struct slice rest = sql, word = next_word(&rest), next = next_word(&rest);

    check_functions(L, sql);
    for (size_t i = 0; i < COUNT_OF(local) && inside; i++)
        if (slice_equal_fold(word, SLICE("SET")) &&
            slice_equal_fold(next, slice_of(local[i])))
            return;
    if (slice_equal_fold(word, SLICE("ROLLBACK")) && inside &&
        slice_equal_fold(next, SLICE("TO")))
        return;
    for (size_t i = 0; i < COUNT_OF(refused); i++)
        if (slice_equal_fold(word, slice_of(refused[i].word)) &&
            !(inside && refused[i].in_transaction))
            luaL_error(L, "%s is not for scripts: %s", refused[i].word,
                       refused[i].instead);
}
