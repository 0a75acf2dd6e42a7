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

# holds LABEL QUERY: it answers "t".
holds() {
  local answer
  answer=$(db_psql -c "$2" 2>&1)
  if [ "$answer" = t ]; then echo "ok - $1"; else echo "not ok - $1: $answer"; fi >"$tmp/line"
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
owner_psql -1 -f "$here/legacy.sql"
check "the later ones, over what was there" up "${migrations[@]:1}"
holds "addresses in lower case, empty phone numbers gone, an account for everybody" \
  "SELECT string_agg(format('%s|%s|%s', email, phone, points), ' ' ORDER BY email) = 'old@example.com||44 rider@example.com||0'
     FROM users u JOIN loyalty_points l ON l.user_id = u.id"
holds "codes in upper case, unlimited ones uncounted" "SELECT code = 'SUMMER' AND used_count = 0 FROM promo_codes"
holds "a slot with its orders, assigned to somebody or nobody" \
  "SELECT format('%s %s %s', status, booked, capacity) = 'available 2 10' FROM delivery_schedules"
holds "orders numbered as they came, by day" \
  "SELECT string_agg(order_number, ' ' ORDER BY id) = 'ORD20260104004 ORD20260103003 ORD20260102002 ORD20260101001' FROM orders"
holds "with their amounts and ways" \
  "SELECT bool_and(subtotal = 22 AND total_amount = 22 AND (fulfilment = 'delivery') = (delivery_schedule_id IS NOT NULL)
     AND (status = 'refunded') = (payment_status = 'refunded')) AND count(DISTINCT tracking_token) = 4 FROM orders"
holds "lines with names" "SELECT string_agg(DISTINCT product_name, ' ' ORDER BY product_name) = 'Bread Cake' FROM order_items"
holds "a cake with its line" "SELECT c.unit_price = 20 AND i.product_name = 'Cake' FROM custom_cake_configurations c JOIN order_items i ON i.id = c.order_item_id"
holds "points and refunds carried over, and a history" \
  "SELECT (SELECT sum(points) FROM loyalty_ledger) = 44 AND (SELECT sum(amount) FROM refunds) = 22
      AND (SELECT string_agg(status, ' ' ORDER BY id) FROM order_status_history WHERE order_id::text LIKE '%4') = 'pending delivered'"
holds "figures as before" "SELECT sum(sold) = 2 FROM product_ratings"
owner_psql -c "INSERT INTO orders (guest_name, guest_phone, total_amount, status) VALUES ('Guest', '+1234567890', 5, 'ready')"
schema_of >"$tmp/first"
check "app_user reads schema_migrations" \
  db_psql -c "SET ROLE app_user; SELECT count(*) FROM schema_migrations"
check "app_user does not write schema_migrations" bash -c \
  "! psql -Xq -v ON_ERROR_STOP=1 -d '$(url_of "$name")' -c 'SET ROLE app_user; DELETE FROM schema_migrations'"
check "down to 001" down "${migrations[@]:1}"
schema_of >"$tmp/after_later"
holds "keeps all orders, a guest's too" "SELECT count(*) = 5 AND sum(total_amount) = 93 AND bool_and(user_id IS NOT NULL) FROM orders"
holds "and the points" "SELECT sum(points) = 44 FROM loyalty_points"
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
for file in schema totals views figures ratings people orders operations rows rights search seed; do run_file "$file"; done

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

# A session that has run some SQL and keeps its transaction open.
hold_open() {
  rm -f "$tmp/fifo"
  mkfifo "$tmp/fifo"
  PGAPPNAME=omade_first db_psql -f "$tmp/fifo" >/dev/null 2>"$tmp/first.err" &
  first_pid=$!
  exec 9>"$tmp/fifo"
  printf 'BEGIN;\n%s\nSELECT pg_advisory_xact_lock(%d);\n' "$1" $$ >&9
  wait_for "SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = $$ AND granted" ||
    { exec 9>&-; return 1; }
}

# It commits.
let_go() {
  printf 'COMMIT;\n' >&9
  exec 9>&-
  wait "$first_pid"
}

