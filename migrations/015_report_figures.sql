-- 015_report_figures.sql -- the figures that reports over many orders were still short of:
-- orders by state, slots, promotions, and what each buyer bought by any two days.
--
-- As in 008: triggers add movements and change no row that others want, so nobody who orders,
-- delivers or cancels waits for another; compact_report_figures() merges them later.


-- ---- tables -------------------------------------------------------------------------

CREATE TABLE order_figures (
    quarter TIMESTAMP WITH TIME ZONE NOT NULL,  -- of an hour, in which orders were placed
    status VARCHAR(20) NOT NULL,
    payment_method VARCHAR(20) NOT NULL,
    payment_status VARCHAR(20) NOT NULL,
    orders BIGINT NOT NULL,
    total_amount NUMERIC(14,2) NOT NULL,
    refunded_amount NUMERIC(14,2) NOT NULL
);

CREATE INDEX idx_order_figures_quarter ON order_figures(quarter);

CREATE TABLE slot_figures (
    delivery_schedule_id UUID NOT NULL,
    delivered BIGINT NOT NULL,                  -- refunded afterwards or not
    open BIGINT NOT NULL,
    cancelled BIGINT NOT NULL                   -- or refunded without having been delivered
);

CREATE INDEX idx_slot_figures_slot ON slot_figures(delivery_schedule_id);

CREATE TABLE promo_figures (
    day DATE NOT NULL,                          -- in UTC, on which it was used
    promo_code_id UUID NOT NULL,
    uses BIGINT NOT NULL,                       -- not returned
    returned BIGINT NOT NULL,
    discount_amount NUMERIC(14,2) NOT NULL,     -- of uses
    order_amount NUMERIC(14,2) NOT NULL         -- totals of their orders
);

CREATE INDEX idx_promo_figures_day ON promo_figures(day, promo_code_id);

-- A row for everybody: when his orders were delivered, and what he had spent by then.  What
-- he bought between any two moments is the difference of two of its elements, found by
-- width_bucket(): sums by day or month would be as many as the orders.
CREATE TABLE user_sales_figures (
    user_id UUID PRIMARY KEY REFERENCES users(id) ON DELETE CASCADE,
    times TIMESTAMP WITH TIME ZONE[] NOT NULL DEFAULT '{}',     -- ascending
    cents BIGINT[] NOT NULL DEFAULT '{}'        -- totals less refunds, up to and with that one
);

-- What is not in there yet.
CREATE TABLE user_sales_movements (
    user_id UUID NOT NULL,
    at TIMESTAMP WITH TIME ZONE NOT NULL,
    orders INTEGER NOT NULL,
    cents BIGINT NOT NULL
);

-- A delivery that failed: back to preparing from dispatched.
ALTER TABLE order_status_history ADD COLUMN failed BOOLEAN NOT NULL DEFAULT false
    CHECK (NOT failed OR (status = 'preparing' AND payment_status IS NULL));

UPDATE order_status_history h SET failed = true
 WHERE h.status = 'preparing' AND h.payment_status IS NULL
   AND 'dispatched' = (SELECT b.status FROM order_status_history b
                        WHERE b.order_id = h.order_id AND b.payment_status IS NULL AND b.id < h.id
                        ORDER BY b.id DESC LIMIT 1);

DROP INDEX idx_order_status_history_preparing;
CREATE INDEX idx_order_status_history_failed ON order_status_history(at) WHERE failed;

-- Accounts that are no customers', whoever is gone included.
CREATE INDEX idx_users_others ON users(id) WHERE role <> 'customer';

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

-- What user_sales_figures has to say about buyers.
CREATE VIEW user_sales_from_orders AS
SELECT o.user_id, array_agg(o.delivered_at ORDER BY o.delivered_at, o.id) AS times,
       array_agg(o.cents ORDER BY o.delivered_at, o.id) AS cents
  FROM (SELECT user_id, delivered_at, id,
               sum(((total_amount - refunded_amount) * 100)::bigint)
                   OVER (PARTITION BY user_id ORDER BY delivered_at, id)::bigint AS cents
          FROM orders WHERE status = 'delivered' AND user_id IS NOT NULL) AS o
 GROUP BY o.user_id;

