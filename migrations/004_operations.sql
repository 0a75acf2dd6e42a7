-- 004_operations.sql -- messages that go out, answers that are kept, traces, uploads.


-- ---- outbox -------------------------------------------------------------------------

-- Written in the transaction that it tells of, sent afterwards, at least once, in the
-- order of id for each aggregate_id (an order, a person, ...).  Waiting: neither sent nor
-- failed.  Payloads may hold tokens and addresses: nobody reads them but admin and system.
CREATE TABLE outbox (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic VARCHAR(100) NOT NULL,
    aggregate_id UUID NOT NULL,
    payload JSONB NOT NULL DEFAULT '{}',
    created_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT NOW(),
    available_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT NOW(),
    attempts INTEGER NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    sent_at TIMESTAMP WITH TIME ZONE,
    failed_at TIMESTAMP WITH TIME ZONE,     -- given up, until an admin retries
    last_error TEXT,

    CHECK (sent_at IS NULL OR failed_at IS NULL)
);

CREATE INDEX idx_outbox_waiting ON outbox(available_at, id)
    WHERE sent_at IS NULL AND failed_at IS NULL;
CREATE INDEX idx_outbox_aggregate ON outbox(aggregate_id, id) WHERE sent_at IS NULL;
CREATE INDEX idx_outbox_failed ON outbox(id) WHERE failed_at IS NOT NULL;
CREATE INDEX idx_outbox_sent ON outbox(sent_at) WHERE sent_at IS NOT NULL;


-- ---- answers kept by Idempotency-Key ------------------------------------------------

CREATE TABLE idempotency_keys (
    scope VARCHAR(400) NOT NULL,        -- method, route and caller
    key VARCHAR(128) NOT NULL,
    request_hash CHAR(64) NOT NULL CHECK (request_hash ~ '^[0-9a-f]{64}$'),
    status SMALLINT NOT NULL CHECK (status BETWEEN 200 AND 299),
    body BYTEA NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT NOW(),
    expires_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT NOW() + INTERVAL '24 hours',

    PRIMARY KEY (scope, key)
);

CREATE INDEX idx_idempotency_keys_expires_at ON idempotency_keys(expires_at);

-- Takes a key for this transaction, and gives the answer kept under it, if any.  Never
-- waits: not `claimed`, somebody else is at it.  Nobody reads the table otherwise, so that
-- an answer is only for whoever has both scope and key.
CREATE FUNCTION claim_idempotency_key(wanted_scope text, wanted_key text)
RETURNS TABLE (claimed boolean, request_hash text, status smallint, body bytea)
LANGUAGE plpgsql SECURITY DEFINER ROWS 1 SET search_path = pg_catalog, public AS $$
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtextextended(wanted_scope || E'\n' || wanted_key, 0)) THEN
        RETURN QUERY SELECT false, NULL::text, NULL::smallint, NULL::bytea;
        RETURN;
    END IF;

    DELETE FROM public.idempotency_keys k
     WHERE k.scope = wanted_scope AND k.key = wanted_key AND k.expires_at <= now();
    RETURN QUERY SELECT true, k.request_hash::text, k.status, k.body
        FROM (SELECT) AS always
        LEFT JOIN public.idempotency_keys k ON k.scope = wanted_scope AND k.key = wanted_key;
END
$$;

GRANT EXECUTE ON FUNCTION claim_idempotency_key(text, text) TO app_user;


-- ---- who changed what ---------------------------------------------------------------

CREATE TABLE audit_log (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT NOW(),
    actor_id UUID DEFAULT app_user_id() REFERENCES users(id) ON DELETE SET NULL,
    actor_role VARCHAR(20) NOT NULL DEFAULT app_role(),
    action VARCHAR(100) NOT NULL,           -- such as product.update
    entity VARCHAR(50) NOT NULL,            -- such as product
    entity_id VARCHAR(100),
    changes JSONB,                          -- what was and what is; no secrets
    ip INET,
    request_id VARCHAR(128)
);

CREATE INDEX idx_audit_log_entity ON audit_log(entity, entity_id, id DESC);
CREATE INDEX idx_audit_log_actor_id ON audit_log(actor_id, id DESC);
CREATE INDEX idx_audit_log_at ON audit_log(at);


