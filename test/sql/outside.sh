#!/usr/bin/env bash
# The roles from outside: signed in with their own passwords, as the server, reports and the
# owner are.  What each must not do, table by table and view by view, also those made later.
#
#   TEST_DATABASE_URL, TEST_APP_DATABASE_URL, TEST_ADMIN_DATABASE_URL, OMADE_STATE_DIR: of the
#   private services, as `./omade test` sets them.
set -u

home=$(cd "$(dirname "$0")/../.." && pwd)
name=omade_outside_$$
passed=0 failed=0
: "${TEST_DATABASE_URL:?}" "${TEST_APP_DATABASE_URL:?}" "${TEST_ADMIN_DATABASE_URL:?}" "${OMADE_STATE_DIR:?}"
export PGOPTIONS='-c client_min_messages=warning'

url() { printf '%s/%s' "${1%/*}" "$name"; }
# shellcheck disable=SC1091 # the launcher's
readonly_password=$(source "$OMADE_STATE_DIR/passwords" && printf '%s' "$readonly_password")
address=${TEST_DATABASE_URL#*@}
address=${address%%/*}
owner=$(url "$TEST_DATABASE_URL")
app=$(url "$TEST_APP_DATABASE_URL")
admin=$(url "${TEST_ADMIN_DATABASE_URL%/}")
[[ ${TEST_ADMIN_DATABASE_URL#*://} == */* ]] || admin=$TEST_ADMIN_DATABASE_URL/$name
reports=postgres://readonly_user:$readonly_password@$address/$name

run() { psql -XqAt -w -v ON_ERROR_STOP=1 "$@" 2>&1; }
answer() { # LABEL WANTED COMMAND...
  local label=$1 want=$2 have
  shift 2
  have=$("$@")
  if [[ $have == "$want" ]]; then
    passed=$((passed + 1)) && echo "ok - $label"
  else
    failed=$((failed + 1)) && printf 'not ok - %s: have %s, want %s\n' "$label" "$have" "$want"
  fi
}
ask() { answer "$1" "$3" run "$2" -c "$4"; } # LABEL URL WANTED SQL
refuse() { # LABEL URL SQL [PATTERN]
  local out
  if out=$(run "$2" -c "$3"); then
    failed=$((failed + 1)) && printf 'not ok - %s: it works: %s\n' "$1" "$out"
  elif [[ $out =~ ${4:-permission denied|must be owner|must be superuser} ]]; then
    passed=$((passed + 1)) && echo "ok - $1"
  else
    failed=$((failed + 1)) && printf 'not ok - %s: %s\n' "$1" "$out"
  fi
}

# LABEL URL SQL...: each is refused for want of rights; one session for all.
refuse_all() {
  local label=$1 url=$2 out sql
  shift 2
  out=$(for sql in "$@"; do printf '%s;\n' "$sql"; done | psql -XqAt -w "$url" 2>&1 | grep '^ERROR')
  answer "$label" $# grep -cE '^ERROR:  (permission denied|must be|access to library .* is not allowed)' <<<"$out"
  grep -vE '^ERROR:  (permission denied|must be|access to library .* is not allowed)' <<<"$out"
}

clean_up() { psql -Xq "$TEST_DATABASE_URL" -c "DROP DATABASE IF EXISTS $name WITH (FORCE)" >/dev/null; }
trap clean_up EXIT
psql -Xq "$TEST_DATABASE_URL" -c "CREATE DATABASE $name" || exit 1
run "$admin" -c 'ALTER SCHEMA public OWNER TO omade_owner'
for file in "$home"/migrations/[0-9]*.sql; do
  sed '/^-- down$/,$d' "$file" | run "$owner" -1 >/dev/null || exit 1
done
run "$owner" -1 -f "$home/seeds/sample_data.sql" >/dev/null || exit 1

# ---- passwords ---------------------------------------------------------------------------

ask 'passwords are kept as SCRAM' "$admin" scram-sha-256 'SHOW password_encryption'
ask 'every role has one, of that kind' "$admin" 4 "SELECT count(*) FROM pg_authid WHERE rolcanlogin
  AND rolname IN ('postgres', 'omade_owner', 'app_user', 'readonly_user') AND rolpassword LIKE 'SCRAM-SHA-256\$%'"
ask 'nobody enters without, by network or socket' "$admin" '' \
  "SELECT line_number FROM pg_hba_file_rules WHERE auth_method <> 'scram-sha-256'"
for role in postgres omade_owner app_user readonly_user; do
  refuse "$role without a password" "postgres://$role@$address/$name" 'SELECT 1' 'no password supplied'
  refuse "$role with a wrong one" "postgres://$role:wrong@$address/$name" 'SELECT 1' 'password authentication failed'
done
answer 'passwords are for the owner of the services only' 600 stat -c %a "$OMADE_STATE_DIR/passwords"

# ---- tables ------------------------------------------------------------------------------

