-- views.sql -- the figures of the views, and with whose rights they are asked for.

BEGIN;

CREATE FUNCTION t.sales() RETURNS text LANGUAGE sql STABLE
RETURN (SELECT string_agg(format('%s: %s, %s', to_char(sale_date, 'YYYY-MM-DD'), order_count,
                                 total_revenue), '; ' ORDER BY sale_date)
          FROM daily_sales WHERE sale_date < '2001-02-01');

SELECT t.owner();

-- ---- product_stats ------------------------------------------------------------------

INSERT INTO products (id, name, price, stock) VALUES (t.product(900), 'Fan-out Cake', 10, 5);
INSERT INTO orders (id, user_id, total_amount, status) VALUES
    (t.ord(901), t.usr(1), 10, 'delivered'), (t.ord(902), t.usr(2), 20, 'delivered'),
    (t.ord(903), t.usr(8), 1000, 'cancelled'), (t.ord(904), t.usr(9), 60, 'pending');
INSERT INTO order_items (order_id, product_id, quantity, unit_price, subtotal) VALUES
    (t.ord(901), t.product(900), 1, 10, 10), (t.ord(902), t.product(900), 2, 10, 20),
    (t.ord(903), t.product(900), 100, 10, 1000), (t.ord(904), t.product(900), 6, 10, 60);
INSERT INTO reviews (user_id, product_id, rating) VALUES
    (t.usr(1), t.product(900), 5), (t.usr(2), t.product(900), 4), (t.usr(8), t.product(900), 3);

SELECT t.same(review_count, 3::bigint, 'three reviews are three, however many sales'),
       t.same(total_sold, 3::bigint, 'three sold are three; cancelled and pending ones are not'),
       t.same(avg_rating, 4.0, 'the average')
  FROM product_stats WHERE id = t.product(900);
SELECT t.same(avg_rating, 0.0, 'no review: 0') FROM product_stats WHERE id = t.product(20);
SELECT t.same(
    (SELECT string_agg(column_name, ' ' ORDER BY ordinal_position) FROM information_schema.columns
      WHERE table_name = 'product_stats'),
    'id name category price stock avg_rating review_count total_sold', 'its columns');

-- ---- user_order_summary -------------------------------------------------------------

INSERT INTO users (id, name, email, password_hash, role)
    VALUES (t.usr(900), 'New Person', 'new@example.com', 'x', 'customer');
SELECT t.same(last_order_date, NULL, 'no order: no date of one'),
       t.same(loyalty_points, 0, 'no account: no points'),
       t.same(total_orders, 0::bigint, 'no orders'), t.same(total_spent, 0::numeric, 'nothing spent')
  FROM user_order_summary WHERE user_id = t.usr(900);

INSERT INTO orders (user_id, total_amount, refunded_amount, status) VALUES
    (t.usr(900), 50, 8.50, 'delivered'), (t.usr(900), 30, 0, 'delivered'), (t.usr(900), 99, 0, 'cancelled');
SELECT t.same(total_orders, 2::bigint, 'delivered orders count'),
       t.same(total_spent, 71.50, 'spent is what was paid less what was given back')
  FROM user_order_summary WHERE user_id = t.usr(900);

-- ---- daily_sales --------------------------------------------------------------------

-- Placed on the 1st, delivered half an hour before midnight UTC on the 3rd.
INSERT INTO orders (user_id, total_amount, refunded_amount, status, created_at, delivered_at) VALUES
    (t.usr(900), 100, 25, 'delivered', '2001-01-01 12:00Z', '2001-01-03 23:30Z'),
    (t.usr(900), 200, 0, 'delivered', '2001-01-01 12:00Z', '2001-01-03 09:00Z'),
    (t.usr(900), 400, 0, 'cancelled', '2001-01-01 12:00Z', '2001-01-03 09:00Z');

