--- omade db doctor [--json]: is the database as it should be?
--
-- The exit code is that of a monitoring plugin: 0 well (there may be hints), 1 something to see
-- to soon, 2 a problem, 3 something could not be looked at.  A check gets rows(sql, ...) and tell:
-- tell.problem(format, ...), tell.warning, tell.hint.

local ask      = require "omade.cli.db.ask"
local checks   = require "bakery.checks"
local drift    = require "omade.cli.db.drift"
local engine   = require "omade.core.engine"
local files    = require "omade.core.files"
local json     = require "omade.json"
local machine  = require "omade.core.machine"
local migrate  = require "omade.cli.migrate"
local print    = require "omade.cli.db.print"
local rights   = require "omade.cli.db.rights"
local session  = require "omade.core.session"
local settings = require "omade.cli.db.settings"

local GB <const> = 1 << 30

-- Exit codes, as monitoring plugins have them.
local WARNING <const>, CRITICAL <const>, UNKNOWN <const> = 1, 2, 3

---- Migrations, versions, settings --------------------------------------------------------

local function check_migrations(rows, tell)
  local applied = {}
  if rows("SELECT to_regclass('schema_migrations') AS t")[1].t then
    for _, row in ipairs(rows "SELECT name, checksum FROM schema_migrations") do applied[row.name] = row.checksum end
  end
  for _, migration in ipairs(migrate.read_all()) do
    local checksum = applied[migration.name]
    applied[migration.name] = nil
    if not checksum then
      tell.problem("migration %s is missing: ./omade migrate", migration.name)
    elseif checksum ~= migration.checksum then
      tell.problem("migrations/%s.sql was changed after it was applied", migration.name)
    end
  end
  for name in pairs(applied) do tell.problem("migration %s is applied and has no file: an older checkout?", name) end
end

local ENDS <const> = { [14] = "2026-11-12", [15] = "2027-11-11", [16] = "2028-11-09", [17] = "2029-11-08" }

local OUTDATED <const> = [[SELECT name, installed_version, default_version FROM pg_available_extensions
  WHERE installed_version <> default_version ORDER BY 1]]

local function check_versions(rows, tell)
  local server = rows [[SELECT current_setting('server_version_num')::int / 10000 AS major,
    current_setting('server_version') AS version, to_char(now(), 'YYYY-MM-DD') AS today,
    to_char(now() + interval '180 days', 'YYYY-MM-DD') AS soon]][1]
  local major = math.tointeger(tonumber(server.major))
  if major < 14 then
    tell.problem("PostgreSQL %s is too old: 14 to 17 are supported", server.version)
  elseif not ENDS[major] then
    tell.hint("PostgreSQL %s is newer than what this was tested on: 14 to 17", server.version)
  elseif ENDS[major] < server.soon then
    tell.warning("PostgreSQL %d gets no fixes %s %s: plan the next major version", major,
         ENDS[major] < server.today and "since" or "after", ENDS[major])
  end
  if major == 14 then tell.hint("PostgreSQL 14 has no security_invoker: the server may not read the views of reports") end
  for _, extension in ipairs(rows(OUTDATED)) do
    tell.hint("extension %s is %s, %s is installed: ALTER EXTENSION %s UPDATE", extension.name,
         extension.installed_version, extension.default_version, extension.name)
  end
end

local function check_extensions(rows, tell)
  if #rows "SELECT FROM pg_extension WHERE extname = 'pg_stat_statements'" == 0 then
    tell.hint("pg_stat_statements is missing, ./omade db slow has nothing to show: put it into "
         .. "shared_preload_libraries, restart, and as a superuser CREATE EXTENSION pg_stat_statements")
  end
end

-- What loses data or grows without an end.
local NEVER_OFF <const> = {
  { "fsync", "a crash of the machine may lose the whole database" },
  { "full_page_writes", "a crash of the machine may damage pages" },
  { "autovacuum", "tables and indexes grow without end" },
  { "track_counts", "autovacuum and these commands see nothing" },
}

local HERE <const> = [[SELECT inet_server_addr() IS NULL OR inet_server_addr() << '127.0.0.0/8'
  OR inet_server_addr() = '::1' AS here, (SELECT setting FROM pg_settings WHERE name = 'data_directory') AS folder]]

