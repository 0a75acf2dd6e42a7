-- 008_sales_figures.sql -- reports over many orders: figures that follow them.
--
-- Three tables that triggers keep equal to the delivered orders.  Sales are written as
-- movements, never as sums: a delivery adds rows and waits for nobody, however many are
-- delivered in the same quarter of an hour; compact_sales_figures() merges them later.
-- A quarter of an hour, and a day in UTC, are the same in every time zone: where a
-- day of the shop begins is known only when somebody asks.


-- ---- tables -------------------------------------------------------------------------

CREATE TABLE sales_figures (
    quarter TIMESTAMP WITH TIME ZONE NOT NULL,  -- in which orders were delivered
    orders BIGINT NOT NULL,
    revenue NUMERIC(14,2) NOT NULL              -- totals less refunds
);

CREATE INDEX idx_sales_figures_quarter ON sales_figures(quarter);

CREATE TABLE product_sales_figures (
    day DATE NOT NULL,                          -- in UTC, on which orders were delivered
    product_id UUID NOT NULL,
    sold BIGINT NOT NULL,
    revenue NUMERIC(14,2) NOT NULL              -- of the lines, after discounts
);

CREATE INDEX idx_product_sales_figures_day ON product_sales_figures(day, product_id);

-- A row for everybody, as of loyalty_points.
CREATE TABLE user_order_figures (
    user_id UUID PRIMARY KEY REFERENCES users(id) ON DELETE CASCADE,
    total_orders BIGINT NOT NULL DEFAULT 0 CHECK (total_orders >= 0),
    total_spent NUMERIC NOT NULL DEFAULT 0 CHECK (total_spent >= 0),
    last_order_date TIMESTAMP WITH TIME ZONE
);

CREATE INDEX idx_user_order_figures_orders ON user_order_figures(total_orders);
CREATE INDEX idx_user_order_figures_spent ON user_order_figures(total_spent);
CREATE INDEX idx_user_order_figures_last ON user_order_figures(last_order_date);

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


-- ---- what keeps them right ----------------------------------------------------------

CREATE FUNCTION create_user_order_figures() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
BEGIN
    INSERT INTO public.user_order_figures (user_id)
    SELECT id FROM new_users
        ON CONFLICT (user_id) DO NOTHING;
    RETURN NULL;
END
$$;

CREATE TRIGGER create_user_order_figures AFTER INSERT ON users
    REFERENCING NEW TABLE AS new_users
    FOR EACH STATEMENT EXECUTE FUNCTION create_user_order_figures();

-- A buyer's figures are added to under the lock of his points, which every change of an
-- order takes after the order itself: taken here, too, before anything that orders share.
-- The last order is looked for once the row is locked, so that none is missed.
CREATE FUNCTION add_user_order_figures(people uuid[], counts integer[], amounts numeric[], gone uuid)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
BEGIN
    PERFORM FROM public.loyalty_points l
      WHERE l.user_id = ANY (people) ORDER BY l.user_id FOR NO KEY UPDATE;
    PERFORM FROM public.user_order_figures f
      WHERE f.user_id = ANY (people) ORDER BY f.user_id FOR NO KEY UPDATE;

    UPDATE public.user_order_figures f
       SET total_orders = f.total_orders + more.orders,
           total_spent = f.total_spent + more.spent,
           last_order_date = (SELECT max(o.created_at) FROM public.orders o
                               WHERE o.user_id = f.user_id AND o.status = 'delivered'
                                 AND o.id IS DISTINCT FROM gone)
      FROM (SELECT m.person, sum(m.orders) AS orders, sum(m.spent) AS spent
              FROM unnest(people, counts, amounts) AS m(person, orders, spent)
             GROUP BY m.person) AS more
     WHERE f.user_id = more.person;
END
$$;

-- An order that becomes delivered, is so no longer, or changes while it is.
CREATE FUNCTION book_sale() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
DECLARE
    was integer := 0;
    becomes integer := 0;
    spent_before numeric := 0;
    spent_after numeric := 0;
    before public.orders;
    after public.orders;
