-- 011_staff_lists.sql -- what staff look for among many people; how long traces are kept.


-- ---- searches ------------------------------------------------------------------------

-- Planned with the pattern that is looked for: unknown, PostgreSQL takes it for one that many
-- rows have, and reads the whole table.
CREATE OR REPLACE FUNCTION search_customers(query text) RETURNS TABLE (user_id uuid)
LANGUAGE plpgsql STABLE SECURITY DEFINER ROWS 50 SET search_path = pg_catalog, public AS $$
BEGIN
    IF public.app_is_staff() THEN
        RETURN QUERY EXECUTE
            'SELECT u.id FROM public.users u
              WHERE u.deleted_at IS NULL
                AND (u.name ILIKE $1 OR u.email ILIKE $1 OR u.phone ILIKE $1)'
        USING '%' || replace(replace(replace(btrim(query), '\', '\\'), '%', '\%'), '_', '\_') || '%';
    END IF;
END
$$;

CREATE OR REPLACE FUNCTION search_orders(query text) RETURNS TABLE (order_id uuid)
LANGUAGE plpgsql STABLE SECURITY DEFINER ROWS 100 SET search_path = pg_catalog, public AS $$
BEGIN
    IF public.app_is_staff() THEN
        RETURN QUERY
            SELECT o.id FROM public.orders o
             WHERE o.user_id = ANY (ARRAY(SELECT c.user_id FROM public.search_customers(query) c));
        RETURN QUERY EXECUTE
            'SELECT o.id FROM public.orders o
              WHERE o.user_id IS NULL
                AND (o.guest_name || '' '' || COALESCE(o.guest_email, '''') || '' ''
                     || COALESCE(o.guest_phone, '''')) ILIKE $1'
        USING '%' || replace(replace(replace(btrim(query), '\', '\\'), '%', '\%'), '_', '\_') || '%';
    END IF;
END
$$;


-- ---- indexes -------------------------------------------------------------------------

-- With the id behind them, so that equals come in order, too.
DROP INDEX idx_users_created_at, idx_users_name, idx_loyalty_points_points,
    idx_user_order_figures_orders, idx_user_order_figures_spent, idx_user_order_figures_last;
CREATE INDEX idx_users_created_at ON users(created_at, id);
CREATE INDEX idx_users_name ON users(name, id);
CREATE INDEX idx_users_staff ON users(name, id) WHERE role <> 'customer' AND deleted_at IS NULL;
CREATE INDEX idx_loyalty_points_points ON loyalty_points(points, user_id);
CREATE INDEX idx_user_order_figures_orders ON user_order_figures(total_orders, user_id);
CREATE INDEX idx_user_order_figures_spent ON user_order_figures(total_spent, user_id);
CREATE INDEX idx_user_order_figures_last ON user_order_figures
    (last_order_date DESC NULLS LAST, user_id DESC);


-- ---- traces that have been kept long enough ------------------------------------------

-- Nobody removes a trace but by its age; for `system`.
CREATE FUNCTION forget_audit_log(days integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
DECLARE
    forgotten integer;
BEGIN
    IF public.app_role() IS DISTINCT FROM 'system' OR COALESCE(days < 30, true) THEN
        RAISE EXCEPTION 'traces stay' USING ERRCODE = 'insufficient_privilege';
    END IF;
    DELETE FROM public.audit_log WHERE at < now() - make_interval(days => days);
    GET DIAGNOSTICS forgotten = ROW_COUNT;
    RETURN forgotten;
END
$$;

-- Pictures whose upload came to nothing: no product, cake or account has them.  Their rows go;
-- the files are whoever's that gets the names.
CREATE FUNCTION forget_uploads(days integer) RETURNS TABLE (name varchar)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
BEGIN
    IF public.app_role() IS DISTINCT FROM 'system' OR COALESCE(days < 2, true) THEN
        RAISE EXCEPTION 'uploads stay' USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN QUERY DELETE FROM public.uploads u
     WHERE u.created_at < now() - make_interval(days => days)
       AND NOT EXISTS (SELECT FROM public.products p
                        WHERE substring(p.image_url FROM '[^/]+$') = u.name)
       AND NOT EXISTS (SELECT FROM public.users x
                        WHERE substring(x.avatar_url FROM '[^/]+$') = u.name)
       AND NOT EXISTS (SELECT FROM public.custom_cake_configurations c
                        WHERE substring(c.image_reference FROM '[^/]+$') = u.name)
    RETURNING u.name;
END
$$;

GRANT EXECUTE ON FUNCTION forget_audit_log(integer), forget_uploads(integer) TO app_user;

CREATE INDEX idx_newsletter_subscribers_unsubscribed ON newsletter_subscribers(unsubscribed_at)
    WHERE unsubscribed_at IS NOT NULL;

-- down

DROP INDEX idx_newsletter_subscribers_unsubscribed, idx_user_order_figures_last, idx_user_order_figures_spent, idx_user_order_figures_orders,
    idx_loyalty_points_points, idx_users_staff, idx_users_name, idx_users_created_at;
CREATE INDEX idx_user_order_figures_orders ON user_order_figures(total_orders);
CREATE INDEX idx_user_order_figures_spent ON user_order_figures(total_spent);
CREATE INDEX idx_user_order_figures_last ON user_order_figures(last_order_date);
CREATE INDEX idx_users_created_at ON users(created_at DESC, id);
CREATE INDEX idx_users_name ON users(name);
CREATE INDEX idx_loyalty_points_points ON loyalty_points(points);

DROP FUNCTION forget_uploads(integer), forget_audit_log(integer);

CREATE OR REPLACE FUNCTION search_orders(query text) RETURNS TABLE (order_id uuid)
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

CREATE OR REPLACE FUNCTION search_customers(query text) RETURNS TABLE (user_id uuid)
LANGUAGE sql STABLE SECURITY DEFINER ROWS 50 SET search_path = pg_catalog, public AS $$
    SELECT u.id
      FROM public.users u,
           (SELECT '%' || replace(replace(replace(btrim(query), '\', '\\'), '%', '\%'), '_', '\_')
                || '%' AS pattern) AS wanted
     WHERE public.app_is_staff()
       AND u.deleted_at IS NULL
       AND (u.name ILIKE pattern OR u.email ILIKE pattern OR u.phone ILIKE pattern)
$$;
