#!/usr/bin/env bash
# A PostgreSQL of a test's own, in $TEST_WORK/cluster, made and started as the launcher does.
#
#   own_postgres.sh start     prints its URLs; also after a kill
#   own_postgres.sh kill      SIGKILL to all its processes at once, as a lack of power would
#   own_postgres.sh orphan    to the first of them only, which leaves the others without parent
#   own_postgres.sh backend   to one that works for the server: PostgreSQL restarts by itself
#   own_postgres.sh down
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# shellcheck source=deploy/lib-services.sh
source "$root/deploy/lib-services.sh"

say() { printf '%s\n' "$*" >&2; }

die() {
  say "$*"
  exit 1
}

services_place "$TEST_WORK/cluster"
case $1 in
  start)
    services_up postgres
    printf '%s=%s\n' DATABASE_URL "$DATABASE_URL" APP_DATABASE_URL "$APP_DATABASE_URL"
    ;;
  kill)
    mapfile -t pids < <(processes_in "$state/pg/data")
    kill -9 "${pids[@]}"
    ;;
  orphan) kill -9 "$(postgres_pid)" ;;
  backend) kill -9 "$(pgrep -P "$(postgres_pid)" -f app_user | shuf -n 1)" ;;
  down) services_down ;;
esac
