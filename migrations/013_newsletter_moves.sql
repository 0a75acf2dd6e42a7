-- 013_newsletter_moves.sql -- the newsletter follows its reader to another address: it stays
-- what the account can see, and what goes with it.

-- An address that has a subscription of its own keeps that one.
CREATE FUNCTION move_subscription() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
BEGIN
    DELETE FROM public.newsletter_subscribers
     WHERE email = OLD.email
       AND EXISTS (SELECT FROM public.newsletter_subscribers WHERE email = NEW.email);
    UPDATE public.newsletter_subscribers SET email = NEW.email WHERE email = OLD.email;
    RETURN NULL;
END
$$;

CREATE TRIGGER move_subscription AFTER UPDATE OF email ON users
    FOR EACH ROW WHEN (OLD.email <> NEW.email AND NEW.deleted_at IS NULL)
    EXECUTE FUNCTION move_subscription();

-- down

DROP TRIGGER move_subscription ON users;
DROP FUNCTION move_subscription();
