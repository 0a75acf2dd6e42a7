# shellcheck shell=bash disable=SC2015,SC2154
# lib-backup.sh -- the launcher's `db backup`, `db restore` and `db verify`.
#
# A backup is one file: an archive of pg_dump in its custom format, which pg_restore reads
# as it is, and behind it two lines:
#
#   {"format":"omade-backup-1","tables":{...},...}    the manifest, see backup/manifest.sql
#   sha256 HEX                                        of every byte before this line
#
# The manifest is a survey (backup/survey.sql) of the very snapshot that was dumped.
# Whatever is being made has another name until it is whole: a backup is .NAME.partial and
# becomes NAME by one rename, a restored database is omade_restore_PID and becomes the
# target in one transaction.  Leftovers of a kill are removed by the next command; those of
# a process that lives are told by a lock that ends with it (flock, advisory lock).

readonly AWAY=3 PLACE=4 FULL=5 VERSION=6 DAMAGED=7 REFUSED=8
readonly TRAILER_BYTES=72 STAMP='-[0-9]{8}T[0-9]{6}Z'
readonly ADVISORY="hashtextextended('omade scratch ' || name, 0)"

server='' database='' pgbin='' place='' partial='' scratch='' temporary='' job='' to='' from=''

# ---- words -----------------------------------------------------------------------------

backup_help() { # backup | restore | verify
  case $1 in
    backup)
      cat <<'TEXT'
usage: ./omade db backup [--full|--schema|--data] [--to DIR] [--keep N]
Writes a compressed backup of DATABASE_URL's database and prints its path.

  --full      everything (the usual)
  --schema    tables, functions and rights without rows
  --data      rows only; to be restored into a database with the same migrations
  --to DIR    the folder; else BACKUP_DIR, else backups/ in OMADE_STATE_DIR
  --keep N    afterwards removes this database's older backups of the same kind, but for
              the newest N and the newest that was verified; else BACKUP_KEEP, else all
              are kept
TEXT
      ;;
    restore)
      cat <<'TEXT'
usage: ./omade db restore FILE [--into NAME] [--force]
Restores into a new database, verifies it, and gives it the name in one step.

  --into NAME  the database to become; else DATABASE_URL's
  --force      where NAME exists and is not empty: ends its sessions and renames it to
               NAME_before_DATE_TIME, which is kept; drop it when it is no longer wanted
TEXT
      ;;
    verify)
      cat <<'TEXT'
usage: ./omade db verify FILE
Checks the file's checksum, restores it into a scratch database, compares rows and contents
of every table, constraints, row-level security, policies and grants with what was backed
up, prints the comparison and drops the scratch database.  FILE.verified, beside a file that
is right, tells --keep which.
TEXT
      ;;
  esac
  cat <<'TEXT'

Exit codes: 0 done; 1 another failure; 2 wrong usage; 3 the database is away; 4 the folder
cannot be written; 5 a disk is full; 6 wrong version of PostgreSQL's programs; 7 the file is
damaged, foreign, or restores to something else; 8 refused, since it would overwrite.
DATABASE_URL is the owner's, who needs CREATEDB for restore and verify.
TEXT
}

fail() { # CODE MESSAGE
  say "${*:2}"
  exit "$1"
}

fault_in() { # LOG: its first error, in one line; pg_restore names the statement after it
  local line
  line=$(grep -aEm 1 'error:|ERROR:|FATAL:|PANIC:' "$1" || grep -a . "$1" | tail -n 1) || true
  printf '%s' "${line:-it ended without a word}"
}

give_up() { # WHAT LOG: the exit code tells the cause
  local fault code=1
  [[ -s $2 ]] || { echo >"$temporary/room"; } 2>/dev/null || temporary_full
  fault=$(fault_in "$2")
  case $fault in
    *'No space left on device'*) fail "$FULL" "$1: the disk${place:+ of $place} is full: make room" ;;
    *'" does not exist' | *'authentication failed'* | *'no password supplied'*) ;;
    *'connection to server'* | *'server closed the connection'* | *'terminating connection'* | \
      *'could not translate host'* | *'the database system is'* | *'connection not open'*)
      fail "$AWAY" "$1: the database does not answer: $fault"
      ;;
    *'version mismatch'* | *'unsupported version'*) code=$VERSION ;;
    *'pg_restore: error: could not read'* | *'could not uncompress'* | *'corrupt'* | *'not appear to be a valid archive'*)
      code=$DAMAGED
      ;;
  esac
  fail "$code" "$1: $fault"
}

