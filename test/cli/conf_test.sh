#!/usr/bin/env bash
# omade db conf: a cluster of its own starts with what it prints, all of it counts, and the
# doctor has nothing to say of its memory.
#
#   test/cli/conf_test.sh BINARY
set -euo pipefail

binary=$(realpath "$1")
work=$(mktemp -d)
as_postgres=()
bin=$(compgen -G '/usr/lib/postgresql/*/bin' | sort -V | tail -n 1)
OMADE_HOME=$(realpath "$(dirname "${BASH_SOURCE[0]}")/../..")
PATH=$bin:$PATH
export OMADE_HOME PATH PGHOST=$work PGUSER=postgres PGDATABASE=postgres LC_ALL=C

clean_up() {
  local status=$?
  [[ ! -e $work/data/postmaster.pid ]] || on pg_ctl -D "$work/data" -m immediate -w stop >/dev/null || true
  rm -rf "$work"
  exit "$status"
}
trap clean_up EXIT

on() { env -C / "${as_postgres[@]}" "$@"; } # as the server's user, where it can be
sql() { on psql -XqAt -v ON_ERROR_STOP=1 -c "$1"; }
equal() { # WHAT IS SHOULD-BE
  [[ $2 == "$3" ]] && return
  echo "not ok: $1: '$2', not '$3'"
  exit 1
}

if ((EUID == 0)); then
  as_postgres=(setpriv --reuid=postgres --regid=postgres --init-groups)
  chown postgres: "$work"
fi
on initdb -D "$work/data" --username=postgres --auth=trust --locale=C.UTF-8 --no-sync >/dev/null
{
  printf "listen_addresses = ''\nunix_socket_directories = '%s'\n" "$work"
  "$binary" db conf
} | on tee -a "$work/data/postgresql.conf" >/dev/null
on pg_ctl -D "$work/data" -w -t 60 -l "$work/log" start >/dev/null || { cat "$work/log" && exit 1; }

equal 'lines that PostgreSQL did not take' "$(sql 'SELECT count(*) FROM pg_file_settings WHERE error IS NOT NULL')" 0
sql 'CREATE EXTENSION pg_stat_statements'
equal 'statements are counted' "$(sql 'SELECT count(*) > 0 FROM pg_stat_statements')" t
DATABASE_URL="host=$work user=postgres dbname=postgres" "$binary" db doctor >"$work/doctor" || true
equal 'what the doctor says of the memory' \
  "$(grep -oE '(shared_buffers|work_mem|effective_cache_size) is.*| problems,' "$work/doctor")" ' problems,'
echo '3 passed, 0 failed'
