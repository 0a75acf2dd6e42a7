-- figures.sql -- the figures of sales equal the orders that they are of, whatever happens.

BEGIN;

CREATE FUNCTION t.right_figures(label text) RETURNS text LANGUAGE sql
RETURN t.same(t.wrong_figures(), NULL, 'figures: ' || label);

-- For anything, in any order.
CREATE FUNCTION t.any_of(list anyarray) RETURNS anyelement LANGUAGE sql VOLATILE AS $$
    SELECT list[1 + floor(random() * cardinality(list))]
$$;

CREATE FUNCTION t.new_order() RETURNS uuid LANGUAGE plpgsql AS $$
DECLARE
    made uuid := gen_random_uuid();
    slots uuid[] := ARRAY(SELECT id FROM delivery_schedules ORDER BY id LIMIT 20);
    products uuid[] := ARRAY(SELECT id FROM products ORDER BY id LIMIT 9);
    buyer uuid := CASE WHEN random() < 0.8 THEN t.usr(1 + floor(random() * 3)::int) END;
    status text := t.any_of('{pending,preparing,ready,dispatched,delivered,delivered,cancelled}'::text[]);
BEGIN
    INSERT INTO orders (id, user_id, guest_name, guest_phone, status, payment_method, fulfilment, delivery_schedule_id,
                        subtotal, total_amount, created_at, delivered_at)
    SELECT made, buyer, CASE WHEN buyer IS NULL THEN 'Guest' END, CASE WHEN buyer IS NULL THEN '+1234567890' END, status,
           t.any_of('{cash,online}'::text[]), w, CASE WHEN w = 'delivery' AND random() < 0.9 THEN t.any_of(slots) END, 20, 20, at,
           CASE WHEN status = 'delivered' THEN at + random() * interval '3 days' END
      FROM (SELECT t.any_of('{pickup,delivery}'::text[]) AS w, '2024-01-01Z'::timestamptz + random() * interval '2 years' AS at) AS x;
    INSERT INTO order_items (order_id, product_id, quantity, unit_price, subtotal, discount_amount)
    SELECT made, products[n], 1, 10, 10, n - 1 FROM generate_series(1, 2) n;
    IF random() < 0.4 THEN
        INSERT INTO promo_redemptions (promo_code_id, order_id, user_id, guest_identity, amount, created_at, returned_at)
        SELECT t.any_of(ARRAY(SELECT id FROM promo_codes ORDER BY code)), made, buyer, CASE WHEN buyer IS NULL THEN 'g' END, 1,
               '2024-01-01Z'::timestamptz + random() * interval '2 years', CASE WHEN random() < 0.3 THEN now() END;
    END IF;
    RETURN made;
END
$$;

CREATE FUNCTION t.one_of_all() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    o orders;
    slots uuid[] := ARRAY(SELECT id FROM delivery_schedules ORDER BY id LIMIT 20);
BEGIN
    SELECT * INTO o FROM orders ORDER BY random() LIMIT 1;
    CASE floor(random() * 12)::int
    WHEN 0, 1 THEN PERFORM t.new_order();
    WHEN 2 THEN UPDATE orders SET status = t.any_of('{confirmed,preparing,ready,dispatched,delivered,cancelled}'::text[])
                 WHERE id = o.id;
    WHEN 3 THEN UPDATE orders SET status = 'refunded', payment_status = 'refunded', refunded_amount = total_amount
                 WHERE id = o.id;
    WHEN 4 THEN UPDATE orders SET refunded_amount = round(total_amount / 3, 2) WHERE id = o.id;
    WHEN 5 THEN UPDATE orders SET fulfilment = 'delivery', delivery_schedule_id = t.any_of(slots) WHERE id = o.id;
    WHEN 6 THEN UPDATE orders SET payment_status = t.any_of('{pending,paid,failed}'::text[]), delivered_at = NULL
                 WHERE id = o.id AND status <> 'refunded';
    WHEN 7 THEN UPDATE promo_redemptions SET returned_at = CASE WHEN returned_at IS NULL THEN now() END, amount = amount + 0.5
                 WHERE id = (SELECT id FROM promo_redemptions ORDER BY random() LIMIT 1);
    WHEN 8 THEN INSERT INTO order_status_history (order_id, status, payment_status, by_role)
                SELECT o.id, t.any_of('{preparing,dispatched}'::text[]),
                       CASE WHEN random() < 0.1 THEN 'paid' END, 'staff' FROM generate_series(1, 3);
    WHEN 9 THEN UPDATE orders SET user_id = t.usr(2), created_at = created_at - interval '1 day' WHERE id = o.id AND user_id IS NOT NULL;
    WHEN 10 THEN UPDATE order_items SET quantity = 2, subtotal = 2 * unit_price WHERE order_id = o.id;
    WHEN 11 THEN
        IF random() < 0.5 THEN
            DELETE FROM orders WHERE id = o.id;
        ELSE
            PERFORM set_config('app.user_role', 'system', true), compact_sales_figures(), compact_report_figures(),
                    set_config('app.user_role', '', true);
        END IF;
    END CASE;