# first SQL, second SQL: the first stays open until the second waits for it, or until the
# second is done without waiting.
two_at_once() {
  local first=$1 second=$2
  hold_open "$first" || return 1
  PGAPPNAME=omade_second db_psql -c "$second" >/dev/null 2>"$tmp/second.err" &
  local second_pid=$!
  wait_for "SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = 'omade_second'
             AND datname = current_database() AND wait_event_type = 'Lock'"
  local waited=$?
  let_go && wait $second_pid && [ $waited -eq 0 ] && return 0
  cat "$tmp/first.err" "$tmp/second.err"
  return 1
}

# first SQL, second SQL: the second is done while the first is open.
side_by_side() {
  local first=$1 second=$2 answer
  hold_open "$first" || return 1
  answer=$(db_psql -c "SET lock_timeout = '10s'" -c "$second" 2>&1)
  let_go && [ "$answer" = t ] && return 0
  echo "$answer"
  cat "$tmp/first.err"
  return 1
}

# SQL that is refused by a CHECK, once nobody is in its way.
# shellcheck disable=SC2016 # PostgreSQL's dollars
refused() { printf 'DO $do$ BEGIN %s RAISE $$done$$; EXCEPTION WHEN check_violation THEN NULL; END $do$' "$1"; }

printf '# two at once\n'
db_psql -c "INSERT INTO orders (id, user_id, total_amount) VALUES (t.ord(801), t.usr(1), 0);
  INSERT INTO products (id, name, price) VALUES (t.product(801), 'Busy', 1)"
add_line="INSERT INTO order_items (order_id, product_id, quantity, unit_price, subtotal) VALUES (t.ord(801), t.product(801), 1"
check "two add lines to one order: the second waits" two_at_once "$add_line, 5, 5);" "$add_line, 7, 7)"
check "and its total has both" wait_for "SELECT total_amount = 12 FROM orders WHERE id = t.ord(801)"

