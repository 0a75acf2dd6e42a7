-- 010_rider_points_lock.sql -- a delivery locks the buyer's points before slot and product
-- figures, as orders, cancellations and refunds do: the other way round two of them waited
-- for each other.

-- The balance, locked: one's own, or anybody's for staff.  A rider only locks it, for the
-- points that a delivery earns, and is told nothing.
CREATE OR REPLACE FUNCTION lock_points(person uuid) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
DECLARE
    balance integer;
BEGIN
    IF public.app_is_staff() OR person = public.app_user_id() THEN
        SELECT l.points INTO balance FROM public.loyalty_points l
         WHERE l.user_id = person FOR NO KEY UPDATE;
    ELSIF public.app_role() = 'rider' THEN
        PERFORM FROM public.loyalty_points l WHERE l.user_id = person FOR NO KEY UPDATE;
    END IF;
    RETURN balance;
END
$$;

-- down

CREATE OR REPLACE FUNCTION lock_points(person uuid) RETURNS integer
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
