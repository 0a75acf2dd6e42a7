-- Delivery: slots, who may book and change them, riders and their reports.
-- serve: --workers 2
-- env: CLOSED_DAYS=2031-12-25

local cjson  = require "cjson"
local check  = require "check"
local client = require "client"

local SCHEDULES <const>, DELIVERY <const> = "/api/v1/delivery/schedules", "/api/v1/delivery"
local CUPCAKES <const> = "10000000-0000-0000-0000-000000000002"
local JOHN <const> = "00000000-0000-0000-0000-000000000001"
local MARCO <const>, AISHA <const> = "00000000-0000-0000-0000-000000000006", "00000000-0000-0000-0000-000000000007"
local NOBODY <const> = "99999999-0000-0000-0000-000000000001"

local john  = client.session("customer", JOHN)
local marco = client.session("rider", MARCO)
local aisha = client.session("rider", AISHA)
local staff = client.session("staff", client.sql "SELECT id FROM users WHERE role = 'staff' ORDER BY id LIMIT 1")
local admin = client.session("admin", client.sql "SELECT id FROM users WHERE role = 'admin' LIMIT 1")

client.sql "UPDATE products SET stock = 1000"

---- Short ways --------------------------------------------------------------------------------------

local function value(sql, ...) return client.sql(sql:format(...)) end

local slot_number = 0
local function new_slot(capacity)
  slot_number = slot_number + 1
  local day = value("SELECT current_date + %d", 100 + slot_number)
  return check.status(client.post(SCHEDULES, { token = staff, body = {
    delivery_date = day, delivery_time = "09:00-11:00", capacity = capacity } }), 201).json().data
end

local function place(slot, more)
  local body = { items = { { product_id = CUPCAKES, quantity = 2 } }, fulfilment = "delivery", delivery_schedule_id = slot.id,
                 address = { line1 = "1 Oven Street", city = "Baketown", postal_code = "12345" } }
  for name, content in pairs(more or {}) do body[name] = content end
  return client.post("/api/v1/orders", { token = john, body = body })
end

local function placed(slot, more) return check.status(place(slot, more), 201).json().data end

local function patch(slot, body, token) return client.patch(SCHEDULES .. "/" .. slot.id, { token = token or staff, body = body }) end
local function delete(slot, token) return client.delete(SCHEDULES .. "/" .. slot.id, { token = token or staff }) end
local function assign(slot, rider_id, token)
  return client.post(SCHEDULES .. "/" .. slot.id .. "/assign", { token = token or staff, body = { rider_id = rider_id } })
end

local function status(order, ...)
  for _, to in ipairs { ... } do
    check.status(client.patch("/api/v1/orders/" .. order.id .. "/status", { token = staff, body = { status = to } }), 200)
  end
end

local function report(order, what, token, body)
  return client.post(DELIVERY .. "/orders/" .. order.id .. "/" .. what, { token = token, body = body })
end

--- An order of Marco's, ready to go.
local function ride(more)
  local slot = new_slot()
  check.status(assign(slot, MARCO), 200)
  local order = placed(slot, more)
  status(order, "confirmed", "preparing")
  return order, slot
end

local function counts(order)
  return value([[SELECT (SELECT string_agg(status, ',' ORDER BY id) FROM order_status_history
      WHERE order_id = '%s' AND payment_status IS NULL) || ' ' || (SELECT count(*) FROM outbox
      WHERE aggregate_id = '%s' AND topic = 'order.status_changed')]], order.id, order.id)
end

local function listed(query, token)
  local answer = check.status(client.get(SCHEDULES .. "?limit=100&" .. query, { token = token }), 200).json().data
  local ids = {}
  for _, slot in ipairs(answer.schedules) do ids[slot.id] = slot end
  return ids, answer
end

