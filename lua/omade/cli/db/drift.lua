--- Tables, indexes, triggers and policies against what the applied migrations make: somebody
-- may have dropped one by hand, or added a policy that opens a table.

local migrate = require "omade.cli.migrate"

local drift = {}

---- What migrations make --------------------------------------------------------------------

local NOISE <const> = { "OR REPLACE ", "UNIQUE ", "CONSTRAINT ", "CONCURRENTLY ", "IF NOT EXISTS ", "IF EXISTS ", "ONLY ",
                        "public%." }

--- One statement in one line, without words that do not matter here: "INDEX idx_a ON a (b)".
local function plain(statement)
  local text = statement:gsub("%s+", " ")
  for _, word in ipairs(NOISE) do text = text:gsub(word, "") end
  return text
end

--- "table a", "index a", "trigger a on b", "policy a on b"; nil for anything else.
local function object_of(text)
  local kind, name = text:match "^(%u+) ([%w_]+)"
  if kind == "TABLE" or kind == "INDEX" then return kind:lower() .. " " .. name end
  if kind ~= "TRIGGER" and kind ~= "POLICY" then return nil end
  local on = text:match " ON ([%w_]+)"
  return on and ("%s %s on %s"):format(kind:lower(), name, on)
end

--- A list may be dropped by one statement.
local function drop(made, text)
  local kind, names = text:match "^(%u+) (.*)$"
  if kind == "TABLE" or kind == "INDEX" then
    for name in names:gmatch "[%w_]+" do made[kind:lower() .. " " .. name] = nil end
  else
    made[object_of(text) or ""] = nil
  end
end

--- What exists after these migrations: object -> name of its migration.  Statements begin at the
--- beginning of a line, those within functions do not.
---@param applied table<string, any> names of migrations
---@return table<string, string>
local function made_by(applied)
  local made = {}
  for _, migration in ipairs(migrate.read_all()) do
    for verb, rest in ("\n" .. (applied[migration.name] and migration.up or "")):gmatch "\n(%u+)%s+([^;]*)" do
      local text = plain(rest)
      local object = object_of(text)
      if verb == "CREATE" and object then made[object] = migration.name end
      if verb == "DROP" then drop(made, text) end
    end
  end
  return made
end

---- What there is -----------------------------------------------------------------------------

local PRESENT <const> = [[
  SELECT CASE c.relkind WHEN 'i' THEN 'index ' ELSE 'table ' END || c.relname AS object, false AS off, '' AS on
  FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'i')
  UNION ALL
  SELECT format('trigger %s on %s', t.tgname, c.relname), t.tgenabled = 'D', c.relname
  FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
  WHERE NOT t.tgisinternal AND c.relnamespace = 'public'::regnamespace
  UNION ALL
  SELECT format('policy %s on %s', p.polname, c.relname), false, c.relname
  FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid WHERE c.relnamespace = 'public'::regnamespace
  ORDER BY 1]]

--- A check of `omade db doctor`.
function drift.check(rows, tell)
  if not rows("SELECT to_regclass('schema_migrations') AS t")[1].t then return end
  local applied, present, lost = {}, {}, {}
  for _, row in ipairs(rows "SELECT name FROM schema_migrations") do applied[row.name] = true end
  local made = made_by(applied)
  for _, row in ipairs(rows(PRESENT)) do
    present[row.object] = true
    if row.off == "t" then
      tell.problem("%s is switched off: ALTER TABLE %s ENABLE TRIGGER %s", row.object, row.on, row.object:match " (%S+) ")
    elseif row.object:find "^policy " and not made[row.object] then
      tell.problem("%s is in no migration: who sees more by it? DROP POLICY %s ON %s", row.object,
                   row.object:match " (%S+) ", row.on)
    end
  end
  for object in pairs(made) do
    if not present[object] then lost[#lost + 1] = object end
  end
  table.sort(lost)
  for _, object in ipairs(lost) do
    tell.problem("%s is missing: migrations/%s.sql makes it", object, made[object])
  end
end

return drift