DO $$
BEGIN
    IF current_setting('server_version_num')::integer >= 150000 THEN
        ALTER VIEW user_sales_from_orders SET (security_invoker = true);
    ELSE
        REVOKE ALL ON user_sales_from_orders FROM app_user;
    END IF;
END
$$;

INSERT INTO user_sales_figures
SELECT u.id, COALESCE(s.times, '{}'), COALESCE(s.cents, '{}')
  FROM users u LEFT JOIN user_sales_from_orders s ON s.user_id = u.id;


-- ---- what keeps them right ----------------------------------------------------------

CREATE FUNCTION create_user_sales_figures() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
BEGIN
    INSERT INTO public.user_sales_figures (user_id) SELECT id FROM new_users
        ON CONFLICT (user_id) DO NOTHING;
    RETURN NULL;
END
$$;

CREATE TRIGGER create_user_sales_figures AFTER INSERT ON users
    REFERENCING NEW TABLE AS new_users
    FOR EACH STATEMENT EXECUTE FUNCTION create_user_sales_figures();

-- Movements of an order as it was (sign -1) or is (1); called by the triggers below.
CREATE FUNCTION book_order_state(o orders, sign integer) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.order_figures
    VALUES (date_bin('15 minutes', o.created_at, '2000-01-01Z'), o.status, o.payment_method,
            o.payment_status, sign, sign * o.total_amount, sign * o.refunded_amount);
END
$$;

CREATE FUNCTION book_order_slot(o orders, sign integer) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF o.delivery_schedule_id IS NOT NULL THEN
        INSERT INTO public.slot_figures
        VALUES (o.delivery_schedule_id,
                CASE WHEN o.delivered_at IS NULL THEN 0 ELSE sign END,
                CASE WHEN o.status IN ('delivered', 'cancelled', 'refunded') THEN 0 ELSE sign END,
                CASE WHEN o.status = 'cancelled' OR (o.status = 'refunded' AND o.delivered_at IS NULL)
                     THEN sign ELSE 0 END);
    END IF;
END
$$;

CREATE FUNCTION book_order_buyer(o orders, sign integer) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF o.status = 'delivered' AND o.user_id IS NOT NULL THEN
        INSERT INTO public.user_sales_movements
        VALUES (o.user_id, o.delivered_at, sign,
                sign * ((o.total_amount - o.refunded_amount) * 100)::bigint);
    END IF;
END
$$;

-- A new order's without a call: whoever orders waits for it, holding his products.
CREATE FUNCTION book_order() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        PERFORM public.book_order_state(OLD, -1), public.book_order_slot(OLD, -1),
                public.book_order_buyer(OLD, -1);
        RETURN NULL;
    END IF;
    INSERT INTO public.order_figures
    VALUES (date_bin('15 minutes', NEW.created_at, '2000-01-01Z'), NEW.status,
            NEW.payment_method, NEW.payment_status, 1, NEW.total_amount, NEW.refunded_amount);
    IF NEW.delivery_schedule_id IS NOT NULL THEN
        PERFORM public.book_order_slot(NEW, 1);
    END IF;
    IF NEW.status = 'delivered' THEN
        PERFORM public.book_order_buyer(NEW, 1);
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER book_order AFTER INSERT OR DELETE ON orders
    FOR EACH ROW EXECUTE FUNCTION book_order();

