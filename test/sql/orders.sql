-- orders.sql -- orders and all that an order counts: numbers, totals, promotions, slots, points.

BEGIN;

CREATE FUNCTION t.slot(n integer) RETURNS uuid LANGUAGE sql IMMUTABLE
RETURN ('3f000000-0000-0000-0000-' || lpad(n::text, 12, '0'))::uuid;

-- Counter and what it counts, past row-level security.
CREATE FUNCTION t.used(n integer) RETURNS text LANGUAGE sql STABLE SECURITY DEFINER
RETURN (SELECT used_count || ' ' || (SELECT count(*) FROM public.promo_redemptions r WHERE r.promo_code_id = p.id AND returned_at IS NULL)
          FROM public.promo_codes p WHERE p.id = t.usr(n));
CREATE FUNCTION t.redeem(promo integer, n integer) RETURNS text LANGUAGE sql
RETURN t.attempt(format('INSERT INTO promo_redemptions (promo_code_id, order_id, user_id, amount) VALUES (t.usr(%s), t.ord(%s), t.usr(1), 1)', promo, n));
CREATE FUNCTION t.booked() RETURNS text LANGUAGE sql STABLE SECURITY DEFINER
RETURN (SELECT string_agg(booked || '=' || (SELECT count(*) FROM public.orders o WHERE o.delivery_schedule_id = d.id
                                              AND o.status NOT IN ('cancelled', 'refunded')), ' ' ORDER BY id)
          FROM public.delivery_schedules d WHERE id IN (t.slot(1), t.slot(2)));
CREATE FUNCTION t.slot_status(n integer) RETURNS text LANGUAGE sql STABLE SECURITY DEFINER RETURN (SELECT status FROM public.delivery_schedules WHERE id = t.slot(n));
CREATE FUNCTION t.points(n integer) RETURNS text LANGUAGE sql STABLE SECURITY DEFINER
RETURN (SELECT points || '=' || (SELECT COALESCE(sum(points), 0) FROM public.loyalty_ledger l WHERE l.user_id = p.user_id)
          FROM public.loyalty_points p WHERE p.user_id = t.usr(n));

-- ---- numbers and tokens -------------------------------------------------------------

SELECT t.app('customer', t.usr(1)::text);
SET LOCAL app.timezone = 'Pacific/Kiritimati';
SELECT t.ok(next_order_number() ~ ('^ORD' || to_char(now() AT TIME ZONE 'Pacific/Kiritimati', 'YYYYMMDD') || '\d{3}$'),
            'a number is of the shop''s day, with three digits');
SET LOCAL app.timezone = '';
SELECT t.owner();
SELECT setval('order_number_seq', 998) \g /dev/null
SELECT t.app('customer', t.usr(1)::text);
INSERT INTO orders (user_id, total_amount) SELECT t.usr(1), 1 FROM generate_series(1, 3);
SELECT t.same(string_agg(substr(order_number, 12), ' ' ORDER BY order_number), '1000 1001 999', 'and more of them past 999 a day'),
       t.same(count(DISTINCT tracking_token), 3::bigint, 'each has its token'), t.ok(bool_and(tracking_token ~ '^[0-9a-f]{32}$'), 'of 122 random bits')
  FROM orders WHERE created_at = now();
SELECT t.fails('INSERT INTO orders (user_id, total_amount, order_number) SELECT t.usr(1), 1, order_number FROM orders LIMIT 1', '23505',
    'no number twice');

-- ---- who buys -----------------------------------------------------------------------

SELECT t.app('system');
SELECT t.same(t.attempt(format('INSERT INTO orders (total_amount, %s) VALUES (1, %s)', columns, given)), wanted, label)
  FROM (VALUES
    ('user_id', $$t.usr(1)$$, '1', 'a customer orders'),
    ('guest_name, guest_phone', $$'G', '+123'$$, '1', 'a guest with a phone number'),
    ('guest_name, guest_email', $$'G', 'g@example.com'$$, '1', 'or an e-mail address'),
    ('guest_name, guest_email', $$'G', 'G@example.com'$$, '23514', 'in lower case'),
    ('guest_name', $$'G'$$, '23514', 'not one who cannot be reached'),
    ('guest_email', $$'g@example.com'$$, '23514', 'or has no name'),
    ('notes', $$'nobody'$$, '23514', 'and not nobody'),
    ('user_id, guest_name, guest_phone', $$t.usr(1), 'G', '+123'$$, '23514', 'nor two at once'),
    ('user_id, status', $$t.usr(1), 'ready'$$, '1', 'ready is a status'),
    ('user_id, status', $$t.usr(1), 'lost'$$, '23514', 'lost is none'),
    ('user_id, status', $$t.usr(1), 'refunded'$$, '23514', 'a refunded order has its money back'),
    ('user_id, payment_method', $$t.usr(1), 'shells'$$, '23514', 'four ways to pay'),
    ('user_id, fulfilment', $$t.usr(1), 'drone'$$, '23514', 'two ways to get it'),
    ('user_id, delivery_schedule_id', $$t.usr(1), (SELECT id FROM delivery_schedules LIMIT 1)$$, '23514', 'a slot is for deliveries'),
    ('user_id, address', $$t.usr(1), '"here"'$$, '23514', 'an address has parts'),
    ('user_id, discount_amount', $$t.usr(1), -1$$, '23514', 'no negative discount'),
    ('user_id, points_amount', $$t.usr(1), 'NaN'$$, '23514', 'amounts are numbers'),
    ('user_id, tip_amount', $$t.usr(1), 1000$$, '23514', 'tips end at 999.99'),
    ('user_id, promo_code', $$t.usr(1), 'SAVE5'$$, '23514', 'a code has its promotion'),
    ('user_id, notes', $$t.usr(1), repeat('x', 501)$$, '22001', 'notes end at 500')) AS v(columns, given, wanted, label);
