-- Points: balance, history, corrections; the balance is the sum of the ledger, always.
-- serve: --workers 2

local check  = require "check"
local client = require "client"

local LOYALTY <const>, ORDERS <const> = "/api/v1/loyalty", "/api/v1/orders"
local JOHN <const>, JANE <const> = "00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000002"
local COOKIE <const> = "10000000-0000-0000-0000-000000000011"
local NOBODYS <const> = "99999999-0000-0000-0000-000000000000"

local john, jane = client.session("customer", JOHN), client.session("customer", JANE)
local staff = client.session("staff", "00000000-0000-0000-0000-000000000004")
local rider = client.session("rider", "00000000-0000-0000-0000-000000000006")
local admin = client.session "admin"

client.sql "UPDATE products SET stock = 100000, price = 10.00"

---- Short ways -----------------------------------------------------------------------------------------

local function sql(text, ...) return client.sql(text:format(...)) end

local function balance(token) return check.status(client.get(LOYALTY, { token = token }), 200).json().data end

local function adjust(points, fields, token, headers)
  local body = { user_id = JOHN, points = points, reason = "a present" }
  for name, value in pairs(fields or {}) do body[name] = value end
  return client.post(LOYALTY .. "/adjust", { token = token or admin, body = body, headers = headers })
end

--- Brings somebody to so many points.
local function set_points(points, user_id)
  local has = tonumber(sql("SELECT points FROM loyalty_points WHERE user_id = '%s'", user_id or JOHN))
  if has ~= points then check.status(adjust(points - has, { user_id = user_id }), 200) end
end

--- Invariant 11.
local function sums_are_right()
  check.equal(sql [[SELECT count(*) FROM loyalty_points p WHERE points < 0 OR points <>
    (SELECT COALESCE(sum(l.points), 0) FROM loyalty_ledger l WHERE l.user_id = p.user_id)]], "0", "wrong balances")
end

local function field(answer, ...)
  local fields = check.status(answer, 400, "VALIDATION_ERROR").json().fields
  for _, name in ipairs { ... } do check.truthy(fields[name], "no word of " .. name .. ": " .. answer.body) end
end