-- Only what differs.
CREATE FUNCTION rebook_order() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
BEGIN
    IF (OLD.status, OLD.payment_method, OLD.payment_status, OLD.created_at, OLD.total_amount,
        OLD.refunded_amount)
       IS DISTINCT FROM (NEW.status, NEW.payment_method, NEW.payment_status, NEW.created_at,
        NEW.total_amount, NEW.refunded_amount) THEN
        PERFORM public.book_order_state(OLD, -1);
        PERFORM public.book_order_state(NEW, 1);
    END IF;
    IF (OLD.status, OLD.delivered_at IS NULL, OLD.delivery_schedule_id)
       IS DISTINCT FROM (NEW.status, NEW.delivered_at IS NULL, NEW.delivery_schedule_id) THEN
        PERFORM public.book_order_slot(OLD, -1);
        PERFORM public.book_order_slot(NEW, 1);
    END IF;
    IF (OLD.status = 'delivered', OLD.user_id, OLD.delivered_at, OLD.total_amount, OLD.refunded_amount)
       IS DISTINCT FROM (NEW.status = 'delivered', NEW.user_id, NEW.delivered_at, NEW.total_amount,
        NEW.refunded_amount) THEN
        PERFORM public.book_order_buyer(OLD, -1);
        PERFORM public.book_order_buyer(NEW, 1);
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER book_order_on_update AFTER UPDATE ON orders
    FOR EACH ROW WHEN ((OLD.status, OLD.payment_method, OLD.payment_status, OLD.created_at,
             OLD.total_amount, OLD.refunded_amount, OLD.delivered_at, OLD.delivery_schedule_id,
             OLD.user_id)
            IS DISTINCT FROM (NEW.status, NEW.payment_method, NEW.payment_status, NEW.created_at,
             NEW.total_amount, NEW.refunded_amount, NEW.delivered_at, NEW.delivery_schedule_id,
             NEW.user_id))
    EXECUTE FUNCTION rebook_order();

-- The order is locked, as by whoever changes it, before its total is read.
CREATE FUNCTION book_promo_use() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
DECLARE
    was public.promo_redemptions;
    becomes public.promo_redemptions;
BEGIN
    IF TG_OP <> 'INSERT' THEN was := OLD; END IF;
    IF TG_OP <> 'DELETE' THEN becomes := NEW; END IF;
    PERFORM FROM public.orders o
      WHERE o.id IN (was.order_id, becomes.order_id) ORDER BY o.id FOR NO KEY UPDATE;

    INSERT INTO public.promo_figures
    SELECT (m.created_at AT TIME ZONE 'UTC')::date, m.promo_code_id, m.sign * m.used,
           m.sign * (1 - m.used), m.sign * m.used * m.amount, m.sign * m.used * o.total_amount
      FROM (SELECT r.sign, r.promo_code_id, r.order_id, r.amount, r.created_at,
                   CASE WHEN r.returned_at IS NULL THEN 1 ELSE 0 END AS used
              FROM (VALUES (-1, was.promo_code_id, was.order_id, was.amount, was.created_at, was.returned_at),
                           (1, becomes.promo_code_id, becomes.order_id, becomes.amount, becomes.created_at,
                            becomes.returned_at))
                   AS r(sign, promo_code_id, order_id, amount, created_at, returned_at)) AS m
      JOIN public.orders o ON o.id = m.order_id;
    RETURN NULL;
END
$$;

CREATE TRIGGER book_promo_use AFTER INSERT OR UPDATE OR DELETE ON promo_redemptions
    FOR EACH ROW EXECUTE FUNCTION book_promo_use();

CREATE FUNCTION book_promo_total() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
BEGIN
    INSERT INTO public.promo_figures
    SELECT (r.created_at AT TIME ZONE 'UTC')::date, r.promo_code_id, 0, 0, 0,
           NEW.total_amount - OLD.total_amount
      FROM public.promo_redemptions r
     WHERE r.order_id = NEW.id AND r.returned_at IS NULL;
    RETURN NULL;
END
$$;

CREATE TRIGGER book_promo_total AFTER UPDATE ON orders
    FOR EACH ROW WHEN (OLD.total_amount <> NEW.total_amount)
    EXECUTE FUNCTION book_promo_total();