BEGIN
    IF TG_OP <> 'INSERT' AND OLD.status = 'delivered' THEN
        before := OLD;
        was := -1;
        spent_before := OLD.refunded_amount - OLD.total_amount;
    END IF;
    IF TG_OP <> 'DELETE' AND NEW.status = 'delivered' THEN
        after := NEW;
        becomes := 1;
        spent_after := NEW.total_amount - NEW.refunded_amount;
    END IF;

    PERFORM public.add_user_order_figures(ARRAY[before.user_id, after.user_id],
        ARRAY[was, becomes], ARRAY[spent_before, spent_after],
        CASE WHEN TG_OP = 'DELETE' THEN before.id END);

    INSERT INTO public.sales_figures (quarter, orders, revenue)
    SELECT date_bin('15 minutes', m.at, '2000-01-01Z'), sum(m.orders), sum(m.revenue)
      FROM (VALUES (before.delivered_at, was, spent_before),
                   (after.delivered_at, becomes, spent_after)) AS m(at, orders, revenue)
     WHERE m.orders <> 0
     GROUP BY 1 HAVING sum(m.orders) <> 0 OR sum(m.revenue) <> 0;

    -- The lines of a new order come after it, and are booked as they come.
    IF TG_OP = 'INSERT' THEN
        RETURN NULL;
    END IF;
    INSERT INTO public.product_sales_figures (day, product_id, sold, revenue)
    SELECT m.day, i.product_id, sum(m.sign * i.quantity),
           sum(m.sign * (i.subtotal - i.discount_amount))
      FROM (SELECT (v.at AT TIME ZONE 'UTC')::date AS day, sum(v.sign) AS sign
              FROM (VALUES (before.delivered_at, was),
                           (after.delivered_at, becomes)) AS v(at, sign)
             WHERE v.sign <> 0
             GROUP BY 1 HAVING sum(v.sign) <> 0) AS m
      JOIN public.order_items i ON i.order_id = COALESCE(before.id, after.id)
     GROUP BY 1, 2;

    RETURN OLD;
END
$$;

-- Its name makes it the first of its kind: a buyer's points are locked before the figures
-- of products.
CREATE TRIGGER book_sale AFTER INSERT ON orders
    FOR EACH ROW WHEN (NEW.status = 'delivered') EXECUTE FUNCTION book_sale();

CREATE TRIGGER book_sale_on_update AFTER UPDATE ON orders
    FOR EACH ROW WHEN ((OLD.status = 'delivered' OR NEW.status = 'delivered')
        AND (OLD.status, OLD.user_id, OLD.created_at, OLD.delivered_at, OLD.total_amount,
             OLD.refunded_amount)
            IS DISTINCT FROM (NEW.status, NEW.user_id, NEW.created_at, NEW.delivered_at,
             NEW.total_amount, NEW.refunded_amount))
    EXECUTE FUNCTION book_sale();

-- Before, because the lines go with the order.
CREATE TRIGGER book_sale_on_delete BEFORE DELETE ON orders
    FOR EACH ROW WHEN (OLD.status = 'delivered') EXECUTE FUNCTION book_sale();

-- Lines of orders that are delivered already.  After update_order_total, by name, which
-- locks the orders.
CREATE FUNCTION book_sold_lines() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        PERFORM public.add_product_sales(array_agg(l.order_id), array_agg(l.product_id),
                    array_agg(l.quantity), array_agg(l.subtotal - l.discount_amount))
           FROM new_lines l;
    ELSIF TG_OP = 'DELETE' THEN
        PERFORM public.add_product_sales(array_agg(l.order_id), array_agg(l.product_id),
                    array_agg(-l.quantity), array_agg(l.discount_amount - l.subtotal))
           FROM old_lines l;
    ELSE
        PERFORM public.add_product_sales(array_agg(l.order_id), array_agg(l.product_id),
                    array_agg(l.sold), array_agg(l.revenue))
           FROM (SELECT order_id, product_id, quantity AS sold,
                        subtotal - discount_amount AS revenue FROM new_lines
                  UNION ALL
                 SELECT order_id, product_id, -quantity, discount_amount - subtotal
                   FROM old_lines) AS l;
    END IF;
    RETURN NULL;
