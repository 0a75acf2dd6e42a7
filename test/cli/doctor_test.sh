#!/usr/bin/env bash
# omade db doctor and conf: a healthy shop, and everything that may be wrong with one.
#
#   test/cli/doctor_test.sh BINARY
#
# TEST_DATABASE_URL (the owner), TEST_APP_DATABASE_URL, TEST_ADMIN_DATABASE_URL (a superuser)
# and TEST_REDIS_URL name the servers.
set -euo pipefail

# shellcheck source=test/cli/db_rig.sh
source "$(dirname "${BASH_SOURCE[0]}")/db_rig.sh"

# ---- usage -----------------------------------------------------------------------------

for words in 'doctor x' 'doctor --json x' 'conf x' 'conf --memory 4' 'conf --memory' 'conf --disk tape'; do
  # shellcheck disable=SC2086
  omade db $words
  check "db $words" complains 2 'usage: omade db'
done
omade DATABASE_URL=postgres://nobody@127.0.0.1:1/x db doctor
check 'db doctor: nobody is there' complains 3 'DATABASE_URL.*refused'

# ---- a database without tables -----------------------------------------------------------

sql "${TEST_DATABASE_URL%/*}/postgres" "CREATE DATABASE ${database}_empty"
omade DATABASE_URL="${DATABASE_URL}_empty" db doctor
check 'doctor: nothing is there' says 2 '^problem  migrations: migration 001_initial_setup is missing: ./omade migrate$'
check 'doctor: what it could not look at' out_has '^unknown  promo codes: could not be looked at: .*promo_codes'
sql "${TEST_DATABASE_URL%/*}/postgres" "DROP DATABASE ${database}_empty"

# ---- a healthy shop ----------------------------------------------------------------------

# HOME EXPRESSION: scripts of our own, whose doctor has this for the machine.
on_machine() {
  local at=lua folder
  mkdir -p "$1/lua/omade/cli/db"
  for folder in . lua lua/omade lua/omade/cli lua/omade/cli/db; do
    for at in "$home/$folder"/*; do [[ -e $1/$folder/${at##*/} ]] || ln -s "$at" "$1/$folder/"; done
  done
  rm "$1/lua/omade/cli/db/doctor.lua"
  sed "s|require \"omade.core.machine\"|$2|" "$home/lua/omade/cli/db/doctor.lua" >"$1/lua/omade/cli/db/doctor.lua"
}
disk() { # FREE: of 100 GB
  echo "setmetatable({ disk = function() return 100 << 30, $1 << 30, '8:1' end }, { __index = require 'omade.core.machine' })"
}
on_machine "$work/healthy" "$(disk 50)"

omade OMADE_HOME="$work/healthy" db doctor
check 'doctor: all is well' says 0 '^0 problems, 0 warnings, '
for name in migrations schema versions extensions roles grants default\ grants functions row-level\ security views indexes sequences promo\ codes uploads clock; do
  check "doctor: $name" out_has "^ok +$name$"
done
omade db doctor
check 'doctor: the disk that there is' out_has '^(ok|warning|problem) +disk'
omade OMADE_HOME="$work/healthy" db doctor --json
check 'doctor --json' json_has '{problems}' 0
check 'doctor --json: no doubt' json_has '{unknown}' 0