-- While the order and its total are still there; the cascade would come too late.
CREATE FUNCTION forget_promo_use() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
BEGIN
    DELETE FROM public.promo_redemptions r WHERE r.order_id = OLD.id;
    RETURN OLD;
END
$$;

CREATE TRIGGER forget_promo_use BEFORE DELETE ON orders
    FOR EACH ROW EXECUTE FUNCTION forget_promo_use();

CREATE FUNCTION mark_failed_delivery() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
BEGIN
    NEW.failed := NEW.status = 'preparing' AND NEW.payment_status IS NULL AND COALESCE(
        (SELECT b.status = 'dispatched' FROM public.order_status_history b
          WHERE b.order_id = NEW.order_id AND b.payment_status IS NULL AND b.id < NEW.id
          ORDER BY b.id DESC LIMIT 1), false);
    RETURN NEW;
END
$$;

CREATE TRIGGER mark_failed_delivery BEFORE INSERT ON order_status_history
    FOR EACH ROW WHEN (NEW.failed OR NEW.status = 'preparing')
    EXECUTE FUNCTION mark_failed_delivery();

-- Merges the movements; for `system`, one at a time.  One statement a table, as in 008.
-- Buyers' figures are made anew from the orders in the snapshot in which the movements go.
CREATE FUNCTION compact_report_figures() RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
DECLARE
    merged integer;
    total integer := 0;
BEGIN
    IF public.app_role() IS DISTINCT FROM 'system'
       OR NOT pg_try_advisory_xact_lock(hashtext('compact_report_figures')) THEN
        RETURN 0;
    END IF;

    WITH many AS (
        SELECT quarter, status, payment_method, payment_status FROM public.order_figures
         GROUP BY 1, 2, 3, 4 HAVING count(*) > 1
    ), gone AS (
        DELETE FROM public.order_figures f USING many
         WHERE (f.quarter, f.status, f.payment_method, f.payment_status)
               = (many.quarter, many.status, many.payment_method, many.payment_status)
        RETURNING f.*
    ), again AS (
        INSERT INTO public.order_figures
        SELECT quarter, status, payment_method, payment_status, sum(orders), sum(total_amount),
               sum(refunded_amount)
          FROM gone GROUP BY 1, 2, 3, 4
        HAVING sum(orders) <> 0 OR sum(total_amount) <> 0 OR sum(refunded_amount) <> 0
    )
    SELECT count(*) INTO merged FROM gone;
    total := total + merged;

    WITH many AS (
        SELECT delivery_schedule_id AS slot FROM public.slot_figures GROUP BY 1 HAVING count(*) > 1
    ), gone AS (
        DELETE FROM public.slot_figures f USING many
         WHERE f.delivery_schedule_id = many.slot RETURNING f.*
    ), again AS (
        INSERT INTO public.slot_figures
        SELECT delivery_schedule_id, sum(delivered), sum(open), sum(cancelled) FROM gone GROUP BY 1
        HAVING sum(delivered) <> 0 OR sum(open) <> 0 OR sum(cancelled) <> 0
    )
    SELECT count(*) INTO merged FROM gone;
    total := total + merged;

    WITH many AS (
        SELECT day, promo_code_id FROM public.promo_figures GROUP BY 1, 2 HAVING count(*) > 1
    ), gone AS (
        DELETE FROM public.promo_figures f USING many
         WHERE f.day = many.day AND f.promo_code_id = many.promo_code_id RETURNING f.*
    ), again AS (
        INSERT INTO public.promo_figures
        SELECT day, promo_code_id, sum(uses), sum(returned), sum(discount_amount), sum(order_amount)
          FROM gone GROUP BY 1, 2
        HAVING sum(uses) <> 0 OR sum(returned) <> 0 OR sum(discount_amount) <> 0 OR sum(order_amount) <> 0
    )
    SELECT count(*) INTO merged FROM gone;
    total := total + merged;

    WITH gone AS (
        DELETE FROM public.user_sales_movements RETURNING user_id
    ), buyers AS (
        SELECT DISTINCT user_id FROM gone
    ), again AS (
        UPDATE public.user_sales_figures f
           SET times = COALESCE(s.times, '{}'), cents = COALESCE(s.cents, '{}')
          FROM buyers b
          LEFT JOIN LATERAL (SELECT v.times, v.cents FROM public.user_sales_from_orders v
                              WHERE v.user_id = b.user_id) s ON true
         WHERE f.user_id = b.user_id
    )
    SELECT count(*) INTO merged FROM gone;
    RETURN total + merged;
