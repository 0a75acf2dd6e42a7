-- 006_promo_locks.sql -- buyers of one code at the same time.
--
-- An order with an unlimited code takes no lock on it: who sets a limit waits for the orders
-- under way instead.  One with a limited code takes its only lock at once.

CREATE OR REPLACE FUNCTION lock_promo(wanted text, buyer uuid, guest text)
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
    IF promo.usage_limit IS NOT NULL THEN
        SELECT * INTO promo FROM public.promo_codes p
         WHERE p.id = promo.id AND p.code = upper(btrim(wanted)) FOR NO KEY UPDATE;
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

-- The key lock, which a new use takes for its foreign key anyway, waits for whoever sets a
-- limit; the count that follows then knows of it.
CREATE OR REPLACE FUNCTION count_promo_use() RETURNS trigger
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
        PERFORM FROM public.promo_codes p WHERE p.id = promo FOR KEY SHARE;
        UPDATE public.promo_codes
           SET used_count = used_count + becomes - was
         WHERE id = promo AND usage_limit IS NOT NULL;
    END IF;
    RETURN NULL;
END
$$;

-- A code that gets a limit begins with its uses so far, those of orders under way included.
CREATE OR REPLACE FUNCTION recount_promo_uses() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
BEGIN
    PERFORM FROM public.promo_codes p WHERE p.id = NEW.id FOR UPDATE;
    NEW.used_count := CASE WHEN NEW.usage_limit IS NULL THEN 0 ELSE
        (SELECT count(*) FROM public.promo_redemptions r
          WHERE r.promo_code_id = NEW.id AND r.returned_at IS NULL) END;
    RETURN NEW;
END
$$;

-- down

CREATE OR REPLACE FUNCTION lock_promo(wanted text, buyer uuid, guest text)
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

CREATE OR REPLACE FUNCTION count_promo_use() RETURNS trigger
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

CREATE OR REPLACE FUNCTION recount_promo_uses() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
BEGIN
    NEW.used_count := CASE WHEN NEW.usage_limit IS NULL THEN 0 ELSE
        (SELECT count(*) FROM public.promo_redemptions r
          WHERE r.promo_code_id = NEW.id AND r.returned_at IS NULL) END;
    RETURN NEW;
END
$$;
