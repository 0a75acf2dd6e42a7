#!/usr/bin/env bash
# CPU per request against the C floors, in one interleaved run per workload (W1 to W4).
#
#   test/bench/run.sh LAB [ROUNDS [SECONDS]]
#
# LAB is the folder of the speed lab, laid out and with its services up; it has the floors,
# the data and bench.py.  Prints a table per workload; the last column is the ratio.
set -euo pipefail

home=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
lab=${1:?the folder of the speed lab is expected} rounds=${2:-5} seconds=${3:-4}
binary=$home/build/release/omade
database="postgres://postgres@/bakery?host=$lab/sock&port=55432"

# The server looks for its migration; the lab's schema is its own.
psql -Xq "$database" -c 'CREATE TABLE IF NOT EXISTS schema_migrations (name text PRIMARY KEY, checksum text NOT NULL, applied_at timestamptz DEFAULT now())' \
  -c "INSERT INTO schema_migrations VALUES ('001_initial_setup', 'lab') ON CONFLICT DO NOTHING"

ours=$(cat <<JSON
{"name": "ours", "port": 18999, "ready": "/json",
 "cmd": "$binary serve $home/test/bench --workers 1 --host 127.0.0.1 --port 18999",
 "env": {"OMADE_HOME": "$home", "APP_DATABASE_URL": "$database", "ALLOW_OWNER": "1",
         "REDIS_URL": "unix://$lab/sock/redis.sock", "LOG_LEVEL": "warn"}}
JSON
)

cd "$lab"
for suite in 'W1:C floor' 'W2:C floor' 'W3:pipeb x2' 'W4:list cols'; do
  python3 bench/bench.py suite "${suite%%:*}" --rounds "$rounds" --dur "$seconds" --warm 1 \
    --only "${suite#*:}" --add "$ours"
done
