--- Roles, grants and row-level security against what they should be.  Everything found is
-- told by tell.problem(format, ...).

local expected = require "bakery.rules.rights"
local json     = require "omade.json"

local rights = {}

local ROLES <const> = [[
  SELECT r.rolname AS name, r.rolsuper AS superuser, r.rolbypassrls AS bypass, r.rolcreaterole AS roles,
         r.rolcreatedb AS databases, r.rolcanlogin AS signs_in,
         array_to_string(ARRAY(SELECT m.rolname FROM pg_auth_members a JOIN pg_roles m ON m.oid = a.roleid
                               WHERE a.member = r.oid ORDER BY 1), ', ') AS member_of,
         (SELECT count(*) FROM pg_class c WHERE c.relowner = r.oid) AS owns,
         has_schema_privilege(r.oid, 'public', 'CREATE') AS creates,
         has_schema_privilege(r.oid, 'public', 'USAGE') AS uses,
         has_database_privilege(r.oid, current_database(), 'CONNECT') AS connects,
         has_database_privilege(r.oid, current_database(), 'TEMP') AS temporary
  FROM pg_roles r WHERE r.rolname IN ('omade_owner', 'app_user', 'readonly_user')]]

local function check_any_role(name, role, tell)
  if role.signs_in == "f" then tell.problem("role %s may not sign in: ALTER ROLE %s LOGIN", name, name) end
  if role.superuser == "t" then tell.problem("role %s is a superuser: ALTER ROLE %s NOSUPERUSER", name, name) end
  if role.bypass == "t" then tell.problem("role %s passes by row-level security: ALTER ROLE %s NOBYPASSRLS", name, name) end
  if role.roles == "t" then tell.problem("role %s may make roles: ALTER ROLE %s NOCREATEROLE", name, name) end
end

local function check_bound_role(name, role, tell)
  if role.databases == "t" then tell.problem("role %s may make databases: ALTER ROLE %s NOCREATEDB", name, name) end
  if role.member_of ~= "" then tell.problem("role %s is a member of %s", name, role.member_of) end
  if role.owns ~= "0" then tell.problem("role %s owns %s relations; only omade_owner should", name, role.owns) end
  if role.creates == "t" then tell.problem("role %s may CREATE in the schema public", name) end
  if role.temporary == "t" then tell.problem("role %s may make temporary tables", name) end
  if role.uses == "f" then tell.problem("role %s lacks USAGE on the schema public", name) end
  if role.connects == "f" then tell.problem("role %s lacks CONNECT on this database", name) end
end

function rights.roles(rows, tell)
  local by_name = {}
  for _, role in ipairs(rows(ROLES)) do by_name[role.name] = role end
  for _, name in ipairs { "omade_owner", "app_user", "readonly_user" } do
    local role = by_name[name]
    if not role then
      tell.problem("role %s is missing: docs/data.md tells how to make it", name)
    else
      check_any_role(name, role, tell)
      if name ~= "omade_owner" then check_bound_role(name, role, tell) end
    end
  end
end

---- Grants --------------------------------------------------------------------------------

local SOURCE <const> = [[
  FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'S')
    AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')]]

local GRANTS <const> = [[
  SELECT t.relname AS name, t.relkind AS kind, COALESCE(r.rolname, 'PUBLIC') AS role, t.attname AS column, a.privilege_type AS right
  FROM (
    SELECT c.relname, c.relkind, c.relowner, NULL::name AS attname, c.relacl AS acl ]] .. SOURCE .. [[
    UNION ALL
    SELECT c.relname, c.relkind, c.relowner, x.attname, x.attacl
    FROM (SELECT c.oid, c.relname, c.relkind, c.relowner ]] .. SOURCE .. [[) c
    JOIN pg_attribute x ON x.attrelid = c.oid AND x.attacl IS NOT NULL AND NOT x.attisdropped) t
  CROSS JOIN LATERAL aclexplode(t.acl) a
  LEFT JOIN pg_roles r ON r.oid = a.grantee
  WHERE a.grantee <> t.relowner
  ORDER BY 1, 3, 5, 4]]

local function is_in(list, name)
  for _, each in ipairs(list) do
    if each == name then return true end
  end
  return false
end

local function app_may(grant)
  local name, right = grant.name, grant.right
  if right == "SELECT" then return true end
  if grant.kind == "S" then return right == "USAGE" end
  if grant.kind == "v" or grant.kind == "m" then return false end
  if right == "INSERT" then return not expected.reads_only[name] end
  if right == "DELETE" then return expected.deletes[name] == true end
  if right ~= "UPDATE" then return false end
  local columns = expected.changes[name]
  return columns == nil or columns == true or columns and grant.column ~= nil and is_in(columns, grant.column)
end

local function reports_may(grant)
  local hidden = expected.hidden[grant.name]
  if grant.right ~= "SELECT" or hidden == true then return false end
  return not hidden or grant.column ~= nil and not is_in(hidden, grant.column)
end

local function may(grant)
  if grant.role == "app_user" then return app_may(grant) end
  return grant.role == "readonly_user" and reports_may(grant)
end

-- What should be there: (role, table, column or null, right).
local LACKS <const> = [[
  SELECT format('%s lacks %s on %s', w.role, w.right, w.name || COALESCE('.' || w.column, '')) AS text
  FROM json_to_recordset($1::json) AS w(role text, name text, "column" text, "right" text)
  JOIN pg_class c ON c.relname = w.name AND c.relnamespace = 'public'::regnamespace
  JOIN pg_roles r ON r.rolname = w.role
  WHERE NOT CASE WHEN w.column IS NULL THEN has_table_privilege(r.oid, c.oid, w.right)
                 WHEN NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = w.column) THEN true
                 ELSE has_column_privilege(r.oid, c.oid, w.column, w.right) END
  ORDER BY 1]]

