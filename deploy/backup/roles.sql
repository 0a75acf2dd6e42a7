-- The roles of the backup whose :manifest this is that the server lacks, without passwords.
CREATE TEMPORARY TABLE lacking AS
    SELECT r FROM jsonb_array_elements(:'manifest'::jsonb -> 'roles') AS r
    WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = r ->> 'name');
SELECT format('CREATE ROLE %I %s %s %s %s', r ->> 'name',
              CASE WHEN (r -> 'login')::boolean THEN 'LOGIN' ELSE 'NOLOGIN' END,
              CASE WHEN (r -> 'inherit')::boolean THEN 'INHERIT' ELSE 'NOINHERIT' END,
              CASE WHEN (r -> 'createdb')::boolean THEN 'CREATEDB' ELSE 'NOCREATEDB' END,
              CASE WHEN (r -> 'createrole')::boolean THEN 'CREATEROLE' ELSE 'NOCREATEROLE' END)
FROM lacking \gexec
SELECT format('ALTER ROLE %I SET %I TO %s', r ->> 'name', split_part(s, '=', 1),
              CASE split_part(s, '=', 1)
                  WHEN 'search_path' THEN (
                      SELECT string_agg(quote_literal(btrim(item, ' "')), ', ')
                      FROM regexp_split_to_table(substr(s, strpos(s, '=') + 1), ',') AS item)
                  ELSE quote_literal(substr(s, strpos(s, '=') + 1)) END)
FROM lacking, jsonb_array_elements_text(r -> 'settings') AS s \gexec
SELECT format('GRANT %I TO %I', parent, role ->> 'name')
FROM jsonb_array_elements(:'manifest'::jsonb -> 'roles') AS role,
     jsonb_array_elements_text(role -> 'member_of') AS parent
WHERE EXISTS (SELECT FROM lacking WHERE r ->> 'name' IN (parent, role ->> 'name')) \gexec
SELECT 'omade: note: made the role ' || (r ->> 'name') || ', without a password' FROM lacking;
