-- 009_outbox_tokens.sql -- the tokens of letters stay no longer than they are needed.

-- A message that was sent, or given up, loses its token, whoever marks it.
CREATE FUNCTION forget_outbox_token() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    NEW.payload := NEW.payload - 'token';
    RETURN NEW;
END
$$;

CREATE TRIGGER forget_outbox_token BEFORE UPDATE OF sent_at, failed_at ON outbox
    FOR EACH ROW WHEN (COALESCE(NEW.sent_at, NEW.failed_at) IS NOT NULL AND NEW.payload ? 'token')
    EXECUTE FUNCTION forget_outbox_token();

UPDATE outbox SET payload = payload - 'token'
 WHERE COALESCE(sent_at, failed_at) IS NOT NULL AND payload ? 'token';

-- down

DROP TRIGGER forget_outbox_token ON outbox;
DROP FUNCTION forget_outbox_token();
