-- What a database holds, as JSON in the setting omade.survey: rows and a sum of every
-- table, the sequences, and the names of what guards and serves them.  Two surveys are
-- equal when nothing was lost, also across versions of PostgreSQL: what a version may word
-- differently (the text of a CHECK, a view) is not in it.  It writes nothing.
SET statement_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET lock_timeout = '60s';
SET row_security = off;        -- an error rather than some of the rows
SET search_path = pg_catalog;  -- every name with its schema
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET intervalstyle = 'postgres';
SET bytea_output = 'hex';
SET extra_float_digits = 1;

DO $survey$
DECLARE
    kind constant text := current_setting('omade.kind');
    tables jsonb := '{}';
    things jsonb;
    migrations jsonb;
    migration_rows jsonb;
    found record;
    rows bigint;
    sum numeric;
BEGIN
    FOR found IN
        SELECT c.oid, format('%I.%I', n.nspname, c.relname) AS name
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind = 'r' AND c.relpersistence <> 't'
          AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
          AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
                          AND d.objid = c.oid AND d.deptype = 'e')
        ORDER BY 2
    LOOP
        rows := 0;
        sum := 0;
        IF kind <> 'schema' THEN
            EXECUTE format($$
                SELECT count(*), coalesce(sum(
                    ('x' || left(md5((omade_row.*)::text), 16))::bit(64)::bigint), 0)
                FROM ONLY %s omade_row $$, found.name) INTO rows, sum;
        END IF;
        tables := tables || jsonb_build_object(found.name, jsonb_build_object(
            'rows', rows, 'sum', sum::text, 'bytes', pg_table_size(found.oid)));
    END LOOP;

    WITH spaces AS (
        SELECT oid, nspname, nspowner, nspacl FROM pg_namespace
        WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'
    ), foreigners AS (          -- members of extensions
        SELECT classid, objid FROM pg_depend WHERE deptype = 'e'
    ), relations AS (
        SELECT c.* FROM pg_class c JOIN spaces s ON s.oid = c.relnamespace
        WHERE c.relpersistence <> 't' AND NOT EXISTS (
            SELECT FROM foreigners f WHERE f.classid = 'pg_class'::regclass AND f.objid = c.oid)
    ), functions AS (
        SELECT p.* FROM pg_proc p JOIN spaces s ON s.oid = p.pronamespace
        WHERE NOT EXISTS (
            SELECT FROM foreigners f WHERE f.classid = 'pg_proc'::regclass AND f.objid = p.oid)
    ), grants AS (
        SELECT oid::regclass::text AS name,
               coalesce(relacl, acldefault(CASE relkind WHEN 'S' THEN 's' ELSE 'r' END::"char",
                                           relowner)) AS acl
        FROM relations WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
        UNION ALL
        SELECT format('%s (%I)', r.oid::regclass, a.attname), a.attacl
        FROM relations r JOIN pg_attribute a ON a.attrelid = r.oid
        WHERE a.attacl IS NOT NULL AND NOT a.attisdropped
        UNION ALL
        SELECT oid::regprocedure::text, coalesce(proacl, acldefault('f', proowner)) FROM functions
        UNION ALL
        SELECT 'schema ' || nspname, coalesce(nspacl, acldefault('n', nspowner)) FROM spaces
        UNION ALL
        SELECT 'database', coalesce(datacl, acldefault('d', datdba))
        FROM pg_database WHERE datname = current_database()
        UNION ALL
        SELECT format('new %s of %s in %s', defaclobjtype, defaclrole::regrole,
                      coalesce(s.nspname, 'all schemas')), defaclacl
        FROM pg_default_acl d LEFT JOIN spaces s ON s.oid = d.defaclnamespace
    ), named AS (
        SELECT 'column' AS kind, format('%s.%I %s%s', r.oid::regclass, a.attname,
                   format_type(a.atttypid, a.atttypmod),
                   CASE WHEN a.attnotnull THEN ' not null' END) AS name
        FROM relations r JOIN pg_attribute a ON a.attrelid = r.oid
        WHERE r.relkind IN ('r', 'p', 'v', 'm') AND a.attnum > 0 AND NOT a.attisdropped
        UNION ALL
        SELECT 'constraint', format('%s %I %s%s', r.oid::regclass, k.conname, k.contype,
                   CASE WHEN NOT k.convalidated THEN ' not valid' END)
        FROM relations r JOIN pg_constraint k ON k.conrelid = r.oid WHERE k.contype <> 'n'
        UNION ALL
        SELECT 'index', format('%s on %s%s%s', i.indexrelid::regclass, r.oid::regclass,
                   CASE WHEN i.indisunique THEN ' unique' END,
                   CASE WHEN NOT i.indisvalid THEN ' invalid' END)
        FROM relations r JOIN pg_index i ON i.indrelid = r.oid
        UNION ALL
        SELECT 'trigger', format('%s %I %s', r.oid::regclass, t.tgname, t.tgenabled)
        FROM relations r JOIN pg_trigger t ON t.tgrelid = r.oid WHERE NOT t.tgisinternal
        UNION ALL
        SELECT 'function', format('%s %s%s', oid::regprocedure, md5(prosrc),
                   CASE WHEN prosecdef THEN ' security definer' END) FROM functions
        UNION ALL
        SELECT 'view', format('%s%s', oid::regclass,
                   CASE WHEN NOT relispopulated THEN ' empty' END)
        FROM relations WHERE relkind IN ('v', 'm')
        UNION ALL
        SELECT 'row security', format('%s%s', oid::regclass,
                   CASE WHEN relforcerowsecurity THEN ' forced' END)
        FROM relations WHERE relrowsecurity
        UNION ALL
        SELECT 'policy', format('%s %I %s %s %s', r.oid::regclass, p.polname, p.polcmd,
                   p.polpermissive, (SELECT string_agg(pg_get_userbyid(o), ',' ORDER BY 1)
                                     FROM unnest(p.polroles) o))
        FROM relations r JOIN pg_policy p ON p.polrelid = r.oid
        UNION ALL
        SELECT 'grant', format('%s: %s %s%s', g.name, a.privilege_type,
                   CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(a.grantee) END,
                   CASE WHEN a.is_grantable THEN ' with grant option' END)
        FROM grants g CROSS JOIN aclexplode(g.acl) a
        WHERE a.privilege_type <> 'MAINTAIN'    -- every owner has it from 17 on
    )
    SELECT jsonb_object_agg(named_kind, names) INTO things FROM (
        SELECT n.kind AS named_kind, jsonb_agg(n.name ORDER BY n.name COLLATE "C") AS names
        FROM named n GROUP BY n.kind) AS by_kind;

    IF to_regclass('public.schema_migrations') IS NOT NULL THEN
        EXECUTE 'SELECT jsonb_agg(name ORDER BY name) FROM public.schema_migrations' INTO migrations;
        IF kind = 'schema' THEN
            EXECUTE 'SELECT jsonb_agg(to_jsonb(m) ORDER BY name) FROM public.schema_migrations m'
            INTO migration_rows;
        END IF;
    END IF;

    PERFORM set_config('omade.survey', jsonb_build_object(
        'migrations', migrations,
        'migration_rows', migration_rows,
        'tables', tables,
        'things', coalesce(things, '{}'),
        'sequences', (
            SELECT coalesce(jsonb_object_agg(format('%I.%I', schemaname, sequencename),
                                             coalesce(last_value, 0)), '{}')
            FROM pg_sequences WHERE schemaname !~ '^pg_')
    )::text, false);
END
$survey$;
