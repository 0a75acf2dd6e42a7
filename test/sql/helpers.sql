-- helpers.sql -- asserts for the tests of this folder; loaded once by run.sh.
--
-- Each assert prints one line, "ok - ..." or "not ok - ...", and run.sh counts them.
-- The tests run as a superuser who takes on roles; everybody may call these functions.

CREATE SCHEMA t;
GRANT USAGE ON SCHEMA t TO PUBLIC;

-- ---- asserts ------------------------------------------------------------------------

CREATE FUNCTION t.ok(passed boolean, label text) RETURNS text LANGUAGE sql
RETURN CASE WHEN passed THEN 'ok - ' ELSE 'not ok - ' END || label;

CREATE FUNCTION t.same(have anycompatible, want anycompatible, label text) RETURNS text
LANGUAGE sql AS $$
    SELECT CASE WHEN have IS NOT DISTINCT FROM want THEN 'ok - ' || label
                ELSE format('not ok - %s: have %s, want %s', label,
                            COALESCE(have::text, 'NULL'), COALESCE(want::text, 'NULL')) END
$$;

-- What a statement comes to: the number of rows it touched, or its SQLSTATE.  Its effects
-- are rolled back.
CREATE FUNCTION t.attempt(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    touched bigint;
BEGIN
    EXECUTE statement;
    GET DIAGNOSTICS touched = ROW_COUNT;
    RAISE EXCEPTION USING ERRCODE = 'TTTTT', MESSAGE = touched::text;
EXCEPTION
    WHEN SQLSTATE 'TTTTT' THEN RETURN SQLERRM;
    WHEN OTHERS THEN RETURN SQLSTATE;
END
$$;

CREATE FUNCTION t.fails(statement text, sqlstate_wanted text, label text) RETURNS text
LANGUAGE sql
RETURN t.same(t.attempt(statement), sqlstate_wanted, label);

-- The plan of a query, with sequential scans and sorts made unattractive: what remains
-- of them is what no index can serve.
CREATE FUNCTION t.plan(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    line text;
    plan text := '';
BEGIN
    SET LOCAL enable_seqscan = off;
    SET LOCAL enable_sort = off;
    FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) ' || query LOOP
        plan := plan || line || E'\n';
    END LOOP;
    RETURN plan;
END
$$;

-- ---- who is asking ------------------------------------------------------------------

-- From here to the end of the transaction, the server on behalf of somebody.
CREATE FUNCTION t.app(app_role text DEFAULT '', user_id text DEFAULT '', order_id text DEFAULT '')
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('app.user_role', app_role, true),
            set_config('app.current_user_id', user_id, true),
            set_config('app.current_order_id', order_id, true);
    SET LOCAL ROLE app_user;
END
$$;

CREATE FUNCTION t.owner() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    SET LOCAL ROLE omade_owner;
END
$$;

CREATE FUNCTION t.report() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    SET LOCAL ROLE readonly_user;
END
$$;

-- ---- ids of the sample data ---------------------------------------------------------

CREATE FUNCTION t.usr(n integer) RETURNS uuid LANGUAGE sql IMMUTABLE
RETURN ('00000000-0000-0000-0000-' || lpad(n::text, 12, '0'))::uuid;

CREATE FUNCTION t.product(n integer) RETURNS uuid LANGUAGE sql IMMUTABLE
RETURN ('10000000-0000-0000-0000-' || lpad(n::text, 12, '0'))::uuid;

CREATE FUNCTION t.ord(n integer) RETURNS uuid LANGUAGE sql IMMUTABLE
RETURN ('20000000-0000-0000-0000-' || lpad(n::text, 12, '0'))::uuid;

-- Where figures differ from the orders that they are of; nothing: nowhere.
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
        UNION ALL
        SELECT format('orders of %s, %s, %s', quarter, status, payment_status)
          FROM (SELECT quarter, status, payment_method, payment_status, sum(orders) AS n, sum(total_amount) AS t,
                       sum(refunded_amount) AS r
                  FROM order_figures GROUP BY 1, 2, 3, 4
                HAVING sum(orders) <> 0 OR sum(total_amount) <> 0 OR sum(refunded_amount) <> 0) AS have
          FULL JOIN (SELECT date_bin('15 minutes', created_at, '2000-01-01Z') AS quarter, status, payment_method,
                            payment_status, count(*)::numeric AS n, sum(total_amount) AS t, sum(refunded_amount) AS r
                       FROM orders GROUP BY 1, 2, 3, 4) AS want USING (quarter, status, payment_method, payment_status)
         WHERE (have.n, have.t, have.r) IS DISTINCT FROM (want.n, want.t, want.r)
        UNION ALL
        SELECT format('slot %s', slot)
          FROM (SELECT delivery_schedule_id AS slot, sum(delivered) AS d, sum(open) AS o, sum(cancelled) AS c
                  FROM slot_figures GROUP BY 1 HAVING sum(delivered) <> 0 OR sum(open) <> 0 OR sum(cancelled) <> 0) AS have
          FULL JOIN (SELECT delivery_schedule_id AS slot, count(*) FILTER (WHERE delivered_at IS NOT NULL)::numeric AS d,
                            count(*) FILTER (WHERE status NOT IN ('delivered', 'cancelled', 'refunded'))::numeric AS o,
                            count(*) FILTER (WHERE status = 'cancelled'
                                                OR status = 'refunded' AND delivered_at IS NULL)::numeric AS c
                       FROM orders WHERE delivery_schedule_id IS NOT NULL GROUP BY 1) AS want USING (slot)
         WHERE (have.d, have.o, have.c) IS DISTINCT FROM (want.d, want.o, want.c)
        UNION ALL
        SELECT format('promo %s on %s', promo_code_id, day)
          FROM (SELECT day, promo_code_id, sum(uses) AS u, sum(returned) AS r, sum(discount_amount) AS d, sum(order_amount) AS o
                  FROM promo_figures GROUP BY 1, 2
                HAVING sum(uses) <> 0 OR sum(returned) <> 0 OR sum(discount_amount) <> 0 OR sum(order_amount) <> 0) AS have
          FULL JOIN (SELECT (r.created_at AT TIME ZONE 'UTC')::date AS day, r.promo_code_id,
                            count(*) FILTER (WHERE r.returned_at IS NULL)::numeric AS u, count(r.returned_at)::numeric AS r,
                            COALESCE(sum(r.amount) FILTER (WHERE r.returned_at IS NULL), 0) AS d,
                            COALESCE(sum(o.total_amount) FILTER (WHERE r.returned_at IS NULL), 0) AS o
                       FROM promo_redemptions r JOIN orders o ON o.id = r.order_id GROUP BY 1, 2) AS want
               USING (day, promo_code_id)
         WHERE (have.u, have.r, have.d, have.o) IS DISTINCT FROM (want.u, want.r, want.d, want.o)
        UNION ALL
        SELECT format('deliveries to %s at %s', user_id, at)
          FROM (SELECT user_id, at, sum(n) AS n, sum(cents) AS c
                  FROM (SELECT user_id, at, orders AS n, cents FROM user_sales_movements
                        UNION ALL
                        SELECT f.user_id, x.at, 1, x.cents - lag(x.cents, 1, 0::bigint) OVER (PARTITION BY f.user_id ORDER BY x.i)
                          FROM user_sales_figures f, unnest(f.times, f.cents) WITH ORDINALITY AS x(at, cents, i)) AS all_of_them
                 GROUP BY 1, 2 HAVING sum(n) <> 0 OR sum(cents) <> 0) AS have
          FULL JOIN (SELECT user_id, delivered_at AS at, count(*)::numeric AS n, sum((total_amount - refunded_amount) * 100) AS c
                       FROM orders WHERE status = 'delivered' AND user_id IS NOT NULL GROUP BY 1, 2) AS want USING (user_id, at)
         WHERE (have.n, have.c) IS DISTINCT FROM (want.n, want.c)
        UNION ALL
        SELECT format('%s: not in order', user_id) FROM user_sales_figures f
         WHERE f.times IS DISTINCT FROM COALESCE((SELECT array_agg(at ORDER BY at) FROM unnest(f.times) AS at), '{}')
            OR cardinality(f.times) <> cardinality(f.cents)
        UNION ALL
        SELECT format('%s has no figures', id) FROM users WHERE id NOT IN (SELECT user_id FROM user_sales_figures)
        UNION ALL
        SELECT format('failed delivery %s', h.id) FROM order_status_history h
         WHERE h.failed <> (h.status = 'preparing' AND h.payment_status IS NULL
           AND 'dispatched' = COALESCE((SELECT b.status FROM order_status_history b WHERE b.order_id = h.order_id
                 AND b.payment_status IS NULL AND b.id < h.id ORDER BY b.id DESC LIMIT 1), ''))
    ) AS differences
$$;
