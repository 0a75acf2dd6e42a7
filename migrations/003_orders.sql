-- 003_orders.sql -- orders whole: amounts, guests, slots, promotions, points, payments.
--
-- Counters that many orders share (used_count, booked, points) are kept by triggers on the
-- rows that they count, so that they cannot differ from them; the server has no right to
-- write them.  Whoever places an order first locks what it will count, always in this
-- order: products (lock_products), points (lock_points), promotion (lock_promo), slot
-- (lock_slot).


-- ---- promotions ---------------------------------------------------------------------

UPDATE promo_codes SET code = upper(btrim(code)) WHERE code <> upper(btrim(code));
UPDATE promo_codes SET used_count = 0 WHERE usage_limit IS NULL AND used_count <> 0;

ALTER TABLE promo_codes
    ADD COLUMN per_user_limit INTEGER CHECK (per_user_limit > 0),
    ADD COLUMN minimum_order DECIMAL(8,2)
        CHECK (minimum_order >= 0 AND minimum_order <= 999999.99),
    ADD COLUMN created_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT NOW(),
    ADD CONSTRAINT promo_codes_percent_check
        CHECK (discount_type <> 'percent' OR amount <= 100),
    ADD CONSTRAINT promo_codes_code_check CHECK (code = upper(btrim(code)) AND code <> '');


-- ---- delivery slots -----------------------------------------------------------------

UPDATE delivery_schedules SET status = 'available' WHERE status = 'assigned' AND rider_id IS NULL;

-- UNIQUE begins with the time: the other way round it would make a part of
-- idx_delivery_schedules_date.
ALTER TABLE delivery_schedules
    ADD COLUMN capacity INTEGER NOT NULL DEFAULT 10,
    ADD COLUMN booked INTEGER NOT NULL DEFAULT 0,
    ADD CONSTRAINT delivery_schedules_time_check CHECK (
        delivery_time ~ '^([01]\d|2[0-3]):[0-5]\d-(([01]\d|2[0-3]):[0-5]\d|24:00)$'
        AND left(delivery_time, 5) < right(delivery_time, 5)),
    ADD CONSTRAINT delivery_schedules_slot_key UNIQUE (delivery_time, delivery_date),
    ADD CONSTRAINT delivery_schedules_rider_check
        CHECK (status <> 'assigned' OR rider_id IS NOT NULL);

UPDATE delivery_schedules d
   SET booked = counted.orders, capacity = GREATEST(d.capacity, counted.orders)
  FROM (SELECT delivery_schedule_id AS id, count(*) AS orders
          FROM orders WHERE status NOT IN ('cancelled', 'refunded')
         GROUP BY delivery_schedule_id) AS counted
 WHERE counted.id = d.id;

ALTER TABLE delivery_schedules
    ADD CONSTRAINT delivery_schedules_capacity_check CHECK (capacity BETWEEN 1 AND 500),
    ADD CONSTRAINT delivery_schedules_booked_check CHECK (booked BETWEEN 0 AND capacity);


-- ---- orders -------------------------------------------------------------------------

CREATE SEQUENCE order_number_seq;

-- One sequence for all days: numbers are unique past 999 a day, and nobody waits for one.
CREATE FUNCTION next_order_number() RETURNS varchar
LANGUAGE sql VOLATILE
RETURN (SELECT 'ORD' || to_char(now() AT TIME ZONE shop_timezone(), 'YYYYMMDD')
               || lpad(n::text, GREATEST(3, length(n::text)), '0')
          FROM nextval('order_number_seq') AS n);

GRANT EXECUTE ON FUNCTION next_order_number() TO app_user;

-- The address is not demanded for a delivery: it goes when its person does.
ALTER TABLE orders
    ALTER COLUMN user_id DROP NOT NULL,
    DROP CONSTRAINT orders_user_id_fkey,
    ADD CONSTRAINT orders_user_id_fkey FOREIGN KEY (user_id)
        REFERENCES users(id) ON DELETE RESTRICT,
    DROP CONSTRAINT orders_status_check,
    ADD CONSTRAINT orders_status_check CHECK (status IN ('pending', 'confirmed', 'preparing',
        'ready', 'dispatched', 'delivered', 'cancelled', 'refunded')),
    ADD COLUMN order_number VARCHAR(32),
    ADD COLUMN tracking_token VARCHAR(64) NOT NULL
        DEFAULT replace(gen_random_uuid()::text, '-', ''),      -- 122 random bits
    ADD COLUMN cart_id UUID UNIQUE,                             -- one cart makes one order
    ADD COLUMN guest_name VARCHAR(255),
    ADD COLUMN guest_email VARCHAR(255) CHECK (guest_email = lower(guest_email)),
    ADD COLUMN guest_phone VARCHAR(50),
    ADD COLUMN payment_method VARCHAR(20) NOT NULL DEFAULT 'cash'
        CHECK (payment_method IN ('cash', 'card_on_delivery', 'bank_transfer', 'online')),
    ADD COLUMN fulfilment VARCHAR(20) NOT NULL DEFAULT 'pickup'
        CHECK (fulfilment IN ('delivery', 'pickup')),
    ADD COLUMN subtotal DECIMAL(8,2) NOT NULL DEFAULT 0
        CHECK (subtotal >= 0 AND subtotal <= 999999.99),
    ADD COLUMN discount_amount DECIMAL(8,2) NOT NULL DEFAULT 0
        CHECK (discount_amount >= 0 AND discount_amount <= 999999.99),
    ADD COLUMN points_redeemed INTEGER NOT NULL DEFAULT 0 CHECK (points_redeemed >= 0),
    ADD COLUMN points_amount DECIMAL(8,2) NOT NULL DEFAULT 0
        CHECK (points_amount >= 0 AND points_amount <= 999999.99),
    ADD COLUMN delivery_fee DECIMAL(8,2) NOT NULL DEFAULT 0
        CHECK (delivery_fee >= 0 AND delivery_fee <= 999999.99),
    ADD COLUMN tip_amount DECIMAL(8,2) NOT NULL DEFAULT 0
        CHECK (tip_amount >= 0 AND tip_amount <= 999.99),
    ADD COLUMN tax_amount DECIMAL(8,2) NOT NULL DEFAULT 0
        CHECK (tax_amount >= 0 AND tax_amount <= 999999.99),
    ADD COLUMN promo_code VARCHAR(50),
    ADD COLUMN promo_code_id UUID REFERENCES promo_codes(id) ON DELETE RESTRICT,
    ADD COLUMN pickup_at TIMESTAMP WITH TIME ZONE,
    ADD COLUMN address JSONB CHECK (jsonb_typeof(address) = 'object'),
    ADD COLUMN notes VARCHAR(500),
    ADD CONSTRAINT orders_buyer_check CHECK (CASE
        WHEN user_id IS NULL
        THEN guest_name IS NOT NULL AND COALESCE(guest_email, guest_phone) IS NOT NULL
        ELSE COALESCE(guest_name, guest_email, guest_phone) IS NULL END),
    ADD CONSTRAINT orders_promo_check CHECK ((promo_code IS NULL) = (promo_code_id IS NULL));