--- The folder whose disk counts as PostgreSQL's; nil when it runs on another machine.
-- Its own name for it may be none of ours (/proc/self/..., another's root).
local function data_folder(rows)
  local server = rows(HERE)[1]
  if server.here == "f" then return nil end
  local folder = server.folder
  if folder and not folder:find "^/proc/" and machine.disk(folder) then return folder end
  folder = engine.setting "OMADE_STATE_DIR"
  return folder and folder ~= "" and folder or "/var/lib"
end

local NOW <const> = "SELECT current_setting($1) AS now"
local SMALL <const> = "SELECT FROM (SELECT) x WHERE 2 * pg_size_bytes(current_setting($1)) < pg_size_bytes($2)"

local function check_setting(rows, tell, setting)
  if not (setting.exact or setting.half) then return end
  local wanted = setting.value:gsub("'", "")
  local now = rows(NOW, setting.name)[1].now
  if setting.exact and now ~= wanted or setting.half and #rows(SMALL, setting.name, wanted) > 0 then
    tell.hint("%s is %s; for this machine %s (%s): ./omade db conf", setting.name, now, wanted, setting.why)
  end
end

local function check_settings(rows, tell)
  for _, setting in ipairs(NEVER_OFF) do
    if rows(NOW, setting[1])[1].now == "off" then tell.problem("%s is off: %s", setting[1], setting[2]) end
  end
  local data = data_folder(rows)
  if not data then
    tell.hint("PostgreSQL runs elsewhere: on its machine compare its settings with ./omade db conf")
    return
  end
  local _, _, device = machine.disk(data)
  for _, setting in ipairs(settings.recommend(settings.memory(), machine.cores(), settings.rotates(device))) do
    check_setting(rows, tell, setting)
  end
end

---- Indexes -------------------------------------------------------------------------------

-- An index serves a foreign key when it begins with its columns; one WHERE they are not null too.
local FOREIGN <const> = [[
  SELECT c.conrelid::regclass AS name, c.conname AS key,
         (SELECT string_agg(a.attname, ', ' ORDER BY k.n) FROM unnest(c.conkey) WITH ORDINALITY k(attnum, n)
            JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.attnum) AS columns
  FROM pg_constraint c JOIN pg_namespace n ON n.oid = c.connamespace
  WHERE c.contype = 'f' AND n.nspname !~ '^pg_' AND NOT EXISTS (
    SELECT FROM pg_index i WHERE i.indrelid = c.conrelid AND i.indisvalid
      AND (i.indpred IS NULL OR pg_get_expr(i.indpred, i.indrelid) ~ '^\(?[a-z_]+ IS NOT NULL\)?$')
      AND (i.indkey::int2[])[0:cardinality(c.conkey) - 1] @> c.conkey)
  ORDER BY 1, 2]]

local REDUNDANT <const> = [[
  SELECT a.indexrelid::regclass AS name, b.indexrelid::regclass AS wider
  FROM pg_index a JOIN pg_class ca ON ca.oid = a.indexrelid
  JOIN pg_namespace n ON n.oid = ca.relnamespace AND n.nspname !~ '^pg_'
  JOIN pg_index b ON b.indrelid = a.indrelid AND b.indexrelid <> a.indexrelid
  JOIN pg_class cb ON cb.oid = b.indexrelid AND cb.relam = ca.relam
  WHERE a.indisvalid AND b.indisvalid AND NOT a.indisprimary AND NOT a.indisexclusion
    AND (NOT a.indisunique OR (b.indisunique AND a.indkey::text = b.indkey::text))
    AND NOT EXISTS (SELECT FROM pg_constraint c WHERE c.conindid = a.indexrelid AND c.contype IN ('p', 'u', 'x'))
    AND (b.indkey::text = a.indkey::text OR (b.indkey::text LIKE a.indkey::text || ' %'
         AND ca.relam = (SELECT oid FROM pg_am WHERE amname = 'btree')))
    AND (b.indclass::text || ' ') LIKE (a.indclass::text || ' %')
    AND (b.indoption::text || ' ') LIKE (a.indoption::text || ' %')
    AND (b.indcollation::text || ' ') LIKE (a.indcollation::text || ' %')
    AND pg_get_expr(a.indexprs, a.indrelid) IS NOT DISTINCT FROM pg_get_expr(b.indexprs, b.indrelid)
    AND pg_get_expr(a.indpred, a.indrelid) IS NOT DISTINCT FROM pg_get_expr(b.indpred, b.indrelid)
    AND (a.indkey::text <> b.indkey::text OR b.indisunique AND NOT a.indisunique OR a.indexrelid > b.indexrelid)
  ORDER BY 1, 2]]

local INVALID <const> = [[
  SELECT i.indexrelid::regclass AS name FROM pg_index i
  WHERE NOT i.indisvalid AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index p WHERE p.relid = i.indrelid)
  ORDER BY 1]]

