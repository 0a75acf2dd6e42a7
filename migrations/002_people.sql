-- 002_people.sql -- accounts: social sign-in, invitations, tokens, deletion in place.


-- ---- users --------------------------------------------------------------------------

-- The e-mail is kept in lower case, so that the plain UNIQUE index finds it: an index on
-- lower(email) is not used under row-level security, lower() not being leakproof.
UPDATE users SET email = lower(email) WHERE email <> lower(email);

-- A phone number tells customers apart, too; an empty one is none.
UPDATE users SET phone = NULL WHERE btrim(phone) = '';

ALTER TABLE users
    ALTER COLUMN password_hash DROP NOT NULL,
    ADD COLUMN session_epoch INTEGER NOT NULL DEFAULT 0,    -- higher: older sessions end
    ADD COLUMN invited_at TIMESTAMP WITH TIME ZONE,         -- made by an admin, without password
    ADD COLUMN deleted_at TIMESTAMP WITH TIME ZONE,         -- anonymised in place
    ADD CONSTRAINT users_email_lower_check CHECK (email = lower(email)),
    ADD CONSTRAINT users_password_hash_check CHECK (password_hash <> ''),
    ADD CONSTRAINT users_sign_in_check CHECK (password_hash IS NOT NULL
        OR social_provider IS NOT NULL OR invited_at IS NOT NULL OR deleted_at IS NOT NULL);

CREATE UNIQUE INDEX users_phone_key ON users(phone) WHERE phone IS NOT NULL;

-- For staff who search by a part of a name or address; see search_customers().
CREATE INDEX idx_users_name_trgm ON users USING gin(name gin_trgm_ops);
CREATE INDEX idx_users_email_trgm ON users USING gin(email gin_trgm_ops);
CREATE INDEX idx_users_phone_trgm ON users USING gin(phone gin_trgm_ops);

GRANT UPDATE (session_epoch, invited_at, deleted_at) ON users TO app_user;
GRANT SELECT (session_epoch, invited_at, deleted_at) ON users TO readonly_user;


-- ---- everybody has a loyalty account ------------------------------------------------

-- As the owner: whoever registers may write no points.
CREATE FUNCTION create_loyalty_points() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
BEGIN
    INSERT INTO public.loyalty_points (user_id)
    SELECT id FROM new_users
        ON CONFLICT (user_id) DO NOTHING;
    RETURN NULL;
END
$$;

CREATE TRIGGER create_loyalty_points AFTER INSERT ON users
    REFERENCING NEW TABLE AS new_users
    FOR EACH STATEMENT EXECUTE FUNCTION create_loyalty_points();

INSERT INTO loyalty_points (user_id)
SELECT id FROM users
    ON CONFLICT (user_id) DO NOTHING;


-- ---- sign-in by other means ---------------------------------------------------------

-- Whom a provider's token names: matched by provider and subject only, never by e-mail.
CREATE TABLE user_identities (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id UUID NOT NULL REFERENCES users(id) ON DELETE CASCADE,
    provider VARCHAR(20) NOT NULL CHECK (provider IN ('google', 'apple', 'facebook')),
    subject VARCHAR(255) NOT NULL CHECK (subject <> ''),
    email VARCHAR(255),                 -- as the provider told it at the first sign-in
    created_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT NOW(),

    UNIQUE (provider, subject)
);

CREATE INDEX idx_user_identities_user_id ON user_identities(user_id);

-- Tokens that are sent by mail, by their SHA-256 in hex: who reads the table cannot use
-- them.  set_password is for an invited account, change_email for POST /me/email.
CREATE TABLE password_resets (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id UUID NOT NULL REFERENCES users(id) ON DELETE CASCADE,
    purpose VARCHAR(20) NOT NULL DEFAULT 'reset_password'
        CHECK (purpose IN ('reset_password', 'set_password', 'change_email')),
    token_sha256 CHAR(64) NOT NULL UNIQUE CHECK (token_sha256 ~ '^[0-9a-f]{64}$'),
    new_email VARCHAR(255) CHECK (new_email = lower(new_email)),
    expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
    used_at TIMESTAMP WITH TIME ZONE,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT NOW(),

    CHECK ((purpose = 'change_email') = (new_email IS NOT NULL)),
    CHECK (expires_at > created_at)
);

