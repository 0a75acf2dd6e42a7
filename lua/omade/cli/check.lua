--- Before serving: is the database fit?  Run as the server's role, on a session of its own.

local engine  = require "omade.core.engine"
local migrate = require "omade.cli.migrate"
local session = require "omade.core.session"

local OWNER <const> = [[
  SELECT current_user AS name, r.rolsuper OR r.rolbypassrls OR
    EXISTS (SELECT FROM pg_class c WHERE c.relowner = r.oid AND c.relkind = 'r'
            AND c.relnamespace = to_regnamespace('public')) AS unbound
  FROM pg_roles r WHERE r.rolname = current_user]]

local function rows(s, sql)
  local found, why = s:run(sql)
  if not found then error("the database cannot be checked: " .. why, 0) end
  return found
end

local function check_role(s)
  local role = rows(s, OWNER)[1]
  local allowed = engine.setting "ALLOW_OWNER"

  if allowed == "1" or allowed == "on" or allowed == "true" or allowed == "yes" then return end
  if role.unbound == "t" then
    error(("APP_DATABASE_URL connects as %s, a superuser or the owner of the tables, for whom "
           .. "row-level security does not count; use app_user (or set ALLOW_OWNER=1)")
          :format(role.name), 0)
  end
end

local function check_migrations(s)
  local has = rows(s, "SELECT to_regclass('schema_migrations') AS t")[1].t
  local done = {}

  if has then
    for _, row in ipairs(rows(s, "SELECT name FROM schema_migrations")) do done[row.name] = true end
  end
  for _, migration in ipairs(migrate.read_all()) do
    if not done[migration.name] then
      error("migration " .. migration.name .. " is missing; run: omade migrate up", 0)
    end
  end
end

--- Both know the shop's days.
local function check_timezone(s)
  local name = engine.setting "SHOP_TIMEZONE" or "UTC"
  if #rows(s, "SELECT FROM pg_timezone_names WHERE name = '" .. name:gsub("'", "''") .. "'") == 0 then
    error("SHOP_TIMEZONE is '" .. name .. "', a time zone that PostgreSQL does not know", 0)
  end
end

local function main()
  local s = session.connect "APP_DATABASE_URL"
  check_role(s)
  check_migrations(s)
  check_timezone(s)
  s:close()
  return 0
end

return { main = main }