INSERT INTO orders (user_id, total_amount, cart_id) VALUES (t.usr(1), 1, t.usr(77));
SELECT t.fails('INSERT INTO orders (user_id, total_amount, cart_id) VALUES (t.usr(1), 1, t.usr(77))', '23505', 'one cart makes one order');
SELECT t.owner();
SELECT t.fails('DELETE FROM users WHERE id = t.usr(1)', '23503', 'who ordered is not erased');

-- ---- totals (D2) --------------------------------------------------------------------

SELECT t.same(order_total(s, d, p, f, tip, tax), wanted, format('%s - %s - %s + %s + %s + %s', s, d, p, f, tip, tax))
  FROM (VALUES (100.00, 10.00, 5.00, 5.99, 2.00, 1.00, 93.99), (100, 200, 0, 5.99, 0, 0, 5.99), (100, 60, 50, 1, 0, 0, 1),
               (0, 5, 5, 0, 0, 0, 0), (0.01, 0, 0.01, 0, 0, 0.07, 0.07)) AS v(s, d, p, f, tip, tax, wanted);

SELECT t.app('customer', t.usr(1)::text);
INSERT INTO orders (id, user_id, total_amount, discount_amount, points_redeemed, points_amount, delivery_fee, tip_amount, tax_amount, fulfilment)
    VALUES (t.ord(901), t.usr(1), 0, 10, 300, 3, 5.99, 2, 1.50, 'delivery');
INSERT INTO order_items (id, order_id, product_id, quantity, unit_price, subtotal) VALUES
    (t.ord(1), t.ord(901), t.product(1), 2, 25.99, 51.98), (t.ord(2), t.ord(901), t.product(2), 1, 12.99, 12.99);
SELECT t.same(format('%s %s', subtotal, total_amount), '64.97 61.46', 'a total keeps discount, points, fee, tip and tax') FROM orders WHERE id = t.ord(901);
SELECT t.owner();
DELETE FROM order_items WHERE id = t.ord(2);
SELECT t.same(format('%s %s', subtotal, total_amount), '51.98 48.47', 'also after DELETE') FROM orders WHERE id = t.ord(901);
UPDATE order_items SET quantity = 1, unit_price = 11, subtotal = 11 WHERE id = t.ord(1);
SELECT t.same(format('%s %s', subtotal, total_amount), '11.00 9.49', 'points pay what a discount leaves') FROM orders WHERE id = t.ord(901);
DELETE FROM order_items WHERE id = t.ord(1);
SELECT t.same(format('%s %s', subtotal, total_amount), '0.00 9.49', 'a discount counts at most the goods') FROM orders WHERE id = t.ord(901);
SELECT t.same(count(*), 0::bigint, 'every order of the sample data is priced like this') FROM orders o
 WHERE id < t.ord(900) AND id > t.ord(0)
   AND (subtotal, discount_amount, total_amount) IS DISTINCT FROM
       (SELECT ROW(sum(i.quantity * i.unit_price), sum(i.discount_amount),
               sum(i.subtotal - i.discount_amount) - o.points_redeemed / 100.0 + o.delivery_fee + o.tip_amount + o.tax_amount)
          FROM order_items i WHERE i.order_id = o.id);

-- ---- lines and cakes (D23, D25) -----------------------------------------------------

