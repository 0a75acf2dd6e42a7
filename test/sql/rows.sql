-- rows.sql -- row-level security: what everybody sees and may write, table by table.

-- ---- before anything is set ---------------------------------------------------------

-- The settings have never existed in this session: no row of anybody, and no error.
SET ROLE app_user;
SELECT t.same(current_setting('app.user_role', true), NULL, 'unset: the settings do not exist');
SELECT t.same((SELECT count(*) FROM users) + (SELECT count(*) FROM orders)
              + (SELECT count(*) FROM order_items) + (SELECT count(*) FROM loyalty_points)
              + (SELECT count(*) FROM custom_cake_configurations) + (SELECT count(*) FROM promo_codes)
              + (SELECT count(*) FROM user_identities) + (SELECT count(*) FROM password_resets)
              + (SELECT count(*) FROM order_status_history) + (SELECT count(*) FROM payments)
              + (SELECT count(*) FROM refunds) + (SELECT count(*) FROM promo_redemptions)
              + (SELECT count(*) FROM loyalty_ledger) + (SELECT count(*) FROM outbox)
              + (SELECT count(*) FROM idempotency_keys) + (SELECT count(*) FROM audit_log)
              + (SELECT count(*) FROM newsletter_subscribers) + (SELECT count(*) FROM uploads)
              + (SELECT count(*) FROM sales_figures) + (SELECT count(*) FROM product_sales_figures)
              + (SELECT count(*) FROM user_order_figures) + (SELECT count(*) FROM order_figures)
              + (SELECT count(*) FROM slot_figures) + (SELECT count(*) FROM promo_figures)
              + (SELECT count(*) FROM user_sales_figures) + (SELECT count(*) FROM user_sales_movements),
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

-- What the sample data has not: something of everybody in every table.
INSERT INTO user_identities (user_id, provider, subject)
    SELECT t.usr(n), 'apple', 'subject-' || n FROM unnest(ARRAY[1, 2, 4, 6]) AS n;
INSERT INTO password_resets (user_id, token_sha256, expires_at)
    SELECT t.usr(n), encode(sha256(n::text::bytea), 'hex'), now() + interval '1 hour' FROM unnest(ARRAY[1, 2, 4, 6]) AS n;
INSERT INTO payments (provider, event_id, type, order_id, amount, currency, raw)
    SELECT 'generic', 'rows-' || n, 'payment.succeeded', t.ord(n), 1, 'EUR', '{}' FROM unnest(ARRAY[34, 35, 52]) AS n;
INSERT INTO payments (provider, event_id, type, amount, currency, raw)
    VALUES ('generic', 'of no order', 'payment.succeeded', 1, 'EUR', '{}');
INSERT INTO refunds (order_id, amount) SELECT t.ord(n), 1 FROM unnest(ARRAY[34, 35, 52]) AS n;
INSERT INTO promo_redemptions (promo_code_id, order_id, user_id, amount)
    SELECT (SELECT id FROM promo_codes WHERE code = 'SAVE5'), id, user_id, 1 FROM orders WHERE id IN (t.ord(34), t.ord(52));
INSERT INTO outbox (topic, aggregate_id) SELECT 'order.created', t.ord(n) FROM unnest(ARRAY[34, 35]) AS n;
UPDATE outbox SET sent_at = now() WHERE aggregate_id = t.ord(35);
INSERT INTO idempotency_keys (scope, key, request_hash, status, body)
    VALUES ('POST /orders ' || t.usr(1), 'k1', repeat('0', 64), 201, '{}'), ('POST /orders guest', 'k2', repeat('0', 64), 201, '{}');
INSERT INTO audit_log (actor_id, actor_role, action, entity) VALUES (t.usr(1), 'customer', 'a', 'e'), (t.usr(3), 'admin', 'a', 'e');
INSERT INTO uploads (name, user_id, content_type, size)
    SELECT 'rows-' || n || '.png', t.usr(n), 'image/png', 1 FROM unnest(ARRAY[1, 2, 4, 6]) AS n;
INSERT INTO uploads (name, content_type, size) VALUES ('rows-guest.png', 'image/png', 1);
INSERT INTO newsletter_subscribers (email) SELECT email FROM users WHERE id IN (t.usr(2), t.usr(4), t.usr(6));

-- The rows of each table that somebody is meant to see, as the owner would ask for them.
-- Of a person: `own`; %1$L is his id, %2$s a condition on the orders that he sees.
CREATE TEMPORARY TABLE relations (relation text, for_all text[], own text, guest text);
INSERT INTO relations VALUES
    ('products', NULL, NULL, NULL), ('product_ratings', NULL, NULL, NULL), ('reviews', NULL, NULL, NULL),
    ('delivery_schedules', NULL, NULL, NULL),
    ('promo_codes', '{staff,admin,system}', 'false', 'false'),
    ('sales_figures', '{staff,admin,system}', 'false', 'false'),
    ('product_sales_figures', '{staff,admin,system}', 'false', 'false'),
    ('user_order_figures', '{staff,admin,system}', 'user_id = %1$L', 'false'),
    ('order_figures', '{staff,admin,system}', 'false', 'false'),
    ('slot_figures', '{staff,admin,system}', 'false', 'false'),
    ('promo_figures', '{staff,admin,system}', 'false', 'false'),
    ('user_sales_figures', '{staff,admin,system}', 'false', 'false'),
    ('user_sales_movements', '{staff,admin,system}', 'false', 'false'),
    ('users', '{staff,admin,system}', 'id = %1$L', 'false'),
    ('loyalty_points', '{staff,admin,system}', 'user_id = %1$L', 'false'),
    ('loyalty_ledger', '{staff,admin,system}', 'user_id = %1$L', 'false'),
    ('orders', '{staff,admin,system}', '%2$s', 'id = %1$L'),
    ('order_items', '{staff,admin,system}', 'order_id IN (SELECT id FROM orders WHERE %2$s)', 'order_id = %1$L'),
    ('custom_cake_configurations', '{staff,admin,system}', 'order_id IN (SELECT id FROM orders WHERE %2$s)', 'order_id = %1$L'),
    ('order_status_history', '{staff,admin,system}', 'order_id IN (SELECT id FROM orders WHERE %2$s)', 'order_id = %1$L'),
    ('payments', '{staff,admin,system}', 'order_id IN (SELECT id FROM orders WHERE user_id = %1$L)', 'order_id = %1$L'),
    ('refunds', '{staff,admin,system}', 'order_id IN (SELECT id FROM orders WHERE user_id = %1$L)', 'order_id = %1$L'),
    ('promo_redemptions', '{staff,admin,system}', 'user_id = %1$L', 'order_id = %1$L'),
    ('uploads', '{staff,admin,system}', 'user_id = %1$L', 'false'),
    ('user_identities', '{admin,system}', 'user_id = %1$L', 'false'),
    ('password_resets', '{admin,system}', 'user_id = %1$L', 'false'),
    ('newsletter_subscribers', '{admin,system}', 'email = (SELECT email FROM users WHERE id = %1$L)', 'false'),
    ('outbox', '{admin,system}', 'false', 'false'),
    ('audit_log', '{admin,system}', 'false', 'false'),
    ('idempotency_keys', '{system}', 'false', 'false');

SELECT t.same(string_agg(relname, ' '), NULL, 'every table is in the list')
  FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
   AND relname NOT IN (SELECT relation FROM relations) AND relname <> 'schema_migrations';

CREATE TEMPORARY TABLE sees (name text, relation text, condition text);
INSERT INTO sees
SELECT w.name, r.relation,
       CASE WHEN r.for_all IS NULL OR w.app_role = ANY (r.for_all) THEN 'true'
            WHEN w.name IN ('customer', 'CUSTOMER 2', 'rider', 'staff', 'admin') THEN format(r.own, w.user_id,
                format('(user_id = %1$L OR delivery_schedule_id IN (SELECT id FROM delivery_schedules WHERE rider_id = %1$L))',
                       w.user_id))
            WHEN w.name = 'guest' THEN format(r.guest, t.ord(34))
            ELSE 'false' END
  FROM who w, relations r;
GRANT SELECT ON who, sees TO PUBLIC;

CREATE FUNCTION t.rows(relation text, condition text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    found text;
BEGIN
    EXECUTE format('SELECT count(*) || '' '' || COALESCE(md5(string_agg(k, '' '' ORDER BY k)), '''')
                      FROM (SELECT %s::text AS k FROM public.%I WHERE %s) AS x',
                   CASE relation WHEN 'product_ratings' THEN 'product_id' WHEN 'idempotency_keys' THEN 'key'
                                 WHEN 'uploads' THEN 'name' WHEN 'user_order_figures' THEN 'user_id'
                                 WHEN 'sales_figures' THEN 'quarter' WHEN 'product_sales_figures' THEN 'day'
                                 WHEN 'order_figures' THEN 'quarter' WHEN 'slot_figures' THEN 'delivery_schedule_id'
                                 WHEN 'promo_figures' THEN 'day' WHEN 'user_sales_figures' THEN 'user_id'
                                 WHEN 'user_sales_movements' THEN 'user_id' ELSE 'id' END, relation, condition)
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

CREATE FUNCTION t.is_there(relation text, condition text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    found boolean;
BEGIN
    EXECUTE format('SELECT EXISTS (SELECT FROM public.%I WHERE %s)', relation, condition) INTO found;
    RETURN found;
END
$$;
SELECT t.same(string_agg(name || ' of ' || relation, ', ' ORDER BY name, relation),
    'rider of loyalty_ledger, rider of payments, rider of promo_redemptions, rider of refunds',
    'and only these find nothing where they are meant to find their own')
  FROM sees WHERE name IN ('customer', 'rider', 'staff') AND condition <> 'false' AND NOT t.is_there(relation, condition);

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
     '{"nobody": "42501", "customer": "42501", "rider": "42501", "staff": "42501", "admin": "42501", "system": "42501", "guest": "42501", "malformed": "42501"}'),
    ('INSERT INTO loyalty_ledger (user_id, points, reason) VALUES (''00000000-0000-0000-0000-000000000001'', 100, ''adjusted'')',
     '{"nobody": "42501", "customer": "42501", "rider": "42501", "staff": "42501", "admin": "1", "system": "1", "guest": "42501", "malformed": "42501"}'),
    ('INSERT INTO loyalty_ledger (user_id, points, reason, order_id) VALUES (''00000000-0000-0000-0000-000000000001'', 1000, ''returned'', ''20000000-0000-0000-0000-000000000034'')',
     '{"nobody": "42501", "customer": "42501", "CUSTOMER 2": "42501", "rider": "42501", "staff": "1", "admin": "1", "system": "1", "guest": "42501", "malformed": "42501"}'),
    ('INSERT INTO loyalty_ledger (user_id, points, reason, order_id) VALUES (''00000000-0000-0000-0000-000000000008'', 3, ''earned'', ''20000000-0000-0000-0000-000000000052'')',
     '{"nobody": "42501", "customer": "42501", "rider": "42501", "staff": "1", "guest": "42501", "malformed": "42501"}'),
    -- what hangs on orders
    ('INSERT INTO order_status_history (order_id, status) VALUES (''20000000-0000-0000-0000-000000000034'', ''delivered'')',
     '{"customer": "1", "CUSTOMER 2": "42501", "rider": "1", "staff": "1", "admin": "1", "system": "1", "guest": "1", "guest without order": "42501"}'),
    ('INSERT INTO order_status_history (order_id, status, by_role) VALUES (''20000000-0000-0000-0000-000000000034'', ''delivered'', ''system'')',
     '{"nobody": "42501", "customer": "42501", "rider": "42501", "staff": "42501", "admin": "42501", "system": "1", "guest": "42501", "malformed": "42501"}'),
    ('INSERT INTO order_status_history (order_id, status, by_user) VALUES (''20000000-0000-0000-0000-000000000034'', ''delivered'', ''00000000-0000-0000-0000-000000000004'')',
     '{"customer": "42501", "rider": "42501", "staff": "1", "admin": "42501", "guest": "42501"}'),
    ('INSERT INTO payments (provider, event_id, type, order_id, amount, currency, raw) VALUES (''p'', ''e'', ''payment.succeeded'', ''20000000-0000-0000-0000-000000000034'', 1, ''EUR'', ''{}'')',
     '{"nobody": "42501", "customer": "42501", "rider": "42501", "staff": "1", "admin": "1", "system": "1", "guest": "42501", "malformed": "42501"}'),
    ('INSERT INTO refunds (order_id, amount) VALUES (''20000000-0000-0000-0000-000000000034'', 1)',
     '{"nobody": "42501", "customer": "42501", "rider": "42501", "staff": "42501", "admin": "1", "system": "1", "guest": "42501", "malformed": "42501"}'),
    ('UPDATE promo_redemptions SET returned_at = now() WHERE order_id = ''20000000-0000-0000-0000-000000000034''',
     '{"nobody": "0", "customer": "1", "CUSTOMER 2": "0", "rider": "0", "staff": "1", "admin": "1", "system": "1", "guest": "1", "malformed": "0"}'),
    ('INSERT INTO promo_redemptions (promo_code_id, order_id, user_id, amount) SELECT ''00000000-0000-0000-0000-000000000000'', ''20000000-0000-0000-0000-000000000043'', ''00000000-0000-0000-0000-000000000001'', 1',
     '{"nobody": "42501", "customer": "23503", "CUSTOMER 2": "42501", "rider": "42501", "staff": "23503", "guest": "42501", "malformed": "42501"}'),
    ('INSERT INTO promo_redemptions (promo_code_id, order_id, user_id, amount) SELECT ''00000000-0000-0000-0000-000000000000'', ''20000000-0000-0000-0000-000000000043'', ''00000000-0000-0000-0000-000000000002'', 1',
     '{"nobody": "42501", "customer": "42501", "CUSTOMER 2": "42501", "rider": "42501", "guest": "42501", "malformed": "42501"}'),
    -- accounts
    ('INSERT INTO user_identities (user_id, provider, subject) VALUES (''00000000-0000-0000-0000-000000000001'', ''google'', ''s'')',
     '{"nobody": "42501", "customer": "42501", "rider": "42501", "staff": "42501", "admin": "1", "system": "1", "guest": "42501", "malformed": "42501"}'),
    ('DELETE FROM user_identities WHERE user_id = ''00000000-0000-0000-0000-000000000001''',
     '{"nobody": "0", "customer": "1", "CUSTOMER 2": "0", "rider": "0", "staff": "0", "admin": "1", "system": "1", "guest": "0", "malformed": "0"}'),
    ('INSERT INTO password_resets (user_id, token_sha256, expires_at) VALUES (''00000000-0000-0000-0000-000000000001'', repeat(''0'', 64), now() + interval ''1 hour'')',
     '{"nobody": "42501", "customer": "1", "CUSTOMER 2": "42501", "rider": "42501", "staff": "42501", "admin": "1", "system": "1", "guest": "42501", "malformed": "42501"}'),
    ('UPDATE password_resets SET used_at = now() WHERE user_id = ''00000000-0000-0000-0000-000000000001''',
     '{"nobody": "0", "customer": "1", "CUSTOMER 2": "0", "rider": "0", "staff": "0", "admin": "1", "system": "1", "guest": "0", "malformed": "0"}'),
    -- operations
    ('INSERT INTO outbox (topic, aggregate_id) VALUES (''t'', ''00000000-0000-0000-0000-000000000001'')',
     '{"nobody": "42501", "customer": "1", "rider": "1", "staff": "1", "admin": "1", "system": "1", "guest": "1", "malformed": "42501"}'),
    ('INSERT INTO outbox (topic, aggregate_id, sent_at) VALUES (''t'', ''00000000-0000-0000-0000-000000000001'', now())',
     '{"nobody": "42501", "customer": "42501", "system": "42501", "guest": "42501"}'),
    ('UPDATE outbox SET attempts = attempts + 1',
     '{"nobody": "0", "customer": "0", "rider": "0", "staff": "0", "admin": "all", "system": "all", "guest": "0", "malformed": "0"}'),
    ('DELETE FROM outbox WHERE topic = ''order.created''',
     '{"nobody": "0", "customer": "0", "rider": "0", "staff": "0", "admin": "1", "system": "1", "guest": "0", "malformed": "0"}'),
    ('INSERT INTO idempotency_keys (scope, key, request_hash, status, body) VALUES (''s'', ''k'', repeat(''0'', 64), 201, '''')',
     '{"nobody": "42501", "customer": "1", "rider": "1", "staff": "1", "admin": "1", "system": "1", "guest": "1", "malformed": "42501"}'),
    ('DELETE FROM idempotency_keys',
     '{"nobody": "0", "customer": "0", "rider": "0", "staff": "0", "admin": "0", "system": "2", "guest": "0", "malformed": "0"}'),
    ('INSERT INTO audit_log (action, entity) VALUES (''a'', ''e'')',
     '{"customer": "1", "rider": "1", "staff": "1", "admin": "1", "system": "1", "guest": "1"}'),
    ('INSERT INTO audit_log (actor_id, actor_role, action, entity) VALUES (''00000000-0000-0000-0000-000000000003'', ''admin'', ''a'', ''e'')',
     '{"nobody": "42501", "customer": "42501", "rider": "42501", "staff": "42501", "admin": "1", "system": "42501", "guest": "42501", "malformed": "42501"}'),
    ('INSERT INTO newsletter_subscribers (email) VALUES (''n@example.com'')',
     '{"nobody": "42501", "customer": "42501", "rider": "42501", "staff": "42501", "admin": "1", "system": "1", "guest": "42501", "malformed": "42501"}'),
    ('DELETE FROM newsletter_subscribers WHERE email = ''john@example.com''',
     '{"nobody": "0", "customer": "0", "CUSTOMER 2": "0", "staff": "0", "admin": "1", "system": "1", "guest": "0", "malformed": "0"}'),
    ('INSERT INTO uploads (name, content_type, size) VALUES (''u.png'', ''image/png'', 1)',
     '{"nobody": "42501", "customer": "1", "rider": "1", "staff": "1", "admin": "1", "system": "1", "guest": "1", "malformed": "42501"}'),
    ('INSERT INTO uploads (name, user_id, content_type, size) VALUES (''u.png'', ''00000000-0000-0000-0000-000000000001'', ''image/png'', 1)',
     '{"nobody": "42501", "customer": "1", "CUSTOMER 2": "42501", "rider": "42501", "guest": "42501", "malformed": "42501"}');
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
