#!/usr/bin/env bash
# Keys of two made-up providers, and a server for those of the second one; prints the settings.
# In $TEST_WORK: rsa.pem, rsa2.pem (of nobody), ec.pem; google.json, apple.json (key sets).
set -euo pipefail

cd "$TEST_WORK"
here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")

base64url() { base64 -w0 | tr '+/' '-_' | tr -d '='; }
unhex() { perl -ne 'chomp; print pack "H*", $_'; }

rsa_jwk() { # FILE KID
  local n
  n=$(openssl rsa -in "$1" -noout -modulus | sed 's/^Modulus=//' | unhex | base64url)
  printf '{"kty":"RSA","kid":"%s","use":"sig","alg":"RS256","n":"%s","e":"AQAB"}' "$2" "$n"
}

ec_jwk() { # FILE KID: the last 64 bytes of the public key are its point
  local point
  openssl ec -in "$1" -pubout -outform DER 2>/dev/null | tail -c 64 >point
  point=$(head -c 32 point | base64url)
  printf '{"kty":"EC","kid":"%s","use":"sig","crv":"P-256","x":"%s","y":"%s"}' "$2" "$point" \
    "$(tail -c 32 point | base64url)"
}

for name in rsa rsa2; do openssl genrsa -out $name.pem 2048 2>/dev/null; done
openssl genrsa -out small.pem 1024 2>/dev/null
for name in ec ec2; do openssl ecparam -name prime256v1 -genkey -noout -out $name.pem; done
openssl rsa -in rsa.pem -pubout -out rsa.pub 2>/dev/null

printf '{"keys":[%s,%s,%s]}' "$(rsa_jwk rsa.pem r1)" "$(ec_jwk ec.pem e1)" "$(rsa_jwk small.pem small)" >google.json
printf '{"keys":[%s]}' "$(rsa_jwk rsa.pem a1)" >apple.json
printf '{"keys":[%s,%s]}' "$(rsa_jwk rsa.pem a1)" "$(ec_jwk ec2.pem a2)" >apple_later.json

lua5.4 "$here/keys_server.lua" "$TEST_WORK" >/dev/null 2>&1 &
echo $! >keys.pid
for _ in $(seq 200); do [[ -s port ]] && break; sleep 0.05; done

printf 'GOOGLE_JWKS=%s/google.json\nAPPLE_JWKS=http://127.0.0.1:%s/keys\n' "$TEST_WORK" "$(<port)"
