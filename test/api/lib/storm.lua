--- For tests of many at once: buyers, orders, and what must hold whatever happened.

local cjson  = require "cjson"
local check  = require "check"
local client = require "client"

local storm = {}

storm.ORDERS = "/api/v1/orders"

---- People and things ------------------------------------------------------------------------------

local made = 0

--- New accounts, signed in: a list of {id, token, session}.
function storm.people(count, role)
  role = role or "customer"
  made = made + 1
  local rows = client.sql(([[
    WITH made AS (INSERT INTO users (name, email, password_hash, role)
      SELECT 'Storm ' || n, 'storm%d-' || n || '@example.com', 'x', '%s' FROM generate_series(1, %d) n RETURNING id)
    SELECT id, 'storm-' || id AS token, encode(sha256(('storm-' || id)::bytea), 'hex') FROM made]]):format(made, role, count))
  local people, commands = {}, {}
  for id, token, session in rows:gmatch "([^|\n]+)|([^|\n]+)|([^|\n]+)" do
    people[#people + 1] = { id = id, token = token, session = session }
    commands[#commands + 1] = ("SET session:%s '%s' EX 86400"):format(session, cjson.encode {
      user_id = id, email = "storm@example.com", role = role, created_at = "2026-01-01T00:00:00.000Z",
      last_activity = "2026-01-01T00:00:00.000Z" })
  end
  storm.redis(commands)
  check.equal(#people, count, "people")
  return people
end

--- Many commands of Redis at once.
function storm.redis(commands)
  local file = os.tmpname()
  local out = assert(io.open(file, "w"))
  out:write(table.concat(commands, "\n"), "\n")
  out:close()
  local url = os.getenv "REDIS_URL"
  local path = url:match "^unix://([^?]+)"
  client.shell(("redis-cli %s '%s' < %s > /dev/null"):format(path and "-s" or "-u", path or url, file))
  os.remove(file)
end

function storm.value(sql, ...) return client.sql(sql:format(...)) end
function storm.number(sql, ...) return tonumber(storm.value(sql, ...)) end

--- New products, each of `stock` pieces: their ids.
function storm.products(count, stock, price)
  local ids = {}
  for id in storm.value([[INSERT INTO products (name, price, stock) SELECT 'Storm bun ' || n, %s, %d
      FROM generate_series(1, %d) n RETURNING id]], price or "9.99", stock, count):gmatch "%S+" do
    ids[#ids + 1] = id
    storm.initial[id] = stock
  end
  return ids
end

--- What products of the storm began with.
storm.initial = {}

function storm.promo(fields)
  made = made + 1
  local names, values, code = {}, {}, "STORM" .. made
  for name, content in pairs(fields) do
    names[#names + 1] = ", " .. name
    values[#values + 1] = ", '" .. content .. "'"
  end
  storm.value([[INSERT INTO promo_codes (code, valid_from, valid_to%s) VALUES ('%s', now() - interval '1 day',
    now() + interval '1 day'%s)]], table.concat(names), code, table.concat(values))
  return code
end

function storm.slot(capacity)
  made = made + 1
  return storm.value([[INSERT INTO delivery_schedules (delivery_date, delivery_time, capacity)
    VALUES (current_date + %d, '09:00-11:00', %d) RETURNING id]], 30 + made, capacity)
end

function storm.give_points(person, points)
  storm.value("INSERT INTO loyalty_ledger (user_id, points, reason, note) VALUES ('%s', %d, 'adjusted', 'storm')",
              person.id, points)
end

---- Requests ------------------------------------------------------------------------------------------

function storm.one(id, quantity) return { product_id = id, quantity = quantity or 1 } end

--- A request that places an order, for client.parallel.
function storm.order(person, body, key)
  if body.product_id then body = { items = { body } } end
  return { "POST", storm.ORDERS, { token = person and person.token, body = body,
                                   headers = key and { ["Idempotency-Key"] = key } } }
end

--- A request on an order.
function storm.act(method, order, action, person, body, headers)
  return { method, storm.ORDERS .. "/" .. order.id .. "/" .. action,
           { token = person and person.token, body = body, headers = headers } }
end

--- `count` times the same.
function storm.times(count, request)
  local list = {}
  for i = 1, count do list[i] = request end
  return list
end

function storm.send(request) return client.request(request[1], request[2], request[3]) end

--- The order that a request placed.
function storm.placed(request) return check.status(storm.send(request), 201).json().data end

function storm.parallel(requests) return client.parallel(requests) end

--- Requests at the same time; the answers must have these statuses and no other.
function storm.expect(requests, expected)
  local answers = client.parallel(requests)
  local counts = client.statuses(answers)
  for _, answer in ipairs(answers) do
    if not expected[answer.status] then
      error(("%d of %d answers are %d: %s"):format(counts[answer.status], #answers, answer.status, answer.body), 2)
    end
  end
  for status, count in pairs(expected) do check.equal(counts[status], count, "answers of " .. status) end
  return answers
end

--- Codes of the failures: {OUT_OF_STOCK = 150}.
function storm.codes(answers)
  local counts = {}
  for _, answer in ipairs(answers) do
    local code = answer.status >= 400 and answer.json().code or nil
    if code then counts[code] = (counts[code] or 0) + 1 end
  end
  return counts
end

--- Moves an order on, step by step.
function storm.move(order, staff, ...)
  for _, status in ipairs { ... } do
    check.status(storm.send(storm.act("PATCH", order, "status", staff, { status = status })), 200)
  end
end

storm.ADDRESS = { line1 = "1 Oven Street", city = "Baketown", postal_code = "12345" }

function storm.delivery(slot, product, more)
  local body = { items = { storm.one(product) }, fulfilment = "delivery", delivery_schedule_id = slot,
                 address = storm.ADDRESS }
  for name, content in pairs(more or {}) do body[name] = content end
  return body
end

---- What must hold ---------------------------------------------------------------------------------------

client.sql "CREATE TABLE storm_seeds AS SELECT id FROM orders"

--- Each finds what is wrong: no rows is right.  Orders of the seeds have a history of their own.
local INVARIANTS <const> = {
  ["total = lines - discount - points + fee + tip + tax"] = [[
    SELECT o.order_number FROM orders o JOIN (SELECT order_id, sum(subtotal) AS goods, sum(discount_amount) AS off,
      bool_and(subtotal = quantity * unit_price) AS right_lines FROM order_items GROUP BY 1) i ON i.order_id = o.id
    WHERE o.subtotal <> i.goods OR o.discount_amount <> i.off OR NOT right_lines OR o.total_amount
      <> i.goods - o.discount_amount - o.points_amount + o.delivery_fee + o.tip_amount + o.tax_amount
      OR o.points_amount <> o.points_redeemed / 100.0]],
  ["an order has lines"] = "SELECT order_number FROM orders o WHERE NOT EXISTS (SELECT FROM order_items WHERE order_id = o.id)",
  ["stock is not negative"] = "SELECT name FROM products WHERE stock < 0",
  ["a limited promotion counts its active uses, within its limit"] = [[
    SELECT code FROM promo_codes p, LATERAL (SELECT count(*) AS uses FROM promo_redemptions r
      WHERE r.promo_code_id = p.id AND returned_at IS NULL) r
    WHERE CASE WHEN usage_limit IS NULL THEN used_count <> 0 ELSE used_count <> uses OR uses > usage_limit END]],
  ["a redemption stands while its order does"] = [[
    SELECT o.order_number FROM orders o LEFT JOIN promo_redemptions r ON r.order_id = o.id
    WHERE (o.promo_code IS NULL) <> (r.id IS NULL) OR (r.returned_at IS NOT NULL) <> (o.status = 'cancelled')
      AND r.id IS NOT NULL AND o.status <> 'refunded' OR r.amount <> o.discount_amount]],
  ["booked = orders neither cancelled nor refunded, within capacity"] = [[
    SELECT d.id FROM delivery_schedules d, LATERAL (SELECT count(*) AS n FROM orders o
      WHERE o.delivery_schedule_id = d.id AND o.status NOT IN ('cancelled', 'refunded')) o
    WHERE d.booked <> o.n OR d.booked > d.capacity]],
  ["points = the sum of the ledger, never negative"] = [[
    SELECT l.user_id FROM loyalty_points l WHERE l.points < 0
      OR l.points <> (SELECT COALESCE(sum(points), 0) FROM loyalty_ledger g WHERE g.user_id = l.user_id)]],
  ["points redeemed were taken once, and returned once when cancelled"] = [[
    SELECT o.order_number FROM orders o, LATERAL (SELECT COALESCE(sum(points) FILTER (WHERE reason = 'redeemed'), 0) AS took,
      COALESCE(sum(points) FILTER (WHERE reason = 'returned'), 0) AS gave FROM loyalty_ledger WHERE order_id = o.id) g
    WHERE -took <> o.points_redeemed OR gave <> CASE WHEN o.status IN ('cancelled', 'refunded') THEN o.points_redeemed ELSE 0 END]],
  ["refunds sum up, at most to what was paid"] = [[
    SELECT o.order_number FROM orders o, LATERAL (SELECT COALESCE(sum(amount), 0) AS back FROM refunds WHERE order_id = o.id) r
    WHERE o.refunded_amount <> r.back OR r.back > o.total_amount
      OR (o.payment_status = 'refunded') <> (r.back = o.total_amount AND r.back > 0)]],
  ["history ends where the order is, by allowed steps"] = [[
    WITH steps AS (SELECT order_id, status, lag(status) OVER (PARTITION BY order_id ORDER BY id) AS before,
        row_number() OVER (PARTITION BY order_id ORDER BY id DESC) AS back
      FROM order_status_history WHERE payment_status IS NULL AND order_id NOT IN (SELECT id FROM storm_seeds))
    SELECT o.order_number || ': ' || COALESCE(before, '-') || ' to ' || s.status FROM steps s JOIN orders o ON o.id = s.order_id
    WHERE back = 1 AND s.status <> o.status OR NOT (before IS NULL AND s.status = 'pending'
      OR (before, s.status) IN (('pending', 'confirmed'), ('confirmed', 'preparing'), ('preparing', 'dispatched'),
        ('preparing', 'ready'), ('ready', 'delivered'), ('dispatched', 'delivered'), ('dispatched', 'preparing'),
        ('delivered', 'refunded'), ('cancelled', 'refunded'))
      OR s.status = 'cancelled' AND before IN ('pending', 'confirmed', 'preparing', 'ready', 'dispatched'))]],
  ["each change once in the outbox"] = [[
    SELECT o.order_number FROM orders o, LATERAL (SELECT count(*) FILTER (WHERE topic = 'order.created') AS created,
        count(*) FILTER (WHERE topic = 'order.status_changed') AS changed,
        count(*) FILTER (WHERE topic = 'order.refunded') AS refunded FROM outbox WHERE aggregate_id = o.id) x,
      LATERAL (SELECT count(*) FILTER (WHERE status NOT IN ('pending', 'refunded')) AS steps FROM order_status_history WHERE order_id = o.id AND payment_status IS NULL) h
    WHERE o.id NOT IN (SELECT id FROM storm_seeds) AND (created <> 1 OR changed <> steps
      OR refunded <> (SELECT count(*) FROM refunds r WHERE r.order_id = o.id))]],
  ["number and token of an order"] = [[
    SELECT order_number FROM orders WHERE order_number !~ '^ORD\d{8}\d{3,}$' OR tracking_token !~ '^[0-9a-f]{32}$']],
  ["one key, one order"] = [[
    SELECT key FROM idempotency_keys WHERE scope LIKE 'POST /api/v1/orders%' GROUP BY scope, key HAVING count(*) > 1]],
}

--- The stock of the storm's products: initial = stock + what orders hold.
local function check_stock()
  local list = {}
  for id, stock in pairs(storm.initial) do list[#list + 1] = ("('%s'::uuid, %d)"):format(id, stock) end
  if #list == 0 then return end
  check.equal(storm.value([[SELECT p.id, p.stock, i.stock FROM (VALUES %s) AS i (id, stock) JOIN products p USING (id)
    WHERE i.stock <> p.stock + (SELECT COALESCE(sum(quantity), 0) FROM order_items l JOIN orders o ON o.id = l.order_id
      WHERE l.product_id = p.id AND o.status <> 'cancelled'
        AND NOT EXISTS (SELECT FROM order_status_history h WHERE h.order_id = o.id AND h.status = 'cancelled'))]],
    table.concat(list, ", ")), "", "initial = stock + sold - returned")
end

--- Sessions of the server that are in a transaction, or wait for a lock.
function storm.busy_sessions()
  return client.sql [[SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
    AND usename = 'app_user' AND (state LIKE 'idle in transaction%' OR wait_event_type = 'Lock')]]
end

--- All invariants, over all that is in the database.
function storm.check()
  local parts = {}
  for name, sql in pairs(INVARIANTS) do
    parts[#parts + 1] = ("(SELECT '%s', x::text FROM (%s) x LIMIT 3)"):format(name, sql)
  end
  check.equal(client.sql(table.concat(parts, " UNION ALL ")), "", "what is wrong")
  check_stock()
  client.eventually(20, "no open transaction", function() return storm.busy_sessions() == "0" end)
end

--- Wraps tests so that after each of them all invariants are checked.
function storm.tests(list)
  for _, test in ipairs(list) do
    local fn = test[2]
    test[2] = function()
      fn()
      storm.check()
    end
  end
  return list
end

return storm
