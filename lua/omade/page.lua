--- Pages of a list, in the shape of the API.
--
-- local List = v.shape(page.fields { status = v.text { optional = true } })
-- return page.list("orders", req.query, { select = "id, status", from = "orders WHERE ...",
--                                         order = "created_at DESC, id", values = { ... } })

local db       = require "omade.db"
local validate = require "omade.validate"
local web      = require "omade.web"

---@class omade.page
local page = {}

local COUNT_MAX <const> = 10000       -- totals are exact up to here
local DEPTH_MAX <const> = 200000      -- page x limit

--- The fields of a query with `page` and `limit` among them.
---@param fields? table<string, omade.rule>
---@return table<string, omade.rule>
function page.fields(fields)
  local all_fields = { page  = validate.integer { min = 1, max = DEPTH_MAX, default = 1 },
                       limit = validate.integer { min = 1, max = 100, default = 20 } }
  for name, rule in pairs(fields or {}) do all_fields[name] = rule end
  return all_fields
end

--- Refuses pages that are too deep to be read: 400.
---@param query {page: integer, limit: integer}
function page.check(query)
  if query.page * query.limit <= DEPTH_MAX then return end
  validate.refuse { { path = "page", message = "Page times limit must be at most " .. DEPTH_MAX } }
end

local function statement(sql, values, as)
  local entry = { sql, as = as, n = #values + 1 }
  for i, value in ipairs(values) do entry[i + 1] = value end
  return entry
end

---@class omade.page_source
---@field select string the columns
---@field from string what stands behind FROM, with its WHERE
---@field order string what stands behind ORDER BY; ends with a unique column
---@field count? string `from` with as many rows, where less of it tells how many these are
---@field cut? boolean the page is cut from the rows first, which are r: for columns that are looked up
---@field values? any[] the parameters ($1, ...) of `from`; no nils

local function page_sql(query, source)
  local cut = (" ORDER BY %s LIMIT %d OFFSET %d"):format(source.order, query.limit, (query.page - 1) * query.limit)
  if not source.cut then return ("SELECT %s FROM %s%s"):format(source.select, source.from, cut) end
  return ("SELECT %s FROM (SELECT * FROM %s%s) r ORDER BY %s"):format(source.select, source.from, cut, source.order)
end

--- One page and the total, asked for side by side.
---@param name string the list's name in the answer
---@param query {page: integer, limit: integer}
---@param source omade.page_source
---@return table {<name>: rows, total, page, limit, totalPages, total_is_estimate?}
function page.list(name, query, source)
  page.check(query)
  local values = source.values or {}
  local results = db.all {
    statement(("SELECT count(*) AS n FROM (SELECT 1 FROM %s LIMIT %d) AS counted")
                :format(source.count or source.from, COUNT_MAX + 1), values, "row"),
    statement(page_sql(query, source), values, "json"),
  }
  local total = results[1].n
  local answer = web.list(name, results[2], math.min(total, COUNT_MAX), query)
  if total > COUNT_MAX then answer.total_is_estimate = true end
  return answer
end

--- Collects conditions with their parameters for `from`.
---@return {add: fun(self, condition: string, value: any), sql: fun(self): string, values: any[]}
function page.filter()
  return {
    values = {},
    conditions = {},
    --- `condition` has %s where the parameter goes; nothing is added for nil.
    add = function(self, condition, value)
      if value == nil then return end
      self.values[#self.values + 1] = value
      self.conditions[#self.conditions + 1] = (condition:gsub("%%s", "$" .. #self.values))
    end,
    --- " WHERE a AND b", or "".
    sql = function(self)
      if #self.conditions == 0 then return "" end
      return " WHERE " .. table.concat(self.conditions, " AND ")
    end,
  }
end

return page