SELECT t.app('customer', t.usr(1)::text);
SELECT t.same(t.attempt(format('INSERT INTO order_items (order_id, product_id, quantity, unit_price, subtotal, discount_amount) VALUES (t.ord(901), t.product(1), %s)', given)),
              wanted, 'line ' || given)
  FROM (VALUES ('3, 10, 30, 0', '1'), ('3, 10, 1, 0', '23514'), ('3, 10, 30, 30.01', '23514'), ('3, 10, 30, -1', '23514'), ('0, 10, 0, 0', '23514')) AS v(given, wanted);
SELECT t.fails('INSERT INTO order_items (order_id, product_id, quantity, unit_price, subtotal) VALUES (t.ord(901), t.usr(1), 1, 1, 1)', '23503', 'of a product');
INSERT INTO order_items (id, order_id, product_id, quantity, unit_price, subtotal) VALUES (t.ord(1), t.ord(901), t.product(1), 1, 1, 1), (t.ord(2), t.ord(901), t.product(3), 1, 1, 1);
SELECT t.same(product_name, 'Chocolate Cake', 'a line keeps the name') FROM order_items WHERE id = t.ord(1);
INSERT INTO custom_cake_configurations (order_id, order_item_id, unit_price, price_breakdown, flavor, size, frosting)
    SELECT t.ord(901), t.ord(n), 30, '{"base": 25}', 'lemon', 'small_6', 'fondant' FROM unnest(ARRAY[1, 2]) AS n;
SELECT t.same(count(*), 2::bigint, 'an order may have several cakes') FROM custom_cake_configurations WHERE order_id = t.ord(901);
SELECT t.fails($$INSERT INTO custom_cake_configurations (order_id, order_item_id, flavor, size, frosting) VALUES (t.ord(901), t.ord(1), 'f', 's', 'f')$$,
    '23505', 'a line has one');
SELECT t.owner();
SELECT t.same(count(*), 0::bigint, 'every cake of the sample data is of a line of its order') FROM custom_cake_configurations c
 WHERE NOT EXISTS (SELECT FROM order_items i WHERE i.id = c.order_item_id AND i.order_id = c.order_id AND i.unit_price = c.unit_price)
   AND c.order_id <> t.ord(901);
UPDATE products SET name = 'Renamed' WHERE id = t.product(1);
SELECT t.same(product_name, 'Chocolate Cake', 'whatever the product is called later') FROM order_items WHERE id = t.ord(1);

-- ---- promotions (D20) ---------------------------------------------------------------

SELECT t.app('admin', t.usr(3)::text);
SELECT t.same(t.attempt(format('INSERT INTO promo_codes (valid_from, valid_to, code, discount_type, amount%s) VALUES (now(), now() + interval ''1 day'', %s)', columns, given)),
              wanted, label)
  FROM (VALUES
    ('', $$'NEW', 'percent', 100$$, '1', '100 percent is the most'), ('', $$'NEW', 'percent', 100.01$$, '23514', 'more is refused'),
    ('', $$'NEW', 'fixed', 150$$, '1', 'but not of a fixed amount'), ('', $$'New', 'fixed', 1$$, '23514', 'codes are in upper case'),
    ('', $$' NEW', 'fixed', 1$$, '23514', 'without spaces'), ('', $$'SAVE5', 'fixed', 1$$, '23505', 'once'), ('', $$'', 'fixed', 1$$, '23514', 'and not empty'),
    (', per_user_limit', $$'NEW', 'fixed', 1, 0$$, '23514', 'a limit a person is 1 at least'),
    (', minimum_order', $$'NEW', 'fixed', 1, -1$$, '23514', 'a minimum is not negative'),
    (', per_user_limit, minimum_order', $$'NEW', 'fixed', 1, 1, 20$$, '1', 'both are possible')) AS v(columns, given, wanted, label);
SELECT t.fails('UPDATE promo_codes SET used_count = 0', '42501', 'used_count is nobody''s to write');
INSERT INTO promo_codes (id, code, discount_type, amount, valid_from, valid_to, usage_limit, per_user_limit) VALUES
    (t.usr(801), 'TWICE', 'fixed', 1, now(), now() + interval '1 day', 2, NULL), (t.usr(802), 'ONCE', 'fixed', 1, now(), now() + interval '1 day', NULL, 1);


