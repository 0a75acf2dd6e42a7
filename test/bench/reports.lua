-- For reports.sh: how long reports and lists of staff take on the shop that a server serves,
-- over 30 days, over the middle half of three years and over all of them.  The least of some
-- rounds, in milliseconds, by HTTP: the whole answer, for CSV its first lines and all of them.
--
--   reports.lua [ROUNDS]

local client = require "client"

local rounds = tonumber(arg[1]) or 7
local staff  = client.session("staff", client.sql "SELECT id FROM users WHERE role = 'staff' ORDER BY id LIMIT 1")

local function day(ago) return client.sql(("SELECT (now() AT TIME ZONE shop_timezone())::date - %d"):format(ago)) end

local RANGES <const> = {
  { "30 days", day(29), day(0) }, { "the middle half", day(820), day(273) }, { "three years", day(1096), day(0) },
}

--- Milliseconds to the first bytes of the body, and to its end.
local function time_of(connection, path)
  local begun = client.now()
  assert(connection:send(client.format("GET", path, { token = staff })))
  local head = assert(connection:read_until "\r\n\r\n")
  assert(head:find "^HTTP/1.1 200", head)
  if #connection.rest == 0 then connection.rest = assert(connection:more()) end
  local first = client.now() - begun
  connection.rest = head .. connection.rest
  connection:answer "GET"
  return first * 1000, (client.now() - begun) * 1000
end

local connection = client.connect()
local function measure(path)
  local first, all = time_of(connection, path)
  for _ = 2, rounds do
    local again_first, again_all = time_of(connection, path)
    first, all = math.min(first, again_first), math.min(all, again_all)
  end
  return first, all
end

local function line(name, cells) print(("| %s | %s |"):format(name, table.concat(cells, " | "))) end

local function of_ranges(name, path, from, to, show)
  local cells = {}
  for i, range in ipairs(RANGES) do
    cells[i] = show(measure(("%s%s=%s&%s=%s"):format(path, from, range[2], to, range[3])))
  end
  line(name, cells)
end

local function whole(_, all) return ("%.0f"):format(all) end
local function both(first, all) return ("%.0f, all %.0f"):format(first, all) end

local head = {}
for i, range in ipairs(RANGES) do head[i] = range[1] end
print(("%s orders, %s customers; ms, the least of %d"):format(client.sql "SELECT count(*) FROM orders",
  client.sql "SELECT count(*) FROM users WHERE role = 'customer'", rounds))
line("report", head)
line("---", { "---", "---", "---" })
for _, name in ipairs { "daily-sales", "product-stats", "customers", "promo-usage", "delivery" } do
  of_ranges(name, "/api/v1/reports/" .. name .. "?", "from", "to", whole)
  of_ranges(name .. ", CSV", "/api/v1/reports/" .. name .. "?format=csv&", "from", "to", both)
end
of_ranges("orders/stats", "/api/v1/orders/stats?", "date_from", "date_to", whole)
of_ranges("orders/all", "/api/v1/orders/all?", "date_from", "date_to", whole)
for _, status in ipairs { "pending", "delivered", "cancelled" } do
  of_ranges("orders/all, " .. status, "/api/v1/orders/all?status=" .. status .. "&", "date_from", "date_to", whole)
end

print ""
line("list", { "ASC", "DESC" })
line("---", { "---", "---" })
for _, by in ipairs { "name", "email", "total_orders", "total_spent", "last_order_date", "loyalty_points", "created_at" } do
  local cells = {}
  for i, way in ipairs { "ASC", "DESC" } do
    cells[i] = whole(measure(("/api/v1/customers?sortBy=%s&sortOrder=%s"):format(by, way)))
  end
  line("customers by " .. by, cells)
end
line("products/stats", { whole(measure "/api/v1/products/stats"), "" })
