--- omade db maintain daily|weekly [--dry-run]
--
-- daily    what changed since the last time: VACUUM and ANALYZE of those tables
-- weekly   VACUUM (ANALYZE) of all tables
-- both     invalid indexes, which an aborted CONCURRENTLY left, are dropped or rebuilt;
--          indexes that are mostly air are rebuilt, CONCURRENTLY
--
-- All of it lets the server read and write meanwhile.  One at a time (advisory lock).

local ask     = require "omade.cli.db.ask"
local bloat   = require "omade.cli.db.bloat"
local files   = require "omade.core.files"
local machine = require "omade.core.machine"
local print   = require "omade.cli.db.print"
local session = require "omade.core.session"

local LOCK <const> = "SELECT pg_try_advisory_lock(hashtextextended('omade.maintain', 0)) AS got"

-- As gentle as autovacuum.  A lock that does not come is given up (PGOPTIONS may say when); so
-- is the work when this process is gone.
local SETTINGS <const> = [[
  SELECT set_config('lock_timeout', '60s', false) WHERE current_setting('lock_timeout') = '0';
  SET statement_timeout = 0; SET vacuum_cost_delay = '2ms';
  SET client_connection_check_interval = '2s']]

local TABLES <const> = [[
  SELECT quote_ident(s.schemaname) || '.' || quote_ident(s.relname) AS name,
         s.n_dead_tup > 0 OR s.n_ins_since_vacuum > 0
           OR (GREATEST(s.last_vacuum, s.last_autovacuum) IS NULL AND s.n_live_tup > 0) AS vacuum,
         s.n_mod_since_analyze > 0
           OR (GREATEST(s.last_analyze, s.last_autoanalyze) IS NULL AND s.n_live_tup > 0) AS analyze
  FROM pg_stat_user_tables s JOIN pg_class c ON c.oid = s.relid
  WHERE pg_has_role(c.relowner, 'USAGE') AND c.relpersistence <> 't'
  ORDER BY pg_table_size(s.relid), name]]

-- Not those that are made just now.
local INVALID <const> = [[
  SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS name,
         c.relname ~ '_cc(new|old)[0-9]*$' AS leftover
  FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE NOT i.indisvalid AND c.relkind = 'i' AND n.nspname !~ '^pg_' AND pg_has_role(c.relowner, 'USAGE')
    AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index p WHERE p.relid = i.indrelid)
  ORDER BY name]]

---- Progress ------------------------------------------------------------------------------

local PROGRESS <const> = [[
  SELECT 'vacuum' AS of, phase, heap_blks_scanned AS done, heap_blks_total AS total
    FROM pg_stat_progress_vacuum WHERE pid = $1::int
  UNION ALL
  SELECT 'analyze', phase, sample_blks_scanned, sample_blks_total
    FROM pg_stat_progress_analyze WHERE pid = $1::int
  UNION ALL
  SELECT 'index', phase, CASE WHEN blocks_total > 0 THEN blocks_done ELSE tuples_done END,
         CASE WHEN blocks_total > 0 THEN blocks_total ELSE tuples_total END
    FROM pg_stat_progress_create_index WHERE pid = $1::int]]

local WIDTH <const> = 30

--- Instead of the line that the terminal shows: it must not need two.
local function show_line(text)
  local columns = files.terminal_size()
  files.print("\r\27[K" .. (columns and print.cut(text, math.max(1, columns - 1)) or text))
end

local function bar(label, row)
  local done, total = tonumber(row.done), tonumber(row.total)
  local part = total > 0 and math.min(1, done / total) or 0
  local full = math.floor(part * WIDTH)
  return ("[%s%s] %3.0f %%  %s: %s"):format(("#"):rep(full), ("."):rep(WIDTH - full), part * 100, label, row.phase)
end

--- Runs a statement; on a terminal a second session tells how far it is.
local function run_shown(work, label, sql)
  local sent, why = work.session:send(sql)
  if not sent then return nil, why end
  show_line(label)
  while not work.session:ready(200) do
    local rows = work.watcher:query(PROGRESS, work.pid)
    if rows and rows[1] then show_line(bar(label, rows[1])) end
  end
  files.print "\r\27[K"
  return work.session:result()
end

---- Steps ---------------------------------------------------------------------------------

local function say(...)
  files.print(string.format(...) .. "\n")
end

--- One statement, or only its text.  A failure is told and counted; the others go on.
local function step(work, sql, after)
  work.count = work.count + 1
  if work.dry then
    say("would run %s%s", sql, after and "   -- " .. after or "")
    return true
  end
  local began = machine.clock()
  local done, why
  if work.watcher then done, why = run_shown(work, sql, sql) else done, why = work.session:run(sql) end
  if done then
    say("%s   %s%s", sql, print.seconds(machine.clock() - began), after and "   -- " .. after or "")
    return true
  end
  work.failed = work.failed + 1
  say("%s   failed: %s", sql, why)
  return false
end

local function repair(work)
  for _, index in ipairs(ask.rows(work.session, INVALID)) do
    if index.leftover == "t" then
      step(work, "DROP INDEX CONCURRENTLY IF EXISTS " .. index.name, "left by an aborted REINDEX")
    else
      step(work, "REINDEX INDEX CONCURRENTLY " .. index.name, "it was invalid")
    end
  end
end

local function tables(work, every)
  for _, row in ipairs(ask.rows(work.session, TABLES)) do
    if every or row.vacuum == "t" then
      step(work, ((every or row.analyze == "t") and "VACUUM (ANALYZE) " or "VACUUM ") .. row.name)
    elseif row.analyze == "t" then
      step(work, "ANALYZE " .. row.name)
    end
  end
end

--- After the tables: what the estimate asks is fresh then.
local function rebuild(work)
  local all_done = true
  for _, index in ipairs(bloat.indexes(work.session)) do
    if bloat.is_evidence(index) then
      local why = ("%.0f %% of %s were air"):format(tonumber(index.percent), print.bytes(tonumber(index.bytes)))
      all_done = step(work, "REINDEX INDEX CONCURRENTLY " .. index.name, why) and all_done
    end
  end
  if not all_done then repair(work) end
end

--- Over a session of this role; the watcher's is another one.
local function maintain(s, every, dry)
  local work = { session = s, dry = dry, count = 0, failed = 0 }
  local settings, why = s:run(SETTINGS)
  if not settings then error("PostgreSQL: " .. why, 0) end
  if not dry then
    if ask.row(s, LOCK).got ~= "t" then error("another maintenance is at work; one at a time", 0) end
    if files.is_terminal() then
      work.watcher = session.connect()
      work.pid = ask.row(s, "SELECT pg_backend_pid() AS pid").pid
    end
  end
  repair(work)
  tables(work, every)
  rebuild(work)
  if work.watcher then work.watcher:close() end
  if work.count == 0 then say "nothing to do" end
  if work.failed > 0 then error(("%d of %d steps failed"):format(work.failed, work.count), 0) end
end

local function main(arguments)
  local kind, dry
  for _, word in ipairs(arguments) do
    if word == "--dry-run" then
      dry = true
    elseif (word == "daily" or word == "weekly") and not kind then
      kind = word
    else
      return nil, "unexpected argument '" .. word .. "'"
    end
  end
  if not kind then return nil, "daily or weekly is expected" end
  local s = session.connect()
  maintain(s, kind == "weekly", dry)
  s:close()
  return 0
end

return { main = main }