-- Orders of before: those with a slot were brought, their total was that of the lines.
ALTER TABLE orders DISABLE TRIGGER USER;
UPDATE orders o
   SET subtotal = total_amount,
       fulfilment = CASE WHEN delivery_schedule_id IS NULL THEN 'pickup' ELSE 'delivery' END,
       payment_status = CASE WHEN status = 'refunded' THEN 'refunded' ELSE payment_status END,
       order_number = 'ORD' || to_char(o.created_at AT TIME ZONE shop_timezone(), 'YYYYMMDD')
                      || lpad(numbered.n::text, GREATEST(3, length(numbered.n::text)), '0')
  FROM (SELECT id, row_number() OVER (ORDER BY created_at, id) AS n FROM orders) AS numbered
 WHERE numbered.id = o.id;
ALTER TABLE orders ENABLE TRIGGER USER;
SELECT setval('order_number_seq', count(*)) FROM orders HAVING count(*) > 0;

ALTER TABLE orders
    ALTER COLUMN order_number SET DEFAULT next_order_number(),
    ALTER COLUMN order_number SET NOT NULL,
    ADD CONSTRAINT orders_order_number_key UNIQUE (order_number),
    ADD CONSTRAINT orders_slot_check
        CHECK (delivery_schedule_id IS NULL OR fulfilment = 'delivery'),
    ADD CONSTRAINT orders_refunded_check
        CHECK (status <> 'refunded' OR payment_status = 'refunded');

CREATE INDEX idx_orders_promo_code_id ON orders(promo_code_id);
-- What the task looks at that cancels orders that nobody pays.
CREATE INDEX idx_orders_unpaid ON orders(created_at)
    WHERE status = 'pending' AND payment_method = 'online' AND payment_status <> 'paid';
-- For staff who search by customer; see search_orders().
CREATE INDEX idx_orders_guest_trgm ON orders USING gin((guest_name || ' '
    || COALESCE(guest_email, '') || ' ' || COALESCE(guest_phone, '')) gin_trgm_ops)
    WHERE user_id IS NULL;


-- ---- lines and cakes ----------------------------------------------------------------

ALTER TABLE order_items
    ADD COLUMN line_no INTEGER NOT NULL DEFAULT 1,      -- as the customer had them
    ADD COLUMN product_name VARCHAR(255),               -- as it was when ordered
    ADD COLUMN discount_amount DECIMAL(8,2) NOT NULL DEFAULT 0;

ALTER TABLE order_items DISABLE TRIGGER USER;
UPDATE order_items i SET product_name = p.name FROM products p WHERE p.id = i.product_id;
ALTER TABLE order_items ENABLE TRIGGER USER;

ALTER TABLE order_items
    ALTER COLUMN product_name SET NOT NULL,
    ADD CONSTRAINT order_items_product_check CHECK (subtotal = quantity * unit_price),
    ADD CONSTRAINT order_items_discount_check
        CHECK (discount_amount >= 0 AND discount_amount <= subtotal);

CREATE FUNCTION name_order_item() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    NEW.product_name := COALESCE(
        (SELECT p.name FROM public.products p WHERE p.id = NEW.product_id), '');
    RETURN NEW;
END
$$;

CREATE TRIGGER name_order_item BEFORE INSERT ON order_items
    FOR EACH ROW WHEN (NEW.product_name IS NULL)
    EXECUTE FUNCTION name_order_item();

ALTER TABLE custom_cake_configurations
    DROP CONSTRAINT custom_cake_configurations_order_id_key,
    ADD COLUMN order_item_id UUID UNIQUE REFERENCES order_items(id) ON DELETE CASCADE,
    ADD COLUMN unit_price DECIMAL(8,2) CHECK (unit_price >= 0 AND unit_price <= 999999.99),
    ADD COLUMN price_breakdown JSONB,       -- how unit_price came about, then
    ADD COLUMN requested_date DATE;

CREATE INDEX idx_custom_cake_order_id ON custom_cake_configurations(order_id);

-- One cake an order until now: it belongs to the line of something customizable.
UPDATE custom_cake_configurations c
   SET order_item_id = line.id, unit_price = line.unit_price
  FROM (SELECT DISTINCT ON (i.order_id) i.order_id, i.id, i.unit_price
          FROM order_items i JOIN products p ON p.id = i.product_id
         ORDER BY i.order_id, p.is_customizable DESC NULLS LAST, i.id) AS line
 WHERE line.order_id = c.order_id;


-- ---- an order's total ---------------------------------------------------------------

-- A discount counts at most the goods, points at most what is left of them.
CREATE FUNCTION order_total(subtotal numeric, discount numeric, points numeric,
    fee numeric, tip numeric, tax numeric) RETURNS numeric
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN GREATEST(subtotal - discount, 0)
       - LEAST(points, GREATEST(subtotal - discount, 0)) + fee + tip + tax;

CREATE OR REPLACE FUNCTION calculate_order_total() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
DECLARE
    touched uuid[];
    wrong uuid[];
