-- schema.sql -- tables, columns, constraints and indexes are what docs/data.md says.

BEGIN;

-- ---- columns ------------------------------------------------------------------------

SELECT t.same(
    (SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class
      WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
        AND relname <> 'schema_migrations'),
    'audit_log custom_cake_configurations delivery_schedules idempotency_keys '
    'loyalty_ledger loyalty_points newsletter_subscribers order_figures order_items '
    'order_status_history orders outbox password_resets payments product_ratings '
    'product_sales_figures products promo_codes promo_figures promo_redemptions refunds '
    'reviews sales_figures slot_figures uploads user_identities user_order_figures '
    'user_sales_figures user_sales_movements users',
    'the tables');

SELECT t.same(
    (SELECT string_agg(format('%s.%s', table_name, column_name), ' ')
       FROM information_schema.columns
      WHERE table_schema = 'public' AND is_nullable = 'YES'
        AND column_name IN ('created_at', 'updated_at', 'valid_from', 'valid_to')
        AND table_name IN (SELECT relname FROM pg_class WHERE relkind = 'r')),
    NULL, 'no row is without its timestamps');

SELECT t.same(count(*), 0::bigint, 'uuid-ossp is not needed') FROM pg_extension
 WHERE extname = 'uuid-ossp';
SELECT t.same(count(*), 1::bigint, 'pg_trgm is there') FROM pg_extension WHERE extname = 'pg_trgm';

-- ---- constraints --------------------------------------------------------------------

SELECT t.owner();

SELECT t.fails($$UPDATE products SET price = 'NaN' WHERE id = t.product(1)$$, '23514', 'a price is a number');
SELECT t.fails($$UPDATE products SET price = -0.01 WHERE id = t.product(1)$$, '23514', 'no negative price');
SELECT t.fails($$UPDATE products SET stock = -1 WHERE id = t.product(1)$$, '23514', 'no negative stock');
SELECT t.fails($$UPDATE orders SET total_amount = 'NaN' WHERE id = t.ord(1)$$, '23514', 'a total is a number');
SELECT t.fails($$UPDATE order_items SET unit_price = 'NaN' WHERE order_id = t.ord(1)$$, '23514', 'a unit price is a number');
SELECT t.fails($$UPDATE promo_codes SET amount = 'NaN'$$, '23514', 'a discount is a number');
SELECT t.fails($$UPDATE orders SET refunded_amount = total_amount + 0.01 WHERE id = t.ord(1)$$, '23514',
    'no more is given back than was paid');
SELECT t.fails($$UPDATE orders SET refunded_amount = 'NaN' WHERE id = t.ord(1)$$, '23514', 'a refund is a number');
SELECT t.fails($$UPDATE orders SET delivered_at = NULL, status = 'unknown' WHERE id = t.ord(1)$$, '23514',
    'a status is one of the list');

SELECT t.same(t.attempt(format($$UPDATE products SET allergens = %L WHERE id = t.product(1)$$, given)),
              wanted, 'allergens ' || given)
  FROM (VALUES
    ('{}', '1'),
    ('{gluten,crustaceans,eggs,fish,peanuts,soybeans,milk,nuts,celery,mustard,sesame,sulphites,lupin,molluscs}', '1'),
    ('{Milk}', '23514'),
    ('{milk,chocolate}', '23514'),
    ('{NULL}', '23514')) AS v(given, wanted);
SELECT t.fails($$UPDATE products SET allergens = NULL$$, '23502', 'allergens are never unknown');

SELECT t.fails($$DELETE FROM products WHERE id = t.product(1)$$, '23503', 'a product with sales stays');
SELECT t.same(t.attempt($$DELETE FROM products WHERE id = t.product(20)$$), '1', 'one without sales may go');

WITH stamped AS (
    INSERT INTO orders (user_id, total_amount, status) VALUES (t.usr(1), 0, 'delivered')
    RETURNING delivered_at)
SELECT t.same(delivered_at, now(), 'a delivered order has its time') FROM stamped;
WITH kept AS (
    UPDATE orders SET status = 'delivered', delivered_at = '2026-01-01 12:00Z' WHERE id = t.ord(52)
    RETURNING delivered_at)