-- ---- newsletter ---------------------------------------------------------------------

CREATE TABLE newsletter_subscribers (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    email VARCHAR(255) NOT NULL UNIQUE CHECK (email = lower(email)),
    token VARCHAR(64) NOT NULL UNIQUE DEFAULT replace(gen_random_uuid()::text, '-', ''),
    subscribed_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT NOW(),
    unsubscribed_at TIMESTAMP WITH TIME ZONE
);

-- For everybody, signed in or not; `already`: subscribed before, and still so.
CREATE FUNCTION subscribe_newsletter(address text)
RETURNS TABLE (id uuid, token varchar, already boolean)
LANGUAGE plpgsql SECURITY DEFINER ROWS 1 SET search_path = pg_catalog, public AS $$
DECLARE
    subscriber public.newsletter_subscribers;
BEGIN
    INSERT INTO public.newsletter_subscribers AS n (email) VALUES (lower(btrim(address)))
        ON CONFLICT (email) DO NOTHING
        RETURNING * INTO subscriber;
    IF FOUND THEN
        RETURN QUERY SELECT subscriber.id, subscriber.token, false;
        RETURN;
    END IF;

    SELECT * INTO subscriber FROM public.newsletter_subscribers n
     WHERE n.email = lower(btrim(address)) FOR UPDATE;
    IF subscriber.unsubscribed_at IS NOT NULL THEN
        UPDATE public.newsletter_subscribers n
           SET subscribed_at = now(), unsubscribed_at = NULL WHERE n.id = subscriber.id;
    END IF;
    RETURN QUERY SELECT subscriber.id, subscriber.token, subscriber.unsubscribed_at IS NULL;
END
$$;