SELECT t.app('customer', t.usr(1)::text);
INSERT INTO orders (id, user_id, total_amount) SELECT t.ord(n), t.usr(1), 0 FROM generate_series(910, 915) AS n;
SELECT t.same(format('%s %s %s', code, usage_limit, buyer_uses), 'TWICE 2 0', 'lock_promo finds a code whatever its case and spaces') FROM lock_promo(' tWice ', t.usr(1), NULL);
SELECT t.same(count(*), 0::bigint, 'and none that is not there') FROM lock_promo('THRICE', t.usr(1), NULL);
SELECT t.same(code, 'TWICE', 'so does find_promo') FROM find_promo(' twice');
INSERT INTO promo_redemptions (promo_code_id, order_id, user_id, amount) SELECT t.usr(801), t.ord(n), t.usr(1), 1 FROM unnest(ARRAY[910, 911]) AS n;
SELECT t.same(t.used(801), '2 2', 'uses are counted');
SELECT t.same(t.redeem(801, 912), '23514', 'up to the limit');
SELECT t.same(t.redeem(802, 910), '23505', 'an order has one promotion');
UPDATE promo_redemptions SET returned_at = now() WHERE order_id = t.ord(910) AND returned_at IS NULL;
SELECT t.same(t.used(801), '1 1', 'a returned use is free');
UPDATE promo_redemptions SET returned_at = now() WHERE order_id = t.ord(910) AND returned_at IS NULL;
SELECT t.same(t.used(801), '1 1', 'once');
INSERT INTO promo_redemptions (promo_code_id, order_id, user_id, amount) VALUES (t.usr(802), t.ord(913), t.usr(1), 1);
SELECT t.same(t.used(802), '0 1', 'an unlimited code counts nothing');
SELECT t.same(buyer_uses, 1, 'lock_promo: the buyer''s uses') FROM lock_promo('once', t.usr(1), NULL);
SELECT t.same(buyer_uses, 0, 'not another''s') FROM lock_promo('once', t.usr(2), NULL);
SELECT t.same(buyer_uses, 0, 'nor a guest''s') FROM lock_promo('once', NULL, 'g@example.com');
SELECT t.same(count(*), 0::bigint, 'the table itself is not a customer''s') FROM promo_codes;
SELECT t.app('admin', t.usr(3)::text);
UPDATE promo_codes SET usage_limit = 5 WHERE id = t.usr(802);
SELECT t.same(t.used(802), '1 1', 'a code that gets a limit has its uses so far');
UPDATE promo_codes SET usage_limit = NULL WHERE id = t.usr(801);
SELECT t.same(t.used(801), '0 1', 'one that loses it counts no longer');
SELECT t.fails('DELETE FROM promo_codes WHERE id = t.usr(801)', '23503', 'a code once used stays');
SELECT t.fails($$UPDATE promo_codes SET usage_limit = 1 WHERE code = 'WELCOME10'$$, '23514', 'a limit below the uses is refused');
SELECT t.same(count(*), 0::bigint, 'used_count of the sample data = its redemptions') FROM promo_codes p
 WHERE used_count <> CASE WHEN usage_limit IS NULL THEN 0 ELSE
       (SELECT count(*) FROM promo_redemptions r WHERE r.promo_code_id = p.id AND r.returned_at IS NULL) END;
SELECT t.app();
SELECT t.fails('SELECT * FROM lock_promo(''SAVE5'', NULL, ''g'')', '42501', 'lock_promo is not for nobody'),
       t.fails('SELECT * FROM lock_products(ARRAY[t.product(1)])', '42501', 'nor lock_products'),
       t.fails('SELECT move_stock(ARRAY[t.product(1)], ARRAY[1])', '42501', 'nor move_stock'),
       t.fails('SELECT * FROM lock_slot(t.product(1))', '42501', 'nor lock_slot'),
       t.same(lock_points(t.usr(1)), NULL, 'nor lock_points');

-- ---- stock --------------------------------------------------------------------------

SELECT t.app('customer', t.usr(1)::text);
SELECT t.same(string_agg(right(id::text, 1), ' '), '1 2 3', 'products are locked in the order of their ids')
  FROM lock_products(ARRAY[t.product(3), t.product(1), t.product(2), t.product(1), t.product(777)]);
SELECT t.same(move_stock(ARRAY[t.product(1), t.product(2), t.product(1)], ARRAY[-3, -1, -2]), 2, 'stock is taken');
SELECT t.same(string_agg(stock::text, ' ' ORDER BY id), '15 49', 'lines of one product are summed') FROM products WHERE id IN (t.product(1), t.product(2));
SELECT t.fails('SELECT move_stock(ARRAY[t.product(1), t.product(1)], ARRAY[-10, -6])', '23514', 'not more than there is');
SELECT t.same(move_stock(ARRAY[t.product(1)], ARRAY[5]), 1, 'and returned');
SELECT t.same(stock, 20, 'to the piece') FROM products WHERE id = t.product(1);

-- ---- slots (D24, invariant 10) ------------------------------------------------------

