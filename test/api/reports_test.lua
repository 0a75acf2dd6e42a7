-- Reports: the figures are those of independent SQL; CSV is harmless and whole.
-- only: hostile
-- serve: --workers 1
-- env: SHOP_TIMEZONE=Pacific/Auckland
-- env: CSV_AHEAD=0

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

local function shop_day(column) return ("(%s AT TIME ZONE 'Pacific/Auckland')::date"):format(column) end

local DAY <const> = shop_day "delivered_at"

---- Anything, and what the plain queries say to it -------------------------------------------------

local SEED <const> = "SELECT setseed(0.11); "

-- Orders of two years, then changes of all kinds, as SQL of the owner's: the triggers count.
local PLACE <const> = [[
  INSERT INTO orders (id, user_id, guest_name, guest_phone, status, payment_method, fulfilment, delivery_schedule_id, subtotal,
                      total_amount, created_at, delivered_at)
  SELECT gen_random_uuid(), buyer, CASE WHEN buyer IS NULL THEN 'Guest' END, CASE WHEN buyer IS NULL THEN '+1234567890' END,
         status, (ARRAY['cash', 'online'])[1 + n % 2], 'delivery', CASE WHEN n % 5 > 0 THEN slots[1 + n % 20] END, n % 90, n % 90,
         at, CASE WHEN status = 'delivered' THEN at + random() * interval '3 days' END
  FROM (SELECT n, CASE WHEN n % 7 > 0 THEN people[1 + n % 9] END AS buyer,
               '2024-01-01Z'::timestamptz + random() * interval '2 years' AS at, slots,
               (ARRAY['pending', 'preparing', 'dispatched', 'delivered', 'delivered', 'cancelled'])[1 + floor(random() * 6)] AS status
        FROM generate_series(1, 150) n, (SELECT array_agg(id ORDER BY id) AS people FROM users) u,
             (SELECT array_agg(id ORDER BY id) AS slots FROM (SELECT id FROM delivery_schedules WHERE capacity - booked > 9
                                                              ORDER BY delivery_date DESC LIMIT 20) d) s) x;
  INSERT INTO promo_redemptions (promo_code_id, order_id, user_id, guest_identity, amount, created_at)
  SELECT (SELECT id FROM promo_codes WHERE usage_limit IS NULL AND o.id IS NOT NULL ORDER BY random() LIMIT 1), id, user_id,
         CASE WHEN user_id IS NULL THEN 'g' END, 1.5, created_at FROM orders o WHERE subtotal::int % 3 = 0
  ON CONFLICT DO NOTHING]]

local CHANGE <const> = [[
  INSERT INTO order_status_history (order_id, status, at, by_role)
    SELECT id, unnest(ARRAY['dispatched', 'preparing']), delivered_at, 'staff' FROM orders WHERE delivered_at IS NOT NULL AND random() < 0.2;
  UPDATE orders SET status = 'refunded', payment_status = 'refunded', refunded_amount = total_amount WHERE random() < 0.1;
  UPDATE orders SET refunded_amount = round(total_amount / 3, 2) WHERE random() < 0.1;
  UPDATE orders SET status = 'preparing', delivered_at = NULL WHERE status = 'delivered' AND random() < 0.1;
  UPDATE orders SET status = 'delivered' WHERE status = 'dispatched' AND random() < 0.3;
  UPDATE orders SET status = 'cancelled' WHERE status = 'pending' AND random() < 0.3;
  UPDATE orders SET delivery_schedule_id = (SELECT id FROM delivery_schedules WHERE capacity - booked > 40 LIMIT 1)
    WHERE delivery_schedule_id IS NOT NULL AND random() < 0.1;
  UPDATE orders SET user_id = (SELECT id FROM users ORDER BY id LIMIT 1) WHERE user_id IS NOT NULL AND random() < 0.1;
  UPDATE orders SET payment_status = 'paid' WHERE payment_status = 'pending' AND random() < 0.3;
  UPDATE promo_redemptions SET returned_at = now() WHERE random() < 0.2;
  DELETE FROM orders o WHERE random() < 0.03 AND NOT EXISTS (SELECT FROM loyalty_ledger l WHERE l.order_id = o.id)
    AND NOT EXISTS (SELECT FROM refunds r WHERE r.order_id = o.id) AND NOT EXISTS (SELECT FROM payments p WHERE p.order_id = o.id)]]

local MERGE <const> = "BEGIN; SET LOCAL app.user_role = 'system'; SELECT compact_sales_figures(), compact_report_figures(); COMMIT"