EXCEPTION WHEN check_violation OR foreign_key_violation THEN NULL;     -- a slot is full, an order has points
END
$$;

SELECT t.owner();
SELECT t.right_figures('of the sample data');
SELECT t.ok(count(*) > 20, 'there are some') FROM sales_figures;
SELECT t.ok(count(*) > 5, 'of products, too') FROM product_sales_figures;
SELECT t.ok(count(*) > 20, 'of all orders') FROM order_figures;
SELECT t.ok(count(*) > 5, 'of slots') FROM slot_figures;
SELECT t.ok(count(*) > 2, 'of promotions') FROM promo_figures;

INSERT INTO orders (id, user_id, status, created_at, total_amount, subtotal) VALUES
    (t.ord(701), t.usr(1), 'dispatched', '2019-05-01Z', 30, 30), (t.ord(702), t.usr(1), 'dispatched', '2031-05-01Z', 20, 20),
    (t.ord(703), t.usr(2), 'delivered', '2031-05-01Z', 20, 20);
INSERT INTO orders (id, guest_name, guest_phone, status, total_amount, subtotal)
    VALUES (t.ord(704), 'Guest', '+1234567890', 'ready', 20, 20);
INSERT INTO order_items (order_id, product_id, quantity, unit_price, subtotal, discount_amount) VALUES
    (t.ord(701), t.product(1), 1, 10, 10, 1), (t.ord(701), t.product(2), 2, 10, 20, 0), (t.ord(702), t.product(1), 2, 10, 20, 0),
    (t.ord(703), t.product(1), 2, 10, 20, 0), (t.ord(704), t.product(3), 2, 10, 20, 0);
SELECT t.right_figures('orders put in, one delivered already');
SELECT t.same(last_order_date, '2031-05-01Z', 'the last order of a buyer') FROM user_order_figures WHERE user_id = t.usr(2);
SELECT t.ok(last_order_date < '2031-01-01Z', 'not one that is under way') FROM user_order_figures WHERE user_id = t.usr(1);

UPDATE orders SET status = 'delivered' WHERE id IN (t.ord(701), t.ord(702), t.ord(704));
SELECT t.right_figures('delivered, several in a statement');
UPDATE orders SET refunded_amount = 7.5 WHERE id = t.ord(702);
SELECT t.right_figures('a part refunded');
UPDATE orders SET delivered_at = '2019-05-02 23:50Z' WHERE id = t.ord(701);
SELECT t.right_figures('delivered at another time');
UPDATE orders SET delivered_at = '2019-05-02 23:59:59.999999Z' WHERE id = t.ord(701);
SELECT t.right_figures('at the end of a quarter');
UPDATE orders SET user_id = t.usr(2) WHERE id = t.ord(702);
SELECT t.right_figures('of somebody else');
UPDATE orders SET created_at = '2033-01-01Z' WHERE id = t.ord(702);
SELECT t.right_figures('placed at another time');
UPDATE order_items SET quantity = 5, subtotal = 50 WHERE order_id = t.ord(702);
SELECT t.right_figures('a line changed');
UPDATE order_items SET product_id = t.product(4) WHERE order_id = t.ord(702);
SELECT t.right_figures('a line of something else');
UPDATE orders SET refunded_amount = 0 WHERE id = t.ord(702);
UPDATE order_items SET order_id = t.ord(703) WHERE order_id = t.ord(702);
SELECT t.right_figures('a line of another order');
DELETE FROM order_items WHERE order_id = t.ord(701) AND product_id = t.product(2);
SELECT t.right_figures('a line gone');
UPDATE orders SET status = 'refunded', payment_status = 'refunded', refunded_amount = total_amount WHERE id = t.ord(703);
SELECT t.right_figures('refunded whole');
UPDATE orders SET status = 'preparing', delivered_at = NULL WHERE id = t.ord(704);
SELECT t.right_figures('not delivered after all');
DELETE FROM orders WHERE id IN (t.ord(701), t.ord(702), t.ord(703), t.ord(704));
SELECT t.right_figures('deleted, several of one buyer');

