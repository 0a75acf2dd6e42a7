#!/usr/bin/env bash
# The launcher, on copies of itself with a stand-in for the binary.  As root everything
# runs twice: as root, and as an ordinary user without sudo.
#
#   test/launcher/launcher_test.sh [CASES]
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source_root=$(cd "$here/../.." && pwd)
work=$(mktemp -d)
passed=0 failed=0 kind='' as=() background=()

unset OMADE_STATE_DIR OMADE_BINARY DATABASE_URL APP_DATABASE_URL REDIS_URL OMADE_WERROR

# ---- asserts ---------------------------------------------------------------------------

check() { # WHAT COMMAND: the command succeeds
  if "${@:2}"; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    printf 'not ok (%s): %s\n' "$kind" "$1"
  fi
}

same() { # GOT WANTED
  [[ $1 == "$2" ]] || {
    printf '  got:    %s\n  wanted: %s\n' "$1" "$2"
    return 1
  }
}

alike() { # TEXT PATTERN
  [[ $1 =~ $2 ]] || {
    printf '  got:    %s\n  wanted: %s\n' "$1" "$2"
    return 1
  }
}

not() { ! "$@"; }

until_true() { # COMMAND: within 30 s
  local i
  for ((i = 0; i < 600; i++)); do
    ! "$@" || return 0
    sleep 0.05
  done
  return 1
}

# ---- what is tried ---------------------------------------------------------------------

# A checkout of its own, with its own home.
make_checkout() { # NAME: sets checkout
  checkout=$work/$kind/$1
  mkdir -p "$checkout"/{deploy,lua/omade/cli,notes,some/app}
  cp "$source_root/omade" "$checkout/"
  cp "$source_root/deploy/lib-services.sh" "$checkout/deploy/"
  cp "$source_root/CMakePresets.json" "$checkout/"
  touch "$checkout/lua/omade/cli/routes.lua"
  chmod -R go+rX "$work"
  [[ $kind == root ]] || chown -R nobody: "$work/$kind"
}

launch() { # ARGUMENTS: as the user, in his home
  "${as[@]}" env -u XDG_RUNTIME_DIR -u XDG_STATE_HOME HOME="$work/$kind/home" \
    OMADE_STATE_DIR="${state-$checkout/state}" OMADE_BINARY="$here_copy/stub.sh" \
    STUB_NOTES="$checkout/notes" STUB_EXIT="${stub_exit:-0}" STUB_FAIL="${stub_fail:-}" "$checkout/omade" "$@"
}

start_dev() { # ARGUMENTS: sets dev; returns when the binary runs
  local before
  before=$(runs)
  "${as[@]}" env --default-signal=INT HOME="$work/$kind/home" OMADE_STATE_DIR="$checkout/state" \
    OMADE_BINARY="$here_copy/stub.sh" STUB_NOTES="$checkout/notes" \
    STUB_EXIT="${stub_exit:-0}" STUB_FAIL="${stub_fail:-}" "$checkout/omade" dev "$@" \
    >>"$work/dev.log" 2>&1 &
  dev=$!
  background+=("$dev")
  until_true more_runs_than "$before" || tail "$work/dev.log"
}

runs() { sed -n '$=' "$checkout/notes/running" 2>/dev/null | grep . || echo 0; }
more_runs_than() { (($(runs) > $1)); }

end_dev() { # SIGNAL PID: sets code
  kill -s "$1" "$2"
  code=0
  wait "$2" 2>/dev/null || code=$?
}

url() { launch env 2>/dev/null | sed -n "s/^$1=//p"; }
answers() { psql -XqAt "$1" -c 'SELECT 1' >/dev/null 2>&1; }
sql() { psql -XqAt "$1" -c "$2" 2>&1; }
postgres_pid() { head -n 1 "$checkout/state/pg/data/postmaster.pid" 2>/dev/null; }
redis_pid() { cat "$checkout/state/redis/redis.pid" 2>/dev/null; }
# Where nobody reaps orphans, as in many a container, what has ended stays as a zombie.
alive() { [[ -n $1 && $(ps -o stat= -p "$1") == [!Z]* ]]; }
gone() { ! alive "$1"; }
busy() { [[ $(redis-cli -u "$1" ping 2>/dev/null) == *BUSY* ]]; }
services_run() { alive "$(postgres_pid)" && alive "$(redis_pid)"; }
services_stopped() { [[ ! -e $checkout/state/pg/data/postmaster.pid && -z $(redis_pid) ]]; }

