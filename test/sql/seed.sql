-- seed.sql -- the sample data: the known people and products, and a shop that looks alive.

BEGIN;

SELECT t.same(string_agg(format('%s|%s|%s|%s|%s', name, email, role, phone, password_hash ~ '^\$2b\$12\$.{53}$'), ' '
                         ORDER BY id),
    'John Doe|john@example.com|customer|+1234567890|t Jane Smith|jane@example.com|customer|+1234567891|t '
    'Admin User|admin@omadecravings.com|admin|+1234567892|t', 'the three people')
  FROM users WHERE id IN (t.usr(1), t.usr(2), t.usr(3));
SELECT t.same(string_agg(format('%s|%s|%s|%s|%s|%s', name, description, price, category, stock, is_customizable), ' '
                         ORDER BY id),
    'Chocolate Cake|Rich chocolate cake with ganache|25.99|cakes|20|t '
    'Vanilla Cupcakes|Classic vanilla cupcakes (6 pack)|12.99|cupcakes|50|f '
    'Red Velvet Cake|Traditional red velvet with cream cheese frosting|28.99|cakes|15|t', 'the three products')
  FROM products WHERE id IN (t.product(1), t.product(2), t.product(3));
SELECT t.same(string_agg(format('%s|%s|%s|%s', code, discount_type, amount, usage_limit), ' ' ORDER BY code),
    'SAVE5|fixed|5.00|500 WELCOME10|percent|10.00|1000', 'the two promo codes'),
       t.ok(bool_and(now() BETWEEN valid_from AND valid_to), 'are valid now')
  FROM promo_codes WHERE usage_limit IS NOT NULL;

SELECT t.same(count(DISTINCT password_hash), count(*), 'every hash has its own salt') FROM users;
SELECT t.same(count(*), 30::bigint, '30 products'), t.same(count(DISTINCT category), 6::bigint, 'in 6 categories'),
       t.ok(bool_and(length(description) > 15), 'all described'),
       t.ok(bool_or(stock = 0) AND bool_or(stock BETWEEN 1 AND 5), 'some running out'),
       t.ok(count(*) FILTER (WHERE allergens <> '{}') >= 25, 'with their allergens')
  FROM products;
SELECT t.ok(count(*) FILTER (WHERE role = 'customer') >= 12 AND count(*) FILTER (WHERE role = 'rider') = 2
            AND count(*) FILTER (WHERE role = 'staff') >= 1, 'staff, two riders, customers') FROM users;
SELECT t.ok(bool_and(email = lower(email)), 'e-mail addresses in lower case'),
       t.same(count(phone), count(DISTINCT phone), 'no phone number twice') FROM users;

SELECT t.same(count(DISTINCT status), 8::bigint, 'orders in all states'), t.ok(count(*) >= 60, 'some sixty'),
       t.same(count(*) FILTER (WHERE created_at > now() OR delivered_at > now() OR delivered_at < created_at),
              0::bigint, 'none of the future, none delivered before it was placed'),
       t.same(count(*) FILTER (WHERE (delivered_at IS NOT NULL) <> (status IN ('delivered', 'refunded'))),
              0::bigint, 'delivered ones have their time'),
       t.same(count(*) FILTER (WHERE (refunded_amount = total_amount) <> (status = 'refunded')),
              0::bigint, 'refunded ones their refund')
  FROM orders;
SELECT t.ok(count(*) FILTER (WHERE lines = 1) >= 10 AND count(*) FILTER (WHERE lines > 2) >= 10, 'of one and of several lines'),
       t.same(count(*) FILTER (WHERE total IS DISTINCT FROM total_amount), 0::bigint, 'that make up the total')
  FROM (SELECT o.id, total_amount, count(i.id) AS lines, sum(i.quantity * i.unit_price)
                 - o.discount_amount - o.points_amount + o.delivery_fee + o.tip_amount + o.tax_amount AS total
          FROM orders o LEFT JOIN order_items i ON i.order_id = o.id GROUP BY o.id) AS x;
SELECT t.ok(min(delivery_date) < current_date AND max(delivery_date) > current_date + 7, 'slots around today'),
       t.same(count(*), count(DISTINCT (delivery_date, delivery_time)), 'none twice'),
       t.ok(bool_and(rider_id IS NULL OR rider_id IN (SELECT id FROM users WHERE role = 'rider')), 'ridden by riders')
  FROM delivery_schedules;
SELECT t.ok(count(*) >= 5, 'custom cakes') FROM custom_cake_configurations;
SELECT t.same(count(*), 0::bigint, 'only for orders with a product that can be customised')
  FROM custom_cake_configurations c
 WHERE NOT EXISTS (SELECT FROM order_items i JOIN products p ON p.id = i.product_id
                    WHERE i.order_id = c.order_id AND p.is_customizable);
SELECT t.ok(count(*) >= 30, 'reviews'), t.same(count(DISTINCT rating) > 3, true, 'of all kinds'),
       t.same(count(*) FILTER (WHERE NOT EXISTS (
           SELECT FROM orders o JOIN order_items i ON i.order_id = o.id
            WHERE o.user_id = r.user_id AND i.product_id = r.product_id AND o.status = 'delivered'
              AND o.delivered_at < r.created_at)), 0::bigint, 'only by people who had received the product')
  FROM reviews r;
SELECT t.same(count(*), (SELECT count(*) FROM users), 'a loyalty account for everybody'),
       t.ok(sum(points) > 500, 'with points') FROM loyalty_points;

SELECT t.ok(count(*) FILTER (WHERE fulfilment = 'delivery') >= 20 AND bool_and((fulfilment = 'delivery') = (address IS NOT NULL)
            AND (fulfilment = 'pickup') = (pickup_at IS NOT NULL)), 'deliveries have an address, the others a time'),
       t.same(count(DISTINCT payment_method), 4::bigint, 'paid in all ways'),
       t.ok(count(*) FILTER (WHERE user_id IS NULL) >= 3, 'some by guests'),
       t.ok(count(*) FILTER (WHERE discount_amount > 0) >= 5 AND count(*) FILTER (WHERE points_redeemed > 0) >= 3
            AND count(*) FILTER (WHERE tip_amount > 0) >= 3 AND count(*) FILTER (WHERE delivery_fee > 0) >= 5, 'with discounts, points, tips, fees'),
       t.same(count(*) FILTER (WHERE order_number <> 'ORD' || to_char(created_at AT TIME ZONE shop_timezone(), 'YYYYMMDD') || right(id::text, 3)),
              0::bigint, 'numbered by their day'),
       t.same(count(*) FILTER (WHERE status = 'delivered' AND payment_status <> 'paid'), 0::bigint, 'delivered ones are paid')
  FROM orders;
SELECT t.ok(substr(next_order_number(), 12)::integer > 100, 'new orders are numbered after them');

-- The hashes are of the password that the file names ($2b$ and $2a$ agree on ASCII).
SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'pgcrypto') AS can_hash \gset
\if :can_hash
CREATE EXTENSION pgcrypto;
SELECT t.ok(crypt('Bakery!2026', '$2a$' || substr(password_hash, 5)) = '$2a$' || substr(password_hash, 5),
            'the password of ' || email)
  FROM users WHERE id IN (t.usr(1), t.usr(3), t.usr(4), t.usr(6)) ORDER BY id;
\endif

ROLLBACK;
