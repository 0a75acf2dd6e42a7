--- Many orders, for trying how the bakery does when it is large: `omade seed --scale N`.
--
-- Customers, slots, orders with lines and history, reviews and points, spread over three
-- years, written by COPY with the triggers off; counters and figures are set afterwards,
-- all in one transaction; for very many also without foreign keys and indexes, which come
-- back before it commits.  Made from a fixed seed, so two runs of one size are alike.

local files   = require "omade.core.files"
local session = require "omade.core.session"
local time    = require "omade.time"

local scale = {}

local YEARS <const>, DAY <const> = 3, 24 * 3600
local PROMOS <const>, DISCOUNT <const> = 12, 500     -- codes; cents
local ROWS_A_PUT <const> = 500
local TABLES <const> = { "users", "delivery_schedules", "orders", "order_items", "order_status_history", "reviews",
                         "loyalty_ledger", "promo_redemptions" }

---- Progress ---------------------------------------------------------------------------------------

local function bar(label)
  local begun, shown = time.monotonic(), 0
  local terminal = files.is_terminal()
  return function(done, total)
    local now = time.monotonic()
    if done < total and (not terminal or now - shown < 0.2) then return end
    shown = now
    local part = total == 0 and 1 or done / total
    local filled = math.floor(part * 30)
    files.warn(("%s%-10s [%s%s] %3d %%  %d  %.1f s%s"):format(terminal and "\r" or "", label, ("#"):rep(filled),
      (" "):rep(30 - filled), math.floor(part * 100), done, now - begun, (done == total or not terminal) and "\n" or ""))
  end
end

---- Rows ---------------------------------------------------------------------------------------------

local function quoted(value)
  if value == nil then return "\\N" end
  return tostring(value)
end

--- COPY into a table: make(i) gives the i-th row's values, or several rows' texts.
local function copy(s, target, count, label, make)
  local show, lines, n = bar(label), {}, 0
  s:copy("COPY " .. target .. " FROM STDIN")
  for i = 1, count do
    n = make(i, lines, n)
    if n >= ROWS_A_PUT then
      s:put(table.concat(lines, "\n", 1, n) .. "\n")
      n = 0
      show(i, count)
    end
  end
  if n > 0 then s:put(table.concat(lines, "\n", 1, n) .. "\n") end
  s:copied()
  show(count, count)
end

local function row(...)
  local values = { n = select("#", ...), ... }
  for i = 1, values.n do values[i] = quoted(values[i]) end
  return table.concat(values, "\t")
end