temporary_full() { fail "$FULL" "${doing:-db $verb}: nothing can be written to ${TMPDIR:-/tmp}: make room"; }

human() { numfmt --to=iec --suffix=B "$1"; }

# ---- the server ------------------------------------------------------------------------

# Arguments can be seen by others, the environment cannot; and the database changes from
# call to call.  Hence a URL without both, PGPASSWORD and PGDATABASE.
split_url() {
  local pattern='^(postgres(ql)?://)(([^:/@?]*)(:([^@/?]*))?@)?([^/?@]*)(/([^?]*))?(\?.*)?$'
  [[ $DATABASE_URL =~ $pattern ]] || die 'DATABASE_URL is not of the form postgres://user@host/database'
  server=${BASH_REMATCH[1]}${BASH_REMATCH[4]:+${BASH_REMATCH[4]}@}${BASH_REMATCH[7]}${BASH_REMATCH[10]}
  database=$(decoded "${BASH_REMATCH[9]:-${BASH_REMATCH[4]}}")
  if [[ -n ${BASH_REMATCH[6]} ]]; then
    PGPASSWORD=$(decoded "${BASH_REMATCH[6]}")
    export PGPASSWORD
  fi
  [[ -n $database ]] || die 'DATABASE_URL names no database'
  export PGCONNECT_TIMEOUT=10 PGAPPNAME=omade
}

