/* bind_jwt.h -- omade.core.jwt: the signatures of JSON Web Tokens, checked with the public
 * keys of JSON Web Key sets.  What a token says is omade.oidc's to judge. */
#ifndef SCRIPT_BIND_JWT_H
#define SCRIPT_BIND_JWT_H

#include <lua.h>

int luaopen_omade_jwt(lua_State *L);

#endif