SELECT t.same(t.sales(), '2001-01-03: 2, 275.00', 'by day of delivery, less refunds, UTC by default');
SET LOCAL timezone = 'Pacific/Auckland';
SELECT t.same(t.sales(), '2001-01-03: 2, 275.00', 'whatever the session''s time zone');
SET LOCAL app.timezone = 'Europe/Berlin';
SELECT t.same(t.sales(), '2001-01-03: 1, 200.00; 2001-01-04: 1, 75.00', 'by the shop''s day');
SET LOCAL timezone = 'UTC';
SELECT t.same(t.sales(), '2001-01-03: 1, 200.00; 2001-01-04: 1, 75.00', 'in every session');
SET LOCAL app.timezone = '';
SELECT t.same(t.sales(), '2001-01-03: 2, 275.00', 'an empty setting is UTC');

SELECT t.same(avg_order_value, 137.5, 'the average order') FROM daily_sales WHERE sale_date = '2001-01-03';

-- ---- whose rights -------------------------------------------------------------------

SELECT current_setting('server_version_num')::integer >= 150000 AS invoker \gset

\if :invoker
SELECT t.same(
    (SELECT string_agg(relname, ' ') FROM pg_class
      WHERE relkind = 'v' AND relnamespace = 'public'::regnamespace AND relname <> 'public_profiles'
        AND NOT COALESCE(reloptions @> '{security_invoker=true}', false)),
    NULL, 'views ask with the rights of their reader');

SELECT t.app('customer', t.usr(2)::text);
SELECT t.same(string_agg(user_id::text, ' '), t.usr(2)::text, 'a customer finds himself in user_order_summary')
  FROM user_order_summary;
SELECT t.same(sum(order_count), (SELECT count(*) FROM orders WHERE status = 'delivered')::numeric,
              'and his own orders in daily_sales') FROM daily_sales;
SELECT t.ok(total_sold < 3, 'and his own purchases in product_stats') FROM product_stats WHERE id = t.product(900);
SELECT t.same(sold, 3, 'but all sales in product_ratings') FROM product_ratings WHERE product_id = t.product(900);

SELECT t.app();
SELECT t.same(count(*), 0::bigint, 'nobody finds nobody in user_order_summary') FROM user_order_summary;
SELECT t.same(count(*), 0::bigint, 'nor in daily_sales') FROM daily_sales;

SELECT t.app('staff', t.usr(4)::text);
SELECT t.same(total_sold, 3::bigint, 'staff find all') FROM product_stats WHERE id = t.product(900);
\else
SELECT t.app('staff', t.usr(4)::text);
SELECT t.fails('SELECT 1 FROM ' || name, '42501', name || ' is not for the server before 15')
  FROM unnest(ARRAY['product_stats', 'user_order_summary', 'daily_sales']) AS name;
\endif

SELECT t.report();
SELECT t.ok(count(*) >= 20, 'reports read user_order_summary') FROM user_order_summary;
SELECT t.ok(count(*) >= 31, 'product_stats') FROM product_stats;
SELECT t.ok(sum(order_count) > 30, 'and daily_sales') FROM daily_sales;

-- ---- public_profiles ----------------------------------------------------------------

SELECT t.owner();
UPDATE users SET name = '  Jean Luc   Picard ' WHERE id = t.usr(1);
UPDATE users SET name = 'Madonna' WHERE id = t.usr(2);
UPDATE users SET name = E'Zoë\tÅberg' WHERE id = t.usr(8);

SELECT t.app();
SELECT t.same(string_agg(name, ', ' ORDER BY id), 'Jean P., Madonna, Zoë Å.', 'first name and initial')
  FROM public_profiles WHERE id IN (t.usr(1), t.usr(2), t.usr(8));
SELECT t.same(count(*), 0::bigint, 'only of people who wrote a review')
  FROM public_profiles WHERE id IN (t.usr(3), t.usr(18), t.usr(900));
SELECT t.same(
    (SELECT string_agg(attname, ' ' ORDER BY attnum) FROM pg_attribute
      WHERE attrelid = 'public_profiles'::regclass AND attnum > 0), 'id name', 'and no more than that');

ROLLBACK;