SELECT t.app('staff', t.usr(4)::text);
SELECT t.same(t.attempt(format('INSERT INTO delivery_schedules (delivery_date, delivery_time%s) VALUES (''2001-01-01'', %s)', columns, given)), wanted, label || ': ' || given)
  FROM (VALUES
    ('', $$'09:00-11:00'$$, '1', 'a time'), ('', $$'22:30-24:00'$$, '1', 'until midnight'), ('', $$'banana'$$, '23514', 'no time'),
    ('', $$'9:00-11:00'$$, '23514', 'no time'), ('', $$'11:00-09:00'$$, '23514', 'no time'), ('', $$'09:00-09:00'$$, '23514', 'no time'),
    ('', $$'25:00-26:00'$$, '23514', 'no time'), ('', $$'09:60-11:00'$$, '23514', 'no time'), ('', $$E'09:00-11:00\n'$$, '23514', 'no time'),
    (', capacity', $$'09:00-11:00', 0$$, '23514', 'capacity'), (', capacity', $$'09:00-11:00', 501$$, '23514', 'capacity'),
    (', capacity', $$'09:00-11:00', 500$$, '1', 'capacity'), (', status', $$'09:00-11:00', 'assigned'$$, '23514', 'assigned to nobody'),
    (', rider_id', $$'09:00-11:00', t.usr(6)$$, '1', 'a rider'), (', rider_id', $$'09:00-11:00', t.usr(1)$$, '23514', 'a customer'),
    (', rider_id', $$'09:00-11:00', t.usr(3)$$, '23514', 'an admin'), (', rider_id', $$'09:00-11:00', t.usr(777)$$, '23514', 'nobody')) AS v(columns, given, wanted, label);
INSERT INTO delivery_schedules (id, delivery_date, delivery_time, capacity) VALUES (t.slot(1), '2001-01-01', '09:00-11:00', 2), (t.slot(2), '2001-01-01', '11:00-13:00', 1);
SELECT t.fails($$INSERT INTO delivery_schedules (delivery_date, delivery_time) VALUES ('2001-01-01', '09:00-11:00')$$, '23505', 'no slot twice');
SELECT t.fails('UPDATE delivery_schedules SET booked = 0', '42501', 'booked is nobody''s to write');
SELECT t.fails('UPDATE delivery_schedules SET rider_id = t.usr(1) WHERE id = t.slot(1)', '23514', 'a customer does not ride');

SELECT t.app('customer', t.usr(1)::text);
SELECT t.same(format('%s/%s', booked, capacity), '0/2', 'lock_slot') FROM lock_slot(t.slot(1));
INSERT INTO orders (id, user_id, total_amount, fulfilment, delivery_schedule_id) SELECT t.ord(n), t.usr(1), 0, 'delivery', t.slot(1) FROM unnest(ARRAY[921, 922]) AS n;
SELECT t.same(t.booked(), '2=2 0=0', 'orders take places');
SELECT t.fails($$INSERT INTO orders (user_id, total_amount, fulfilment, delivery_schedule_id) VALUES (t.usr(1), 0, 'delivery', t.slot(1))$$, '23514', 'as long as there are any');
UPDATE orders SET delivery_schedule_id = t.slot(2) WHERE id = t.ord(921);
SELECT t.same(t.booked(), '1=1 1=1', 'a moved order moves its place');
SELECT t.fails('UPDATE orders SET delivery_schedule_id = t.slot(2) WHERE id = t.ord(922)', '23514', 'if there is one');
UPDATE orders SET status = 'cancelled' WHERE id = t.ord(921);
UPDATE orders SET status = 'cancelled' WHERE id = t.ord(921);
SELECT t.same(t.booked(), '1=1 0=0', 'a cancelled one gives it back, once');
SELECT t.app('admin', t.usr(3)::text);
UPDATE orders SET status = 'refunded', payment_status = 'refunded' WHERE id = t.ord(921);
SELECT t.same(t.booked(), '1=1 0=0', 'a refund of it frees nothing again');
UPDATE orders SET status = 'delivered' WHERE id = t.ord(922);
SELECT t.same(t.booked(), '1=1 0=0', 'a delivered one keeps its place');
SELECT t.fails('UPDATE delivery_schedules SET capacity = 0 WHERE id = t.slot(1)', '23514', 'capacity is never below it');
UPDATE orders SET status = 'refunded', payment_status = 'refunded' WHERE id = t.ord(922);
SELECT t.same(t.booked(), '0=0 0=0', 'a refund frees a place not yet freed');
SELECT t.fails('DELETE FROM delivery_schedules WHERE id = t.slot(1)', '23503', 'a slot that orders name stays');
SELECT t.same(count(*), 0::bigint, 'booked of the sample data = its orders') FROM delivery_schedules d
 WHERE booked <> (SELECT count(*) FROM orders o WHERE o.delivery_schedule_id = d.id AND o.status NOT IN ('cancelled', 'refunded'));

