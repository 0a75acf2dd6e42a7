#include "cache/redis_url.h"

#include <stdio.h>

#include "base/slice.h"
#include "cache/redis.h"

enum { DEFAULT_PORT = 6379, PORT_MAX = 65535, DB_MAX = 1000000 };

static bool refuse(char message[static 160], const char *why)
{
    snprintf(message, 160, "%s", why);
    return false;
}

/* ---- parts ----------------------------------------------------------------- */

static struct slice before(struct slice text, const char *at)
{
    return (struct slice){ text.p, (size_t)(at - text.p) };
}

static struct slice after(struct slice text, const char *at)
{
    return (struct slice){ at + 1, text.n - (size_t)(at - text.p) - 1 };
}

/* The position of 'byte'; NULL when it is not there. */
static const char *position(struct slice text, char byte)
{
    return text.n == 0 ? NULL : memchr(text.p, byte, text.n);
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

/* Decodes percent signs into 'out'.  False when it does not fit, is malformed or
 * holds a NUL. */
static bool decode(struct slice text, char *out, size_t room)
{
    size_t n = 0;

    for (size_t i = 0; i < text.n; i++) {
        int byte = (unsigned char)text.p[i];

        if (byte == '%') {
            int high = i + 2 < text.n ? hex_digit(text.p[i + 1]) : -1;
            int low = i + 2 < text.n ? hex_digit(text.p[i + 2]) : -1;

            if (high < 0 || low < 0) return false;
            byte = high * 16 + low;
            i += 2;
        }
        if (byte == 0 || n + 1 >= room) return false;
        out[n++] = (char)byte;
    }
    out[n] = '\0';
    return true;
}

static bool number(struct slice text, int most, int *value)
{
    int sum = 0;

    if (text.n == 0 || text.n > 7) return false;
    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] < '0' || text.p[i] > '9') return false;
        sum = sum * 10 + (text.p[i] - '0');
    }
    if (sum > most) return false;
    *value = sum;
    return true;
}

/* ---- the pieces of a URL ------------------------------------------------------ */

/* Takes "user:password@" off the front of 'rest', which ends where the host or the
 * path begins or further right. */
static bool take_login(struct slice *rest, struct redis_address *a,
                       char message[static 160])
{
    const char *slash = position(*rest, '/'), *at, *colon;
    struct slice front = slash == NULL ? *rest : before(*rest, slash), login;

    at = front.n == 0 ? NULL : memrchr(front.p, '@', front.n);
    if (at == NULL) return true;
    login = before(front, at);
    *rest = after(*rest, at);
    colon = position(login, ':');
    if (colon == NULL) return refuse(message, "a password is written :password@");
    if (!decode(before(login, colon), a->user, sizeof a->user))
        return refuse(message, "the user name makes no sense");
    if (!decode(after(login, colon), a->password, sizeof a->password))
        return refuse(message, "the password makes no sense");
    if (a->password[0] == '\0') return refuse(message, "the password is empty");
    return true;
}

/* Takes "?db=N" off the end of 'rest'. */
static bool take_query(struct slice *rest, struct redis_address *a,
                       char message[static 160])
{
    const char *mark = position(*rest, '?');
    struct slice query;

    if (mark == NULL) return true;
    query = after(*rest, mark);
    *rest = before(*rest, mark);
    if (query.n < 3 || memcmp(query.p, "db=", 3) != 0)
        return refuse(message, "after '?' only db=N is known");
    if (!number((struct slice){ query.p + 3, query.n - 3 }, DB_MAX, &a->db))
        return refuse(message, "db is not a number");
    return true;
}

static bool read_socket(struct slice rest, struct redis_address *a,
                        char message[static 160])
{
    if (rest.n == 0 || rest.p[0] != '/')
        return refuse(message, "a socket is written unix:///path");
    if (!decode(rest, a->path, sizeof a->path))
        return refuse(message, "the path of the socket is too long or makes no sense");
    return true;
}

/* Splits "[::1]:6379" or "name:6379". */
static bool split_host(struct slice text, struct slice *host, struct slice *port)
{
    const char *end, *colon;

    *port = (struct slice){ 0 };
    *host = text;
    if (text.n > 0 && text.p[0] == '[') {
        end = position(text, ']');
        if (end == NULL) return false;
        *host = (struct slice){ text.p + 1, (size_t)(end - text.p) - 1 };
        text = after(text, end);
        if (text.n == 0) return true;
        if (text.p[0] != ':') return false;
        *port = after(text, text.p);
        return port->n > 0;
    }
    colon = position(text, ':');
    if (colon == NULL) return true;
    *host = before(text, colon);
    *port = after(text, colon);
    return port->n > 0;
}

static bool read_host(struct slice rest, struct redis_address *a,
                      char message[static 160])
{
    const char *slash = position(rest, '/');
    struct slice host, port, db = { 0 };

    if (slash != NULL) {
        db = after(rest, slash);
        rest = before(rest, slash);
    }
    if (!split_host(rest, &host, &port) || host.n == 0 ||
        !decode(host, a->host, sizeof a->host))
        return refuse(message, "the host makes no sense");
    a->port = DEFAULT_PORT;
    if (port.n > 0 && (!number(port, PORT_MAX, &a->port) || a->port == 0))
        return refuse(message, "the port is not a number from 1 to 65535");
    if (db.n > 0 && !number(db, DB_MAX, &a->db))
        return refuse(message, "the database after '/' is not a number");
    return true;
}

/* ---- the whole --------------------------------------------------------------- */

static bool take_scheme(struct slice *rest, const char *scheme)
{
    struct slice name = slice_of(scheme);

    if (rest->n < name.n || strncasecmp(rest->p, name.p, name.n) != 0) return false;
    rest->p += name.n;
    rest->n -= name.n;
    return true;
}

bool redis_url_parse(const char *url, struct redis_address *address,
                     char message[static 160])
{
    struct slice rest = slice_of(url);
    bool socket;

    *address = (struct redis_address){ 0 };
    if (take_scheme(&rest, "redis://")) socket = false;
    else if (take_scheme(&rest, "unix://") || take_scheme(&rest, "redis+unix://"))
        socket = true;
    else if (take_scheme(&rest, "rediss://"))
        return refuse(message, "rediss:// (TLS) is not supported");
    else return refuse(message, "it begins with redis://, unix:// or redis+unix://");
    if (!take_login(&rest, address, message) || !take_query(&rest, address, message))
        return false;
    return socket ? read_socket(rest, address, message)
                  : read_host(rest, address, message);
}

bool redis_url_check(const char *url, char message[static 160])
{
    struct redis_address address;

    return redis_url_parse(url, &address, message);
}
