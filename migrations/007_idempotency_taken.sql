-- 007_idempotency_taken.sql -- a taken Idempotency-Key stops what was sent behind it.
--
-- claim_idempotency_key() answers that a key is taken, and the statements behind it in the
-- same batch went on: they waited for the rows that the first request had locked.  This one
-- raises, so that nothing behind it runs.

-- Takes a key for this transaction; SQLSTATE IK001 when somebody else is at it, or an answer
-- is kept.
CREATE FUNCTION take_idempotency_key(wanted_scope text, wanted_key text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, public AS $$
BEGIN
    IF NOT (SELECT k.claimed AND k.request_hash IS NULL
              FROM public.claim_idempotency_key(wanted_scope, wanted_key) k) THEN
        RAISE EXCEPTION 'the key is taken' USING ERRCODE = 'IK001';
    END IF;
END
$$;

-- The answer kept under a key, without taking it: who asks again hinders nobody.
CREATE FUNCTION kept_idempotency_answer(wanted_scope text, wanted_key text)
RETURNS TABLE (request_hash text, status smallint, body bytea)
LANGUAGE sql STABLE SECURITY DEFINER ROWS 1 SET search_path = pg_catalog, public AS $$
    SELECT k.request_hash::text, k.status, k.body FROM public.idempotency_keys k
     WHERE k.scope = wanted_scope AND k.key = wanted_key AND k.expires_at > now()
$$;

GRANT EXECUTE ON FUNCTION take_idempotency_key(text, text),
    kept_idempotency_answer(text, text) TO app_user;

-- down

DROP FUNCTION kept_idempotency_answer(text, text), take_idempotency_key(text, text);
