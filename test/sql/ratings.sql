-- ratings.sql -- product_ratings equals the rows that it sums up, after every change.

BEGIN;

-- Products whose figures are not those of an independent count.
CREATE FUNCTION t.wrong() RETURNS text LANGUAGE sql STABLE SECURITY DEFINER
RETURN (SELECT string_agg(p.name, ', ')
          FROM public.products p LEFT JOIN public.product_ratings r ON r.product_id = p.id
         WHERE r.product_id IS NULL
            OR r.rating_sum <> (SELECT COALESCE(sum(rating), 0) FROM public.reviews v WHERE v.product_id = p.id)
            OR r.review_count <> (SELECT count(*) FROM public.reviews v WHERE v.product_id = p.id)
            OR r.sold <> (SELECT COALESCE(sum(i.quantity), 0) FROM public.order_items i
                           WHERE i.product_id = p.id
                             AND i.order_id IN (SELECT id FROM public.orders WHERE status = 'delivered')));

CREATE FUNCTION t.figures(n integer) RETURNS text LANGUAGE sql STABLE
RETURN (SELECT format('%s/%s/%s', rating_sum, review_count, sold) FROM public.product_ratings
         WHERE product_id = t.product(n));

SELECT t.same(t.wrong(), NULL, 'after the sample data');

-- ---- reviews ------------------------------------------------------------------------

SELECT t.app('staff', t.usr(4)::text);
INSERT INTO products (id, name, price) VALUES (t.product(901), 'One', 1), (t.product(902), 'Two', 1);
SELECT t.same(t.figures(901), '0/0/0', 'a new product has its row');

SELECT t.app('customer', t.usr(1)::text);
INSERT INTO reviews (user_id, product_id, rating) VALUES (t.usr(1), t.product(901), 5), (t.usr(1), t.product(902), 2);
SELECT t.same(t.figures(901), '5/1/0', 'after a customer''s review');
UPDATE reviews SET rating = 3 WHERE user_id = t.usr(1) AND product_id = t.product(901);
SELECT t.same(t.figures(901), '3/1/0', 'after its change');

SELECT t.app('customer', t.usr(2)::text);
INSERT INTO reviews (user_id, product_id, rating) VALUES (t.usr(2), t.product(901), 4);
SELECT t.same(t.figures(901), '7/2/0', 'of two');
DELETE FROM reviews WHERE product_id = t.product(901);
SELECT t.same(t.figures(901), '3/1/0', 'a customer removes only his own');

SELECT t.app('staff', t.usr(4)::text);
DELETE FROM reviews WHERE product_id = t.product(901);
SELECT t.same(t.figures(901), '0/0/0', 'staff remove any');

SELECT t.owner();
UPDATE reviews SET product_id = t.product(901) WHERE product_id = t.product(902);
SELECT t.same(t.figures(901) || ' ' || t.figures(902), '2/1/0 0/0/0', 'a moved review');

-- ---- deliveries ---------------------------------------------------------------------

SELECT t.app('customer', t.usr(1)::text);
INSERT INTO orders (id, user_id, total_amount) VALUES (t.ord(901), t.usr(1), 3);
INSERT INTO order_items (id, order_id, product_id, quantity, unit_price, subtotal) VALUES
    (t.ord(1), t.ord(901), t.product(901), 2, 1, 2), (t.ord(2), t.ord(901), t.product(902), 1, 1, 1),
    (t.ord(3), t.ord(901), t.product(901), 3, 1, 3);
SELECT t.same(t.figures(901), '2/1/0', 'ordered is not sold');

SELECT t.app('staff', t.usr(4)::text);
UPDATE orders SET status = 'delivered' WHERE id = t.ord(901);
SELECT t.same(t.figures(901) || ' ' || t.figures(902), '2/1/5 0/0/1', 'delivered is');
UPDATE orders SET status = 'delivered', payment_status = 'paid' WHERE id = t.ord(901);
SELECT t.same(t.figures(901), '2/1/5', 'once');

SELECT t.owner();
UPDATE order_items SET quantity = 4, subtotal = 4 WHERE id = t.ord(1);
SELECT t.same(t.figures(901), '2/1/7', 'a changed line');
UPDATE order_items SET product_id = t.product(902) WHERE id = t.ord(1);
SELECT t.same(t.figures(901) || ' ' || t.figures(902), '2/1/3 0/0/5', 'a line of another product');
DELETE FROM order_items WHERE id = t.ord(1);
SELECT t.same(t.figures(902), '0/0/1', 'a line taken out');
UPDATE orders SET status = 'refunded', payment_status = 'refunded' WHERE id = t.ord(901);
SELECT t.same(t.figures(901), '2/1/0', 'refunded is sold no longer');
UPDATE orders SET status = 'delivered' WHERE id = t.ord(901);
DELETE FROM orders WHERE id = t.ord(901);
SELECT t.same(t.figures(901) || ' ' || t.figures(902), '2/1/0 0/0/0', 'an order erased');
SELECT t.same(t.wrong(), NULL, 'all equal the rows');