-- A slot is completed by the last of its orders.
UPDATE delivery_schedules SET capacity = 5, rider_id = t.usr(6), status = 'assigned' WHERE id = t.slot(1);
INSERT INTO orders (id, user_id, total_amount, fulfilment, delivery_schedule_id, status) SELECT t.ord(n), t.usr(1), 0, 'delivery', t.slot(1), 'dispatched' FROM generate_series(931, 934) AS n;
SELECT t.app('rider', t.usr(6)::text);
UPDATE orders SET status = 'delivered' WHERE id = t.ord(931);
SELECT t.same(t.slot_status(1), 'assigned', 'a slot with orders to bring is open');
SELECT t.same(string_agg(DISTINCT name || ' ' || phone, ', '), 'John Doe +1234567890', 'a rider knows whom to ask for') FROM slot_contacts(t.slot(1));
SELECT t.same(fail_delivery(t.ord(932), 'nobody there', now() - interval '1 hour'), 'failed', 'a failed delivery'),
       t.same(fail_delivery(t.ord(932), 'nobody there', NULL), 'again', 'is told twice without harm'),
       t.same(fail_delivery(t.ord(931), 'x', NULL), NULL, 'a delivered one does not fail'),
       t.same(fail_delivery(t.ord(777), 'x', NULL), NULL, 'nor one that is not');
SELECT t.app('rider', t.usr(7)::text);
SELECT t.same(fail_delivery(t.ord(933), 'x', NULL), NULL, 'nor another rider''s'), t.same((SELECT count(*) FROM slot_contacts(t.slot(1))), 0::bigint, 'whose customers are not told');
SELECT t.app('customer', t.usr(1)::text);
SELECT t.same(fail_delivery(t.ord(933), 'x', NULL), NULL, 'nor by its customer');
SELECT t.same(format('%s %s', status, delivery_schedule_id), 'preparing ', 'it is in the kitchen again, in no slot') FROM orders WHERE id = t.ord(932);
SELECT t.same(format('%s %s %s %s', status, by_role, by_user, note), format('preparing rider %s nobody there', t.usr(6)), 'and its history says why')
  FROM order_status_history WHERE order_id = t.ord(932);
SELECT t.same(t.booked(), '3=3 0=0', 'its place is free');
SELECT t.app('staff', t.usr(4)::text);
UPDATE orders SET status = 'delivered' WHERE id = t.ord(933);
UPDATE orders SET status = 'cancelled' WHERE id = t.ord(934);
SELECT t.same(t.slot_status(1), 'completed', 'the last one, here cancelled, completes the slot');
UPDATE delivery_schedules SET rider_id = t.usr(6), status = 'assigned' WHERE id = t.slot(2);
SELECT t.app('admin', t.usr(3)::text);
UPDATE users SET role = 'customer' WHERE id = t.usr(6);
SELECT t.same(format('%s %s', rider_id, status), ' available', 'who rides no longer has no deliveries before him') FROM delivery_schedules WHERE id = t.slot(2);
SELECT t.same(format('%s %s', rider_id, status), format('%s completed', t.usr(6)), 'what was done stays his') FROM delivery_schedules WHERE id = t.slot(1);

-- ---- points (D26, invariant 11) -----------------------------------------------------

SELECT t.same(string_agg(user_id::text, ' '), NULL, 'every balance is the sum of its ledger') FROM loyalty_points p
 WHERE points <> (SELECT COALESCE(sum(l.points), 0) FROM loyalty_ledger l WHERE l.user_id = p.user_id);
SELECT t.same(string_agg(DISTINCT reason, ' ' ORDER BY reason), 'clawed_back earned redeemed returned', 'the sample data has all kinds') FROM loyalty_ledger;

INSERT INTO loyalty_ledger (user_id, points, reason, note) VALUES (t.usr(19), 100, 'adjusted', 'welcome');
SELECT t.same(t.points(19), '100=100', 'points are given');
SELECT t.same(t.attempt(format('INSERT INTO loyalty_ledger (user_id, points, reason, order_id) VALUES (t.usr(19), %s)', given)), wanted, 'ledger ' || given)
  FROM (VALUES ('-100, ''adjusted'', NULL', '1'), ('-101, ''adjusted'', NULL', '23514'), ('0, ''adjusted'', NULL', '23514'), ('5, ''gift'', NULL', '23514'),
               ('5, ''earned'', NULL', '23514'), ('-5, ''earned'', t.ord(901)', '23514'), ('5, ''redeemed'', t.ord(901)', '23514'),
               ('-5, ''returned'', t.ord(901)', '23514'), ('5, ''clawed_back'', t.ord(901)', '23514')) AS v(given, wanted);
