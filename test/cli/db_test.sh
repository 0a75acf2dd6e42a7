#!/usr/bin/env bash
# omade db size to activity, and maintain: what each says, and what it changes.
#
#   test/cli/db_test.sh BINARY
#
# TEST_DATABASE_URL (the owner), TEST_APP_DATABASE_URL, TEST_ADMIN_DATABASE_URL (a superuser)
# and TEST_REDIS_URL name the servers.
set -euo pipefail

# shellcheck source=test/cli/db_rig.sh
source "$(dirname "${BASH_SOURCE[0]}")/db_rig.sh"

# ---- usage -----------------------------------------------------------------------------

for words in '' 'bogus' 'size x' 'rows --watch 0' 'rows --watch=x' 'rows --by mean' 'slow --by' 'slow --by=x' \
  'maintain' 'maintain hourly' 'maintain daily weekly'; do
  # shellcheck disable=SC2086
  omade db $words
  check "db $words" complains 2 'usage: omade db'
done
omade db --help
check 'db --help' says 0 '^usage: omade db '
nobody=postgres://nobody@127.0.0.1:1/x
for words in size rows indexes slow bloat locks activity 'maintain daily' 'maintain weekly --dry-run'; do
  # shellcheck disable=SC2086
  omade DATABASE_URL=$nobody db $words
  check "db $words: nobody is there" complains 1 'DATABASE_URL.*refused'
done
omade DATABASE_URL= db size
check 'db size without DATABASE_URL' complains 1 'DATABASE_URL is not set'

# ---- a database without tables -----------------------------------------------------------

sql "${TEST_DATABASE_URL%/*}/postgres" "CREATE DATABASE ${database}_empty"
for view in size rows indexes bloat; do
  omade DATABASE_URL="${DATABASE_URL}_empty" db $view
  check "$view: nothing is there" says 0 '^- there are no tables: ./omade migrate makes them$'
done
omade DATABASE_URL="${DATABASE_URL}_empty" db maintain weekly
check 'maintain: nothing is there' says 0 '^nothing to do$'
sql "${TEST_DATABASE_URL%/*}/postgres" "DROP DATABASE ${database}_empty"

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
check 'size: of the database' out_has "^- the database $database takes [0-9]+ MB"
omade db size --json
check 'size --json' json_has '{rows,0,total_bytes}' "$(owner "SELECT pg_total_relation_size('bloated')")"
all_bytes() { # autovacuum works on the catalogs beside us
  omade db size --json
  json_has '{database_bytes}' "$(owner "SELECT pg_database_size('$database')")"
}
check 'size --json: of the database' until_true all_bytes
code=0
"$binary" db size >/dev/full 2>"$work/err" || code=$?
: >"$work/out"
check 'size, to a full disk' complains 1 'cannot write: No space'
code=0
"$binary" db size >&- 2>"$work/err" || code=$?
check 'size, to nobody' complains 1 'cannot write: Bad file'
omade db rows
check 'rows' says 0 '^public +bloated +10000 +90000 +100000 +0 +90000 '
check 'rows: needs vacuum' out_has '^- bloated needs vacuum: 90000 dead'
check 'rows: a table that was written once is not read again and again' not out_has 'was read whole'
# shellcheck disable=SC2016 # SQL
owner 'DO $$ BEGIN FOR i IN 1..100 LOOP PERFORM count(*) FROM bloated; END LOOP; END $$; SELECT pg_stat_force_next_flush()' >/dev/null
read_whole() {
  omade db rows
  out_has '^- bloated was read whole 10[0-9] times since [0-9-]+, 1[0-9]{4} rows each: a query lacks an index'
}
check 'rows: read whole again and again' until_true read_whole
check 'rows: only dead ones' out_has '^- dead_only needs vacuum: 100 dead rows beside 0'
omade db bloat
check 'bloat: only dead rows' says 0 '^public.dead_only +table +0 +100 +100.0 %'
omade db indexes
check 'indexes' says 0 '^public +bloated +bloated_v +0 '
check 'indexes: never used' out_has '^- never used since [0-9-]+:.* bloated_v[,;]'
check 'indexes: a key is never unused' not out_has '^- never used.*bloated_pkey'