omade db conf --memory 1024 --disk ssd
check 'conf: the values of the seed document' out_has '^shared_buffers = 256MB +# [a-z]'
cp "$work/out" "$work/postgresql.conf"
chmod -R a+rX "$work"
postgres=$(find /usr/lib/postgresql/*/bin/postgres | sort -V | tail -n 1)
for pair in shared_buffers=32768 maintenance_work_mem=65536 random_page_cost=1.1; do # in pages, kB
  check "PostgreSQL reads the fragment: ${pair%=*}" \
    test "$("$postgres" -C "${pair%=*}" -D "$work" 2>/dev/null)" == "${pair#*=}"
done
omade db conf --memory 65536 --disk hdd
check 'conf: more memory' out_has '^shared_buffers = 8192MB'
check 'conf: a disk that turns' out_has '^random_page_cost = 4 '

# ---- what a doctor finds -------------------------------------------------------------------

# What a test cannot make of a real server stands in a schema that hides pg_catalog's own.
owner "CREATE SCHEMA made
  CREATE VIEW pg_stat_activity AS SELECT * FROM jsonb_populate_recordset(NULL::pg_catalog.pg_stat_activity, jsonb_build_array(
    jsonb_build_object('pid', 4711, 'datname', current_database(), 'usename', 'app_user', 'backend_type', 'client backend',
      'state', 'idle in transaction', 'xact_start', now() - interval '11 minutes', 'state_change', now(), 'query', 'SELECT 1'),
    jsonb_build_object('pid', 4712, 'datname', current_database(), 'usename', 'app_user', 'backend_type', 'client backend',
      'state', 'active', 'xact_start', now() - interval '3 minutes', 'state_change', now(), 'query', 'SELECT 2'),
    jsonb_build_object('pid', 4713, 'datname', 'another', 'state', 'idle in transaction', 'backend_type', 'client backend',
      'xact_start', now() - interval '1 day')))
  CREATE VIEW pg_prepared_xacts AS SELECT * FROM jsonb_populate_recordset(NULL::pg_catalog.pg_prepared_xacts,
    jsonb_build_array(jsonb_build_object('gid', 'left', 'prepared', now() - interval '2 minutes', 'database', current_database())))
  CREATE VIEW pg_replication_slots AS SELECT * FROM jsonb_populate_recordset(NULL::pg_catalog.pg_replication_slots,
    '[{\"slot_name\": \"forgotten\", \"active\": false, \"restart_lsn\": \"0/0\"},
      {\"slot_name\": \"read\", \"active\": true, \"restart_lsn\": \"0/0\"}]')
  CREATE VIEW pg_stat_archiver AS SELECT * FROM jsonb_populate_record(NULL::pg_catalog.pg_stat_archiver, jsonb_build_object(
    'last_failed_wal', '00000001000000000000002A', 'last_failed_time', now(), 'last_archived_time', now() - interval '1 hour'))
  CREATE VIEW pg_available_extensions AS SELECT 'pg_trgm'::name AS name, '1.7' AS default_version, '1.2' AS installed_version
  CREATE VIEW pg_settings AS SELECT name, setting, CASE name WHEN 'TimeZone' THEN 'Asia/Tokyo' ELSE reset_val END AS reset_val
    FROM pg_catalog.pg_settings"
owner "CREATE FUNCTION made.age(xid) RETURNS int LANGUAGE sql RETURN 400000000;
  CREATE FUNCTION made.mxid_age(xid) RETURNS int LANGUAGE sql RETURN 700000000;
  CREATE FUNCTION made.clock_timestamp() RETURNS timestamptz LANGUAGE sql RETURN pg_catalog.clock_timestamp() + interval '2 hours';
  CREATE FUNCTION made.current_setting(text) RETURNS text LANGUAGE sql RETURN CASE
    WHEN \$1 IN ('fsync', 'full_page_writes', 'autovacuum', 'track_counts') THEN 'off'
    WHEN \$1 = 'server_version_num' THEN '130011' WHEN \$1 = 'server_version' THEN '13.11'
    WHEN \$1 = 'archive_mode' THEN 'on' WHEN \$1 = 'max_connections' THEN '3'
    WHEN \$1 = 'shared_buffers' THEN '1MB' WHEN \$1 = 'random_page_cost' THEN '17'
    WHEN \$1 LIKE 'autovacuum_%max_age' THEN '200000000' ELSE pg_catalog.current_setting(\$1) END"
on_machine "$work/full" "$(disk 4)"
on_machine "$work/filling" "$(disk 12)"
omade OMADE_HOME="$work/full" TZ=UTC PGOPTIONS='-c search_path=made,pg_catalog,public' db doctor
check 'a server that is ill: exit 2' ended 2
while read -r level pattern; do
  check "doctor finds: $pattern" out_has "^$level +$pattern"
done <<PATTERNS
problem versions: PostgreSQL 13.11 is too old
hint versions: extension pg_trgm is 1.2, 1.7 is installed: ALTER EXTENSION pg_trgm UPDATE
problem settings: fsync is off
problem settings: full_page_writes is off
problem settings: autovacuum is off
problem settings: track_counts is off
hint settings: shared_buffers is 1MB; for this machine
hint settings: random_page_cost is 17; for this machine
problem transaction age: database $database: its oldest transaction is 400000000 back.* after 200000000:
problem transaction age: database $database: its oldest multixact is 700000000 back.* after 200000000:
problem hanging transactions: session 4711 \(app_user\) is idle in a transaction for 11 min
warning hanging transactions: prepared transaction left is not finished for 2 min
problem hanging transactions: nobody reads from replication slot forgotten: it keeps [0-9]+ [kMG]B of WAL
problem archive, connections: archive_command failed at [-0-9: ]+, with 00000001000000000000002A: WAL piles up
warning archive, connections: 3 of 3 connections are in use
problem disk: 4 % of the disk of .* are free: 4096 MB
problem clock: the clocks of PostgreSQL and this machine differ by (2 h 0|1 h 59) min
hint clock: PostgreSQL's time zone is Asia/Tokyo, this machine is \+0.0 h from UTC
PATTERNS
check 'not transactions of another database' not out_has '4713'
check 'not slots that are read' not out_has 'slot read'
owner 'DROP FUNCTION made.clock_timestamp()'
omade PGOPTIONS='-c search_path=made,pg_catalog,public' db activity
check 'activity: forgotten transactions' out_has '^- session 4711 is idle in a transaction for 11 min: .*pg_terminate_backend\(4711\)'
check 'activity: connections used up' out_has '^- 3 of 3 connections are in use: lower DB_CONNECTIONS'
check 'activity: long statements' out_has '^- session 4712 works for 3 min: SELECT pg_cancel_backend\(4712\)'
omade OMADE_HOME="$work/filling" db doctor
check 'a disk that fills: exit 1' says 1 '^warning +disk: 12 % of the disk of .* are free: 12 GB'
check 'and nothing else' out_has '^0 problems, 1 warning, '
owner "CREATE FUNCTION made.now() RETURNS timestamptz LANGUAGE sql RETURN timestamptz '2026-12-01 UTC';
  DROP FUNCTION made.current_setting(text);
  CREATE FUNCTION made.current_setting(text) RETURNS text LANGUAGE sql RETURN
    CASE \$1 WHEN 'server_version_num' THEN '140020' ELSE pg_catalog.current_setting(\$1) END"
omade PGOPTIONS='-c search_path=made,pg_catalog,public' db doctor
check 'doctor: a version without fixes' out_has '^warning +versions: PostgreSQL 14 gets no fixes since 2026-11-12'
owner 'DROP SCHEMA made CASCADE'

owner "ALTER TABLE reviews DISABLE ROW LEVEL SECURITY"
omade db doctor
check 'row-level security is off' says 2 '^problem +row-level security: .* off on reviews:'
check 'and nowhere else' test "$(grep -c '^problem' "$work/out")" == 1
owner "ALTER TABLE reviews ENABLE ROW LEVEL SECURITY"

newest=$(owner 'SELECT max(name) FROM schema_migrations')
definer=$(owner "SELECT oid::regprocedure FROM pg_proc WHERE proname = 'find_sign_in'")
owner "GRANT DELETE ON orders TO app_user;
  GRANT UPDATE (total_amount) ON orders TO app_user;
  GRANT SELECT (password_hash) ON users TO readonly_user;
  GRANT SELECT ON orders TO PUBLIC;
  REVOKE INSERT ON order_items FROM app_user;
  REVOKE SELECT ON products FROM readonly_user;
  GRANT UPDATE ON SEQUENCE order_number_seq TO app_user;
  REVOKE USAGE ON SEQUENCE outbox_id_seq FROM app_user;
  REVOKE EXECUTE ON FUNCTION next_order_number() FROM app_user;
  GRANT EXECUTE ON FUNCTION complete_slot(uuid) TO app_user;
  ALTER VIEW daily_sales SET (security_invoker = false);
  ALTER FUNCTION $definer RESET search_path;
  GRANT EXECUTE ON FUNCTION $definer TO PUBLIC;
  ALTER TABLE payments FORCE ROW LEVEL SECURITY;
  DROP INDEX idx_reviews_rating; DROP TRIGGER update_order_total ON order_items; DROP POLICY reviews_read ON reviews;
  ALTER TABLE users DISABLE TRIGGER update_users_updated_at;
  CREATE POLICY opened ON orders FOR SELECT TO app_user USING (true);
  CREATE TABLE without_policy (order_id uuid REFERENCES orders, a int, b int);
  ALTER TABLE without_policy ENABLE ROW LEVEL SECURITY;
  CREATE INDEX wider ON without_policy (a, b); CREATE INDEX narrow ON without_policy (a);
  CREATE SEQUENCE short MAXVALUE 100; SELECT setval('short', 90);
  GRANT CREATE ON SCHEMA public TO app_user;
  DELETE FROM schema_migrations WHERE name = '$newest';
  INSERT INTO promo_codes (code, discount_type, amount, valid_from, valid_to)
    VALUES ('SOON', 'percent', 5, now() - interval '1 day', now() + interval '2 days');
  INSERT INTO promo_codes (code, discount_type, amount, valid_from, valid_to, usage_limit, used_count)
    VALUES ('NEARLY', 'percent', 5, now() - interval '1 day', now() + interval '90 days', 100, 95);
  INSERT INTO uploads (name, content_type, size)
    VALUES ('0123456789abcdef0123456789abcdef.png', 'image/png', 1);
  ALTER DEFAULT PRIVILEGES IN SCHEMA public REVOKE INSERT ON TABLES FROM app_user;
  ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT DELETE ON TABLES TO app_user;
  ALTER DEFAULT PRIVILEGES IN SCHEMA public REVOKE USAGE ON SEQUENCES FROM app_user;
  ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO PUBLIC;
  ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON FUNCTIONS TO PUBLIC" >/dev/null
touch "$work"/uploads/fedcba9876543210fedcba98765432{10..21}.jpg "$work/uploads/not_ours.txt"
omade SHOP_TIMEZONE=Europe/Banana db doctor
check 'problems: exit 2' ended 2
while read -r level pattern; do
  check "doctor finds: $pattern" out_has "^$level +$pattern"
done <<PATTERNS
problem schema: index idx_reviews_rating is missing: migrations/001_initial_setup.sql makes it
problem schema: trigger update_order_total on order_items is missing: migrations/[0-9]{3}_.*.sql makes it
problem schema: trigger update_users_updated_at on users is switched off: ALTER TABLE users ENABLE TRIGGER
problem schema: policy reviews_read on reviews is missing: migrations/001_initial_setup.sql makes it
problem schema: policy opened on orders is in no migration: .* DROP POLICY opened ON orders
problem grants: app_user has DELETE on orders, which is too much
problem grants: app_user has UPDATE \(total_amount\) on orders, which is too much
problem grants: readonly_user has SELECT \(password_hash\) on users, which is too much
problem grants: PUBLIC has SELECT on orders, which is too much
problem grants: app_user lacks INSERT on order_items
problem grants: readonly_user lacks SELECT on products
problem grants: app_user has UPDATE on order_number_seq, which is too much: REVOKE UPDATE ON SEQUENCE order_number_seq
problem grants: app_user lacks USAGE on outbox_id_seq
problem default grants: app_user does not get INSERT ON TABLES of later migrations
problem default grants: app_user gets DELETE ON TABLES of later migrations, which is too much
problem default grants: app_user does not get USAGE ON SEQUENCES of later migrations
problem default grants: PUBLIC gets SELECT ON TABLES of later migrations, which is too much
problem default grants: functions of later migrations may be called by anybody
problem functions: app_user may not call next_order_number\(\): GRANT EXECUTE
problem functions: app_user may call complete_slot\(uuid\), which is too much
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
warning promo codes: promo code SOON expires at
warning promo codes: promo code NEARLY is nearly used up: 95 of 100
warning uploads: upload 0123456789abcdef0123456789abcdef.png has a row and no file
hint uploads: file fedcba9876543210fedcba9876543210.jpg in the upload folder is named by nothing
PATTERNS
check 'not every one of many' out_has '^hint +uploads: and 2 more like the last one$'
check 'files of others are no orphans' not out_has 'not_ours'
check 'nothing else is a problem' test "$(grep -c '^problem' "$work/out")" == 29
omade db doctor --json
check 'doctor --json of problems' json_has '{problems}' 28
check 'doctor --json of problems: exit 2' ended 2
omade UPLOAD_DIR="$work/nowhere" db doctor
check 'doctor: no folder of uploads' out_has '^unknown +uploads: the upload folder cannot be read \(UPLOAD_DIR\): .*/nowhere: No such file'
omade DATABASE_URL="$APP_DATABASE_URL" db doctor
check 'doctor as another role says what it cannot see' out_has '^unknown +sessions: .*GRANT pg_monitor TO app_user'

finish_test
