--- Before serving: is the database fit?  Run as the server's role.

local db      = require "omade.db"
local engine  = require "omade.core.engine"
local migrate = require "omade.cli.migrate"

local OWNER <const> = [[
  SELECT current_user AS name, r.rolsuper AS super, r.rolbypassrls AS bypass,
    EXISTS (SELECT FROM pg_class c WHERE c.relowner = r.oid AND c.relkind = 'r'
            AND c.relnamespace = 'public'::regnamespace) AS owner
  FROM pg_roles r WHERE r.rolname = current_user]]

local function reach()
  local ok, fault = pcall(db.row, "SELECT 1")
  if ok then return end
  error("PostgreSQL cannot be reached with APP_DATABASE_URL: "
        .. tostring(type(fault) == "table" and (fault.sql_message or fault.detail) or fault), 0)
end

local function check_role()
  local role = db.row(OWNER)
  local allowed = engine.setting "ALLOW_OWNER"

  if allowed == "1" or allowed == "on" or allowed == "true" then return end
  if role.super or role.bypass or role.owner then
    error(("APP_DATABASE_URL connects as %s, a superuser or the owner of the tables, for whom "
           .. "row-level security does not count; use app_user (or set ALLOW_OWNER=1)")
          :format(role.name), 0)
  end
end

local function check_migrations()
  local has = db.row("SELECT to_regclass('schema_migrations') AS t").t
  local done = {}

  if has then
    for _, row in ipairs(db.rows "SELECT name FROM schema_migrations") do done[row.name] = true end
  end
  for _, migration in ipairs(migrate.read_all()) do
    if not done[migration.name] then
      error("migration " .. migration.name .. " is missing; run: omade migrate up", 0)
    end
  end
end

local function main()
  reach()
  check_role()
  check_migrations()
  return 0
end

return { main = main }
