#include "script/bind_jwt.h"

#include <lauxlib.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <stdbool.h>
#include <string.h>

#include "base/check.h"
#include "base/slice.h"

/* RSA keys in bytes: 2,048 to 8,192 bits.  P-256: a coordinate, and half a signature. */
enum { RSA_LEAST = 256, RSA_MOST = 1024, EXPONENT_MOST = 8, P256_BYTES = 32 };

/* ---- base64url -------------------------------------------------------------------------- */

static int digit_of(char c)
{
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    return c == '-' ? 62 : c == '_' ? 63 : -1;
}

/* jwt.decode(text): the bytes of base64url without padding; nil for what is none, or not
 * in its one canonical form */
static int jwt_decode(lua_State *L)
{
    size_t n, at = 0;
    const char *text = luaL_checklstring(L, 1, &n);
    luaL_Buffer b;
    char *room = luaL_buffinitsize(L, &b, n / 4 * 3 + 3);
    unsigned int bits = 0, have = 0;

    for (size_t i = 0; i < n; i++) {
        int digit = digit_of(text[i]);

        if (digit < 0) return 0;
        bits = (bits << 6 | (unsigned int)digit) & 0xffff;
        have += 6;
        if (have < 8) continue;
        have -= 8;
        room[at++] = (char)(unsigned char)(bits >> have);
    }
    if (n % 4 == 1 || (bits & ((1U << have) - 1)) != 0) return 0;
    luaL_pushresultsize(&b, at);
    return 1;
}

/* ---- keys ------------------------------------------------------------------------------- */

/* A public key of what was pushed into 'build'; NULL when it is none. */
static EVP_PKEY *key_of(const char *type, OSSL_PARAM_BLD *build)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, type, NULL);
    OSSL_PARAM *params = OSSL_PARAM_BLD_to_param(build);
    EVP_PKEY *key = NULL;

    if (ctx == NULL || params == NULL || EVP_PKEY_fromdata_init(ctx) != 1 ||
        EVP_PKEY_fromdata(ctx, &key, EVP_PKEY_PUBLIC_KEY, params) != 1)
        key = NULL;
    OSSL_PARAM_free(params);
    EVP_PKEY_CTX_free(ctx);
    return key;
}

static BIGNUM *number_of(struct slice s)
{
    return BN_bin2bn((const unsigned char *)s.p, (int)s.n, NULL);
}

static EVP_PKEY *rsa_key(struct slice n, struct slice e)
{
    OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
    BIGNUM *modulus = number_of(n), *exponent = number_of(e);
    EVP_PKEY *key = NULL;

    if (build != NULL && modulus != NULL && exponent != NULL &&
        OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_N, modulus) == 1 &&
        OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_E, exponent) == 1)
        key = key_of("RSA", build);
    BN_free(modulus);
    BN_free(exponent);
    OSSL_PARAM_BLD_free(build);
    return key;
}

static EVP_PKEY *p256_key(struct slice x, struct slice y)
{
    unsigned char point[1 + 2 * P256_BYTES] = { 4 }; /* uncompressed */
    OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
    EVP_PKEY *key = NULL;

    memcpy(point + 1, x.p, P256_BYTES);
    memcpy(point + 1 + P256_BYTES, y.p, P256_BYTES);
    if (build != NULL &&
        OSSL_PARAM_BLD_push_utf8_string(build, OSSL_PKEY_PARAM_GROUP_NAME, "prime256v1",
                                        0) == 1 &&
        OSSL_PARAM_BLD_push_octet_string(build, OSSL_PKEY_PARAM_PUB_KEY, point,
                                         sizeof point) == 1)
        key = key_of("EC", build);
    OSSL_PARAM_BLD_free(build);
    return key;
}

/* ---- signatures --------------------------------------------------------------------------- */

/* RSASSA-PKCS1-v1_5 or ECDSA, by the key's kind, with SHA-256. */
static bool is_signed(EVP_PKEY *key, struct slice text, const unsigned char *signature,
                      size_t n)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool good =
        ctx != NULL && EVP_DigestVerifyInit(ctx, NULL, EVP_sha256(), NULL, key) == 1 &&
        EVP_DigestVerify(ctx, signature, n, (const unsigned char *)text.p, text.n) == 1;

    EVP_MD_CTX_free(ctx);
    return good;
}

/* Two numbers side by side, as JOSE has them, in the DER that OpenSSL wants. */
static int der_of(struct slice signature, unsigned char **der)
{
    struct slice r = { signature.p, P256_BYTES },
                 s = { signature.p + P256_BYTES, P256_BYTES };
    ECDSA_SIG *pair = ECDSA_SIG_new();
    BIGNUM *first = number_of(r), *second = number_of(s);
    int n = -1;

    if (pair != NULL && first != NULL && second != NULL &&
        ECDSA_SIG_set0(pair, first, second) == 1) {
        first = second = NULL; /* the pair's now */
        n = i2d_ECDSA_SIG(pair, der);
    }
    BN_free(first);
    BN_free(second);
    ECDSA_SIG_free(pair);
    return n;
}

static struct slice check_slice(lua_State *L, int at)
{
    struct slice s;

    s.p = luaL_checklstring(L, at, &s.n);
    return s;
}

/* Whoever uses OpenSSL next finds no errors of ours. */
static int answer(lua_State *L, bool good)
{
    ERR_clear_error();
    lua_pushboolean(L, good);
    return 1;
}

/* jwt.rs256(n, e, text, signature): bytes all; whether the key signed the text */
static int jwt_rs256(lua_State *L)
{
    struct slice n = check_slice(L, 1), e = check_slice(L, 2), text = check_slice(L, 3),
                 signature = check_slice(L, 4);
    EVP_PKEY *key;
    bool good;

    if (n.n < RSA_LEAST || n.n > RSA_MOST || e.n == 0 || e.n > EXPONENT_MOST)
        return answer(L, false);
    key = rsa_key(n, e);
    good = key != NULL &&
           is_signed(key, text, (const unsigned char *)signature.p, signature.n);
    EVP_PKEY_free(key);
    return answer(L, good);
}

/* jwt.es256(x, y, text, signature): bytes all; whether the key signed the text */
static int jwt_es256(lua_State *L)
{
    struct slice x = check_slice(L, 1), y = check_slice(L, 2), text = check_slice(L, 3),
                 signature = check_slice(L, 4);
    unsigned char *der = NULL;
    EVP_PKEY *key;
    bool good = false;

    if (x.n != P256_BYTES || y.n != P256_BYTES || signature.n != 2 * P256_BYTES)
        return answer(L, false);
    key = p256_key(x, y);
    if (key != NULL) {
        int n = der_of(signature, &der);

        good = n > 0 && is_signed(key, text, der, (size_t)n);
    }
    OPENSSL_free(der);
    EVP_PKEY_free(key);
    return answer(L, good);
}

int luaopen_omade_jwt(lua_State *L)
{
    static const luaL_Reg functions[] = {
        { "decode", jwt_decode },
        { "rs256", jwt_rs256 },
        { "es256", jwt_es256 },
        { NULL, NULL },
    };

    luaL_newlib(L, functions);
    return 1;
}
