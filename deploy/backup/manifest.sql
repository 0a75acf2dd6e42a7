-- The manifest of a backup, but for what is known when the dump is done.  Roles are those
-- that the database mentions and what they are members of: no password, no superuser.
WITH RECURSIVE mentioned AS (
    SELECT refobjid AS oid FROM pg_shdepend d
    WHERE refclassid = 'pg_authid'::regclass AND (
        dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
        OR (dbid = 0 AND classid = 'pg_database'::regclass
            AND objid = (SELECT oid FROM pg_database WHERE datname = current_database())))
    UNION
    SELECT datdba FROM pg_database WHERE datname = current_database()
    UNION
    SELECT a.roleid FROM pg_auth_members a JOIN mentioned m ON m.oid = a.member
), roles AS (
    SELECT jsonb_agg(jsonb_build_object(
        'name', r.rolname, 'login', r.rolcanlogin, 'inherit', r.rolinherit,
        'createdb', r.rolcreatedb, 'createrole', r.rolcreaterole,
        'settings', coalesce((SELECT to_jsonb(s.setconfig) FROM pg_db_role_setting s
                              WHERE s.setrole = r.oid AND s.setdatabase = 0), '[]'),
        'member_of', coalesce((SELECT jsonb_agg(pg_get_userbyid(a.roleid) ORDER BY 1)
                               FROM pg_auth_members a WHERE a.member = r.oid), '[]'))
        ORDER BY r.rolname) AS list
    FROM pg_roles r WHERE r.oid IN (SELECT oid FROM mentioned) AND r.rolname !~ '^pg_'
)
SELECT jsonb_build_object(
    'format', 'omade-backup-1',
    'kind', current_setting('omade.kind'),
    'database', d.datname,
    'owner', pg_get_userbyid(d.datdba),
    'encoding', pg_encoding_to_char(d.encoding), 'collate', d.datcollate, 'ctype', d.datctype,
    'taken_at', to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
    'server', current_setting('server_version'),
    'database_bytes', pg_database_size(d.oid),
    'extensions', (SELECT coalesce(jsonb_object_agg(e.extname, n.nspname), '{}')
                   FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace),
    'roles', coalesce((SELECT list FROM roles), '[]'),
    'grants', (SELECT jsonb_agg(jsonb_build_array(
                   CASE a.grantee WHEN 0 THEN NULL ELSE pg_get_userbyid(a.grantee) END,
                   a.privilege_type, a.is_grantable))
               FROM aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a),
    'settings', (SELECT coalesce(jsonb_agg(jsonb_build_array(r.rolname, setting)), '[]')
                 FROM pg_db_role_setting s LEFT JOIN pg_roles r ON r.oid = s.setrole
                 CROSS JOIN unnest(s.setconfig) AS setting WHERE s.setdatabase = d.oid)
) || current_setting('omade.survey')::jsonb
FROM pg_database d WHERE d.datname = current_database();