local function cents(amount) return ("%d.%02d"):format(amount // 100, amount % 100) end

---- What there is --------------------------------------------------------------------------------------

local function rows(s, sql, ...)
  local found, why = s:query(sql, ...)
  if not found then error(why, 0) end
  return found
end

local function run(s, sql)
  local ok, why = s:run(sql)
  if not ok then error(why, 0) end
end

local function products_of(s)
  local list = {}
  for i, product in ipairs(rows(s, [[SELECT id, name, (price * 100)::bigint AS cents FROM products
      WHERE archived_at IS NULL ORDER BY id]])) do
    list[i] = { id = product.id, name = product.name, cents = math.tointeger(tonumber(product.cents)) }
  end
  if #list == 0 then error("there are no products; run: omade seed", 0) end
  return list
end

local function promos_of(s)
  run(s, ([[INSERT INTO promo_codes (code, discount_type, amount, valid_from, valid_to)
    SELECT 'SCALE' || n, 'fixed', %s, now() - interval '%d years', now() FROM generate_series(1, %d) n
    ON CONFLICT DO NOTHING]]):format(cents(DISCOUNT), YEARS, PROMOS))
  return rows(s, "SELECT id, code FROM promo_codes WHERE code LIKE 'SCALE%' ORDER BY id")
end

---- The plan: everything about order i follows from i --------------------------------------------------

--- A stream of numbers of its own for each order (splitmix64), so that lines, history and
-- points tell the same story without keeping it.
local function numbers(seed)
  local state = seed * 0x9E3779B97F4A7C15
  return function(limit)
    state = state + 0x9E3779B97F4A7C15
    local z = state
    z = (z ~ (z >> 30)) * 0xBF58476D1CE4E5B9
    z = (z ~ (z >> 27)) * 0x94D049BB133111EB
    return ((z ~ (z >> 31)) >> 1) % limit
  end
end

local ENDS <const> = { { 940, "delivered" }, { 975, "cancelled" }, { 985, "refunded" } }

local STEPS <const> = {
  pickup   = { "pending", "confirmed", "preparing", "ready", "delivered" },
  delivery = { "pending", "confirmed", "preparing", "dispatched", "delivered" },
}

local function status_of(plan, draw)
  if plan.age < DAY then return plan.steps[1 + draw(4)] end
  local lot = draw(985)
  for _, entry in ipairs(ENDS) do if lot < entry[1] then return entry[2] end end
end

local function lines_of(world, plan, draw)
  plan.subtotal = 0
  plan.lines = {}
  local first = draw(#world.products)
  for k = 1, 1 + draw(3) do
    local product = world.products[(first + k * 7) % #world.products + 1]
    local quantity = 1 + draw(3)
    plan.lines[k] = { product = product, quantity = quantity, subtotal = product.cents * quantity }
    plan.subtotal = plan.subtotal + product.cents * quantity
  end
end

--- One order in eight has a promotion, where a line of it can bear it.
local function promote(world, plan, draw)
  plan.discount = 0
  if draw(8) > 0 then return end
  for _, line in ipairs(plan.lines) do
    if line.subtotal >= DISCOUNT then
      plan.promo = world.promos[1 + draw(#world.promos)]
      line.discount, plan.discount = DISCOUNT, DISCOUNT
      return
    end
  end
end

local function plan_of(world, i)
  local draw = numbers(world.run * 2654435761 + i)
  local plan = { id = ("%08x-0000-4000-8000-%012x"):format(world.run, i), customer = draw(world.customers) + 1 }
  plan.age = math.floor((world.count - i) / world.count * YEARS * 365 * DAY)
  plan.at = world.now - plan.age
  plan.fulfilment = draw(10) < 4 and "delivery" or "pickup"
  plan.steps = STEPS[plan.fulfilment]
  plan.status = status_of(plan, draw)
  lines_of(world, plan, draw)
  plan.fee = plan.fulfilment == "delivery" and plan.subtotal < 5000 and 599 or 0
  promote(world, plan, draw)
  plan.total = plan.subtotal - plan.discount + plan.fee
  plan.failed = plan.fulfilment == "delivery" and draw(50) == 0
  plan.slot = plan.fulfilment == "delivery" and world.slots[(plan.at // DAY + 1) * 4 + draw(4)] or nil
  return plan
end

local function done(plan) return plan.status == "delivered" or plan.status == "refunded" end

---- The tables -------------------------------------------------------------------------------------------

local FIRST <const> = { "Ada", "Ben", "Chloe", "Dan", "Eva", "Finn", "Gita", "Hugo", "Iris", "Jon", "Kim", "Lea" }
local LAST <const> = { "Baker", "Miller", "Cook", "Farmer", "Smith", "Potter", "Mason", "Weaver", "Cooper", "Wright" }

local function customer_id(world, i) return ("%08x-0000-4000-9000-%012x"):format(world.run, i) end

local function write_customers(s, world)
  copy(s, "users (id, name, email, password_hash, role, created_at)", world.customers, "customers", function(i, lines, n)
    lines[n + 1] = row(customer_id(world, i), FIRST[i % #FIRST + 1] .. " " .. LAST[i // #FIRST % #LAST + 1],
                       ("scale-%x-%d@example.com"):format(world.run, i), world.password, "customer",
                       time.iso(world.now - YEARS * 365 * DAY))
    return n + 1
  end)
  run(s, "INSERT INTO loyalty_points (user_id) SELECT id FROM users ON CONFLICT (user_id) DO NOTHING")
end

--- Four slots a day, as far as there are none yet.
local function write_slots(s, world)
  run(s, ([[INSERT INTO delivery_schedules (delivery_date, delivery_time, capacity, status, rider_id)
    SELECT day::date, time, 500, 'completed', (SELECT id FROM users WHERE role = 'rider' ORDER BY id LIMIT 1)
    FROM generate_series(current_date - %d, current_date - 1, interval '1 day') AS day,
      unnest(ARRAY['09:00-11:00', '11:00-13:00', '14:00-16:00', '16:00-18:00']) AS time
    ON CONFLICT DO NOTHING]]):format(YEARS * 365 + 2))
  world.slots = {}
  for _, slot in ipairs(rows(s, [[SELECT id, (delivery_date - date '1970-01-01') * 4
      + row_number() OVER (PARTITION BY delivery_date ORDER BY delivery_time) - 1 AS at
      FROM delivery_schedules WHERE delivery_date < current_date]])) do
    world.slots[math.tointeger(tonumber(slot.at))] = slot.id
  end
end

local ADDRESS <const> = [[{"line1": "1 Oven Street", "city": "Baketown", "postal_code": "12345"}]]

local function write_orders(s, world)
  copy(s, "orders (id, user_id, order_number, status, payment_status, payment_method, fulfilment, subtotal, discount_amount,"
       .. " promo_code, promo_code_id, delivery_fee, total_amount, refunded_amount, delivery_schedule_id, address,"
       .. " pickup_at, delivered_at, created_at, updated_at)",
       world.count, "orders", function(i, lines, n)
    local plan = plan_of(world, i)
    if plan.promo then world.promoted[#world.promoted + 1] = i end
    local at, delivery = time.iso(plan.at), plan.fulfilment == "delivery"
    local paid = plan.status == "refunded" and "refunded" or plan.status == "delivered" and "paid" or "pending"
    lines[n + 1] = row(plan.id, customer_id(world, plan.customer),
      ("ORD%s%d"):format(at:sub(1, 10):gsub("-", ""), world.first_number + i),
      plan.status, paid, "cash", plan.fulfilment, cents(plan.subtotal), cents(plan.discount),
      plan.promo and plan.promo.code, plan.promo and plan.promo.id, cents(plan.fee), cents(plan.total),
      plan.status == "refunded" and cents(plan.total) or "0.00", plan.slot, delivery and ADDRESS or nil,
      not delivery and at or nil, done(plan) and time.iso(plan.at + 5 * 3600) or nil, at, at)
    return n + 1
  end)
end

local function write_items(s, world)
  copy(s, "order_items (order_id, product_id, line_no, product_name, quantity, unit_price, subtotal, discount_amount)",
       world.count, "lines", function(i, lines, n)
    local plan = plan_of(world, i)
    for k, line in ipairs(plan.lines) do
      n = n + 1
      lines[n] = row(plan.id, line.product.id, k, line.product.name, line.quantity, cents(line.product.cents), cents(line.subtotal),
                     cents(line.discount or 0))
    end
    return n
  end)
end

local FAILED <const> = { "pending", "confirmed", "preparing", "dispatched", "preparing", "dispatched", "delivered" }

local function history_of(plan)
  if plan.status == "cancelled" then return { "pending", "cancelled" } end
  local steps = {}
  for k, status in ipairs(plan.failed and done(plan) and FAILED or plan.steps) do
    steps[k] = status
    if status == plan.status then return steps end
  end
  steps[#steps + 1] = "refunded"
  return steps
end

local function write_history(s, world)
  copy(s, "order_status_history (order_id, status, at, by_role, failed)", world.count, "history", function(i, lines, n)
    local plan = plan_of(world, i)
    local steps = history_of(plan)
    for k, status in ipairs(steps) do
      n = n + 1
      lines[n] = row(plan.id, status, time.iso(plan.at + (k - 1) * 4500), k == 1 and "customer" or "staff",
                     status == "preparing" and steps[k - 1] == "dispatched")
    end
    return n
  end)
end

local function write_redemptions(s, world)
  copy(s, "promo_redemptions (promo_code_id, order_id, user_id, amount, created_at, returned_at)", #world.promoted, "promos",
       function(k, lines, n)
    local plan = plan_of(world, world.promoted[k])
    local at = time.iso(plan.at)
    lines[n + 1] = row(plan.promo.id, plan.id, customer_id(world, plan.customer), cents(plan.discount), at,
                       plan.status == "cancelled" and at or nil)
    return n + 1
  end)
end

local function points_of(plan) return done(plan) and (plan.total - plan.fee) // 100 or 0 end

local function write_points(s, world)
  copy(s, "loyalty_ledger (user_id, points, reason, order_id, created_at)", world.count, "points", function(i, lines, n)
    local plan = plan_of(world, i)
    local points = points_of(plan)
    if points == 0 then return n end
    local user, at = customer_id(world, plan.customer), time.iso(plan.at + 5 * 3600)
    lines[n + 1] = row(user, points, "earned", plan.id, at)
    if plan.status == "delivered" then return n + 1 end
    lines[n + 2] = row(user, -points, "clawed_back", plan.id, at)
    return n + 2
  end)
end

--- One review of each customer's, of something that was delivered to him.
local function write_reviews(s, world)
  local seen, comments = {}, { "Gone in a minute", "Very good", "A little dry", "Perfect", "As always" }
  copy(s, "reviews (user_id, product_id, rating, comment, created_at)", world.count, "reviews", function(i, lines, n)
    local plan = plan_of(world, i)
    if plan.status ~= "delivered" or seen[plan.customer] then return n end
    seen[plan.customer] = true
    lines[n + 1] = row(customer_id(world, plan.customer), plan.lines[1].product.id, 3 + i % 3, comments[i % #comments + 1],
                       time.iso(plan.at + 2 * DAY))
    return n + 1
  end)
end

---- Figures ------------------------------------------------------------------------------------------------

local DERIVED <const> = { "loyalty_points", "sales_figures", "product_sales_figures", "user_order_figures", "order_figures",
                          "slot_figures", "promo_figures", "user_sales_figures", "user_sales_movements" }

local FIGURES <const> = {
  [[UPDATE loyalty_points l SET points = sums.points FROM (SELECT user_id, sum(points) AS points FROM loyalty_ledger
      GROUP BY user_id) AS sums WHERE sums.user_id = l.user_id AND l.points <> sums.points]],
  [[UPDATE delivery_schedules d SET booked = counted.n, capacity = GREATEST(d.capacity, counted.n)
      FROM (SELECT delivery_schedule_id AS id, count(*)::int AS n FROM orders WHERE status NOT IN ('cancelled', 'refunded')
        AND delivery_schedule_id IS NOT NULL GROUP BY 1) AS counted WHERE counted.id = d.id AND d.booked <> counted.n]],
  [[UPDATE product_ratings p SET rating_sum = r.total, review_count = r.n FROM (SELECT product_id, sum(rating) AS total,
      count(*) AS n FROM reviews GROUP BY 1) AS r WHERE r.product_id = p.product_id]],
  "DELETE FROM sales_figures",
  [[INSERT INTO sales_figures SELECT date_bin('15 minutes', delivered_at, '2000-01-01Z'), count(*),
      sum(total_amount - refunded_amount) FROM orders WHERE status = 'delivered' GROUP BY 1]],
  "DELETE FROM product_sales_figures",
  [[INSERT INTO product_sales_figures SELECT (o.delivered_at AT TIME ZONE 'UTC')::date, i.product_id,
      sum(i.quantity), sum(i.subtotal - i.discount_amount) FROM orders o JOIN order_items i ON i.order_id = o.id
      WHERE o.status = 'delivered' GROUP BY 1, 2]],
  "DELETE FROM user_order_figures",
  [[INSERT INTO user_order_figures SELECT u.id, count(o.id), COALESCE(sum(o.total_amount - o.refunded_amount), 0),
      max(o.created_at) FROM users u LEFT JOIN orders o ON o.user_id = u.id AND o.status = 'delivered' GROUP BY u.id]],
  "DELETE FROM order_figures",
  [[INSERT INTO order_figures SELECT date_bin('15 minutes', created_at, '2000-01-01Z'), status, payment_method,
      payment_status, count(*), sum(total_amount), sum(refunded_amount) FROM orders GROUP BY 1, 2, 3, 4]],
  "DELETE FROM slot_figures",
  [[INSERT INTO slot_figures SELECT delivery_schedule_id, count(delivered_at),
      count(*) FILTER (WHERE status NOT IN ('delivered', 'cancelled', 'refunded')),
      count(*) FILTER (WHERE status = 'cancelled' OR status = 'refunded' AND delivered_at IS NULL)
      FROM orders WHERE delivery_schedule_id IS NOT NULL GROUP BY 1]],
  "DELETE FROM promo_figures",
  [[INSERT INTO promo_figures SELECT (r.created_at AT TIME ZONE 'UTC')::date, r.promo_code_id,
      count(*) FILTER (WHERE r.returned_at IS NULL), count(r.returned_at),
      COALESCE(sum(r.amount) FILTER (WHERE r.returned_at IS NULL), 0),
      COALESCE(sum(o.total_amount) FILTER (WHERE r.returned_at IS NULL), 0)
      FROM promo_redemptions r JOIN orders o ON o.id = r.order_id GROUP BY 1, 2]],
  "DELETE FROM user_sales_movements",
  "DELETE FROM user_sales_figures",
  [[INSERT INTO user_sales_figures SELECT u.id, COALESCE(s.times, '{}'), COALESCE(s.cents, '{}')
      FROM users u LEFT JOIN user_sales_from_orders s ON s.user_id = u.id]],
  [[UPDATE product_ratings p SET sold = s.n FROM (SELECT i.product_id, sum(i.quantity) AS n FROM order_items i
      JOIN orders o ON o.id = i.order_id WHERE o.status = 'delivered' GROUP BY 1) AS s WHERE s.product_id = p.product_id]],
}

local function triggers(s, verb)
  for _, name in ipairs(TABLES) do run(s, ("ALTER TABLE %s %s TRIGGER USER"):format(name, verb)) end
end

local BULK <const> = 10000      -- orders from which checks and indexes are made afterwards

local CONSTRAINTS <const> = [[
  SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::regclass, conname) AS away,
    format('ALTER TABLE %s ADD CONSTRAINT %I %s', conrelid::regclass, conname, pg_get_constraintdef(oid)) AS back
  FROM pg_constraint WHERE contype = 'f' AND conrelid::regclass::text = ANY($1::text[]) ORDER BY conname]]

local INDEXES <const> = [[
  SELECT format('DROP INDEX %s', indexrelid::regclass) AS away, pg_get_indexdef(indexrelid) AS back
  FROM pg_index WHERE NOT indisunique AND indrelid::regclass::text = ANY($1::text[]) ORDER BY 1]]

--- Foreign keys and indexes, checked and built in one go at the end instead of row by row.
-- Returns the statements that bring them back.
local function take_away(s)
  local back, tables = {}, "{" .. table.concat(TABLES, ",") .. "}"
  for _, sql in ipairs { CONSTRAINTS, INDEXES } do
    for _, one in ipairs(rows(s, sql, tables)) do
      run(s, one.away)
      table.insert(back, 1, one.back)      -- indexes first: the checks use them
    end
  end
  return back
end

local function run_all(s, label, statements)
  local show = bar(label)
  for i, sql in ipairs(statements) do
    run(s, sql)
    show(i, #statements)
  end
end

local function write_all(s, world)
  local back = world.count >= BULK and take_away(s) or {}
  triggers(s, "DISABLE")
  write_customers(s, world)
  write_slots(s, world)
  write_orders(s, world)
  write_items(s, world)
  write_history(s, world)
  write_redemptions(s, world)
  write_points(s, world)
  write_reviews(s, world)
  run_all(s, "indexes", back)
  run_all(s, "figures", FIGURES)
  triggers(s, "ENABLE")
end

--- Adds `count` orders and what belongs to them.
---@param count integer
function scale.run(count)
  local s = session.connect()
  local begun = time.monotonic()
  run(s, "SET statement_timeout = 0; SET synchronous_commit = off; SET maintenance_work_mem = '256MB'; SET work_mem = '64MB'; BEGIN")
  local base = rows(s, [[SELECT last_value AS number, (SELECT password_hash FROM users WHERE email = 'john@example.com') AS password,
    (SELECT count(*) FROM users WHERE email LIKE 'scale-%') AS earlier FROM order_number_seq]])[1]
  local world = { count = count, customers = math.max(1, count // 10), now = time.now() // 1, products = products_of(s),
                  promos = promos_of(s), promoted = {}, run = 0x40000000 + tonumber(base.earlier),
                  password = base.password or "!", first_number = tonumber(base.number) }

  write_all(s, world)
  run(s, ("SELECT setval('order_number_seq', %d)"):format(world.first_number + count))
  run(s, "COMMIT")
  for _, name in ipairs(TABLES) do run(s, "VACUUM (ANALYZE) " .. name) end
  for _, name in ipairs(DERIVED) do run(s, "VACUUM (ANALYZE) " .. name) end
  s:close()
  files.print(("%d orders of %d customers in %.1f s\n"):format(count, world.customers, time.monotonic() - begun))
end

return scale
