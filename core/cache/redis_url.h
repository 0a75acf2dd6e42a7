/* redis_url.h -- where Redis is, read from a URL.
 *
 *   redis://[[user]:password@]host[:port][/db]
 *   unix://[[user]:password@]/path.sock[?db=N]     redis+unix:// likewise
 *
 * Reserved characters in any part are percent-encoded.
 */
#ifndef CACHE_REDIS_URL_H
#define CACHE_REDIS_URL_H

#include <stdbool.h>

#include "base/check.h"

/* All texts end with a NUL; "" is "not given". */
struct redis_address {
    char user[256];
    char password[513];
    char host[256];
    char path[108]; /* a unix socket; then there is no host */
    int port;
    int db;
};

/* False, and a message without any secret, when the URL makes no sense. */
MUST_CHECK bool redis_url_parse(const char *url, struct redis_address *address,
                                char message[static 160]);

#endif
