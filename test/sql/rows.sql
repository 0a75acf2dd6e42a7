-- rows.sql -- row-level security: what everybody sees and may write, table by table.

-- ---- before anything is set ---------------------------------------------------------

-- The settings have never existed in this session: no row of anybody, and no error.
SET ROLE app_user;
SELECT t.same(current_setting('app.user_role', true), NULL, 'unset: the settings do not exist');
SELECT t.same((SELECT count(*) FROM users) + (SELECT count(*) FROM orders)
              + (SELECT count(*) FROM order_items) + (SELECT count(*) FROM loyalty_points)
              + (SELECT count(*) FROM custom_cake_configurations) + (SELECT count(*) FROM promo_codes),
              0::bigint, 'unset: no private row, no error');
SELECT t.ok((SELECT count(*) FROM products) >= 30 AND (SELECT count(*) FROM reviews) > 0
            AND (SELECT count(*) FROM product_ratings) >= 30, 'unset: the catalogue and its reviews');
RESET ROLE;

-- ---- who sees which rows ------------------------------------------------------------

BEGIN;

-- John (1) has order 34 with a cake, in a slot of the rider 6; Jane (2) has order 35 with
-- rider 7; 52 is dispatched today with rider 6.
CREATE TEMPORARY TABLE who (name text PRIMARY KEY, app_role text, user_id text, order_id text);
INSERT INTO who VALUES
    ('nobody', '', '', ''),
    ('customer', 'customer', t.usr(1)::text, ''),
    ('CUSTOMER 2', 'customer', upper(t.usr(2)::text), ''),
    ('rider', 'rider', t.usr(6)::text, ''),
    ('staff', 'staff', t.usr(4)::text, ''),
    ('admin', 'admin', t.usr(3)::text, ''),
    ('system', 'system', '', ''),
    ('guest', 'guest', '', t.ord(34)::text),
    ('guest without order', 'guest', '', ''),
    ('guest, malformed', 'guest', '', 'banana'),
    ('order of no guest', '', '', t.ord(34)::text),
    ('malformed', 'root', 'banana', 'banana'),
    ('shouting', 'ADMIN', '', ''),
    ('nearly a uuid', 'customer', t.usr(1)::text || ' ', ''),
    ('too short', 'customer', left(t.usr(1)::text, 35), ''),
    ('injected', 'admin'' OR ''1''=''1', ''' OR true --', ''),
    ('list', 'staff,admin', '', ''),
    ('unknown person', 'customer', 'ffffffff-ffff-ffff-ffff-ffffffffffff', '');

-- The rows of each table that somebody is meant to see, as the owner would ask for them.
CREATE TEMPORARY TABLE sees (name text, relation text, condition text);
INSERT INTO sees
SELECT w.name, r.relation,
       CASE
         WHEN r.relation IN ('products', 'product_ratings', 'reviews', 'delivery_schedules') THEN 'true'
         WHEN w.app_role IN ('staff', 'admin', 'system') THEN 'true'
         ELSE 'false'
       END
  FROM who w, unnest(ARRAY['users', 'products', 'product_ratings', 'promo_codes', 'delivery_schedules',
    'orders', 'order_items', 'reviews', 'loyalty_points', 'custom_cake_configurations']) AS r(relation);

-- A person's own; for a rider also the orders in his slots.
UPDATE sees SET condition = CASE
    WHEN relation = 'users' THEN format('id = %L', w.user_id)
    WHEN relation = 'loyalty_points' THEN format('user_id = %L', w.user_id)
    WHEN relation = 'orders' THEN own_orders
    ELSE format('order_id IN (SELECT id FROM orders WHERE %s)', own_orders) END
  FROM (SELECT name, user_id, format('user_id = %1$L OR delivery_schedule_id IN
                  (SELECT id FROM delivery_schedules WHERE rider_id = %1$L)', user_id) AS own_orders
          FROM who WHERE name IN ('customer', 'CUSTOMER 2', 'rider')) AS w
 WHERE sees.name = w.name
   AND relation IN ('users', 'loyalty_points', 'orders', 'order_items', 'custom_cake_configurations');

UPDATE sees SET condition = CASE relation WHEN 'orders' THEN 'id' ELSE 'order_id' END || format(' = %L', t.ord(34))
 WHERE name = 'guest' AND relation IN ('orders', 'order_items', 'custom_cake_configurations');
GRANT SELECT ON who, sees TO PUBLIC;

CREATE FUNCTION t.rows(relation text, condition text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    found text;
BEGIN
    EXECUTE format('SELECT count(*) || '' '' || COALESCE(md5(string_agg(k, '' '' ORDER BY k)), '''')
                      FROM (SELECT %s::text AS k FROM public.%I WHERE %s) AS x',
                   CASE relation WHEN 'product_ratings' THEN 'product_id' ELSE 'id' END, relation, condition)
       INTO found;
    RETURN found;