return {
  { "slots: customers see what can be booked, staff all", function()
    value "SELECT setval('order_number_seq', 5000)"
    local free, full, done = new_slot(3), new_slot(1), new_slot()
    placed(full)
    placed(free)
    value("UPDATE delivery_schedules SET status = 'completed' WHERE id = '%s'", done.id)
    local range = ("date_from=%s&date_to=%s"):format(free.delivery_date, done.delivery_date)
    local seen, answer = listed(range)
    check.equal(answer.total, 1)
    check.equal(answer.limit, 100)
    check.equal(seen[free.id].remaining, 2)
    check.equal(seen[free.id].rider_id, nil)
    check.status(client.get(SCHEDULES .. "?all=true", {}), 401, "UNAUTHENTICATED")
    check.status(client.get(SCHEDULES .. "?all=true", { token = john }), 403, "FORBIDDEN")
    check.equal(select(2, listed(range, staff)).total, 1)
    seen = listed(range .. "&all=true", staff)
    check.equal(seen[full.id].remaining, 0)
    check.equal(seen[done.id].status, "completed")
    check.status(assign(free, MARCO), 200)
    check.truthy(listed(range, john)[free.id], "assigned stays bookable")
  end },

  { "slots: today's begin in time, closed days and the past are out", function()
    local _, answer = listed ""
    local today = value "SELECT (now() AT TIME ZONE 'UTC')::date"
    for _, slot in ipairs(answer.schedules) do check.truthy(slot.delivery_date >= today, slot.delivery_date) end
    -- One that begins in an hour is too late; one far enough ahead is not.
    local function made(from)
      return value([[INSERT INTO delivery_schedules (delivery_date, delivery_time)
        SELECT t::date, to_char(t, 'HH24:MI') || '-24:00' FROM (SELECT now() AT TIME ZONE 'UTC' + interval '%s' AS t) x
        RETURNING id]], from)
    end
    local soon, later = made "1 hour 1 minute", made "2 hours 7 minutes"
    local tomorrow = value "SELECT (now() AT TIME ZONE 'UTC')::date + 1"
    local seen = listed("date_from=" .. today .. "&date_to=" .. tomorrow)
    check.equal(seen[soon], nil)
    check.truthy(seen[later], "a later slot")
    local closed = value "INSERT INTO delivery_schedules (delivery_date, delivery_time) VALUES ('2031-12-25', '09:00-11:00') RETURNING id"
    check.equal(listed("date_from=2031-12-25")[closed], nil)
    check.truthy(listed("date_from=2031-12-25&all=true", admin)[closed])
    check.equal(select(2, listed("date_from=2030-01-02&date_to=2030-01-01")).total, 0)
  end },

  { "slots: bad input names its fields", function()
    local function refused(method, path, body, ...)
      local fields = check.status(client[method](path, { token = staff, body = body }), 400, "VALIDATION_ERROR").json().fields
      for _, field in ipairs { ... } do check.truthy(fields[field], field) end
    end
    refused("post", SCHEDULES, { delivery_date = "2030-13-01", delivery_time = "11:00-09:00", capacity = 0 },
            "delivery_date", "delivery_time", "capacity")
    for _, time in ipairs { "9:00-11:00", "09:00", "09:00-09:00", "25:00-26:00", "09:60-10:00", "23:00-24:01", "" } do
      refused("post", SCHEDULES, { delivery_date = "2030-01-01", delivery_time = time }, "delivery_time")
    end
    refused("post", SCHEDULES, { delivery_date = "2030-01-01", delivery_time = "09:00-11:00", capacity = 501 }, "capacity")
    local slot = new_slot()
    refused("patch", SCHEDULES .. "/" .. slot.id, { status = "gone", capacity = 1.5 }, "status", "capacity")
    check.status(patch(slot, {}), 400)
    check.status(client.patch(SCHEDULES .. "/x", { token = staff, body = { capacity = 1 } }), 400, "VALIDATION_ERROR")
    check.status(patch({ id = NOBODY }, { capacity = 1 }), 404, "NOT_FOUND")
    check.status(delete { id = NOBODY }, 404, "NOT_FOUND")
    check.status(assign({ id = NOBODY }, MARCO), 404, "NOT_FOUND")
    check.status(client.get(SCHEDULES .. "?date_from=yesterday", {}), 400, "VALIDATION_ERROR")
    check.truthy(check.status(assign(slot, JOHN), 400, "VALIDATION_ERROR").json().fields.rider_id)
    check.truthy(check.status(assign(slot, NOBODY), 400, "VALIDATION_ERROR").json().fields.rider_id)
  end },

  { "slots: only staff change them", function()
    local slot = new_slot()
    for _, token in ipairs { john, marco } do
      check.status(client.post(SCHEDULES, { token = token, body = { delivery_date = "2030-01-01", delivery_time = "09:00-11:00" } }), 403)
      check.status(patch(slot, { capacity = 2 }, token), 403, "FORBIDDEN")
      check.status(delete(slot, token), 403, "FORBIDDEN")
      check.status(assign(slot, MARCO, token), 403, "FORBIDDEN")
    end
    check.status(patch(slot, { capacity = 2 }, ""), 401)
    check.status(patch(slot, { capacity = 2 }, admin), 200)
    check.status(client.get(DELIVERY .. "/my", { token = staff }), 403, "FORBIDDEN")
  end },

  { "slots: made once, not below what is booked, removed when empty; written down", function()
    local slot = new_slot(5)
    check.equal(slot.remaining, 5)
    check.status(client.post(SCHEDULES, { token = staff, body = { delivery_date = slot.delivery_date,
      delivery_time = "09:00-11:00" } }), 409, "SLOT_EXISTS")
    check.equal(check.status(patch(slot, { delivery_time = "10:00-12:00" }), 200).json().data.delivery_time, "10:00-12:00")
    local first, second = placed(slot), placed(slot)
    check.status(patch(slot, { capacity = 1 }), 409, "SLOT_BOOKED")
    check.status(patch(slot, { delivery_time = "11:00-12:00" }), 409, "SLOT_BOOKED")
    check.status(patch(slot, { status = "completed" }), 409, "SLOT_BOOKED")
    check.status(patch(slot, { status = "assigned" }), 409, "CONFLICT")
    check.equal(check.status(patch(slot, { capacity = 2 }), 200).json().data.remaining, 0)
    check.status(delete(slot), 409, "SLOT_BOOKED")
    for _, order in ipairs { first, second } do
      check.status(client.post("/api/v1/orders/" .. order.id .. "/cancel", { token = john }), 200)
    end
    check.status(delete(slot), 200)
    check.status(delete(slot), 404, "NOT_FOUND")
    check.equal(client.get("/api/v1/orders/" .. first.id, { token = john }).json().data.status, "cancelled")
    check.equal(value("SELECT string_agg(action, ',' ORDER BY id) FROM audit_log WHERE entity_id = '%s'", slot.id),
                "slot.create,slot.update,slot.update,slot.delete")
  end },

  { "slots: a place and its loss at the same time", function()
    for _ = 1, 5 do
      local slot = new_slot(1)
      local order = { items = { { product_id = CUPCAKES, quantity = 1 } }, fulfilment = "delivery", delivery_schedule_id = slot.id,
                      address = { line1 = "1 Oven Street", city = "Baketown", postal_code = "12345" } }
      local answers = client.parallel { { "POST", "/api/v1/orders", { token = john, body = order } },
                                        { "DELETE", SCHEDULES .. "/" .. slot.id, { token = staff } } }
      local bought, removed = answers[1].status == 201, answers[2].status == 200
      check.truthy(bought ~= removed, ("order %d, removal %d"):format(answers[1].status, answers[2].status))
      check.status(answers[bought and 2 or 1], bought and 409 or 404)
    end
  end },

  { "assigning: riders only, one winner, the same again is the same", function()
    for _ = 1, 5 do
      local slot = new_slot()
      local path = SCHEDULES .. "/" .. slot.id .. "/assign"
      local requests = {}
      for i = 1, 8 do
        requests[i] = { "POST", path, { token = i % 2 == 0 and staff or admin, body = { rider_id = i <= 4 and MARCO or AISHA } } }
      end
      local answers = client.parallel(requests)
      check.same(client.statuses(answers), { [200] = 4, [409] = 4 })
      check.equal(value("SELECT count(*) FROM audit_log WHERE entity_id = '%s' AND action = 'slot.assign'", slot.id), "1")
    end
    local slot = new_slot()
    check.equal(check.status(assign(slot, MARCO), 200).json().data.status, "assigned")
    check.status(assign(slot, AISHA), 409, "CONFLICT")
    local free = check.status(patch(slot, { status = "available" }), 200).json().data
    check.equal(free.rider_id, cjson.null)
    check.equal(check.status(assign(slot, AISHA), 200).json().data.rider_id, AISHA)
    value("UPDATE delivery_schedules SET status = 'completed' WHERE id = '%s'", slot.id)
    check.status(assign(slot, AISHA), 409, "SLOT_CLOSED")
  end },

  { "a rider's rides: address, contact, items, what is due", function()
    local order, slot = ride { notes = "ring twice" }
    local paid = placed(slot, { payment_method = "online" })
    check.status(client.post("/api/v1/orders/" .. placed(slot).id .. "/cancel", { token = john }), 200)
    check.status(client.patch("/api/v1/orders/" .. paid.id .. "/payment", { token = staff, body = { payment_status = "paid" } }), 200)
    local answer = check.status(client.get(DELIVERY .. "/my?date=" .. slot.delivery_date, { token = marco }), 200)
    local schedules = answer.json().data.schedules
    check.equal(#schedules, 1)
    check.equal(#schedules[1].orders, 2)
    local first = schedules[1].orders[1]
    check.equal(first.id, order.id)
    check.equal(first.amount_due, order.total_amount)
    check.equal(first.address.line1, "1 Oven Street")
    check.equal(first.notes, "ring twice")
    check.equal(first.contact.name, value("SELECT name FROM users WHERE id = '%s'", JOHN))
    check.equal(first.contact.phone, value("SELECT phone FROM users WHERE id = '%s'", JOHN))
    check.same(first.items, { { product_name = first.items[1].product_name, quantity = 2 } })
    check.equal(schedules[1].orders[2].amount_due, 0)
    check.truthy(not answer.body:find(order.tracking_token, 1, true), "no token")
    check.equal(#client.get(DELIVERY .. "/my?date=" .. slot.delivery_date, { token = aisha }).json().data.schedules, 0)
    check.status(client.get(DELIVERY .. "/my", { token = marco }), 200)
    check.status(client.get(DELIVERY .. "/my?date=x", { token = marco }), 400, "VALIDATION_ERROR")
  end },

  { "dispatched and delivered: by its rider, twice is once, points and payment", function()
    local order, slot = ride()
    local before = value("SELECT points FROM loyalty_points WHERE user_id = '%s'", JOHN)
    check.status(report(order, "dispatched", aisha), 404, "NOT_FOUND")
    check.status(report(order, "delivered", aisha), 404, "NOT_FOUND")
    check.status(report(order, "failed", aisha), 404, "NOT_FOUND")
    check.status(report(order, "dispatched", john), 403, "FORBIDDEN")
    check.status(report(order, "dispatched"), 401)
    check.status(report({ id = NOBODY }, "dispatched", staff), 404, "NOT_FOUND")
    check.status(report({ id = "x" }, "dispatched", staff), 400, "VALIDATION_ERROR")
    check.status(report(order, "delivered", marco), 409, "INVALID_TRANSITION")
    for _ = 1, 2 do
      local shown = check.status(report(order, "dispatched", marco, { note = "left" }), 200).json().data
      check.equal(shown.status, "dispatched")
      check.equal(shown.tracking_token, cjson.null)
    end
    check.status(report(order, "delivered", marco, { payment_taken = false }), 409, "PAYMENT_REQUIRED")
    local path = DELIVERY .. "/orders/" .. order.id .. "/delivered"
    local requests = {}
    for i = 1, 8 do requests[i] = { "POST", path, { token = i % 2 == 0 and marco or staff, body = { payment_taken = true } } } end
    check.same(client.statuses(client.parallel(requests)), { [200] = 8 })
    check.equal(counts(order), "pending,confirmed,preparing,dispatched,delivered 4")
    check.equal(value("SELECT payment_status FROM orders WHERE id = '%s'", order.id), "paid")
    local points = tonumber(value("SELECT points FROM loyalty_points WHERE user_id = '%s'", JOHN)) - tonumber(before)
    check.equal(points, math.floor(order.total_amount - order.delivery_fee))
    check.equal(value("SELECT status FROM delivery_schedules WHERE id = '%s'", slot.id), "completed")
    check.status(report(order, "failed", staff), 409, "INVALID_TRANSITION")
    check.status(report(order, "dispatched", staff), 409, "INVALID_TRANSITION")
  end },

  { "the last order completes a slot, also one that no rider has", function()
    local slot = new_slot(2)
    local function state() return value("SELECT status FROM delivery_schedules WHERE id = '%s'", slot.id) end
    local function cancel(order) check.status(client.post("/api/v1/orders/" .. order.id .. "/cancel", { token = john }), 200) end
    cancel(placed(slot))
    check.equal(state(), "available", "nothing was brought")
    local brought, other = placed(slot), placed(slot)
    status(brought, "confirmed", "preparing", "dispatched", "delivered")
    check.equal(state(), "available")
    cancel(other)
    check.equal(state(), "completed")
    check.status(place(slot), 409, "SLOT_CLOSED")
  end },

  { "what was not paid is not handed over", function()
    local order = ride { payment_method = "bank_transfer" }
    check.status(report(order, "dispatched", marco), 200)
    check.status(report(order, "delivered", marco, { payment_taken = true }), 409, "PAYMENT_REQUIRED")
    check.status(client.patch("/api/v1/orders/" .. order.id .. "/payment", { token = staff, body = { payment_status = "paid" } }), 200)
    check.status(report(order, "delivered", marco), 200)
  end },

  { "offline reports say when it was", function()
    local order = ride()
    local function refused(what, body)
      local fields = check.status(report(order, what, marco, body), 400, "VALIDATION_ERROR").json().fields
      check.truthy(fields.occurred_at)
    end
    refused("dispatched", { occurred_at = "2199-01-01T00:00:00Z" })
    refused("dispatched", { occurred_at = "2001-01-01T00:00:00Z" })
    refused("failed", { occurred_at = "2199-01-01T00:00:00Z" })
    check.truthy(check.status(report(order, "dispatched", marco, { note = ("x"):rep(501), payment_taken = "yes" }), 400)
                 .json().fields.payment_taken)
    value("UPDATE orders SET created_at = created_at - interval '1 day' WHERE id = '%s'", order.id)
    local at = value "SELECT to_char((now() - interval '1 hour') AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\".000Z\"')"
    check.status(report(order, "dispatched", marco, { occurred_at = at }), 200)
    local shown = check.status(report(order, "delivered", marco, { occurred_at = at }), 200).json().data
    check.equal(shown.delivered_at, at)
    check.equal(shown.history[#shown.history].at, at)
    check.equal(shown.history[#shown.history].by_role, "rider")
  end },

  { "a failed delivery goes back to the kitchen once, and its place is free", function()
    local order, slot = ride()
    check.status(report(order, "failed", marco), 409, "INVALID_TRANSITION")
    check.status(report(order, "dispatched", marco), 200)
    local path = DELIVERY .. "/orders/" .. order.id .. "/failed"
    local requests = {}
    for i = 1, 6 do requests[i] = { "POST", path, { token = marco, body = { note = "nobody there" } } } end
    local answers = client.parallel(requests)
    check.same(client.statuses(answers), { [200] = 6 })
    local shown = answers[6].json().data
    check.equal(shown.status, "preparing")
    check.equal(shown.delivery_schedule_id, cjson.null)
    check.equal(shown.tracking_token, cjson.null)
    check.equal(counts(order), "pending,confirmed,preparing,dispatched,preparing 4")
    check.equal(value("SELECT booked FROM delivery_schedules WHERE id = '%s'", slot.id), "0")
    check.equal(value("SELECT note || ' ' || by_role FROM order_status_history WHERE order_id = '%s' ORDER BY id DESC LIMIT 1",
                      order.id), "nobody there rider")
    check.status(report(order, "failed", aisha), 404, "NOT_FOUND")
    check.status(report(order, "delivered", marco), 404, "NOT_FOUND")
    check.status(report(order, "failed", staff), 200)
    check.status(report(order, "dispatched", staff), 409, "INVALID_TRANSITION")
    -- Another slot, and off again; by staff this time, which is written down.
    local other = new_slot()
    check.status(client.patch("/api/v1/orders/" .. order.id .. "/schedule", { token = staff, body = { delivery_schedule_id = other.id } }), 200)
    check.status(report(order, "dispatched", staff), 200)
    check.status(report(order, "failed", staff, { note = "flat tyre" }), 200)
    check.equal(counts(order), "pending,confirmed,preparing,dispatched,preparing,dispatched,preparing 6")
    check.equal(value("SELECT count(*) FROM audit_log WHERE entity_id = '%s' AND changes->>'from' = 'dispatched'", order.id), "1")
  end },
}
