# shellcheck shell=bash disable=SC2015,SC2154
# lib-services.sh -- the launcher's private PostgreSQL and Redis.
#
# One state folder has at most one of each, shared by all launchers that name it:
#
#   state/passwords       made once, mode 600
#   state/pg/data         the cluster;  state/pg/ready: the sum of the set-up it got
#   state/redis           dump.rdb
#   state/*.port          used again while they are free
#   state/keep            `omade env` wants them to go on
#   state/start.lock      fd 8: held while services are started or stopped
#   state/users.lock      fd 9: held, shared, by every launcher that uses them
#
# Launchers that end look under the start lock whether they were the last user; so nothing
# is taken away from another one, and what a kill -9 left behind gets an owner again.
# Processes are told by their working directory and name: neither a stale pid file nor a
# pid that went to somebody else is ever believed.

readonly START_SECONDS=60 STOP_SECONDS=30 CLUSTER_MEGABYTES=100

state='' sockets='' service_id='' holding='' keep_services=''
superuser_password='' owner_password='' app_password='' readonly_password=''

# ---- places ----------------------------------------------------------------------------

short_hash() { printf '%s' "$1" | sha256sum | cut -c1-8; }

# Sockets are elsewhere than the state: their paths may have 107 bytes.
services_place() { # STATE-FOLDER-OR-NOTHING [test]
  local runtime=${XDG_RUNTIME_DIR:-} base=/var/lib usual
  ((EUID == 0)) || base=${XDG_STATE_HOME:-${HOME:-/nonexistent}/.local/state}
  service_id=$(short_hash "$root")
  usual=$base/omade/$service_id
  state=$(realpath -m -- "${1:-$usual}${2:+/$2}")
  [[ $state == "$usual" ]] || service_id=$(short_hash "$state")
  if ((EUID == 0)); then
    sockets=/run/omade-$service_id
  elif [[ -n $runtime && -w $runtime && ${#runtime} -lt 60 ]]; then
    sockets=$runtime/omade-$service_id
  else
    sockets=/tmp/omade-$EUID-$service_id
  fi
}

# As root the servers run as the users that their packages made.
set_accounts() {
  as_postgres=() as_redis=()
  ((EUID == 0)) || return 0
  as_postgres=(setpriv --reuid=postgres --regid=postgres --init-groups)
  as_redis=(setpriv --reuid=redis --regid=redis --init-groups)
}

own() { # USER PATHS
  ((EUID != 0)) || chown "$1:" "${@:2}"
}

make_places() {
  (umask 077 && mkdir -p "$state"/{pg,redis}) 2>/dev/null && [[ -w $state ]] ||
    die "cannot write to $state; set OMADE_STATE_DIR to a folder of yours"
  chmod 700 "$state" "$state"/{pg,redis}
  state=$(cd "$state" && pwd -P)
  mkdir -p "$sockets" 2>/dev/null && [[ -O $sockets && ! -L $sockets ]] ||
    die "$sockets belongs to somebody else; delete it"
  if ((EUID == 0)); then chmod 755 "$sockets"; else chmod 700 "$sockets"; fi
  mkdir -p "$sockets"/{pg,redis}
  chmod 700 "$sockets"/{pg,redis}
  own postgres "$state/pg" "$sockets/pg"
  own redis "$state/redis" "$sockets/redis"
}

read_passwords() {
  local name
  if [[ ! -s $state/passwords ]]; then
    [[ ! -e $state/pg/ready ]] ||
      die "$state/passwords is gone; delete $state to begin with an empty database"
    (
      umask 077
      for name in superuser owner app readonly; do
        printf '%s_password=%s\n' "$name" "$(od -An -v -N16 -tx1 /dev/urandom | tr -d ' \n')"
      done >"$state/passwords.new"
      sync "$state/passwords.new"
    )
    mv "$state/passwords.new" "$state/passwords"
  fi
  # shellcheck disable=SC1091 # made above
  source "$state/passwords"
}

# ---- ports and processes ---------------------------------------------------------------

port_taken() { (: <>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# The port of last time while it is free, else the next free one.  Below the range from
# which the kernel takes ports for outgoing connections.
choose_port() { # SERVICE FIRST: writes state/SERVICE.port
  local port
  port=$(cat "$state/$1.port" 2>/dev/null) || true
  [[ $port =~ ^[0-9]{5}$ ]] || port=$(($2 + 16#${service_id:0:6} % 5000))
  while port_taken "$port"; do port=$((port < 31999 ? port + 1 : $2)); done
  echo "$port" >"$state/$1.port"
}

is_ours() { # PID NAME FOLDER
  local name folder
  [[ -n $1 ]] && read -r name 2>/dev/null <"/proc/$1/comm" &&
    folder=$(readlink "/proc/$1/cwd") && [[ $name == "$2" && $folder == "$3" ]]
}

postgres_pid() { # prints nothing when it does not run
  local pid=''
  read -r pid 2>/dev/null <"$state/pg/data/postmaster.pid" || true
  ! is_ours "$pid" postgres "$state/pg/data" || echo "$pid"
}

redis_pid() {
  local pid=''
  read -r pid 2>/dev/null <"$state/redis/redis.pid" || true
  ! is_ours "$pid" redis-server "$state/redis" || echo "$pid"
}

processes_in() { # FOLDER: pids of those whose working directory it is
  local process folder
  find /proc -maxdepth 2 -path '/proc/[0-9]*/cwd' -printf '%h %l\n' 2>/dev/null |
    while read -r process folder; do
      [[ $folder != "$1" ]] || echo "${process#/proc/}"
    done
}

nobody_in() { [[ -z $(processes_in "$1") ]]; }

wait_for() { # SECONDS COMMAND
  local i
  for ((i = $1 * 20; i > 0; i--)); do
    ! "${@:2}" || return 0
    sleep 0.05
  done
  return 1
}

# The folder goes to the command as fd 5, since its user need not be able to enter the
# folders above it, which may be root's own.  No lock goes: a server would never let it go.
in_folder() { # FOLDER COMMAND
  cd /
  exec setsid env -i PATH="$PATH" LC_ALL=C.UTF-8 "${@:2}" </dev/null 5<"$1" 7>&- 8>&- 9>&-
}

spawn() { # FOLDER LOG COMMAND: sets spawned
  [[ ! -e $2 || $(stat -c %s "$2") -lt 10000000 ]] || mv "$2" "$2.1"
  (in_folder "$1" "${@:3}") >>"$2" 2>&1 &
  spawned=$!
  disown "$spawned"
}

end_process() { # CHECK SIGNALS: the check prints the pid while the process is there
  local signal pid
  for signal in "${@:2}"; do
    pid=$("$1")
    [[ -n $pid ]] || return 0
    kill -s "$signal" "$pid" 2>/dev/null || true
    ! wait_for "$STOP_SECONDS" is_gone "$1" || return 0
  done
}

is_gone() { [[ -z $("$1") ]]; }

last_fault() { # LOG LINES-BEFORE
  local news
  news=$(tail -n +"$(($2 + 1))" "$1")
  if [[ $news == *'No space left on device'* ]]; then
    echo "the disk of $state is full: make room, or set OMADE_STATE_DIR"
  else
    grep -E 'FATAL|PANIC|[Ee]rror|[Ff]ailed|bind' <<<"$news" | tail -n 1 || true
  fi
}

count_lines() { if [[ -e $1 ]]; then wc -l <"$1"; else echo 0; fi; }

# ---- PostgreSQL ------------------------------------------------------------------------

find_postgres() { # sets pgbin: the version that made the cluster, else the newest
  local version='*'
  [[ ! -e $state/pg/ready ]] || version=$(cat "$state/pg/data/PG_VERSION")
  pgbin=$(compgen -G "/usr/lib/postgresql/$version/bin" | sort -V | tail -n 1) || true
  [[ -n $pgbin ]] ||
    die "$state/pg was made by PostgreSQL $version, which is gone: install postgresql-$version"
}

make_cluster() {
  local data=$state/pg/data log=$state/postgres.log password=$state/pg/new-password lines
  lines=$(count_lines "$log")
  # From /: df wants to return to where it was called, which may be closed to us.
  (($(env -C / df --output=avail -B 1M "$state" | tail -n 1) >= CLUSTER_MEGABYTES)) ||
    die "the disk of $state is full: make room ($CLUSTER_MEGABYTES MB), or set OMADE_STATE_DIR"
  find "$data" -delete 2>/dev/null || true
  mkdir -m 700 "$data"
  (umask 077 && echo "$superuser_password" >"$password")
  own postgres "$data" "$password"
  (
    in_folder "$data" "${as_postgres[@]}" "$pgbin/initdb" -D /proc/self/fd/5 \
      --username=postgres --pwfile=/proc/self/fd/6 --auth=scram-sha-256 \
      --encoding=UTF8 --locale=C.UTF-8
  ) >>"$log" 2>&1 6<"$password" || die "initdb failed: $(last_fault "$log" "$lines"); see $log"
  rm "$password"
}

# Its programs complain about a working directory that they cannot read, hence `-C /`.
postgres_answers() {
  [[ -n $(postgres_pid) ]] &&
    env -i -C / "$pgbin/pg_isready" -q -h 127.0.0.1 -p "$(cat "$state/postgres.port")"
}

postgres_settled() { postgres_answers || ! kill -0 "$spawned" 2>/dev/null; }

launch_postgres() { # fails when the server ended at once
  spawn "$state/pg/data" "$state/postgres.log" "${as_postgres[@]}" "$pgbin/postgres" \
    -D /proc/self/fd/5 -p "$(cat "$state/postgres.port")" \
    -c listen_addresses=127.0.0.1 -c unix_socket_directories="$sockets/pg" \
    -c unix_socket_permissions=0700 -c max_connections=200 -c jit=off \
    -c shared_preload_libraries=pg_stat_statements -c cluster_name="omade-$service_id"
  wait_for "$START_SECONDS" postgres_settled && postgres_answers
}

start_postgres() {
  local data=$state/pg/data log=$state/postgres.log lines tries=5 fault
  find_postgres
  if [[ -n $(postgres_pid) ]]; then
    ! wait_for "$START_SECONDS" postgres_answers || return 0
    end_process postgres_pid INT QUIT
  fi
  [[ -e $state/pg/ready ]] || make_cluster
  # A killed postmaster's children leave by themselves.  With nobody there, the lock files
  # are stale, also where their pid is another process by now.
  if [[ -e $data/postmaster.pid ]]; then
    wait_for "$STOP_SECONDS" nobody_in "$data" || die "processes without a parent stay in $data"
    rm -f "$data/postmaster.pid"
  fi
  rm -f "$sockets"/pg/.s.PGSQL.*
  while :; do
    choose_port postgres 21000
    lines=$(count_lines "$log")
    ! launch_postgres || break
    fault=$(last_fault "$log" "$lines")
    end_process postgres_pid INT QUIT
    [[ $fault == *TCP/IP* ]] && ((--tries)) ||
      die "PostgreSQL does not start: ${fault:-no reason given}; see $log"
  done
}

# Roles and extensions need a superuser, hence they are no migration.  May run again.
setup_sql() {
  cat <<SQL
\set ON_ERROR_STOP on
SET pg_stat_statements.track_utility = off;   -- it would keep the passwords
SELECT format('CREATE ROLE %I LOGIN', name)
  FROM unnest(ARRAY['omade_owner', 'app_user', 'readonly_user']) AS name
 WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) \gexec
ALTER ROLE omade_owner NOSUPERUSER CREATEDB PASSWORD '$owner_password';
ALTER ROLE app_user NOSUPERUSER PASSWORD '$app_password';
ALTER ROLE readonly_user NOSUPERUSER PASSWORD '$readonly_password';
ALTER ROLE app_user SET statement_timeout = '30s';
GRANT app_user, readonly_user, pg_monitor TO omade_owner;
\connect template1
CREATE EXTENSION IF NOT EXISTS pg_trgm;
CREATE EXTENSION IF NOT EXISTS pg_stat_statements;
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
\connect postgres
SELECT 'CREATE DATABASE omade_cravings OWNER omade_owner'
 WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'omade_cravings') \gexec
\connect omade_cravings
ALTER SCHEMA public OWNER TO omade_owner;
SQL
}

setup_postgres() {
  local sum fault
  sum=$(short_hash "$(declare -f setup_sql)")
  [[ ! -e $state/pg/ready || $(cat "$state/pg/ready") != "$sum" ]] || return 0
  fault=$(setup_sql | env -i -C / PATH="$PATH" PGPASSWORD="$superuser_password" "$pgbin/psql" -Xq \
    -h 127.0.0.1 -p "$(cat "$state/postgres.port")" -U postgres postgres 2>&1 >/dev/null) ||
    die "the database could not be set up: ${fault##*$'\n'}"
  echo "$sum" >"$state/pg/ready"
  sync "$state/pg/ready" "$state/pg"
}

export_postgres() {
  local host
  host=127.0.0.1:$(cat "$state/postgres.port")
  export DATABASE_URL=postgres://omade_owner:$owner_password@$host/omade_cravings
  export APP_DATABASE_URL=postgres://app_user:$app_password@$host/omade_cravings
}

# ---- Redis -----------------------------------------------------------------------------

# Redis whose pid file is gone or wrong.
find_redis() {
  local pid
  [[ -z $(redis_pid) ]] || return 0
  for pid in $(processes_in "$state/redis"); do
    ! is_ours "$pid" redis-server "$state/redis" || echo "$pid" >"$state/redis/redis.pid"
  done
}

redis_answers() {
  local pid
  pid=$(redis_pid)
  [[ -n $pid ]] && ask_redis info server | grep -q "^process_id:$pid"$'\r'
}

ask_redis() { timeout 10 redis-cli -p "$(cat "$state/redis.port")" "$@" 2>/dev/null; }

# A script without an end holds Redis up; after 5 s of it Redis says so to all who ask.
free_redis() {
  [[ -n $(redis_pid) && $(ask_redis ping) == *BUSY* ]] || return 0
  say 'Redis was held up by a script that does not end (redis.eval); it is ended'
  [[ $(ask_redis script kill) == OK ]] || end_process redis_pid KILL
}

redis_settled() { redis_answers || ! kill -0 "$spawned" 2>/dev/null; }

launch_redis() {
  spawn "$state/redis" "$state/redis.log" "${as_redis[@]}" /usr/bin/redis-server \
    --bind 127.0.0.1 --port "$(cat "$state/redis.port")" --databases 1024 \
    --unixsocket "$sockets/redis/redis.sock" --unixsocketperm 700 \
    --dir /proc/self/fd/5 --pidfile redis.pid --save '3600 1' --appendonly no
  wait_for "$START_SECONDS" redis_settled && redis_answers
}

start_redis() {
  local log=$state/redis.log lines tries=5 fault
  find_redis
  free_redis
  if [[ -n $(redis_pid) ]]; then
    ! wait_for "$START_SECONDS" redis_answers || return 0
    end_process redis_pid TERM KILL
  fi
  while :; do
    choose_port redis 26500
    lines=$(count_lines "$log")
    ! launch_redis || break
    fault=$(last_fault "$log" "$lines")
    end_process redis_pid TERM KILL
    ((tries--)) || die "Redis does not start: ${fault:-no reason given}; see $log"
    [[ $fault == *bind* || ! -e $state/redis/dump.rdb ]] ||
      mv "$state/redis/dump.rdb" "$state/redis/dump.rdb.bad" # a cache may be lost
  done
}

export_redis() {
  REDIS_URL=redis://127.0.0.1:$(cat "$state/redis.port")/0
  export REDIS_URL
}

# ---- together --------------------------------------------------------------------------

open_locks() {
  exec 8>>"$state/start.lock" 9>>"$state/users.lock"
}

lock_start() { flock -w 180 8 || die "another launcher holds $state/start.lock"; }

# Starts what does not run, and exports the URLs.
services_up() { # [postgres] [redis]
  local service alone=''
  set_accounts
  make_places
  open_locks
  lock_start
  if flock -n 9; then
    alone=yes # nobody else uses them: this launcher says how long they live
    [[ -n $(postgres_pid)$(redis_pid) ]] || rm -f "$state/keep"
  fi
  flock -s 9
  holding=yes
  read_passwords
  for service in "$@"; do
    case $service in
      postgres)
        start_postgres
        setup_postgres
        export_postgres
        ;;
      redis)
        start_redis
        export_redis
        ;;
    esac
  done
  [[ -z $alone || -z $keep_services ]] || touch "$state/keep"
  flock -u 8
}

# The last user turns off the light.
services_release() {
  [[ -n $holding ]] || return 0
  holding=''
  trap '' HUP INT TERM
  lock_start
  flock -u 9
  if [[ ! -e $state/keep ]] && flock -n 9; then services_stop; fi
  flock -u 8
}

services_stop() {
  find_redis
  free_redis
  end_process redis_pid TERM KILL &
  end_process postgres_pid INT QUIT
  wait $!
  rm -f "$state/keep"
  rm -rf "$sockets"
}

services_down() {
  [[ -d $state ]] || return 0
  state=$(cd "$state" && pwd -P)
  open_locks
  lock_start
  flock -n 9 || die 'the private services are in use by ./omade dev or ./omade test; end that first'
  services_stop
  exec 8>&- 9>&-
}
