-- Reports: the figures are those of independent SQL; CSV is harmless and whole.
-- serve: --workers 1
-- env: SHOP_TIMEZONE=Pacific/Auckland

local check  = require "check"
local client = require "client"

local REPORTS <const> = "/api/v1/reports/"
local NAMES <const> = { ["daily-sales"] = "daily_sales", ["product-stats"] = "product_stats", customers = "customers",
                        ["promo-usage"] = "promo_usage", delivery = "delivery" }
local CAKE <const>, CUPCAKES <const> = "10000000-0000-0000-0000-000000000001", "10000000-0000-0000-0000-000000000002"

local staff = client.session("staff", client.sql "SELECT id FROM users WHERE role = 'staff' ORDER BY id LIMIT 1")
local john  = client.session("customer", "00000000-0000-0000-0000-000000000001")
local marco = client.session("rider", "00000000-0000-0000-0000-000000000006")

local function value(sql, ...) return client.sql((sql:format(...))) end

client.sql "UPDATE products SET stock = 1000"

local function get(name, query)
  return check.status(client.get(REPORTS .. name .. "?limit=100&" .. (query or ""), { token = staff }), 200).json().data
end

local function csv(name, query)
  local answer = check.status(client.get(REPORTS .. name .. "?format=csv&" .. (query or ""), { token = staff }), 200)
  check.equal(answer.headers["content-type"], "text/csv; charset=utf-8")
  return answer.body, answer
end

