-- Everything at once over the same few products, points, promotions and slots: locks are taken
-- in one order, so that nobody is ever a deadlock's victim.
-- serve: --workers 2

local check  = require "check"
local client = require "client"
local storm  = require "storm"

local one, act = storm.one, storm.act

local ORDERS <const>, ROUNDS <const> = 32, 2

local people = storm.people(3)
local staff  = storm.people(1, "staff")[1]
local admin  = storm.people(1, "admin")[1]
local rider  = storm.people(1, "rider")[1]
local buns   = storm.products(3, 100000)
local slots  = { storm.slot(500), storm.slot(500) }
local promo  = storm.promo { discount_type = "percent", amount = "10", usage_limit = "100000", per_user_limit = "100000" }
local open   = storm.promo { discount_type = "fixed", amount = "1" }

for _, person in ipairs(people) do storm.give_points(person, 100000) end
for _, slot in ipairs(slots) do
  client.sql(("UPDATE delivery_schedules SET rider_id = '%s', status = 'assigned' WHERE id = '%s'"):format(rider.id, slot))
end

-- Each keeps an order to bring: a slot with nothing left would be completed.
for i, slot in ipairs(slots) do storm.placed(storm.order(people[i], storm.delivery(slot, buns[1]))) end

local function shuffled(list)
  for i = #list, 2, -1 do
    local k = math.random(i)
    list[i], list[k] = list[k], list[i]
  end
  return list
end

--- An order of several products, with points, a promotion and a slot, each in its turn.
local function order(n)
  local items = {}
  for k = 1, 3 do items[k] = one(buns[1 + (n * 7 + k * (n % 2 == 0 and 1 or 2)) % 3], 1 + n % 2) end
  local body = { items = items, redeem_points = n % 4 > 0 and 50 or nil,
                 promo_code = n % 3 == 0 and promo or n % 3 == 1 and open or nil }
  if n % 8 > 1 then
    body.fulfilment, body.delivery_schedule_id, body.address = "delivery", slots[1 + n % 2], storm.ADDRESS
  end
  return storm.order(people[1 + n % 3], body, "mix-" .. n)
end

local number = 0
local function placed()
  local requests, list = {}, {}
  for i = 1, ORDERS do
    number = number + 1
    requests[i] = order(number)
  end
  for i, answer in ipairs(storm.expect(requests, { [201] = ORDERS })) do list[i] = answer.json().data end
  return list
end

local function all_to(list, ...)
  for _, status in ipairs { ... } do
    local requests = {}
    for i, made in ipairs(list) do
      local to = status == "dispatched" and made.fulfilment == "pickup" and "ready" or status
      requests[i] = act("PATCH", made, "status", staff, { status = to })
    end
    storm.expect(requests, { [200] = #list })
  end
  return list
end

local function deadlocks() return storm.number "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()" end

return storm.tests {
  { "orders, deliveries, cancels, dates, refunds and stock, all at once", function()
    math.randomseed(11)
    local before = deadlocks()
    for _ = 1, ROUNDS do
      local given    = all_to(placed(), "confirmed", "preparing", "dispatched", "delivered")
      local on_way   = all_to(placed(), "confirmed", "preparing", "dispatched")
      local kitchen  = all_to(placed(), "confirmed", "preparing")
      local fresh    = placed()
      local requests = {}
      local function add(request) requests[#requests + 1] = request end
      for i = 1, ORDERS do
        number = number + 1
        add(order(number))
        add(act("POST", given[i], "refund", admin, i % 2 == 0 and { amount = 1 } or {}))
        if i % 4 == 1 and on_way[i].fulfilment == "delivery" then
          add { "POST", "/api/v1/delivery/orders/" .. on_way[i].id .. "/delivered", { token = rider.token, body = { note = "at the door" } } }
        else
          add(act("PATCH", on_way[i], "status", staff, { status = i % 4 > 0 and "delivered" or "cancelled" }))
        end
        add(act("POST", kitchen[i], "cancel", staff))
        local new_date = { delivery_schedule_id = fresh[i].delivery_schedule_id == slots[1] and slots[2] or slots[1] }
        if fresh[i].fulfilment == "delivery" then add(act("PATCH", fresh[i], "schedule", staff, new_date)) end
        if i % 2 == 0 then add(act("POST", fresh[i], "cancel", people[1 + (number - 1) % 3])) end
        if i % 4 == 0 then
          local bun = buns[1 + i % 3]
          add { "PATCH", "/api/v1/products/" .. bun .. "/stock", { token = staff.token, body = { stockChange = 5 } } }
          storm.initial[bun] = storm.initial[bun] + 5
        end
      end
      for _, answer in ipairs(client.parallel(shuffled(requests))) do
        check.truthy(answer.status < 500 and answer.status ~= 400, answer.body)
      end
    end
    client.sql "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND usename = 'app_user'"
    client.eventually(20, "connections", function() return client.get("/api/v1/products?limit=1").status == 200 end)
    check.equal(deadlocks(), before, "deadlocks")
  end },

  { "a limit set and taken away under orders with the code", function()
    local before, requests = deadlocks(), {}
    for i = 1, 60 do
      requests[i] = storm.order(people[1 + i % 3], { items = { one(buns[1 + i % 3]) }, promo_code = open })
    end
    local id = storm.value("SELECT id FROM promo_codes WHERE code = '%s'", open)
    for i = 1, 10 do
      table.insert(requests, 6 * i, { "PATCH", "/api/v1/promo/" .. id, { token = admin.token,
        json = i % 2 == 1 and '{"usage_limit":100000}' or '{"usage_limit":null}' } })
    end
    local counts = client.statuses(client.parallel(requests))
    check.equal(counts[201], 60, "orders")
    check.equal(counts[200], 10, "limits")
    client.sql "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND usename = 'app_user'"
    client.eventually(20, "connections", function() return client.get("/api/v1/products?limit=1").status == 200 end)
    check.equal(deadlocks(), before, "deadlocks")
  end },
}
