-- 016_figures_again.sql -- the figures of 008 and 015, made anew while nobody writes: what was
-- ordered or changed in a running shop while those two filled their tables, before their
-- triggers were there, is missing in them.

-- Orders first, as by whoever orders; the figures in the order of those who merge them.
LOCK TABLE orders, order_items, promo_redemptions, users, sales_figures, product_sales_figures,
    user_order_figures, order_figures, slot_figures, promo_figures, user_sales_movements,
    user_sales_figures IN SHARE ROW EXCLUSIVE MODE;

DELETE FROM sales_figures;
DELETE FROM product_sales_figures;
DELETE FROM user_order_figures;
DELETE FROM order_figures;
DELETE FROM slot_figures;
DELETE FROM promo_figures;
DELETE FROM user_sales_movements;
DELETE FROM user_sales_figures;

INSERT INTO sales_figures
SELECT date_bin('15 minutes', delivered_at, '2000-01-01Z'), count(*), sum(total_amount - refunded_amount)
  FROM orders WHERE status = 'delivered' GROUP BY 1;

INSERT INTO product_sales_figures
SELECT (o.delivered_at AT TIME ZONE 'UTC')::date, i.product_id, sum(i.quantity),
       sum(i.subtotal - i.discount_amount)
  FROM orders o JOIN order_items i ON i.order_id = o.id
 WHERE o.status = 'delivered' GROUP BY 1, 2;

INSERT INTO user_order_figures
SELECT u.id, count(o.id), COALESCE(sum(o.total_amount - o.refunded_amount), 0), max(o.created_at)
  FROM users u LEFT JOIN orders o ON o.user_id = u.id AND o.status = 'delivered'
 GROUP BY u.id;

INSERT INTO order_figures
SELECT date_bin('15 minutes', created_at, '2000-01-01Z'), status, payment_method, payment_status,
       count(*), sum(total_amount), sum(refunded_amount)
  FROM orders GROUP BY 1, 2, 3, 4;

INSERT INTO slot_figures
SELECT delivery_schedule_id, count(delivered_at),
       count(*) FILTER (WHERE status NOT IN ('delivered', 'cancelled', 'refunded')),
       count(*) FILTER (WHERE status = 'cancelled' OR (status = 'refunded' AND delivered_at IS NULL))
  FROM orders WHERE delivery_schedule_id IS NOT NULL GROUP BY 1;

INSERT INTO promo_figures
SELECT (r.created_at AT TIME ZONE 'UTC')::date, r.promo_code_id,
       count(*) FILTER (WHERE r.returned_at IS NULL), count(r.returned_at),
       COALESCE(sum(r.amount) FILTER (WHERE r.returned_at IS NULL), 0),
       COALESCE(sum(o.total_amount) FILTER (WHERE r.returned_at IS NULL), 0)
  FROM promo_redemptions r JOIN orders o ON o.id = r.order_id GROUP BY 1, 2;

INSERT INTO user_sales_figures
SELECT u.id, COALESCE(s.times, '{}'), COALESCE(s.cents, '{}')
  FROM users u LEFT JOIN user_sales_from_orders s ON s.user_id = u.id;

-- down

-- They are right without it, too.