-- The shop's clock: whatever the time zone, also with half an hour in it.
SELECT set_config('app.timezone', 'Asia/Kathmandu', true);
SELECT t.right_figures('by days of Kathmandu');
SELECT set_config('app.timezone', 'America/St_Johns', true);
SELECT t.right_figures('of Newfoundland');
SELECT set_config('app.timezone', '', true);

SELECT t.owner();
INSERT INTO users (id, name, email, role, password_hash) VALUES (t.usr(701), 'N', 'n701@example.com', 'customer', 'x');
SELECT t.right_figures('somebody new');
DELETE FROM users WHERE id = t.usr(701);
SELECT t.right_figures('who leaves');

-- Anything, in any order: also what no server would do.
SELECT setseed(0.37);
SELECT t.same(count(t.one_of_all()), 80::bigint, 'anything, 80 times') FROM generate_series(1, 80);
SELECT t.right_figures('after 80 of anything');
SELECT t.same(count(t.one_of_all()), 80::bigint, 'anything, 80 times') FROM generate_series(1, 80);
SELECT t.right_figures('after 160 of anything');
SELECT t.same(count(t.one_of_all()), 80::bigint, 'anything, 80 times') FROM generate_series(1, 80);
SELECT t.right_figures('after 240 of anything');
SELECT t.same(count(t.one_of_all()), 80::bigint, 'anything, 80 times') FROM generate_series(1, 80);
SELECT t.right_figures('after 320 of anything');
SELECT t.ok(count(*) FILTER (WHERE status = 'refunded') > 2 AND count(*) FILTER (WHERE status = 'delivered') > 5,
            'of which there was some of everything') FROM orders WHERE created_at < '2026-01-03Z';
SELECT t.ok(count(*) > 3, 'failed deliveries, too') FROM order_status_history WHERE failed;
SELECT t.fails($$UPDATE order_status_history SET failed = true WHERE status = 'pending'$$, '23514', 'which are in preparation again');
SELECT t.app('admin', t.usr(3)::text);
SELECT anonymise_user(t.usr(1));
SELECT t.owner();
SELECT t.right_figures('a buyer is made nobody');

-- Merging.
SELECT t.app('admin', t.usr(3)::text);
SELECT t.same(compact_sales_figures() + compact_report_figures(), 0, 'merging is not for people');
SELECT t.app('system');
SELECT t.ok(compact_sales_figures() > 0 AND compact_report_figures() > 0, 'merging');
SELECT t.owner();
SELECT t.right_figures('merged');
SELECT t.same(count(*), 0::bigint, 'a row a quarter')
  FROM (SELECT FROM sales_figures GROUP BY quarter HAVING count(*) > 1 OR sum(orders) = 0) AS many;
SELECT t.same(count(*), 0::bigint, 'and one a product and day')
  FROM (SELECT FROM product_sales_figures GROUP BY day, product_id HAVING count(*) > 1) AS many;
SELECT t.same(count(*), 0::bigint, 'nothing is left beside')
  FROM (SELECT FROM order_figures GROUP BY quarter, status, payment_method, payment_status HAVING count(*) > 1
        UNION ALL SELECT FROM slot_figures GROUP BY delivery_schedule_id HAVING count(*) > 1
        UNION ALL SELECT FROM promo_figures GROUP BY day, promo_code_id HAVING count(*) > 1
        UNION ALL SELECT FROM user_sales_movements) AS many;
SELECT t.app('system');
SELECT t.same(compact_sales_figures() + compact_report_figures(), 0, 'once merged there is nothing to merge');

-- As the server, for a rider and a customer: the triggers are the owner's.
SELECT t.app('staff', t.usr(4)::text);
UPDATE orders SET status = 'delivered', delivered_at = now()
 WHERE id = (SELECT id FROM orders WHERE status = 'preparing' ORDER BY id LIMIT 1);
SELECT t.owner();
SELECT t.right_figures('delivered by staff');

ROLLBACK;
