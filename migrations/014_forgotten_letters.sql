-- 014_forgotten_letters.sql -- letters go with the account that they were written to, sent,
-- waiting or given up, and so do the notes on its points; what was given up is not kept for
-- ever, but as long as what was sent.

CREATE INDEX idx_outbox_letters ON outbox(aggregate_id) WHERE payload ? 'email';

CREATE OR REPLACE FUNCTION anonymise_user(person uuid) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
DECLARE
    mail text;
BEGIN
    IF NOT (public.app_is_admin() OR COALESCE(person = public.app_user_id(), false)) THEN
        RETURN false;
    END IF;
    SELECT u.email INTO mail FROM public.users u
     WHERE u.id = person AND u.deleted_at IS NULL FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;

    DELETE FROM public.user_identities WHERE user_id = person;
    DELETE FROM public.password_resets WHERE user_id = person;
    WITH subscriptions AS (
        DELETE FROM public.newsletter_subscribers WHERE email = mail RETURNING id
    )
    DELETE FROM public.outbox
     WHERE payload ? 'email' AND (aggregate_id = person OR aggregate_id IN (SELECT id FROM subscriptions));
    UPDATE public.custom_cake_configurations
       SET message = NULL, image_reference = NULL, extra_details = extra_details - 'instructions'
     WHERE order_id IN (SELECT id FROM public.orders WHERE user_id = person);
    UPDATE public.orders SET address = NULL, notes = NULL
     WHERE user_id = person AND COALESCE(address::text, notes) IS NOT NULL;
    UPDATE public.order_status_history SET note = NULL
     WHERE note IS NOT NULL AND order_id IN (SELECT id FROM public.orders WHERE user_id = person);
    UPDATE public.loyalty_ledger SET note = NULL WHERE user_id = person AND note IS NOT NULL;
    UPDATE public.users
       SET name = 'Deleted user', email = 'deleted-' || person || '@deleted.invalid',
           password_hash = NULL, phone = NULL, avatar_url = NULL, social_provider = NULL,
           session_epoch = session_epoch + 1, deleted_at = now()
     WHERE id = person;
    RETURN true;
END
$$;

DROP POLICY outbox_remove ON outbox;
CREATE POLICY outbox_remove ON outbox FOR DELETE TO app_user
    USING ((SELECT app_is_admin()) AND (sent_at IS NOT NULL OR failed_at IS NOT NULL));

-- down

DROP POLICY outbox_remove ON outbox;
CREATE POLICY outbox_remove ON outbox FOR DELETE TO app_user
    USING ((SELECT app_is_admin()) AND sent_at IS NOT NULL);

CREATE OR REPLACE FUNCTION anonymise_user(person uuid) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
DECLARE
    mail text;
BEGIN
    IF NOT (public.app_is_admin() OR COALESCE(person = public.app_user_id(), false)) THEN
        RETURN false;
    END IF;
    SELECT u.email INTO mail FROM public.users u
     WHERE u.id = person AND u.deleted_at IS NULL FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;

    DELETE FROM public.user_identities WHERE user_id = person;
    DELETE FROM public.password_resets WHERE user_id = person;
    DELETE FROM public.newsletter_subscribers WHERE email = mail;
    UPDATE public.custom_cake_configurations
       SET message = NULL, image_reference = NULL, extra_details = extra_details - 'instructions'
     WHERE order_id IN (SELECT id FROM public.orders WHERE user_id = person);
    UPDATE public.orders SET address = NULL, notes = NULL
     WHERE user_id = person AND COALESCE(address::text, notes) IS NOT NULL;
    UPDATE public.order_status_history SET note = NULL
     WHERE note IS NOT NULL AND order_id IN (SELECT id FROM public.orders WHERE user_id = person);
    UPDATE public.users
       SET name = 'Deleted user', email = 'deleted-' || person || '@deleted.invalid',
           password_hash = NULL, phone = NULL, avatar_url = NULL, social_provider = NULL,
           session_epoch = session_epoch + 1, deleted_at = now()
     WHERE id = person;
    RETURN true;
END
$$;

DROP INDEX idx_outbox_letters;
