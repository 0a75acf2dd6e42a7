-- Many at once, placing and changing orders against two workers: what is sold, promised,
-- returned and refunded stays right to the piece and the cent.
-- serve: --workers 2
-- env: TAX_RATE=7.25
-- env: METRICS_TOKEN=a-token-for-tests

local check  = require "check"
local client = require "client"
local socket = require "socket"
local storm  = require "storm"

local one, order, act, times, value, number = storm.one, storm.order, storm.act, storm.times, storm.value, storm.number

local buyers = storm.people(200)
local john   = buyers[1]
local staff  = storm.people(1, "staff")[1]
local admin  = storm.people(1, "admin")[1]
local buns   = storm.products(8, 100000)

local function stock(id) return number("SELECT stock FROM products WHERE id = '%s'", id) end

--- Holds a product's row until the function ends.
local function with_locked(id, fn)
  local psql = assert(io.popen("psql -Xq '" .. os.getenv "DATABASE_URL" .. "' > /dev/null", "w"))
  psql:write(("BEGIN; SELECT FROM products WHERE id = '%s' FOR UPDATE; SELECT pg_advisory_xact_lock(4711);\n"):format(id))
  psql:flush()
  client.eventually(20, "the lock", function()
    return client.sql "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711 AND granted" == "1"
  end)
  local ok, fault = pcall(fn)
  psql:write "ROLLBACK;\n"
  psql:close()
  if not ok then error(fault, 0) end
end

--- A cart in Redis as the shop writes it.
local function put_cart(person, product, quantity, price)
  local id = client.sql "SELECT gen_random_uuid()"
  client.redis("SET", "cart:" .. person.id, ([[{"user_id":"%s","items":[{"line_id":"%s","product_id":"%s","name":"Bun",]]
    .. [["quantity":%d,"unit_price":%.2f,"subtotal":%.2f}],"total_amount":%.2f,"item_count":%d,]]
    .. [["updated_at":"2026-01-15T10:30:00.000Z","cart_id":"%s","version":1}]])
    :format(person.id, id, product, quantity, price, quantity * price, quantity * price, quantity, id))
end