-- Of tables that are in use: a thousand reads, and none by this index.
local UNUSED <const> = [[
  SELECT u.indexrelname AS name FROM pg_stat_user_indexes u JOIN pg_index i ON i.indexrelid = u.indexrelid
  JOIN pg_stat_user_tables t ON t.relid = u.relid
  WHERE u.idx_scan = 0 AND NOT i.indisunique AND NOT i.indisexclusion AND t.seq_scan + COALESCE(t.idx_scan, 0) >= 1000
    AND NOT EXISTS (SELECT FROM pg_constraint c WHERE c.conrelid = i.indrelid AND c.contype = 'f'
                      AND c.conkey[1] = i.indkey[0])
  ORDER BY pg_relation_size(u.indexrelid) DESC, 1]]

local function check_indexes(rows, tell)
  for _, index in ipairs(rows(INVALID)) do
    tell.problem("index %s is invalid: ./omade db maintain daily rebuilds or drops it", index.name)
  end
  for _, key in ipairs(rows(FOREIGN)) do
    tell.hint("no index on %s (%s), the foreign key %s: deleting what it points to reads all of %s", key.name, key.columns,
         key.key, key.name)
  end
  for _, index in ipairs(rows(REDUNDANT)) do
    tell.hint("index %s is redundant beside %s: DROP INDEX CONCURRENTLY %s", index.name, index.wider, index.name)
  end
  local unused = {}
  for i, index in ipairs(rows(UNUSED)) do unused[i] = index.name end
  if #unused > 0 then tell.hint("never used: %s: see ./omade db indexes", print.some(unused, 5)) end
end

---- What grows or hangs -------------------------------------------------------------------

local SEQUENCES <const> = [[
  SELECT quote_ident(schemaname) || '.' || quote_ident(sequencename) AS name,
         round(100.0 * (last_value - min_value) / (max_value - min_value), 1) AS percent
  FROM pg_sequences WHERE last_value IS NOT NULL AND increment_by > 0 AND NOT cycle AND max_value > min_value
    AND (last_value - min_value)::numeric / (max_value::numeric - min_value) >= 0.7 ORDER BY 1]]

local function check_sequences(rows, tell)
  for _, sequence in ipairs(rows(SEQUENCES)) do
    tell.problem("sequence %s is at %s %% of its numbers: make it and its column bigint", sequence.name, sequence.percent)
  end
end

local AGE <const> = [[
  WITH each AS (
    SELECT datname AS name, 'transaction' AS what, age(datfrozenxid) AS age,
           current_setting('autovacuum_freeze_max_age')::bigint AS most FROM pg_database WHERE datallowconn
    UNION ALL
    SELECT datname, 'multixact', mxid_age(datminmxid),
           current_setting('autovacuum_multixact_freeze_max_age')::bigint FROM pg_database WHERE datallowconn)
  SELECT * FROM each WHERE age > 1.5 * most ORDER BY name, what DESC]]

local function check_age(rows, tell)
  for _, database in ipairs(rows(AGE)) do
    tell.problem("database %s: its oldest %s is %s back, and autovacuum should have frozen it after %s: look for "
                 .. "long transactions and replication slots, then VACUUM (FREEZE)", database.name, database.what,
                 database.age, database.most)
  end
end

