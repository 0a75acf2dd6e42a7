--- Which tables a statement reads whole, by the plan that PostgreSQL makes of it.

local ask  = require "omade.cli.db.ask"
local json = require "omade.json"

local plan = {}

-- A plan for any values, since they are not kept.  Nothing is run, and nothing could be changed.
local BEGIN <const> = "BEGIN READ ONLY; SET LOCAL plan_cache_mode = force_generic_plan; SET LOCAL lock_timeout = '1s'"

--- The statement's highest parameter: "$3" -> 3
local function count_parameters(query)
  local most = 0
  for number in query:gmatch "%$(%d+)" do most = math.max(most, tonumber(number)) end
  return most
end

--- Its plans, decoded; nil when it has none.
local function explain(s, query)
  if not s:run(BEGIN) or not s:query("PREPARE omade_plan AS " .. query) then return nil end
  local count = count_parameters(query)
  local values = count > 0 and "(" .. ("NULL, "):rep(count - 1) .. "NULL)" or ""
  local rows = s:query("EXPLAIN (FORMAT JSON, COSTS OFF) EXECUTE omade_plan" .. values)
  local text = rows and rows[1] and rows[1]["QUERY PLAN"]
  return text and json.decode(text)
end

local function collect(node, scans)
  if node["Node Type"] == "Seq Scan" then
    scans[#scans + 1] = { relation = node["Relation Name"], condition = node.Filter }
  end
  for _, child in ipairs(node.Plans or {}) do collect(child, scans) end
end

local PAGES <const> = [[SELECT relpages AS pages FROM pg_class
  WHERE oid = to_regclass(quote_ident($1)) AND relpages >= $2::int]]

--- The largest table of at least `least` pages that the statement reads whole; nil when there
--- is none, or the statement has no plan.
---@param s userdata session, in no transaction
---@param query string with $1 and so on
---@param least integer
---@return { relation: string, condition: string?, pages: integer }?
function plan.scan(s, query, least)
  local scans, largest = {}, nil
  local plans = explain(s, query)
  s:run "ROLLBACK"
  s:run "DEALLOCATE omade_plan"
  if plans then collect(plans[1].Plan, scans) end
  for _, scan in ipairs(scans) do
    local row = ask.row(s, PAGES, scan.relation, tostring(least))
    scan.pages = row and math.tointeger(tonumber(row.pages))
    if row and (not largest or scan.pages > largest.pages) then largest = scan end
  end
  return largest
end

return plan
