/* proxy.h -- who asks, when proxies stand between.
 *
 * X-Forwarded-For and X-Forwarded-Proto are what anybody may send: they count only from
 * addresses that were named, and only as far as such addresses wrote them.
 */
#ifndef HTTP_PROXY_H
#define HTTP_PROXY_H

#include <stdbool.h>

#include "base/check.h"
#include "http/message.h"

enum { PROXIES_MAX = 64 };

/* Addresses in 16 bytes; IPv4 as ::ffff:a.b.c.d. */
struct proxies {
    int count;
    struct proxy_range {
        unsigned char address[16];
        int bits; /* of the address that count */
    } range[PROXIES_MAX];
};

/* Reads "10.0.0.0/8, 2001:db8::1": addresses and CIDR ranges.  False, and the wrong
 * entry in '*wrong', for anything else; its p is NULL when there are too many. */
MUST_CHECK bool proxies_read(struct proxies *proxies, struct slice list,
                             struct slice *wrong);

/* For a request whose head is complete and whose 'peer' is the connection's: if that is a
 * trusted proxy, 'peer' becomes the rightmost address of X-Forwarded-For that is not one
 * (of what is no address, nothing further left counts), and 'https' what the last
 * X-Forwarded-Proto says. */
void proxies_apply(const struct proxies *proxies, struct request *r);

#endif
