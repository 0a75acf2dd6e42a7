/* bind_subscription.h -- messages that scripts wait for: db.listen, redis.subscribe.
 *
 *   local sub <close> = db.listen("orders")
 *   local payload = sub:next(30)
 */
#ifndef SCRIPT_BIND_SUBSCRIPTION_H
#define SCRIPT_BIND_SUBSCRIPTION_H

#include <lua.h>

int subscription_listen(lua_State *L); /* db.listen(channel) */
int subscription_redis(lua_State *L);  /* redis.subscribe(channel) */

#endif