--- {name, what of a row is compared, the rows as text by the tables themselves; $1, $2: the days}.
local PLAIN <const> = {
  { "customers", function(r) return ("%s %d %.2f"):format(r.id, r.orders, r.spent) end, [[
    SELECT u.id || ' ' || count(o.id) || ' ' || COALESCE(sum(o.total_amount - o.refunded_amount), 0)::numeric(10,2)
    FROM users u LEFT JOIN orders o ON o.user_id = u.id AND o.status = 'delivered' AND ]] .. DAY .. [[ BETWEEN '$1' AND '$2'
    GROUP BY u.id HAVING u.role = 'customer' OR count(o.id) > 0
    ORDER BY COALESCE(sum(o.total_amount - o.refunded_amount), 0) DESC, u.id LIMIT 100]] },
  { "promo-usage", function(r)
      return ("%s %d %d %.2f %.2f"):format(r.code, r.uses, r.returned, r.discount_amount, r.order_amount)
    end, [[
    SELECT p.code || ' ' || count(r.id) FILTER (WHERE r.returned_at IS NULL) || ' ' || count(r.returned_at) || ' '
      || COALESCE(sum(r.amount) FILTER (WHERE r.returned_at IS NULL), 0)::numeric(10,2) || ' '
      || COALESCE(sum(o.total_amount) FILTER (WHERE r.returned_at IS NULL), 0)::numeric(10,2)
    FROM promo_codes p LEFT JOIN promo_redemptions r ON r.promo_code_id = p.id
      AND ]] .. shop_day "r.created_at" .. [[ BETWEEN '$1' AND '$2' LEFT JOIN orders o ON o.id = r.order_id
    GROUP BY p.id ORDER BY count(r.id) FILTER (WHERE r.returned_at IS NULL) DESC, p.code]] },
  { "delivery", function(r)
      return ("%s %d %d %d %d %d %d %d"):format(r.delivery_date, r.slots, r.capacity, r.booked, r.delivered, r.open, r.cancelled, r.failed)
    end, [[
    SELECT concat_ws(' ', day, COALESCE(slots, 0), COALESCE(capacity, 0), COALESCE(booked, 0), COALESCE(delivered, 0),
                     COALESCE(open, 0), COALESCE(cancelled, 0), COALESCE(failed, 0))
    FROM (SELECT delivery_date AS day, count(*) AS slots, sum(capacity) AS capacity, sum(booked) AS booked FROM delivery_schedules
          WHERE delivery_date BETWEEN '$1' AND '$2' GROUP BY 1) s
    LEFT JOIN (SELECT d.delivery_date AS day, count(o.delivered_at) AS delivered,
                 count(*) FILTER (WHERE o.status NOT IN ('delivered', 'cancelled', 'refunded')) AS open,
                 count(*) FILTER (WHERE o.status = 'cancelled' OR o.status = 'refunded' AND o.delivered_at IS NULL) AS cancelled
               FROM orders o JOIN delivery_schedules d ON d.id = o.delivery_schedule_id GROUP BY 1) o USING (day)
    FULL JOIN (SELECT ]] .. shop_day "h.at" .. [[ AS day, count(*) AS failed FROM order_status_history h
               WHERE h.status = 'preparing' AND h.payment_status IS NULL AND ]] .. shop_day "h.at" .. [[ BETWEEN '$1' AND '$2'
                 AND 'dispatched' = (SELECT b.status FROM order_status_history b WHERE b.order_id = h.order_id
                                     AND b.payment_status IS NULL AND b.id < h.id ORDER BY b.id DESC LIMIT 1)
               GROUP BY 1) f USING (day)
    ORDER BY day DESC LIMIT 100]] },
}

local RANGES <const> = { { "2024-03-05", "2025-07-20" }, { "2024-04-07", "2024-04-07" }, { "2024-09-28", "2024-09-30" },
                         { "2025-06-01", "2025-06-30" }, { "2000-01-01", "2100-01-01" } }

--- The stats of orders as text, by what each row is called.
local function stats_text(list, ...)
  local lines = {}
  for i, row in ipairs(list) do
    local name = {}
    for k, column in ipairs { ... } do name[k] = row[column] end
    lines[i] = ("%s %d %.2f %.2f"):format(table.concat(name, " "), row.count, row.total_amount, row.refunded_amount)
  end
  return table.concat(lines, "\n")
end

local function plain_stats(columns, condition, order)
  return ([[(SELECT COALESCE(string_agg(line, E'\n' ORDER BY %s), '') FROM (SELECT %s, concat_ws(' ', %s, count(*), sum(total_amount),
    sum(refunded_amount)) AS line FROM (SELECT *, %s AS day FROM orders) o WHERE %s GROUP BY %s) x)]]):format(
    order, columns, columns, shop_day "created_at", condition, columns)
end

local function check_stats(from, to)
  local stats = check.status(client.get(("/api/v1/orders/stats?date_from=%s&date_to=%s"):format(from, to), { token = staff }), 200)
    .json().data
  local range = ("day BETWEEN '%s' AND '%s'"):format(from, to)
  local got = { stats_text(stats.by_status, "status"), stats_text(stats.by_payment, "payment_method", "payment_status"),
                stats_text(stats.by_day, "day") }
  check.equal(table.concat(got, "|"), client.sql("SELECT concat_ws('|', " .. plain_stats("status", range, "status") .. ", "
    .. plain_stats("payment_method, payment_status", range, "payment_method, payment_status") .. ", "
    .. plain_stats("day", range .. (" AND day > '%s'::date - 366"):format(to), "day DESC") .. ")"), "stats of " .. from)