admin "SELECT pg_stat_statements_reset(0, (SELECT oid FROM pg_database WHERE datname = current_database()), 0)" >/dev/null
for _ in 1 2 3 4 5; do owner "SELECT count(*) FROM bloated WHERE n = 5" >/dev/null; done
omade db slow
# shellcheck disable=SC2016 # a parameter of PostgreSQL's
check 'slow' says 0 '^ *5 .*SELECT count\(\*\) FROM bloated WHERE n = \$1'
# shellcheck disable=SC2016 # a parameter of PostgreSQL's
check 'slow: a query that scans, and for what' out_has '^- row [0-9]+ scans all of bloated, [0-9]+ pages, for \(n = \$1\): an index'
check 'slow: not who looks at it' not out_has 'pg_stat_statements'
owner "SELECT id, v, n, (SELECT count(*) FROM sparse WHERE false) AS none, pg_sleep(0.03) FROM bloated WHERE id = 10" >/dev/null
omade db slow
check 'slow: what stands behind the columns' out_has 'SELECT … FROM bloated WHERE id = \$[0-9]$'
pg_dump -s "$DATABASE_URL" >/dev/null
owner $'-- As in a migration.\nALTER TABLE sparse ALTER COLUMN nobody SET STATISTICS 10' >/dev/null
omade db slow --json
check 'slow: no backup, no migration' not out_has '(pg_catalog|SET STATISTICS)'
omade db slow
check 'slow: no maintenance' not out_has '(ANALYZE|CREATE|INSERT INTO sparse)'
for _ in 1 2 3; do owner "SELECT pg_sleep(0.03)" >/dev/null; done
owner "SELECT pg_sleep(0.06), 1" >/dev/null
# BY COLUMN: the first row has the most of it, and the others less and less.
ordered() {
  omade db slow --by "$1" --json
  psql -XqAt "$DATABASE_URL" -v text="$(cat "$work/out")" <<SQL | grep -qx t
    SELECT array_agg(n ORDER BY at) = array_agg(n ORDER BY n DESC) AND count(*) > 2 AND count(*) <= 10
    FROM jsonb_array_elements(:'text'::jsonb -> 'rows') WITH ORDINALITY r (row, at), LATERAL (SELECT (row ->> '$2')::numeric AS n) v
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
check 'doctor without the extension' out_has '^hint +extensions: pg_stat_statements'
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
check 'a narrow terminal: what matters is there' out_has '^public +bloated +10000 +90000 '
check 'a narrow terminal: says that there is more' out_has '^- a wider terminal shows more: ./omade db rows \| less -S'
on_terminal 20 db slow
check 'a terminal like a watch' fits 20
on_terminal 250 db rows
check 'a wide terminal shows all' not out_has 'wider terminal'

begin holder 'BEGIN; UPDATE bloated SET n = 0 WHERE id = 10;'
until_true has_done holder UPDATE
begin waiter 'UPDATE bloated SET n = 1 WHERE id = 10;'
until_true waits waiter
omade db locks
holder=$(owner "SELECT pid FROM pg_stat_activity WHERE application_name = 'holder'")
check 'locks: who waits for whom' says 0 "UPDATE bloated SET n = 1 WHERE id = 10; +$holder +idle in transaction"
check 'locks: advice' out_has "^- session $holder \(idle in transaction\) blocks 1:.*pg_terminate_backend\($holder\)"
begin third 'BEGIN; LOCK TABLE bloated;'
until_true waits third
begin fourth 'SELECT count(*) FROM bloated;'
until_true waits fourth
omade db locks
check 'locks: a queue behind one session' out_has "^- session $holder \(idle in transaction\) blocks 3:"
check 'locks: only its head is named' test "$(grep -c '^- session' "$work/out")" == 1
finish fourth
finish third
omade db locks --json
check 'locks --json' json_has '{rows,0,blocker}' "$holder"
omade db activity
check 'activity' says 0 ' holder .* idle in transaction '
check 'activity: who waits' out_has ' waiter .* active .*Lock: '
check 'activity: connections' out_has '^- [0-9]+ of [0-9]+ connections'
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
check 'daily: an index that is mostly air' out_has '^REINDEX INDEX CONCURRENTLY public.bloated_v .* were air'
check 'the index is small again' test "$(size_of bloated_v)" -lt $((old_size / 4))
check 'the dead rows are gone' dead bloated 0
check 'indexes of the shop are left alone' not out_has 'REINDEX.*idx_'
omade db maintain daily
admin 'DROP EXTENSION pgstattuple'
check 'daily, again: nothing is rebuilt' ended 0
check 'daily, again: nothing is vacuumed' not out_has 'bloated'

# What an aborted CREATE INDEX CONCURRENTLY and an aborted REINDEX leave.
for name in bloated_once bloated_v_ccnew; do
  owner "CREATE UNIQUE INDEX CONCURRENTLY $name ON bloated ((id % 5))" 2>/dev/null || true
done
omade db doctor
check 'doctor: invalid indexes' says 2 '^problem +indexes: index bloated_once is invalid'
omade db indexes
check 'indexes: invalid' says 0 '^- bloated_once is invalid'
omade db maintain daily
check 'maintain: what an aborted REINDEX left is dropped' out_has '^DROP INDEX CONCURRENTLY .*bloated_v_ccnew  '
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
check 'and rebuilds, by the estimate' out_has '^REINDEX INDEX CONCURRENTLY public.bloated_v .* were air'
check 'but no new index of nothing but nulls' not out_has 'sparse_nobody'

# ---- while a server serves -----------------------------------------------------------------

serve
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
check 'maintain: the others' out_has '^VACUUM \(ANALYZE\) public.orders   [0-9.]+ s$'
finish locker
touch "$work/enough"
wait "$asking" || true
check 'every request was answered' test "$(sort -u "$work/answers")" == 200
conform
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

finish_test