refused() { # ARGUMENTS: exit 2, nothing on stdout, one line on stderr, nothing started
  local code=0 out
  out=$(launch "$@" 2>"$work/stderr") || code=$?
  same "$code" 2 && same "$out" '' && same "$(wc -l <"$work/stderr")" 1 &&
    not test -e "$checkout/state"
}

# ---- cases -----------------------------------------------------------------------------

test_usage() {
  local words name
  make_checkout usage
  for words in bogus 'dev --bogus' 'dev --port' 'dev --port x' 'dev some/app some/app' \
    'dev no/such/app' 'dev --port 65536' 'dev --workers=257' 'dev --host=' \
    'test --fats' 'test -R' 'test --fast x' 'serve --bogus' 'migrate sideways' 'migrate up up' 'seed 3' 'env x' 'db' 'db bogus' 'cache' 'cache bogus' \
    'down x' 'build no-such-preset' 'build release dev' 'help x'; do
    # shellcheck disable=SC2086
    check "wrong usage: $words" refused $words
  done
  for name in dev test serve env migrate seed user db cache config routes psql redis-cli down build help; do
    check "help lists $name" grep -q "^  $name " <(launch help)
    check "$name --help" alike "$(launch "$name" --help)" "^usage: ./omade $name"
    [[ $name =~ psql|cli ]] ||
      check "$name -h" alike "$(launch "$name" -h)" "^usage: ./omade $name"
  done
}

test_env() {
  local first second url
  make_checkout env
  url='postgres://omade_owner:[0-9a-f]{32}@127\.0\.0\.1:[0-9]+/omade_cravings'
  first=$(launch env)
  check 'three lines' alike "$first" \
    "^DATABASE_URL=$url"$'\n'"APP_DATABASE_URL=${url/omade_owner/app_user}"$'\n''REDIS_URL=redis://127\.0\.0\.1:[0-9]+/0$'
  check 'services go on' services_run
  second=$(postgres_pid)-$(redis_pid)
  check 'the same lines again' same "$(launch env 2>&1)" "$first"
  check 'the same processes' same "$(postgres_pid)-$(redis_pid)" "$second"
  check 'redis-cli' same "$(launch redis-cli set a b)" OK
  check down launch down
  check 'down stops both' services_stopped
  check 'down again' launch down
  check 'the same lines after a restart' same "$(launch env 2>&1)" "$first"
  check 'Redis kept its data' same "$(launch redis-cli get a)" b
  check 'passwords are private' same "$(stat -c %a "$checkout/state/passwords")" 600
  launch down
}

