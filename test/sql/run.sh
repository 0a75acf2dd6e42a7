#!/usr/bin/env bash
# Tests of the migrations and the seeds, in SQL, on a database of their own.
#
#   TEST_ADMIN_DATABASE_URL=postgresql://superuser@.../postgres test/sql/run.sh
#
# The database is dropped at the end, and so are roles that were not there before.
# Prints a line per test and "N passed, N failed"; ends with 0 when none failed.
set -u

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
migrations=("$root"/migrations/[0-9]*.sql)
seeds=$root/seeds/sample_data.sql
admin=${TEST_ADMIN_DATABASE_URL:?a superuser\'s connection URL}
name=omade_sql_test_$$
tmp=$(mktemp -d)
passed=0
failed=0
made_roles=""

# ---- helpers -------------------------------------------------------------------------

# The admin's connection string with another database.
url_of() {
  case $admin in
    postgres://* | postgresql://*)
      sed -E "s#^(postgres(ql)?://[^/?]*)(/[^?]*)?#\1/$1#" <<<"$admin" ;;
    *) printf '%s dbname=%s' "$admin" "$1" ;;
  esac
}

run_psql() { psql -XqAt -F $'\n' -v ON_ERROR_STOP=1 "$@"; }
admin_psql() { run_psql -d "$admin" "$@"; }
db_psql() { run_psql -d "$(url_of "$name")" "$@"; }
owner_psql() { PGOPTIONS="-c role=omade_owner" db_psql "$@"; }
up_part() { sed '/^-- down$/,$d' "$1"; }
down_part() { sed '1,/^-- down$/d' "$1"; }
schema_of() { pg_dump -s -d "$(url_of "$name")" | grep -Ev '^\\(un)?restrict '; }
data_of() { pg_dump -a --inserts -d "$(url_of "$name")" | grep -Ev '^\\(un)?restrict ' | sort; }

# Counts and prints lines that begin with "ok" or "not ok"; other lines pass through.
tally() {
  local line
  while IFS= read -r line; do
    case $line in
      ok\ -*) passed=$((passed + 1)); printf '%s\n' "$line" ;;
      not\ ok\ -*) failed=$((failed + 1)); printf '%s\n' "$line" ;;
      ?*) printf '%s\n' "# $line" ;;
    esac
  done
}

# check LABEL COMMAND...: the command succeeds.
check() {
  local label=$1
  shift
  if "$@" >"$tmp/out" 2>&1; then
    echo "ok - $label" >"$tmp/line"
  else
    { sed 's/^/    /' "$tmp/out"; echo "not ok - $label"; } >"$tmp/line"
  fi
  tally <"$tmp/line"
}

# A file of asserts; one that ends in an error counts as a failure.
run_file() {
  db_psql -f "$here/$1.sql" >"$tmp/out" 2>"$tmp/err" ||
    echo "not ok - $1.sql ended early" >>"$tmp/out"
  grep -v '^$' "$tmp/err" >>"$tmp/out"
  printf '# %s\n' "$1"
  tally <"$tmp/out"
}

# Waits until a query answers "t", ten seconds at most.
wait_for() {
  local tries=0
  until [ "$(db_psql -c "$1" 2>/dev/null)" = t ]; do
    tries=$((tries + 1))
    [ $tries -lt 200 ] || return 1
    sleep 0.05
  done
}