db_psql -c "INSERT INTO orders (id, user_id, subtotal, total_amount) VALUES (t.ord(802), t.usr(1), 7, 7)"
add_more=${add_line//801), t.product/802), t.product}
check "also when the second's own lines are the total already" two_at_once "$add_more, 5, 5);" "$add_more, 7, 7)"
check "and its total has both" wait_for "SELECT total_amount = 12 FROM orders WHERE id = t.ord(802)"

review="INSERT INTO reviews (user_id, product_id, rating) VALUES"
check "two review one product: the second waits" two_at_once \
  "$review (t.usr(1), t.product(801), 5);" "$review (t.usr(2), t.product(801), 2)"
check "and both are counted" wait_for \
  "SELECT (rating_sum, review_count) = (7, 2) FROM product_ratings WHERE product_id = t.product(801)"

check "a delivery while a line is added: the second waits" two_at_once \
  "$add_line, 1, 1);" "UPDATE orders SET status = 'delivered' WHERE id = t.ord(801)"
check "and every piece is counted" wait_for \
  "SELECT sold = 3 FROM product_ratings WHERE product_id = t.product(801)"

# The counters that orders share.
db_psql <<'SQL' >/dev/null
INSERT INTO delivery_schedules (id, delivery_date, delivery_time, capacity, rider_id, status) VALUES
    (t.ord(1), '2002-01-01', '09:00-11:00', 1, NULL, 'available'), (t.ord(2), '2002-01-02', '09:00-11:00', 3, t.usr(6), 'assigned'),
    (t.ord(3), '2002-01-03', '09:00-11:00', 5, NULL, 'available');
INSERT INTO promo_codes (id, code, discount_type, amount, valid_from, valid_to, usage_limit, per_user_limit) VALUES
    (t.ord(1), 'LAST', 'fixed', 1, now(), now() + interval '1 day', 1, NULL), (t.ord(2), 'FREELY', 'fixed', 1, now(), now() + interval '1 day', NULL, NULL),
    (t.ord(3), 'ONLYONE', 'fixed', 1, now(), now() + interval '1 day', NULL, 1);
INSERT INTO orders (id, user_id, total_amount, points_redeemed) SELECT t.ord(n), t.usr(19), 0, 60 FROM generate_series(811, 819) AS n;
INSERT INTO orders (id, user_id, total_amount, fulfilment, delivery_schedule_id, status)
    SELECT t.ord(n), t.usr(19), 0, 'delivery', t.ord(2), 'dispatched' FROM unnest(ARRAY[821, 822]) AS n;
INSERT INTO loyalty_ledger (user_id, points, reason) VALUES (t.usr(19), 100, 'adjusted');
SQL
into_slot="INSERT INTO orders (user_id, total_amount, fulfilment, delivery_schedule_id) VALUES (t.usr(19), 0, 'delivery', t.ord(1));"
check "two take the last place of a slot: the second waits, and is refused" two_at_once "$into_slot" "$(refused "$into_slot")"
check "and one has it" wait_for "SELECT booked = 1 FROM delivery_schedules WHERE id = t.ord(1)"

spend() { echo "INSERT INTO loyalty_ledger (user_id, points, reason, order_id) VALUES (t.usr(19), -60, 'redeemed', t.ord($1));"; }
check "two spend the same points: the second waits, and is refused" two_at_once "$(spend 811)" "$(refused "$(spend 812)")"
check "and the balance is right" wait_for "SELECT points = 40 FROM loyalty_points WHERE user_id = t.usr(19)"

use() { echo "SELECT t.app('customer', t.usr(19)::text); SELECT * FROM lock_promo('$1', t.usr(19), NULL);
  INSERT INTO promo_redemptions (promo_code_id, order_id, user_id, amount) VALUES (t.ord($2), t.ord($3), t.usr(19), 1);"; }
seen() { printf "SELECT set_config('app.user_role', 'customer', false); DO \$\$ BEGIN IF NOT (SELECT %s FROM lock_promo('%s', t.usr(%s), NULL)) THEN RAISE 'not seen'; END IF; END \$\$" "$2" "$1" "$3"; }
check "two use a code for the last time: the second waits, and sees it used" two_at_once "$(use LAST 1 813)" "$(seen LAST 'used_count = usage_limit' 18)"
check "one uses a code twice that is for once: the second waits, and sees it used" two_at_once "$(use ONLYONE 3 814)" "$(seen ONLYONE 'buyer_uses = 1' 19)"
check "many use an unlimited code: nobody waits" side_by_side "$(use FREELY 2 815)" \
  "SELECT set_config('app.user_role', 'customer', false) = '' OR EXISTS (SELECT FROM lock_promo('FREELY', t.usr(18), NULL))"

check "who has an unlimited code in his hands keeps nobody from changing it" side_by_side \
  "SELECT t.app('customer', t.usr(19)::text); SELECT * FROM lock_promo('FREELY', t.usr(19), NULL);" \
  "UPDATE promo_codes SET amount = 2 WHERE code = 'FREELY' RETURNING true"
set_limit="SELECT t.app('admin', t.usr(3)::text); UPDATE promo_codes SET usage_limit = 9 WHERE code = 'FREELY';"
uses_of() { wait_for "SELECT (used_count, usage_limit) = ($2, 9) FROM promo_codes WHERE code = '$1'"; }
check "an unlimited code is used while it gets a limit: the admin waits" two_at_once "$(use FREELY 2 816)" "$set_limit"
check "and the uses so far are counted" uses_of FREELY 2
no_limit="UPDATE promo_codes SET usage_limit = NULL WHERE code = 'FREELY'"
db_psql -c "$no_limit"
check "a use is returned while it gets a limit: the admin waits" two_at_once \
  "UPDATE promo_redemptions SET returned_at = now() WHERE order_id = t.ord(816);" "$set_limit"
check "and the use is counted no more" uses_of FREELY 1
db_psql -c "$no_limit"
check "it gets a limit while it is used: the buyer waits" two_at_once "$set_limit" "$(use FREELY 2 817)"
check "and his use is counted" uses_of FREELY 2

claim="claim_idempotency_key('POST /orders', 'k')"
check "a key that is in flight is told at once" side_by_side "SELECT * FROM $claim;" "SELECT NOT claimed FROM $claim"
check "and free afterwards" wait_for "SELECT claimed FROM $claim"

deliver() { echo "UPDATE orders SET status = 'delivered' WHERE id = t.ord($1);"; }
check "the last two of a slot are delivered at once: the second waits" two_at_once "$(deliver 821)" "$(deliver 822)"
check "and the slot is completed" wait_for "SELECT status = 'completed' FROM delivery_schedules WHERE id = t.ord(2)"

# Figures of sales: two of different buyers and products in one quarter of an hour.
db_psql <<'SEED' >/dev/null
INSERT INTO products (id, name, price) VALUES (t.product(811), 'Quiet', 1), (t.product(812), 'Still', 1);
INSERT INTO orders (id, user_id, subtotal, total_amount, status) SELECT t.ord(n), t.usr(17 + n % 2), 1, 1, 'ready' FROM unnest(ARRAY[831, 832, 833]) AS n;
INSERT INTO order_items (order_id, product_id, quantity, unit_price, subtotal) VALUES
    (t.ord(831), t.product(811), 1, 1, 1), (t.ord(832), t.product(812), 1, 1, 1), (t.ord(833), t.product(812), 1, 1, 1);
SEED
check "two are delivered in one quarter of an hour: nobody waits" side_by_side "$(deliver 831)" \
  "UPDATE orders SET status = 'delivered' WHERE id = t.ord(832) RETURNING true"
check "one buyer's two: the second waits" two_at_once "$(deliver 833)" \
  "UPDATE orders SET status = 'preparing', delivered_at = NULL WHERE id = t.ord(831)"
check "a delivery while the figures are merged: nobody waits" side_by_side \
  "SELECT set_config('app.user_role', 'system', true), compact_sales_figures(), compact_report_figures();" \
  "UPDATE orders SET status = 'delivered' WHERE id = t.ord(831) RETURNING true"
sales_hold() {
  wait_for "SELECT t.wrong_figures() IS NULL" || { db_psql -c "SELECT t.wrong_figures()"; return 1; }
}
check "and all of them are right" sales_hold
made_anew() {
  db_psql -c "DELETE FROM order_figures; DELETE FROM user_order_figures; DELETE FROM user_sales_figures;
    UPDATE slot_figures SET open = open + 1; UPDATE promo_figures SET uses = uses + 1;
    INSERT INTO sales_figures SELECT * FROM sales_figures; INSERT INTO product_sales_figures SELECT * FROM product_sales_figures;
    INSERT INTO user_sales_movements SELECT id, now(), 1, 100 FROM users" || return 1
  [[ $(db_psql -c "SELECT t.wrong_figures() IS NOT NULL") == t ]] || return 1
  up_part "$root"/migrations/016_*.sql >"$tmp/up.sql" && owner_psql -1 -f "$tmp/up.sql" &&
    [[ $(db_psql -c "SELECT t.wrong_figures() IS NULL") == t ]]
}
check "figures that are wrong are made anew" made_anew
# Each takes what the other has, in the other order: deliveries, refunds and merging.
mill() {
  local i pids=()
  for ((i = 0; i < 8; i++)); do
    db_psql >/dev/null 2>>"$tmp/mill.err" <<SEED &
SET app.user_role = 'system';
DO \$\$ BEGIN FOR i IN 1..30 LOOP
  UPDATE orders SET status = CASE status WHEN 'delivered' THEN 'preparing' ELSE 'delivered' END, delivered_at = NULL
   WHERE id = t.ord(831 + ($i + i) % 3);
  PERFORM lock_points(user_id) FROM orders WHERE id = t.ord(831 + ($i + i) % 3);
  COMMIT;
  IF i % 10 = 0 THEN PERFORM compact_sales_figures(), compact_report_figures(); COMMIT; END IF;
END LOOP; END \$\$;
SEED
    pids+=($!)
  done
  for i in "${pids[@]}"; do wait "$i" || { cat "$tmp/mill.err"; return 1; }; done
  sales_hold
}
check "eight deliver and take back three orders while figures are merged: no deadlock, all right" mill

# All of it at once: orders placed in one slot with a promotion, cancelled, delivered, moved, deleted.
crowd_of_all() {
  local i pids=()
  for ((i = 0; i < 8; i++)); do
    db_psql >/dev/null 2>>"$tmp/all.err" <<SEED &
SET app.user_role = 'system';
DO \$\$ DECLARE made uuid; BEGIN FOR i IN 1..25 LOOP
  made := gen_random_uuid();
  INSERT INTO orders (id, user_id, subtotal, total_amount, fulfilment, delivery_schedule_id)
    VALUES (made, t.usr(17 + ($i + i) % 3), 1, 1, 'delivery', t.ord(871 + ($i + i) % 2));
  INSERT INTO order_items (order_id, product_id, quantity, unit_price, subtotal) VALUES (made, t.product(811), 1, 1, 1);
  INSERT INTO promo_redemptions (promo_code_id, order_id, user_id, amount)
    SELECT id, made, t.usr(17 + ($i + i) % 3), 0 FROM promo_codes WHERE code = 'CROWD';
  COMMIT;
  UPDATE orders SET status = (ARRAY['delivered', 'cancelled', 'preparing'])[1 + i % 3], payment_status = 'paid' WHERE id = made;
  UPDATE promo_redemptions SET returned_at = now() WHERE order_id = made AND i % 3 = 1;
  COMMIT;
  IF i % 5 = 0 THEN
    PERFORM lock_points(user_id), lock_slot(delivery_schedule_id) FROM orders WHERE id = made;
    DELETE FROM orders WHERE id = made;
    COMMIT;
  END IF;
  IF i % 5 = 1 THEN PERFORM compact_sales_figures(), compact_report_figures(); COMMIT; END IF;
END LOOP; END \$\$;
SEED
    pids+=($!)
  done
  for i in "${pids[@]}"; do wait "$i" || { cat "$tmp/all.err"; return 1; }; done
  sales_hold
}
db_psql -c "INSERT INTO delivery_schedules (id, delivery_date, delivery_time, capacity)
  SELECT t.ord(n), date '2031-01-01' + n, '09:00-11:00', 500 FROM generate_series(871, 872) n;
  INSERT INTO promo_codes (code, discount_type, amount, valid_from, valid_to) VALUES ('CROWD', 'fixed', 1, now(), now() + interval '1 day')" >/dev/null
check "eight order, deliver, cancel and delete while figures are merged: no deadlock, all right" crowd_of_all

# Sixteen want five places.
crowd() {
  local i pids=()
  for ((i = 0; i < 16; i++)); do
    db_psql -c "${into_slot/t.ord(1)/t.ord(3)}" >/dev/null 2>&1 &
    pids+=($!)
  done
  for i in "${pids[@]}"; do wait "$i"; done
  [ "$(db_psql -c "SELECT booked || ' ' || (SELECT count(*) FROM orders WHERE delivery_schedule_id = d.id)
                     FROM delivery_schedules d WHERE id = t.ord(3)")" = "5 5" ]
}
check "sixteen want five places: five have one" crowd

# ---- who listens ---------------------------------------------------------------------

printf '# notifications\n'
told() {
  [ "$(db_psql -c "LISTEN order_events" -c "INSERT INTO order_status_history (order_id, status, payment_status, by_role)
    VALUES (t.ord(811), $1, 'system')" 2>&1 | sed -n 's/.*"order_events".*payload "\([^"]*\)".*/\1/p')" = "$2" ]
}
order=$(db_psql -c "SELECT t.ord(811)")
check "a new order wakes nobody" told "'pending', NULL" ""
check "a changed one its streams" told "'confirmed', NULL" "$order"
check "a paid one, too" told "'pending', 'paid'" "$order"

# ---- end -----------------------------------------------------------------------------

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