BEGIN
    IF TG_OP = 'INSERT' THEN
        touched := ARRAY(SELECT DISTINCT order_id FROM new_lines);
    ELSIF TG_OP = 'DELETE' THEN
        touched := ARRAY(SELECT DISTINCT order_id FROM old_lines);
    ELSE
        touched := ARRAY(SELECT order_id FROM old_lines UNION SELECT order_id FROM new_lines);
    END IF;

    wrong := ARRAY(
        SELECT o.id
          FROM public.orders o
          CROSS JOIN LATERAL (SELECT COALESCE(sum(i.subtotal), 0) AS subtotal
                                FROM public.order_items i WHERE i.order_id = o.id) AS lines
         WHERE o.id = ANY (touched)
           AND (o.subtotal, o.total_amount) <> (lines.subtotal,
               public.order_total(lines.subtotal, o.discount_amount, o.points_amount,
                                  o.delivery_fee, o.tip_amount, o.tax_amount)));
    IF wrong = '{}' THEN
        RETURN NULL;
    END IF;

    PERFORM FROM public.orders o WHERE o.id = ANY (wrong) ORDER BY o.id FOR NO KEY UPDATE;

    UPDATE public.orders o
       SET subtotal = lines.subtotal,
           total_amount = public.order_total(lines.subtotal, o.discount_amount,
               o.points_amount, o.delivery_fee, o.tip_amount, o.tax_amount)
      FROM (SELECT w.id, COALESCE(sum(i.subtotal), 0) AS subtotal
              FROM unnest(wrong) AS w(id)
              LEFT JOIN public.order_items i ON i.order_id = w.id
             GROUP BY w.id) AS lines
     WHERE o.id = lines.id;
    RETURN NULL;
END
$$;


-- ---- what happened to an order ------------------------------------------------------

-- A row for each change of the status, and one for each of payment_status: that one names
-- it, and in `status` the status of that time.  id is also the Last-Event-ID of streams.
CREATE TABLE order_status_history (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    order_id UUID NOT NULL REFERENCES orders(id) ON DELETE CASCADE,
    status VARCHAR(20) NOT NULL
        CHECK (status IN ('pending', 'confirmed', 'preparing', 'ready', 'dispatched',
            'delivered', 'cancelled', 'refunded')),
    payment_status VARCHAR(20)
        CHECK (payment_status IN ('pending', 'paid', 'failed', 'refunded')),
    at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT NOW(),
    by_role VARCHAR(20) NOT NULL DEFAULT app_role()
        CHECK (by_role IN ('customer', 'rider', 'staff', 'admin', 'guest', 'system')),
    by_user UUID DEFAULT app_user_id() REFERENCES users(id) ON DELETE SET NULL,
    note VARCHAR(500)
);

CREATE INDEX idx_order_status_history_order_id ON order_status_history(order_id, id);
CREATE INDEX idx_order_status_history_by_user ON order_status_history(by_user);

INSERT INTO order_status_history (order_id, status, at, by_role)
SELECT id, 'pending', created_at, 'system' FROM orders
UNION ALL
SELECT id, status, COALESCE(delivered_at, updated_at), 'system' FROM orders WHERE status <> 'pending'
ORDER BY 3;

-- Wakes the streams of an order.  Not for a new order, which nobody can be watching yet:
-- transactions that notify commit one after the other.
CREATE FUNCTION notify_order_event() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('order_events', NEW.order_id::text);
    RETURN NULL;
END
$$;

CREATE TRIGGER notify_order_event AFTER INSERT ON order_status_history
    FOR EACH ROW WHEN (NEW.status <> 'pending' OR NEW.payment_status IS NOT NULL)
    EXECUTE FUNCTION notify_order_event();


-- ---- payments and refunds -----------------------------------------------------------

-- Every event that a provider has told, also those that fit no order.
CREATE TABLE payments (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    provider VARCHAR(30) NOT NULL,
    event_id VARCHAR(255) NOT NULL,
    type VARCHAR(50) NOT NULL
        CHECK (type IN ('payment.succeeded', 'payment.failed', 'refund.succeeded')),
    order_id UUID REFERENCES orders(id) ON DELETE RESTRICT,
    amount DECIMAL(12,2) NOT NULL CHECK (amount >= 0 AND amount <= 9999999999.99),
    currency VARCHAR(3) NOT NULL,
    reference VARCHAR(255),
    outcome VARCHAR(20) NOT NULL DEFAULT 'applied'
        CHECK (outcome IN ('applied', 'ignored', 'review')),
    raw JSONB NOT NULL,
    occurred_at TIMESTAMP WITH TIME ZONE,       -- the provider's `created`
    created_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT NOW(),

    UNIQUE (provider, event_id)
);

CREATE INDEX idx_payments_order_id ON payments(order_id);

CREATE TABLE refunds (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    order_id UUID NOT NULL REFERENCES orders(id) ON DELETE RESTRICT,
    payment_id UUID UNIQUE REFERENCES payments(id) ON DELETE RESTRICT,  -- told by a provider
    amount DECIMAL(8,2) NOT NULL CHECK (amount > 0 AND amount <= 999999.99),
    reason VARCHAR(500),
    by_user UUID DEFAULT app_user_id() REFERENCES users(id) ON DELETE SET NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT NOW()
);

CREATE INDEX idx_refunds_order_id ON refunds(order_id);
CREATE INDEX idx_refunds_by_user ON refunds(by_user);

INSERT INTO refunds (order_id, amount, reason, created_at)
SELECT id, refunded_amount, 'carried over', updated_at FROM orders WHERE refunded_amount > 0;


-- ---- uses of promotions -------------------------------------------------------------

CREATE TABLE promo_redemptions (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    promo_code_id UUID NOT NULL REFERENCES promo_codes(id) ON DELETE RESTRICT,
    order_id UUID NOT NULL UNIQUE REFERENCES orders(id) ON DELETE CASCADE,
    user_id UUID REFERENCES users(id) ON DELETE RESTRICT,
    guest_identity VARCHAR(255),        -- e-mail in lower case, else phone number
    amount DECIMAL(8,2) NOT NULL CHECK (amount >= 0 AND amount <= 999999.99),
    created_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT NOW(),
    returned_at TIMESTAMP WITH TIME ZONE,   -- the order was cancelled

    CHECK ((user_id IS NULL) <> (guest_identity IS NULL))
);

CREATE INDEX idx_promo_redemptions_promo_user ON promo_redemptions(promo_code_id, user_id);
CREATE INDEX idx_promo_redemptions_user_id ON promo_redemptions(user_id);
CREATE INDEX idx_promo_redemptions_guest ON promo_redemptions(promo_code_id, guest_identity)
    WHERE guest_identity IS NOT NULL;

-- used_count of a limited code = its redemptions that were not returned.  Unlimited codes
-- count nothing: all their orders would wait for one row.
CREATE FUNCTION count_promo_use() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
DECLARE
    was integer := 0;
    becomes integer := 0;
    promo uuid;