decoded() { # PERCENT-ENCODED
  local text=${1//\\/\\\\}
  printf '%b' "${text//%/\\x}"
}

use_database() {
  if [[ -n $(setting DATABASE_URL) ]]; then
    DATABASE_URL=$(setting DATABASE_URL)
    export DATABASE_URL
    services_place "$(setting OMADE_STATE_DIR)"
  else
    [[ -z $(setting APP_DATABASE_URL) ]] || die 'DATABASE_URL is not set: backups are the owner'\''s'
    services_place "$(setting OMADE_STATE_DIR)"
    need_packages "${SERVICE_PACKAGES[@]}"
    services_up postgres
  fi
  split_url
  pgbin=$(setting PG_BIN)
  [[ -n $pgbin ]] || pgbin=$(compgen -G '/usr/lib/postgresql/*/bin' | sort -V | tail -n 1) ||
    pgbin=$(dirname "$(command -v pg_dump)") || fail "$VERSION" 'there is no pg_dump: install postgresql-client'
}

# A program, which ends with this shell however that ends.
program() { # DATABASE NAME ARGUMENTS
  exec setpriv --pdeathsig KILL -- env PGDATABASE="$1" "$pgbin/$2" "${@:3}" 8>&- 9>&-
}

query() { # DATABASE PSQL-ARGUMENTS: faults go to temporary/psql.log
  (program "$1" psql -XqAt -F $'\t' -v ON_ERROR_STOP=1 "$server" "${@:2}" 2>"$temporary/psql.log")
}

# One session at a time stays open: for a snapshot, or for a lock.
open_session() { # DATABASE
  coproc SESSION { program "$1" psql -XqAt -F $'\t' -v ON_ERROR_STOP=1 "$server" 2>"$temporary/session.log"; }
  session=$SESSION_PID
  exec {to}>&"${SESSION[1]}" {from}<&"${SESSION[0]}"
}

tell() { # SQL LINES
  { printf '%s\n' "$@" "SELECT '=omade=';" >&"$to"; } 2>/dev/null || session_lost
}

heard() { # sets answer
  local line
  answer=''
  while IFS= read -r line <&"$from"; do
    [[ $line != =omade= ]] || return 0
    answer+=${answer:+$'\n'}$line
  done
  session_lost
}

ask() { # SQL LINES: sets answer
  tell "$@"
  heard
}

session_lost() {
  wait "$session" || true
  [[ -z $job ]] || end "$job"
  job=''
  give_up "${doing:-the database}" "$temporary/session.log"
}

close_session() {
  { printf '%s\n' '\q' >&"$to"; } 2>/dev/null || true
  exec {to}>&- {from}<&-
  to='' from=''
  wait "$session" || true
}

psql_word() { printf "'%s'" "${1//\'/\'\'}"; } # an argument of psql's own commands

end() { # PID: of a child, whatever it is doing
  kill -KILL "$1" 2>/dev/null || true
  wait "$1" 2>/dev/null || true
}

check_versions() { # what reads a server must not be older than it
  local wanted own
  ask 'SHOW server_version_num;'
  wanted=$((answer / 10000))
  if [[ -z $(setting PG_BIN) && -x /usr/lib/postgresql/$wanted/bin/pg_dump ]]; then
    pgbin=/usr/lib/postgresql/$wanted/bin
  fi
  dump_version=$("$pgbin/pg_dump" --version 2>/dev/null | sed -nE 's/^[^)]*\) ([0-9.a-z]+).*/\1/p') || true
  own=${dump_version%%[!0-9]*}
  ((${own:-0} >= wanted)) ||
    fail "$VERSION" "pg_dump in $pgbin is ${dump_version:-missing}, too old for the server's $wanted: install postgresql-client-$wanted"
}

# ---- progress --------------------------------------------------------------------------

launch() { # LOG COMMAND: sets job
  : >"$1"
  "${@:2}" </dev/null >/dev/null 2>>"$1" &
  job=$!
}

declare -A table_bytes=()
read_sizes() { # LINES: name TAB bytes; sets all_bytes
  local name bytes
  all_bytes=1
  while IFS=$'\t' read -r name bytes; do
    [[ -n $name ]] || continue
    table_bytes[$name]=$bytes
    all_bytes=$((all_bytes + bytes))
  done <<<"$1"
}

phase() { # WORDS: what takes its time without a measure, on a terminal
  [[ ! -t 2 ]] || printf '\r\e[K%s' "$1" >&2
}

# Returns the job's exit code.  Of a table that is being worked on nobody knows how far: it
# counts when the next one begins.
await() { # WHAT LOG PATTERN: which finds the table in a line of the log
  local status=0 reader line now='' before=0 percent bar
  if [[ -t 2 ]]; then
    exec {reader}<"$2"
    while kill -0 "$job" 2>/dev/null; do
      while IFS= read -r line <&"$reader"; do
        [[ $line =~ $3 ]] || continue
        [[ -z $now ]] || before=$((before + ${table_bytes[$now]:-0}))
        now=${BASH_REMATCH[1]}
      done
      percent=$((100 * before / all_bytes))
      printf -v bar '%*s' $((percent * 3 / 10)) ''
      printf '\r\e[K%s [%-30s] %3d%%  %s' "$1" "${bar// /#}" "$percent" "$now" >&2
      sleep 0.1
    done
    exec {reader}<&-
    printf '\r\e[K' >&2
  fi
  wait "$job" || status=$?
  job=''
  return "$status"
}

# ---- backup ----------------------------------------------------------------------------

kind='' keep=''
take_backup_options() {
  while (($#)); do
    case $1 in
      --full | --schema | --data)
        [[ -z $kind || $kind == "${1#--}" ]] || usage_fault "$1 and --$kind exclude each other"
        kind=${1#--}
        ;;
      --to | --keep)
        (($# > 1)) && [[ -n $2 ]] || usage_fault "a value is missing after $1"
        if [[ $1 == --to ]]; then place=$2; else keep=$2; fi
        shift
        ;;
      --to=?*) place=${1#*=} ;;
      --keep=?*) keep=${1#*=} ;;
      *) usage_fault "unexpected argument $1" ;;
    esac
    shift
  done
  kind=${kind:-full}
  keep=${keep:-$(setting BACKUP_KEEP)}
  [[ -z $keep || $keep =~ ^[1-9][0-9]{0,5}$ ]] ||
    usage_fault "the number of backups to keep is '$keep', not a number from 1"
}

usage_fault() { # PROBLEM
  say "db $verb: $1; see ./omade db $verb --help"
  exit 2
}

open_place() {
  place=${place:-$(setting BACKUP_DIR)}
  place=$(realpath -m -- "${place:-$state/backups}")
  local probe
  (umask 077 && mkdir -p "$place") 2>/dev/null && [[ -d $place ]] ||
    fail "$PLACE" "the folder $place cannot be made"
  probe=$(mktemp "$place/.probe.XXXXXX" 2>/dev/null) && rm -f "$probe" ||
    if (($(env -C / df --output=iavail "$place" | tail -n 1) == 0)); then
      fail "$FULL" "the disk of $place is full: make room"
    else
      fail "$PLACE" "the folder $place cannot be written"
    fi
  { exec {place_lock}>>"$place/.lock"; } 2>/dev/null || fail "$PLACE" "$place/.lock cannot be written"
  give_to_owner "$place/.lock"
  flock -n "$place_lock" || die "another backup is being written to $place"
  find "$place" -maxdepth 1 -type f -regextype posix-extended \
    -regex ".*/\.[A-Za-z0-9_-]+$STAMP-(full|schema|data)\.dump\.partial" -delete
}

dump_command() { # DATABASE SNAPSHOT
  local only=()
  [[ $kind != schema ]] || only=(--schema-only)
  [[ $kind != data ]] || only=(--data-only)
  program "$1" pg_dump -d "$server" --format=custom --verbose --lock-wait-timeout=60s \
    --snapshot="$2" "${only[@]}" --file="$partial"
}

# What root makes in somebody else's folder is his, who will verify it and remove it.
give_to_owner() { # FILE
  ((EUID != 0)) || chown --reference="$place" "$1" 2>/dev/null || true
}

# Two backups within a second: the second one waits for its name.
name_backup() { # sets final and partial
  local safe=${database//[^A-Za-z0-9_-]/_}
  while :; do
    final=$place/$safe-$(date -u +%Y%m%dT%H%M%SZ)-$kind.dump
    [[ -e $final ]] || break
    sleep 0.1
  done
  partial=$place/.${final##*/}.partial
}

append() { # LINE: to what will be the backup
  { printf '%s\n' "$1" >>"$partial"; } 2>"$temporary/append.log" || give_up "$doing" "$temporary/append.log"
}

seal() { # MANIFEST: appends it and the checksum
  local sum
  give_to_owner "$partial"
  append $'\n{"dump_bytes":'"$(stat -c %s "$partial"),\"pg_dump\":\"$dump_version\",${1#\{}"
  sum=$(sha256sum <"$partial")
  append "sha256 ${sum%% *}"
  sync "$partial" 2>"$temporary/append.log" || give_up "$doing" "$temporary/append.log"
}

# Only what is whole, of this database and this kind; never the one just made, nor the newest
# that was verified.
retain() {
  local safe=${database//[^A-Za-z0-9_-]/_} old count=1 verified=''
  [[ -n $keep ]] || return 0
  while read -r old; do
    [[ $old =~ ^$safe$STAMP-$kind\.dump$ && $place/$old != "$final" ]] || continue
    has_trailer "$place/$old" && is_of "$database" "$place/$old" || continue
    if [[ -z $verified && -e $place/$old.verified ]]; then
      verified=$old
      ((count < keep)) || continue
    fi
    ((++count > keep)) || continue
    rm -f "$place/$old" "$place/$old.verified"
    say "removed $place/$old"
  done < <(find "$place" -maxdepth 1 -type f -name '*.dump' -printf '%f\n' | sort -r)
}

command_backup() {
  local doing='the backup' final manifest rows began=$SECONDS
  take_backup_options "$@"
  use_database
  open_place
  open_session "$database"
  ask "SELECT set_config('omade.kind', '$kind', false);"
  check_versions
  ask 'SET idle_in_transaction_session_timeout = 0; SET statement_timeout = 0;' \
    'BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT pg_export_snapshot();'
  local snapshot=$answer
  ask "SELECT schemaname || '.' || tablename, pg_table_size(format('%I.%I', schemaname, tablename)::regclass)
    FROM pg_tables WHERE schemaname !~ '^pg_' AND schemaname <> 'information_schema';"
  read_sizes "$answer"
  name_backup
  (umask 077 && : >"$partial") 2>/dev/null || fail "$PLACE" "the folder $place cannot be written"
  launch "$temporary/dump.log" dump_command "$database" "$snapshot"
  tell "\\i $(psql_word "$root/deploy/backup/survey.sql")" \
    "\\o $(psql_word "$temporary/manifest")" \
    "\\i $(psql_word "$root/deploy/backup/manifest.sql")" '\o'
  await 'backup' "$temporary/dump.log" 'dumping contents of table "(.*)"' || {
    kill -0 "$session" 2>/dev/null || session_lost # and with it the snapshot
    give_up "$doing" "$temporary/dump.log"
  }
  phase 'backup: summing up'
  heard
  phase ''
  close_session
  manifest=$(<"$temporary/manifest")
  [[ $manifest == '{'*'}' ]] || temporary_full
  seal "$manifest"
  mv -T "$partial" "$final"
  partial=''
  sync "$place"
  rows=$(awk -v RS='"rows": ' 'NR > 1 { n += $1 } END { print n + 0 }' <<<"$manifest")
  say "backed up $database: $rows rows, $(human "$(stat -c %s "$final")"), $((SECONDS - began)) s"
  printf '%s\n' "$final"
  retain
}

# ---- a backup's file -------------------------------------------------------------------

has_trailer() { # FILE
  [[ $(head -c 5 "$1" | tr -d '\0') == PGDMP ]] &&
    [[ $(tail -c "$TRAILER_BYTES" "$1" | tr -d '\0') =~ ^'sha256 '[0-9a-f]{64}$ ]]
}

is_of() { # DATABASE FILE: which has a trailer
  local line name=${1//\\/\\\\}
  line=$(tail -n 2 "$2" | head -n 1 | grep -aoE '"database": "([^"\\]|\\.)*"') || return 1
  [[ $line == "\"database\": \"${name//\"/\\\"}\"" ]]
}

check_file() { # FILE: writes temporary/manifest
  local size sum
  [[ -f $1 && -r $1 ]] || fail 1 "$1: there is no such file that can be read"
  size=$(stat -Lc %s "$1")
  ((size > 0)) || fail "$DAMAGED" "$1 is empty"
  [[ $(head -c 5 "$1" | tr -d '\0') == PGDMP ]] ||
    fail "$DAMAGED" "$1 was not made by ./omade db backup (plain SQL is for psql)"
  has_trailer "$1" ||
    fail "$DAMAGED" "$1 has no checksum at its end: it is cut off, or not made by ./omade db backup"
  sum=$(head -c "$((size - TRAILER_BYTES))" "$1" | sha256sum)
  [[ $(tail -c 65 "$1") == "${sum%% *}" ]] || fail "$DAMAGED" "$1 is damaged: its checksum differs"
  { tail -n 2 "$1" | head -n 1 >"$temporary/manifest"; } 2>/dev/null || temporary_full
  grep -q '"format": "omade-backup-1"' "$temporary/manifest" ||
    fail "$DAMAGED" "$1 has a manifest of another version"
  export OMADE_MANIFEST=$temporary/manifest
}

readonly SET_MANIFEST="\\set manifest \`cat \"\$OMADE_MANIFEST\"\`"

with_manifest() { # DATABASE FILE OF deploy/backup
  { printf '%s\n' "$SET_MANIFEST" && cat "$root/deploy/backup/$2"; } | query "$1" "${@:3}" -f -
}

# ---- restoring into a database of its own ----------------------------------------------

drop_leftovers() {
  local name
  ask "SELECT datname FROM pg_database WHERE datname ~ '^omade_(restore|verify)_[0-9]+\$'
       AND pg_has_role(datdba, 'MEMBER');"
  for name in $answer; do
    ask "SELECT pg_try_advisory_lock($ADVISORY) FROM (VALUES ('$name')) AS v (name);"
    [[ $answer == t ]] || continue
    drop_database "$name"
    ask "SELECT pg_advisory_unlock($ADVISORY) FROM (VALUES ('$name')) AS v (name);"
  done
}

# Ends what sessions this role may end.  WITH (FORCE) would give up on the first other one,
# such as autovacuum's, which a DROP DATABASE without it sends away.
readonly END_SESSIONS="SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
  WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND pg_has_role(usesysid, 'MEMBER')"

drop_database() { # NAME
  query postgres -c "$END_SESSIONS AND datname = '$1'" -c "DROP DATABASE IF EXISTS $1" >/dev/null ||
    say "the database $1 could not be dropped; the next restore or verify will"
}

# Connected to a database that is never the target.
open_server() {
  if query postgres -c 'SELECT 1' >/dev/null; then
    open_session postgres
  else
    grep -qE 'database "postgres" does not exist|permission denied for database' "$temporary/psql.log" ||
      give_up "$doing" "$temporary/psql.log"
    open_session template1
  fi
  check_versions
  drop_leftovers
}

make_scratch() { # NAME
  ask "SELECT pg_try_advisory_lock($ADVISORY) FROM (VALUES ('$1')) AS v (name);"
  [[ $answer == t ]] || fail 1 "another command is at work in the database $1"
  ask "$SET_MANIFEST" \
    "SELECT m ->> 'kind', m ->> 'database', m ->> 'taken_at', coalesce(m ->> 'migrations', '-')
     FROM (SELECT :'manifest'::jsonb AS m) AS x;"
  IFS=$'\t' read -r kind source_name taken_at migrations <<<"$answer"
  ask "SELECT replace(t.key, '\"', ''), t.value ->> 'bytes' FROM jsonb_each(:'manifest'::jsonb -> 'tables') AS t;"
  read_sizes "$answer"
  with_manifest postgres roles.sql >&2 || {
    ! grep -q 'permission denied to create role' "$temporary/psql.log" || fail 1 "$(missing_roles)"
    give_up "$doing" "$temporary/psql.log"
  }
  scratch=$1
  # The default template has what only a superuser can install; with another encoding or
  # locale than the backup's, the other template is the one that fits.
  ask "SELECT CASE WHEN pg_encoding_to_char(d.encoding) = m ->> 'encoding' AND d.datcollate = m ->> 'collate'
                    AND d.datctype = m ->> 'ctype' THEN 'template1' ELSE 'template0' END AS template,
              m ->> 'encoding' AS encoding, m ->> 'collate' AS lc_collate, m ->> 'ctype' AS lc_ctype,
              m ->> 'owner' AS owner
       FROM (SELECT :'manifest'::jsonb AS m) AS x, pg_database d WHERE d.datname = 'template1' \\gset" \
    "CREATE DATABASE $scratch OWNER :\"owner\" TEMPLATE :template ENCODING :'encoding'
       LC_COLLATE :'lc_collate' LC_CTYPE :'lc_ctype';"
}

missing_roles() {
  ask "SELECT 'roles are missing; restore as a superuser, or let one run: ' || string_agg(format('CREATE ROLE %I%s;', r ->> 'name',
         CASE WHEN (r -> 'login')::boolean THEN ' LOGIN' END), ' ')
       FROM jsonb_array_elements(:'manifest'::jsonb -> 'roles') AS r
       WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = r ->> 'name');"
  printf '%s' "$answer"
}

# Extensions of the usual schemas are made here: one that only a superuser may make, and
# that nothing depends on, must not stop a restore.
make_extensions() { # ARCHIVE: writes temporary/list, the archive's contents without them
  local name fault
  "$pgbin/pg_restore" --list "$1" >"$temporary/all" 2>"$temporary/restore.log" ||
    give_up "$doing" "$temporary/restore.log"
  grep -v ' COMMENT - EXTENSION ' "$temporary/all" >"$temporary/list" || true
  ask "SELECT e.key, e.value FROM jsonb_each_text(:'manifest'::jsonb -> 'extensions') AS e
       WHERE e.value IN ('public', 'pg_catalog') AND e.key <> 'plpgsql';"
  while IFS=$'\t' read -r name schema; do
    [[ -n $name ]] || continue
    query "$scratch" -c "CREATE EXTENSION IF NOT EXISTS \"$name\" SCHEMA $schema" || {
      fault=$(fault_in "$temporary/psql.log")
      say "note: the extension $name is not there: ${fault#*ERROR:  }"
    }
    grep -v " EXTENSION - $name \$" "$temporary/list" >"$temporary/less" || true
    mv "$temporary/less" "$temporary/list"
  done <<<"$answer"
}

# Nothing waits for the disk at each statement: the renaming does, for all before it.
pour_command() { # ARCHIVE OPTIONS
  export PGOPTIONS="${PGOPTIONS:-} -c synchronous_commit=off"
  program "$scratch" pg_restore -d "$server" --exit-on-error --verbose --no-publications \
    --no-subscriptions "${@:2}" "$1"
}

pour() { # ARCHIVE OPTIONS
  launch "$temporary/restore.log" pour_command "$@"
  await "$verb" "$temporary/restore.log" 'processing data for table "(.*)"' ||
    give_up "$doing" "$temporary/restore.log"
}

# Rows go between tables and triggers, so that no trigger sees them: for rows alone, the
# tables and the triggers are those of another database.
fill_data() { # FILE DATABASE-WITH-THE-SCHEMA
  local have
  [[ -n $(query postgres -c "SELECT 1 FROM pg_database WHERE datname = '${2//\'/\'\'}'") ]] ||
    fail 1 "the rows need tables, and there is no database $2: restore a --schema backup first, or ./omade migrate"
  have=$(query "$2" -c "SELECT CASE WHEN to_regclass('public.schema_migrations') IS NULL THEN '-' ELSE
    (xpath('//n/text()', query_to_xml('SELECT json_agg(name ORDER BY name)::jsonb AS n
     FROM public.schema_migrations', false, false, '')))[1]::text END") ||
    give_up "the rows need the tables of $2" "$temporary/psql.log"
  [[ $have == "$migrations" ]] ||
    fail "$REFUSED" "the rows are of other migrations than the tables of $2: ./omade migrate first"
  launch "$temporary/dump.log" program "$2" pg_dump -d "$server" --format=custom --schema-only \
    --lock-wait-timeout=60s --file="$temporary/schema"
  await "$verb" "$temporary/dump.log" '^$' || give_up "$doing" "$temporary/dump.log"
  make_extensions "$temporary/schema"
  pour "$temporary/schema" --section=pre-data --use-list="$temporary/list"
  pour "$1" --data-only
  pour "$temporary/schema" --section=post-data --use-list="$temporary/list"
  query "$scratch" -f - >/dev/null <<<"SELECT format('REFRESH MATERIALIZED VIEW %s', oid::regclass)
    FROM pg_class WHERE relkind = 'm' AND NOT relispopulated ORDER BY oid \\gexec" ||
    give_up "$doing" "$temporary/psql.log"
}

fill_scratch() { # FILE DATABASE-WITH-THE-SCHEMA
  if [[ $kind == data ]]; then
    fill_data "$1" "$2"
  else
    make_extensions "$1"
    pour "$1" --use-list="$temporary/list"
  fi
  with_manifest "$scratch" database.sql >/dev/null || give_up "$doing" "$temporary/psql.log"
}

compare() { # writes temporary/compared; fails when something differs
  phase "$verb: comparing"
  { printf '%s\n' "$SET_MANIFEST" "SELECT set_config('omade.kind', '$kind', false) \\g /dev/null" &&
    cat "$root/deploy/backup/survey.sql" "$root/deploy/backup/compare.sql"; } |
    query "$scratch" -f - >"$temporary/compared" || {
    phase ''
    give_up "$doing" "$temporary/psql.log"
  }
  phase ''
  [[ -s $temporary/compared ]] || fail 1 "$doing: nothing was compared"
  ! grep -qvP '\tok$' "$temporary/compared"
}

drop_scratch() {
  [[ -n $scratch ]] || return 0
  drop_database "$scratch"
  scratch=''
}

# ---- verify ----------------------------------------------------------------------------

command_verify() {
  local doing='the verification' status=0 what wanted found verdict
  (($# == 1)) && [[ $1 != -* ]] || usage_fault 'one file is expected'
  check_file "$1"
  use_database
  open_server
  make_scratch "omade_verify_$$"
  fill_scratch "$1" "$database"
  compare || status=$DAMAGED
  printf '%-44s %12s %12s  %s\n' "$kind backup of $source_name, $taken_at" 'backed up' restored ''
  while IFS=$'\t' read -r what wanted found verdict; do
    printf '%-44s %12s %12s  %s\n' "$what" "$wanted" "$found" "$verdict"
  done <"$temporary/compared"
  ((status)) || { : >"$1.verified"; } 2>/dev/null || true
  ((status == 0)) || say "$1 restores to something else: $(grep -cvP '\tok$' "$temporary/compared") differences"
  return "$status"
}

# ---- restore ---------------------------------------------------------------------------

target='' force='' file=''
take_restore_options() {
  while (($#)); do
    case $1 in
      --into)
        (($# > 1)) || usage_fault 'a value is missing after --into'
        target=$2
        shift
        ;;
      --into=*) target=${1#*=} ;;
      --force) force=yes ;;
      -*) usage_fault "unknown option $1" ;;
      *)
        [[ -z $file ]] || usage_fault "one file is expected, not also $1"
        file=$1
        ;;
    esac
    shift
  done
  [[ -n $file ]] || usage_fault 'a file is expected'
  [[ -z $target || $target =~ ^[A-Za-z_][A-Za-z0-9_-]{0,62}$ ]] ||
    usage_fault "'$target' is no name for a database: letters, digits, _ and -"
  [[ ! $target =~ ^(postgres|template[01]|omade_(restore|verify)_[0-9]+)$ ]] ||
    usage_fault "'$target' is the server's own"
}

readonly RENAME_SECONDS=20
readonly COUNT_THINGS="SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND NOT EXISTS (
    SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')"

look_at_target() { # sets target_oid, if it exists, and target_empty
  local count
  target_oid='' target_empty=''
  ask "SELECT oid FROM pg_database WHERE datname = '$target';"
  target_oid=$answer
  [[ -n $target_oid ]] || return 0
  count=$(query "$target" -c "$COUNT_THINGS") || count=unknown
  [[ $count != 0 ]] || target_empty=yes
}

# Renaming locks the database: nobody new gets in while those inside are sent away, and
# whoever waited finds the new one.
send_away() { # for no longer than the renaming waits, even when this shell is gone
  program postgres psql -Xq "$server" -c 'SET client_connection_check_interval = 1000' -c "DO \$\$ BEGIN
    FOR i IN 1..${RENAME_SECONDS}0 LOOP
      PERFORM 1 FROM pg_database WHERE oid = $target_oid AND datname = '$target';
      EXIT WHEN NOT FOUND;
      PERFORM ($END_SESSIONS AND datid = $target_oid);
      PERFORM pg_stat_clear_snapshot();
      PERFORM pg_sleep(0.1);
    END LOOP;
  END \$\$"
}

swap() { # sets aside
  local steps="ALTER DATABASE $scratch RENAME TO \"$target\";" status=0
  aside=''
  if [[ -n $target_oid ]]; then
    aside=${target:0:40}_before_$(date -u +%Y%m%d_%H%M%S)
    steps="ALTER DATABASE \"$target\" RENAME TO \"$aside\"; $steps"
    [[ -z $force ]] || launch "$temporary/away.log" send_away
  fi
  query postgres -c "SET lock_timeout = '${RENAME_SECONDS}s'" -c "BEGIN; $steps COMMIT" || status=$?
  if [[ -n $job ]]; then
    kill "$job" 2>/dev/null || true
    wait "$job" || true
    job=''
  fi
  if ((status)); then
    ! grep -qE 'being accessed|lock timeout' "$temporary/psql.log" || fail "$REFUSED" "$(in_use)"
    ! grep -q 'already exists' "$temporary/psql.log" || fail "$REFUSED" "$target was made meanwhile; nothing was changed"
    give_up "$doing" "$temporary/psql.log"
  fi
  scratch=''
}

in_use() {
  if [[ -n $force ]]; then
    echo "$target is in use by sessions that this role may not end; nothing was changed"
  else
    echo "$target is in use; --force ends its sessions"
  fi
}

command_restore() {
  local doing='the restore' aside
  take_restore_options "$@"
  check_file "$file"
  use_database
  target=${target:-$database}
  open_server
  look_at_target
  [[ -z $target_oid || -n $target_empty || -n $force ]] ||
    fail "$REFUSED" "the database $target exists and is not empty; --force puts it aside as ${target:0:40}_before_DATE_TIME"
  make_scratch "omade_restore_$$"
  fill_scratch "$file" "$target"
  compare || {
    grep -vP '\tok$' "$temporary/compared" | head -n 5 | while IFS=$'\t' read -r what wanted found verdict; do
      say "$what: $wanted in the backup, $found restored: $verdict"
    done
    fail "$DAMAGED" "$file restores to something else; $target was not touched"
  }
  phase 'restore: statistics'
  query "$scratch" -c 'SET client_min_messages = error' -c 'ANALYZE' || give_up "$doing" "$temporary/psql.log"
  phase ''
  look_at_target
  [[ -z $target_oid || -n $target_empty || -n $force ]] ||
    fail "$REFUSED" "the database $target is no longer empty; nothing was changed"
  swap
  if [[ -n $aside && -n $target_empty && $(query "$aside" -c "$COUNT_THINGS") == 0 ]]; then
    query postgres -c "DROP DATABASE \"$aside\"" || say "the empty database $aside could not be dropped"
    aside=''
  fi
  close_session
  say "restored $file (of $source_name, $taken_at) into $target${aside:+; what it was is kept as $aside}"
}

# ---- main ------------------------------------------------------------------------------

backup_end() {
  trap '' HUP INT TERM
  [[ -z $job ]] || end "$job"
  [[ -z $to ]] || end "$session"
  [[ -z $temporary || -z $server ]] || drop_scratch
  [[ -z $partial ]] || rm -f "$partial"
  [[ -z $temporary ]] || rm -rf "$temporary"
  services_release
}

backup_main() { # backup|restore|verify ARGUMENTS
  local argument
  verb=$1
  for argument in "${@:2}"; do
    [[ $argument != --help && $argument != -h ]] || {
      backup_help "$verb"
      return
    }
  done
  find "${TMPDIR:-/tmp}" -maxdepth 1 -name 'omade-db.*' -user "$EUID" -mtime +6 -exec rm -rf {} + 2>/dev/null || true
  temporary=$(mktemp -d -t omade-db.XXXXXX 2>/dev/null) || temporary_full
  trap backup_end EXIT
  trap 'exit 129' HUP
  trap 'exit 130' INT
  trap 'exit 143' TERM
  trap '' PIPE
  "command_$verb" "${@:2}"
}