-- Transactions of other databases do not keep VACUUM from its work in this one.
local HANGING <const> = [[
  SELECT 'session ' || pid || ' (' || COALESCE(usename, '') || ') is idle in a transaction' AS what,
         EXTRACT(epoch FROM now() - xact_start) AS seconds
  FROM pg_stat_activity
  WHERE datname = current_database() AND state LIKE 'idle in transaction%' AND now() - xact_start > interval '1 minute'
  UNION ALL
  SELECT 'prepared transaction ' || gid || ' is not finished', EXTRACT(epoch FROM now() - prepared)
  FROM pg_prepared_xacts WHERE database = current_database() AND now() - prepared > interval '1 minute'
  ORDER BY seconds DESC]]

local SLOTS <const> = [[SELECT slot_name AS name, pg_size_pretty(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)) AS kept
  FROM pg_replication_slots WHERE NOT active AND restart_lsn IS NOT NULL AND NOT pg_is_in_recovery()]]

local function check_hanging(rows, tell)
  for _, found in ipairs(rows(HANGING)) do
    local seconds = tonumber(found.seconds)
    local level = seconds >= 600 and tell.problem or tell.warning
    level("%s for %s: it keeps VACUUM from its work", found.what, print.seconds(seconds))
  end
  for _, slot in ipairs(rows(SLOTS)) do
    tell.problem("nobody reads from replication slot %s: it keeps %s of WAL; SELECT pg_drop_replication_slot('%s')",
            slot.name, slot.kept, slot.name)
  end
end

local ARCHIVE <const> = [[
  SELECT last_failed_wal AS file, to_char(last_failed_time, 'YYYY-MM-DD HH24:MI') AS at FROM pg_stat_archiver
  WHERE current_setting('archive_mode') <> 'off'
    AND last_failed_time > COALESCE(last_archived_time, '-infinity')]]

local CONNECTIONS <const> = [[
  SELECT used, most FROM (SELECT count(*) AS used, current_setting('max_connections')::int AS most
                          FROM pg_stat_activity WHERE backend_type = 'client backend') c
  WHERE used >= 0.8 * most]]

local function check_growth(rows, tell)
  for _, found in ipairs(rows(ARCHIVE)) do
    tell.problem("archive_command failed at %s, with %s: WAL piles up, see PostgreSQL's log", found.at, found.file)
  end
  for _, found in ipairs(rows(CONNECTIONS)) do
    tell.warning("%s of %s connections are in use: see ./omade db activity", found.used, found.most)
  end
end

---- The machine ---------------------------------------------------------------------------

local function upload_folder()
  local set = engine.setting "UPLOAD_DIR"
  if set and set ~= "" then return set end
  local state = engine.setting "OMADE_STATE_DIR"
  return state and state ~= "" and state .. "/uploads" or "/tmp"
end

local function check_disk(rows, tell)
  local seen = {}
  for _, folder in ipairs { data_folder(rows) or "", upload_folder() } do
    local all, free, device = machine.disk(folder)
    if all and all > 0 and not seen[device] then
      seen[device] = true
      local percent = 100 * free / all
      local level = (percent < 5 or free < GB) and tell.problem or percent < 15 and tell.warning
      if level then level("%.0f %% of the disk of %s are free: %s", percent, folder, print.bytes(free)) end
    end
  end
end

local CLOCK <const> = [[
  SELECT EXTRACT(epoch FROM clock_timestamp()) AS now, s.reset_val AS zone,
         EXTRACT(epoch FROM (now() AT TIME ZONE s.reset_val) - (now() AT TIME ZONE 'UTC')) AS offset
  FROM pg_settings s WHERE s.name = 'TimeZone']]

local function check_clock(rows, tell)
  local before = machine.clock()
  local there = rows(CLOCK)[1]
  local after, offset = machine.clock()
  local now = tonumber(there.now)
  local skew = now < before and before - now or now > after and now - after or 0
  if skew > 2 then tell.problem("the clocks of PostgreSQL and this machine differ by %s: run NTP on both", print.seconds(skew)) end
  if tonumber(there.offset) ~= offset then
    tell.hint("PostgreSQL's time zone is %s, this machine is %+.1f h from UTC: times in their logs differ", there.zone,
         offset / 3600)
  end
  local zone = engine.setting "SHOP_TIMEZONE"
  if not zone or zone == "" then zone = "UTC" end
  if #rows("SELECT FROM pg_timezone_names WHERE name = $1", zone) == 0 then
    tell.problem("SHOP_TIMEZONE is '%s', which PostgreSQL does not know", zone)
  elseif rows("SELECT COALESCE(NULLIF(current_setting('app.timezone', true), ''), 'UTC') AS zone")[1].zone ~= zone then
    tell.hint("SHOP_TIMEZONE is %s, but psql and reports count days in another zone: ALTER DATABASE %s SET app.timezone = '%s'",
         zone, rows("SELECT quote_ident(current_database()) AS name")[1].name, zone)
  end
