#!/usr/bin/env bash
# CPU per request against the C floors, in one interleaved run per workload (W1 to W4).
#
#   test/bench/run.sh LAB [ROUNDS [SECONDS]]
#
# LAB is the folder of the speed lab, laid out and with its services up; it has the floors,
# the data and bench.py.  Prints a line per workload: user and system time of the server per
# request, the least of all rounds, and the ratio to the floor's.
set -euo pipefail

home=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
lab=$(cd "${1:?the folder of the speed lab is expected}" && pwd) rounds=${2:-5} seconds=${3:-4}
binary=$home/build/release/omade
database="postgres://postgres@/bakery?host=$lab/sock&port=55432"

# The server looks for its migrations; the lab's schema is its own.
{
  echo 'SET client_min_messages = warning;'
  echo 'CREATE TABLE IF NOT EXISTS schema_migrations (name text PRIMARY KEY, checksum text NOT NULL, applied_at timestamptz DEFAULT now());'
  for file in "$home"/migrations/*.sql; do
    echo "INSERT INTO schema_migrations VALUES ('$(basename "$file" .sql)', 'lab') ON CONFLICT DO NOTHING;"
  done
} | psql -Xq "$database"

ours=$(cat <<JSON
{"name": "ours", "port": 18999, "ready": "/json",
 "cmd": "$binary serve $home/test/bench --workers 1 --host 127.0.0.1 --port 18999",
 "env": {"OMADE_HOME": "$home", "APP_DATABASE_URL": "$database", "ALLOW_OWNER": "1",
         "REDIS_URL": "unix://$lab/sock/redis.sock", "LOG_LEVEL": "warn"}}
JSON
)

# The measurements that bench.py left, newest first, as a line.
summary() {
  python3 - "$1" "$2" "$(find results -name '*.json' -printf '%T@ %p\n' | sort -rn | sed -n '1s/^[^ ]* //p')" <<'PY'
import json, sys
work, floor, file = sys.argv[1:]
runs = json.load(open(file))
least = {name: min(r["cpu"] for r in rounds) for name, rounds in runs.items()}
user = {name: min(r["ucpu"] for r in rounds) for name, rounds in runs.items()}
errors = sum(r["err"] for r in runs["ours"])
print(f"| {work} | {floor} | {least[floor]:.2f} ({user[floor]:.2f}) | "
      f"{least['ours']:.2f} ({user['ours']:.2f}) | {least['ours'] / least[floor]:.2f} | {errors} |")
PY
}

cd "$lab"
echo '| work | floor | its CPU us (user) | ours | ratio | errors |'
echo '| --- | --- | --- | --- | --- | --- |'
for suite in 'W1:C floor' 'W2:C floor' 'W3:pipeb x2' 'W4:list cols'; do
  python3 bench/bench.py suite "${suite%%:*}" --rounds "$rounds" --dur "$seconds" --warm 1 \
    --only "${suite#*:}" --add "$ours" >&2
  summary "${suite%%:*}" "${suite#*:}"
done
