#!/usr/bin/env bash
# W5: orders per second, each with an Idempotency-Key, by 16 clients against two workers:
# over 200 products, and of one product that all of them want.
#
#   test/bench/orders.sh [BINARY [SECONDS [uniform|hot]]]
#
# Needs TEST_DATABASE_URL, TEST_APP_DATABASE_URL and TEST_REDIS_URL (./omade env prints them).
set -euo pipefail

home=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
binary=${1:-$home/build/release/omade}
export BENCH_SECONDS=${2:-5} BENCH_KINDS=${3:-uniform hot} BENCH_HOME=$home

# run.sh makes a database and a server of its own, and runs this file.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat >"$work/orders_bench.lua" <<'LUA'
-- serve: --workers 2
local client = require "client"
client.sql "INSERT INTO products (name, price, stock) SELECT 'Bench ' || n, 9.99, 2000000 FROM generate_series(1, 200) n"
client.sql [[INSERT INTO users (name, email, password_hash, role) SELECT 'Bench', 'bench' || n || '@example.com', 'x', 'customer'
  FROM generate_series(1, 16) n]]
local tokens = {}
for id in client.sql("SELECT id FROM users WHERE email LIKE 'bench%'"):gmatch "%S+" do
  tokens[#tokens + 1] = client.session("customer", id)
end
local seconds = os.getenv "BENCH_SECONDS"
local function run(kind, time)
  local crowds, good, bad = {}, 0, 0
  for i = 1, 2 do
    crowds[i] = io.popen(("lua5.4 %s/test/bench/orders.lua 8 %s %s %s"):format(os.getenv "BENCH_HOME", time, kind,
                                                                             table.concat(tokens, " ")))
  end
  for _, crowd in ipairs(crowds) do
    local g, b = crowd:read("n", "n")
    good, bad = good + g, bad + b
    crowd:close()
  end
  return good, bad
end
return { { "orders", function()
  run("uniform", 1)
  for kind in os.getenv("BENCH_KINDS"):gmatch "%S+" do
    local good, bad = run(kind, seconds)
    print(("# %s: %.0f orders a second (%d other answers)"):format(kind, good / tonumber(seconds), bad))
  end
end } }
LUA
"$home/test/api/run.sh" "$binary" "$work/orders_bench.lua" >"$work/out" 2>&1 || { cat "$work/out"; exit 1; }
grep "^#" "$work/out"