return storm.tests {
  { "200 buyers for 50 pieces buy exactly 50", function()
    local product = storm.products(1, 50)[1]
    local requests = {}
    for i, buyer in ipairs(buyers) do requests[i] = order(buyer, one(product)) end
    for _, answer in ipairs(storm.expect(requests, { [201] = 50, [409] = 150 })) do
      if answer.status == 409 then
        check.equal(answer.json().code, "OUT_OF_STOCK")
        check.same(answer.json().items, { { product_id = product, available = 0, requested = 1 } })
      end
    end
    check.equal(stock(product), 0)
    check.equal(number("SELECT sum(quantity) FROM order_items WHERE product_id = '%s'", product), 50)
    check.equal(client.get("/api/v1/products/" .. product).json().data.stock, 0, "what the cache says")
  end },

  { "lines of one product count together", function()
    local product = storm.products(1, 100)[1]
    local requests = {}
    for i = 1, 40 do requests[i] = order(buyers[i], { items = { one(product, 2), one(buns[1]), one(product, 1) } }) end
    local answers = storm.expect(requests, { [201] = 33, [409] = 7 })
    for _, answer in ipairs(answers) do
      if answer.status == 409 then check.same(answer.json().items, { { product_id = product, available = 1, requested = 3 } }) end
    end
    check.equal(stock(product), 1)
  end },

  { "with ample stock all succeed, and reads do not queue behind them", function()
    local connections, sockets = {}, {}
    for i = 1, #buyers do
      connections[i] = client.connect()
      sockets[i] = connections[i].socket
    end
    local readers, reads = { client.connect(), client.connect(), client.connect(), client.connect() }, {}
    local began = client.now()
    for i, buyer in ipairs(buyers) do
      local r = order(buyer, one(buns[1 + i % 8]))
      assert(connections[i]:send(client.format(r[1], r[2], r[3])))
    end
    local ended
    repeat
      local at = client.now()
      check.status(client.get("/api/v1/products?limit=5", { on = readers[1 + #reads % 4] }), 200)
      reads[#reads + 1] = client.now() - at
      if #socket.select(sockets, nil, 0) == #sockets then ended = client.now() end
    until ended
    for _, connection in ipairs(connections) do
      check.status(connection:answer "POST", 201)
      connection:close()
    end
    for _, connection in ipairs(readers) do connection:close() end
    table.sort(reads)
    local median = reads[(#reads + 1) // 2]
    print(("# 200 orders took %.2f s; %d reads meanwhile, median %.4f s"):format(ended - began, #reads, median))
    check.truthy(median < (ended - began) / 5, "a read takes a small part of the storm's time")
  end },

  { "orders of the same products in opposite order do not hinder each other", function()
    local before, requests = number "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()", {}
    for i = 1, 120 do
      local items = {}
      for k = 1, 6 do items[k] = one(buns[i % 2 == 0 and k or 7 - k], 1 + (i + k) % 3) end
      requests[i] = order(buyers[i], { items = items })
    end
    storm.expect(requests, { [201] = 120 })
    client.sql "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND usename = 'app_user'"
    client.eventually(20, "their figures are told", function() return storm.busy_sessions() == "0" end)
    check.equal(number "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()", before, "deadlocks")
    client.eventually(20, "connections", function() return client.get("/api/v1/products?limit=1").status == 200 end)
  end },

  { "one key 50 times: one order, and nobody waits", function()
    local request = order(john, one(buns[1], 2), "storm-key")
    local jane = order(buyers[2], one(buns[1], 2), "storm-key")
    local connections = {}
    with_locked(buns[1], function()
      for i = 1, 50 do
        connections[i] = client.connect()
        connections[i]:send(client.format(request[1], request[2], request[3]))
      end
      client.eventually(30, "49 answers", function()
        local sockets = {}
        for i = 1, 50 do sockets[i] = connections[i].socket end
        return #socket.select(sockets, nil, 0) == 49
      end)
      check.equal(storm.busy_sessions(), "1", "only the first waits, for the product")
    end)
    local counts, first = {}, nil
    for _, connection in ipairs(connections) do
      local answer = connection:answer "POST"
      connection:close()
      counts[answer.status] = (counts[answer.status] or 0) + 1
      if answer.status == 201 then first = answer
      else
        check.equal(answer.json().code, "IDEMPOTENCY_IN_FLIGHT")
        check.equal(answer.headers["retry-after"], "1")
      end
    end
    check.same(counts, { [201] = 1, [409] = 49 })
    for _, answer in ipairs(storm.expect(times(50, request), { [201] = 50 })) do
      check.equal(answer.body, first.body)
      check.equal(answer.headers["idempotency-replayed"], "true")
    end
    local other = check.status(storm.send(jane), 201)
    check.truthy(other.headers["idempotency-replayed"] == nil and other.json().data.id ~= first.json().data.id)
    check.equal(other.json().data.user_id, buyers[2].id)
    check.status(storm.send(order(john, one(buns[1], 3), "storm-key")), 422, "IDEMPOTENCY_MISMATCH")
    check.equal(value("SELECT count(*) FROM idempotency_keys WHERE key = 'storm-key'"), "2")
  end },

  { "one key at the same moment, without a lock that orders them", function()
    for round = 1, 3 do
      local key, first = "storm-burst-" .. round, nil
      for _, answer in ipairs(client.parallel(times(50, order(john, one(buns[2]), key)))) do
        if answer.status == 201 then
          first = first or answer.body
          check.equal(answer.body, first)
        else
          check.status(answer, 409, "IDEMPOTENCY_IN_FLIGHT")
        end
      end
      check.truthy(first, "an order")
      check.equal(value("SELECT count(*) FROM idempotency_keys WHERE key = '%s'", key), "1")
    end
  end },

  { "one cart makes one order", function()
    local before = number("SELECT count(*) FROM orders WHERE user_id = '%s'", buyers[3].id)
    put_cart(buyers[3], buns[3], 2, 9.99)
    local answers = storm.expect(times(20, order(buyers[3], { notes = "all of it" })), { [201] = 1, [409] = 19 })
    check.same(storm.codes(answers), { EMPTY_CART = 19 })
    check.equal(number("SELECT count(*) FROM orders WHERE user_id = '%s'", buyers[3].id), before + 1)
    check.equal(client.redis("EXISTS", "cart:" .. buyers[3].id), "0")

    put_cart(buyers[3], buns[3], 1, 9.99)
    local first
    for _, answer in ipairs(client.parallel(times(20, order(buyers[3], { notes = "x" }, "cart-key")))) do
      if answer.status == 201 then
        first = first or answer.body
        check.equal(answer.body, first)
      else
        check.status(answer, 409, "IDEMPOTENCY_IN_FLIGHT")
      end
    end
    check.equal(storm.send(order(buyers[3], { notes = "x" }, "cart-key")).body, first, "also when the cart is empty by now")
    check.equal(number("SELECT count(*) FROM orders WHERE user_id = '%s'", buyers[3].id), before + 2)
  end },

  { "50 cancels return everything once", function()
    local buyer, slot = storm.people(1)[1], storm.slot(3)
    storm.give_points(buyer, 700)
    local code = storm.promo { discount_type = "percent", amount = "12.5", usage_limit = "5" }
    local before = { stock(buns[1]), stock(buns[2]) }
    local made = storm.placed(order(buyer, storm.delivery(slot, buns[1], {
      items = { one(buns[1], 3), one(buns[2], 1) }, promo_code = code, redeem_points = 500 })))
    check.equal(made.points_redeemed, 500)
    local requests = {}
    for i = 1, 50 do requests[i] = act("POST", made, "cancel", i % 2 == 0 and buyer or staff, { reason = "storm" }) end
    storm.expect(requests, { [200] = 50 })
    check.equal(stock(buns[1]), before[1])
    check.equal(stock(buns[2]), before[2])
    check.equal(value("SELECT points FROM loyalty_points WHERE user_id = '%s'", buyer.id), "700")
    check.equal(value("SELECT booked FROM delivery_schedules WHERE id = '%s'", slot), "0")
    check.equal(value("SELECT used_count FROM promo_codes WHERE code = '%s'", code), "0")
    check.equal(value("SELECT count(*) FROM order_status_history WHERE order_id = '%s'", made.id), "2")
    check.truthy(number("SELECT count(*) FROM audit_log WHERE entity_id = '%s'", made.id) <= 1, "audited at most once")
  end },

  { "a cancel racing with the next step: one order of events", function()
    for _, step in ipairs { "confirmed", "preparing", "delivered" } do
      local orders, requests = {}, {}
      for i = 1, 20 do
        orders[i] = storm.placed(order(buyers[i], one(buns[4])))
        if step ~= "confirmed" then storm.move(orders[i], staff, "confirmed") end
        if step == "delivered" then storm.move(orders[i], staff, "preparing", "ready") end
        local who = step == "delivered" and staff or buyers[i]
        local cancel = act("POST", orders[i], "cancel", who)
        local move = act("PATCH", orders[i], "status", staff, { status = step })
        requests[2 * i - 1], requests[2 * i] = i % 2 == 0 and cancel or move, i % 2 == 0 and move or cancel
      end
      local answers = client.parallel(requests)
      for i, made in ipairs(orders) do
        local moved, cancelled = answers[2 * i - 1], answers[2 * i]
        if i % 2 == 0 then moved, cancelled = cancelled, moved end
        local status = value("SELECT status FROM orders WHERE id = '%s'", made.id)
        if status == "cancelled" then
          check.status(cancelled, 200)
          if step ~= "confirmed" and moved.status ~= 200 then check.status(moved, 409, "INVALID_TRANSITION") end
        else
          check.equal(status, step)
          check.status(moved, 200)
          check.status(cancelled, 409, "INVALID_TRANSITION")
        end
      end
    end
  end },

  { "the same step 50 times has one effect", function()
    local buyer = storm.people(1)[1]
    local made = storm.placed(order(buyer, one(buns[5], 3)))
    for _, step in ipairs { "confirmed", "preparing", "ready", "delivered" } do
      storm.expect(times(50, act("PATCH", made, "status", staff, { status = step })), { [200] = 50 })
      check.equal(value("SELECT count(*) FROM order_status_history WHERE order_id = '%s' AND status = '%s' AND payment_status IS NULL",
                        made.id, step), "1")
      check.equal(value("SELECT count(*) FROM audit_log WHERE entity_id = '%s' AND changes->>'to' = '%s'", made.id, step), "1")
    end
    check.equal(value("SELECT points FROM loyalty_points WHERE user_id = '%s'", buyer.id), "29", "points come once")
  end },

  { "a promotion with 10 uses is used 10 times", function()
    local code = storm.promo { discount_type = "fixed", amount = "1.00", usage_limit = "10" }
    local requests = {}
    for i = 1, 60 do requests[i] = order(buyers[i], { items = { one(buns[1 + i % 8]) }, promo_code = code }) end
    check.same(storm.codes(storm.expect(requests, { [201] = 10, [422] = 50 })), { PROMO_EXHAUSTED = 50 })
    check.equal(value("SELECT used_count FROM promo_codes WHERE code = '%s'", code), "10")

    code = storm.promo { discount_type = "fixed", amount = "1.00", per_user_limit = "1" }
    local own = times(20, order(john, { items = { one(buns[1]) }, promo_code = code }))
    check.same(storm.codes(storm.expect(own, { [201] = 1, [422] = 19 })), { PROMO_ALREADY_USED = 19 })
    local guest = times(20, order(nil, { items = { one(buns[1]) }, promo_code = code, guest_name = "Greta", guest_email = "g@example.com" }))
    check.same(storm.codes(storm.expect(guest, { [201] = 1, [422] = 19 })), { PROMO_ALREADY_USED = 19 })
  end },

  { "points are spent once, however often at once", function()
    local buyer = storm.people(1)[1]
    storm.give_points(buyer, 1000)
    local answers = storm.expect(times(50, order(buyer, { items = { one(buns[6]) }, redeem_points = 300 })), { [201] = 3, [422] = 47 })
    check.same(storm.codes(answers), { INSUFFICIENT_POINTS = 47 })
    check.equal(value("SELECT points FROM loyalty_points WHERE user_id = '%s'", buyer.id), "100")
  end },

  { "a slot for 5 takes 5 of 40", function()
    local slot, requests = storm.slot(5), {}
    for i = 1, 40 do requests[i] = order(buyers[i], storm.delivery(slot, buns[1 + i % 8])) end
    check.same(storm.codes(storm.expect(requests, { [201] = 5, [409] = 35 })), { SLOT_FULL = 35 })
    check.equal(value("SELECT booked FROM delivery_schedules WHERE id = '%s'", slot), "5")
  end },

  { "new dates at the same time: places are kept, nobody waits in a circle", function()
    local a, b, small, orders, requests = storm.slot(40), storm.slot(40), storm.slot(3), {}, {}
    for i = 1, 30 do orders[i] = storm.placed(order(buyers[i], storm.delivery(i % 2 == 0 and a or b, buns[1]))) end
    local before = number "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    for i, made in ipairs(orders) do
      requests[i] = act("PATCH", made, "schedule", buyers[i], { delivery_schedule_id = i % 2 == 0 and b or a })
    end
    storm.expect(requests, { [200] = 30 })
    for i, made in ipairs(orders) do
      requests[i] = act("PATCH", made, "schedule", buyers[i], { delivery_schedule_id = small })
    end
    check.same(storm.codes(storm.expect(requests, { [200] = 3, [409] = 27 })), { SLOT_FULL = 27 })
    check.equal(value("SELECT booked FROM delivery_schedules WHERE id = '%s'", small), "3")

    requests = {}
    for i = 1, 20 do      -- another date and the end of it all
      requests[2 * i - 1] = act("PATCH", orders[i], "schedule", buyers[i], { delivery_schedule_id = i % 2 == 0 and a or b })
      requests[2 * i] = act("POST", orders[i], "cancel", staff)
    end
    for _, answer in ipairs(client.parallel(requests)) do check.truthy(answer.status < 500, answer.body) end
    client.sql "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND usename = 'app_user'"
    client.eventually(20, "connections", function() return client.get("/api/v1/products?limit=1").status == 200 end)
    check.equal(number "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()", before, "deadlocks")
  end },

  { "refunds at the same time never exceed what was paid", function()
    local made = storm.placed(order(buyers[7], one(buns[7], 4)))      -- 42.86 with tax
    storm.move(made, staff, "confirmed", "preparing", "ready", "delivered")
    local answers = storm.expect(times(20, act("POST", made, "refund", admin, { amount = 10 })), { [200] = 4, [409] = 16 })
    check.same(storm.codes(answers), { CONFLICT = 16 })
    storm.expect(times(10, act("POST", made, "refund", admin, {})), { [200] = 1, [409] = 9 })
    check.equal(value("SELECT status, refunded_amount = total_amount FROM orders WHERE id = '%s'", made.id), "refunded|t")
    made = storm.placed(order(buyers[7], one(buns[7], 4)))
    storm.move(made, staff, "confirmed", "preparing", "ready", "delivered")
    local keyed = act("POST", made, "refund", admin, { amount = 5 }, { ["Idempotency-Key"] = "refund-1" })
    for _, answer in ipairs(client.parallel(times(20, keyed))) do
      if answer.status ~= 200 then check.status(answer, 409, "IDEMPOTENCY_IN_FLIGHT") end
    end
    check.equal(value("SELECT refunded_amount FROM orders WHERE id = '%s'", made.id), "5.00")
  end },

  { "random orders cost what PostgreSQL's numeric says", function()
    math.randomseed(20260115)
    local prices = storm.products(30, 100000, "(random() * 60 + 0.01)::numeric(8,2)")
    local promos = {}
    for i, kind in ipairs { { "percent", "33.33" }, { "percent", "0.01" }, { "percent", "100" }, { "fixed", "7.77" }, { "fixed", "999" } } do
      promos[i] = storm.promo { discount_type = kind[1], amount = kind[2] }
    end
    local slot, requests, ids = storm.slot(500), {}, {}
    for i = 1, 200 do
      local items = {}
      for k = 1, math.random(7) do items[k] = one(prices[math.random(30)], math.random(4)) end
      local body = { items = items, tip_amount = math.random(3) == 1 and math.random(0, 999) / 100 or nil,
                     promo_code = math.random(3) > 1 and promos[math.random(#promos)] or nil }
      if i % 3 == 0 then
        body.fulfilment, body.delivery_schedule_id, body.address = "delivery", slot, storm.ADDRESS
      end
      if i % 4 == 0 then
        body.redeem_points = math.random(1, 4000)
        storm.give_points(buyers[i], 4000)
      end
      requests[i] = order(buyers[i], body)
    end
    for i, answer in ipairs(storm.expect(requests, { [201] = 200 })) do
      local made = answer.json().data
      ids[i] = "'" .. made.id .. "'"
      check.equal(answer.body:match '"total_amount":([%d.]+)' + 0, made.total_amount)
    end
    check.equal(value([[
      WITH lines AS (SELECT o.id, sum(i.quantity * p.price) AS goods
          FROM orders o JOIN order_items i ON i.order_id = o.id JOIN products p ON p.id = i.product_id
          WHERE o.id IN (%s) GROUP BY 1),
        off AS (SELECT l.*, CASE c.discount_type WHEN 'percent' THEN round(goods * c.amount / 100, 2)
            WHEN 'fixed' THEN least(c.amount, goods) ELSE 0 END AS discount
          FROM lines l JOIN orders o USING (id) LEFT JOIN promo_codes c ON c.id = o.promo_code_id),
        sums AS (SELECT off.*, round((goods - discount) * 7.25 / 100, 2) AS tax,
            CASE WHEN o.fulfilment = 'pickup' OR goods - discount >= 50 THEN 0 ELSE 5.99 END AS fee
          FROM off JOIN orders o USING (id))
      SELECT o.order_number, s.*, o.* FROM sums s JOIN orders o USING (id)
      WHERE (o.subtotal, o.discount_amount, o.tax_amount, o.delivery_fee) <> (goods, discount, tax, fee)
        OR o.points_amount > goods - discount
        OR o.total_amount <> goods - discount - o.points_redeemed / 100.0 + fee + o.tip_amount + tax LIMIT 3]],
      table.concat(ids, ",")), "", "orders that differ")
    check.equal(value([[
      WITH run AS (SELECT i.order_id, i.discount_amount, o.discount_amount AS d, o.subtotal AS s,
          sum(i.subtotal) OVER w AS upto, sum(i.subtotal) OVER w - i.subtotal AS before
        FROM order_items i JOIN orders o ON o.id = i.order_id WHERE o.id IN (%s) AND o.subtotal > 0
        WINDOW w AS (PARTITION BY i.order_id ORDER BY line_no))
      SELECT order_id FROM run WHERE discount_amount <> trunc(d * upto / s, 2) - trunc(d * before / s, 2) LIMIT 3]],
      table.concat(ids, ",")), "", "lines whose share differs")
  end },

  { "numbers are unique past 999 a day, and tokens are random", function()
    client.sql "SELECT setval('order_number_seq', GREATEST(995, (SELECT last_value FROM order_number_seq)))"
    local requests, seen = {}, {}
    for i = 1, 40 do requests[i] = order(buyers[i], one(buns[8])) end
    for _, answer in ipairs(storm.expect(requests, { [201] = 40 })) do
      local made = answer.json().data
      check.matches(made.order_number, "^ORD%d%d%d%d%d%d%d%d%d%d%d%d?$")
      check.equal(#made.tracking_token, 32)
      check.truthy(not seen[made.order_number] and not seen[made.tracking_token], "not seen before")
      seen[made.order_number], seen[made.tracking_token] = true, true
    end
    check.truthy(number "SELECT last_value FROM order_number_seq" > 999)
  end },

  { "an order is two round trips to PostgreSQL", function()
    -- Nothing to deliver meanwhile: what remains are the tasks that look whether there is.
    client.sql "UPDATE outbox SET available_at = now() + interval '1 day' WHERE sent_at IS NULL"
    client.sql "ALTER TABLE outbox ALTER available_at SET DEFAULT now() + interval '1 day'"
    local function asked()
      local sum = 0
      for n in client.get("/metrics", { token = "a-token-for-tests" }).body:gmatch "omade_pg_operations_total{[^}]*} (%d+)" do
        sum = sum + tonumber(n)
      end
      return sum
    end
    local function settled()      -- the figures of both workers are a second old at most
      client.sleep(2.5)
      return asked()
    end
    local requests = {}
    for i = 1, 200 do requests[i] = order(buyers[i], one(buns[1 + i % 8]), "trips-" .. i) end
    local idle = settled()
    local before = settled()
    storm.expect(requests, { [201] = 200 })
    local trips = settled() - before
    print(("# %d for 200 orders, %d in a time without"):format(trips, before - idle))
    check.truthy(trips >= 400 and trips < 500, trips .. " for 200 orders, tasks of the shop included")
  end },
}
