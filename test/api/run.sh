#!/usr/bin/env bash
# Runs one file of API tests against a server of its own: its own database (cloned from a
# migrated template), its own Redis database, a free port.
#
#   test/api/run.sh BINARY FILE
#
# TEST_DATABASE_URL (the owner), TEST_APP_DATABASE_URL and TEST_REDIS_URL name the servers;
# `./omade test` sets them.  Lines "-- serve: OPTIONS" and "-- env: NAME=VALUE" at the top of
# the file change how the server is started, "-- app: FOLDER" says what it serves,
# "-- files: N" how many files it may open, "-- before: SCRIPT" what makes files in $TEST_WORK
# for it, and prints more settings.  "-- port: NAME" is a free port in the variable NAME; in the
# lines of env, @NAME@ is replaced by it, and @TEST_WORK@ by that folder.  "-- postgres: own"
# and "-- redis: own" are servers that the test may kill (own_postgres.sh, lib/own_redis.lua).
# "-- only: release" or "hostile" is where a full ./omade test runs it, which is in both else.
# "-- scale: N" is of those that wait for time limits: OMADE_TIME_SCALE is N at most.
set -euo pipefail
ulimit -n "$(ulimit -Hn)"
export PGOPTIONS='-c client_min_messages=warning'

binary=$1 file=$2
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
home=$(cd "$here/../.." && pwd)
name=$(basename "$file" .lua)
work=$(mktemp -d)
locks=${OMADE_STATE_DIR:-${TMPDIR:-/tmp}/omade-$UID}/locks
server='' database=''
mkdir -p "$locks"

: "${TEST_DATABASE_URL:?is not set: run ./omade test}"
: "${TEST_APP_DATABASE_URL:?is not set}" "${TEST_REDIS_URL:?is not set}"

with_database() { # URL NAME: the URL of another database of the same server
  local query=''
  [[ $1 == *\?* ]] && query="?${1#*\?}"
  local base=${1%%\?*}
  printf '%s/%s%s' "${base%/*}" "$2" "$query"
}

owner_sql() { psql -XqAt -v ON_ERROR_STOP=1 "$(with_database "$TEST_DATABASE_URL" postgres)" -c "$1"; }

clean_up() {
  local status=$?
  if [[ -n $server ]] && kill -0 "$server" 2>/dev/null; then
    kill -TERM "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
  fi
  [[ -z $database ]] || owner_sql "DROP DATABASE IF EXISTS $database WITH (FORCE)" || true
  [[ ! -d $work/cluster ]] || TEST_WORK=$work bash "$here/own_postgres.sh" down || true
  local file pid
  for file in "$work"/*.pid; do
    [[ -s $file ]] || continue
    pid=$(<"$file")
    kill "$pid" 2>/dev/null || true
    timeout 30 tail --pid="$pid" -s 0.1 -f /dev/null || true     # Redis writes its log until it ends
  done
  rm -rf "$work"
  exit "$status"
}
trap clean_up EXIT

export OMADE_HOME=$home
export DATABASE_URL APP_DATABASE_URL REDIS_URL

fill() { # migrates and seeds the database of DATABASE_URL
  "$binary" migrate up >"$work/migrate.log" 2>&1 || { cat "$work/migrate.log"; exit 1; }
  "$binary" seed >"$work/seed.log" 2>&1 || { cat "$work/seed.log"; exit 1; }
}

# ---- the template: migrated and seeded once per version of the SQL ----------------------
clone_template() {
  local sum template
  sum=$(cat "$home"/migrations/*.sql "$home"/seeds/*.sql | sha256sum | cut -c1-12)
  template="omade_template_$sum"
  exec 9>"$locks/$template"
  flock 9
  if [[ $(owner_sql "SELECT count(*) FROM pg_database WHERE datname = '$template'") == 0 ]]; then
    owner_sql "DROP DATABASE IF EXISTS ${template}_new WITH (FORCE)"
    owner_sql "CREATE DATABASE ${template}_new"
    DATABASE_URL=$(with_database "$TEST_DATABASE_URL" "${template}_new")
    fill
    owner_sql "ALTER DATABASE ${template}_new RENAME TO $template"
  fi
  database="omade_${name//[^a-z0-9]/_}_$$"
  owner_sql "CREATE DATABASE $database TEMPLATE $template"
  flock -u 9
  DATABASE_URL=$(with_database "$TEST_DATABASE_URL" "$database")
  APP_DATABASE_URL=$(with_database "$TEST_APP_DATABASE_URL" "$database")
}

make_cluster() { # one that the test may kill
  TEST_WORK=$work bash "$here/own_postgres.sh" start >"$work/urls"
  # shellcheck disable=SC1091 # made above
  source "$work/urls"
  fill
}

if grep -q '^-- postgres: own' "$file"; then make_cluster; else clone_template; fi

# ---- a Redis database of its own ----------------------------------------------------------
base=${TEST_REDIS_URL%/*}
[[ ${TEST_REDIS_URL#redis://} == */* ]] || base=$TEST_REDIS_URL
redis_number=1
until exec {redis_lock}>"$locks/redis-$redis_number" && flock -n "$redis_lock"; do
  exec {redis_lock}>&-
  redis_number=$((redis_number + 1))