return {
  { "one's own balance, and what it is worth", function()
    set_points(1234)
    local answer = client.get(LOYALTY, { token = john })
    local mine = check.status(answer, 200).json().data
    check.equal(mine.user_id, JOHN)
    check.equal(mine.points, 1234)
    check.matches(answer.body, '"value":12.34[,}]')
    check.same(mine.user, { id = JOHN, name = "John Doe", email = "john@example.com" })
    check.truthy(mine.id and mine.updated_at, "id and updated_at")
    check.equal(balance(jane).user_id, JANE)
    check.status(client.get(LOYALTY), 401, "UNAUTHENTICATED")
    check.status(client.get(LOYALTY .. "/history"), 401, "UNAUTHENTICATED")
  end },

  { "where they came from, page by page", function()
    set_points(1000)
    local answer = client.post(ORDERS, { token = john, body = { items = { { product_id = COOKIE, quantity = 5 } }, redeem_points = 500 } })
    local order = check.status(answer, 201).json().data
    check.equal(order.total_amount, 45)
    for _, status in ipairs { "confirmed", "preparing", "ready", "delivered" } do
      check.status(client.patch(ORDERS .. "/" .. order.id .. "/status", { token = staff, body = { status = status } }), 200)
    end
    check.equal(balance(john).points, 1000 - 500 + 45)
    local function history(query) return check.status(client.get(LOYALTY .. "/history" .. (query or ""), { token = john }), 200).json().data end
    local data = history "?limit=2"
    check.equal(data.total, tonumber(sql("SELECT count(*) FROM loyalty_ledger WHERE user_id = '%s'", JOHN)))
    local earned, redeemed = data.history[1], data.history[2]
    check.same({ earned.reason, earned.points, earned.order_id, earned.order_number }, { "earned", 45, order.id, order.order_number })
    check.same({ redeemed.reason, redeemed.points }, { "redeemed", -500 })
    check.equal(history("?limit=1&page=3").history[1].reason, "adjusted")
    field(client.get(LOYALTY .. "/history?page=x&limit=0", { token = john }), "page", "limit")
    for _, entry in ipairs(check.status(client.get(LOYALTY .. "/history?limit=100", { token = jane }), 200).json().data.history) do
      check.truthy(entry.order_id ~= order.id, "another's")
    end
    sums_are_right()
  end },

  { "corrections are the admin's, and written down", function()
    for _, token in ipairs { john, staff, rider } do check.status(adjust(5, {}, token), 403, "FORBIDDEN") end
    check.status(client.post(LOYALTY .. "/adjust", { body = {} }), 401, "UNAUTHENTICATED")
    set_points(100)
    local answer = adjust(50, { reason = "birthday" })
    check.equal(check.status(answer, 200).json().data.points, 150)
    check.equal(answer.json().data.user_id, JOHN)
    check.equal(check.status(adjust(-150), 200).json().data.points, 0)
    check.equal(sql("SELECT note FROM loyalty_ledger WHERE user_id = '%s' AND points = 50 ORDER BY id DESC LIMIT 1", JOHN), "birthday")
    check.equal(sql("SELECT changes FROM audit_log WHERE action = 'loyalty.adjust' AND entity_id = '%s' AND changes->>'points' = '50'", JOHN),
                '{"points": 50, "reason": "birthday"}')
    sums_are_right()
  end },

  { "never below 0, never more than fit, never for nobody", function()
    set_points(10)
    check.equal(check.status(adjust(-11), 422, "INSUFFICIENT_POINTS").json().available, 10)
    check.status(adjust(1, { user_id = NOBODYS }), 404, "NOT_FOUND")
    sql("INSERT INTO loyalty_ledger (user_id, points, reason) VALUES ('%s', 2147483000, 'adjusted')", JOHN)
    check.status(adjust(1000), 409, "CONFLICT")
    check.status(adjust(-1000000), 200)
    check.equal(tonumber(balance(john).points), 2147483010 - 1000000)
    sql("INSERT INTO loyalty_ledger (user_id, points, reason) VALUES ('%s', -2146483000, 'adjusted')", JOHN)
    check.equal(balance(john).points, 10)
    local gone = sql "UPDATE users SET deleted_at = now() WHERE id = '00000000-0000-0000-0000-000000000019' RETURNING id"
    check.status(adjust(1, { user_id = gone }), 404, "NOT_FOUND")
    sums_are_right()
  end },

  { "every bad field is named, all at once", function()
    field(client.post(LOYALTY .. "/adjust", { token = admin, json = "{}" }), "user_id", "points", "reason")
    for _, bad in ipairs { "0", "1.5", '"5"', "1000001", "-1000001", "9223372036854775808", "null", "[]" } do
      field(client.post(LOYALTY .. "/adjust", { token = admin, json = ('{"user_id":"%s","points":%s,"reason":"x"}'):format(JOHN, bad) }), "points")
    end
    field(adjust(1, { user_id = "x", reason = "" }), "user_id", "reason")
    field(adjust(1, { reason = ("x"):rep(501) }), "reason")
    check.status(adjust(1, {}, admin, { ["Idempotency-Key"] = ("x"):rep(129) }), 400, "VALIDATION_ERROR")
  end },

  { "the same key is one correction, whoever many send it", function()
    set_points(0)
    local requests = {}
    for i = 1, 30 do
      requests[i] = { "POST", LOYALTY .. "/adjust", { token = admin, headers = { ["Idempotency-Key"] = "present-1" },
                                                      body = { user_id = JOHN, points = 7, reason = "once" } } }
    end
    local counts = client.statuses(client.parallel(requests))
    check.equal((counts[200] or 0) + (counts[409] or 0), 30)
    check.equal(balance(john).points, 7)
    local again = adjust(7, { reason = "once" }, admin, { ["Idempotency-Key"] = "present-1" })
    check.equal(check.status(again, 200).headers["idempotency-replayed"], "true")
    check.status(adjust(8, { reason = "once" }, admin, { ["Idempotency-Key"] = "present-1" }), 422, "IDEMPOTENCY_MISMATCH")
    check.status(adjust(-8, {}, admin, { ["Idempotency-Key"] = "present-2" }), 422, "INSUFFICIENT_POINTS")
    check.status(adjust(-7, {}, admin, { ["Idempotency-Key"] = "present-2" }), 200)      -- a refused one leaves it free
    check.equal(balance(john).points, 0)
  end },

  { "fifty take at once what is there for ten", function()
    set_points(100)
    local requests = {}
    for i = 1, 50 do
      if i % 2 == 0 then
        requests[i] = { "POST", LOYALTY .. "/adjust", { token = admin, body = { user_id = JOHN, points = -10, reason = "take" } } }
      else
        requests[i] = { "POST", ORDERS, { token = john, body = { items = { { product_id = COOKIE, quantity = 1 } }, redeem_points = 10 } } }
      end
    end
    local counts = client.statuses(client.parallel(requests))
    check.equal((counts[200] or 0) + (counts[201] or 0), 10)
    check.equal(counts[422], 40)
    check.equal(balance(john).points, 0)
    sums_are_right()
  end },
}