END
$$;

CREATE FUNCTION t.check_rows(name text, app_role text, user_id text, order_id text, relation text, condition text)
RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    want text;
    have text;
BEGIN
    PERFORM t.owner();
    want := t.rows(relation, condition);
    PERFORM t.app(app_role, user_id, order_id);
    have := t.rows(relation, 'true');
    RETURN t.same(have, want, format('%s sees %s of %s', name, split_part(want, ' ', 1), relation));
EXCEPTION WHEN OTHERS THEN
    RETURN format('not ok - %s on %s: %s', name, relation, SQLERRM);
END
$$;

-- The expectations themselves are not empty where they matter.
SELECT t.ok(count(*) > 3, 'there is something to see for ' || s.name)
  FROM (VALUES ('customer'), ('CUSTOMER 2'), ('rider')) AS s(name), orders
 WHERE user_id = CASE s.name WHEN 'customer' THEN t.usr(1) WHEN 'CUSTOMER 2' THEN t.usr(2) END
    OR (s.name = 'rider' AND delivery_schedule_id IN
          (SELECT id FROM delivery_schedules WHERE rider_id = t.usr(6)))
 GROUP BY s.name;

SELECT t.check_rows(s.name, app_role, user_id, order_id, relation, condition)
  FROM sees s JOIN who USING (name) ORDER BY s.name, relation;

-- ---- who writes which rows ----------------------------------------------------------