-- Whether there is such a token; again is as good as once.
CREATE FUNCTION unsubscribe_newsletter(wanted text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
BEGIN
    UPDATE public.newsletter_subscribers n
       SET unsubscribed_at = COALESCE(n.unsubscribed_at, now()) WHERE n.token = wanted;
    RETURN FOUND;
END
$$;

GRANT EXECUTE ON FUNCTION subscribe_newsletter(text), unsubscribe_newsletter(text) TO app_user;


-- ---- uploads ------------------------------------------------------------------------

-- The files lie in the upload folder under these names, which nobody can guess.
CREATE TABLE uploads (
    name VARCHAR(100) PRIMARY KEY CHECK (name ~ '^[A-Za-z0-9_-]+\.(jpg|png|webp)$'),
    user_id UUID DEFAULT app_user_id() REFERENCES users(id) ON DELETE SET NULL,
    content_type VARCHAR(50) NOT NULL
        CHECK (content_type IN ('image/jpeg', 'image/png', 'image/webp')),
    size INTEGER NOT NULL CHECK (size BETWEEN 1 AND 10485760),
    created_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT NOW()
);

CREATE INDEX idx_uploads_user_id ON uploads(user_id);
CREATE INDEX idx_uploads_created_at ON uploads(created_at);

-- Whoever knows a name may use the picture.
CREATE FUNCTION upload_exists(wanted text) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public AS $$
    SELECT EXISTS (SELECT FROM public.uploads u WHERE u.name = wanted)
$$;

GRANT EXECUTE ON FUNCTION upload_exists(text) TO app_user;


-- ---- an account goes ----------------------------------------------------------------

-- By its owner or an admin.  The row stays for the sales; what tells who it was goes, from
-- everything that hangs on it.  False: nothing to do, or not his to do.
CREATE FUNCTION anonymise_user(person uuid) RETURNS boolean
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

GRANT EXECUTE ON FUNCTION anonymise_user(uuid) TO app_user;


-- ---- roles --------------------------------------------------------------------------

REVOKE UPDATE ON outbox, idempotency_keys, audit_log, newsletter_subscribers, uploads
    FROM app_user;
GRANT UPDATE (available_at, attempts, sent_at, failed_at, last_error) ON outbox TO app_user;
GRANT UPDATE (subscribed_at, unsubscribed_at) ON newsletter_subscribers TO app_user;
GRANT DELETE ON outbox, idempotency_keys, newsletter_subscribers TO app_user;

REVOKE SELECT ON outbox, idempotency_keys, newsletter_subscribers FROM readonly_user;
GRANT SELECT (id, topic, aggregate_id, created_at, available_at, attempts, sent_at, failed_at)
    ON outbox TO readonly_user;
GRANT SELECT (id, email, subscribed_at, unsubscribed_at) ON newsletter_subscribers
    TO readonly_user;


-- ---- rows ---------------------------------------------------------------------------

ALTER TABLE outbox ENABLE ROW LEVEL SECURITY;
ALTER TABLE idempotency_keys ENABLE ROW LEVEL SECURITY;
ALTER TABLE audit_log ENABLE ROW LEVEL SECURITY;
ALTER TABLE newsletter_subscribers ENABLE ROW LEVEL SECURITY;
ALTER TABLE uploads ENABLE ROW LEVEL SECURITY;

-- outbox: whoever does something tells of it; only what was sent goes.
CREATE POLICY outbox_read ON outbox FOR SELECT TO app_user USING ((SELECT app_is_admin()));
CREATE POLICY outbox_add ON outbox FOR INSERT TO app_user
    WITH CHECK ((SELECT app_role()) IS NOT NULL
                AND sent_at IS NULL AND failed_at IS NULL AND attempts = 0);
CREATE POLICY outbox_change ON outbox FOR UPDATE TO app_user USING ((SELECT app_is_admin()));
CREATE POLICY outbox_remove ON outbox FOR DELETE TO app_user
    USING ((SELECT app_is_admin()) AND sent_at IS NOT NULL);

-- idempotency_keys: read through claim_idempotency_key(); the task that forgets is system.
CREATE POLICY idempotency_keys_add ON idempotency_keys FOR INSERT TO app_user
    WITH CHECK ((SELECT app_role()) IS NOT NULL);
CREATE POLICY idempotency_keys_read ON idempotency_keys FOR SELECT TO app_user
    USING ((SELECT app_role()) = 'system');
CREATE POLICY idempotency_keys_remove ON idempotency_keys FOR DELETE TO app_user
    USING ((SELECT app_role()) = 'system');

-- audit_log: everybody leaves traces, in no name but his own.
CREATE POLICY audit_log_read ON audit_log FOR SELECT TO app_user
    USING ((SELECT app_is_admin()));
CREATE POLICY audit_log_add ON audit_log FOR INSERT TO app_user
    WITH CHECK (actor_role = (SELECT app_role())
                AND actor_id IS NOT DISTINCT FROM (SELECT app_user_id()));

-- newsletter_subscribers: the address of one's own account.
CREATE POLICY newsletter_subscribers_read ON newsletter_subscribers FOR SELECT TO app_user
    USING ((SELECT app_is_admin())
           OR email = (SELECT u.email FROM users u WHERE u.id = (SELECT app_user_id())));
CREATE POLICY newsletter_subscribers_write ON newsletter_subscribers FOR ALL TO app_user
    USING ((SELECT app_is_admin()));

-- uploads: one's own.
CREATE POLICY uploads_read ON uploads FOR SELECT TO app_user
    USING ((SELECT app_is_staff()) OR user_id = (SELECT app_user_id()));
CREATE POLICY uploads_add ON uploads FOR INSERT TO app_user
    WITH CHECK ((SELECT app_role()) IS NOT NULL
                AND user_id IS NOT DISTINCT FROM (SELECT app_user_id()));

CREATE POLICY outbox_report ON outbox FOR SELECT TO readonly_user USING (true);
CREATE POLICY audit_log_report ON audit_log FOR SELECT TO readonly_user USING (true);
CREATE POLICY newsletter_subscribers_report ON newsletter_subscribers FOR SELECT
    TO readonly_user USING (true);
CREATE POLICY uploads_report ON uploads FOR SELECT TO readonly_user USING (true);

-- down

DROP FUNCTION anonymise_user(uuid), upload_exists(text), unsubscribe_newsletter(text),
    subscribe_newsletter(text), claim_idempotency_key(text, text);
DROP TABLE uploads, newsletter_subscribers, audit_log, idempotency_keys, outbox;
