--- omade migrate [up|down|status]
--
-- Files migrations/NNN_name.sql, in order, each in a transaction, recorded with a
-- checksum in schema_migrations.  An optional part behind a line "-- down" undoes it.
-- Two processes that migrate at once exclude each other by an advisory lock.

local crypto  = require "omade.crypto"
local files   = require "omade.core.files"
local session = require "omade.core.session"

local LOCK <const> = "SELECT pg_advisory_lock(hashtextextended('omade.migrate', 0))"

local TABLE <const> = [[
  CREATE TABLE IF NOT EXISTS schema_migrations (
    name       text PRIMARY KEY,
    checksum   text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
  );
  DO $$ BEGIN       -- the server looks whether a migration is missing
    GRANT SELECT ON schema_migrations TO app_user, readonly_user;
  EXCEPTION WHEN undefined_object THEN NULL;
  END $$]]

---- Files -----------------------------------------------------------------------------

local function read_file(folder, name)
  local text, why = files.read(folder .. "/" .. name)
  if not text then error("migrations/" .. name .. ": " .. tostring(why), 0) end
  local up, down = text:match("^(.-)\n%-%- down[ \t]*\n(.*)$")
  return { name = name:sub(1, -5), up = up or text, down = down, checksum = crypto.sha256(text) }
end

local function read_all()
  local folder = files.home() .. "/migrations"
  local names, why = files.list(folder)
  if not names then error(folder .. ": " .. tostring(why), 0) end
  local all_files = {}
  for _, name in ipairs(names) do
    if name:find("^%d%d%d_[%w_]+%.sql$") then all_files[#all_files + 1] = read_file(folder, name) end
  end
  return all_files
end

---- What is applied -----------------------------------------------------------------------

--- Rows, or an error that names what was run.
local function rows_of(what, rows, why)
  if not rows then error(what .. ": " .. why, 0) end
  return rows
end

local function applied(s)
  local by_name = {}
  local exists = rows_of("schema_migrations", s:run "SELECT to_regclass('schema_migrations') AS t")
  if exists[1].t then
    for _, row in ipairs(rows_of("schema_migrations",
                                 s:run "SELECT name, checksum FROM schema_migrations")) do
      by_name[row.name] = row.checksum
    end
  end
  return by_name
end

--- Applied files are frozen: one that was changed afterwards is refused.
local function check(migrations, done)
  for _, migration in ipairs(migrations) do
    local checksum = done[migration.name]
    if checksum and checksum ~= migration.checksum then
      error("migrations/" .. migration.name .. ".sql was changed after it was applied; "
            .. "undo the change, and put it into a new file", 0)
    end
  end
end

local function say(...)
  files.print(string.format(...) .. "\n")
end

---- Commands -------------------------------------------------------------------------------

--- The file's statements and the record, in one transaction.
local function run(s, name, script, record, ...)
  rows_of(name, s:run "BEGIN")
  local ok, fault = pcall(function(...)
    rows_of(name, s:run(script))
    rows_of(name, s:query(record, ...))
    rows_of(name, s:run "COMMIT")
  end, ...)
  if not ok then
    s:run "ROLLBACK"
    error(fault, 0)
  end
end

local function up(s)
  local migrations, count = read_all(), 0

  rows_of("schema_migrations", s:run(TABLE))
  local done = applied(s)
  check(migrations, done)
  for _, migration in ipairs(migrations) do
    if not done[migration.name] then
      run(s, migration.name, migration.up,
          "INSERT INTO schema_migrations (name, checksum) VALUES ($1, $2)",
          migration.name, migration.checksum)
      say("applied %s", migration.name)
      count = count + 1
    end
  end
  if count == 0 then say("the database is up to date") end
end

--- Undoes the newest.
local function down(s)
  local migrations, done = read_all(), applied(s)

  check(migrations, done)
  for i = #migrations, 1, -1 do
    local migration = migrations[i]
    if done[migration.name] then
      if not migration.down then error(migration.name .. " has no part '-- down'", 0) end
      run(s, migration.name, migration.down, "DELETE FROM schema_migrations WHERE name = $1",
          migration.name)
      say("undid %s", migration.name)
      return
    end
  end
  say("nothing is applied")
end

local function status(s)
  local migrations, done = read_all(), applied(s)

  check(migrations, done)
  for _, migration in ipairs(migrations) do
    say("%-9s %s", done[migration.name] and "applied" or "missing", migration.name)
  end
end

local commands = { up = up, down = down, status = status }

local function main(arguments)
  local command = commands[arguments[1] or "up"]
  if not command or #arguments > 1 then
    files.warn("omade migrate: up, down or status is expected; usage: omade migrate [up|down|status]\n")
    return 2
  end
  local s = session.connect()
  rows_of("the lock of migrations", s:run(LOCK))    -- held until the session ends
  command(s)
  s:close()
  return 0
end

return { main = main, read_all = read_all }
