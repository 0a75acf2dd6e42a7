-- Providers' events, many at once and many times, and the task that cancels what nobody pays.
-- serve: --workers 2
-- env: PAYMENT_GENERIC_SECRET=top-secret

local cjson  = require "cjson"
local check  = require "check"
local client = require "client"
local storm  = require "storm"

local buyers = storm.people(60)
local admin  = storm.people(1, "admin")[1]
local buns   = storm.products(4, 100000)

local number = 0
local function event(made, fields)
  number = number + 1
  local content = { id = "storm_" .. number, type = "payment.succeeded", order_id = made.id, amount = made.total_amount,
                    currency = "USD", reference = "ref_" .. number }
  for name, given in pairs(fields or {}) do content[name] = given end
  return cjson.encode(content)
end

--- Requests that tell these events; signed all at once.
local function told(bodies)
  local now, lines = os.time(), {}
  for i, body in ipairs(bodies) do
    lines[i] = ("printf '%%s' '%d.%s' | openssl dgst -sha256 -hmac top-secret | sed 's/.*= *//'"):format(now, body)
  end
  local requests, i = {}, 0
  for mac in client.shell(table.concat(lines, "\n")):gmatch "%x+" do
    i = i + 1
    requests[i] = { "POST", "/api/v1/payments/webhook/generic",
                    { json = bodies[i], headers = { ["X-Omade-Signature"] = ("t=%d,v1=%s"):format(now, mac) } } }
  end
  check.equal(i, #bodies, "signatures")
  return requests
end

local function online(i) return storm.placed(storm.order(buyers[i], { items = { storm.one(buns[1 + i % 4]) }, payment_method = "online" })) end

return storm.tests {
  { "an event told 100 times at once has one effect", function()
    local made = online(1)
    storm.expect(storm.times(100, told({ event(made) })[1]), { [200] = 100 })
    check.equal(storm.value("SELECT payment_status, (SELECT count(*) FROM payments WHERE order_id = o.id), "
      .. "(SELECT count(*) FROM order_status_history WHERE order_id = o.id AND payment_status = 'paid'), "
      .. "(SELECT count(*) FROM outbox WHERE aggregate_id = o.id) FROM orders o WHERE id = '%s'", made.id), "paid|1|1|2")
  end },

  { "events in any order come to the same", function()
    local orders, bodies = {}, {}
    for i = 1, 20 do
      orders[i] = online(i)
      bodies[3 * i - 2] = event(orders[i], { type = "payment.failed" })
      bodies[3 * i - 1] = event(orders[i])
      bodies[3 * i] = event(orders[i], { type = "payment.failed" })
    end
    storm.expect(told(bodies), { [200] = 60 })
    for _, made in ipairs(orders) do check.equal(storm.value("SELECT payment_status FROM orders WHERE id = '%s'", made.id), "paid") end
  end },

  { "refunds by us and by the provider at once never exceed what was paid", function()
    local made = online(2)
    storm.expect(told { event(made) }, { [200] = 1 })
    check.status(storm.send(storm.act("POST", made, "cancel", buyers[2])), 200)
    local bodies = {}
    for i = 1, 10 do bodies[i] = event(made, { type = "refund.succeeded", amount = 3 }) end
    local requests = told(bodies)
    for i = 11, 20 do requests[i] = storm.act("POST", made, "refund", admin, { amount = 3 }) end
    for _, answer in ipairs(client.parallel(requests)) do
      check.truthy(answer.status == 200 or answer.status == 409, answer.body)
    end
    check.equal(storm.value("SELECT refunded_amount FROM orders WHERE id = '%s'", made.id), "9.00")
  end },

  { "the task leaves what points paid for alone", function()
    storm.value("INSERT INTO loyalty_ledger (user_id, points, reason, note) VALUES ('%s', 100000, 'adjusted', 'test')", buyers[3].id)
    local function late(points)
      local made = storm.placed(storm.order(buyers[3], { items = { storm.one(buns[1]) }, payment_method = "online", redeem_points = points }))
      storm.value("UPDATE orders SET created_at = created_at - interval '40 minutes' WHERE id = '%s'", made.id)
      return made
    end
    local free, part = late(99999), late(1)
    check.equal(free.total_amount, 0)
    check.status(client.post "/test/unpaid", 200)
    check.equal(storm.value("SELECT status FROM orders WHERE id = '%s'", free.id), "pending")
    check.equal(storm.value("SELECT status FROM orders WHERE id = '%s'", part.id), "cancelled")
  end },

  { "paid or cancelled: the task and the payment, never both unseen", function()
    local paid, cancelled = 0, 0
    for _ = 1, 3 do
      local bodies, ids = {}, {}
      for i = 1, 40 do
        local made = online(i)
        table.insert(bodies, 1, event(made))      -- the newest first: the task begins with the oldest
        ids[i] = "'" .. made.id .. "'"
      end
      local list = table.concat(ids, ",")
      storm.value("UPDATE orders SET created_at = created_at - interval '40 minutes' WHERE id IN (%s)", list)
      local calls, bytes = {}, { "", "", "", "" }
      for i, r in ipairs(told(bodies)) do bytes[1 + i % 4] = bytes[1 + i % 4] .. client.format(r[1], r[2], r[3]) end
      for i = 1, 6 do calls[i] = client.connect() end
      calls[5]:send(client.format("POST", "/test/unpaid"))
      for i = 1, 4 do calls[i]:send(bytes[i]) end      -- one after the other on each
      calls[6]:send(client.format("POST", "/test/unpaid"))
      for i, call in ipairs(calls) do
        for _ = 1, i <= 4 and 10 or 1 do check.status(call:answer "POST", 200) end
        call:close()
      end
      -- paid in time, or cancelled with its payment put before somebody
      check.equal(storm.value([[SELECT count(*) FILTER (WHERE o.status = 'pending' AND o.payment_status = 'paid' AND p.outcome = 'applied')
          + count(*) FILTER (WHERE o.status = 'cancelled' AND o.payment_status = 'pending' AND p.outcome = 'review' AND x.id IS NOT NULL)
        FROM orders o JOIN payments p ON p.order_id = o.id
          LEFT JOIN outbox x ON x.aggregate_id = o.id AND x.topic = 'payment.review' WHERE o.id IN (%s)]], list), "40")
      local gone = storm.number("SELECT count(*) FROM orders WHERE status = 'cancelled' AND id IN (%s)", list)
      paid, cancelled = paid + 40 - gone, cancelled + gone
    end
    print(("# %d were paid, %d cancelled"):format(paid, cancelled))
    check.truthy(paid > 0 and cancelled > 0, "they met")
  end },
}