end

local function check_uploads(rows, tell)
  local folder = upload_folder()
  local readable, why = files.list(folder)
  if not readable and #rows "SELECT FROM uploads LIMIT 1" > 0 then
    tell.unknown("the upload folder cannot be read (UPLOAD_DIR): %s", why)
    return
  end
  checks.uploads(rows, tell, function() return files.list(folder) or {} end,
                 function(name) return machine.disk(folder .. "/" .. name) ~= nil end)
end

---- Together ------------------------------------------------------------------------------

local CHECKS <const> = {
  { "migrations", check_migrations },
  { "schema", drift.check },
  { "versions", check_versions },
  { "extensions", check_extensions },
  { "settings", check_settings },
  { "roles", rights.roles },
  { "grants", rights.grants },
  { "default grants", rights.defaults },
  { "functions", rights.functions },
  { "row-level security", rights.row_security },
  { "views", rights.views },
  { "indexes", check_indexes },
  { "sequences", check_sequences },
  { "transaction age", check_age },
  { "hanging transactions", check_hanging },
  { "archive, connections", check_growth },
  { "disk", check_disk },
  { "clock", check_clock },
  { "promo codes", checks.promotions },
  { "uploads", check_uploads },
}

local LEVELS <const> = { "problem", "warning", "hint", "unknown" }

--- All that was found: { check, level, text }, level also ok; and how many of each level.
local function examine(s)
  local found, counts, tell, current = {}, {}, {}, nil
  local function rows(sql, ...) return ask.rows(s, sql, ...) end
  local function add(level, text) found[#found + 1] = { check = current, level = level, text = text } end
  for _, level in ipairs(LEVELS) do
    counts[level] = 0
    tell[level] = function(...)
      counts[level] = counts[level] + 1
      add(level, string.format(...))
    end
  end
  for _, check in ipairs(CHECKS) do
    local before = #found
    current = check[1]
    local ok, why = pcall(check[2], rows, tell)
    if not ok then tell.unknown("could not be looked at: %s", tostring(why)) end
    if #found == before then add("ok", "") end
  end
  current = "sessions"
  if not ask.sees_all(s) then
    tell.unknown("%s", ask.NOT_ALL:format(ask.row(s, "SELECT current_user AS name").name))
  end
  return found, counts
end

local function print_json(found, counts)
  local list = json.array {}
  for _, each in ipairs(found) do list[#list + 1] = each end
  print.json { problems = counts.problem, warnings = counts.warning, hints = counts.hint, unknown = counts.unknown,
               checks = list }
end

local function print_text(found, counts)
  for _, each in ipairs(found) do
    files.print(("%-8s %s%s%s\n"):format(each.level, each.check, each.text == "" and "" or ": ", each.text))
  end
  local sums = {}
  for i, level in ipairs { "problem", "warning", "hint" } do
    sums[i] = ("%d %s%s"):format(counts[level], level, counts[level] == 1 and "" or "s")
  end
  files.print(("%s%s\n"):format(table.concat(sums, ", "),
    counts.unknown > 0 and (", %d could not be looked at"):format(counts.unknown) or ""))
end

local function exit_code(counts)
  return counts.problem > 0 and CRITICAL or counts.unknown > 0 and UNKNOWN or counts.warning > 0 and WARNING or 0
end

local function main(arguments)
  if #arguments > 1 or arguments[1] and arguments[1] ~= "--json" then
    return nil, "unexpected argument '" .. (arguments[2] or arguments[1]) .. "'"
  end
  local connected, s = pcall(session.connect)
  if not connected then
    files.warn("omade db: " .. s .. "\n")
    return UNKNOWN
  end
  local found, counts = examine(s)
  s:close()
  if arguments[1] then print_json(found, counts) else print_text(found, counts) end
  return exit_code(counts)
end

return { main = main }
