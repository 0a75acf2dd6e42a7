#!/usr/bin/env bash
# How long things take: start to the first 200, an edit to its answer, a crash to the next
# 200 by the new worker.  Medians of some tries, in milliseconds.
#
#   test/bench/times.sh [BINARY]
set -euo pipefail

home=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
binary=${1:-$home/build/release/omade}
work=$(mktemp -d)
server=''
export OMADE_HOME=$home LOG_LEVEL=info
unset DATABASE_URL APP_DATABASE_URL REDIS_URL

clean_up() {
  [[ -z $server ]] || kill "$server" 2>/dev/null || true
  rm -rf "$work"
}
trap clean_up EXIT

now() { date +%s%N; }
ms_since() { echo $((($(now) - $1) / 1000000)); }
median() { sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }

write() {
  cat > "$work/app.lua" <<LUA
local web = require "omade.web"
return { routes = web.routes("", { { "GET", "/", function() return "$1" end, who = "anyone" } }) }
LUA
}

start() {
  : > "$work/log"
  "$binary" dev "$work" --port 0 2>> "$work/log" &
  server=$!
  until port=$(sed -n 's/.* serving .*port=\([0-9]*\).*/\1/p' "$work/log") && [[ -n $port ]]; do sleep 0.002; done
  url=http://127.0.0.1:$port/
}

stop() {
  kill "$server"
  wait "$server" || true
  server=''
}

answers() { [[ $(curl -s --max-time 2 "$url" || true) == *"$1"* ]]; }

write first
for _ in 1 2 3 4 5; do
  began=$(now)
  start
  until answers first; do :; done
  ms_since "$began"
  stop
done | median | sed 's/^/start to the first 200: /; s/$/ ms/'

start
for i in $(seq 9); do
  write "edit $i"
  began=$(now)
  until answers "edit $i"; do :; done
  ms_since "$began"
  sleep 0.1
done | median | sed 's/^/an edit to its answer: /; s/$/ ms/'

for _ in $(seq 5); do
  worker=$(pgrep -P "$server")
  began=$(now)
  kill -SEGV "$worker"
  until [[ $(pgrep -P "$server" | head -n 1) != "$worker" ]] && answers edit; do :; done
  ms_since "$began"
  sleep 6
done | median | sed 's/^/a crash to the next 200: /; s/$/ ms/'
