#!/usr/bin/env bash
# omade cache stats, warm and flush: what each says, and what it changes.
#
#   test/cli/cache_test.sh BINARY
#
# TEST_DATABASE_URL (the owner), TEST_APP_DATABASE_URL, TEST_ADMIN_DATABASE_URL (a superuser)
# and TEST_REDIS_URL name the servers.
set -euo pipefail

# shellcheck source=test/cli/db_rig.sh
source "$(dirname "${BASH_SOURCE[0]}")/db_rig.sh"

# ---- usage -----------------------------------------------------------------------------

for words in '' 'bogus' 'warm x' 'stats --jason' 'stats --json x'; do
  # shellcheck disable=SC2086
  omade cache $words
  check "cache $words" complains 2 'usage: omade cache'
done
omade cache --help
check 'cache --help' says 0 '^usage: omade cache '
nobody=postgres://nobody@127.0.0.1:1/x
omade REDIS_URL=redis://127.0.0.1:1/0 cache stats
check 'cache: Redis is not there' complains 1 'Redis does not answer'
omade APP_DATABASE_URL=$nobody cache warm
check 'cache warm: PostgreSQL is not there' complains 1 'PostgreSQL does not answer'
omade REDIS_URL= cache flush
check 'cache without REDIS_URL' complains 1 'REDIS_URL is not set'

# ---- a server that keeps products --------------------------------------------------------

serve
redis() { redis-cli -u "$REDIS_URL" "$@"; }
redis flushdb >/dev/null
id=$(owner 'SELECT id FROM products WHERE archived_at IS NULL ORDER BY name LIMIT 1')
count=$(owner 'SELECT count(*) FROM products WHERE archived_at IS NULL')
check 'a product' test "$(curl -s -o /dev/null -w '%{http_code}' "$products/$id")" == 200
redis get "product:$id" >"$work/by_route"
conform
check 'the route keeps it' test "$(wc -c <"$work/by_route")" -gt 100
redis set session:abc '{}' >/dev/null
redis set cart:abc '{}' >/dev/null
redis set "product:$id:lease" token >/dev/null
omade cache flush
check 'flush' says 0 '^1 products were removed'
check 'flush: no product and no lease is left, the rest is' \
  test "$(redis exists session:abc cart:abc) $(redis keys 'product:*')" == '2 '
omade cache warm
check 'warm' says 0 "^$count of $count products are in the cache$"
check 'warm: all of them' test "$(redis keys 'product:*' | wc -l)" == "$count"
redis get "product:$id" >"$work/by_warm"
check 'warm: byte for byte what the route keeps' cmp -s "$work/by_route" "$work/by_warm"
life=$(redis ttl "product:$id")
check 'warm: for an hour' test "$life" -gt 3000 -a "$life" -le 3600
check 'a product, from the cache' test "$(curl -s -o /dev/null -w '%{http_code}' "$products/$id")" == 200
told() { omade cache stats && out_has '^- products: 1 hits, 1 misses, 50\.0 % hits since [0-9-]+T'; }
check 'stats: hits and misses of products' until_true told
check 'stats' says 0 "^product +$count +[0-9]+ k?B$"
check 'stats: sessions and carts' out_has '^session +1 '
check 'stats: hits' out_has '^- Redis [0-9.]+: .* in use, .* hits, '
omade cache stats --json
check 'stats --json' json_has '{keys,0,keys}' "$count"
check 'stats --json: hit rate' json_has '{products,hit_percent}' 50
reader=omade_reads_$$ address=${REDIS_URL#*://}
redis flushdb >/dev/null
redis acl setuser "$reader" on '>reads' '~*' +@read +@connection >/dev/null
omade REDIS_URL="redis://$reader:reads@${address#*@}" cache warm
redis acl deluser "$reader" >/dev/null
check 'warm: Redis keeps nothing' complains 1 'Redis kept none of [0-9]+ products'
policy=$(redis config get maxmemory-policy | tail -n 1)
redis config set maxmemory-policy allkeys-lru >/dev/null
omade cache stats
redis config set maxmemory-policy "$policy" >/dev/null
check 'stats: a policy that forgets carts' out_has '^- maxmemory-policy is allkeys-lru: a full Redis forgets sessions and carts'

finish_test