END
$$;

CREATE FUNCTION add_product_sales(of_orders uuid[], products uuid[], pieces integer[], amounts numeric[])
RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
    INSERT INTO public.product_sales_figures (day, product_id, sold, revenue)
    SELECT (o.delivered_at AT TIME ZONE 'UTC')::date, l.product_id, sum(l.sold), sum(l.revenue)
      FROM unnest(of_orders, products, pieces, amounts) AS l(order_id, product_id, sold, revenue)
      JOIN public.orders o ON o.id = l.order_id
     WHERE o.status = 'delivered'
     GROUP BY 1, 2 HAVING sum(l.sold) <> 0 OR sum(l.revenue) <> 0
$$;

CREATE TRIGGER update_sales_lines AFTER INSERT ON order_items
    REFERENCING NEW TABLE AS new_lines
    FOR EACH STATEMENT EXECUTE FUNCTION book_sold_lines();

CREATE TRIGGER update_sales_lines_on_update AFTER UPDATE ON order_items
    REFERENCING OLD TABLE AS old_lines NEW TABLE AS new_lines
    FOR EACH STATEMENT EXECUTE FUNCTION book_sold_lines();

CREATE TRIGGER update_sales_lines_on_delete AFTER DELETE ON order_items
    REFERENCING OLD TABLE AS old_lines
    FOR EACH STATEMENT EXECUTE FUNCTION book_sold_lines();

-- Merges the movements; for `system`.  One statement a table: whoever reads meanwhile sees
-- either the movements or their sum, and what is added meanwhile stays for the next time.
CREATE FUNCTION compact_sales_figures() RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
DECLARE
    quarters integer;
    days integer;
BEGIN
    IF public.app_role() IS DISTINCT FROM 'system' THEN
        RETURN 0;
    END IF;

    WITH many AS (
        SELECT quarter FROM public.sales_figures GROUP BY quarter HAVING count(*) > 1
    ), gone AS (
        DELETE FROM public.sales_figures f USING many
         WHERE f.quarter = many.quarter RETURNING f.quarter, f.orders, f.revenue
    ), merged AS (
        INSERT INTO public.sales_figures
        SELECT quarter, sum(orders), sum(revenue) FROM gone
         GROUP BY quarter HAVING sum(orders) <> 0 OR sum(revenue) <> 0
    )
    SELECT count(*) INTO quarters FROM gone;

    WITH many AS (
        SELECT day, product_id FROM public.product_sales_figures
         GROUP BY day, product_id HAVING count(*) > 1
    ), gone AS (
        DELETE FROM public.product_sales_figures f USING many
         WHERE f.day = many.day AND f.product_id = many.product_id
        RETURNING f.day, f.product_id, f.sold, f.revenue
    ), merged AS (
        INSERT INTO public.product_sales_figures
        SELECT day, product_id, sum(sold), sum(revenue) FROM gone
         GROUP BY day, product_id HAVING sum(sold) <> 0 OR sum(revenue) <> 0
    )
    SELECT count(*) INTO days FROM gone;
    RETURN quarters + days;
END
$$;

GRANT EXECUTE ON FUNCTION compact_sales_figures() TO app_user;


-- ---- rights and rows ----------------------------------------------------------------

REVOKE INSERT, UPDATE ON sales_figures, product_sales_figures, user_order_figures FROM app_user;

ALTER TABLE sales_figures ENABLE ROW LEVEL SECURITY;
ALTER TABLE product_sales_figures ENABLE ROW LEVEL SECURITY;
ALTER TABLE user_order_figures ENABLE ROW LEVEL SECURITY;

