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