INSERT INTO orders (id, user_id, total_amount, points_redeemed) VALUES (t.ord(941), t.usr(19), 0, 60), (t.ord(942), t.usr(19), 0, 60);
INSERT INTO refunds (id, order_id, amount) VALUES (t.ord(1), t.ord(941), 1), (t.ord(2), t.ord(941), 1);

SELECT t.app('rider', t.usr(6)::text);
SELECT t.same(lock_points(t.usr(19)), NULL, 'lock_points tells a rider nothing');
SELECT t.app('customer', t.usr(19)::text);
SELECT t.same(lock_points(t.usr(19)), 100, 'lock_points: one''s own'), t.same(lock_points(t.usr(1)), NULL, 'nobody else''s');
INSERT INTO loyalty_ledger (user_id, points, reason, order_id) VALUES (t.usr(19), -60, 'redeemed', t.ord(941));
SELECT t.same(t.points(19), '40=40', 'and spent');
SELECT t.fails($$INSERT INTO loyalty_ledger (user_id, points, reason, order_id) VALUES (t.usr(19), -60, 'redeemed', t.ord(942))$$, '23514', 'not beyond the balance');
SELECT t.fails($$INSERT INTO loyalty_ledger (user_id, points, reason, order_id) VALUES (t.usr(19), -60, 'redeemed', t.ord(941))$$, '23505', 'once an order');
SELECT t.fails($$INSERT INTO loyalty_ledger (user_id, points, reason, order_id) VALUES (t.usr(19), 61, 'returned', t.ord(941))$$, '42501', 'returned as they were');
INSERT INTO loyalty_ledger (user_id, points, reason, order_id) VALUES (t.usr(19), 60, 'returned', t.ord(941));
SELECT t.fails($$INSERT INTO loyalty_ledger (user_id, points, reason, order_id) VALUES (t.usr(19), 60, 'returned', t.ord(941))$$, '23505', 'and once');
SELECT t.fails($$INSERT INTO loyalty_ledger (user_id, points, reason, order_id) VALUES (t.usr(19), 60, 'earned', t.ord(941))$$, '42501', 'nobody gives them to himself');
SELECT t.app('system');
INSERT INTO loyalty_ledger (user_id, points, reason, order_id) VALUES (t.usr(19), 30, 'earned', t.ord(941));
SELECT t.fails($$INSERT INTO loyalty_ledger (user_id, points, reason, order_id) VALUES (t.usr(19), 30, 'earned', t.ord(941))$$, '23505', 'earned once');
INSERT INTO loyalty_ledger (user_id, points, reason, order_id, refund_id) SELECT t.usr(19), -10, 'clawed_back', t.ord(941), t.ord(n) FROM unnest(ARRAY[1, 2]) AS n;
SELECT t.same(t.points(19), '110=110', 'clawed back once a refund');
SELECT t.fails($$INSERT INTO loyalty_ledger (user_id, points, reason, order_id, refund_id) VALUES (t.usr(19), -10, 'clawed_back', t.ord(941), t.ord(2))$$, '23505', 'and no more');
SELECT t.owner();
DELETE FROM loyalty_ledger WHERE user_id = t.usr(19) AND reason = 'earned';
UPDATE loyalty_ledger SET points = 150 WHERE user_id = t.usr(19) AND reason = 'adjusted';
SELECT t.same(t.points(19), '130=130', 'the balance follows the owner, too');

-- ---- payments, refunds, history -----------------------------------------------------

SELECT t.app('system');
INSERT INTO payments (provider, event_id, type, order_id, amount, currency, raw) VALUES ('generic', 'e1', 'payment.succeeded', t.ord(901), 1, 'EUR', '{}');
SELECT t.same(t.attempt(format('INSERT INTO payments (provider, event_id, type, amount, currency, raw, order_id, outcome) VALUES (%s)', given)), wanted, label)
  FROM (VALUES
    ($$'generic', 'e1', 'payment.succeeded', 1, 'EUR', '{}', t.ord(901), 'applied'$$, '23505', 'an event comes once'),
    ($$'other', 'e1', 'payment.succeeded', 1, 'EUR', '{}', t.ord(901), 'applied'$$, '1', 'of each provider'),
    ($$'generic', 'e2', 'payment.succeeded', 1, 'EUR', '{}', NULL, 'review'$$, '1', 'one of no order is recorded'),
    ($$'generic', 'e2', 'payment.succeeded', 'NaN', 'EUR', '{}', NULL, 'review'$$, '23514', 'an amount is a number'),
    ($$'generic', 'e2', 'payment.guessed', 1, 'EUR', '{}', NULL, 'review'$$, '23514', 'three kinds')) AS v(given, wanted, label);