end

local function check_all(when)
  for _, range in ipairs(RANGES) do
    for _, report in ipairs(PLAIN) do
      local lines = {}
      for i, row in ipairs(get(report[1], ("from=%s&to=%s"):format(range[1], range[2]))[NAMES[report[1]]]) do
        lines[i] = report[2](row)
      end
      local expected = client.sql((report[3]:gsub("%$(%d)", function(n) return range[tonumber(n)] end)))
      check.equal(table.concat(lines, "\n"), expected, ("%s of %s to %s, %s"):format(report[1], range[1], range[2], when))
    end
    check_stats(range[1], range[2])
  end
end

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
      local lines = {}
      for i, row in ipairs(get("product-stats", ("from=%s&to=%s"):format(range[1], range[2])).product_stats) do
        lines[i] = ("%s %d %.2f"):format(row.id, row.sold, row.revenue)
      end
      check.equal(table.concat(lines, "\n"), value([[SELECT p.id || ' ' || COALESCE(sum(l.quantity), 0) || ' '
          || COALESCE(sum(l.subtotal - l.discount_amount), 0)::numeric(10,2)
        FROM products p LEFT JOIN (SELECT i.* FROM order_items i JOIN orders o ON o.id = i.order_id WHERE status = 'delivered'
          AND %s BETWEEN '%s' AND '%s') l ON l.product_id = p.id
        GROUP BY p.id ORDER BY COALESCE(sum(l.subtotal - l.discount_amount), 0) DESC, p.id LIMIT 100]], DAY, range[1], range[2]))
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

  { "anything happens: all of it is as the plain queries say", function()
    value "UPDATE promo_codes SET usage_limit = NULL WHERE code = 'SAVE5'"
    client.sql(SEED .. PLACE .. ";" .. CHANGE)
    check_all "changed"
    client.sql(MERGE)
    check_all "merged"
    client.sql(SEED .. PLACE .. ";" .. CHANGE)
    check_all "changed again"
    local failed = tonumber(value "SELECT count(*) FROM order_status_history WHERE failed AND at < '2026-02-01Z'")
    check.truthy(failed > 5, "failed deliveries: " .. failed)
    check.truthy(tonumber(value "SELECT count(*) FROM user_sales_movements") > 5, "some are not merged")
  end },

  { "a buyer leaves: what he bought stays, and nobody finds it by his name", function()
    value("BEGIN; SET LOCAL app.user_role = 'admin'; SELECT anonymise_user('%s'); COMMIT", "00000000-0000-0000-0000-000000000002")
    check_all "one has left"
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

  { "CSV: one moment, however long it is read", function()
    -- More than the buffers of a connection hold.
    value [[INSERT INTO products (name, category, price, stock) SELECT repeat('long ', 48) || n, repeat('c', 90), 1, 1
      FROM generate_series(1, 20000) n]]
    local count = tonumber(value "SELECT count(*) FROM products")
    local c = client.connect()
    c:send(client.format("GET", REPORTS .. "product-stats?format=csv", { token = staff, headers = { Connection = "close" } }))
    local head = c:read_until "\r\n\r\n"
    local reading <const> = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'FETCH%%'"
    client.eventually(10, "it waits for its reader", function() return value(reading .. " AND state = 'idle in transaction'") == "1" end)
    local other = client.connect()
    other:send(client.format("GET", REPORTS .. "daily-sales?format=csv&from=2024-01-01&to=2026-01-01", { token = staff }))
    check.truthy(#get("product-stats").product_stats == 100)
    -- Before and behind what has been read.
    value [[INSERT INTO products (id, name, price, stock) SELECT ('0' || substr(gen_random_uuid()::text, 2))::uuid, 'new', 1, 1
      FROM generate_series(1, 3000)]]
    value "UPDATE products SET name = 'renamed' WHERE name LIKE 'long %%'"
    value "DELETE FROM products WHERE name = 'renamed' AND id::text > '8'"
    local busy = check.status(other:answer "GET", 503, "UNAVAILABLE")
    check.truthy(busy.headers["retry-after"])
    check.equal(value(reading .. " AND state = 'idle in transaction'"), "1")
    c.rest = head .. c.rest
    local seen, rows = {}, parse(check.status(c:answer "GET", 200).body)
    for i = 2, #rows do
      check.truthy(not seen[rows[i][1]], "once")
      seen[rows[i][1]] = true
      check.truthy(rows[i][2] ~= "new" and rows[i][2] ~= "renamed", rows[i][2])
    end
    check.equal(#rows - 1, count)
    check.equal(value(reading .. " AND state <> 'idle'"), "0")
  end },

  { "CSV: who leaves in the middle leaves nothing open", function()
    local c = client.connect()
    c:send(client.format("GET", REPORTS .. "product-stats?format=csv", { token = staff }))
    check.matches(c:read_until "\r\n\r\n", "^HTTP/1.1 200")
    c:close()
    check.truthy(#parse((csv "daily-sales")) > 0)
    client.eventually(10, "nothing is open", function()
      return value "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction'" == "0"
    end)
  end },
}
