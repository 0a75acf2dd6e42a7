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
  sql "${TEST_DATABASE_URL%/*}/postgres" "DROP DATABASE IF EXISTS $database WITH (FORCE)" || true
  redis-cli -u "$REDIS_URL" flushdb >/dev/null || true
  rm -rf "$work"
  exit "$status"
}

mkdir "$work/uploads"
unset LOG_LEVEL LOG_FORMAT SHOP_TIMEZONE
export OMADE_HOME=$home UPLOAD_DIR=$work/uploads
export DATABASE_URL=${TEST_DATABASE_URL%/*}/$database APP_DATABASE_URL=${TEST_APP_DATABASE_URL%/*}/$database
export REDIS_URL=${TEST_REDIS_URL%/*}/$((902 + $$ % 100))
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

for words in '' 'bogus' 'size x' 'rows --watch 0' 'rows --watch=x' 'maintain' 'maintain hourly' \
  'maintain daily weekly' 'doctor x' 'doctor --json x' 'conf x' 'conf --memory 4' 'conf --disk tape'; do
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
check 'db doctor: nobody is there' complains 2 'DATABASE_URL.*refused'
omade DATABASE_URL= db size
check 'db size without DATABASE_URL' complains 1 'DATABASE_URL is not set'
omade REDIS_URL=redis://127.0.0.1:1/0 cache stats
check 'cache: Redis is not there' complains 1 'Redis does not answer'
omade APP_DATABASE_URL=$nobody cache warm
check 'cache warm: PostgreSQL is not there' complains 1 'PostgreSQL does not answer'
omade REDIS_URL= cache flush
check 'cache without REDIS_URL' complains 1 'REDIS_URL is not set'

# ---- a healthy shop ----------------------------------------------------------------------

omade db doctor
check 'doctor: all is well' says 0 '^0 problems, '
for name in migrations roles grants functions row-level\ security views indexes sequences promo\ codes uploads clock; do
  check "doctor: $name" has "^ok +$name$"
done
omade db doctor --json
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
code=0
"$binary" db size >/dev/full 2>"$work/err" || code=$?
: >"$work/out"
check 'size, to a full disk' complains 1 'cannot write: No space'
omade db rows
check 'rows' says 0 '^public +bloated +10000 +90000 +100000 +0 +90000 '
check 'rows: needs vacuum' has '^- bloated needs vacuum: 90000 dead'
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
check 'slow: a query that scans' has '^- row [0-9]+ reads [0-9]+ pages for each row: it scans'
admin 'DROP EXTENSION pg_stat_statements'
omade db slow
check 'slow without the extension' complains 1 'shared_preload_libraries.*CREATE EXTENSION pg_stat_statements'
omade db doctor
check 'doctor without the extension' has '^hint +extensions: pg_stat_statements'
admin 'CREATE EXTENSION pg_stat_statements'

omade db locks
check 'locks: none' says 0 '^- no session waits'
begin holder 'BEGIN; UPDATE bloated SET n = 0 WHERE id = 10;'
until_true has_done holder UPDATE
begin waiter 'UPDATE bloated SET n = 1 WHERE id = 10;'
until_true waits waiter
omade db locks
holder=$(owner "SELECT pid FROM pg_stat_activity WHERE application_name = 'holder'")
check 'locks: who waits for whom' says 0 "UPDATE bloated SET n = 1 WHERE id = 10; +$holder +idle in transaction"
check 'locks: advice' has "^- session $holder \(idle in transaction\) blocks 1:.*pg_terminate_backend\($holder\)"
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
lines() { (($(wc -l <"$1") >= $2)); }
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
check 'doctor: invalid indexes' says 1 '^problem +indexes: index bloated_once is invalid'
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

# ---- what a doctor finds -------------------------------------------------------------------

owner 'DROP TABLE bloated, dead_only'
owner "ALTER TABLE reviews DISABLE ROW LEVEL SECURITY"
omade db doctor
check 'row-level security is off' says 1 '^problem +row-level security: .* off on reviews:'
check 'and nowhere else' test "$(grep -c '^problem' "$work/out")" == 1
owner "ALTER TABLE reviews ENABLE ROW LEVEL SECURITY"

newest=$(owner 'SELECT max(name) FROM schema_migrations')
definer=$(owner "SELECT oid::regprocedure FROM pg_proc WHERE proname = 'find_sign_in'")
owner "GRANT DELETE ON orders TO app_user;
  GRANT UPDATE (total_amount) ON orders TO app_user;
  GRANT SELECT (password_hash) ON users TO readonly_user;
  GRANT SELECT ON orders TO PUBLIC;
  REVOKE INSERT ON order_items FROM app_user;
  ALTER VIEW daily_sales SET (security_invoker = false);
  ALTER FUNCTION $definer RESET search_path;
  GRANT EXECUTE ON FUNCTION $definer TO PUBLIC;
  ALTER TABLE payments FORCE ROW LEVEL SECURITY;
  CREATE TABLE without_policy (order_id uuid REFERENCES orders, a int, b int);
  ALTER TABLE without_policy ENABLE ROW LEVEL SECURITY;
  CREATE INDEX wider ON without_policy (a, b); CREATE INDEX narrow ON without_policy (a);
  CREATE SEQUENCE short MAXVALUE 100; SELECT setval('short', 90);
  GRANT CREATE ON SCHEMA public TO app_user;
  DELETE FROM schema_migrations WHERE name = '$newest';
  INSERT INTO promo_codes (code, discount_type, amount, valid_from, valid_to)
    VALUES ('SOON', 'percent', 5, now() - interval '1 day', now() + interval '2 days');
  INSERT INTO uploads (name, content_type, size)
    VALUES ('0123456789abcdef0123456789abcdef.png', 'image/png', 1)" >/dev/null
touch "$work/uploads/fedcba9876543210fedcba9876543210.jpg" "$work/uploads/not_ours.txt"
omade SHOP_TIMEZONE=Europe/Banana db doctor
check 'problems: exit 1' ended 1
while read -r level pattern; do
  check "doctor finds: $pattern" has "^$level +$pattern"
done <<PATTERNS
problem grants: app_user has DELETE on orders, which is too much
problem grants: app_user has UPDATE \(total_amount\) on orders, which is too much
problem grants: readonly_user has SELECT \(password_hash\) on users, which is too much
problem grants: PUBLIC has SELECT on orders, which is too much
problem grants: app_user lacks INSERT on order_items
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
hint promo codes: promo code SOON expires at
hint uploads: upload 0123456789abcdef0123456789abcdef.png has a row and no file
hint uploads: file fedcba9876543210fedcba9876543210.jpg in the upload folder is named by nothing
PATTERNS
check 'files of others are no orphans' not has 'not_ours'
check 'nothing else is a problem' test "$(grep -c '^problem' "$work/out")" == 14
omade db doctor --json
check 'doctor --json of problems' json_has '{problems}' 13
check 'doctor --json of problems: exit 1' ended 1
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
touch "$work/enough"
wait "$asking" || true
check 'every request was answered' test "$(sort -u "$work/answers")" == 200
owner "DROP INDEX products_once"

# ---- cache -----------------------------------------------------------------------------------

redis() { redis-cli -u "$REDIS_URL" "$@"; }
redis flushdb >/dev/null
id=$(owner 'SELECT id FROM products WHERE archived_at IS NULL ORDER BY name LIMIT 1')
count=$(owner 'SELECT count(*) FROM products WHERE archived_at IS NULL')
check 'a product' test "$(curl -s -o /dev/null -w '%{http_code}' "$products/$id")" == 200
redis get "product:$id" >"$work/by_route"
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
omade cache stats
check 'stats' says 0 "^product +$count +[0-9]+ k?B$"
check 'stats: sessions and carts' has '^session +1 '
check 'stats: hits' has '^- Redis [0-9.]+: .* in use, .* hits, '
omade cache stats --json
check 'stats --json' json_has '{keys,0,keys}' "$count"

echo "$passed passed, $failed failed"
[[ $failed == 0 ]]