-- ---- whole accounts, and chance -----------------------------------------------------

SELECT t.fails('DELETE FROM users WHERE id = t.usr(8)', '23503', 'an account with orders is not erased');
UPDATE orders SET user_id = t.usr(9) WHERE user_id = t.usr(8);
UPDATE promo_redemptions SET user_id = t.usr(9) WHERE user_id = t.usr(8);
DELETE FROM users WHERE id = t.usr(8);
SELECT t.same(t.wrong(), NULL, 'after an account with its reviews is erased');

-- No order has anything that would keep it, or forbid another status.
DELETE FROM loyalty_ledger;
DELETE FROM refunds;
DELETE FROM payments;
UPDATE orders SET refunded_amount = 0, payment_status = 'refunded', delivery_schedule_id = NULL;
SELECT setseed(0.42) \g /dev/null
DO $$
DECLARE
    dice integer;
BEGIN
    FOR i IN 1..400 LOOP
        dice := floor(random() * 8);
        IF dice = 0 THEN
            INSERT INTO orders (user_id, total_amount, status)
            SELECT id, 0, (ARRAY['pending', 'delivered', 'cancelled'])[1 + floor(random() * 3)::int]
              FROM users ORDER BY random() LIMIT 3;
        ELSIF dice = 1 THEN
            INSERT INTO order_items (order_id, product_id, quantity, unit_price, subtotal)
            SELECT o.id, p.id, 2, p.price, 2 * p.price
              FROM (SELECT id FROM orders ORDER BY random() LIMIT 4) o,
                   (SELECT id, price FROM products ORDER BY random() LIMIT 2) p;
        ELSIF dice = 2 THEN
            UPDATE order_items SET quantity = quantity + 1, subtotal = subtotal + unit_price, discount_amount = 0,
                   order_id = (SELECT id FROM orders ORDER BY random() LIMIT 1)
             WHERE id IN (SELECT id FROM order_items ORDER BY random() LIMIT 5);
        ELSIF dice = 3 THEN
            DELETE FROM order_items WHERE id IN (SELECT id FROM order_items ORDER BY random() LIMIT 3);
        ELSIF dice = 4 THEN
            UPDATE orders SET payment_status = 'refunded',
                   status = (ARRAY['delivered', 'refunded', 'preparing'])[1 + floor(random() * 3)::int]
             WHERE id IN (SELECT id FROM orders ORDER BY random() LIMIT 4);
        ELSIF dice = 5 THEN
            DELETE FROM orders WHERE id IN (SELECT id FROM orders ORDER BY random() LIMIT 1);
        ELSIF dice = 6 THEN
            INSERT INTO reviews (user_id, product_id, rating)
            SELECT u.id, p.id, 1 + floor(random() * 5)
              FROM (SELECT id FROM users ORDER BY random() LIMIT 2) u,
                   (SELECT id FROM products ORDER BY random() LIMIT 2) p
                ON CONFLICT (user_id, product_id) DO UPDATE SET rating = EXCLUDED.rating;
        ELSE
            DELETE FROM reviews WHERE id IN (SELECT id FROM reviews ORDER BY random() LIMIT 2);
        END IF;
    END LOOP;
END
$$;
SELECT t.same(t.wrong(), NULL, 'after 400 changes at random');
SELECT t.same(count(*), 0::bigint, 'and every total is the sum of its lines')
  FROM orders o
 WHERE EXISTS (SELECT FROM order_items i WHERE i.order_id = o.id)
   AND (subtotal <> (SELECT sum(i.subtotal) FROM order_items i WHERE i.order_id = o.id)
        OR total_amount <> subtotal - LEAST(discount_amount, subtotal)
           - LEAST(points_amount, subtotal - LEAST(discount_amount, subtotal))
           + delivery_fee + tip_amount + tax_amount);

-- ---- by hand ------------------------------------------------------------------------

SELECT t.app('admin', t.usr(3)::text);
SELECT t.fails($$UPDATE product_ratings SET sold = 1$$, '42501', 'nobody writes them by hand');
SELECT t.fails($$SELECT add_sold(ARRAY[t.product(1)], ARRAY[1])$$, '42501', 'or by calling the trigger''s helper');

ROLLBACK;