CREATE POLICY sales_figures_read ON sales_figures FOR SELECT TO app_user
    USING ((SELECT app_is_staff()));
CREATE POLICY product_sales_figures_read ON product_sales_figures FOR SELECT TO app_user
    USING ((SELECT app_is_staff()));
CREATE POLICY user_order_figures_read ON user_order_figures FOR SELECT TO app_user
    USING ((SELECT app_is_staff()) OR user_id = (SELECT app_user_id()));

CREATE POLICY sales_figures_report ON sales_figures FOR SELECT TO readonly_user USING (true);
CREATE POLICY product_sales_figures_report ON product_sales_figures FOR SELECT TO readonly_user
    USING (true);
CREATE POLICY user_order_figures_report ON user_order_figures FOR SELECT TO readonly_user
    USING (true);

-- Whether the figures of all orders are the reader's: else his views are made of the orders
-- that he sees.
CREATE FUNCTION app_sees_sales() RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE
RETURN current_user <> 'app_user' OR app_is_staff();

GRANT EXECUTE ON FUNCTION app_sees_sales() TO app_user, readonly_user;
GRANT EXECUTE ON FUNCTION app_is_staff(), app_role() TO readonly_user;


-- ---- views: as they were, but from the figures --------------------------------------

CREATE OR REPLACE VIEW product_stats AS
SELECT
    p.id,
    p.name,
    p.category,
    p.price,
    p.stock,
    COALESCE(r.rating_sum::numeric / NULLIF(r.review_count, 0), 0) AS avg_rating,
    COALESCE(r.review_count, 0)::bigint AS review_count,
    COALESCE(s.total_sold, 0) AS total_sold
FROM products p
LEFT JOIN product_ratings r ON r.product_id = p.id
LEFT JOIN (
    SELECT product_id, sold::bigint AS total_sold
    FROM product_ratings
    WHERE (SELECT app_sees_sales())
    UNION ALL
    SELECT i.product_id, SUM(i.quantity) AS total_sold
    FROM order_items i
    JOIN orders o ON o.id = i.order_id AND o.status = 'delivered'
    WHERE NOT (SELECT app_sees_sales())
    GROUP BY i.product_id
) s ON s.product_id = p.id;

CREATE OR REPLACE VIEW user_order_summary AS
SELECT
    u.id AS user_id,
    u.name,
    u.email,
    f.total_orders,
    f.total_spent,
    f.last_order_date,
    lp.points AS loyalty_points
FROM users u
JOIN user_order_figures f ON f.user_id = u.id
JOIN loyalty_points lp ON lp.user_id = u.id;

CREATE OR REPLACE VIEW daily_sales AS
SELECT
    (s.quarter AT TIME ZONE shop_timezone())::date AS sale_date,
    SUM(s.orders)::bigint AS order_count,
    SUM(s.revenue) AS total_revenue,
    SUM(s.revenue) / SUM(s.orders) AS avg_order_value
FROM (
    SELECT quarter, orders, revenue
    FROM sales_figures
    UNION ALL
    SELECT delivered_at, 1, total_amount - refunded_amount
    FROM orders
    WHERE status = 'delivered' AND NOT (SELECT app_sees_sales())
) s
GROUP BY (s.quarter AT TIME ZONE shop_timezone())::date
HAVING SUM(s.orders) <> 0
ORDER BY sale_date DESC;

-- Replacing a view forgets its options.
DO $$
BEGIN
    IF current_setting('server_version_num')::integer >= 150000 THEN
        ALTER VIEW product_stats SET (security_invoker = true);
        ALTER VIEW user_order_summary SET (security_invoker = true);
        ALTER VIEW daily_sales SET (security_invoker = true);
    END IF;
END
$$;


-- ---- indexes for the lists of staff -------------------------------------------------

