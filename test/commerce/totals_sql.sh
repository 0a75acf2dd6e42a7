#!/usr/bin/env bash
# 100,000 random orders, priced by totals_of and once more by PostgreSQL in numeric.
#
#   TEST_ADMIN_DATABASE_URL=... totals_sql.sh TOTALS_ROWS [ORDERS]
#
# Temporary tables only: nothing stays behind.
set -euo pipefail

rows=${1:?the program totals_rows is expected} orders=${2:-100000}
: "${TEST_ADMIN_DATABASE_URL:?a connection URL is expected}"

result=$(psql -XqAt -v ON_ERROR_STOP=1 -d "$TEST_ADMIN_DATABASE_URL" <<SQL
CREATE TEMP TABLE o (id int PRIMARY KEY, result int, kind text, amount numeric,
    minimum numeric, points bigint, available bigint, hundred numeric, delivery boolean,
    fee numeric, free_from numeric, tip numeric, tax numeric, c_subtotal numeric,
    c_discount numeric, c_points bigint, c_points_amount numeric, c_fee numeric,
    c_tax numeric, c_total numeric);
CREATE TEMP TABLE l (id int, n int, quantity bigint, price numeric, c_subtotal numeric,
    c_discount numeric, PRIMARY KEY (id, n));
\copy o FROM PROGRAM '"$rows" $orders orders'
\copy l FROM PROGRAM '"$rows" $orders lines'
ANALYZE o, l;

CREATE TEMP TABLE priced AS
WITH sums AS (
    SELECT id, sum(quantity * price) AS subtotal FROM l GROUP BY id
), discounts AS (
    SELECT o.*, subtotal, CASE kind WHEN 'percent' THEN round(subtotal * amount / 100, 2)
        WHEN 'fixed' THEN least(amount, subtotal) ELSE 0 END AS discount
      FROM o JOIN sums USING (id)
), redeemed AS (
    SELECT *, subtotal - discount AS goods, CASE WHEN hundred = 0 THEN 0
        ELSE least(points, floor((subtotal - discount) * 100 / hundred)) END AS pts
      FROM discounts
), parts AS (
    SELECT *, trunc(pts * hundred / 100, 2) AS points_amount,
        CASE WHEN delivery AND (free_from IS NULL OR goods < free_from) THEN fee ELSE 0 END
            AS due_fee,
        round(goods * tax / 100, 2) AS due_tax
      FROM redeemed
)
SELECT *, subtotal - discount - points_amount + due_fee + tip + due_tax AS total FROM parts;

-- What the result should have been: the values of enum totals_result.
SELECT 'result ' || id FROM priced WHERE result <> CASE
    WHEN subtotal > 999999.99 THEN 4
    WHEN kind IS NOT NULL AND subtotal < minimum THEN 2
    WHEN points > available THEN 3
    WHEN total > 999999.99 THEN 4 ELSE 0 END;
SELECT 'order ' || id FROM priced WHERE result = 0 AND
    (c_subtotal, c_discount, c_points, c_points_amount, c_fee, c_tax, c_total)
    IS DISTINCT FROM (subtotal, discount, pts, points_amount, due_fee, due_tax, total);

-- Shares: differences of rounded-down running totals.
WITH running AS (
    SELECT l.*, discount, subtotal,
        sum(quantity * price) OVER (PARTITION BY id ORDER BY n) AS upto
      FROM l JOIN priced USING (id) WHERE result = 0
), due AS (
    SELECT *, CASE WHEN discount = 0 THEN 0
        ELSE div(discount * upto * 100, subtotal) / 100 END AS share_upto FROM running
)
SELECT 'line ' || id || ' ' || n FROM (
    SELECT *, share_upto - lag(share_upto, 1, 0) OVER (PARTITION BY id ORDER BY n) AS share
      FROM due) shares
 WHERE c_subtotal <> quantity * price OR c_discount <> share;

SELECT 'line discounts of ' || id FROM priced p WHERE result = 0 AND
    c_discount <> (SELECT sum(l.c_discount) FROM l WHERE l.id = p.id);
SELECT 'only ' || count(*) || ' orders could be placed' FROM priced WHERE result = 0
HAVING count(*) < $orders / 2;
SELECT 'orders are missing' FROM priced HAVING count(*) <> $orders;
SQL
)

if [[ -n $result ]]; then
  printf 'not ok PostgreSQL disagrees:\n%s\n0 passed, 1 failed\n' "$(head -n 20 <<<"$result")"
  exit 1
fi
echo "ok $orders orders equal PostgreSQL's numeric"
echo '1 passed, 0 failed'