BEGIN
    IF TG_OP <> 'INSERT' THEN
        was := (OLD.returned_at IS NULL)::integer;
        promo := OLD.promo_code_id;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        becomes := (NEW.returned_at IS NULL)::integer;
        promo := NEW.promo_code_id;
    END IF;

    IF was <> becomes THEN
        UPDATE public.promo_codes
           SET used_count = used_count + becomes - was
         WHERE id = promo AND usage_limit IS NOT NULL;
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER count_promo_use AFTER INSERT OR UPDATE OF returned_at OR DELETE
    ON promo_redemptions FOR EACH ROW EXECUTE FUNCTION count_promo_use();

-- A code that gets a limit begins with its uses so far.
CREATE FUNCTION recount_promo_uses() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
BEGIN
    NEW.used_count := CASE WHEN NEW.usage_limit IS NULL THEN 0 ELSE
        (SELECT count(*) FROM public.promo_redemptions r
          WHERE r.promo_code_id = NEW.id AND r.returned_at IS NULL) END;
    RETURN NEW;
END
$$;

CREATE TRIGGER recount_promo_uses BEFORE UPDATE OF usage_limit ON promo_codes
    FOR EACH ROW WHEN ((OLD.usage_limit IS NULL) <> (NEW.usage_limit IS NULL))
    EXECUTE FUNCTION recount_promo_uses();


-- ---- points -------------------------------------------------------------------------

CREATE TABLE loyalty_ledger (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id UUID NOT NULL REFERENCES loyalty_points(user_id) ON DELETE CASCADE,
    points INTEGER NOT NULL CHECK (points <> 0),
    reason VARCHAR(20) NOT NULL
        CHECK (reason IN ('earned', 'redeemed', 'returned', 'clawed_back', 'adjusted')),
    order_id UUID REFERENCES orders(id) ON DELETE RESTRICT,
    refund_id UUID REFERENCES refunds(id) ON DELETE RESTRICT,
    note VARCHAR(500),
    created_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT NOW(),

    CHECK (CASE reason WHEN 'earned' THEN points > 0 WHEN 'returned' THEN points > 0
           WHEN 'redeemed' THEN points < 0 WHEN 'clawed_back' THEN points < 0 ELSE true END),
    CHECK (reason = 'adjusted' OR order_id IS NOT NULL)
);

-- Each kind once an order, and once a refund.
CREATE UNIQUE INDEX loyalty_ledger_once_key ON loyalty_ledger
    (order_id, reason, COALESCE(refund_id, '00000000-0000-0000-0000-000000000000'))
    WHERE order_id IS NOT NULL;
CREATE INDEX idx_loyalty_ledger_user_id ON loyalty_ledger(user_id, id DESC);
CREATE INDEX idx_loyalty_ledger_order_id ON loyalty_ledger(order_id);
CREATE INDEX idx_loyalty_ledger_refund_id ON loyalty_ledger(refund_id);

INSERT INTO loyalty_ledger (user_id, points, reason, note)
SELECT user_id, points, 'adjusted', 'carried over' FROM loyalty_points WHERE points > 0;

-- The balance is the sum of the ledger; the CHECK on it refuses what would overdraw.
CREATE FUNCTION sum_loyalty_points() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
DECLARE
    people uuid[] := '{}';
    changes integer[] := '{}';
BEGIN
    IF TG_OP <> 'INSERT' THEN
        SELECT array_agg(user_id), array_agg(-points) INTO people, changes FROM old_entries;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        SELECT people || array_agg(user_id), changes || array_agg(points)
          INTO people, changes FROM new_entries;
    END IF;

    PERFORM FROM public.loyalty_points l
      WHERE l.user_id = ANY (people) ORDER BY l.user_id FOR NO KEY UPDATE;

    UPDATE public.loyalty_points l SET points = l.points + more.points
      FROM (SELECT c.person, sum(c.points) AS points
              FROM unnest(people, changes) AS c(person, points) GROUP BY c.person) AS more
     WHERE l.user_id = more.person AND more.points <> 0;
    RETURN NULL;
END
$$;

CREATE TRIGGER sum_loyalty_points AFTER INSERT ON loyalty_ledger
    REFERENCING NEW TABLE AS new_entries
    FOR EACH STATEMENT EXECUTE FUNCTION sum_loyalty_points();

CREATE TRIGGER sum_loyalty_points_on_update AFTER UPDATE ON loyalty_ledger
    REFERENCING OLD TABLE AS old_entries NEW TABLE AS new_entries
    FOR EACH STATEMENT EXECUTE FUNCTION sum_loyalty_points();

CREATE TRIGGER sum_loyalty_points_on_delete AFTER DELETE ON loyalty_ledger
    REFERENCING OLD TABLE AS old_entries
    FOR EACH STATEMENT EXECUTE FUNCTION sum_loyalty_points();


-- ---- places in delivery slots -------------------------------------------------------

-- booked = the slot's orders that are neither cancelled nor refunded.  The CHECK on it
-- refuses one too many.  An assigned slot with nothing left to bring is completed.
CREATE FUNCTION count_booked() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
DECLARE
    left_slot uuid;
    taken_slot uuid;
BEGIN
    IF TG_OP <> 'INSERT' THEN
        IF OLD.status NOT IN ('cancelled', 'refunded') THEN
            left_slot := OLD.delivery_schedule_id;
        END IF;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        IF NEW.status NOT IN ('cancelled', 'refunded') THEN
            taken_slot := NEW.delivery_schedule_id;
        END IF;
    END IF;

    IF left_slot IS DISTINCT FROM taken_slot THEN
        PERFORM FROM public.delivery_schedules d
          WHERE d.id IN (left_slot, taken_slot) ORDER BY d.id FOR NO KEY UPDATE;
        UPDATE public.delivery_schedules d
           SET booked = d.booked + CASE d.id WHEN taken_slot THEN 1 ELSE -1 END
         WHERE d.id IN (left_slot, taken_slot);
    END IF;

    IF TG_OP = 'UPDATE' THEN
        IF OLD.delivery_schedule_id IS NOT NULL
           AND (left_slot IS DISTINCT FROM taken_slot OR NEW.status = 'delivered') THEN
            PERFORM public.complete_slot(OLD.delivery_schedule_id);
        END IF;
    END IF;
    RETURN NULL;