CREATE INDEX idx_orders_delivered_at ON orders(delivered_at) WHERE status = 'delivered';
CREATE INDEX idx_users_created_at ON users(created_at DESC, id);
CREATE INDEX idx_users_name ON users(name);
CREATE INDEX idx_loyalty_points_points ON loyalty_points(points);
CREATE INDEX idx_promo_redemptions_created_at ON promo_redemptions(created_at);
-- Deliveries that failed are put back to 'preparing'.
CREATE INDEX idx_order_status_history_preparing ON order_status_history(at, order_id)
    WHERE status = 'preparing' AND payment_status IS NULL;

-- down

DROP INDEX idx_order_status_history_preparing, idx_promo_redemptions_created_at,
    idx_loyalty_points_points, idx_users_name, idx_users_created_at, idx_orders_delivered_at;

CREATE OR REPLACE VIEW product_stats AS
SELECT
    p.id,
    p.name,
    p.category,
    p.price,
    p.stock,
    COALESCE(r.avg_rating, 0) AS avg_rating,
    COALESCE(r.review_count, 0) AS review_count,
    COALESCE(s.total_sold, 0) AS total_sold
FROM products p
LEFT JOIN (
    SELECT product_id, AVG(rating) AS avg_rating, COUNT(*) AS review_count
    FROM reviews
    GROUP BY product_id
) r ON r.product_id = p.id
LEFT JOIN (
    SELECT i.product_id, SUM(i.quantity) AS total_sold
    FROM order_items i
    JOIN orders o ON o.id = i.order_id AND o.status = 'delivered'
    GROUP BY i.product_id
) s ON s.product_id = p.id;

CREATE OR REPLACE VIEW user_order_summary AS
SELECT
    u.id AS user_id,
    u.name,
    u.email,
    COALESCE(o.total_orders, 0) AS total_orders,
    COALESCE(o.total_spent, 0) AS total_spent,
    o.last_order_date,
    COALESCE(lp.points, 0) AS loyalty_points
FROM users u
LEFT JOIN (
    SELECT
        user_id,
        COUNT(*) AS total_orders,
        SUM(total_amount - refunded_amount) AS total_spent,
        MAX(created_at) AS last_order_date
    FROM orders
    WHERE status = 'delivered'
    GROUP BY user_id
) o ON o.user_id = u.id
LEFT JOIN loyalty_points lp ON lp.user_id = u.id;

CREATE OR REPLACE VIEW daily_sales AS
SELECT
    (delivered_at AT TIME ZONE shop_timezone())::date AS sale_date,
    COUNT(*) AS order_count,
    SUM(total_amount - refunded_amount) AS total_revenue,
    AVG(total_amount - refunded_amount) AS avg_order_value
FROM orders
WHERE status = 'delivered'
GROUP BY (delivered_at AT TIME ZONE shop_timezone())::date
ORDER BY sale_date DESC;

-- Replacing a view forgets its options.
DO $$
BEGIN
    IF current_setting('server_version_num')::integer >= 150000 THEN
        ALTER VIEW product_stats SET (security_invoker = true);
        ALTER VIEW user_order_summary SET (security_invoker = true);
        ALTER VIEW daily_sales SET (security_invoker = true);
    END IF;
END
$$;

REVOKE EXECUTE ON FUNCTION app_is_staff(), app_role() FROM readonly_user;

DROP TRIGGER update_sales_lines_on_delete ON order_items;
DROP TRIGGER update_sales_lines_on_update ON order_items;
DROP TRIGGER update_sales_lines ON order_items;
DROP TRIGGER book_sale_on_delete ON orders;
DROP TRIGGER book_sale_on_update ON orders;
DROP TRIGGER book_sale ON orders;
DROP TRIGGER create_user_order_figures ON users;
DROP TABLE user_order_figures, product_sales_figures, sales_figures;
DROP FUNCTION app_sees_sales(), compact_sales_figures(), book_sold_lines(),
    add_product_sales(uuid[], uuid[], integer[], numeric[]), book_sale(),
    add_user_order_figures(uuid[], integer[], numeric[], uuid), create_user_order_figures();