local UNUSABLE <const> = [[
  SELECT c.oid::regclass AS name ]] .. SOURCE .. [[ AND c.relkind = 'S'
    AND NOT COALESCE((SELECT has_sequence_privilege(r.oid, c.oid, 'USAGE') FROM pg_roles r WHERE r.rolname = 'app_user'), true)
  ORDER BY 1]]

local function wanted()
  local list = {}
  local function want(name, right, column)
    list[#list + 1] = { role = "app_user", name = name, right = right, column = column }
  end
  for name, columns in pairs(expected.changes) do
    want(name, "SELECT")
    if not expected.reads_only[name] then want(name, "INSERT") end
    if expected.deletes[name] then want(name, "DELETE") end
    if columns == true then want(name, "UPDATE") end
    for _, column in ipairs(columns and columns ~= true and columns or {}) do want(name, "UPDATE", column) end
    if not expected.hidden[name] then
      list[#list + 1] = { role = "readonly_user", name = name, right = "SELECT" }
    end
  end
  return list
end

function rights.grants(rows, tell)
  for _, grant in ipairs(rows(GRANTS)) do
    if not may(grant) then
      local right = grant.right .. (grant.column and " (" .. grant.column .. ")" or "")
      local name = (grant.kind == "S" and "SEQUENCE " or "") .. grant.name
      tell.problem("%s has %s on %s, which is too much: REVOKE %s ON %s FROM %s", grant.role, right, grant.name, right,
                   name, grant.role)
    end
  end
  for _, lack in ipairs(rows(LACKS, json.encode(wanted()))) do tell.problem("%s", lack.text) end
  for _, sequence in ipairs(rows(UNUSABLE)) do
    tell.problem("app_user lacks USAGE on %s: GRANT USAGE, SELECT ON SEQUENCE %s TO app_user", sequence.name, sequence.name)
  end
end

---- Defaults ------------------------------------------------------------------------------

-- Of the role that owns the tables, wherever it makes them.
local DEFAULTS <const> = [[
  SELECT COALESCE(r.rolname, 'PUBLIC') AS role, a.privilege_type AS right,
         CASE d.defaclobjtype WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES' WHEN 'f' THEN 'FUNCTIONS'
                              ELSE 'SCHEMAS' END AS of,
         CASE WHEN d.defaclnamespace = 0 THEN '' ELSE 'IN SCHEMA public ' END AS place
  FROM pg_default_acl d CROSS JOIN LATERAL aclexplode(d.defaclacl) a LEFT JOIN pg_roles r ON r.oid = a.grantee
  WHERE d.defaclrole = (SELECT relowner FROM pg_class WHERE oid = to_regclass('public.users'))
    AND d.defaclobjtype <> 'T' AND d.defaclnamespace IN (0, 'public'::regnamespace) AND a.grantee <> d.defaclrole
  ORDER BY 3, 1, 2]]

-- Everybody may call new functions, unless the owner has a default of its own.
local CALLED_BY_ALL <const> = [[
  SELECT c.relowner FROM pg_class c WHERE c.oid = to_regclass('public.users') AND NOT EXISTS (
    SELECT FROM pg_default_acl d WHERE d.defaclrole = c.relowner AND d.defaclobjtype = 'f' AND d.defaclnamespace = 0)]]

local function key_of(role, right, of) return role .. " " .. right .. " ON " .. of end

--- What tables, sequences and functions of later migrations are granted.
function rights.defaults(rows, tell)
  local given, wanted_by_key = {}, {}
  if not rows("SELECT to_regclass('public.users') AS users")[1].users then return end
  for _, each in ipairs(expected.defaults) do wanted_by_key[key_of(table.unpack(each))] = true end
  for _, grant in ipairs(rows(DEFAULTS)) do
    local key = key_of(grant.role, grant.right, grant.of)
    given[key] = true
    if not wanted_by_key[key] then
      tell.problem("%s gets %s ON %s of later migrations, which is too much: ALTER DEFAULT PRIVILEGES %sREVOKE %s ON %s "
                   .. "FROM %s", grant.role, grant.right, grant.of, grant.place, grant.right, grant.of, grant.role)
    end
  end
  for _, each in ipairs(expected.defaults) do
    local role, right, of = table.unpack(each)
    if not given[key_of(role, right, of)] then
      tell.problem("%s does not get %s ON %s of later migrations: ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT %s ON %s "
                   .. "TO %s", role, right, of, right, of, role)
    end
  end
  if #rows(CALLED_BY_ALL) > 0 then
    tell.problem "functions of later migrations may be called by anybody: ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC"
  end
end

---- Functions -----------------------------------------------------------------------------

local FUNCTIONS <const> = [[
  SELECT p.oid::regprocedure AS name,
         p.prosecdef AND NOT EXISTS (SELECT FROM unnest(p.proconfig) x WHERE x LIKE 'search_path=%') AS open,
         p.proacl IS NULL OR EXISTS (SELECT FROM aclexplode(p.proacl) a WHERE a.grantee = 0) AS public
  FROM pg_proc p WHERE p.pronamespace = 'public'::regnamespace AND p.prokind = 'f'
    AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e') ORDER BY 1]]

local CALLERS <const> = [[
  SELECT r.rolname AS role, p.proname AS short, p.oid::regprocedure AS name, has_function_privilege(r.oid, p.oid, 'EXECUTE') AS may,
         EXISTS (SELECT FROM aclexplode(p.proacl) a WHERE a.grantee = r.oid) AS granted
  FROM pg_proc p CROSS JOIN pg_roles r
  WHERE p.pronamespace = 'public'::regnamespace AND p.prokind = 'f' AND r.rolname IN ('app_user', 'readonly_user')
    AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e') ORDER BY 1, 3]]

function rights.functions(rows, tell)
  for _, f in ipairs(rows(FUNCTIONS)) do
    if f.open == "t" then
      tell.problem("function %s is SECURITY DEFINER without a search_path: callers choose what it calls", f.name)
    end
    if f.public == "t" then
      tell.problem("function %s may be called by anybody: REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC", f.name, f.name)
    end
  end
  for _, each in ipairs(rows(CALLERS)) do
    local may_call = is_in(expected.calls[each.role], each.short)
    if may_call and each.may == "f" then
      tell.problem("%s may not call %s: GRANT EXECUTE ON FUNCTION %s TO %s", each.role, each.name, each.name, each.role)
    elseif not may_call and each.granted == "t" then
      tell.problem("%s may call %s, which is too much: REVOKE EXECUTE ON FUNCTION %s FROM %s", each.role, each.name,
                   each.name, each.role)
    end
  end
end

---- Row-level security --------------------------------------------------------------------

local SECURITY <const> = [[
  SELECT c.relname AS name, c.relrowsecurity AS on, c.relforcerowsecurity AS forced,
         EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid) AS policies
  FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
    AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e') ORDER BY 1]]

local VIEWS <const> = [[
  SELECT c.relname AS name, has_table_privilege('app_user', c.oid, 'SELECT') AS readable,
         COALESCE(c.reloptions::text[] && ARRAY['security_invoker=true', 'security_invoker=on'], false) AS invoker
  FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'v'
    AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e') ORDER BY 1]]

function rights.row_security(rows, tell)
  for _, found in ipairs(rows(SECURITY)) do
    local name = found.name
    if not expected.without_row_security[name] then
      if found.on == "f" then
        tell.problem("row-level security is off on %s: everybody sees every row; ALTER TABLE %s ENABLE ROW LEVEL SECURITY",
                name, name)
      elseif found.policies == "f" then
        tell.problem("%s has row-level security and no policy: the server sees nothing of it", name)
      end
      if found.forced == "t" then
        tell.problem("row-level security is forced on %s: triggers of the owner see nothing, and pg_dump fails; "
                .. "ALTER TABLE %s NO FORCE ROW LEVEL SECURITY", name, name)
      end
    end
  end
end

function rights.views(rows, tell)
  for _, view in ipairs(rows(VIEWS)) do
    if view.invoker == "f" and view.readable == "t" and not expected.definer_views[view.name] then
      tell.problem("view %s asks with its owner's rights, past row-level security: "
              .. "ALTER VIEW %s SET (security_invoker = true)", view.name, view.name)
    end
  end
end

return rights
