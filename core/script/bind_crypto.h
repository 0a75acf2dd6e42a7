/* bind_crypto.h -- the module omade.crypto: OpenSSL, and bcrypt by libxcrypt. */
#ifndef SCRIPT_BIND_CRYPTO_H
#define SCRIPT_BIND_CRYPTO_H

#include <lua.h>

#include "script/vm.h"

int luaopen_omade_crypto(lua_State *L);

/* Frees what the module keeps in env->crypto; no hashing may be under way. */
void crypto_end(struct script_env *env);

#endif
