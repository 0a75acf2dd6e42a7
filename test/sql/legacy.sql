-- legacy.sql -- a shop as 001 allowed it, to be taken over by the migrations after it.

INSERT INTO users (id, name, email, password_hash, role, phone) VALUES
    ('00000000-0000-0000-0000-000000000001', 'Old', 'Old@Example.com', 'x', 'customer', ' '),
    ('00000000-0000-0000-0000-000000000002', 'Rider', 'rider@example.com', 'x', 'rider', '');
INSERT INTO products (id, name, price, is_customizable) VALUES
    ('10000000-0000-0000-0000-000000000001', 'Bread', 2, false), ('10000000-0000-0000-0000-000000000002', 'Cake', 20, true);
INSERT INTO promo_codes (code, discount_type, amount, valid_from, valid_to, used_count) VALUES
    (' summer ', 'percent', 10, now(), now() + interval '1 day', 3);
INSERT INTO delivery_schedules (id, delivery_date, delivery_time, status) VALUES
    ('30000000-0000-0000-0000-000000000001', '2001-01-01', '09:00-11:00', 'assigned');
INSERT INTO orders (id, user_id, total_amount, refunded_amount, status, payment_status, delivery_schedule_id, created_at, delivered_at)
SELECT ('20000000-0000-0000-0000-' || lpad(n::text, 12, '0'))::uuid, '00000000-0000-0000-0000-000000000001', 22,
       CASE WHEN n = 2 THEN 22 ELSE 0 END, (ARRAY['pending', 'refunded', 'dispatched', 'delivered'])[n],
       CASE WHEN n = 4 THEN 'paid' ELSE 'pending' END,
       CASE WHEN n >= 2 THEN '30000000-0000-0000-0000-000000000001'::uuid END,
       timestamptz '2026-01-05 12:00Z' - n * interval '1 day', CASE WHEN n IN (2, 4) THEN timestamptz '2026-01-06 12:00Z' END
  FROM generate_series(1, 4) AS n;
INSERT INTO order_items (order_id, product_id, quantity, unit_price, subtotal)
SELECT o.id, p.id, 1, p.price, p.price FROM orders o, products p;
INSERT INTO custom_cake_configurations (order_id, flavor, size, frosting) VALUES
    ('20000000-0000-0000-0000-000000000001', 'lemon', 'small_6', 'fondant');
INSERT INTO loyalty_points (user_id, points) VALUES ('00000000-0000-0000-0000-000000000001', 44);