END
$$;

-- Locked before it looks: of two last deliveries, the second sees the first.
CREATE FUNCTION complete_slot(slot uuid) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
BEGIN
    PERFORM FROM public.delivery_schedules d
      WHERE d.id = slot AND d.status = 'assigned' FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;

    UPDATE public.delivery_schedules d SET status = 'completed'
     WHERE d.id = slot
       AND EXISTS (SELECT FROM public.orders o
                    WHERE o.delivery_schedule_id = slot AND o.status = 'delivered')
       AND NOT EXISTS (SELECT FROM public.orders o
                        WHERE o.delivery_schedule_id = slot
                          AND o.status NOT IN ('delivered', 'cancelled', 'refunded'));
END
$$;

CREATE TRIGGER count_booked AFTER INSERT OR DELETE ON orders
    FOR EACH ROW EXECUTE FUNCTION count_booked();

CREATE TRIGGER count_booked_on_update AFTER UPDATE OF status, delivery_schedule_id ON orders
    FOR EACH ROW WHEN (OLD.status <> NEW.status
        OR OLD.delivery_schedule_id IS DISTINCT FROM NEW.delivery_schedule_id)
    EXECUTE FUNCTION count_booked();

-- Slots are ridden by riders.  The account is locked, so that its role stays meanwhile.
CREATE FUNCTION check_rider() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
BEGIN
    PERFORM FROM public.users u
      WHERE u.id = NEW.rider_id AND u.role = 'rider' AND u.deleted_at IS NULL FOR SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'user % is not a rider', NEW.rider_id
            USING ERRCODE = 'check_violation', TABLE = 'delivery_schedules',
                CONSTRAINT = 'delivery_schedules_rider_role_check';
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER check_rider BEFORE INSERT OR UPDATE OF rider_id ON delivery_schedules
    FOR EACH ROW WHEN (NEW.rider_id IS NOT NULL)
    EXECUTE FUNCTION check_rider();

-- Who is no rider any more has no deliveries before him.
CREATE FUNCTION free_rider_slots() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
BEGIN
    UPDATE public.delivery_schedules SET rider_id = NULL, status = 'available'
     WHERE rider_id = OLD.id AND status <> 'completed';
    RETURN NULL;
END
$$;

CREATE TRIGGER free_rider_slots AFTER UPDATE OF role, deleted_at ON users
    FOR EACH ROW WHEN (OLD.role = 'rider' AND (NEW.role <> 'rider' OR NEW.deleted_at IS NOT NULL))
    EXECUTE FUNCTION free_rider_slots();


-- ---- what an order locks ------------------------------------------------------------

-- A customer sees neither promotions nor other people's uses, and may change neither stock
-- nor slots: these functions do it for whoever has a role, and no more than this.

CREATE FUNCTION app_needs_role() RETURNS void
LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF app_role() IS NULL THEN
        RAISE EXCEPTION 'nobody is asking' USING ERRCODE = 'insufficient_privilege';
    END IF;
END
$$;

-- The products, locked in the order of their ids.
CREATE FUNCTION lock_products(ids uuid[]) RETURNS SETOF products
LANGUAGE plpgsql SECURITY DEFINER ROWS 5 SET search_path = pg_catalog, public AS $$
BEGIN
    PERFORM public.app_needs_role();
    RETURN QUERY SELECT * FROM public.products p
        WHERE p.id = ANY (ids) ORDER BY p.id FOR NO KEY UPDATE;
END
$$;

-- Adds to the stock (returned) or takes from it (negative); several lines of a product are
-- summed.  The CHECK products_stock_check refuses what would go below 0.
CREATE FUNCTION move_stock(ids uuid[], quantities integer[]) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
DECLARE
    moved integer;
BEGIN
    PERFORM FROM public.lock_products(ids);
    UPDATE public.products p SET stock = p.stock + more.quantity
      FROM (SELECT s.id, sum(s.quantity) AS quantity
              FROM unnest(ids, quantities) AS s(id, quantity) GROUP BY s.id) AS more
     WHERE p.id = more.id AND more.quantity <> 0;
    GET DIAGNOSTICS moved = ROW_COUNT;
    RETURN moved;
END
$$;

-- The balance, locked: one's own, or anybody's for staff.
CREATE FUNCTION lock_points(person uuid) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
DECLARE
    balance integer;
BEGIN
    IF public.app_is_staff() OR person = public.app_user_id() THEN
        SELECT l.points INTO balance FROM public.loyalty_points l
         WHERE l.user_id = person FOR NO KEY UPDATE;
    END IF;
    RETURN balance;
END
$$;

-- The promotion of a code, whatever its case and surrounding spaces: who has the code may
-- know what it gives.
CREATE FUNCTION find_promo(wanted text) RETURNS SETOF promo_codes
LANGUAGE sql STABLE SECURITY DEFINER ROWS 1 SET search_path = pg_catalog, public AS $$
    SELECT * FROM public.promo_codes p WHERE p.code = upper(btrim(wanted))
$$;

-- The same for an order, with the buyer's uses so far.  A limited code stays locked until
-- the end of the transaction, an unlimited one only against changes; where uses are counted
-- by buyer, so is the buyer.  One of buyer and guest is null.
CREATE FUNCTION lock_promo(wanted text, buyer uuid, guest text)
RETURNS TABLE (id uuid, code varchar, discount_type varchar, amount numeric,
    valid_from timestamptz, valid_to timestamptz, usage_limit integer, used_count integer,
    per_user_limit integer, minimum_order numeric, buyer_uses integer)
LANGUAGE plpgsql SECURITY DEFINER ROWS 1 SET search_path = pg_catalog, public AS $$
DECLARE
    promo public.promo_codes;
    uses integer := 0;
