#!/usr/bin/env bash
# How long reports take over many orders, as staff, under row-level security, by HTTP: makes a
# shop of so many orders over three years (a million takes about a minute) and asks.
#
#   test/bench/reports.sh [BINARY [ORDERS [ROUNDS]]]
#
# Needs TEST_DATABASE_URL, TEST_APP_DATABASE_URL and TEST_REDIS_URL (./omade env prints them).
set -euo pipefail

home=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
binary=${1:-$home/build/release/omade}
export BENCH_ORDERS=${2:-1000000} BENCH_ROUNDS=${3:-7} BENCH_HOME=$home BENCH_BINARY=$binary

# run.sh makes a database and a server of its own, and runs this file.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat >"$work/reports_bench.lua" <<'LUA'
-- serve: --workers 1
local client = require "client"
return { { "reports", function()
  local told, ok = client.shell(("OMADE_HOME='%s' '%s' seed --scale %s"):format(os.getenv "BENCH_HOME",
    os.getenv "BENCH_BINARY", os.getenv "BENCH_ORDERS"))
  if not ok then error(told) end
  print("# " .. told:match "[^\n]*$")
  local lines = client.shell(("lua5.4 '%s/test/bench/reports.lua' %s"):format(os.getenv "BENCH_HOME", os.getenv "BENCH_ROUNDS"))
  print((("\n" .. lines):gsub("\n", "\n# ")))
end } }
LUA
"$home/test/api/run.sh" "$binary" "$work/reports_bench.lua" >"$work/out" 2>&1 || { cat "$work/out"; exit 1; }
sed -n 's/^# //p' "$work/out"
