-- totals.sql -- an order's total is the sum of its lines, whoever changes them and how.

BEGIN;

CREATE FUNCTION t.total(n integer) RETURNS numeric LANGUAGE sql STABLE
RETURN (SELECT total_amount FROM orders WHERE id = ('2f000000-0000-0000-0000-' || lpad(n::text, 12, '0'))::uuid);

CREATE FUNCTION t.new(n integer) RETURNS uuid LANGUAGE sql IMMUTABLE
RETURN ('2f000000-0000-0000-0000-' || lpad(n::text, 12, '0'))::uuid;

CREATE FUNCTION t.order_writes() RETURNS bigint LANGUAGE sql
RETURN pg_stat_get_xact_tuples_updated('public.orders'::regclass);

-- ---- a customer's own INSERT --------------------------------------------------------

SELECT t.app('customer', t.usr(1)::text);

INSERT INTO orders (id, user_id, total_amount) VALUES (t.new(1), t.usr(1), 0), (t.new(2), t.usr(1), 0),
    (t.new(3), t.usr(1), 9.99);
INSERT INTO order_items (order_id, product_id, quantity, unit_price, subtotal) VALUES
    (t.new(1), t.product(1), 2, 25.99, 51.98),
    (t.new(1), t.product(2), 1, 12.99, 12.99),
    (t.new(2), t.product(2), 1, 12.99, 12.99);

SELECT t.same(t.total(1), 64.97, 'after a customer''s INSERT');
SELECT t.same(t.total(2), 12.99, 'and of the other order in the same statement');
SELECT t.same(t.total(3), 9.99, 'an order without lines is not touched');

INSERT INTO order_items (order_id, product_id, quantity, unit_price, subtotal)
    SELECT t.new(1), t.product(1), 1, 1, 1 WHERE false;
SELECT t.same(t.total(1), 64.97, 'after an INSERT of nothing');

-- ---- changes by the owner -----------------------------------------------------------

SELECT t.owner();

DELETE FROM order_items WHERE order_id = t.new(1) AND product_id = t.product(2);
SELECT t.same(t.total(1), 51.98, 'after DELETE of one line');

UPDATE order_items SET quantity = 3, subtotal = 77.97 WHERE order_id = t.new(1);
SELECT t.same(t.total(1), 77.97, 'after UPDATE');

UPDATE order_items SET order_id = t.new(2) WHERE order_id = t.new(1);
SELECT t.same(t.total(1), 0.00, 'a moved line leaves its order');
SELECT t.same(t.total(2), 90.96, 'and arrives at the other');

DELETE FROM order_items WHERE order_id = t.new(2);
SELECT t.same(t.total(2), 0.00, 'after DELETE of all lines');

-- ---- how often orders are written ---------------------------------------------------

SELECT t.order_writes() AS before \gset
INSERT INTO order_items (order_id, product_id, quantity, unit_price, subtotal)
    SELECT t.new(3), t.product(n), 1, 1, 1 FROM generate_series(1, 20) n;
SELECT t.same(t.total(3), 20.00, 'twenty lines');
SELECT t.same(t.order_writes() - :before, 1::bigint, 'are one write of their order');

INSERT INTO orders (id, user_id, subtotal, total_amount) VALUES (t.new(4), t.usr(1), 5, 5);
SELECT t.order_writes() AS before \gset
INSERT INTO order_items (order_id, product_id, quantity, unit_price, subtotal)
    VALUES (t.new(4), t.product(1), 5, 1, 5);
SELECT t.same(t.order_writes() - :before, 0::bigint, 'a right total is not written');

DELETE FROM orders WHERE id = t.new(3);
SELECT t.same(count(*), 0::bigint, 'lines go with their order') FROM order_items WHERE order_id = t.new(3);

SELECT t.fails($$INSERT INTO order_items (order_id, product_id, quantity, unit_price, subtotal)
    SELECT t.new(4), t.product(1), 1, 999999, 999999 FROM generate_series(1, 2)$$, '22003',
    'a total beyond the column fails, it is not cut');

ROLLBACK;