BEGIN
    PERFORM public.app_needs_role();
    SELECT * INTO promo FROM public.promo_codes p WHERE p.code = upper(btrim(wanted));
    IF promo.usage_limit IS NULL THEN
        SELECT * INTO promo FROM public.promo_codes p WHERE p.id = promo.id FOR SHARE;
    END IF;
    IF promo.usage_limit IS NOT NULL THEN
        SELECT * INTO promo FROM public.promo_codes p WHERE p.id = promo.id FOR NO KEY UPDATE;
    END IF;
    IF promo.id IS NULL THEN
        RETURN;
    END IF;

    IF promo.per_user_limit IS NOT NULL THEN
        PERFORM pg_advisory_xact_lock(hashtextextended(
            promo.id::text || ' ' || COALESCE(buyer::text, guest, ''), 0));
        SELECT count(*) INTO uses FROM public.promo_redemptions r
         WHERE r.promo_code_id = promo.id AND r.returned_at IS NULL
           AND (r.user_id = buyer OR r.guest_identity = guest);
    END IF;

    RETURN QUERY SELECT promo.id, promo.code, promo.discount_type, promo.amount,
        promo.valid_from, promo.valid_to, promo.usage_limit, promo.used_count,
        promo.per_user_limit, promo.minimum_order, uses;
END
$$;

-- The slot, locked until the end of the transaction; an order put into it then counts.
CREATE FUNCTION lock_slot(slot uuid) RETURNS SETOF delivery_schedules
LANGUAGE plpgsql SECURITY DEFINER ROWS 1 SET search_path = pg_catalog, public AS $$
BEGIN
    PERFORM public.app_needs_role();
    RETURN QUERY SELECT * FROM public.delivery_schedules d
        WHERE d.id = slot FOR NO KEY UPDATE;
END
$$;


-- ---- orders seen from elsewhere -----------------------------------------------------

-- The order of a number, for somebody who knows its token, or the buyer's e-mail address
-- or phone number.
CREATE FUNCTION find_tracked_order(number text, token text, email text, phone text) RETURNS uuid
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public AS $$
    SELECT o.id
      FROM public.orders o LEFT JOIN public.users u ON u.id = o.user_id
     WHERE o.order_number = number
       AND (o.tracking_token = token
            OR COALESCE(o.guest_email, u.email) = lower(btrim(find_tracked_order.email))
            OR COALESCE(o.guest_phone, u.phone) = btrim(find_tracked_order.phone))
$$;

CREATE FUNCTION order_has_token(wanted uuid, token text) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public AS $$
    SELECT EXISTS (SELECT FROM public.orders o WHERE o.id = wanted AND o.tracking_token = token)
$$;