-- Rows touched ("all": as many as there are), or the SQLSTATE: 42501 is refused.
RESET ROLE;
CREATE TEMPORARY TABLE attempts (statement text, outcomes jsonb);
INSERT INTO attempts VALUES
    -- users
    ('UPDATE users SET name = name',
     '{"nobody": "0", "customer": "1", "rider": "1", "staff": "1", "admin": "all", "system": "all", "guest": "0", "malformed": "0"}'),
    ('UPDATE users SET role = ''admin''',
     '{"nobody": "0", "customer": "42501", "rider": "42501", "staff": "42501", "admin": "all", "system": "all", "guest": "0", "malformed": "0"}'),
    ('INSERT INTO users (name, email, password_hash, role) VALUES (''E'', ''e@example.com'', ''x'', ''admin'')',
     '{"nobody": "42501", "customer": "42501", "rider": "42501", "staff": "42501", "admin": "1", "system": "1", "guest": "42501", "malformed": "42501"}'),
    -- catalogue
    ('UPDATE products SET stock = stock',
     '{"nobody": "0", "customer": "0", "rider": "0", "staff": "all", "admin": "all", "system": "all", "guest": "0", "malformed": "0"}'),
    ('INSERT INTO products (name, price) VALUES (''E'', 1)',
     '{"nobody": "42501", "customer": "42501", "rider": "42501", "staff": "1", "admin": "1", "system": "1", "guest": "42501", "malformed": "42501"}'),
    ('DELETE FROM products WHERE id = ''10000000-0000-0000-0000-000000000020''',
     '{"nobody": "0", "customer": "0", "rider": "0", "staff": "1", "admin": "1", "system": "1", "guest": "0", "malformed": "0"}'),
    -- promotions and slots
    ('UPDATE promo_codes SET amount = amount',
     '{"nobody": "0", "customer": "0", "rider": "0", "staff": "0", "admin": "all", "system": "all", "guest": "0", "malformed": "0"}'),
    ('INSERT INTO promo_codes (code, discount_type, amount, valid_from, valid_to) VALUES (''E'', ''fixed'', 1, now(), now() + interval ''1 day'')',
     '{"nobody": "42501", "customer": "42501", "rider": "42501", "staff": "42501", "admin": "1", "system": "1", "guest": "42501", "malformed": "42501"}'),
    ('DELETE FROM promo_codes',
     '{"nobody": "0", "customer": "0", "rider": "0", "staff": "0", "admin": "23503", "system": "23503",
       "guest": "0", "malformed": "0"}'),
    ('DELETE FROM promo_codes WHERE code = ''BIRTHDAY20''',
     '{"nobody": "0", "customer": "0", "rider": "0", "staff": "0", "admin": "1", "system": "1", "guest": "0", "malformed": "0"}'),
    ('UPDATE delivery_schedules SET status = status',
     '{"nobody": "0", "customer": "0", "rider": "0", "staff": "all", "admin": "all", "system": "all", "guest": "0", "malformed": "0"}'),
    ('INSERT INTO delivery_schedules (delivery_date, delivery_time) VALUES (''2030-01-01'', ''09:00-11:00'')',
     '{"nobody": "42501", "customer": "42501", "rider": "42501", "staff": "1", "admin": "1", "system": "1", "guest": "42501", "malformed": "42501"}'),
    -- orders
    ('UPDATE orders SET status = status WHERE id = ''20000000-0000-0000-0000-000000000034''',
     '{"nobody": "0", "customer": "1", "CUSTOMER 2": "0", "rider": "1", "staff": "1", "admin": "1", "system": "1", "guest": "1", "guest without order": "0", "malformed": "0"}'),
    ('UPDATE orders SET status = status WHERE id = ''20000000-0000-0000-0000-000000000035''',
     '{"nobody": "0", "customer": "0", "CUSTOMER 2": "1", "rider": "0", "staff": "1", "guest": "0", "malformed": "0"}'),
    ('INSERT INTO orders (user_id, total_amount) VALUES (''00000000-0000-0000-0000-000000000001'', 0)',
     '{"nobody": "42501", "customer": "1", "CUSTOMER 2": "42501", "rider": "42501", "staff": "1", "admin": "1", "system": "1", "guest": "42501", "malformed": "42501"}'),
    ('INSERT INTO order_items (order_id, product_id, quantity, unit_price, subtotal) VALUES (''20000000-0000-0000-0000-000000000034'', ''10000000-0000-0000-0000-000000000001'', 1, 1, 1)',
     '{"nobody": "42501", "customer": "1", "CUSTOMER 2": "42501", "rider": "42501", "staff": "1", "admin": "1", "system": "1", "guest": "1", "guest without order": "42501", "malformed": "42501"}'),
    ('INSERT INTO custom_cake_configurations (order_id, flavor, size, frosting) VALUES (''20000000-0000-0000-0000-000000000043'', ''f'', ''s'', ''f'')',
     '{"nobody": "42501", "customer": "1", "CUSTOMER 2": "42501", "rider": "42501", "staff": "1", "admin": "1", "system": "1", "guest": "42501", "malformed": "42501"}'),
    -- reviews and points
    ('INSERT INTO reviews (user_id, product_id, rating) VALUES (''00000000-0000-0000-0000-000000000001'', ''10000000-0000-0000-0000-000000000020'', 5)',
     '{"nobody": "42501", "customer": "1", "CUSTOMER 2": "42501", "rider": "42501", "staff": "42501", "guest": "42501", "malformed": "42501"}'),
    ('UPDATE reviews SET rating = 1 WHERE id = ''40000000-0000-0000-0000-000000000002''',
     '{"nobody": "0", "customer": "1", "CUSTOMER 2": "0", "rider": "0", "staff": "0", "admin": "0", "guest": "0", "malformed": "0"}'),
    ('DELETE FROM reviews WHERE id = ''40000000-0000-0000-0000-000000000002''',
     '{"nobody": "0", "customer": "1", "CUSTOMER 2": "0", "rider": "0", "staff": "1", "admin": "1", "system": "1", "guest": "0", "malformed": "0"}'),
    ('UPDATE loyalty_points SET points = points + 1000',
     '{"nobody": "42501", "customer": "42501", "rider": "42501", "staff": "42501", "admin": "42501", "system": "42501", "guest": "42501", "malformed": "42501"}');
