#!/usr/bin/env bash
# ./omade db backup, restore and verify: what comes back, what is refused, and what a kill,
# a full disk or a damaged file leaves behind.
#
#   test/cli/backup_test.sh BINARY
#
# TEST_DATABASE_URL (the owner) and TEST_APP_DATABASE_URL name the server;
# TEST_ADMIN_DATABASE_URL, a superuser's, is needed to make roles.
set -euo pipefail

# shellcheck source=test/cli/asserts.sh
source "$(dirname "${BASH_SOURCE[0]}")/asserts.sh"

mounted=''
name=omade_backup_test_$$

: "${TEST_DATABASE_URL:?is not set: run ./omade test}" "${TEST_APP_DATABASE_URL:?is not set}"

url() { printf '%s/%s' "${TEST_DATABASE_URL%/*}" "$1"; }
app_url() { printf '%s/%s' "${TEST_APP_DATABASE_URL%/*}" "$1"; }
sql() { # DATABASE SQL
  PGOPTIONS='-c client_min_messages=warning' psql -XqAt -v ON_ERROR_STOP=1 "$(url "$1")" -c "$2"
}
databases() { sql postgres "SELECT datname FROM pg_database WHERE datname LIKE '$1' ORDER BY 1"; }

clean_up() {
  local status=$? one
  [[ -z $mounted ]] || umount "$mounted" || true
  for one in $(databases "${name//_/\\_}%"); do
    sql postgres "DROP DATABASE IF EXISTS \"$one\" WITH (FORCE)" || true
  done
  [[ -z ${TEST_ADMIN_DATABASE_URL:-} ]] ||
    psql -Xq "${TEST_ADMIN_DATABASE_URL%/*}/postgres" -c "DROP ROLE IF EXISTS $name" 2>/dev/null || true
  rm -rf "$work"
  exit "$status"
}
trap clean_up EXIT

