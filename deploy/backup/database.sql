-- Rights on the database itself and its settings, which no dump has, from the :manifest.
SELECT format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database()) \gexec
SELECT format('GRANT %s ON DATABASE %I TO %s%s', g ->> 1, current_database(),
              coalesce(quote_ident(g ->> 0), 'PUBLIC'),
              CASE WHEN (g -> 2)::boolean THEN ' WITH GRANT OPTION' ELSE '' END)
FROM jsonb_array_elements(:'manifest'::jsonb -> 'grants') AS g \gexec
SELECT format('ALTER %s SET %I TO %s',
              coalesce('ROLE ' || quote_ident(s ->> 0) || ' IN ', '')
                  || 'DATABASE ' || quote_ident(current_database()), split_part(s ->> 1, '=', 1),
              CASE split_part(s ->> 1, '=', 1)
                  WHEN 'search_path' THEN (
                      SELECT string_agg(quote_literal(btrim(item, ' "')), ', ')
                      FROM regexp_split_to_table(substr(s ->> 1, strpos(s ->> 1, '=') + 1), ',') AS item)
                  ELSE quote_literal(substr(s ->> 1, strpos(s ->> 1, '=') + 1)) END)
FROM jsonb_array_elements(:'manifest'::jsonb -> 'settings') AS s \gexec
-- Tables without rows, which know their migrations all the same.
SELECT format('INSERT INTO public.schema_migrations
               SELECT * FROM jsonb_populate_recordset(NULL::public.schema_migrations, %L)', rows)
FROM (SELECT :'manifest'::jsonb -> 'migration_rows' AS rows) AS m
WHERE jsonb_typeof(rows) = 'array' \gexec
