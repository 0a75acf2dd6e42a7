#!/usr/bin/env bash
# Point-in-time recovery as docs/operations.md has it, on a cluster of its own: archive on,
# base backup, an order is deleted, the cluster goes back to the moment before, the order
# is there and what came before it, too.
#
#   test/cli/pitr_test.sh
set -euo pipefail

work=$(mktemp -d)
as_postgres=()
bin=$(compgen -G '/usr/lib/postgresql/*/bin' | sort -V | tail -n 1)
PATH=$bin:$PATH
export PATH PGHOST=$work PGUSER=postgres PGDATABASE=postgres LC_ALL=C

clean_up() {
  local status=$? cluster
  for cluster in "$work/data" "$work/restored"; do
    [[ ! -e $cluster/postmaster.pid ]] || on pg_ctl -D "$cluster" -m immediate -w stop >/dev/null || true
  done
  rm -rf "$work"
  exit "$status"
}
trap clean_up EXIT

on() { env -C / "${as_postgres[@]}" "$@"; } # as the server's user, where it can be
start() { on pg_ctl -D "$1" -w -t 60 -l "$work/log" start >/dev/null || { cat "$work/log" && exit 1; }; }
sql() { on psql -XqAt -v ON_ERROR_STOP=1 -c "$1"; }

if ((EUID == 0)); then
  as_postgres=(setpriv --reuid=postgres --regid=postgres --init-groups)
  chown postgres: "$work"
fi
on initdb -D "$work/data" --username=postgres --auth=trust --locale=C.UTF-8 --no-sync >/dev/null
on mkdir -m 700 "$work/archive"
on tee -a "$work/data/postgresql.conf" >/dev/null <<CONF
listen_addresses = ''
unix_socket_directories = '$work'
archive_mode = on
archive_command = 'test ! -f $work/archive/%f && cp %p $work/archive/.%f && mv $work/archive/.%f $work/archive/%f'
CONF
start "$work/data"

sql 'CREATE TABLE orders (id integer PRIMARY KEY); INSERT INTO orders VALUES (1)'
on pg_basebackup -D "$work/restored" --checkpoint=fast --no-sync
sql 'INSERT INTO orders VALUES (2)'
moment=$(sql 'SELECT clock_timestamp()')
sql 'DELETE FROM orders' # the accident
sql 'INSERT INTO orders VALUES (3)'
sql 'SELECT pg_switch_wal()' >/dev/null
on pg_ctl -D "$work/data" -m fast -w stop >/dev/null # archives the rest

on tee -a "$work/restored/postgresql.conf" >/dev/null <<CONF
restore_command = 'cp $work/archive/%f %p'
recovery_target_time = '$moment'
recovery_target_action = 'promote'
CONF
on touch "$work/restored/recovery.signal"
start "$work/restored"
for ((i = 0; i < 600; i++)); do
  [[ $(sql 'SELECT pg_is_in_recovery()') != f ]] || break
  sleep 0.05
done
rows=$(sql "SELECT string_agg(id::text, ' ' ORDER BY id) FROM orders")
[[ $rows == '1 2' ]] || {
  echo "not ok: the orders are '$rows', not '1 2'"
  exit 1
}
sql 'INSERT INTO orders VALUES (4)' # it is a database again
echo '1 passed, 0 failed'