unset BACKUP_DIR BACKUP_KEEP PG_BIN REDIS_URL APP_DATABASE_URL
export OMADE_HOME=$home DATABASE_URL OMADE_STATE_DIR=$work/state
DATABASE_URL=$(url "$name")
place=$work/backups
[[ $DATABASE_URL =~ ://([^:]*):([^@]*)@([^:/]*):([0-9]+)/ ]]
connect=("${BASH_REMATCH[@]}") # user, password, host, port
export PGPASSWORD=${connect[2]}

# ---- asserts ---------------------------------------------------------------------------

db() { run 120 "$home/omade" db -- "$@"; } # [NAME=VALUE...] ARGUMENTS

same() { [[ $1 == "$2" ]]; }
backup() { # OPTIONS: sets file
  db backup --to "$place" "$@"
  file=$(<"$work/out")
}
nothing_half() { # neither files nor databases
  [[ -z $(databases 'omade\_restore\_%') && -z $(databases 'omade\_verify\_%') ]] &&
    [[ -z $(find "$place" -name '.*.partial') ]]
}

session_in() { [[ -n $(sql postgres "SELECT pid FROM pg_stat_activity WHERE datname = '$1' AND query ~ 'pg_sleep'") ]]; }

# Any other manifest under the right checksum.
forge() { # FILE SED-EXPRESSION NEW-FILE
  head -c -72 "$1" | LC_ALL=C sed -E "\$ $2" >"$3"
  printf 'sha256 %s\n' "$(sha256sum <"$3" | cut -d' ' -f1)" >>"$3"
}

# ---- there and back --------------------------------------------------------------------

sql postgres "CREATE DATABASE $name"
"$binary" migrate up >/dev/null
"$binary" seed >/dev/null
sql "$name" "ALTER DATABASE $name SET work_mem = '8MB'"

backup
full=$file
check 'a backup is made, and its path printed' ended 0
check 'it is nobody else'\''s to read' same "$(stat -c %a "$full")" 600
check 'pg_restore reads it as it is' test -n "$(pg_restore --list "$full" | grep 'TABLE DATA public orders')"
check 'its manifest names the migrations' grep -qa '"001_initial_setup"' <(tail -n 2 "$full")
check 'no password is in it' not grep -qaE 'SCRAM-SHA-256|PASSWORD ' <(tail -n 2 "$full")

db verify "$full"
check 'it verifies' ended 0
check 'with a line per table' out_has '^table public.orders +[1-9][0-9]* +[1-9][0-9]* +ok$'
check 'and per kind of guard' out_has '^row security +[0-9]+ +[0-9]+ +ok$'

db restore "$full" --into "${name}_copy"
check 'it restores under another name' ended 0
check 'with its settings' same "$(sql "${name}_copy" 'SHOW work_mem')" 8MB
check 'migrations are in order' same \
  "$(DATABASE_URL=$(url "${name}_copy") "$binary" migrate status | grep -vc '^applied')" 0
check 'app_user has its rights' test "$(psql -XqAt "$(app_url "${name}_copy")" -c 'SELECT count(*) FROM products')" -gt 0
check 'and no others' not psql -XqAt "$(app_url "${name}_copy")" -c 'DELETE FROM orders' 2>/dev/null
check 'row-level security hides orders' same "$(psql -XqAt "$(app_url "${name}_copy")" -c 'SELECT count(*) FROM orders')" 0

db restore "$full"
check 'an existing database is not overwritten' complains 8 'not empty; --force'
rows=$(sql "$name" 'SELECT count(*) FROM orders')
sql "$name" 'CREATE TABLE since (id integer); INSERT INTO since VALUES (1)'
PGOPTIONS='-c statement_timeout=0' psql -XqAt "$(app_url "$name")" -c 'SELECT pg_sleep(600)' >/dev/null 2>&1 &
sleeper=$!
until_true session_in "$name"
db restore "$full" --force
check 'but with --force' ended 0
check 'which ends its sessions' not wait "$sleeper"
check 'it is what it was' same "$(sql "$name" "SELECT to_regclass('since') IS NULL, count(*) FROM orders")" "t|$rows"
aside=$(databases "${name//_/\\_}\_before\_%")
check 'the old one is kept aside' same "$(sql "$aside" 'SELECT count(*) FROM since')" 1
check 'and named' err_has "kept as $aside"

sql postgres "CREATE DATABASE ${name}_empty"
db restore "$full" --into "${name}_empty"
check 'an empty database may be filled' ended 0
check 'and nothing is left of it' same "$(databases "${name//_/\\_}\_empty\_before\_%")" ''

sql postgres "CREATE DATABASE ${name}_used"
psql -XqAt "$(url "${name}_used")" -c 'SELECT pg_sleep(60)' >/dev/null 2>&1 &
sleeper=$!
until_true session_in "${name}_used"
db restore "$full" --into "${name}_used"
check 'an empty database that is in use is left alone' complains 8 'in use; --force'
kill "$sleeper"
wait "$sleeper" || true

# A kill between the two renamings: nobody goes on ending the sessions of what is still there.
if [[ -n ${TEST_ADMIN_DATABASE_URL:-} ]]; then
  sent_away() { [[ $(sql postgres "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'DO %pg_terminate_backend%'") == "$1" ]]; }
  psql -XqAt "${TEST_ADMIN_DATABASE_URL%/*}/${name}_empty" -c 'SELECT pg_sleep(60)' >/dev/null 2>&1 & # may not be ended
  sleeper=$!
  "$home/omade" db restore "$full" --into "${name}_empty" --force >/dev/null 2>&1 </dev/null &
  restoring=$!
  check 'sessions are sent away' until_true sent_away 1
  kill -KILL "$restoring"
  wait "$restoring" 2>/dev/null || true
  check 'killed while it ends sessions, it ends no more' until_true sent_away 0
  psql -XqAt "$TEST_ADMIN_DATABASE_URL" -o /dev/null \
    -c "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '${name}_empty' AND query ~ 'pg_sleep'"
  wait "$sleeper" 2>/dev/null || true
fi

# ---- kinds -----------------------------------------------------------------------------

backup --schema
db verify "$file"
check 'a schema verifies' ended 0
db restore "$file" --into "${name}_schema"
check 'a schema restores' same "$(sql "${name}_schema" 'SELECT count(*) FROM orders')" 0
check 'and knows its migrations' same \
  "$(DATABASE_URL=$(url "${name}_schema") "$binary" migrate status | grep -vc '^applied')" 0
backup --data
db verify "$file"
check 'rows verify' ended 0
db restore "$file" --into "${name}_schema"
check 'rows do not replace a database unasked' complains 8 'not empty'
db restore "$file" --into "${name}_schema" --force
check 'but go into the tables of a schema' same "$code $(sql "${name}_schema" 'SELECT count(*) FROM orders')" "0 $rows"
db restore "$file" --into "${name}_none"
check 'rows without tables' complains 1 "no database ${name}_none"
sql "${name}_schema" "INSERT INTO schema_migrations SELECT name, checksum, now() FROM
  (SELECT '999_later' AS name, '' AS checksum) AS x"
db restore "$file" --into "${name}_schema" --force
check 'nor go into tables of other migrations' complains 8 'other migrations'
DATABASE_URL=$(url "${name}_copy")
sql "${name}_copy" 'TRUNCATE newsletter_subscribers'
db restore "$file" --into "${name}_copy" --force
check 'rows restore' ended 0
check 'all of them' same "$(sql "${name}_copy" 'SELECT count(*) FROM newsletter_subscribers')" \
  "$(sql "$name" 'SELECT count(*) FROM newsletter_subscribers')"
DATABASE_URL=$(url "$name")

# ---- damaged and foreign files ---------------------------------------------------------

size=$(stat -c %s "$full")
for at in 3 100 $((size / 2)) $((size - 200)) $((size - 10)); do
  cp "$full" "$work/flipped"
  byte=$(od -An -tu1 -j "$at" -N1 "$full")
  printf '%b' "\\x$(printf %x $(((byte + 1) % 256)))" |
    dd of="$work/flipped" bs=1 seek="$at" conv=notrunc status=none
  db verify "$work/flipped"
  check "a flipped byte at $at is found" complains 7 'flipped'
done
for length in 0 1 72 $((size / 2)) $((size - 1)); do
  head -c "$length" "$full" >"$work/cut"
  db restore "$work/cut" --into "${name}_cut"
  check "a file cut to $length bytes is refused" complains 7 'cut'
done
pg_dump -Fc "$(url "$name")" >"$work/foreign"
echo 'SELECT 1;' >"$work/plain.sql"
db restore "$work/foreign" --into "${name}_cut"
check 'a dump of others is refused' complains 7 'not made by'
db restore "$work/plain.sql" --into "${name}_cut"
check 'plain SQL is refused' complains 7 'psql'
db verify "$work"
check 'a folder is refused' complains 1 'no such file'
check 'none of them left a database' same "$(databases "${name//_/\\_}\_cut%")" ''

forge "$full" 's/("public.reviews": \{[^}]*"rows": )[0-9]+/\19999/; s/("public.products": \{[^}]*"sum": ")/\19/' "$work/other"
db verify "$work/other"
check 'what differs is found' ended 7
check 'a lost row, with its table' out_has '^table public.reviews +9999 .*other number of rows'
check 'other contents' out_has '^table public.products .*other contents'
forge "$full" 's/"row security": \[/"row security": ["public.secrets", /' "$work/unguarded"
db restore "$work/unguarded" --into "$name" --force
check 'a restore that lacks a guard is not used' ended 7
check 'and the guard is named' err_has 'missing: public.secrets'
check 'nothing of it is left' nothing_half

# ---- retention -------------------------------------------------------------------------

cp "$work/foreign" "$place/$name-20200101T000000Z-full.dump" # not whole: not ours
cp "$full" "$place/other-20200101T000000Z-full.dump"
: >"$place/.$name-20200101T000000Z-full.dump.partial"
backup
verified=$file
backup --keep 1
kept=("$place/$name"-2*-full.dump)
check 'the newest is kept, and the newest that was verified, and what is not ours' same "${#kept[@]}" 3
check 'the others are gone' not test -e "$verified"
check 'the one that was verified is there' test -e "$full.verified" -a -e "$full"
verified=$file
db verify "$verified"
backup --keep 1
check 'until a newer one was' same \
  "$(find "$place" -name "$name-*-full.dump*" ! -name '*-20200101T*' | sort | tr '\n' ' ')" \
  "$verified $verified.verified $file "
dotted=$(DATABASE_URL=$(url "$name.d") && sql postgres "CREATE DATABASE \"$name.d\"" && export DATABASE_URL &&
  "$home/omade" db backup --to "$place" 2>/dev/null)
check 'an empty database has a backup, too' test -e "$dotted"
sql postgres "CREATE DATABASE ${name}_d"
db DATABASE_URL="$(url "${name}_d")" backup --to "$place" --keep 1
check 'one whose name differs in a dot is left alone' test "$code" = 0 -a -e "$dotted"
: >"$place/.notes.dump.partial"
backup
check 'and so are files of others' test -e "$place/.notes.dump.partial"
rm "$place/.notes.dump.partial"
check 'other databases are left alone' test -e "$place/other-20200101T000000Z-full.dump"
check 'other kinds, too' test -n "$(find "$place" -name "$name-*-schema.dump")"
check 'leftovers are cleaned' not test -e "$place/.$name-20200101T000000Z-full.dump.partial"
db BACKUP_KEEP=none backup --to "$place"
check 'a wrong number is named' complains 2 "'none'"
full=$file

exec {lock}>>"$place/.lock"
flock "$lock"
db backup --to "$place"
check 'two backups do not share a folder at once' complains 1 'another backup'
exec {lock}>&-
script -qec "$home/omade db backup --to $place" /dev/null >"$work/out" 2>"$work/err" </dev/null
check 'a terminal sees how far it is' out_has 'backup \[[# ]{30}\] +[0-9]+%'

mkdir "$work/it's a path" "$work/it's temporary"
cp -r "$home/omade" "$home/deploy" "$work/it's a path"
db_there() {
  code=0
  env TMPDIR="$work/it's temporary" OMADE_BINARY="$binary" "$work/it's a path/omade" db "$@" >"$work/out" 2>"$work/err" </dev/null || code=$?
}
db_there backup --to "$work/it's a path/for \"backups\""
check 'a path may have quotes and blanks' ended 0
db_there verify "$(<"$work/out")"
check 'also for verify' ended 0
check 'which leaves nothing in the temporary folder' same "$(ls -A "$work/it's temporary")" ''
db DATABASE_URL="$(app_url "$name")" backup --to "$place"
check 'who may not read everything is told so' complains 1 'permission denied|row-level security'

# ---- roles -----------------------------------------------------------------------------

if [[ -n ${TEST_ADMIN_DATABASE_URL:-} ]]; then
  admin=${TEST_ADMIN_DATABASE_URL%/*}
  psql -Xq "$admin/postgres" -c "CREATE ROLE $name LOGIN" -c "ALTER ROLE $name SET work_mem = '6MB'" \
    -c "GRANT app_user TO $name" -c "CREATE DATABASE ${name}_roles OWNER ${connect[1]}"
  sql "${name}_roles" "CREATE TABLE small (id integer); GRANT SELECT ON small TO $name"
  db DATABASE_URL="$(url "${name}_roles")" backup --to "$place"
  roles=$(<"$work/out")
  psql -Xq "$admin/${name}_roles" -c "DROP OWNED BY $name" -c "DROP ROLE $name"
  db restore "$roles" --into "${name}_roles2"
  check 'who may not make the missing roles is told what to run' complains 1 "CREATE ROLE $name LOGIN;"
  db DATABASE_URL="$admin/postgres" restore "$roles" --into "${name}_roles2"
  check 'a superuser makes them' err_has "made the role $name, without a password"
  check 'with settings, memberships and rights' same "$(sql "${name}_roles2" "SELECT rolconfig,
    pg_has_role(oid, 'app_user', 'MEMBER'), has_table_privilege(oid, 'small', 'SELECT')
    FROM pg_roles WHERE rolname = '$name'")" '{work_mem=6MB}|t|t'
  psql -Xq "$admin/${name}_roles2" -c "DROP OWNED BY $name"
  psql -Xq "$admin/postgres" -c "DROP ROLE $name"
  psql -Xq "$admin/postgres" -c 'CREATE DATABASE omade_verify_99999999'
  db verify "$full"
  check 'a database of that kind that is another'\''s is in nobody'\''s way' ended 0
  psql -Xq "$admin/postgres" -c 'DROP DATABASE omade_verify_99999999'
fi

# ---- killed at any time ----------------------------------------------------------------

# Every process that the command started dies with it.
killed_after() { # SECONDS ARGUMENTS
  "$home/omade" db "${@:2}" >/dev/null 2>&1 </dev/null &
  local pid=$!
  sleep "$1"
  kill -KILL "$pid" 2>/dev/null || true
  wait "$pid" 2>/dev/null || true
}

sql "$name" 'CREATE TABLE IF NOT EXISTS since (id integer)'
for delay in 0.05 0.15 0.25 0.35 0.5; do
  killed_after "$delay" backup --to "$place"
  for one in "$place/$name"-*.dump; do
    [[ $one == *-20200101T* ]] || check "killed after $delay s: $one is whole" same \
      "$(head -c -72 "$one" | sha256sum | cut -d' ' -f1)" "$(tail -c 65 "$one")"
  done
done
for delay in 0.1 0.2 0.3 0.4 0.5 0.7 0.9; do
  killed_after "$delay" restore "$full" --into "${name}_killed"
  one=$(databases "${name//_/\\_}\_killed")
  [[ -z $one ]] || check "killed after $delay s: the database is whole" same \
    "$(sql "${name}_killed" 'SELECT count(*) FROM orders')" "$rows"
  [[ -z $one ]] || sql postgres "DROP DATABASE ${name}_killed WITH (FORCE)"
  killed_after "$delay" restore "$full" --force
  check "killed after $delay s: the target is the old one or the new one" same \
    "$(sql "$name" 'SELECT count(*) FROM orders')" "$rows"
done
timeout -s TERM 0.4 "$home/omade" db restore "$full" --into "${name}_killed" >/dev/null 2>&1 || true
backup
db verify "$file"
check 'the next commands work' ended 0
check 'and clean up after the killed ones' nothing_half

# ---- what is not there -----------------------------------------------------------------

db DATABASE_URL="$(url "${name}_none")" backup --to "$place"
check 'a database that does not exist' complains 1 "${name}_none.* does not exist"
db DATABASE_URL=postgres://omade_owner:x@127.0.0.1:1/none backup --to "$place"
check 'a database that is away' complains 3 'does not answer'
check 'leaves nothing' nothing_half
db backup --to /proc/none
check 'a folder that cannot be made' complains 4 '/proc/none'
mkdir "$work/old"
printf '#!/bin/sh\necho "pg_dump (PostgreSQL) 9.6.1"\n' >"$work/old/pg_dump"
ln -s "$(compgen -G '/usr/lib/postgresql/*/bin/psql' | sort -V | tail -n 1)" "$work/old/psql"
chmod +x "$work/old/pg_dump"
db PG_BIN="$work/old" backup --to "$place"
check 'a pg_dump that is too old' complains 6 'pg_dump .* 9.6.1, too old'
db restore
check 'no file' complains 2 'a file is expected'
db restore "$file" --into template1
check 'the server'\''s own databases' complains 2 template1
db backup --frob
check 'an unknown option' complains 2 frob
db backup --help
check 'help' out_has '^usage: ./omade db backup'
if ((EUID == 0)) && mkdir "$work/small" && mount -t tmpfs -o size=128k none "$work/small" 2>/dev/null; then
  mounted=$work/small
  db backup --to "$work/small"
  check 'a full disk' complains 5 'small is full'
  check 'has nothing of a backup on it' same "$(find "$work/small" -name '*dump*')" ''
  head -c 1M /dev/zero >"$work/small/fill" 2>/dev/null || true
  db TMPDIR="$work/small" backup --to "$place"
  check 'or of temporary files, is told' complains 5 "small"
fi

# ---- in plain SQL: docs/operations.md, as printed --------------------------------------

printed() { # HEADING: its block of commands, on this server
  awk -v heading="### $1" '$0 == heading { on = 1; next } /^#/ && on && !code { exit }
    /^```/ && on { if (code) exit; code = 1; next } code' "$home/docs/operations.md" |
    sed -E "s/-h localhost -U username/-h ${connect[3]} -p ${connect[4]} -U ${connect[1]}/; s/omade_cravings_prod/$2/g; s/20240115/$(date +%Y%m%d)/"
}

mkdir "$work/plain"
cd "$work/plain"
code=0
printed 'Plain SQL: backup' "$name" >backup.sh
check 'the plain backups are printed' same "$(grep -c pg_dump backup.sh)" 4
bash -euo pipefail backup.sh >"$work/out" 2>"$work/err" || code=$?
check 'the plain backups work' ended 0
check 'into four files' same "$(find . -name '*backup*.sql*' -size +2k | wc -l)" 4
check 'the schema alone has no rows' not grep -q '^COPY ' schema_backup.sql
check 'the rows alone have no tables' not grep -q '^CREATE TABLE' data_backup.sql
printed 'Plain SQL: restore' "${name}_plain" >restore.sh
check 'the plain restores are printed' same "$(grep -c psql restore.sh)" 2
while IFS= read -r line; do
  [[ $line == *psql* ]] || continue
  sql postgres "DROP DATABASE IF EXISTS ${name}_plain"
  sql postgres "CREATE DATABASE ${name}_plain"
  code=0
  bash -c "$line" >"$work/out" 2>"$work/err" || code=$?
  check "works: $line" same "$code $(sql "${name}_plain" 'SELECT count(*) FROM orders')" "0 $rows"
done <restore.sh

finish_test