--- RFC 4180 read back: a list of rows, which are lists of cells.
local function parse(text)
  local rows, row, at = {}, {}, 1
  while at <= #text do
    local cell
    if text:sub(at, at) == '"' then
      local parts, from = {}, at + 1
      while true do
        local quote = assert(text:find('"', from, true), "a quote is left open")
        parts[#parts + 1] = text:sub(from, quote - 1)
        at = quote + 1
        if text:sub(at, at) ~= '"' then break end
        parts[#parts + 1], from = '"', at + 1
      end
      cell = table.concat(parts)
    else
      local stop = text:find('[,\r]', at) or #text + 1
      cell = text:sub(at, stop - 1)
      assert(not cell:find '["\n]', "an unquoted cell holds a quote or line feed: " .. cell)
      at = stop
    end
    row[#row + 1] = cell
    if text:sub(at, at) == "," then
      at = at + 1
    else
      assert(text:sub(at, at + 1) == "\r\n", "a line ends with CRLF")
      rows[#rows + 1], row, at = row, {}, at + 2
    end
  end
  return rows
end

--- An order of several lines, delivered.
local function delivered(items, more)
  local body = { items = items }
  for name, content in pairs(more or {}) do body[name] = content end
  local order = check.status(client.post("/api/v1/orders", { token = john, body = body }), 201).json().data
  for _, status in ipairs { "confirmed", "preparing", "ready", "delivered" } do
    check.status(client.patch("/api/v1/orders/" .. order.id .. "/status", { token = staff, body = { status = status } }), 200)
  end
  return order
end

local function one(id, quantity) return { product_id = id, quantity = quantity } end

local function by_id(rows, id)
  for _, row in ipairs(rows) do if row.id == id then return row end end
end

local DAY <const> = "(delivered_at AT TIME ZONE 'Pacific/Auckland')::date"

return {
  { "only staff, and days that are days", function()
    for name in pairs(NAMES) do
      check.status(client.get(REPORTS .. name), 401, "UNAUTHENTICATED")
      check.status(client.get(REPORTS .. name, { token = john }), 403, "FORBIDDEN")
      check.status(client.get(REPORTS .. name .. "?format=csv", { token = marco }), 403, "FORBIDDEN")
      local answer = check.status(client.get(REPORTS .. name .. "?from=2026-02-30&to=x&format=xml&limit=0", { token = staff }), 400)
      for _, field in ipairs { "from", "to", "format", "limit" } do check.truthy(answer.json().fields[field], field) end
      check.truthy(check.status(client.get(REPORTS .. name .. "?from=2026-02-02&to=2026-02-01", { token = staff }), 400)
                   .json().fields.from)
      local today = value "SELECT (now() AT TIME ZONE 'Pacific/Auckland')::date"
      local data = get(name)
      check.equal(data.to, today)
      check.equal(value("SELECT '%s'::date - '%s'::date", data.to, data.from), "29")
    end
    check.status(client.get("/api/v1/reports/salaries", { token = staff }), 404)
  end },

  { "several reviews and several lines do not multiply", function()
    local promo = value [[INSERT INTO promo_codes (code, discount_type, amount, valid_from, valid_to)
      VALUES ('REPORTED', 'percent', 10, now() - interval '1 day', now() + interval '1 day') RETURNING id]]
    delivered({ one(CAKE, 2), one(CUPCAKES, 1), one(CAKE, 3) }, { promo_code = "REPORTED", tip_amount = 1.5 })
    delivered({ one(CAKE, 1), one(CAKE, 1) }, { promo_code = "REPORTED" })
    value([[INSERT INTO reviews (user_id, product_id, rating)
      SELECT id, '%s', 1 + (row_number() OVER (ORDER BY id)) %% 5 FROM users WHERE role = 'customer'
      ON CONFLICT DO NOTHING]], CAKE)

    local row = by_id(get("product-stats").product_stats, CAKE)
    check.equal(row.review_count, tonumber(value("SELECT count(*) FROM reviews WHERE product_id = '%s'", CAKE)))
    check.equal(("%.2f"):format(row.avg_rating), value("SELECT round(avg(rating), 2) FROM reviews WHERE product_id = '%s'", CAKE))
    check.equal(row.total_sold, tonumber(value([[SELECT sum(quantity) FROM order_items WHERE product_id = '%s'
      AND order_id IN (SELECT id FROM orders WHERE status = 'delivered')]], CAKE)))
    check.equal(("%d %.2f"):format(row.sold, row.revenue), value([[SELECT sum(quantity) || ' ' ||
        sum(subtotal - discount_amount) FROM order_items WHERE product_id = '%s' AND order_id IN (SELECT id FROM orders
        WHERE status = 'delivered' AND %s BETWEEN (now() AT TIME ZONE 'Pacific/Auckland')::date - 29
          AND (now() AT TIME ZONE 'Pacific/Auckland')::date)]], CAKE, DAY))

    local usage = by_id(get("promo-usage").promo_usage, promo)
    check.equal(usage.uses, 2)
    check.equal(("%.2f %.2f"):format(usage.discount_amount, usage.order_amount),
      value "SELECT sum(discount_amount) || ' ' || sum(total_amount) FROM orders WHERE promo_code = 'REPORTED'")
  end },

  { "a returned use counts apart", function()
    local order = check.status(client.post("/api/v1/orders", { token = john, body = {
      items = { one(CUPCAKES, 1) }, promo_code = "REPORTED" } }), 201).json().data
    check.status(client.post("/api/v1/orders/" .. order.id .. "/cancel", { token = john }), 200)
    local id = value "SELECT id FROM promo_codes WHERE code = 'REPORTED'"
    local usage = by_id(get("promo-usage").promo_usage, id)
    check.equal(usage.uses, 2)
    check.equal(usage.returned, 1)
    check.equal(by_id(get("promo-usage", "from=2020-01-01&to=2020-01-31").promo_usage, id).uses, 0)
  end },

  { "daily sales, by the shop's day, both ends included", function()
    -- One minute before and after the shop's midnight.
    value([[UPDATE orders SET delivered_at = ('2026-03-10'::timestamp AT TIME ZONE 'Pacific/Auckland')
      + (n - 2) * interval '1 minute' FROM (SELECT id, row_number() OVER (ORDER BY id) AS n FROM orders
      WHERE status = 'delivered' LIMIT 3) o WHERE o.id = orders.id]])
    local function days(query)
      local list = {}
      for i, row in ipairs(get("daily-sales", query).daily_sales) do
        list[i] = ("%s|%d|%.2f|%.2f"):format(row.sale_date, row.order_count, row.total_revenue, row.avg_order_value)
      end
      return table.concat(list, "\n")
    end
    local function expected(from, to)
      return value([[SELECT %s || '|' || count(*) || '|' || sum(total_amount - refunded_amount) || '|'
        || round(sum(total_amount - refunded_amount) / count(*), 2) FROM orders WHERE status = 'delivered'
        AND %s BETWEEN '%s' AND '%s' GROUP BY %s ORDER BY %s DESC]], DAY, DAY, from, to, DAY, DAY)
    end
    check.equal(days "from=2026-03-09&to=2026-03-10", expected("2026-03-09", "2026-03-10"))
    check.matches(days "from=2026-03-10&to=2026-03-10", "^2026%-03%-10|2|")
    check.matches(days "from=2026-03-09&to=2026-03-09", "^2026%-03%-09|1|")
    check.equal(days "from=2026-03-11&to=2026-03-11", "")
    check.equal(days "from=2000-01-01&to=2100-01-01", expected("2000-01-01", "2100-01-01"))
  end },

  { "products sold within any days: whole days of UTC from figures, the ends from orders", function()
    for _, range in ipairs { { "2026-03-09", "2026-03-09" }, { "2026-03-10", "2026-03-10" }, { "2026-03-09", "2026-03-10" },
                             { "2026-09-27", "2026-09-27" }, { "2026-03-01", "2026-03-31" }, { "2000-01-01", "2100-01-01" } } do
      for _, row in ipairs(get("product-stats", ("from=%s&to=%s&limit=100"):format(range[1], range[2])).product_stats) do
        check.equal(("%d %.2f"):format(row.sold, row.revenue), value([[SELECT COALESCE(sum(quantity), 0) || ' ' ||
          COALESCE(sum(subtotal - discount_amount), 0)::numeric(10,2) FROM order_items WHERE product_id = '%s' AND order_id IN
          (SELECT id FROM orders WHERE status = 'delivered' AND %s BETWEEN '%s' AND '%s')]], row.id, DAY, range[1], range[2]))
      end
    end
  end },

  { "customers, with guests and strangers apart", function()
    local rows = get("customers", "from=2000-01-01&to=2100-01-01").customers
    for _, row in ipairs(rows) do
      check.equal(("%d %.2f"):format(row.orders, row.spent), value([[SELECT count(*) || ' ' ||
        COALESCE(sum(total_amount - refunded_amount), 0)::numeric(10,2) FROM orders WHERE user_id = '%s' AND status = 'delivered']], row.id))
      check.equal(row.total_orders, row.orders)
    end
    check.truthy(#rows > 5)
  end },

  { "delivery by day, with what failed", function()
    local slot = value "INSERT INTO delivery_schedules (delivery_date, delivery_time, capacity) VALUES ('2031-05-05', '09:00-11:00', 7) RETURNING id"
    local function place()
      return check.status(client.post("/api/v1/orders", { token = john, body = { items = { one(CUPCAKES, 1) }, fulfilment = "delivery",
        delivery_schedule_id = slot, address = { line1 = "1", city = "B", postal_code = "1" } } }), 201).json().data
    end
    local brought, lost, off = place(), place(), place()
    place()
    check.status(client.post("/api/v1/orders/" .. off.id .. "/cancel", { token = john }), 200)
    for _, order in ipairs { brought, lost } do
      for _, status in ipairs { "confirmed", "preparing", "dispatched" } do
        check.status(client.patch("/api/v1/orders/" .. order.id .. "/status", { token = staff, body = { status = status } }), 200)
      end
    end
    check.status(client.post("/api/v1/delivery/orders/" .. brought.id .. "/delivered", { token = staff }), 200)
    check.status(client.post("/api/v1/delivery/orders/" .. lost.id .. "/failed", { token = staff }), 200)
    check.same(get("delivery", "from=2031-05-05&to=2031-05-05").delivery,
      { { delivery_date = "2031-05-05", slots = 1, capacity = 7, booked = 2, delivered = 1, open = 1, cancelled = 1, failed = 0 } })
    check.equal(get("delivery", "limit=1").delivery[1].failed, 1)
  end },

  { "CSV: quoted, harmless, whole, and the same as JSON", function()
    local names = { '=HYPERLINK("http://evil","x")', "+1", "-2", "@SUM(A1)", 'with, comma', 'with "quotes"',
                    "two\r\nlines", "plain", "Crème brûlée" }
    for i, name in ipairs(names) do
      value("INSERT INTO products (name, category, price, stock) VALUES (E'%s', E'\\t=1', %d, 1)",
            name:gsub("'", "''"):gsub("\r", "\\r"):gsub("\n", "\\n"), i)
    end
    local text, answer = csv("product-stats", "from=2026-03-01&to=2026-03-31")
    check.equal(answer.headers["content-disposition"], 'attachment; filename="product-stats_2026-03-01_2026-03-31.csv"')
    check.equal(answer.headers["cache-control"], "no-store")
    local rows = parse(text)
    check.equal(table.concat(rows[1], " "), "id name category price stock avg_rating review_count total_sold sold revenue")
    check.equal(#rows - 1, tonumber(value "SELECT count(*) FROM products"))
    local seen = {}
    for i = 2, #rows do
      check.equal(#rows[i], 10)
      seen[rows[i][2]] = rows[i]
      for _, cell in ipairs(rows[i]) do check.truthy(not cell:find "^[=+@\t\r-]", cell) end
    end
    for i, name in ipairs(names) do
      local shown = i <= 4 and "'" .. name or name
      check.truthy(seen[shown], shown)
      check.equal(seen[shown][3], "'\t=1")
    end
    local by_json = get("product-stats", "from=2026-03-01&to=2026-03-31").product_stats
    for i, row in ipairs(by_json) do check.equal(rows[i + 1][1], row.id) end
    for name in pairs(NAMES) do check.truthy(#parse((csv(name, "from=2000-01-01&to=2100-01-01"))) > 1, name) end
    check.equal(csv("daily-sales", "from=2000-01-01&to=2000-01-02"), "sale_date,order_count,total_revenue,avg_order_value\r\n")
  end },

  { "CSV: many pieces, each row once", function()
    value [[INSERT INTO products (name, price, stock) SELECT 'many ' || n, 1, 1 FROM generate_series(1, 3456) n]]
    local seen, count = {}, 0
    local rows = parse((csv "product-stats"))
    for i = 2, #rows do
      check.truthy(not seen[rows[i][1]], "once")
      seen[rows[i][1]] = true
      count = count + 1
    end
    check.equal(count, tonumber(value "SELECT count(*) FROM products"))
  end },
}