test_rights() {
  local owner app bare
  make_checkout rights
  owner=$(url DATABASE_URL)
  app=$(url APP_DATABASE_URL)
  bare=127.0.0.1:${owner##*:}
  check 'the owner connects' answers "$owner"
  check 'app_user connects' answers "$app"
  for user in postgres omade_owner app_user readonly_user; do
    check "$user needs a password" alike "$(sql "postgres://$user@$bare" 'SELECT 1' </dev/null)" \
      'no password supplied'
    check "$user needs the right password" \
      alike "$(sql "postgres://$user:wrong@$bare" 'SELECT 1')" 'password authentication failed'
  done
  check 'nobody is superuser' same "$(sql "$owner" \
    "SELECT count(*) FROM pg_roles WHERE rolname !~ '^(pg_|postgres)' AND (rolsuper OR rolbypassrls)")" 0
  check 'the owner owns database and schema' same "$(sql "$owner" \
    "SELECT pg_get_userbyid(datdba), nspowner::regrole FROM pg_database, pg_namespace
      WHERE datname = current_database() AND nspname = 'public'")" 'omade_owner|omade_owner'
  check 'the owner may become app_user' same \
    "$(sql "$owner" 'SET ROLE readonly_user; RESET ROLE; SET ROLE app_user; SELECT current_user')" app_user
  check 'app_user makes no tables' alike "$(sql "$app" 'CREATE TABLE t ()')" 'permission denied'
  check 'app_user has a time limit' same "$(sql "$app" 'SHOW statement_timeout')" 30s
  check 'what is written is durable' same "$(sql "$owner" 'SHOW fsync; SHOW jit')" $'on\noff'
  check 'statements are counted' alike "$(sql "$owner" 'SELECT count(*) FROM pg_stat_statements')" '^[0-9]+$'
  check 'no password in the statistics' same \
    "$(sql "$owner" "SELECT count(*) FROM pg_stat_statements WHERE query ~ 'PASSWORD ''[0-9a-f]'")" 0
  check 'a clone for a test' same "$(sql "${owner%/*}/postgres" 'CREATE DATABASE clone')" ''
  check 'a clone has the extensions' same "$(sql "${owner%/*}/clone" \
    "SELECT string_agg(extname, ' ' ORDER BY extname) FROM pg_extension")" 'pg_stat_statements pg_trgm plpgsql'
  # shellcheck disable=SC2016
  check 'psql is the owner, without a password in its arguments' alike \
    "$(launch psql -XAt -c '\! tr "\0" " " </proc/$PPID/cmdline' -c 'SELECT current_user')" \
    '^[^[:space:]]*psql postgres://omade_owner@.* omade_owner$'
  launch down
}

# Longer than a socket's path may be, and below a folder that only its owner enters.
test_long_state() {
  local state long
  make_checkout long
  long=$(printf 'x%.0s' {1..120})
  "${as[@]}" mkdir -m 700 "$checkout/$long"
  state=$checkout/$long/state
  check 'a long state folder' answers "$(url DATABASE_URL)"
  check 'redis with a long state folder' same "$(launch redis-cli ping)" PONG
  check 'state is where it was asked for' test -s "$state/pg/data/PG_VERSION"
  launch down
}

test_recovery() {
  local owner redis pid other script
  make_checkout recovery
  owner=$(url DATABASE_URL)
  sql "$owner" 'CREATE TABLE kept AS SELECT 7 AS n' >/dev/null

  kill -KILL "$(postgres_pid)" "$(redis_pid)"
  check 'kill -9 of both' same "$(url DATABASE_URL)" "$owner"
  check 'the data is there' same "$(sql "$owner" 'SELECT n FROM kept')" 7
  check 'Redis is there' same "$(launch redis-cli ping)" PONG

  redis=$(url REDIS_URL)
  for script in 'while true do end' 'redis.call("set", "x", 1) while true do end'; do
    redis-cli -u "$redis" config set busy-reply-threshold 100 >/dev/null
    redis-cli -u "$redis" eval "$script" 0 >/dev/null 2>&1 &
    until_true busy "$redis"
    check 'Redis that a script held up' same "$(url REDIS_URL)" "$redis"
    check 'answers again' same "$(redis-cli -u "$redis" ping)" PONG
  done

  pid=$(postgres_pid)
  rm "$checkout/state/redis/redis.pid" "$checkout/state/keep"
  kill -KILL "$pid"
  sleep 1000 &
  other=$!
  background+=("$other")
  disown "$other"
  sed -i "1s/.*/$other/" "$checkout/state/pg/data/postmaster.pid"
  check 'a pid that went to another process' same "$(url DATABASE_URL)" "$owner"
  check 'which is left alone' alive "$other"
  check 'Redis without its pid file is found' same "$(url REDIS_URL)" "$redis"
  pid=$(redis_pid)
  rm "$checkout/state/redis/redis.pid"
  launch down
  check 'down finds it, too' until_true gone "$pid"
  check 'and leaves the other alone' alive "$other"
  check 'all is stopped' services_stopped

  rm -f "$checkout/state/pg/ready"                # as if cut off while it was made
  owner=$(url DATABASE_URL)
  check 'a half-made cluster is made anew' answers "$owner"
  launch down
  printf 'REDIS9999 nonsense' >"$checkout/state/redis/dump.rdb"
  url DATABASE_URL >/dev/null
  check 'Redis with a broken dump' same "$(launch redis-cli ping)" PONG
  launch down
}

test_port_taken() {
  local before port
  make_checkout port
  before=$(url DATABASE_URL)
  launch down
  port=${before##*:}
  port=${port%/*}
  redis-server --port "$port" --bind 127.0.0.1 --save '' --dir "$work" >/dev/null &
  background+=($!)
  disown $!
  until_true redis-cli -p "$port" ping >/dev/null 2>&1
  check 'another port' not same "$(url DATABASE_URL)" "$before" >/dev/null
  check 'it answers' answers "$(url DATABASE_URL)"
  check 'the other is left alone' same "$(redis-cli -p "$port" ping)" PONG
  launch down
}

# Told in one line, before anything is started.
test_dev_port_taken() {
  local port
  make_checkout taken
  port=$((19000 + RANDOM % 1000))
  redis-server --port "$port" --bind 127.0.0.1 --save '' --dir "$work" >/dev/null &
  background+=($!)
  disown $!
  until_true redis-cli -p "$port" ping >/dev/null 2>&1
  check '--port is taken' same "$(launch dev --port "$port" 2>&1)" \
    "omade: port $port on 127.0.0.1 is taken; choose another one with --port or PORT"
  check 'PORT is taken' alike "$(PORT=$port launch dev 2>&1)" "^omade: port $port [^"$'\n'"]*$"
  check 'nothing was started' not test -e "$checkout/state"
}

test_dev() {
  local dev code calls folder
  make_checkout dev
  start_dev --port 4000
  calls=$(cat "$checkout/notes/calls")
  check 'migrates, seeds, serves' same "$calls" $'migrate up\nseed\ndev --port 4000'
  check 'the home is told' grep -qx "OMADE_HOME=$checkout" "$checkout/notes/environment.dev"
  check 'the URLs are told' same "$(wc -l <"$checkout/notes/environment.dev")" 4
  end_dev TERM "$dev"
  check 'SIGTERM reaches the binary' same "$(tail -n 1 "$checkout/notes/calls")" ended
  check 'its exit code is ours' same "$code" 0
  check 'the services are stopped' services_stopped

  stub_exit=7 start_dev
  end_dev INT "$dev"
  check 'SIGINT, and another exit code' same "$code" 7
  check 'stopped after SIGINT' services_stopped

  rm "$checkout/notes/calls"
  folder=$PWD
  cd "$checkout/some"
  start_dev app
  cd "$folder"
  check 'an app is not seeded' same "$(cat "$checkout/notes/calls")" $'migrate up\ndev app'
  check 'its folder is relative to the caller' same "$(cat "$checkout/notes/folder")" "$checkout/some"
  end_dev TERM "$dev"

  code=0
  stub_fail=migrate launch dev >/dev/null 2>&1 || code=$?
  check 'a failed migration ends it' same "$code" 1
  check 'and stops the services' services_stopped
}

test_sharing() {
  local dev first second code pid
  make_checkout sharing
  start_dev
  first=$dev
  pid=$(postgres_pid)
  start_dev
  second=$dev
  check 'two share one PostgreSQL' same "$(postgres_pid)" "$pid"
  check 'down refuses while they run' not launch down 2>/dev/null
  end_dev TERM "$first"
  check 'the second keeps it' services_run
  end_dev TERM "$second"
  check 'the last one stops it' services_stopped

  launch env >/dev/null
  pid=$(postgres_pid)
  start_dev
  end_dev TERM "$dev"
  check 'what env started goes on' same "$(postgres_pid)" "$pid"
  launch down

  start_dev
  pid=$(tail -n 1 "$checkout/notes/running")
  end_dev KILL "$dev"
  check 'the binary ends with its launcher' until_true gone "$pid"
  pid=$(postgres_pid)
  check 'PostgreSQL was left behind' alive "$pid"
  start_dev
  check 'and is taken over' same "$(postgres_pid)" "$pid"
  end_dev TERM "$dev"
  check 'and stopped in the end' services_stopped
}

test_side_by_side() {
  local one two
  make_checkout one
  one=$checkout
  make_checkout two
  two=$checkout
  checkout=$one && launch env >"$work/one" &
  launch env >"$work/two"
  wait $!
  check 'two checkouts, no line in common' same "$(sort "$work/one" "$work/two" | uniq -d)" ''
  check 'the first answers' answers "$(sed -n 's/^DATABASE_URL=//p' "$work/one")"
  check 'the second answers' answers "$(sed -n 's/^DATABASE_URL=//p' "$work/two")"
  checkout=$one
  launch down
  check 'the first is stopped' services_stopped
  checkout=$two
  check 'the second goes on' services_run
  launch down
}

# A state folder that cannot be, and the one that is used when none is named.
test_default_state() {
  local state='' sum folder
  make_checkout default
  mkdir -m 700 "$checkout/closed" && chown "$EUID" "$checkout/closed"
  sum=$(printf %s "$checkout" | sha256sum | cut -c1-8)
  folder=$work/$kind/home/.local/state/omade/$sum
  [[ $kind != root ]] || folder=/var/lib/omade/$sum
  state=/proc/nowhere
  check 'an impossible state folder gets one line' alike "$(launch env 2>&1)" \
    '^omade: cannot write to /proc/nowhere; [^'$'\n'']*$'
  state=''
  check 'from a folder that the user may not read' same \
    "$(cd "$checkout/closed" && launch env 2>&1 >/dev/null)" ''
  answers "$(url DATABASE_URL)"
  check 'the default state folder' test -s "$folder/pg/data/PG_VERSION"
  launch down
  rm -rf "$folder"
  [[ $kind != root ]] || rmdir --ignore-fail-on-non-empty /var/lib/omade
}

test_given_urls() {
  local dev code
  make_checkout given
  printf '# ours\nexport REDIS_URL = "redis://example/3"\nDATABASE_URL=postgres://a\nAPP_DATABASE_URL=postgres://b\n' \
    >"$checkout/.env"
  check 'the URLs of .env' same "$(launch env)" \
    $'DATABASE_URL=postgres://a\nAPP_DATABASE_URL=postgres://b\nREDIS_URL=redis://example/3'
  check 'the environment wins' same "$(REDIS_URL=redis://other launch env | tail -n 1)" REDIS_URL=redis://other
  start_dev
  check 'dev uses them' grep -qx 'REDIS_URL=redis://example/3' "$checkout/notes/environment.dev"
  end_dev TERM "$dev"
  check 'nothing private is started' not test -e "$checkout/state"
  sed -i /REDIS/d "$checkout/.env"
  check 'one of the two' alike "$(launch env)" $'^DATABASE_URL=postgres://a\n.*\nREDIS_URL=redis://127'
  check 'only Redis is private' not test -e "$checkout/state/pg/data"
  launch down
}

test_other_commands() {
  make_checkout other
  launch config
  launch routes some/app
  launch serve --port 1
  check 'passed on' same "$(cat "$checkout/notes/calls")" $'config\nroutes some/app\nserve --port 1'
  check 'without services' not test -e "$checkout/state"
  check 'serve gets no private URL' not grep -q 127.0.0.1 "$checkout/notes/environment.serve"
  launch migrate status
  check 'migrate has the database' grep -q '^DATABASE_URL=postgres://omade_owner' \
    "$checkout/notes/environment.migrate"
  check 'and stops it again' services_stopped
}

# ---- all -------------------------------------------------------------------------------

clean_up() {
  local state folder
  ((${#background[@]} == 0)) || kill -KILL "${background[@]}" 2>/dev/null || true
  for kind in root user; do
    set_kind
    for folder in "$work/$kind"/*/; do
      checkout=${folder%/}
      unset state
      [[ ! -x $checkout/omade ]] || launch down >/dev/null 2>&1 || true
    done
  done
  rm -rf "$work"
}

set_kind() {
  as=()
  if [[ $kind == user && $EUID == 0 ]]; then
    as=(setpriv --reuid=nobody --regid=nogroup --clear-groups)
  fi
}

trap clean_up EXIT
chmod 755 "$work"
cd "$work"
here_copy=$work/stub
mkdir "$here_copy"
cp "$here/stub.sh" "$here_copy/"

cases=("$@")
(($#)) || cases=(usage env rights long_state recovery port_taken dev_port_taken dev sharing side_by_side
  default_state given_urls other_commands)
for kind in root user; do
  [[ $kind == user || $EUID == 0 ]] || continue
  set_kind
  mkdir -p "$work/$kind/home"
  for name in "${cases[@]}"; do "test_$name"; done
done

printf '%d passed, %d failed\n' "$passed" "$failed"
((failed == 0 && passed > 0))