-- Orders of customers with the text in name, e-mail address or phone number, guests
-- included; for staff.
CREATE FUNCTION search_orders(query text) RETURNS TABLE (order_id uuid)
LANGUAGE sql STABLE SECURITY DEFINER ROWS 100 SET search_path = pg_catalog, public AS $$
    SELECT o.id FROM public.search_customers(query) c JOIN public.orders o ON o.user_id = c.user_id
    UNION ALL
    SELECT o.id
      FROM public.orders o,
           (SELECT '%' || replace(replace(replace(btrim(query), '\', '\\'), '%', '\%'), '_', '\_')
                || '%' AS pattern) AS wanted
     WHERE public.app_is_staff() AND o.user_id IS NULL
       AND (o.guest_name || ' ' || COALESCE(o.guest_email, '') || ' '
            || COALESCE(o.guest_phone, '')) ILIKE pattern
$$;

-- Whom a rider asks for at the door: the customers of his slot.
CREATE FUNCTION slot_contacts(slot uuid) RETURNS TABLE (order_id uuid, name varchar, phone varchar)
LANGUAGE sql STABLE SECURITY DEFINER ROWS 10 SET search_path = pg_catalog, public AS $$
    SELECT o.id, COALESCE(o.guest_name, u.name), COALESCE(o.guest_phone, u.phone)
      FROM public.orders o LEFT JOIN public.users u ON u.id = o.user_id
     WHERE o.delivery_schedule_id = slot
       AND (public.app_is_staff() OR public.app_rides(slot))
$$;

-- A delivery that failed goes back to the kitchen, and out of the slot: so its rider does
-- not see it any more, and cannot do this by himself.  With its history.  'failed' when
-- done, 'again' when this person had done it before, null when it is not his to do.
CREATE FUNCTION fail_delivery(wanted uuid, remark text, happened_at timestamptz) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
DECLARE
    slot uuid;
    current_status text;
BEGIN
    SELECT o.delivery_schedule_id, o.status INTO slot, current_status
      FROM public.orders o WHERE o.id = wanted FOR NO KEY UPDATE;

    IF current_status = 'dispatched' AND (public.app_is_staff() OR public.app_rides(slot)) THEN
        UPDATE public.orders SET status = 'preparing', delivery_schedule_id = NULL
         WHERE id = wanted;
        INSERT INTO public.order_status_history (order_id, status, at, note)
        VALUES (wanted, 'preparing', COALESCE(happened_at, now()), remark);
        RETURN 'failed';
    END IF;

    IF current_status = 'preparing' AND slot IS NULL AND public.app_user_id() =
           (SELECT h.by_user FROM public.order_status_history h
             WHERE h.order_id = wanted AND h.payment_status IS NULL ORDER BY h.id DESC LIMIT 1) THEN
        RETURN 'again';
    END IF;
    RETURN NULL;
END
$$;

GRANT EXECUTE ON FUNCTION order_total(numeric, numeric, numeric, numeric, numeric, numeric),
    lock_products(uuid[]), move_stock(uuid[], integer[]), lock_points(uuid), find_promo(text),
    lock_promo(text, uuid, text), lock_slot(uuid), find_tracked_order(text, text, text, text),
    order_has_token(uuid, text), search_orders(text), slot_contacts(uuid),
    fail_delivery(uuid, text, timestamptz) TO app_user;


-- ---- roles --------------------------------------------------------------------------

GRANT UPDATE (address, notes, pickup_at) ON orders TO app_user;

-- Counters are the triggers'.
REVOKE UPDATE ON promo_codes, delivery_schedules FROM app_user;
REVOKE INSERT, UPDATE, UPDATE (points) ON loyalty_points FROM app_user;
GRANT UPDATE (code, discount_type, amount, valid_from, valid_to, usage_limit,
    per_user_limit, minimum_order) ON promo_codes TO app_user;
GRANT UPDATE (delivery_date, delivery_time, rider_id, status, capacity)
    ON delivery_schedules TO app_user;

REVOKE UPDATE ON order_status_history, payments, refunds, promo_redemptions, loyalty_ledger
    FROM app_user;
GRANT UPDATE (returned_at) ON promo_redemptions TO app_user;

-- Reports: all of an order but the token that opens it, and no provider's raw words.
REVOKE SELECT ON orders, payments FROM readonly_user;
GRANT SELECT (id, user_id, total_amount, refunded_amount, status, payment_status,
    payment_reference, delivery_schedule_id, delivered_at, created_at, updated_at,
    order_number, cart_id, guest_name, guest_email, guest_phone, payment_method, fulfilment,
    subtotal, discount_amount, points_redeemed, points_amount, delivery_fee, tip_amount,
    tax_amount, promo_code, promo_code_id, pickup_at, address, notes)
    ON orders TO readonly_user;
GRANT SELECT (id, provider, event_id, type, order_id, amount, currency, reference, outcome,
    occurred_at, created_at) ON payments TO readonly_user;


-- ---- rows ---------------------------------------------------------------------------

ALTER TABLE order_status_history ENABLE ROW LEVEL SECURITY;
ALTER TABLE payments ENABLE ROW LEVEL SECURITY;
ALTER TABLE refunds ENABLE ROW LEVEL SECURITY;
ALTER TABLE promo_redemptions ENABLE ROW LEVEL SECURITY;
ALTER TABLE loyalty_ledger ENABLE ROW LEVEL SECURITY;

-- order_status_history: seen with the order; written by whoever may change it, in no name
-- but his own.
CREATE POLICY order_status_history_read ON order_status_history FOR SELECT TO app_user
    USING ((SELECT app_is_staff())
           OR EXISTS (SELECT FROM orders o WHERE o.id = order_id));
CREATE POLICY order_status_history_add ON order_status_history FOR INSERT TO app_user
    WITH CHECK (by_role = (SELECT app_role())
                AND (by_user IS NULL OR by_user = (SELECT app_user_id()))
                AND ((SELECT app_is_staff())
                     OR EXISTS (SELECT FROM orders o WHERE o.id = order_id)));

-- payments, refunds: the buyer's to read, not the rider's.
CREATE POLICY payments_read ON payments FOR SELECT TO app_user
    USING ((SELECT app_is_staff())
           OR EXISTS (SELECT FROM orders o
                       WHERE o.id = order_id
                         AND (o.user_id = (SELECT app_user_id())
                              OR o.id = (SELECT app_order_id()))));
CREATE POLICY payments_add ON payments FOR INSERT TO app_user
    WITH CHECK ((SELECT app_is_staff()));

CREATE POLICY refunds_read ON refunds FOR SELECT TO app_user
    USING ((SELECT app_is_staff())
           OR EXISTS (SELECT FROM orders o
                       WHERE o.id = order_id
                         AND (o.user_id = (SELECT app_user_id())
                              OR o.id = (SELECT app_order_id()))));
CREATE POLICY refunds_add ON refunds FOR INSERT TO app_user
    WITH CHECK ((SELECT app_is_admin()));

-- promo_redemptions: the buyer's, by the order.
CREATE POLICY promo_redemptions_all ON promo_redemptions FOR ALL TO app_user
    USING ((SELECT app_is_staff())
           OR EXISTS (SELECT FROM orders o
                       WHERE o.id = order_id
                         AND o.user_id IS NOT DISTINCT FROM promo_redemptions.user_id
                         AND (o.user_id = (SELECT app_user_id())
                              OR o.id = (SELECT app_order_id()))));

-- loyalty_ledger: one's own to read; adjusted by admins.  A customer spends and gets back what his order says;
-- a rider who hands it over lets the buyer earn.
CREATE POLICY loyalty_ledger_read ON loyalty_ledger FOR SELECT TO app_user
    USING ((SELECT app_is_staff()) OR user_id = (SELECT app_user_id()));
CREATE POLICY loyalty_ledger_add ON loyalty_ledger FOR INSERT TO app_user
    WITH CHECK (((SELECT app_is_staff()) AND reason <> 'adjusted')
                OR (SELECT app_is_admin())
                OR EXISTS (SELECT FROM orders o
                            WHERE o.id = order_id
                              AND o.user_id = loyalty_ledger.user_id
                              AND CASE WHEN o.user_id = (SELECT app_user_id())
                                       THEN (reason = 'redeemed' AND points = -o.points_redeemed)
                                         OR (reason = 'returned' AND points = o.points_redeemed)
                                       ELSE (SELECT app_role()) = 'rider' AND reason = 'earned'
                                         AND o.status = 'delivered' AND points <= o.total_amount
                                  END));

-- A guest who cancels another person's order by its token returns that person's points.
CREATE POLICY loyalty_ledger_return ON loyalty_ledger FOR INSERT TO app_user
    WITH CHECK ((SELECT app_role()) = 'guest' AND reason = 'returned'
                AND EXISTS (SELECT FROM orders o
                             WHERE o.id = order_id AND o.user_id = loyalty_ledger.user_id
                               AND points = o.points_redeemed));

CREATE POLICY order_status_history_report ON order_status_history FOR SELECT TO readonly_user
    USING (true);
CREATE POLICY payments_report ON payments FOR SELECT TO readonly_user USING (true);
CREATE POLICY refunds_report ON refunds FOR SELECT TO readonly_user USING (true);
CREATE POLICY promo_redemptions_report ON promo_redemptions FOR SELECT TO readonly_user
    USING (true);
CREATE POLICY loyalty_ledger_report ON loyalty_ledger FOR SELECT TO readonly_user USING (true);

-- down

REVOKE SELECT (id, user_id, total_amount, refunded_amount, status, payment_status,
    payment_reference, delivery_schedule_id, delivered_at, created_at, updated_at)
    ON orders FROM readonly_user;
GRANT SELECT ON orders TO readonly_user;
REVOKE UPDATE (code, discount_type, amount, valid_from, valid_to, usage_limit)
    ON promo_codes FROM app_user;
REVOKE UPDATE (delivery_date, delivery_time, rider_id, status)
    ON delivery_schedules FROM app_user;
GRANT UPDATE ON promo_codes, delivery_schedules TO app_user;
GRANT INSERT, UPDATE (points) ON loyalty_points TO app_user;

DROP FUNCTION fail_delivery(uuid, text, timestamptz), slot_contacts(uuid), search_orders(text),
    order_has_token(uuid, text), find_tracked_order(text, text, text, text), lock_slot(uuid),
    lock_promo(text, uuid, text), find_promo(text), lock_points(uuid),
    move_stock(uuid[], integer[]), lock_products(uuid[]), app_needs_role();

DROP TRIGGER free_rider_slots ON users;
DROP TRIGGER check_rider ON delivery_schedules;
DROP TRIGGER count_booked ON orders;
DROP TRIGGER count_booked_on_update ON orders;
DROP TRIGGER recount_promo_uses ON promo_codes;
DROP TABLE loyalty_ledger, promo_redemptions, refunds, payments, order_status_history;
DROP FUNCTION free_rider_slots(), check_rider(), count_booked(), complete_slot(uuid),
    sum_loyalty_points(), recount_promo_uses(), count_promo_use(), notify_order_event();

-- The total of 001, of the lines alone.
CREATE OR REPLACE FUNCTION calculate_order_total() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
DECLARE
    touched uuid[];
    wrong uuid[];
BEGIN
    IF TG_OP = 'INSERT' THEN
        touched := ARRAY(SELECT DISTINCT order_id FROM new_lines);
    ELSIF TG_OP = 'DELETE' THEN
        touched := ARRAY(SELECT DISTINCT order_id FROM old_lines);
    ELSE
        touched := ARRAY(SELECT order_id FROM old_lines UNION SELECT order_id FROM new_lines);
    END IF;

    wrong := ARRAY(
        SELECT o.id FROM public.orders o
         WHERE o.id = ANY (touched)
           AND o.total_amount <> (SELECT COALESCE(sum(i.subtotal), 0)
                                    FROM public.order_items i WHERE i.order_id = o.id));
    IF wrong = '{}' THEN
        RETURN NULL;
    END IF;

    PERFORM FROM public.orders o WHERE o.id = ANY (wrong) ORDER BY o.id FOR NO KEY UPDATE;

    UPDATE public.orders o
       SET total_amount = lines.total
      FROM (SELECT w.id, COALESCE(sum(i.subtotal), 0) AS total
              FROM unnest(wrong) AS w(id)
              LEFT JOIN public.order_items i ON i.order_id = w.id
             GROUP BY w.id) AS lines
     WHERE o.id = lines.id AND o.total_amount <> lines.total;
    RETURN NULL;
END
$$;
DROP FUNCTION order_total(numeric, numeric, numeric, numeric, numeric, numeric);

-- One cake an order: the first stays.
DELETE FROM custom_cake_configurations c
 WHERE EXISTS (SELECT FROM custom_cake_configurations other
                WHERE other.order_id = c.order_id AND other.id < c.id);
DROP INDEX idx_custom_cake_order_id;
ALTER TABLE custom_cake_configurations
    DROP COLUMN requested_date,
    DROP COLUMN price_breakdown,
    DROP COLUMN unit_price,
    DROP COLUMN order_item_id,
    ADD CONSTRAINT custom_cake_configurations_order_id_key UNIQUE (order_id);

DROP TRIGGER name_order_item ON order_items;
DROP FUNCTION name_order_item();
ALTER TABLE order_items
    DROP CONSTRAINT order_items_discount_check,
    DROP CONSTRAINT order_items_product_check,
    DROP COLUMN discount_amount,
    DROP COLUMN product_name,
    DROP COLUMN line_no;

-- Orders of guests become those of one account that nobody can sign in to: sales stay.
INSERT INTO users (name, email, password_hash, role)
SELECT 'Guest', 'guest@guests.invalid', '!', 'customer'
 WHERE EXISTS (SELECT FROM orders WHERE user_id IS NULL)
    ON CONFLICT (email) DO NOTHING;

ALTER TABLE orders
    DROP CONSTRAINT orders_refunded_check,
    DROP CONSTRAINT orders_slot_check,
    DROP CONSTRAINT orders_promo_check,
    DROP CONSTRAINT orders_buyer_check;

ALTER TABLE orders DISABLE TRIGGER USER;
UPDATE orders SET user_id = (SELECT id FROM users WHERE email = 'guest@guests.invalid')
 WHERE user_id IS NULL;
UPDATE orders SET status = 'preparing' WHERE status = 'ready';
ALTER TABLE orders ENABLE TRIGGER USER;

DROP INDEX idx_orders_guest_trgm, idx_orders_unpaid, idx_orders_promo_code_id;
REVOKE UPDATE (address, notes, pickup_at) ON orders FROM app_user;
ALTER TABLE orders
    DROP COLUMN notes,
    DROP COLUMN address,
    DROP COLUMN pickup_at,
    DROP COLUMN promo_code_id,
    DROP COLUMN promo_code,
    DROP COLUMN tax_amount,
    DROP COLUMN tip_amount,
    DROP COLUMN delivery_fee,
    DROP COLUMN points_amount,
    DROP COLUMN points_redeemed,
    DROP COLUMN discount_amount,
    DROP COLUMN subtotal,
    DROP COLUMN fulfilment,
    DROP COLUMN payment_method,
    DROP COLUMN guest_phone,
    DROP COLUMN guest_email,
    DROP COLUMN guest_name,
    DROP COLUMN cart_id,
    DROP COLUMN tracking_token,
    DROP COLUMN order_number,
    DROP CONSTRAINT orders_status_check,
    ADD CONSTRAINT orders_status_check CHECK (status IN ('pending', 'confirmed', 'preparing',
        'dispatched', 'delivered', 'cancelled', 'refunded')),
    DROP CONSTRAINT orders_user_id_fkey,
    ADD CONSTRAINT orders_user_id_fkey FOREIGN KEY (user_id)
        REFERENCES users(id) ON DELETE CASCADE,
    ALTER COLUMN user_id SET NOT NULL;
DROP FUNCTION next_order_number();
DROP SEQUENCE order_number_seq;

ALTER TABLE delivery_schedules
    DROP CONSTRAINT delivery_schedules_booked_check,
    DROP CONSTRAINT delivery_schedules_capacity_check,
    DROP CONSTRAINT delivery_schedules_rider_check,
    DROP CONSTRAINT delivery_schedules_slot_key,
    DROP CONSTRAINT delivery_schedules_time_check,
    DROP COLUMN booked,
    DROP COLUMN capacity;

ALTER TABLE promo_codes
    DROP CONSTRAINT promo_codes_code_check,
    DROP CONSTRAINT promo_codes_percent_check,
    DROP COLUMN created_at,
    DROP COLUMN minimum_order,
    DROP COLUMN per_user_limit;