cleanup() {
  admin_psql -c "DROP DATABASE IF EXISTS $name WITH (FORCE)" -c "DROP DATABASE IF EXISTS ${name}_b"
  for role in $made_roles; do admin_psql -c "DROP ROLE IF EXISTS $role"; done
  rm -rf "$tmp"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# ---- roles and database --------------------------------------------------------------

for role in app_user omade_owner readonly_user; do
  if [ -z "$(admin_psql -c "SELECT 1 FROM pg_roles WHERE rolname = '$role'")" ]; then
    admin_psql -c "CREATE ROLE $role" || exit 1
    made_roles="$made_roles $role"
  fi
done
admin_psql -c "SET client_min_messages = warning" -c "GRANT app_user, readonly_user TO omade_owner" \
  -c "CREATE DATABASE $name OWNER omade_owner TEMPLATE template0 ENCODING 'UTF8'" || exit 1
# Before PostgreSQL 15 the schema public is not the database owner's.
db_psql -c "ALTER SCHEMA public OWNER TO omade_owner" || exit 1

# ---- up, down, up --------------------------------------------------------------------

missing_role_is_named() {
  up_part "${migrations[0]}" | sed 's/readonly_user/omade_absent/g' >"$tmp/absent.sql"
  ! owner_psql -1 -f "$tmp/absent.sql" 2>"$tmp/absent.err" || return 1
  grep -q 'roles are missing.*CREATE ROLE omade_absent LOGIN' "$tmp/absent.err"
}

# Each file in a transaction of its own; down in the opposite order.
up() {
  local file
  for file in "$@"; do
    up_part "$file" >"$tmp/up.sql" && owner_psql -1 -f "$tmp/up.sql" || return 1
  done
}

down() {
  local i
  for ((i = $#; i >= 1; i--)); do
    down_part "${!i}" >"$tmp/down.sql" && owner_psql -1 -f "$tmp/down.sql" || return 1
  done
}

# What a dump says but for its comments; the order of GRANTs tells nothing.
plain() { grep -Ev '^(--.*)?$' "$1" | sort; }

printf '# migration\n'
check "a missing role is named, with what to do" missing_role_is_named
owner_psql -c "CREATE TABLE schema_migrations (version integer)"
owner_psql -c "CREATE EXTENSION pg_trgm"
schema_of >"$tmp/empty"
check "001, as the owner, who is no superuser" up "${migrations[0]}"
schema_of >"$tmp/initial"
check "the later ones" up "${migrations[@]:1}"
schema_of >"$tmp/first"
check "app_user reads schema_migrations" \
  db_psql -c "SET ROLE app_user; SELECT count(*) FROM schema_migrations"
check "app_user does not write schema_migrations" bash -c \
  "! psql -Xq -v ON_ERROR_STOP=1 -d '$(url_of "$name")' -c 'SET ROLE app_user; DELETE FROM schema_migrations'"
check "down to 001" down "${migrations[@]:1}"
schema_of >"$tmp/after_later"
check "leaves what 001 had made" diff <(plain "$tmp/initial") <(plain "$tmp/after_later")
check "down" down "${migrations[0]}"
schema_of | grep -v 'schema_migrations TO ' >"$tmp/after_down"
check "down leaves nothing behind" diff <(plain "$tmp/empty") <(plain "$tmp/after_down")
check "up again" up "${migrations[@]}"
schema_of >"$tmp/second"
check "gives the same schema" diff "$tmp/first" "$tmp/second"

# ---- seeds ---------------------------------------------------------------------------

printf '# seeds\n'
check "the seeds" owner_psql -1 -f "$seeds"
data_of >"$tmp/data1"
check "the seeds again" owner_psql -1 -f "$seeds"
data_of >"$tmp/data2"
check "change nothing" diff "$tmp/data1" "$tmp/data2"

# By the owner, beside an extension that somebody else has made.
dump_and_restore() {
  admin_psql -c "CREATE DATABASE ${name}_b OWNER omade_owner TEMPLATE template0 ENCODING 'UTF8'" &&
    run_psql -d "$(url_of "${name}_b")" -c "ALTER SCHEMA public OWNER TO omade_owner" \
      -c "CREATE EXTENSION pg_trgm" &&
    pg_dump -Fc -d "$(url_of "$name")" -f "$tmp/dump" &&
    pg_restore --exit-on-error --no-comments --role=omade_owner -d "$(url_of "${name}_b")" "$tmp/dump" &&
    diff <(data_of) <(name=${name}_b data_of)
}
check "a dump is restored whole by the owner, its triggers counting nothing twice" dump_and_restore

typing_error_is_found() {
  [ "$(PGOPTIONS='-c role=app_user' db_psql -c "SELECT count(*) > 0 FROM search_products('choclate')")" = t ]
}
check "a search is a session's first statement" typing_error_is_found

# ---- files of asserts ----------------------------------------------------------------

db_psql -f "$here/helpers.sql" || exit 1
for file in schema totals views ratings rows rights search seed; do run_file "$file"; done

# ---- stock is written in place -------------------------------------------------------

# Counters arrive when the session that made them has ended (on 14: soon after).
printf '# stock\n'
db_psql -c "SELECT pg_stat_reset()" >/dev/null
db_psql >/dev/null <<'SQL'
DO $$
BEGIN
    FOR i IN 1..600 LOOP
        PERFORM t.app('staff', t.usr(4)::text);
        UPDATE products SET stock = CASE WHEN stock = 0 THEN 0 WHEN stock % 2 = 0 THEN stock + 1 ELSE stock - 1 END
         WHERE id = t.product(1 + i % 3);
        COMMIT;
    END LOOP;
END
$$;
SQL
check "stock is updated in place (HOT), 9 times of 10 at least" wait_for \
  "SELECT n_tup_upd >= 600 AND n_tup_hot_upd >= 0.9 * n_tup_upd FROM pg_stat_user_tables WHERE relname = 'products'"

# ---- two at once ---------------------------------------------------------------------

# first SQL, second SQL: the first stays open until the second waits for it, or until the
# second is done without waiting.
two_at_once() {
  local first=$1 second=$2
  rm -f "$tmp/fifo"
  mkfifo "$tmp/fifo"
  PGAPPNAME=omade_first db_psql -f "$tmp/fifo" >/dev/null 2>"$tmp/first.err" &
  local first_pid=$!
  exec 9>"$tmp/fifo"
  printf 'BEGIN;\n%s\nSELECT pg_advisory_xact_lock(%d);\n' "$first" $$ >&9
  wait_for "SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = $$ AND granted" ||
    { exec 9>&-; return 1; }
  PGAPPNAME=omade_second db_psql -c "$second" >/dev/null 2>"$tmp/second.err" &
  local second_pid=$!
  wait_for "SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = 'omade_second'
             AND datname = current_database() AND wait_event_type = 'Lock'"
  local waited=$?
  printf 'COMMIT;\n' >&9
  exec 9>&-
  wait $first_pid && wait $second_pid && [ $waited -eq 0 ] && return 0
  cat "$tmp/first.err" "$tmp/second.err"
  return 1
}

printf '# two at once\n'
db_psql -c "INSERT INTO orders (id, user_id, total_amount) VALUES (t.ord(801), t.usr(1), 0);
  INSERT INTO products (id, name, price) VALUES (t.product(801), 'Busy', 1)"
add_line="INSERT INTO order_items (order_id, product_id, quantity, unit_price, subtotal) VALUES (t.ord(801), t.product(801), 1"
check "two add lines to one order: the second waits" two_at_once "$add_line, 5, 5);" "$add_line, 7, 7)"
check "and its total has both" wait_for "SELECT total_amount = 12 FROM orders WHERE id = t.ord(801)"

review="INSERT INTO reviews (user_id, product_id, rating) VALUES"
check "two review one product: the second waits" two_at_once \
  "$review (t.usr(1), t.product(801), 5);" "$review (t.usr(2), t.product(801), 2)"
check "and both are counted" wait_for \
  "SELECT (rating_sum, review_count) = (7, 2) FROM product_ratings WHERE product_id = t.product(801)"

check "a delivery while a line is added: the second waits" two_at_once \
  "$add_line, 1, 1);" "UPDATE orders SET status = 'delivered' WHERE id = t.ord(801)"
check "and every piece is counted" wait_for \
  "SELECT sold = 3 FROM product_ratings WHERE product_id = t.product(801)"

# ---- end -----------------------------------------------------------------------------

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