tables() { run "$owner" -c "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' ORDER BY 1"; }
views() { run "$owner" -c "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'v'
  AND relowner = 'omade_owner'::regrole ORDER BY 1"; }
column() { run "$owner" -c "SELECT attname FROM pg_attribute WHERE attrelid = '$1'::regclass AND attnum = 1"; }

run "$owner" -c 'CREATE TABLE later (id int); INSERT INTO later VALUES (1); ALTER TABLE later ENABLE ROW LEVEL SECURITY;
  CREATE POLICY later_all ON later TO app_user USING (true); CREATE POLICY later_report ON later FOR SELECT TO readonly_user USING (true);
  CREATE FUNCTION later_one() RETURNS int LANGUAGE sql RETURN 1; CREATE SEQUENCE later_number;
  CREATE VIEW later_view WITH (security_invoker = true) AS SELECT id FROM later'
for table in $(tables); do
  refuse_all "reports change nothing in $table" "$reports" "TRUNCATE $table CASCADE" "DELETE FROM $table" \
    "INSERT INTO $table DEFAULT VALUES" "UPDATE $table SET $(column "$table") = DEFAULT" "DROP TABLE $table"
  refuse_all "the server leaves $table what it is" "$app" "TRUNCATE $table CASCADE" "DROP TABLE $table CASCADE" \
    "ALTER TABLE $table ADD COLUMN mine int" "ALTER TABLE $table DISABLE TRIGGER ALL" "CREATE INDEX ON $table ((1))" \
    "ALTER TABLE $table DISABLE ROW LEVEL SECURITY" "CREATE POLICY mine ON $table USING (true)"
done
for table in orders order_items order_status_history users payments refunds loyalty_points loyalty_ledger audit_log uploads \
  promo_redemptions custom_cake_configurations product_ratings sales_figures product_sales_figures user_order_figures \
  order_figures slot_figures promo_figures user_sales_figures user_sales_movements; do
  refuse "the server removes nothing from $table" "$app" "SET app.user_role = 'system'; DELETE FROM $table"
done

ask 'a table made later: reports read it' "$reports" 1 'SELECT count(*) FROM later'
ask 'and the server, which writes it, too' "$app" 2 'INSERT INTO later VALUES (2); SELECT count(*) FROM later'
ask 'a view made later: reports read it' "$reports" 2 'SELECT count(*) FROM later_view'
ask 'and the server' "$app" 2 'SELECT count(*) FROM later_view'
ask 'a sequence made later: the server takes numbers' "$app" 1 "SELECT nextval('later_number')"
refuse 'but sets none' "$app" "SELECT setval('later_number', 7)"
refuse 'reports take none' "$reports" "SELECT nextval('later_number')"
refuse 'but a function made later is granted by name' "$app" 'SELECT later_one()'
refuse 'to reports, too' "$reports" 'SELECT later_one()'

# ---- what is not for a role at all ---------------------------------------------------------

for who in app reports; do
  for sql in 'CREATE TABLE mine (id int)' 'CREATE TEMPORARY TABLE mine (id int)' 'CREATE SCHEMA mine' 'CREATE DATABASE mine' \
    'CREATE ROLE mine' "ALTER ROLE omade_owner PASSWORD 'x'" 'SET ROLE omade_owner' 'SET ROLE postgres' \
    'SET SESSION AUTHORIZATION omade_owner' "COPY (SELECT 1) TO '/tmp/mine'" "COPY (SELECT 1) TO PROGRAM 'cat'" \
    'SELECT * FROM pg_authid' "SELECT pg_read_file('/etc/passwd')" 'SET session_replication_role = replica'; do
    refuse "$who: $sql" "${!who}" "$sql" 'permission denied|must be|does not exist|only roles'
  done
  refuse_all "$who: what is the owner's, a superuser's or nobody's" "${!who}" \
    "SELECT pg_ls_dir('.')" "SELECT lo_import('/etc/passwd')" "SELECT lo_export(1, '/tmp/mine')" 'CREATE EXTENSION hstore' \
    'CREATE VIEW mine AS SELECT 1' 'CREATE SEQUENCE mine' 'CREATE FUNCTION mine() RETURNS int LANGUAGE sql RETURN 1' \
    'CREATE FUNCTION pg_temp.mine() RETURNS int LANGUAGE sql RETURN 1' 'CREATE PUBLICATION mine FOR ALL TABLES' \
    "ALTER DATABASE $name SET work_mem = '1MB'" "ALTER SYSTEM SET work_mem = '1MB'" 'REINDEX TABLE orders' \
    'BEGIN; LOCK TABLE order_items IN ACCESS EXCLUSIVE MODE; ROLLBACK' 'ALTER ROLE CURRENT_USER CREATEDB' 'ALTER ROLE CURRENT_USER BYPASSRLS' \
    "SELECT set_config('role', 'omade_owner', false)" "SELECT set_config('session_authorization', 'omade_owner', false)" \
    'REASSIGN OWNED BY omade_owner TO CURRENT_USER' 'COMMENT ON TABLE orders IS NULL' "LOAD 'auto_explain'" \
    "DO \$\$ BEGIN EXECUTE 'TRUNCATE orders CASCADE'; END \$\$" 'SELECT pg_reload_conf()' 'SELECT pg_switch_wal()' \
    'SELECT pg_stat_reset()' 'SELECT passwd FROM pg_shadow' 'SELECT stavalues1 FROM pg_statistic' \
    "SELECT setval('order_number_seq', 1)" \
    'WITH gone AS (DELETE FROM refunds RETURNING 1) SELECT count(*) FROM gone' "COPY audit_log FROM '/etc/passwd'"
  refuse "$who: row_security = off" "${!who}" 'SET row_security = off; SELECT count(*) FROM orders' 'would be affected by row-level security'
  ask "$who: no statistics of people" "${!who}" 0 "SELECT count(*) FROM pg_stats WHERE schemaname = 'public' AND tablename IN ('users', 'orders')"
done
ask 'reports gain nothing by a context' "$reports" "$(run "$reports" -c 'SELECT count(id) FROM orders')" \
  "SET app.user_role = 'system'; SELECT count(id) FROM orders"
refuse_all 'reports read no secrets' "$reports" 'SELECT tracking_token FROM orders' 'COPY users (password_hash) TO STDOUT' 'SELECT payload FROM outbox' \
  'SELECT token_sha256 FROM password_resets' 'SELECT raw FROM payments' 'SELECT token FROM newsletter_subscribers' \
  'SELECT body FROM idempotency_keys' "SELECT * FROM find_sign_in('john@example.com')" 'SELECT to_jsonb(u) FROM users u'
for sql in 'CREATE ROLE mine' "ALTER ROLE app_user SUPERUSER" 'ALTER ROLE omade_owner BYPASSRLS' 'SET ROLE postgres' \
  "COPY users TO PROGRAM 'cat'" 'SELECT * FROM pg_authid'; do
  refuse "owner: $sql" "$owner" "$sql"
done
ask 'the owner may become the server, to see what it sees' "$owner" 0 'SET ROLE app_user; SELECT count(*) FROM orders'

# ---- rows: every table and view, with no context and malformed ones ----------------------------

public='delivery_schedules later later_view product_ratings product_stats products public_profiles reviews schema_migrations'
contexts=('' "SET app.user_role = ''; SET app.current_user_id = '';" "SET app.user_role = 'root'; SET app.current_user_id = 'banana';"
  "SET app.user_role = 'ADMIN';" "SET app.user_role = 'staff,admin';" "SET app.user_role = 'guest'; SET app.current_order_id = 'x';"
  "SET app.user_role = 'customer'; SET app.current_user_id = '00000000-0000-0000-0000-00000000000';"
  "SET app.user_role = 'customer'; SET app.current_user_id = 'abc'; SET app.current_order_id = '1;';"
  "SET app.user_role = 'rider'; SET app.current_user_id = '$(printf '9%.0s' {1..400})';"
  "DO \$\$ BEGIN PERFORM set_config('app.user_role', NULL, false), set_config('app.current_user_id', NULL, false); END \$\$;"
  "SET app.user_role = 'customer'; SET app.current_user_id = ''' OR true --';" "SET app.current_order_id = '20000000-0000-0000-0000-000000000034';")
for relation in $(tables) $(views); do
  rows=0
  [[ " $public " == *" $relation "* ]] && rows=$(run "$owner" -c "SELECT count(*) FROM $relation")
  commands=() want=''
  for context in "${contexts[@]}"; do
    commands+=(-c 'RESET ALL' -c "$context SELECT count(*) FROM $relation")
    want+=$rows$'\n'
  done
  answer "$relation: $rows rows for nobody, nothing set or nonsense (${#contexts[@]})" "${want%$'\n'}" run "$app" "${commands[@]}"
  # The whole of it, with all columns that reports may read.
  columns=$(run "$owner" -c "SELECT string_agg(quote_ident(attname), ', ') FROM pg_attribute WHERE attrelid = '$relation'::regclass
    AND attnum > 0 AND NOT attisdropped AND has_column_privilege('readonly_user', attrelid, attnum, 'SELECT')")
  [[ -z $columns ]] ||
    ask "reports read all of $relation" "$reports" "$(run "$owner" -c "SELECT count(*) FROM $relation")" \
      "SELECT count(*) FROM (SELECT $columns FROM $relation) AS x"
done
for view in user_order_summary daily_sales product_stats; do
  ask "$view: a customer gets what is his" "$app" t "SET app.user_role = 'customer'; SET app.current_user_id = '00000000-0000-0000-0000-000000000001';
    SELECT CASE '$view' WHEN 'user_order_summary' THEN (SELECT count(*) = 1 FROM user_order_summary)
      WHEN 'daily_sales' THEN (SELECT sum(order_count) FROM daily_sales) = (SELECT count(*) FROM orders WHERE status = 'delivered')
      ELSE (SELECT sum(total_sold) FROM product_stats) = (SELECT sum(quantity) FROM order_items i JOIN orders o ON o.id = i.order_id
              WHERE o.status = 'delivered') END"
done
ask 'a context does not outlive its transaction' "$app" $'t\n0' "BEGIN; SET LOCAL app.user_role = 'staff'; SELECT count(*) > 10 FROM orders;
  COMMIT; SELECT count(*) FROM orders"

echo "$passed passed, $failed failed"
[[ $failed == 0 ]]
