#!/usr/bin/env bash
# Any allocation may fail: while a worker starts, and while it answers (*_test.lua).
#
#   test/oom/oom_test.sh BINARY      of a build with OMADE_OOM
set -euo pipefail

binary=$(realpath "$1")
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
home=$(cd "$here/../.." && pwd)
work=$(mktemp -d)
server='' status=0
database=omade_oom_start_$$

: "${TEST_DATABASE_URL:?is not set: run ./omade test}"
: "${TEST_APP_DATABASE_URL:?is not set}" "${TEST_REDIS_URL:?is not set}"

with_database() { # URL NAME: the URL of another database of the same server
  local query=''
  [[ $1 != *\?* ]] || query="?${1#*\?}"
  local base=${1%%\?*}
  printf '%s/%s%s' "${base%/*}" "$2" "$query"
}

owner_sql() {
  PGOPTIONS='-c client_min_messages=warning' psql -XqAt -v ON_ERROR_STOP=1 \
    "$(with_database "$TEST_DATABASE_URL" postgres)" -c "$1"
}

clean_up() {
  local code=$?
  if [[ -n $server ]] && kill -TERM "$server" 2>/dev/null; then wait "$server" || true; fi
  owner_sql "DROP DATABASE IF EXISTS $database WITH (FORCE)" || true
  rm -rf "$work"
  exit "$code"
}
trap clean_up EXIT

# ---- while it answers ------------------------------------------------------------------

for file in "$here"/*_test.lua; do
  "$home/test/api/run.sh" "$binary" "$file" || status=1
done

# ---- while it starts -------------------------------------------------------------------

owner_sql "CREATE DATABASE $database"
DATABASE_URL=$(with_database "$TEST_DATABASE_URL" "$database")
APP_DATABASE_URL=$(with_database "$TEST_APP_DATABASE_URL" "$database")
export OMADE_HOME=$home DATABASE_URL APP_DATABASE_URL REDIS_URL=$TEST_REDIS_URL LOG_LEVEL=info
unset WORKERS PORT HOST LOG_FORMAT WATCH
export CURL_TRACES=$work/traces PATH=$home/test/curl:$PATH      # what curl is answered is checked
mkdir "$CURL_TRACES"
"$binary" migrate up >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }

complain() { # AFTER WHAT
  echo "not ok: start-up, failure after $1: $2"
  tail -n 40 "$work/log"
  status=1
}

# The first worker serves, or ends and is replaced by one that does; either ends well.
start_once() { # AFTER: sets failed
  local port='' i code=0
  : >"$work/log"
  OMADE_FAIL_AFTER=$1 "$binary" serve --host 127.0.0.1 --port 0 --workers 1 >"$work/log" 2>&1 &
  server=$!
  for ((i = 0; i < 600; i++)); do
    port=$(sed -n 's/.* serving .*port=\([0-9]*\).*/\1/p' "$work/log")
    if [[ -n $port ]] || ! kill -0 "$server" 2>/dev/null; then break; fi
    sleep 0.02
  done
  if [[ -z $port ]]; then
    complain "$1" 'it does not serve'
  else
    code=$(curl -s -m 60 -o /dev/null -w '%{http_code}' "http://127.0.0.1:$port/api/v1/products" || true)
    [[ $code == 200 ]] || complain "$1" "the answer is $code"
    curl -s -m 60 -o "$work/openapi.json" "http://127.0.0.1:$port/api/openapi.json" || true
  fi
  kill -TERM "$server" 2>/dev/null || true
  code=0
  wait "$server" || code=$?
  server=''
  [[ $code == 0 ]] || complain "$1" "it ended with $code"
  ! grep -qE 'Sanitizer|runtime error|Assertion|left open|signal=[1-9]' "$work/log" ||
    complain "$1" 'a worker crashed or leaked'
  failed=$(sed -n 's/.*allocation_failed=\([01]\).*/\1/p' "$work/log" | head -n 1)
}

after=0 tried=0 failed=1 refused=0
while [[ $failed == 1 && $status == 0 ]]; do
  start_once "$after"
  ! grep -q 'worker could not load' "$work/log" || refused=$((refused + 1))
  tried=$((tried + 1))
  after=$((after + (after < 30 ? 1 : 1 + after / 8)))
done
echo "# start-up: $tried tries, $refused workers refused to start"
# The document is that of the last try, where nothing failed.
if ((tried > 0)); then lua5.4 "$home/test/api/lib/conforms.lua" "$work/openapi.json" || status=1; fi
if ((status == 0 && refused == 0)); then
  echo 'not ok: no failure was ever seen'
  status=1
fi
[[ $status != 0 ]] || echo 'ok start-up'
exit "$status"
