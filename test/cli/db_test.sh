#!/usr/bin/env bash
# omade db and omade cache on known states: what each command says, and what it changes.
#
#   test/cli/db_test.sh BINARY
#
# TEST_DATABASE_URL (the owner), TEST_APP_DATABASE_URL, TEST_ADMIN_DATABASE_URL (a superuser)
# and TEST_REDIS_URL name the servers.
set -euo pipefail

binary=$(realpath "$1")
home=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
work=$(mktemp -d)
passed=0 failed=0 code=0 started=()
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

check() { # WHAT COMMAND: the command succeeds
  if "${@:2}"; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    printf 'not ok: %s (exit %s)\n' "$1" "$code"
    sed 's/^/  out: /' "$work/out" | head -n 60
    sed 's/^/  err: /' "$work/err" | head -n 20
  fi
}

# NAME=VALUE... for the environment, then the arguments.  What was printed is in out and err.
omade() {
  local environment=()
  while [[ ${1:-} == *=* && $1 != -* ]]; do
    environment+=("$1")
    shift
  done
  code=0
  env "${environment[@]}" timeout 60 "$binary" "$@" >"$work/out" 2>"$work/err" </dev/null || code=$?
}

has() { grep -qE -- "$1" "$work/out"; }
not() { ! "$@"; }
ended() { [[ $code == "$1" ]]; }
says() { [[ $code == "$1" ]] && has "$2"; } # EXIT PATTERN

# EXIT PATTERN: nothing on standard output, and one line on standard error that names it.
complains() {
  [[ $code == "$1" && ! -s $work/out && $(wc -l <"$work/err") == 1 ]] && grep -qE -- "$2" "$work/err"
}

# PATH VALUE: what was printed is JSON, with this value under {a,b}.
json_has() {
  [[ $(psql -XqAt "$DATABASE_URL" -v text="$(cat "$work/out")" <<<"SELECT :'text'::jsonb #>> '$1'") == "$2" ]]
}

until_true() { # COMMAND: it becomes true within 20 s
  local i
  for ((i = 0; i < 400; i++)); do
    "$@" && return 0
    sleep 0.05
  done
  return 1
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

# ---- usage -----------------------------------------------------------------------------

for words in '' 'bogus' 'size x' 'rows --watch 0' 'rows --watch=x' 'rows --by mean' 'slow --by' 'slow --by=x' \
  'maintain' 'maintain hourly' 'maintain daily weekly' 'doctor x' 'doctor --json x' 'conf x' 'conf --memory 4' \
  'conf --memory' 'conf --disk tape'; do
  # shellcheck disable=SC2086
  omade db $words
  check "db $words" complains 2 'usage: omade db'
done
for words in '' 'bogus' 'warm x' 'stats --jason' 'stats --json x'; do
  # shellcheck disable=SC2086
  omade cache $words
  check "cache $words" complains 2 'usage: omade cache'
done
for verb in db cache; do
  omade $verb --help
  check "$verb --help" says 0 "^usage: omade $verb "
done
nobody=postgres://nobody@127.0.0.1:1/x
for words in size rows indexes slow bloat locks activity 'maintain daily' 'maintain weekly --dry-run'; do
  # shellcheck disable=SC2086
  omade DATABASE_URL=$nobody db $words
  check "db $words: nobody is there" complains 1 'DATABASE_URL.*refused'
done
omade DATABASE_URL=$nobody db doctor
check 'db doctor: nobody is there' complains 3 'DATABASE_URL.*refused'
omade DATABASE_URL= db size
check 'db size without DATABASE_URL' complains 1 'DATABASE_URL is not set'
omade REDIS_URL=redis://127.0.0.1:1/0 cache stats
check 'cache: Redis is not there' complains 1 'Redis does not answer'
omade APP_DATABASE_URL=$nobody cache warm
check 'cache warm: PostgreSQL is not there' complains 1 'PostgreSQL does not answer'
omade REDIS_URL= cache flush
check 'cache without REDIS_URL' complains 1 'REDIS_URL is not set'

# ---- a database without tables -----------------------------------------------------------

sql "${TEST_DATABASE_URL%/*}/postgres" "CREATE DATABASE ${database}_empty"
for view in size rows indexes bloat; do
  omade DATABASE_URL="${DATABASE_URL}_empty" db $view
  check "$view: nothing is there" says 0 '^- there are no tables: ./omade migrate makes them$'
done
omade DATABASE_URL="${DATABASE_URL}_empty" db maintain weekly
check 'maintain: nothing is there' says 0 '^nothing to do$'
omade DATABASE_URL="${DATABASE_URL}_empty" db doctor
check 'doctor: nothing is there' says 2 '^problem  migrations: migration 001_initial_setup is missing: ./omade migrate$'
check 'doctor: what it could not look at' has '^unknown  promo codes: could not be looked at: .*promo_codes'
sql "${TEST_DATABASE_URL%/*}/postgres" "DROP DATABASE ${database}_empty"

# ---- a healthy shop ----------------------------------------------------------------------

# HOME EXPRESSION: scripts of our own, whose doctor has this for the machine.
on_machine() {
  local at=lua folder
  mkdir -p "$1/lua/omade/cli/db"
  for folder in . lua lua/omade lua/omade/cli lua/omade/cli/db; do
    for at in "$home/$folder"/*; do [[ -e $1/$folder/${at##*/} ]] || ln -s "$at" "$1/$folder/"; done
  done
  rm "$1/lua/omade/cli/db/doctor.lua"
  sed "s|require \"omade.core.machine\"|$2|" "$home/lua/omade/cli/db/doctor.lua" >"$1/lua/omade/cli/db/doctor.lua"
}
disk() { # FREE: of 100 GB
  echo "setmetatable({ disk = function() return 100 << 30, $1 << 30, '8:1' end }, { __index = require 'omade.core.machine' })"
}
on_machine "$work/healthy" "$(disk 50)"

