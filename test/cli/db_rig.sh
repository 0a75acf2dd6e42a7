#!/usr/bin/env bash
# For tests of omade db and omade cache: a database of their own, with the sample data, and
# asserts.  Sourced with the arguments of the test: BINARY.
#
# TEST_DATABASE_URL (the owner), TEST_APP_DATABASE_URL, TEST_ADMIN_DATABASE_URL (a superuser)
# and TEST_REDIS_URL name the servers.

# shellcheck source=test/cli/asserts.sh
source "$(dirname "${BASH_SOURCE[0]}")/asserts.sh"

started=()
database=omade_db_test_$$

: "${TEST_DATABASE_URL:?is not set: run ./omade test}" "${TEST_APP_DATABASE_URL:?is not set}"
: "${TEST_ADMIN_DATABASE_URL:?is not set}" "${TEST_REDIS_URL:?is not set}"

sql() { # URL SQL
  PGOPTIONS='-c client_min_messages=error' psql -XqAt -v ON_ERROR_STOP=1 "$1" -c "$2"
}
owner() { sql "$DATABASE_URL" "$1"; }
admin() { sql "${TEST_ADMIN_DATABASE_URL%/*}/$database" "$1"; }

clean_up() {
  local status=$? pid
  for pid in "${started[@]}"; do
    kill -TERM "$pid" 2>/dev/null || continue
    wait "$pid" 2>/dev/null || true
  done
  local suffix
  for suffix in '' _empty; do
    sql "${TEST_DATABASE_URL%/*}/postgres" "DROP DATABASE IF EXISTS $database$suffix WITH (FORCE)" || true
  done
  redis-cli -u "$REDIS_URL" flushdb >/dev/null || true
  rm -rf "$work"
  exit "$status"
}

mkdir "$work/uploads"
unset LOG_LEVEL LOG_FORMAT SHOP_TIMEZONE
export OMADE_HOME=$home UPLOAD_DIR=$work/uploads
export DATABASE_URL=${TEST_DATABASE_URL%/*}/$database APP_DATABASE_URL=${TEST_APP_DATABASE_URL%/*}/$database
export REDIS_URL=${TEST_REDIS_URL%/*}/$((902 + $$ % 100))
export CURL_TRACES=$work/traces PATH=$home/test/curl:$PATH      # what curl is answered is checked
mkdir "$CURL_TRACES"
trap clean_up EXIT
sql "${TEST_DATABASE_URL%/*}/postgres" "CREATE DATABASE $database"
"$binary" migrate >/dev/null
"$binary" seed >/dev/null

# ---- asserts ---------------------------------------------------------------------------

# PATH VALUE: what was printed is JSON, with this value under {a,b}.
json_has() {
  [[ $(psql -XqAt "$DATABASE_URL" -v text="$(cat "$work/out")" <<<"SELECT :'text'::jsonb #>> '$1'") == "$2" ]]
}

# A session in the background that runs SQL, then stays connected.
begin() { # NAME SQL
  local to
  mkfifo "$work/$1"
  exec {to}<>"$work/$1"
  PGAPPNAME=$1 psql -Xq "$DATABASE_URL" <"$work/$1" {to}>&- >/dev/null 2>&1 &
  started+=("$!")
  echo "$2" >&"$to"
}
session_is() { # NAME CONDITION
  [[ $(owner "SELECT count(*) FROM pg_stat_activity
    WHERE application_name = '$1' AND datname = current_database() AND $2") == 1 ]]
}
# NAME STATEMENT: the session is through with it; `waits NAME`: it waits for a lock.
has_done() { session_is "$1" "state LIKE 'idle%' AND query LIKE '$2%'"; }
waits() { session_is "$1" "wait_event_type = 'Lock'"; }
finish() { # NAME
  owner "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE application_name = '$1' AND datname = current_database()" >/dev/null
}

# ---- a server ----------------------------------------------------------------------------

products=''
serving() {
  local port
  port=$(sed -n 's/.* serving .*port=\([0-9]*\).*/\1/p' "$work/serve.log" | head -n 1)
  products=http://127.0.0.1:$port/api/v1/products
  [[ -n $port ]]
}
serve() { # sets products, the address of its catalogue
  RATE_LIMITS=off "$binary" serve --host 127.0.0.1 --port 0 --workers 1 >"$work/serve.log" 2>&1 &
  started+=("$!")
  check 'serve' until_true serving
}

conform() { # what curl was answered is as openapi.json has it
  curl -s -o "$work/openapi.json" "${products%/v1/products}/openapi.json"
  check 'answers are as openapi.json says' lua5.4 "$home/test/api/lib/conforms.lua" "$work/openapi.json"
}
