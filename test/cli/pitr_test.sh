#!/usr/bin/env bash
# Point-in-time recovery, by the commands and settings of docs/operations.md as they are
# printed, on a cluster of its own: archive on, base backup, an order is deleted, the cluster
# goes back to the moment before, the order is there and what came before it, too.
#
#   test/cli/pitr_test.sh
set -euo pipefail

# shellcheck source=test/cli/asserts.sh
source "$(dirname "${BASH_SOURCE[0]}")/asserts.sh"

as_postgres=()
bin=$(compgen -G '/usr/lib/postgresql/*/bin' | sort -V | tail -n 1)
PATH=$bin:$PATH
export PATH PGHOST=$work PGUSER=postgres PGDATABASE=postgres LC_ALL=C
etc=$work/etc data=$work/lib/main

clean_up() {
  local status=$? pid=''
  pid=$(head -n 1 "$data/postmaster.pid" 2>/dev/null) || true
  [[ -z $pid ]] || on pg_ctl -D "$data" -m immediate -w stop >/dev/null || true
  rm -rf "$work"
  exit "$status"
}
trap clean_up EXIT

on() { env -C / "${as_postgres[@]}" "$@"; } # as the server's user, where it can be
sql() { on psql -XqAt -v ON_ERROR_STOP=1 -c "$1"; }

# ---- the machine of the docs -------------------------------------------------------------

# The settings are not in the data folder, as on Debian.
systemctl() { # stop|start|restart UNITS
  local options=(-D "$etc" -m fast -w -t 60)
  [[ $1 == stop ]] || options+=(-l "$work/log")
  on pg_ctl "${options[@]}" "$1" >/dev/null || { cat "$work/log" && exit 1; }
}
runuser() { # -u postgres -- COMMAND
  on "${@:4}"
}
if ((EUID != 0)); then
  install() { mkdir -p "${@:5}"; }
fi

# The blocks of the chapter, in this place and at this moment.
blocks() { # sh|ini NUMBER
  awk -v kind='```'"$1" -v wanted="$2" '/^### Back to a moment$/ { here = 1; next } /^##/ { here = 0 }
    here && $0 == kind { inside = ++count == wanted; next } /^```$/ { inside = 0 } inside' \
    "$home/docs/operations.md" |
    sed "s#/var/backups#$work#g; s#/var/lib/postgresql/15#$work/lib#g; s#20261122#$(date +%Y%m%d)#
      s#2026-11-26 14:59:00+00#${moment:-}#"
}
printed() { # WHICH: runs it
  local commands
  commands=$(blocks sh "$1")
  [[ -n $commands ]] || { echo "not ok: block $1 is not there" && exit 1; }
  eval "$commands"
}
configure() { blocks ini "$1" | on tee -a "$etc/postgresql.conf" >/dev/null; }

# ---- the story ---------------------------------------------------------------------------

if ((EUID == 0)); then
  as_postgres=(setpriv --reuid=postgres --regid=postgres --init-groups)
  chown postgres: "$work"
fi
on mkdir -p "$etc" "$work/lib"
on initdb -D "$data" --username=postgres --auth=trust --locale=C.UTF-8 --no-sync >/dev/null
on mv "$data"/{postgresql.conf,pg_hba.conf,pg_ident.conf} "$etc"
on tee -a "$etc/postgresql.conf" >/dev/null <<CONF
data_directory = '$data'
hba_file = '$etc/pg_hba.conf'
ident_file = '$etc/pg_ident.conf'
listen_addresses = ''
unix_socket_directories = '$work'
CONF
systemctl start

printed 1
configure 1
systemctl restart
sql 'CREATE TABLE orders (id integer PRIMARY KEY); INSERT INTO orders VALUES (1)'
first=$work/wal/$(sql 'SELECT pg_walfile_name(pg_switch_wal())')
until_true test -e "$first" || { echo 'not ok: the log is not archived' && exit 1; }
printed 2
printed 3
[[ ! -e $first && -n $(ls "$work/wal") ]] || { echo 'not ok: the old log stays, or all of it is gone' && exit 1; }
sql 'INSERT INTO orders VALUES (2)'
moment=$(sql 'SELECT clock_timestamp()')
sql 'DELETE FROM orders' # the accident
sql 'INSERT INTO orders VALUES (3)'
sql 'SELECT pg_switch_wal()' >/dev/null

printed 4 # its fast stop archives the rest
configure 2
printed 5
recovered() { [[ $(sql 'SELECT pg_is_in_recovery()') == f ]]; }
until_true recovered || { cat "$work/log" && exit 1; }
rows=$(sql "SELECT string_agg(id::text, ' ' ORDER BY id) FROM orders")
[[ $rows == '1 2' ]] || {
  echo "not ok: the orders are '$rows', not '1 2'"
  exit 1
}
sql 'INSERT INTO orders VALUES (4)' # it is a database again
echo '1 passed, 0 failed'
