--- Reports for staff: pages of JSON, or the whole as CSV.

local audit   = require "bakery.services.audit"
local csv     = require "bakery.services.csv"
local days    = require "bakery.services.days"
local page    = require "omade.page"
local reports = require "bakery.rules.reports"
local s       = require "omade.schema"
local v       = require "omade.validate"
local web     = require "omade.web"

---- Shapes: what a caller may send --------------------------------------------------------------

local Query <const> = v.shape(page.fields {
  from   = v.date { optional = true },
  to     = v.date { optional = true },
  format = v.one_of({ "json", "csv" }, { default = "json" }),
})

---- Handlers: request in, answer out ------------------------------------------------------------

--- First and last day: the last 30, where they are not said.
local function range_of(q)
  local to = q.to or days.today()
  local from = q.from or days.after(to, 1 - reports.DAYS)
  if from > to then v.refuse { { path = "from", message = "From must not be after to" } } end
  return from, to
end

local function select_of(report)
  local list = {}
  for i, column in ipairs(report.columns) do
    list[i] = (column.sql or "r." .. column.name) .. " AS " .. column.name
  end
  return table.concat(list, ", ")
end

local function handler(path)
  local report = reports[path]
  local columns = select_of(report)
  return function(req)
    local from, to = range_of(req.query)
    if path == "customers" then
      audit.write(req, "customer.report", "user", nil, { from = from, to = to, format = req.query.format })
    end
    if req.query.format == "csv" then
      return csv.answer(req, ("%s_%s_%s.csv"):format(path, from, to), {
        columns = report.columns, rows = report.rows, order = report.order, values = { from, to } })
    end
    local answer = page.list(report.name, req.query, { select = columns, from = "(" .. report.rows .. ") r",
                                                       order = report.order, values = { from, to }, cut = true })
    answer.from, answer.to = from, to
    return answer
  end
end

---- Answers -----------------------------------------------------------------------------------------

local ROWS <const> = {
  ["daily-sales"] = s.object { sale_date = s.date, order_count = s.count, total_revenue = s.money,
                               avg_order_value = s.money },
  ["product-stats"] = s.object {
    id = s.uuid, name = s.text, category = s.nullable(s.text), price = s.money, stock = s.count,
    avg_rating = s.number, review_count = s.count, total_sold = s.count, sold = s.count, revenue = s.money },
  customers = s.object {
    id = s.uuid, name = s.text, email = s.text, total_orders = s.count, total_spent = s.money,
    last_order_date = s.nullable(s.time), loyalty_points = s.count, orders = s.count, spent = s.money },
  ["promo-usage"] = s.object {
    id = s.uuid, code = s.text, discount_type = s.text, amount = s.money, usage_limit = s.nullable(s.count),
    valid_from = s.time, valid_to = s.time, uses = s.count, returned = s.count, discount_amount = s.money,
    order_amount = s.money },
  delivery = s.object {
    delivery_date = s.date, slots = s.count, capacity = s.count, booked = s.count, delivered = s.count,
    open = s.count, cancelled = s.count, failed = s.count },
}

---- Routes: the table of contents -----------------------------------------------------------------

local function report(path, summary)
  return { "GET", "/" .. path, handler(path), who = "staff", query = Query, summary = summary,
           type = { "application/json", "text/csv" },
           answer = s.page(reports[path].name, ROWS[path], { from = s.date, to = s.date }),
           description = "Days of the shop, both ends included; without from and to the last "
             .. reports.DAYS .. ". CSV has all rows, JSON a page." }
end

return web.routes("/api/v1/reports", {
  report("daily-sales",   "Delivered orders by day"),
  report("product-stats", "Products: rating, reviews, pieces sold, revenue"),
  report("customers",     "Customers: orders and what they spent"),
  report("promo-usage",   "Promotions: uses and what they cost"),
  report("delivery",      "Deliveries by day"),
})