END
$$;

GRANT EXECUTE ON FUNCTION compact_report_figures() TO app_user;


-- ---- rights and rows ----------------------------------------------------------------

REVOKE INSERT, UPDATE ON order_figures, slot_figures, promo_figures, user_sales_figures,
    user_sales_movements FROM app_user;
REVOKE INSERT, UPDATE ON user_sales_from_orders FROM app_user;

ALTER TABLE order_figures ENABLE ROW LEVEL SECURITY;
ALTER TABLE slot_figures ENABLE ROW LEVEL SECURITY;
ALTER TABLE promo_figures ENABLE ROW LEVEL SECURITY;
ALTER TABLE user_sales_figures ENABLE ROW LEVEL SECURITY;
ALTER TABLE user_sales_movements ENABLE ROW LEVEL SECURITY;

CREATE POLICY order_figures_read ON order_figures FOR SELECT TO app_user
    USING ((SELECT app_is_staff()));
CREATE POLICY slot_figures_read ON slot_figures FOR SELECT TO app_user
    USING ((SELECT app_is_staff()));
CREATE POLICY promo_figures_read ON promo_figures FOR SELECT TO app_user
    USING ((SELECT app_is_staff()));
CREATE POLICY user_sales_figures_read ON user_sales_figures FOR SELECT TO app_user
    USING ((SELECT app_is_staff()));
CREATE POLICY user_sales_movements_read ON user_sales_movements FOR SELECT TO app_user
    USING ((SELECT app_is_staff()));

CREATE POLICY order_figures_report ON order_figures FOR SELECT TO readonly_user USING (true);
CREATE POLICY slot_figures_report ON slot_figures FOR SELECT TO readonly_user USING (true);
CREATE POLICY promo_figures_report ON promo_figures FOR SELECT TO readonly_user USING (true);
CREATE POLICY user_sales_figures_report ON user_sales_figures FOR SELECT TO readonly_user
    USING (true);
CREATE POLICY user_sales_movements_report ON user_sales_movements FOR SELECT TO readonly_user
    USING (true);

-- down

DROP FUNCTION compact_report_figures();
DROP TRIGGER mark_failed_delivery ON order_status_history;
DROP TRIGGER forget_promo_use ON orders;
DROP TRIGGER book_promo_total ON orders;
DROP TRIGGER book_promo_use ON promo_redemptions;
DROP TRIGGER book_order_on_update ON orders;
DROP TRIGGER book_order ON orders;
DROP TRIGGER create_user_sales_figures ON users;
DROP FUNCTION mark_failed_delivery(), forget_promo_use(), book_promo_total(), book_promo_use(),
    rebook_order(), book_order(), book_order_buyer(orders, integer), book_order_slot(orders, integer),
    book_order_state(orders, integer), create_user_sales_figures();
DROP VIEW user_sales_from_orders;
DROP TABLE user_sales_movements, user_sales_figures, promo_figures, slot_figures, order_figures;

DROP INDEX idx_users_others, idx_order_status_history_failed;
ALTER TABLE order_status_history DROP COLUMN failed;
CREATE INDEX idx_order_status_history_preparing ON order_status_history(at, order_id)
    WHERE status = 'preparing' AND payment_status IS NULL;