SELECT t.same(delivered_at, '2026-01-01 12:00Z'::timestamptz, 'also one that was given') FROM kept;

UPDATE users SET phone = phone, updated_at = '2000-01-01' WHERE id = t.usr(1);
SELECT t.same(updated_at, now(), 'updated_at is the time of the change') FROM users WHERE id = t.usr(1);

-- ---- indexes ------------------------------------------------------------------------

SELECT t.same(
    (SELECT string_agg(indexrelid::regclass::text, ' ') FROM pg_index
      WHERE indexrelid::regclass::text IN ('idx_users_email', 'idx_promo_codes_code',
            'idx_loyalty_points_user_id', 'idx_products_fts',
            'idx_reviews_user_id', 'idx_reviews_product_id', 'idx_orders_user_id')),
    NULL, 'no index that another one covers');

SELECT t.ok(to_regclass('public.' || name) IS NOT NULL, 'index ' || name)
  FROM unnest(ARRAY['idx_users_role', 'idx_products_category', 'idx_products_price',
    'idx_products_stock', 'idx_products_search', 'idx_products_name_trgm', 'idx_orders_status',
    'idx_orders_payment_status', 'idx_orders_created_at', 'idx_orders_user_status',
    'idx_orders_user_created', 'idx_orders_delivery_schedule_id', 'idx_order_items_order_id',
    'idx_order_items_product_id', 'idx_reviews_rating', 'idx_reviews_created_at',
    'idx_reviews_product_rating', 'idx_promo_codes_valid_dates', 'idx_promo_codes_active',
    'idx_delivery_schedules_date', 'idx_delivery_schedules_rider_id',
    'idx_delivery_schedules_status', 'idx_custom_cake_extras']) AS name;

-- A foreign key without an index makes every DELETE of its target read the whole table.
SELECT t.same(
    (SELECT string_agg(c.conname, ' ') FROM pg_constraint c
      WHERE c.contype = 'f' AND c.connamespace = 'public'::regnamespace
        AND NOT EXISTS (SELECT FROM pg_index i
                         WHERE i.indrelid = c.conrelid AND i.indkey[0] = c.conkey[1]
                           AND i.indpred IS NULL)),
    NULL, 'every foreign key has an index');

-- No two indexes with the same beginning, unless one of them is unique or partial.
SELECT t.same(
    (SELECT string_agg(a.indexrelid::regclass || ' in ' || b.indexrelid::regclass, ', ')
       FROM pg_index a JOIN pg_index b
         ON a.indrelid = b.indrelid AND a.indexrelid <> b.indexrelid
      WHERE a.indrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace)
        AND NOT a.indisunique AND a.indpred IS NULL AND b.indpred IS NULL
        AND a.indexprs IS NULL AND b.indexprs IS NULL
        AND (b.indkey::text || ' ') LIKE (a.indkey::text || ' %')
        AND (SELECT relam FROM pg_class WHERE oid = a.indexrelid)
          = (SELECT relam FROM pg_class WHERE oid = b.indexrelid)),
    NULL, 'no index is the beginning of another');

SELECT t.ok(EXISTS (SELECT FROM pg_class WHERE relname = 'products'
                     AND reloptions @> '{fillfactor=90}'), 'products leave room on each page');

SELECT t.same(
    (SELECT count(*) FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid
      WHERE i.indrelid = 'products'::regclass AND a.attname = 'stock'
        AND pg_get_indexdef(i.indexrelid) ~ '\mstock\M'),
    0::bigint, 'no index mentions stock');
SELECT t.same(low_stock, stock <= 5, 'low_stock at ' || stock)
  FROM products WHERE stock IN (0, 5, 9) ORDER BY stock;

-- ---- typed parameters ---------------------------------------------------------------

SELECT t.fails($$SELECT * FROM orders WHERE user_id = 'user-uuid'$$, '22P02', 'user-uuid is no uuid');
PREPARE get_user_orders (uuid, varchar) AS
    SELECT count(*) FROM orders WHERE user_id = $1 AND status = $2;
EXECUTE get_user_orders ('00000000-0000-0000-0000-000000000002', 'delivered') \gset
SELECT t.same(:count, 4, 'the prepared example works');

ROLLBACK;
