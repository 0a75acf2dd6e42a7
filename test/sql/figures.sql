-- figures.sql -- the figures of sales equal the orders that they are of, whatever happens.

BEGIN;

-- The views of before, from the orders themselves; nothing: no difference.
CREATE FUNCTION t.wrong_figures() RETURNS text LANGUAGE sql STABLE AS $$
    SELECT string_agg(what, ', ') FROM (
        SELECT format('quarter %s', quarter) AS what
          FROM (SELECT quarter, sum(orders) AS n, sum(revenue) AS r FROM sales_figures GROUP BY 1
                HAVING sum(orders) <> 0 OR sum(revenue) <> 0) AS have
          FULL JOIN (SELECT date_bin('15 minutes', delivered_at, '2000-01-01Z') AS quarter, count(*)::numeric AS n,
                            sum(total_amount - refunded_amount) AS r
                       FROM orders WHERE status = 'delivered' GROUP BY 1) AS want USING (quarter)
         WHERE (have.n, have.r) IS DISTINCT FROM (want.n, want.r)
        UNION ALL
        SELECT format('product %s on %s', product_id, day)
          FROM (SELECT day, product_id, sum(sold) AS n, sum(revenue) AS r FROM product_sales_figures GROUP BY 1, 2
                HAVING sum(sold) <> 0 OR sum(revenue) <> 0) AS have
          FULL JOIN (SELECT (delivered_at AT TIME ZONE 'UTC')::date AS day, product_id, sum(quantity)::numeric AS n,
                            sum(i.subtotal - i.discount_amount) AS r
                       FROM orders o JOIN order_items i ON i.order_id = o.id WHERE status = 'delivered'
                      GROUP BY 1, 2) AS want USING (day, product_id)
         WHERE (have.n, have.r) IS DISTINCT FROM (want.n, want.r)
        UNION ALL
        SELECT format('user %s', u.id)
          FROM users u
          LEFT JOIN user_order_figures f ON f.user_id = u.id
          LEFT JOIN (SELECT user_id, count(*) AS n, sum(total_amount - refunded_amount) AS r, max(created_at) AS last
                       FROM orders WHERE status = 'delivered' GROUP BY 1) AS want ON want.user_id = u.id
         WHERE (f.total_orders, f.total_spent, f.last_order_date)
               IS DISTINCT FROM (COALESCE(want.n, 0), COALESCE(want.r, 0), want.last)
        UNION ALL
        SELECT format('stats of %s', p.id)
          FROM product_stats p
          LEFT JOIN (SELECT product_id, avg(rating) AS a, count(*) AS n FROM reviews GROUP BY 1) r ON r.product_id = p.id
          LEFT JOIN (SELECT product_id, sum(quantity) AS n FROM order_items i JOIN orders o ON o.id = i.order_id
                      WHERE o.status = 'delivered' GROUP BY 1) s ON s.product_id = p.id
         WHERE (p.avg_rating, p.review_count, p.total_sold)
               IS DISTINCT FROM (COALESCE(r.a, 0), COALESCE(r.n, 0), COALESCE(s.n, 0))
        UNION ALL
        SELECT format('day %s', sale_date)
          FROM daily_sales v
          FULL JOIN (SELECT (delivered_at AT TIME ZONE shop_timezone())::date AS sale_date, count(*) AS n,
                            sum(total_amount - refunded_amount) AS r, avg(total_amount - refunded_amount) AS a
                       FROM orders WHERE status = 'delivered' GROUP BY 1) AS want USING (sale_date)
         WHERE (v.order_count, v.total_revenue, v.avg_order_value) IS DISTINCT FROM (want.n, want.r, want.a)
    ) AS differences
$$;

CREATE FUNCTION t.right_figures(label text) RETURNS text LANGUAGE sql
RETURN t.same(t.wrong_figures(), NULL, 'figures: ' || label);

SELECT t.owner();
SELECT t.right_figures('of the sample data');
SELECT t.ok(count(*) > 20, 'there are some') FROM sales_figures;
SELECT t.ok(count(*) > 5, 'of products, too') FROM product_sales_figures;

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

-- Merging.
SELECT t.app('admin', t.usr(3)::text);
SELECT t.same(compact_sales_figures(), 0, 'merging is not for people');
SELECT t.app('system');
SELECT t.ok(compact_sales_figures() > 0, 'merging');
SELECT t.owner();
SELECT t.right_figures('merged');
SELECT t.same(count(*), 0::bigint, 'a row a quarter')
  FROM (SELECT FROM sales_figures GROUP BY quarter HAVING count(*) > 1 OR sum(orders) = 0) AS many;
SELECT t.same(count(*), 0::bigint, 'and one a product and day')
  FROM (SELECT FROM product_sales_figures GROUP BY day, product_id HAVING count(*) > 1) AS many;
SELECT t.app('system');
SELECT t.same(compact_sales_figures(), 0, 'once merged there is nothing to merge');

-- As the server, for a rider and a customer: the triggers are the owner's.
SELECT t.app('staff', t.usr(4)::text);
UPDATE orders SET status = 'delivered', delivered_at = now()
 WHERE id = (SELECT id FROM orders WHERE status = 'preparing' ORDER BY id LIMIT 1);
SELECT t.owner();
SELECT t.right_figures('delivered by staff');

ROLLBACK;