CREATE INDEX idx_password_resets_user_id ON password_resets(user_id);
CREATE INDEX idx_password_resets_expires_at ON password_resets(expires_at);


-- ---- roles and rows -----------------------------------------------------------------

-- SELECT, INSERT and UPDATE, and SELECT for reports, come by default.
REVOKE UPDATE ON user_identities, password_resets FROM app_user;
GRANT UPDATE (used_at) ON password_resets TO app_user;
GRANT DELETE ON user_identities, password_resets TO app_user;

REVOKE SELECT ON password_resets FROM readonly_user;
GRANT SELECT (id, user_id, purpose, new_email, expires_at, used_at, created_at)
    ON password_resets TO readonly_user;

ALTER TABLE user_identities ENABLE ROW LEVEL SECURITY;
ALTER TABLE password_resets ENABLE ROW LEVEL SECURITY;

-- user_identities: one's own; added by the sign-in (system), which alone has seen the token.
CREATE POLICY user_identities_read ON user_identities FOR SELECT TO app_user
    USING ((SELECT app_is_admin()) OR user_id = (SELECT app_user_id()));
CREATE POLICY user_identities_add ON user_identities FOR INSERT TO app_user
    WITH CHECK ((SELECT app_is_admin()));
CREATE POLICY user_identities_remove ON user_identities FOR DELETE TO app_user
    USING ((SELECT app_is_admin()) OR user_id = (SELECT app_user_id()));

-- password_resets: one's own; also for somebody else by admin and system.
CREATE POLICY password_resets_all ON password_resets FOR ALL TO app_user
    USING ((SELECT app_is_admin()) OR user_id = (SELECT app_user_id()));

CREATE POLICY user_identities_report ON user_identities FOR SELECT TO readonly_user
    USING (true);
CREATE POLICY password_resets_report ON password_resets FOR SELECT TO readonly_user
    USING (true);


-- ---- functions across accounts ------------------------------------------------------

-- The account that signs in with an e-mail address.  For `system` only: it gives the hash.
CREATE FUNCTION find_sign_in(address text)
RETURNS TABLE (id uuid, name varchar, email varchar, password_hash varchar, role varchar,
    phone varchar, avatar_url varchar, social_provider varchar, session_epoch integer,
    created_at timestamptz, updated_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER ROWS 1 SET search_path = pg_catalog, public AS $$
    SELECT u.id, u.name, u.email, u.password_hash, u.role, u.phone, u.avatar_url,
           u.social_provider, u.session_epoch, u.created_at, u.updated_at
      FROM public.users u
     WHERE u.email = lower(btrim(address))
       AND u.deleted_at IS NULL
       AND public.app_role() = 'system'
$$;

-- Accounts with the text in name, e-mail address or phone number, for staff.  Past
-- row-level security, so that the trigram indexes serve: ILIKE is not leakproof.
CREATE FUNCTION search_customers(query text) RETURNS TABLE (user_id uuid)
LANGUAGE sql STABLE SECURITY DEFINER ROWS 50 SET search_path = pg_catalog, public AS $$
    SELECT u.id
      FROM public.users u,
           (SELECT '%' || replace(replace(replace(btrim(query), '\', '\\'), '%', '\%'), '_', '\_')
                || '%' AS pattern) AS wanted
     WHERE public.app_is_staff()
       AND u.deleted_at IS NULL
       AND (u.name ILIKE pattern OR u.email ILIKE pattern OR u.phone ILIKE pattern)
$$;

GRANT EXECUTE ON FUNCTION find_sign_in(text), search_customers(text) TO app_user;

-- down

DROP FUNCTION search_customers(text), find_sign_in(text);
DROP TABLE password_resets, user_identities;

DROP TRIGGER create_loyalty_points ON users;
DROP FUNCTION create_loyalty_points();

DROP INDEX idx_users_name_trgm, idx_users_email_trgm, idx_users_phone_trgm, users_phone_key;

-- No password fits this one.
UPDATE users SET password_hash = '!' WHERE password_hash IS NULL;

ALTER TABLE users
    DROP CONSTRAINT users_sign_in_check,
    DROP CONSTRAINT users_password_hash_check,
    DROP CONSTRAINT users_email_lower_check,
    DROP COLUMN deleted_at,
    DROP COLUMN invited_at,
    DROP COLUMN session_epoch,
    ALTER COLUMN password_hash SET NOT NULL;