omade OMADE_HOME="$work/healthy" db doctor
check 'doctor: all is well' says 0 '^0 problems, 0 warnings, '
for name in migrations schema versions extensions roles grants default\ grants functions row-level\ security views indexes sequences promo\ codes uploads clock; do
  check "doctor: $name" has "^ok +$name$"
done
omade db doctor
check 'doctor: the disk that there is' has '^(ok|warning|problem) +disk'
omade OMADE_HOME="$work/healthy" db doctor --json
check 'doctor --json' json_has '{problems}' 0
check 'doctor --json: no doubt' json_has '{unknown}' 0

omade db conf --memory 1024 --disk ssd
check 'conf: the values of the seed document' has '^shared_buffers = 256MB +# [a-z]'
cp "$work/out" "$work/postgresql.conf"
chmod -R a+rX "$work"
postgres=$(find /usr/lib/postgresql/*/bin/postgres | sort -V | tail -n 1)
for pair in shared_buffers=32768 maintenance_work_mem=65536 random_page_cost=1.1; do # in pages, kB
  check "PostgreSQL reads the fragment: ${pair%=*}" \
    test "$("$postgres" -C "${pair%=*}" -D "$work" 2>/dev/null)" == "${pair#*=}"
done
omade db conf --memory 65536 --disk hdd
check 'conf: more memory' has '^shared_buffers = 8192MB'
check 'conf: a disk that turns' has '^random_page_cost = 4 '

# ---- figures -----------------------------------------------------------------------------

owner "CREATE TABLE bloated (id int PRIMARY KEY, v text, n int) WITH (autovacuum_enabled = off);
  INSERT INTO bloated SELECT g, md5(g::text) || md5(g::text), g / 2 FROM generate_series(1, 100000) g;
  CREATE INDEX bloated_v ON bloated (v);
  DELETE FROM bloated WHERE id % 10 <> 0; SELECT pg_stat_force_next_flush();
  CREATE TABLE sparse (nobody uuid); INSERT INTO sparse SELECT NULL FROM generate_series(1, 150000);
  CREATE UNIQUE INDEX sparse_nobody ON sparse (nobody);
  CREATE TABLE dead_only (id int) WITH (autovacuum_enabled = off);
  INSERT INTO dead_only SELECT generate_series(1, 100); DELETE FROM dead_only;
  SELECT pg_stat_force_next_flush()" >/dev/null
dead() { [[ $(owner "SELECT n_dead_tup FROM pg_stat_user_tables WHERE relname = '$1'") == "$2" ]]; }
until_true dead bloated 90000
until_true dead dead_only 100

omade db size
check 'size' says 0 '^public +bloated +[0-9]+ MB +[0-9]+ MB +[0-9]+ MB$'
check 'size: of the database' has "^- the database $database takes [0-9]+ MB"
omade db size --json
check 'size --json' json_has '{rows,0,total_bytes}' "$(owner "SELECT pg_total_relation_size('bloated')")"
check 'size --json: of the database' json_has '{database_bytes}' "$(owner "SELECT pg_database_size('$database')")"
code=0
"$binary" db size >/dev/full 2>"$work/err" || code=$?
: >"$work/out"
check 'size, to a full disk' complains 1 'cannot write: No space'
code=0
"$binary" db size >&- 2>"$work/err" || code=$?
check 'size, to nobody' complains 1 'cannot write: Bad file'
omade db rows
check 'rows' says 0 '^public +bloated +10000 +90000 +100000 +0 +90000 '
check 'rows: needs vacuum' has '^- bloated needs vacuum: 90000 dead'
check 'rows: a table that was written once is not read again and again' not has 'was read whole'
# shellcheck disable=SC2016 # SQL
owner 'DO $$ BEGIN FOR i IN 1..100 LOOP PERFORM count(*) FROM bloated; END LOOP; END $$; SELECT pg_stat_force_next_flush()' >/dev/null
read_whole() {
  omade db rows
  has '^- bloated was read whole 10[0-9] times since [0-9-]+, 1[0-9]{4} rows each: a query lacks an index'
}
check 'rows: read whole again and again' until_true read_whole
check 'rows: only dead ones' has '^- dead_only needs vacuum: 100 dead rows beside 0'
omade db bloat
check 'bloat: only dead rows' says 0 '^public.dead_only +table +0 +100 +100.0 %'
omade db indexes
check 'indexes' says 0 '^public +bloated +bloated_v +0 '
check 'indexes: never used' has '^- never used since [0-9-]+:.* bloated_v[,;]'
check 'indexes: a key is never unused' not has '^- never used.*bloated_pkey'

admin "SELECT pg_stat_statements_reset(0, (SELECT oid FROM pg_database WHERE datname = current_database()), 0)" >/dev/null
for _ in 1 2 3 4 5; do owner "SELECT count(*) FROM bloated WHERE n = 5" >/dev/null; done
omade db slow
# shellcheck disable=SC2016 # a parameter of PostgreSQL's
check 'slow' says 0 '^ *5 .*SELECT count\(\*\) FROM bloated WHERE n = \$1'
# shellcheck disable=SC2016 # a parameter of PostgreSQL's
check 'slow: a query that scans, and for what' has '^- row [0-9]+ scans all of bloated, [0-9]+ pages, for \(n = \$1\): an index'
check 'slow: not who looks at it' not has 'pg_stat_statements'
check 'slow: no maintenance' not has '(ANALYZE|CREATE|INSERT INTO sparse)'
for _ in 1 2 3; do owner "SELECT pg_sleep(0.03)" >/dev/null; done
owner "SELECT pg_sleep(0.06), 1" >/dev/null
# BY COLUMN: the first row has the most of it, and the others less and less.
ordered() {
  omade db slow --by "$1" --json
  psql -XqAt "$DATABASE_URL" -v text="$(cat "$work/out")" <<SQL | grep -qx t
    SELECT jsonb_agg(r) = jsonb_agg(r ORDER BY (r ->> '$2')::numeric DESC) AND count(*) > 2 AND count(*) <= 10
    FROM jsonb_array_elements(:'text'::jsonb -> 'rows') r
SQL
}
check 'slow --by total' ordered total total_ms
check 'slow --by mean' ordered mean mean_ms
check 'slow --by calls' ordered calls calls
omade db slow --by mean
# shellcheck disable=SC2016 # a parameter of PostgreSQL's
check 'slow --by mean: 60 ms once before 30 ms three times' test \
  "$(grep -o 'pg_sleep.*' "$work/out" | head -n 1)" == 'pg_sleep($1), $2'
omade db slow
# shellcheck disable=SC2016 # a parameter of PostgreSQL's
check 'slow: and after them by total' test "$(grep -o 'pg_sleep.*' "$work/out" | head -n 1)" == 'pg_sleep($1)'
admin 'DROP EXTENSION pg_stat_statements'
omade db slow
check 'slow without the extension' complains 1 'shared_preload_libraries.*CREATE EXTENSION pg_stat_statements'
omade db doctor
check 'doctor without the extension' has '^hint +extensions: pg_stat_statements'
admin 'CREATE EXTENSION pg_stat_statements'

omade db locks
check 'locks: none' says 0 '^- no session waits'
# COLUMNS COMMAND...: what it prints on a terminal of that width
on_terminal() {
  script -qefc "stty cols $1 rows 30; exec $binary ${*:2}" /dev/null </dev/null | tr -d '\r' >"$work/out"
}
fits() { ! grep -vE '^- ' "$work/out" | grep -qE "^.{$(($1 + 1)),}"; }
on_terminal 80 db rows
check 'a narrow terminal: no line is broken' fits 80
check 'a narrow terminal: what matters is there' has '^public +bloated +10000 +90000 '
check 'a narrow terminal: says that there is more' has '^- a wider terminal shows more: ./omade db rows \| less -S'
on_terminal 20 db slow
check 'a terminal like a watch' fits 20
on_terminal 250 db rows
check 'a wide terminal shows all' not has 'wider terminal'

begin holder 'BEGIN; UPDATE bloated SET n = 0 WHERE id = 10;'
until_true has_done holder UPDATE
begin waiter 'UPDATE bloated SET n = 1 WHERE id = 10;'
until_true waits waiter
omade db locks
holder=$(owner "SELECT pid FROM pg_stat_activity WHERE application_name = 'holder'")
check 'locks: who waits for whom' says 0 "UPDATE bloated SET n = 1 WHERE id = 10; +$holder +idle in transaction"
check 'locks: advice' has "^- session $holder \(idle in transaction\) blocks 1:.*pg_terminate_backend\($holder\)"
begin third 'BEGIN; LOCK TABLE bloated;'
until_true waits third
begin fourth 'SELECT count(*) FROM bloated;'
until_true waits fourth
omade db locks
check 'locks: a queue behind one session' has "^- session $holder \(idle in transaction\) blocks 3:"
check 'locks: only its head is named' test "$(grep -c '^- session' "$work/out")" == 1
finish fourth
finish third
omade db locks --json
check 'locks --json' json_has '{rows,0,blocker}' "$holder"
omade db activity
check 'activity' says 0 ' holder .* idle in transaction '
check 'activity: who waits' has ' waiter .* active .*Lock: '
check 'activity: connections' has '^- [0-9]+ of [0-9]+ connections'
omade DATABASE_URL="$APP_DATABASE_URL" db activity
check 'activity of all, without the right to it' says 0 'GRANT pg_monitor TO app_user'
finish waiter
finish holder

"$binary" db rows --json --watch 0.1 >"$work/watched" &
watch=$!
started+=("$watch")
lines() { [[ -e $1 ]] && (($(wc -l <"$1") >= $2)); }
check '--watch prints again and again' until_true lines "$work/watched" 3
kill "$watch"
wait "$watch" 2>/dev/null || true
head -n 1 "$work/watched" >"$work/out"
check '--watch --json: a line each' json_has '{view}' rows

# ---- maintenance -------------------------------------------------------------------------

fingerprint() {
  owner "SELECT relname, relfilenode FROM pg_class WHERE relname LIKE 'bloated%' ORDER BY 1;
    SELECT relname, last_vacuum, last_analyze FROM pg_stat_user_tables ORDER BY 1"
}
before=$(fingerprint)
omade db maintain weekly --dry-run
check 'maintain --dry-run' says 0 '^would run VACUUM \(ANALYZE\) public.bloated$'
check 'weekly: all tables' test "$(grep -c 'VACUUM (ANALYZE)' "$work/out")" == \
  "$(owner "SELECT count(*) FROM pg_stat_user_tables")"
check '--dry-run changes nothing' test "$(fingerprint)" == "$before"

begin other "SELECT pg_advisory_lock(hashtextextended('omade.maintain', 0));"
until_true has_done other 'SELECT pg_advisory_lock'
omade db maintain daily
check 'one maintenance at a time' complains 1 'another maintenance'
finish other

size_of() { owner "SELECT pg_relation_size('$1')"; }
old_size=$(size_of bloated_v)
admin 'CREATE EXTENSION pgstattuple'     # the air is measured; further below it is estimated
omade db maintain daily
check 'daily: vacuum' says 0 '^VACUUM \(ANALYZE\) public.bloated  '
check 'daily: an index that is mostly air' has '^REINDEX INDEX CONCURRENTLY public.bloated_v .* were air'
check 'the index is small again' test "$(size_of bloated_v)" -lt $((old_size / 4))
check 'the dead rows are gone' dead bloated 0
check 'indexes of the shop are left alone' not has 'REINDEX.*idx_'
omade db maintain daily
admin 'DROP EXTENSION pgstattuple'
check 'daily, again: nothing is rebuilt' ended 0
check 'daily, again: nothing is vacuumed' not has 'bloated'

# What an aborted CREATE INDEX CONCURRENTLY and an aborted REINDEX leave.
for name in bloated_once bloated_v_ccnew; do
  owner "CREATE UNIQUE INDEX CONCURRENTLY $name ON bloated ((id % 5))" 2>/dev/null || true
done
omade db doctor
check 'doctor: invalid indexes' says 2 '^problem +indexes: index bloated_once is invalid'
omade db indexes
check 'indexes: invalid' says 0 '^- bloated_once is invalid'
omade db maintain daily
check 'maintain: what an aborted REINDEX left is dropped' has '^DROP INDEX CONCURRENTLY .*bloated_v_ccnew  '
check 'maintain: what cannot be rebuilt is told' says 1 '^REINDEX .*bloated_once +failed: .*could not create unique'
owner "DELETE FROM bloated WHERE id NOT BETWEEN 10 AND 19"
omade db maintain daily
check 'maintain: an invalid index is rebuilt' says 0 '^REINDEX .*bloated_once .*it was invalid'
check 'no invalid index is left' test \
  "$(owner 'SELECT count(*) FROM pg_index WHERE NOT indisvalid')" == 0

# On a terminal: the rebuild waits for a transaction, and the bar says so.  Killed there, it
# leaves an invalid index, which the next maintenance clears away.
owner "DROP INDEX bloated_once"
owner "INSERT INTO bloated SELECT g, md5(g::text) || md5(g::text), g FROM generate_series(1000, 60000) g;
  DELETE FROM bloated WHERE id > 1000"
begin writer 'BEGIN; INSERT INTO bloated VALUES (1, NULL, 1);'
until_true has_done writer INSERT
script -qefc "exec $binary db maintain weekly" "$work/typescript" >/dev/null 2>&1 </dev/null &
started+=("$!")
bar() { grep -qaE '\[\.+\] +0 %  REINDEX .*: waiting for writers' "$work/typescript" 2>/dev/null; }
check 'maintain on a terminal shows a bar' until_true bar
at_work() { owner "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"; }
check 'maintain holds its lock' test "$(at_work)" == 1
kill -KILL "$(pgrep -P $! -f 'db maintain weekly')"
gone() { [[ $(at_work) == 0 ]]; }
check 'killed, its step ends in PostgreSQL as well' until_true gone
finish writer
check 'and leaves an invalid index' test "$(owner 'SELECT count(*) FROM pg_index WHERE NOT indisvalid')" == 1
omade db maintain daily
check 'the next maintenance drops it' says 0 '^DROP INDEX CONCURRENTLY .*bloated_(v|pkey)_ccnew  '
check 'and rebuilds, by the estimate' has '^REINDEX INDEX CONCURRENTLY public.bloated_v .* were air'
check 'but no new index of nothing but nulls' not has 'sparse_nobody'

# ---- what a doctor finds -------------------------------------------------------------------

owner 'DROP TABLE bloated, dead_only, sparse'
# What a test cannot make of a real server stands in a schema that hides pg_catalog's own.
owner "CREATE SCHEMA made
  CREATE VIEW pg_stat_activity AS SELECT * FROM jsonb_populate_recordset(NULL::pg_catalog.pg_stat_activity, jsonb_build_array(
    jsonb_build_object('pid', 4711, 'datname', current_database(), 'usename', 'app_user', 'backend_type', 'client backend',
      'state', 'idle in transaction', 'xact_start', now() - interval '11 minutes', 'state_change', now(), 'query', 'SELECT 1'),
    jsonb_build_object('pid', 4712, 'datname', current_database(), 'usename', 'app_user', 'backend_type', 'client backend',
      'state', 'active', 'xact_start', now() - interval '3 minutes', 'state_change', now(), 'query', 'SELECT 2'),
    jsonb_build_object('pid', 4713, 'datname', 'another', 'state', 'idle in transaction', 'backend_type', 'client backend',
      'xact_start', now() - interval '1 day')))
  CREATE VIEW pg_prepared_xacts AS SELECT * FROM jsonb_populate_recordset(NULL::pg_catalog.pg_prepared_xacts,
    jsonb_build_array(jsonb_build_object('gid', 'left', 'prepared', now() - interval '2 minutes', 'database', current_database())))
  CREATE VIEW pg_replication_slots AS SELECT * FROM jsonb_populate_recordset(NULL::pg_catalog.pg_replication_slots,
    '[{\"slot_name\": \"forgotten\", \"active\": false, \"restart_lsn\": \"0/0\"},
      {\"slot_name\": \"read\", \"active\": true, \"restart_lsn\": \"0/0\"}]')
  CREATE VIEW pg_stat_archiver AS SELECT * FROM jsonb_populate_record(NULL::pg_catalog.pg_stat_archiver, jsonb_build_object(
    'last_failed_wal', '00000001000000000000002A', 'last_failed_time', now(), 'last_archived_time', now() - interval '1 hour'))
  CREATE VIEW pg_available_extensions AS SELECT 'pg_trgm'::name AS name, '1.7' AS default_version, '1.2' AS installed_version
  CREATE VIEW pg_settings AS SELECT name, setting, CASE name WHEN 'TimeZone' THEN 'Asia/Tokyo' ELSE reset_val END AS reset_val
    FROM pg_catalog.pg_settings"
owner "CREATE FUNCTION made.age(xid) RETURNS int LANGUAGE sql RETURN 400000000;
  CREATE FUNCTION made.mxid_age(xid) RETURNS int LANGUAGE sql RETURN 700000000;
  CREATE FUNCTION made.clock_timestamp() RETURNS timestamptz LANGUAGE sql RETURN pg_catalog.clock_timestamp() + interval '2 hours';
  CREATE FUNCTION made.current_setting(text) RETURNS text LANGUAGE sql RETURN CASE
    WHEN \$1 IN ('fsync', 'full_page_writes', 'autovacuum', 'track_counts') THEN 'off'
    WHEN \$1 = 'server_version_num' THEN '130011' WHEN \$1 = 'server_version' THEN '13.11'
    WHEN \$1 = 'archive_mode' THEN 'on' WHEN \$1 = 'max_connections' THEN '3'
    WHEN \$1 = 'shared_buffers' THEN '1MB' WHEN \$1 = 'random_page_cost' THEN '17'
    WHEN \$1 LIKE 'autovacuum_%max_age' THEN '200000000' ELSE pg_catalog.current_setting(\$1) END"
on_machine "$work/full" "$(disk 4)"
on_machine "$work/filling" "$(disk 12)"
omade OMADE_HOME="$work/full" TZ=UTC PGOPTIONS='-c search_path=made,pg_catalog,public' db doctor
check 'a server that is ill: exit 2' ended 2
while read -r level pattern; do
  check "doctor finds: $pattern" has "^$level +$pattern"
done <<PATTERNS
problem versions: PostgreSQL 13.11 is too old
hint versions: extension pg_trgm is 1.2, 1.7 is installed: ALTER EXTENSION pg_trgm UPDATE
problem settings: fsync is off
problem settings: full_page_writes is off
problem settings: autovacuum is off
problem settings: track_counts is off
hint settings: shared_buffers is 1MB; for this machine
hint settings: random_page_cost is 17; for this machine
problem transaction age: database $database: its oldest transaction is 400000000 back.* after 200000000:
problem transaction age: database $database: its oldest multixact is 700000000 back.* after 200000000:
problem hanging transactions: session 4711 \(app_user\) is idle in a transaction for 11 min
warning hanging transactions: prepared transaction left is not finished for 2 min
problem hanging transactions: nobody reads from replication slot forgotten: it keeps [0-9]+ [kMG]B of WAL
problem archive, connections: archive_command failed at [-0-9: ]+, with 00000001000000000000002A: WAL piles up
warning archive, connections: 3 of 3 connections are in use
problem disk: 4 % of the disk of .* are free: 4096 MB
problem clock: the clocks of PostgreSQL and this machine differ by (2 h 0|1 h 59) min
hint clock: PostgreSQL's time zone is Asia/Tokyo, this machine is \+0.0 h from UTC
PATTERNS
check 'not transactions of another database' not has '4713'
check 'not slots that are read' not has 'slot read'
owner 'DROP FUNCTION made.clock_timestamp()'
omade PGOPTIONS='-c search_path=made,pg_catalog,public' db activity
check 'activity: forgotten transactions' has '^- session 4711 is idle in a transaction for 11 min: .*pg_terminate_backend\(4711\)'
check 'activity: connections used up' has '^- 3 of 3 connections are in use: lower DB_CONNECTIONS'
check 'activity: long statements' has '^- session 4712 works for 3 min: SELECT pg_cancel_backend\(4712\)'
omade OMADE_HOME="$work/filling" db doctor
check 'a disk that fills: exit 1' says 1 '^warning +disk: 12 % of the disk of .* are free: 12 GB'
check 'and nothing else' has '^0 problems, 1 warnings, '
owner "CREATE FUNCTION made.now() RETURNS timestamptz LANGUAGE sql RETURN timestamptz '2026-12-01 UTC';
  DROP FUNCTION made.current_setting(text);
  CREATE FUNCTION made.current_setting(text) RETURNS text LANGUAGE sql RETURN
    CASE \$1 WHEN 'server_version_num' THEN '140020' ELSE pg_catalog.current_setting(\$1) END"
omade PGOPTIONS='-c search_path=made,pg_catalog,public' db doctor
check 'doctor: a version without fixes' has '^warning +versions: PostgreSQL 14 gets no fixes since 2026-11-12'
owner 'DROP SCHEMA made CASCADE'

owner "ALTER TABLE reviews DISABLE ROW LEVEL SECURITY"
omade db doctor
check 'row-level security is off' says 2 '^problem +row-level security: .* off on reviews:'
check 'and nowhere else' test "$(grep -c '^problem' "$work/out")" == 1
owner "ALTER TABLE reviews ENABLE ROW LEVEL SECURITY"

newest=$(owner 'SELECT max(name) FROM schema_migrations')
definer=$(owner "SELECT oid::regprocedure FROM pg_proc WHERE proname = 'find_sign_in'")
owner "GRANT DELETE ON orders TO app_user;
  GRANT UPDATE (total_amount) ON orders TO app_user;
  GRANT SELECT (password_hash) ON users TO readonly_user;
  GRANT SELECT ON orders TO PUBLIC;
  REVOKE INSERT ON order_items FROM app_user;
  REVOKE SELECT ON products FROM readonly_user;
  GRANT UPDATE ON SEQUENCE order_number_seq TO app_user;
  REVOKE USAGE ON SEQUENCE outbox_id_seq FROM app_user;
  REVOKE EXECUTE ON FUNCTION next_order_number() FROM app_user;
  GRANT EXECUTE ON FUNCTION complete_slot(uuid) TO app_user;
  ALTER VIEW daily_sales SET (security_invoker = false);
  ALTER FUNCTION $definer RESET search_path;
  GRANT EXECUTE ON FUNCTION $definer TO PUBLIC;
  ALTER TABLE payments FORCE ROW LEVEL SECURITY;
  DROP INDEX idx_reviews_rating; DROP TRIGGER update_order_total ON order_items; DROP POLICY reviews_read ON reviews;
  ALTER TABLE users DISABLE TRIGGER update_users_updated_at;
  CREATE POLICY opened ON orders FOR SELECT TO app_user USING (true);
  CREATE TABLE without_policy (order_id uuid REFERENCES orders, a int, b int);
  ALTER TABLE without_policy ENABLE ROW LEVEL SECURITY;
  CREATE INDEX wider ON without_policy (a, b); CREATE INDEX narrow ON without_policy (a);
  CREATE SEQUENCE short MAXVALUE 100; SELECT setval('short', 90);
  GRANT CREATE ON SCHEMA public TO app_user;
  DELETE FROM schema_migrations WHERE name = '$newest';
  INSERT INTO promo_codes (code, discount_type, amount, valid_from, valid_to)
    VALUES ('SOON', 'percent', 5, now() - interval '1 day', now() + interval '2 days');
  INSERT INTO promo_codes (code, discount_type, amount, valid_from, valid_to, usage_limit, used_count)
    VALUES ('NEARLY', 'percent', 5, now() - interval '1 day', now() + interval '90 days', 100, 95);
  INSERT INTO uploads (name, content_type, size)
    VALUES ('0123456789abcdef0123456789abcdef.png', 'image/png', 1);
  ALTER DEFAULT PRIVILEGES IN SCHEMA public REVOKE INSERT ON TABLES FROM app_user;
  ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT DELETE ON TABLES TO app_user;
  ALTER DEFAULT PRIVILEGES IN SCHEMA public REVOKE USAGE ON SEQUENCES FROM app_user;
  ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO PUBLIC;
  ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON FUNCTIONS TO PUBLIC" >/dev/null
touch "$work/uploads/fedcba9876543210fedcba9876543210.jpg" "$work/uploads/not_ours.txt"
omade SHOP_TIMEZONE=Europe/Banana db doctor
check 'problems: exit 2' ended 2
while read -r level pattern; do
  check "doctor finds: $pattern" has "^$level +$pattern"
done <<PATTERNS
problem schema: index idx_reviews_rating is missing: migrations/001_initial_setup.sql makes it
problem schema: trigger update_order_total on order_items is missing: migrations/[0-9]{3}_.*.sql makes it
problem schema: trigger update_users_updated_at on users is switched off: ALTER TABLE users ENABLE TRIGGER
problem schema: policy reviews_read on reviews is missing: migrations/001_initial_setup.sql makes it
problem schema: policy opened on orders is in no migration: .* DROP POLICY opened ON orders
problem grants: app_user has DELETE on orders, which is too much
problem grants: app_user has UPDATE \(total_amount\) on orders, which is too much
problem grants: readonly_user has SELECT \(password_hash\) on users, which is too much
problem grants: PUBLIC has SELECT on orders, which is too much
problem grants: app_user lacks INSERT on order_items
problem grants: readonly_user lacks SELECT on products
problem grants: app_user has UPDATE on order_number_seq, which is too much: REVOKE UPDATE ON SEQUENCE order_number_seq
problem grants: app_user lacks USAGE on outbox_id_seq
problem default grants: app_user does not get INSERT ON TABLES of later migrations
problem default grants: app_user gets DELETE ON TABLES of later migrations, which is too much
problem default grants: app_user does not get USAGE ON SEQUENCES of later migrations
problem default grants: PUBLIC gets SELECT ON TABLES of later migrations, which is too much
problem default grants: functions of later migrations may be called by anybody
problem functions: app_user may not call next_order_number\(\): GRANT EXECUTE
problem functions: app_user may call complete_slot\(uuid\), which is too much
problem views: view daily_sales asks with its owner's rights
problem functions: function find_sign_in\(.*\) is SECURITY DEFINER without a search_path
problem functions: function find_sign_in\(.*\) may be called by anybody
problem row-level security: row-level security is forced on payments
problem row-level security: without_policy has row-level security and no policy
problem sequences: sequence public.short is at 89.9 %
problem roles: role app_user may CREATE
problem migrations: migration $newest is missing
problem clock: SHOP_TIMEZONE is 'Europe/Banana'
hint indexes: no index on without_policy \(order_id\)
hint indexes: index narrow is redundant beside wider
warning promo codes: promo code SOON expires at
warning promo codes: promo code NEARLY is nearly used up: 95 of 100
warning uploads: upload 0123456789abcdef0123456789abcdef.png has a row and no file
hint uploads: file fedcba9876543210fedcba9876543210.jpg in the upload folder is named by nothing
PATTERNS
check 'files of others are no orphans' not has 'not_ours'
check 'nothing else is a problem' test "$(grep -c '^problem' "$work/out")" == 29
omade db doctor --json
check 'doctor --json of problems' json_has '{problems}' 28
check 'doctor --json of problems: exit 2' ended 2
omade DATABASE_URL="$APP_DATABASE_URL" db doctor
check 'doctor as another role says what it cannot see' has '^unknown +sessions: .*GRANT pg_monitor TO app_user'

# ---- while a server serves -----------------------------------------------------------------

owner "INSERT INTO schema_migrations (name, checksum) VALUES ('$newest',
  '$(sha256sum "$home/migrations/$newest.sql" | cut -d' ' -f1)')"
RATE_LIMITS=off "$binary" serve --host 127.0.0.1 --port 0 --workers 1 >"$work/serve.log" 2>&1 &
started+=("$!")
port=''
serving() { port=$(sed -n 's/.* serving .*port=\([0-9]*\).*/\1/p' "$work/serve.log" | head -n 1) && [[ -n $port ]]; }
check 'serve' until_true serving
products=http://127.0.0.1:$port/api/v1/products
ask() { curl -s -o /dev/null -w '%{http_code}\n' --max-time 20 "$products?sortBy=price"; }
while [[ ! -e $work/enough ]]; do ask; done >"$work/answers" &
asking=$!
started+=("$asking")
until_true lines "$work/answers" 3
owner "CREATE UNIQUE INDEX CONCURRENTLY products_once ON products ((length(id::text)))" 2>/dev/null || true
omade db maintain weekly
check 'maintain beside a server' grep -q '^VACUUM (ANALYZE) public.products  ' "$work/out"
begin locker 'BEGIN; LOCK TABLE products IN SHARE MODE;'
until_true has_done locker 'LOCK TABLE'
omade PGOPTIONS='-c lock_timeout=300ms' db maintain weekly
check 'maintain: a table that another session has locked' says 1 '^VACUUM \(ANALYZE\) public.products   failed: .*lock timeout'
check 'maintain: the others' has '^VACUUM \(ANALYZE\) public.orders   [0-9.]+ s$'
finish locker
touch "$work/enough"
wait "$asking" || true
check 'every request was answered' test "$(sort -u "$work/answers")" == 200
owner "DROP INDEX products_once"

# ---- systemd -------------------------------------------------------------------------------

if command -v systemd-analyze >/dev/null; then
  mkdir "$work/units"
  cp "$home"/deploy/*.service "$home"/deploy/*.timer "$work/units"
  sed -i 's|/opt/omade/build/release/omade|/bin/true|' "$work/units"/*.service # nothing is installed here
  code=0
  systemd-analyze verify "$work/units"/* >"$work/out" 2>"$work/err" || code=$?
  check 'systemd takes the units and timers' test "$code $(cat "$work/out" "$work/err")" == '0 '
fi

# ---- cache -----------------------------------------------------------------------------------

redis() { redis-cli -u "$REDIS_URL" "$@"; }
redis flushdb >/dev/null
id=$(owner 'SELECT id FROM products WHERE archived_at IS NULL ORDER BY name LIMIT 1')
count=$(owner 'SELECT count(*) FROM products WHERE archived_at IS NULL')
check 'a product' test "$(curl -s -o /dev/null -w '%{http_code}' "$products/$id")" == 200
redis get "product:$id" >"$work/by_route"
curl -s -o "$work/openapi.json" "${products%/v1/products}/openapi.json"
check 'answers are as openapi.json says' lua5.4 "$home/test/api/lib/conforms.lua" "$work/openapi.json"
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
told() { omade cache stats && has '^- products: 1 hits, 1 misses, 50\.0 % hits since [0-9-]+T'; }
check 'stats: hits and misses of products' until_true told
check 'stats' says 0 "^product +$count +[0-9]+ k?B$"
check 'stats: sessions and carts' has '^session +1 '
check 'stats: hits' has '^- Redis [0-9.]+: .* in use, .* hits, '
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
check 'stats: a policy that forgets carts' has '^- maxmemory-policy is allkeys-lru: a full Redis forgets sessions and carts'

echo "$passed passed, $failed failed"
[[ $failed == 0 ]]
