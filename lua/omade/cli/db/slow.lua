--- omade db slow: where the time of statements goes, from pg_stat_statements.
--
-- What takes most of the time comes first: ten thousand calls of 2 ms weigh more than one of
-- a second.  --by mean is the seed document's order.

local ask  = require "omade.cli.db.ask"
local plan = require "omade.cli.db.plan"

local slow = {}

slow.ORDERS = { total = "total_ms", mean = "mean_ms", calls = "calls" }

-- One row a statement, whoever ran it.  Not what nobody waits for (maintenance, migrations,
-- copies, pg_dump), nor what these commands ask themselves.
local STATEMENTS <const> = [[
  WITH each AS (
    SELECT query, sum(calls) AS calls, sum(total_exec_time) AS total_ms, max(max_exec_time) AS max_ms, sum(rows) AS rows,
           sum(shared_blks_hit) AS hit, sum(shared_blks_hit + shared_blks_read) AS pages
    FROM %s.pg_stat_statements
    WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND query !~* '^(\s|--[^\n]*\n)*(VACUUM|ANALYZE|REINDEX|CLUSTER|COPY|CREATE|ALTER|DROP|TRUNCATE|GRANT|REVOKE|COMMENT|EXPLAIN|LOCK)\M'
      AND query !~* '\mpg_(catalog|class|database|stat)|\m(FROM|JOIN)\s+pg_'
    GROUP BY query)
  SELECT calls, round(total_ms::numeric, 3) AS total_ms, round((total_ms / calls)::numeric, 3) AS mean_ms,
         round(max_ms::numeric, 3) AS max_ms, rows,
         round((100 * total_ms / NULLIF(sum(total_ms) OVER (), 0))::numeric, 1) AS share,
         div(pages, calls) AS pages_per_call, div(pages, GREATEST(rows, calls)) AS pages_per_row,
         round(100.0 * hit / NULLIF(pages, 0), 1) AS hit_percent, query
  FROM each WHERE calls > 0 ORDER BY %s DESC, query LIMIT 10]]

--- "SELECT a, b, c FROM t WHERE ..." -> "SELECT ... FROM t WHERE ...": what tells statements
-- apart stands behind the columns.  A FROM within parentheses belongs to them.
local function without_columns(query)
  local depth = 0
  if not query:find "^%s*SELECT%s" then return query end
  for at, found in query:gmatch "()([()%a_]+)" do
    for bracket in found:gmatch "[()]" do depth = depth + (bracket == "(" and 1 or -1) end
    if found == "FROM" and depth == 0 then return at > 40 and "SELECT … " .. query:sub(at) or query end
  end
  return query
end

slow.columns = {
  { key = "calls", kind = "number" }, { key = "total_ms", title = "total ms", kind = "ms" },
  { key = "share", kind = "percent" }, { key = "mean_ms", title = "mean ms", kind = "ms" },
  { key = "max_ms", title = "max ms", kind = "ms", spare = true }, { key = "rows", kind = "number", spare = true },
  { key = "pages_per_call", title = "pages/call", kind = "number", spare = true },
  { key = "hit_percent", title = "in memory", kind = "percent", spare = true }, { key = "query", width = 80, show = without_columns },
}
slow.others = true

local ABSENT <const> = "pg_stat_statements is not there: put shared_preload_libraries = 'pg_stat_statements' into "
  .. "postgresql.conf, restart PostgreSQL, and as a superuser run CREATE EXTENSION pg_stat_statements"

function slow.ask(s, options)
  local schema = ask.extension(s, "pg_stat_statements")
  if not schema then error(ABSENT, 0) end
  local found, why = s:query(STATEMENTS:format(schema, slow.ORDERS[options.by or "total"]))
  if found then return found end
  error(why:find("shared_preload_libraries", 1, true) and ABSENT or "PostgreSQL: " .. why, 0)
end

---- Advice --------------------------------------------------------------------------------

local function number(row, key) return tonumber(row[key]) or 0 end

-- A megabyte a call, and much of it for nothing.
local MANY_PAGES <const> = 128

--- The table that a statement reads whole: its plan says so, and it reads as many pages.
local function scan_of(row, s)
  if number(row, "calls") < 5 or number(row, "pages_per_call") < MANY_PAGES then return nil end
  local scan = plan.scan(s, row.query, MANY_PAGES)
  return scan and 2 * number(row, "pages_per_call") >= scan.pages and scan or nil
end

--- add(format, ...) for what should be seen to in row i.
local function advise_on(add, i, row, s)
  local scan, mean = scan_of(row, s), number(row, "mean_ms")
  if scan and scan.condition then
    add("row %d scans all of %s, %d pages, for %s: an index on that would spare it", i, scan.relation, scan.pages,
        scan.condition)
  elseif scan then
    add("row %d reads all of %s, %d pages: it names no condition", i, scan.relation, scan.pages)
  elseif number(row, "pages_per_row") >= 1000 and number(row, "calls") >= 5 then
    add("row %d reads %.0f pages for each row of its answer: see its plan, EXPLAIN (ANALYZE, BUFFERS)", i,
        number(row, "pages_per_row"))
  end
  if mean >= 100 then add("row %d takes %.0f ms on the average: see its plan, EXPLAIN (ANALYZE, BUFFERS)", i, mean) end
  if number(row, "share") >= 50 and number(row, "calls") >= 100 then
    add("row %d is %.0f %% of all the time that statements take", i, number(row, "share"))
  end
end

function slow.advise(found, s)
  local lines = {}
  local function add(...) lines[#lines + 1] = string.format(...) end
  for i, row in ipairs(found) do advise_on(add, i, row, s) end
  if #found == 0 then add "no statement has been counted yet" end
  return lines
end

return slow