GRANT SELECT ON attempts TO PUBLIC;

CREATE FUNCTION t.check_write(name text, app_role text, user_id text, order_id text, statement text, outcome text)
RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    want text := outcome;
BEGIN
    IF outcome = 'all' THEN
        PERFORM t.owner();
        EXECUTE 'SELECT count(*)::text FROM ' || substring(statement FROM 'UPDATE (\w+)') INTO want;
    END IF;
    PERFORM t.app(app_role, user_id, order_id);
    RETURN t.same(t.attempt(statement), want, format('%s: %s', name, left(statement, 60)));
END
$$;

SELECT t.check_write(w.name, app_role, user_id, order_id, statement, outcome.value)
  FROM attempts, jsonb_each_text(outcomes) AS outcome JOIN who w ON w.name = outcome.key;

ROLLBACK;

-- ---- one connection, many people ----------------------------------------------------

-- More runs than a prepared statement needs to get its lasting plan.
PREPARE mine AS SELECT count(*) AS seen, count(DISTINCT user_id) AS people FROM orders;
CREATE TEMPORARY TABLE met (round integer, person integer, seen bigint, people bigint);
GRANT ALL ON met TO app_user;

DO $$
DECLARE
    n integer;
BEGIN
    FOR round IN 1..30 LOOP
        n := (ARRAY[1, 2, 0, 8])[1 + round % 4];
        PERFORM t.app(CASE WHEN n > 0 THEN 'customer' ELSE '' END,
                      CASE WHEN n > 0 THEN t.usr(n)::text ELSE '' END);
        INSERT INTO met SELECT round, n, count(*), count(DISTINCT user_id) FROM orders;
        COMMIT;
        -- The settings ended with their transaction.
        SET ROLE app_user;
        INSERT INTO met SELECT round, 0, count(*), count(DISTINCT user_id) FROM orders;
        RESET ROLE;
        COMMIT;
    END LOOP;
END
$$;

SELECT t.same(count(*), 0::bigint, '30 people in turn on one connection see their own orders only')
  FROM met WHERE seen <> (SELECT count(*) FROM orders WHERE user_id = t.usr(met.person));
SELECT t.same(max(seen), 0::bigint, 'and between them nothing is seen') FROM met WHERE person = 0;

BEGIN;
SELECT t.app('customer', t.usr(1)::text);
EXECUTE mine \gset a_
SELECT t.app('customer', t.usr(2)::text);
EXECUTE mine \gset b_
SELECT t.app('staff', t.usr(4)::text);
EXECUTE mine \gset s_
SELECT t.app();
EXECUTE mine \gset n_
SELECT t.app('customer', t.usr(1)::text);
EXECUTE mine \gset c_
ROLLBACK;
SELECT t.ok(:a_people = 1 AND :b_people = 1 AND :a_seen = :c_seen AND :s_seen > :a_seen + :b_seen
            AND :n_seen = 0, 'a prepared statement asks anew who is asking');