done

# ---- the server ------------------------------------------------------------------------------
mapfile -t options < <(sed -n 's/^-- serve: //p' "$file" | tr ' ' '\n')
export UPLOAD_DIR=$work/uploads RATE_LIMITS=${RATE_LIMITS:-off} OUTBOX_DRIVER=${OUTBOX_DRIVER:-off}
export TEST_WORK=$work CURL_TRACES=$work/traces PATH=$home/test/curl:$PATH   # curl's answers are checked, too
mkdir "$CURL_TRACES"
free_port() { lua5.4 -e 'print((select(2, require("socket").bind("127.0.0.1", 0):getsockname())))'; }
while IFS= read -r port_name; do
  export "${port_name?}=$(free_port)"
done < <(sed -n 's/^-- port: //p' "$file")
# Redis may be late where it is no fault: on a noisy machine a turn of the scheduler takes long.
export REDIS_TIMEOUT=${REDIS_TIMEOUT:-1000}
while IFS= read -r line; do
  while [[ $line =~ @([A-Z_]+)@ ]]; do line=${line//"${BASH_REMATCH[0]}"/${!BASH_REMATCH[1]}}; done
  export "${line?}"
done < <(sed -n 's/^-- env: //p' "$file")

scale=$(sed -n 's/^-- scale: //p' "$file")
if [[ -n $scale ]] && ((${OMADE_TIME_SCALE:-1} > scale)); then export OMADE_TIME_SCALE=$scale; fi

before=$(sed -n 's/^-- before: //p' "$file")   # a script that prints more of them
if [[ -n $before ]]; then
  TEST_WORK=$work bash "$here/$before" >"$work/env" </dev/null 9>&-
  while IFS= read -r line; do export "${line?}"; done <"$work/env"
fi

REDIS_URL="$base/$redis_number"
if grep -q '^-- redis: own' "$file"; then        # one that the test may stop and start
  export REDIS_URL="unix://$work/redis.sock?db=0" TEST_REDIS_SOCKET=$work/redis.sock
else
  redis-cli -u "$REDIS_URL" flushdb >/dev/null
fi

app=$home/lua/bakery mode=serve
[[ ! -d $here/apps/$name ]] || app=$here/apps/$name
declared=$(sed -n 's/^-- app: //p' "$file")
[[ -z $declared ]] || app=$home/$declared
if [[ " ${options[*]} " == *" dev "* ]]; then
  mode=dev
  cp -r "$app" "$work/"                      # tests edit it
  app=$work/$(basename "$app")
fi
export TEST_APP=$app TEST_BINARY=$binary
arguments=()
for option in "${options[@]}"; do [[ $option == dev ]] || arguments+=("$option"); done

files=$(sed -n 's/^-- files: //p' "$file")
: >"$work/server.log"      # read below, perhaps before the server's shell opens it
(
  exec {redis_lock}>&-
  [[ -z $files ]] || ulimit -n "$files"
  exec "$binary" "$mode" "$app" --host 127.0.0.1 --port 0 "${arguments[@]}"
) >"$work/server.log" 2>&1 9>&- &
server=$!
export TEST_SERVER_PID=$server TEST_SERVER_LOG=$work/server.log

port=''
for _ in $(seq 600); do
  port=$(sed -n 's/.*\bserving\b.*port"\?[=:]\([0-9]*\).*/\1/p' "$work/server.log" | head -n 1)
  [[ -z $port ]] || break
  kill -0 "$server" 2>/dev/null || break
  sleep 0.05
done
if [[ -z $port ]]; then
  echo "the server did not start:"
  cat "$work/server.log"
  exit 1
fi
export TEST_PORT=$port

status=0
LUA_PATH="$here/lib/?.lua;$here/?.lua;;" lua5.4 "$here/lib/main.lua" "$file" || status=1

# ---- the end: the server leaves in peace, and the sanitizers have nothing to say ----------------
if kill -0 "$server" 2>/dev/null; then kill -TERM "$server"; fi
ended=0
wait "$server" || ended=$?
server=''
if [[ $ended != "${TEST_EXPECT_EXIT:-0}" ]]; then
  echo "not ok: the server ended with $ended"
  status=1
fi
if grep -qE 'Sanitizer|runtime error|Assertion|left open' "$work/server.log"; then
  echo 'not ok: the server complained:'
  status=1
fi
[[ $status == 0 ]] || tail -n 60 "$work/server.log"
exit "$status"