SELECT t.fails('INSERT INTO refunds (order_id, amount) VALUES (t.ord(901), 0)', '23514', 'a refund of nothing is none');
SELECT t.same(count(*), 0::bigint, 'refunds of the sample data are in their orders') FROM orders o
 WHERE id < t.ord(900) AND refunded_amount <> (SELECT COALESCE(sum(amount), 0) FROM refunds r WHERE r.order_id = o.id);
SELECT t.same(count(*), 0::bigint, 'and each order''s history ends with its status') FROM orders o
 WHERE id < t.ord(900) AND id > t.ord(0)
   AND status IS DISTINCT FROM (SELECT status FROM order_status_history h WHERE h.order_id = o.id ORDER BY h.id DESC LIMIT 1);

-- ---- found from elsewhere -----------------------------------------------------------

SELECT t.owner();
SELECT order_number AS number, tracking_token AS token FROM orders WHERE id = t.ord(63) \gset
SELECT order_number AS john FROM orders WHERE id = t.ord(34) \gset
SELECT t.app();
SELECT t.same(find_tracked_order(number, token, email, phone), CASE WHEN found THEN t.ord(63) END, 'tracking by ' || label)
  FROM (VALUES
    (:'number', :'token', NULL, NULL, true, 'token'), (:'number', NULL, ' Nadia.Haddad@example.com', NULL, true, 'e-mail address'),
    (:'number', NULL, NULL, '+1234567920', true, 'phone number'), (:'number', 'x', 'x', 'x', false, 'guesses'),
    (:'number', NULL, NULL, NULL, false, 'nothing'), ('ORD', :'token', NULL, NULL, false, 'another number'),
    (:'john', :'token', 'nadia.haddad@example.com', NULL, false, 'what opens another')) AS v(number, token, email, phone, found, label);
SELECT t.same(find_tracked_order(:'john', NULL, 'JOHN@example.com', NULL), t.ord(34), 'tracking by a customer''s e-mail address');
SELECT t.same(order_has_token(t.ord(63), :'token'), true, 'order_has_token'), t.same(order_has_token(t.ord(34), :'token'), false, 'not of another'),
       t.same(order_has_token(t.ord(63), ''), false, 'not an empty one'), t.same(COALESCE(order_has_token(t.ord(63), NULL), false), false, 'not none');
SELECT t.same((SELECT count(*) FROM search_orders('a')), 0::bigint, 'search_orders is for staff');
SELECT t.app('staff', t.usr(4)::text);
SELECT t.same((SELECT string_agg(right(order_id::text, 2), ' ' ORDER BY order_id) FROM search_orders(query)), wanted, 'search_orders: ' || query)
  FROM (VALUES ('Haddad', '63'), ('+1234567921', '64'), ('ben.foster@', '62'), ('daniel.novak', '41 42'), ('%', NULL), ('nobody', NULL)) AS v(query, wanted);

-- ---- what the pages ask for has an index --------------------------------------------

SELECT t.owner();
SELECT t.ok(t.plan(query) ~ index AND t.plan(query) !~ 'Seq Scan|Sort', label)
  FROM (VALUES
    ('SELECT * FROM orders WHERE user_id = t.usr(1) ORDER BY created_at DESC LIMIT 20', 'idx_orders_user_created', 'own orders, newest first'),
    ('SELECT * FROM orders ORDER BY created_at DESC LIMIT 20', 'idx_orders_created_at', 'all orders, newest first'),
    ('SELECT * FROM orders WHERE order_number = ''ORD''', 'orders_order_number_key', 'an order by its number'),
    ('SELECT * FROM orders WHERE delivery_schedule_id = t.slot(1)', 'idx_orders_delivery_schedule_id', 'the orders of a slot'),
    ('SELECT * FROM orders WHERE status = ''pending'' AND payment_method = ''online'' AND payment_status <> ''paid'' AND created_at < now() ORDER BY created_at',
     'idx_orders_unpaid', 'orders that nobody pays'),
    ('SELECT * FROM order_status_history WHERE order_id = t.ord(1) ORDER BY id', 'idx_order_status_history_order_id', 'the history of an order'),
    ('SELECT * FROM loyalty_ledger WHERE user_id = t.usr(1) ORDER BY id DESC LIMIT 20', 'idx_loyalty_ledger_user_id', 'the ledger, newest first'),
    ('SELECT * FROM delivery_schedules WHERE delivery_date BETWEEN now() AND now() + interval ''1 week''', 'idx_delivery_schedules_date', 'slots by date'),
    ('SELECT * FROM audit_log WHERE entity = ''product'' AND entity_id = ''x'' ORDER BY id DESC', 'idx_audit_log_entity', 'traces of a thing')) AS v(query, index, label);

ROLLBACK;
