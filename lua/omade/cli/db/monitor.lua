--- omade db size|rows|indexes|slow|bloat|locks|activity [--json] [--watch [SECONDS]]
-- and slow --by total|mean|calls
--
-- The queries of the seed document's chapter on monitoring, each as a table with advice
-- under it.  A view has ask(session, options) for the rows, and advise(rows, session) for
-- the lines and, beside them, figures for programs.

local ask     = require "omade.cli.db.ask"
local bloat   = require "omade.cli.db.bloat"
local files   = require "omade.core.files"
local json    = require "omade.json"
local print   = require "omade.cli.db.print"
local session = require "omade.core.session"
local slow    = require "omade.cli.db.slow"

local MB <const> = 1 << 20

local function number(row, key) return tonumber(row[key]) or 0 end

--- Advice while rows are gone through: add(format, ...).
local function list()
  local lines = {}
  return lines, function(...) lines[#lines + 1] = string.format(...) end
end

local SINCE <const> = [[SELECT to_char(COALESCE(stats_reset, pg_postmaster_start_time()), 'YYYY-MM-DD') AS day
  FROM pg_stat_database WHERE datname = current_database()]]

local NO_TABLES <const> = "there are no tables: ./omade migrate makes them"

---- size ----------------------------------------------------------------------------------

local SIZE <const> = [[
  SELECT n.nspname AS schema, c.relname AS relation,
         pg_table_size(c.oid) AS table_bytes, pg_indexes_size(c.oid) AS index_bytes,
         pg_total_relation_size(c.oid) AS total_bytes, c.relkind
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind IN ('r', 'm') AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
  ORDER BY total_bytes DESC, relation]]

local size = {
  columns = {
    { key = "schema" }, { key = "relation" }, { key = "table_bytes", title = "table", kind = "bytes" },
    { key = "index_bytes", title = "indexes", kind = "bytes" },
    { key = "total_bytes", title = "total", kind = "bytes" },
  },
}

function size.ask(s)
  return ask.rows(s, SIZE)
end

function size.advise(rows, s)
  local lines, add = list()
  local sum = 0
  for _, row in ipairs(rows) do
    sum = sum + number(row, "total_bytes")
    if number(row, "index_bytes") > 2 * number(row, "table_bytes") and number(row, "index_bytes") > 10 * MB then
      add("the indexes of %s take more than twice what the table takes: see ./omade db indexes and bloat",
          row.relation)
    end
  end
  local all = ask.row(s, "SELECT current_database() AS name, pg_database_size(current_database()) AS bytes")
  if #rows == 0 then add(NO_TABLES) end
  add("the database %s takes %s: %s in these tables with their indexes, the rest is PostgreSQL's own",
      all.name, print.bytes(number(all, "bytes")), print.bytes(sum))
  return lines, { database = all.name, database_bytes = number(all, "bytes") }
end

---- rows ----------------------------------------------------------------------------------

local ROWS <const> = [[
  SELECT schemaname AS schema, relname AS relation, n_live_tup AS live, n_dead_tup AS dead,
         n_tup_ins AS inserts, n_tup_upd AS updates, n_tup_del AS deletes,
         round(100.0 * n_tup_hot_upd / NULLIF(n_tup_upd, 0), 1) AS hot_percent,
         seq_scan AS scans, COALESCE(seq_tup_read / NULLIF(seq_scan, 0), 0) AS rows_per_scan,
         idx_scan AS index_scans, n_mod_since_analyze AS changed,
         to_char(GREATEST(last_vacuum, last_autovacuum), 'YYYY-MM-DD HH24:MI') AS vacuumed,
         to_char(GREATEST(last_analyze, last_autoanalyze), 'YYYY-MM-DD HH24:MI') AS analyzed
  FROM pg_stat_user_tables ORDER BY n_live_tup DESC, relname]]

local rows = {
  columns = {
    { key = "schema" }, { key = "relation" }, { key = "live", kind = "number" }, { key = "dead", kind = "number" },
    { key = "inserts", kind = "number", spare = true }, { key = "updates", kind = "number", spare = true },
    { key = "deletes", kind = "number", spare = true },
    { key = "hot_percent", title = "in place", kind = "percent", spare = true },
    { key = "scans", kind = "number" }, { key = "rows_per_scan", title = "rows/scan", kind = "number" },
    { key = "index_scans", title = "by index", kind = "number", spare = true },
    { key = "changed", kind = "number", spare = true }, { key = "vacuumed", spare = true },
    { key = "analyzed", spare = true },
  },
}

function rows.ask(s)
  return ask.rows(s, ROWS)
end

local function needs_vacuum(row)
  local dead, live = number(row, "dead"), number(row, "live")
  return dead >= 50 and dead >= 0.2 * (dead + live)
end

-- A backup reads each table once, a new index as well: that is no query that scans.
local OFTEN <const> = 100

function rows.advise(found, s)
  local lines, add = list()
  if #found == 0 then add(NO_TABLES) end
  for _, row in ipairs(found) do
    local live = number(row, "live")
    if needs_vacuum(row) then
      add("%s needs vacuum: %s dead rows beside %s living ones: ./omade db maintain daily",
          row.relation, row.dead, row.live)
    end
    if number(row, "changed") > 50 + 0.2 * live then
      add("%s needs analyze: %s rows changed since the planner last looked: ./omade db maintain daily",
          row.relation, row.changed)
    end
    if number(row, "rows_per_scan") >= 10000 and number(row, "scans") >= OFTEN then
      add("%s was read whole %s times since %s, %s rows each: a query lacks an index, ./omade db slow names it",
          row.relation, row.scans, ask.row(s, SINCE).day, row.rows_per_scan)
    end
  end
  return lines
end

---- indexes -------------------------------------------------------------------------------

local INDEXES <const> = [[
  SELECT u.schemaname AS schema, u.relname AS relation, u.indexrelname AS index, u.idx_scan AS scans,
         u.idx_tup_read AS entries_read, u.idx_tup_fetch AS rows_fetched,
         pg_relation_size(u.indexrelid) AS bytes, i.indisvalid AS valid,
         CASE WHEN i.indisprimary THEN 'primary key' WHEN i.indisunique THEN 'unique'
              WHEN i.indisexclusion THEN 'exclusion'
              WHEN EXISTS (SELECT FROM pg_constraint c WHERE c.conrelid = i.indrelid AND c.contype = 'f'
                             AND c.conkey[1] = i.indkey[0]) THEN 'foreign key'
              ELSE '' END AS serves
  FROM pg_stat_user_indexes u JOIN pg_index i ON i.indexrelid = u.indexrelid
  ORDER BY u.idx_scan DESC, bytes DESC, u.indexrelname]]

local indexes = {
  columns = {
    { key = "schema", spare = true }, { key = "relation" }, { key = "index" }, { key = "scans", kind = "number" },
    { key = "entries_read", title = "entries read", kind = "number", spare = true },
    { key = "rows_fetched", title = "rows fetched", kind = "number", spare = true },
    { key = "bytes", title = "size", kind = "bytes" }, { key = "serves" },
  },
}

function indexes.ask(s)
  return ask.rows(s, INDEXES)
end

function indexes.advise(found, s)
  local lines, add = list()
  local unused = {}
  if #found == 0 then add(NO_TABLES) end
  for _, row in ipairs(found) do
    if row.valid == "f" then
      add("%s is invalid, nothing uses it and every write pays for it: ./omade db maintain daily", row.index)
    elseif number(row, "scans") == 0 and row.serves == "" then
      unused[#unused + 1] = row.index
    end
  end
  if #unused > 0 then
    add("never used since %s: %s; drop what a month of real traffic does not use either",
        ask.row(s, SINCE).day, print.some(unused, 10))
  end
  return lines
end

---- bloat ---------------------------------------------------------------------------------

-- The seed's ratio, of tables with nothing but dead rows as well.
local DEAD <const> = [[
  SELECT schemaname || '.' || relname AS relation, 'table' AS kind, n_live_tup AS live, n_dead_tup AS dead,
         COALESCE(round(100.0 * n_dead_tup / NULLIF(n_live_tup + n_dead_tup, 0), 2), 0) AS percent,
         pg_table_size(relid) AS bytes
  FROM pg_stat_user_tables ORDER BY percent DESC, dead DESC, relname]]

local bloated = {
  columns = {
    { key = "relation" }, { key = "kind", spare = true }, { key = "live", kind = "number", spare = true },
    { key = "dead", kind = "number" }, { key = "percent", title = "dead or air", kind = "percent" },
    { key = "bytes", title = "size", kind = "bytes" }, { key = "wasted", kind = "bytes" },
  },
}

function bloated.ask(s)
  local found = ask.rows(s, DEAD)
  for _, row in ipairs(bloat.indexes(s)) do
    row.relation, row.kind, row.rebuild = row.name, "index", bloat.is_evidence(row)
    if number(row, "wasted") > 0 then found[#found + 1] = row end
  end
  return found
end

function bloated.advise(found)
  local lines, add = list()
  if #found == 0 then add(NO_TABLES) end
  for _, row in ipairs(found) do
    if row.rebuild then
      add("%s is %.0f %% air (%s): ./omade db maintain daily rebuilds it while the server serves",
          row.relation, number(row, "percent"), print.bytes(number(row, "wasted")))
    elseif row.kind == "table" and needs_vacuum(row) then
      add("%s needs vacuum: %s of its rows are dead: ./omade db maintain daily", row.relation,
          ("%.0f %%"):format(number(row, "percent")))
    end
  end
  return lines
end

---- locks ---------------------------------------------------------------------------------

local LOCKS <const> = [[
  SELECT a.pid, a.usename AS "user", EXTRACT(epoch FROM clock_timestamp() - COALESCE(l.waitstart, a.query_start))
           AS waits, l.mode, COALESCE(l.relation::regclass::text, l.locktype) AS lock, b.pid AS blocker,
         bs.state AS blocker_state, EXTRACT(epoch FROM clock_timestamp() - bs.xact_start) AS blocker_seconds,
         a.query, COALESCE(bs.query, '') AS blocker_query,
         cardinality(pg_blocking_pids(b.pid)) > 0 AS blocker_waits
  FROM pg_stat_activity a
  JOIN LATERAL (SELECT * FROM pg_locks WHERE pid = a.pid AND NOT granted LIMIT 1) l ON true
  CROSS JOIN LATERAL (SELECT DISTINCT unnest(pg_blocking_pids(a.pid)) AS pid) b
  LEFT JOIN pg_stat_activity bs ON bs.pid = b.pid
  WHERE a.datname = current_database() AND a.pid <> pg_backend_pid()
  ORDER BY waits DESC NULLS LAST, a.pid, b.pid]]

local locks = {
  columns = {
    { key = "pid", kind = "number" }, { key = "user" }, { key = "waits", kind = "seconds" }, { key = "mode", spare = true },
    { key = "lock", spare = true }, { key = "query", width = 40 }, { key = "blocker", title = "blocked by", kind = "number" },
    { key = "blocker_state", title = "which is" }, { key = "blocker_seconds", title = "for", kind = "seconds" },
    { key = "blocker_query", title = "last query", width = 40 },
  },
  others = true,
}

function locks.ask(s)
  return ask.rows(s, LOCKS)
end

--- How many wait for a session, or for one that waits for it.
local function count_behind(found, blocker)
  local behind, last, count = { [blocker] = true }, nil, 0
  while count ~= last do
    last = count
    for _, row in ipairs(found) do
      if behind[row.blocker] and not behind[row.pid] then behind[row.pid], count = true, count + 1 end
    end
  end
  return count
end

function locks.advise(found)
  local lines, add = list()
  local first, count = {}, {}
  for _, row in ipairs(found) do
    if row.blocker_waits ~= "t" and not count[row.blocker] then
      first[#first + 1] = row
      count[row.blocker] = count_behind(found, row.blocker)
    end
  end
  for _, row in ipairs(first) do
    if row.blocker == "0" then
      add("a prepared transaction blocks %d: find it in pg_prepared_xacts, end it with ROLLBACK PREPARED", count["0"])
    else
      add("session %s (%s) blocks %d: if it should not, end it with SELECT pg_terminate_backend(%s)",
          row.blocker, row.blocker_state or "not to be seen", count[row.blocker], row.blocker)
    end
  end
  if #found == 0 then add "no session waits for another one" end
  return lines
end

---- activity ------------------------------------------------------------------------------

local ACTIVITY <const> = [[
  SELECT pid, usename AS "user", application_name AS application, host(client_addr) AS client, state,
         wait_event_type || ': ' || wait_event AS waits_for,
         EXTRACT(epoch FROM clock_timestamp() - xact_start) AS transaction_seconds,
         EXTRACT(epoch FROM clock_timestamp() - state_change) AS state_seconds, query
  FROM pg_stat_activity
  WHERE datname = current_database() AND pid <> pg_backend_pid()
  ORDER BY state = 'idle', xact_start NULLS LAST, pid]]

local CONNECTIONS <const> = [[
  SELECT (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS used,
         current_setting('max_connections') AS most]]

local activity = {
  columns = {
    { key = "pid", kind = "number" }, { key = "user" }, { key = "application", spare = true },
    { key = "client", spare = true }, { key = "state" }, { key = "state_seconds", title = "for", kind = "seconds" },
    { key = "transaction_seconds", title = "transaction", kind = "seconds" },
    { key = "waits_for", title = "waits for", spare = true }, { key = "query", width = 60 },
  },
  others = true,
}

function activity.ask(s)
  return ask.rows(s, ACTIVITY)
end

function activity.advise(found, s)
  local lines, add = list()
  for _, row in ipairs(found) do
    local seconds = number(row, "transaction_seconds")
    if seconds >= 60 and (row.state or ""):find "^idle in transaction" then
      add("session %s is idle in a transaction for %s: it holds its locks, and nothing newer can be vacuumed; "
          .. "end it with SELECT pg_terminate_backend(%s)", row.pid, print.seconds(seconds), row.pid)
    elseif seconds >= 60 and row.state == "active" then
      add("session %s works for %s: SELECT pg_cancel_backend(%s) stops its statement", row.pid,
          print.seconds(seconds), row.pid)
    end
  end
  local connections = ask.row(s, CONNECTIONS)
  add("%s of %s connections are in use%s", connections.used, connections.most,
      number(connections, "used") >= 0.8 * number(connections, "most")
        and ": lower DB_CONNECTIONS or WORKERS, or put PgBouncer before it" or "")
  return lines, { connections = number(connections, "used"), max_connections = number(connections, "most") }
end

---- together ------------------------------------------------------------------------------

local VIEWS <const> = {
  size = size, rows = rows, indexes = indexes, slow = slow, bloat = bloated, locks = locks, activity = activity,
}

local function print_json(name, found, advice, figures)
  figures.view, figures.rows = name, print.members(VIEWS[name].columns, found)
  figures.advice = json.array(advice)
  print.json(figures)
end

--- Lines of the table that a terminal of `height` has room for: what is watched stays in sight.
local function first_lines(text, height, advice)
  local all_lines = {}
  for line in text:gmatch "[^\n]+" do all_lines[#all_lines + 1] = line end
  local room = math.max(4, height - #advice - 2)
  if #all_lines <= room then return text end
  return table.concat(all_lines, "\n", 1, room - 1) .. ("\n... and %d more\n"):format(#all_lines - room + 1)
end

local function print_text(name, found, advice, watched)
  local width, height = files.terminal_size()
  local text, whole = print.table(VIEWS[name].columns, found, width)
  if watched and width then text = "\27[H\27[2J" .. first_lines(text, height, advice) end
  for _, line in ipairs(advice) do text = text .. "- " .. line .. "\n" end
  if not whole then text = text .. ("- a wider terminal shows more: ./omade db %s | less -S shows all\n"):format(name) end
  files.print(text)
end

local function show(s, name, options)
  local view = VIEWS[name]
  local found = view.ask(s, options)
  local advice, figures = view.advise(found, s)
  if view.others and not ask.sees_all(s) then
    table.insert(advice, 1, ask.NOT_ALL:format(ask.row(s, "SELECT current_user AS name").name))
  end
  if options.json then
    print_json(name, found, advice, figures or {})
  else
    print_text(name, found, advice, options.watch)
  end
end

--- The word behind an option, or what follows its "=": value, next index.
local function value_of(arguments, i, option)
  local word = arguments[i]:match("^%-%-" .. option .. "=(.*)$")
  if word then return word, i end
  word = arguments[i + 1]
  if word and word:sub(1, 1) ~= "-" then return word, i + 1 end
  return nil, i
end

local function read_watch(options, seconds)
  options.watch = seconds:find "^%d+%.?%d*$" and tonumber(seconds)
  if options.watch and options.watch >= 0.1 and options.watch <= 86400 then return end
  return "--watch is '" .. seconds .. "', not a number of seconds from 0.1 to 86400"
end

local function read_by(options, order)
  options.by = order
  if not slow.ORDERS[order] then return "--by is '" .. order .. "', not total, mean or calls" end
end

--- The options, or nil and what is wrong.
local function read(arguments, name)
  local options, i = {}, 1
  while i <= #arguments do
    local option = arguments[i]:match "^%-%-(%l+)"
    local value, why
    if arguments[i] == "--json" then
      options.json = true
    elseif option == "watch" then
      value, i = value_of(arguments, i, option)
      why = read_watch(options, value or "2")
    elseif option == "by" and name == "slow" then
      value, i = value_of(arguments, i, option)
      why = read_by(options, value or "")
    else
      why = "unknown argument '" .. arguments[i] .. "'"
    end
    if why then return nil, why end
    i = i + 1
  end
  return options
end

local function main(arguments, name)
  local options, why = read(arguments, name)
  if not options then return nil, why end
  local s <close> = setmetatable({ session = session.connect() }, { __close = function(x) x.session:close() end })
  show(s.session, name, options)
  while options.watch do
    sleep(options.watch)
    show(s.session, name, options)
  end
  return 0
end

return { main = main }
