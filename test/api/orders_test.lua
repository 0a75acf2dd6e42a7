-- Orders: placed by customers and guests, moved on by staff, cancelled, paid, refunded.
-- env: PAYMENT_URL_TEMPLATE=https://pay.example/?order={order_id}&amount={amount}&currency={currency}
-- env: PAYMENT_GENERIC_SECRET=top-secret

local cjson  = require "cjson"
local check  = require "check"
local client = require "client"

local ORDERS <const> = "/api/v1/orders"
local CAKE <const>, CUPCAKES <const> = "10000000-0000-0000-0000-000000000001", "10000000-0000-0000-0000-000000000002"
local JOHN <const>, JANE <const> = "00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000002"

local john  = client.session("customer", JOHN)
local jane  = client.session("customer", JANE)
local rider_id = client.sql "SELECT id FROM users WHERE role = 'rider' ORDER BY id LIMIT 1"
local rider = client.session("rider", rider_id)
local staff = client.session("staff", client.sql "SELECT id FROM users WHERE role = 'staff' ORDER BY id LIMIT 1")
local admin = client.session "admin"

client.sql "UPDATE products SET stock = 1000"

---- Short ways --------------------------------------------------------------------------------------

local function one(id, quantity) return { product_id = id, quantity = quantity } end

local function place(body, token, headers)
  return client.post(ORDERS, { token = token, body = body, headers = headers })
end

local function placed(body, token, headers)
  return check.status(place(body, token, headers), 201).json().data
end

local function get(order, token, headers)
  return client.get(ORDERS .. "/" .. order.id, { token = token, headers = headers })
end

local function act(method, order, action, token, body, headers)
  return client[method](ORDERS .. "/" .. order.id .. "/" .. action, { token = token, body = body, headers = headers })
end

local function move(order, ...)
  local answer
  for _, status in ipairs { ... } do
    answer = check.status(act("patch", order, "status", staff, { status = status }), 200).json().data
    check.equal(answer.status, status)
  end
  return answer
end

local function stock(id) return tonumber(client.sql("SELECT stock FROM products WHERE id = '" .. id .. "'")) end

local function value(sql, ...) return client.sql(sql:format(...)) end

--- A promo code of its own for a test.
local promo_number = 0
local function promo(fields)
  promo_number = promo_number + 1
  local code = "TEST" .. promo_number
  local names, values = {}, {}
  for name, content in pairs(fields or {}) do
    names[#names + 1] = ", " .. name
    values[#values + 1] = ", '" .. content .. "'"
  end
  value([[INSERT INTO promo_codes (code, valid_from, valid_to%s) VALUES ('%s', now() - interval '1 day',
    now() + interval '1 day'%s)]], table.concat(names), code, table.concat(values))
  return code
end

local slot_number = 0
local function slot(capacity, day, time)
  slot_number = slot_number + 1
  return value([[INSERT INTO delivery_schedules (delivery_date, delivery_time, capacity)
    VALUES (current_date + %d, '%s', %d) RETURNING id]], day or 100 + slot_number, time or "09:00-11:00", capacity or 10)
end

local ADDRESS <const> = { line1 = "1 Oven Street", city = "Baketown", postal_code = "12345" }

local function delivery(slot_id, more)
  local body = { items = { one(CUPCAKES, 1) }, fulfilment = "delivery", delivery_schedule_id = slot_id, address = ADDRESS }
  for name, content in pairs(more or {}) do body[name] = content end
  return body
end

local guest_number = 0
local function guest(more)
  guest_number = guest_number + 1
  local body = { items = { one(CUPCAKES, 1) }, guest_name = "Greta Guest", guest_email = "greta" .. guest_number .. "@example.com" }
  for name, content in pairs(more or {}) do body[name] = content end
  return body
end

local function token_of(order) return { ["X-Tracking-Token"] = order.tracking_token } end

local function set_points(points)
  value([[INSERT INTO loyalty_ledger (user_id, points, reason, note) SELECT '%s', %d - points, 'adjusted', 'test'
    FROM loyalty_points WHERE user_id = '%s' AND points <> %d]], JOHN, points, JOHN, points)
end

local function points()
  local balance = value("SELECT points FROM loyalty_points WHERE user_id = '%s'", JOHN)
  check.equal(balance, value("SELECT COALESCE(sum(points), 0) FROM loyalty_ledger WHERE user_id = '%s'", JOHN), "the ledger's sum")
  return tonumber(balance)
end

local function sign(body, secret, time)
  time = time or os.time()
  local mac = client.shell(("printf '%%s' '%d.%s' | openssl dgst -sha256 -hmac '%s' | sed 's/.*= *//'"):format(time, body, secret or "top-secret"))
  return ("t=%d,v1=%s"):format(time, mac)
end

local event_number = 0
local function event(order, fields)
  event_number = event_number + 1
  local content = { id = "evt_" .. event_number, type = "payment.succeeded", order_id = order.id, amount = order.total_amount,
                    currency = "USD", reference = "ref_" .. event_number, created = "2026-01-15T10:30:00Z" }
  for name, given in pairs(fields or {}) do content[name] = given end
  return cjson.encode(content)
end

local function tell(body, signature)
  return client.post("/api/v1/payments/webhook/generic", { json = body, headers = { ["X-Omade-Signature"] = signature or sign(body) } })
end

return {
  { "an order, and the same again when it is read", function()
    local before = { stock(CAKE), stock(CUPCAKES) }
    local answer = check.status(place({ items = { one(CAKE, 2), one(CUPCAKES, 1), one(CAKE, 1) }, notes = "ring twice",
                                        tip_amount = 1.5 }, john), 201)
    local order = answer.json().data
    check.matches(answer.body, '"subtotal":90.96')
    check.matches(answer.body, '"total_amount":92.46')
    check.matches(order.order_number, "^ORD%d%d%d%d%d%d%d%d%d%d%d+$")
    check.equal(order.status, "pending")
    check.equal(order.user_id, JOHN)
    check.equal(answer.body:match '"data":(.*),"message":"[^"]*"}$', get(order, john).body:match '"data":(.*)}$')
    check.equal(stock(CAKE), before[1] - 3)
    check.equal(stock(CUPCAKES), before[2] - 1)
    check.equal(value("SELECT total_amount FROM orders WHERE id = '%s'", order.id), "92.46")
    check.equal(value("SELECT string_agg(topic, ',') FROM outbox WHERE aggregate_id = '%s'", order.id), "order.created")
    check.equal(client.get("/api/v1/products/" .. CAKE).json().data.stock, before[1] - 3)
  end },

  { "who sees it", function()
    local order = placed({ items = { one(CAKE, 1) } }, john)
    check.status(get(order, john), 200)
    check.status(get(order, staff), 200)
    check.status(get(order, admin), 200)
    check.status(get(order, jane), 404, "NOT_FOUND")
    check.status(get(order, rider), 404, "NOT_FOUND")
    check.status(get(order), 401, "UNAUTHENTICATED")
    check.status(client.get "/api/v1/orders/x", 401, "UNAUTHENTICATED")
    check.status(get(order, nil, token_of(order)), 200)
    check.status(get(order, nil, { ["X-Tracking-Token"] = ("0"):rep(32) }), 404, "NOT_FOUND")
    check.status(act("post", order, "cancel", jane), 404, "NOT_FOUND")
    check.status(act("post", order, "pay", jane), 404, "NOT_FOUND")
    check.status(act("patch", order, "schedule", jane, { pickup_at = "2030-01-01T10:00:00Z" }), 404, "NOT_FOUND")
    check.status(client.get(ORDERS .. "/" .. order.id .. "/events", { token = jane }), 404, "NOT_FOUND")
    check.status(act("patch", order, "status", john, { status = "confirmed" }), 403, "FORBIDDEN")
    check.status(act("patch", order, "payment", john, { payment_status = "paid" }), 403, "FORBIDDEN")
    check.status(act("post", order, "refund", staff, {}), 403, "FORBIDDEN")
    check.status(client.get(ORDERS .. "/all", { token = john }), 403, "FORBIDDEN")
    check.status(place({ items = { one(CAKE, 1) } }, staff), 403, "FORBIDDEN")
  end },

  { "what is asked for is checked", function()
    local function refused(body, field)
      local answer = check.status(place(body, john), 400, "VALIDATION_ERROR")
      check.truthy(answer.json().fields[field], field .. " in " .. answer.body)
    end
    refused({ items = {} }, "items")
    refused({ items = { one("x", 1) } }, "items[0].product_id")
    refused({ items = { one(CAKE, 0) } }, "items[0].quantity")
    refused({ items = { one(CAKE, 51) } }, "items[0].quantity")
    refused({ items = { one(CAKE, 1) }, fulfilment = "delivery" }, "address")
    refused({ items = { one(CAKE, 1) }, fulfilment = "delivery" }, "delivery_schedule_id")
    refused({ items = { one(CAKE, 1) }, tip_amount = 1000 }, "tip_amount")
    refused({ items = { one(CAKE, 1) }, tip_amount = 0.001 }, "tip_amount")
    refused({ items = { one(CAKE, 1) }, payment_method = "barter" }, "payment_method")
    refused({ items = { one(CAKE, 1) }, pickup_at = "2020-01-01T10:00:00Z" }, "pickup_at")
    refused({ items = { one("99999999-0000-0000-0000-000000000001", 1) }, pickup_at = "2020-01-01T10:00:00Z" }, "pickup_at")
    refused({ items = { { product_id = CUPCAKES, custom_cake = { flavor = "vanilla", size = "small_6", frosting = "fondant" } } } },
            "items[0].custom_cake")
    check.status(place({ items = { one("99999999-0000-0000-0000-000000000001", 1) } }, john), 404, "NOT_FOUND")
    check.status(place({}, john), 409, "EMPTY_CART")
    local answer = check.status(place({ items = { one(CAKE, 1) } }), 400, "VALIDATION_ERROR")
    check.truthy(answer.json().fields.guest_name)
    check.truthy(answer.json().fields.guest_email)
  end },

  { "all faults of a body at once, with what fields require of each other", function()
    local function refused(body, token, ...)
      local answer = check.status(place(body, token), 400, "VALIDATION_ERROR").json()
      local expected = {}
      for _, field in ipairs { ... } do expected[field] = true end
      for field in pairs(answer.fields) do check.truthy(expected[field], field .. ": not a fault, but it") end
      for field in pairs(expected) do check.truthy(answer.fields[field], field .. ": a fault, but it") end
      return answer
    end
    refused({ items = { one(CAKE, 1) }, fulfilment = "delivery", tip_amount = -1 }, john,
            "tip_amount", "address", "delivery_schedule_id")
    refused({ items = {}, guest_name = "G", redeem_points = 5 }, nil,
            "items", "guest_name", "guest_email", "redeem_points")
    -- a faulty field is not missing, too
    refused({ items = { one(CAKE, 1) }, guest_name = "Greta", guest_phone = "x" }, nil, "guest_phone")
    refused({ items = { one(CAKE, 1) }, fulfilment = "delivery", address = "x", delivery_schedule_id = "x" }, john,
            "address", "delivery_schedule_id")
    local vegan = { flavor = "carrot", size = "small_6", frosting = "fondant", dietary = { "vegan" } }
    local sweet = { flavor = "vanilla", frosting = "whipped_cream", decorations = { { id = "piped_borders" } }, dietary = { "vegan" } }
    local answer = refused({ items = { { product_id = CAKE, custom_cake = vegan }, { product_id = CAKE, custom_cake = sweet } }, notes = 5 },
                           john, "notes", "items[0].custom_cake.dietary[0]", "items[1].custom_cake.size",
                           "items[1].custom_cake.decorations[0]", "items[1].custom_cake.dietary[0]")
    check.equal(#answer.errors, 6)       -- the first cake goes neither with carrot nor with fondant
  end },

  { "a client's price, total, status and owner count for nothing", function()
    local order = placed({ items = { { product_id = CAKE, quantity = 1, unit_price = 0.01 } }, total_amount = 0.01, status = "delivered",
                           user_id = JANE, discount_amount = 20 }, john)
    check.equal(order.total_amount, 25.99)
    check.equal(order.status, "pending")
    check.equal(order.user_id, JOHN)
  end },

  { "out of stock says what and how much", function()
    value("UPDATE products SET stock = 3 WHERE id = '%s'", CAKE)
    local answer = check.status(place({ items = { one(CAKE, 2), one(CAKE, 2) } }, john), 409, "OUT_OF_STOCK")
    check.same(answer.json().items, { { product_id = CAKE, available = 3, requested = 4 } })
    check.equal(stock(CAKE), 3)
    value("UPDATE products SET stock = 1000 WHERE id = '%s'", CAKE)
  end },

  { "promotions", function()
    local order = placed({ items = { one(CAKE, 3), one(CUPCAKES, 1) }, promo_code = " " .. promo({ discount_type = "percent", amount = 10 }):lower() }, john)
    check.equal(order.discount_amount, 9.10)      -- of 90.96
    check.equal(order.items[1].discount_amount + order.items[2].discount_amount, 9.10)
    check.equal(order.total_amount, 81.86)
    order = placed({ items = { one(CUPCAKES, 1) }, promo_code = promo { discount_type = "fixed", amount = 500 } }, john)
    check.equal(order.discount_amount, 12.99)
    check.equal(order.total_amount, 0)

    local function refused(code, why) check.status(place({ items = { one(CUPCAKES, 1) }, promo_code = code }, john), 422, why) end
    refused("NOSUCH", "PROMO_INVALID")
    refused(promo { discount_type = "fixed", amount = 1, minimum_order = 13 }, "PROMO_MINIMUM")
    local ended = promo { discount_type = "fixed", amount = 1 }
    value("UPDATE promo_codes SET valid_to = now() - interval '1 hour' WHERE code = '%s'", ended)
    refused(ended, "PROMO_EXPIRED")
    local later = promo { discount_type = "fixed", amount = 1 }
    value("UPDATE promo_codes SET valid_from = now() + interval '1 hour' WHERE code = '%s'", later)
    refused(later, "PROMO_NOT_STARTED")
    local once = promo { discount_type = "fixed", amount = 1, usage_limit = 1 }
    order = placed({ items = { one(CUPCAKES, 1) }, promo_code = once }, john)
    refused(once, "PROMO_EXHAUSTED")
    check.status(act("post", order, "cancel", john), 200)
    placed({ items = { one(CUPCAKES, 1) }, promo_code = once }, john)
    local each = promo { discount_type = "fixed", amount = 1, per_user_limit = 1 }
    placed({ items = { one(CUPCAKES, 1) }, promo_code = each }, john)
    refused(each, "PROMO_ALREADY_USED")
    placed({ items = { one(CUPCAKES, 1) }, promo_code = each }, jane)
  end },

  { "points pay goods only", function()
    set_points(10000)
    local order = placed({ items = { one(CUPCAKES, 1) }, redeem_points = 5000, tip_amount = 2 }, john)
    check.equal(order.points_redeemed, 1299)
    check.equal(order.points_amount, 12.99)
    check.equal(order.total_amount, 2)
    check.equal(points(), 10000 - 1299)
    check.status(place({ items = { one(CUPCAKES, 1) }, redeem_points = 20000 }, john), 422, "INSUFFICIENT_POINTS")
    check.status(act("post", order, "cancel", john), 200)
    check.equal(points(), 10000)
  end },

  { "delivery: fee, place, cutoff", function()
    local id = slot(2)
    local order = placed(delivery(id), john)
    check.equal(order.delivery_fee, 5.99)
    check.equal(order.delivery.time, "09:00-11:00")
    check.same(order.delivery.address, ADDRESS)
    check.equal(placed(delivery(id, { items = { one(CUPCAKES, 4) } }), john).delivery_fee, 0)
    check.status(place(delivery(id), john), 409, "SLOT_FULL")
    check.equal(value("SELECT booked FROM delivery_schedules WHERE id = '%s'", id), "2")
    check.status(act("post", order, "cancel", john), 200)
    check.equal(value("SELECT booked FROM delivery_schedules WHERE id = '%s'", id), "1")
    check.status(place(delivery(slot(5, -1, "05:00-05:30")), john), 409, "SLOT_CLOSED")
    check.status(place(delivery("99999999-0000-0000-0000-000000000001"), john), 404, "NOT_FOUND")
  end },

  { "a custom cake costs what the quote says, in time or not at all", function()
    local cake = { flavor = "lemon", size = "medium_8", frosting = "fondant", layers = 2, message = "Hi <b>",
                   decorations = { { id = "fresh_flowers", quantity = 2 } }, dietary = cjson.empty_array, instructions = "no nuts" }
    local quoted = client.post("/api/v1/custom-cakes/preview", { body = { configuration = cake } }).json().data
    local answer = check.status(place({ items = { { product_id = CAKE, quantity = 2, custom_cake = cake } } }, john), 201)
    local order = answer.json().data
    check.equal(order.items[1].unit_price, quoted.unit_price)
    check.equal(order.items[1].custom_cake.message, "Hi <b>")
    check.equal(answer.body:match '"data":(.*),"message":"[^"]*"}$', get(order, john).body:match '"data":(.*)}$')
    check.equal(value("SELECT extra_details->>'instructions' FROM custom_cake_configurations WHERE order_id = '%s'", order.id), "no nuts")
    check.equal(value("SELECT pickup_at::date - created_at::date FROM orders WHERE id = '%s'", order.id), "2")

    local plain = { flavor = "vanilla", size = "small_6", frosting = "buttercream" }
    local function on(days)
      return place({ items = { { product_id = CAKE, custom_cake = plain } },
                     pickup_at = value("SELECT to_char((current_date + %d) + time '12:00', 'YYYY-MM-DD\"T\"HH24:MI:SSZ')", days) }, john)
    end
    check.equal(check.status(on(1), 201).json().data.items[1].unit_price, 75)
    check.equal(check.status(on(2), 201).json().data.items[1].unit_price, 25)
    local topped = { flavor = "vanilla", size = "small_6", frosting = "buttercream", decorations = { { id = "themed_toppers" } } }
    answer = check.status(place({ items = { { product_id = CAKE, custom_cake = topped } },
                                  pickup_at = value "SELECT to_char(current_date + 3 + time '12:00', 'YYYY-MM-DD\"T\"HH24:MI:SSZ')" }, john), 422, "LEAD_TIME")
    check.equal(answer.json().earliest_date, value "SELECT current_date + 5")
  end },

  { "guests", function()
    local order = placed(guest { guest_phone = "+1234567890" })
    check.equal(order.user_id, cjson.null)
    check.equal(order.guest_name, "Greta Guest")
    check.status(get(order), 401)
    check.equal(get(order, nil, token_of(order)).json().data.id, order.id)
    local tracked = client.get(ORDERS .. "/track/" .. order.order_number .. "?email=" .. order.guest_email)
    check.equal(check.status(tracked, 200).json().data.status, "pending")
    check.truthy(not tracked.body:find(order.guest_email, 1, true), "no personal data")
    check.truthy(not tracked.body:find(order.tracking_token, 1, true), "no token")
    check.status(client.get(ORDERS .. "/track/" .. order.order_number .. "?token=" .. order.tracking_token), 200)
    check.status(client.get(ORDERS .. "/track/" .. order.order_number .. "?phone=%2B1234567890"), 200)
    check.status(client.get(ORDERS .. "/track/" .. order.order_number .. "?email=other@example.com"), 404, "NOT_FOUND")
    check.status(client.get(ORDERS .. "/track/" .. order.order_number), 404, "NOT_FOUND")
    check.status(client.get(ORDERS .. "/track/ORD20200101001?email=" .. order.guest_email), 404, "NOT_FOUND")
    check.equal(check.status(act("post", order, "cancel", nil, nil, token_of(order)), 200).json().data.status, "cancelled")
    local other = check.status(client.post(ORDERS .. "/guest", { body = guest() }), 201).json().data
    check.status(act("post", other, "cancel", nil, nil, token_of(order)), 404, "NOT_FOUND")
  end },

  { "the way of an order, and no other", function()
    set_points(0)
    local order = placed({ items = { one(CAKE, 1) }, tip_amount = 3 }, john)
    check.status(act("patch", order, "status", staff, { status = "delivered" }), 409, "INVALID_TRANSITION")
    check.status(act("patch", order, "status", staff, { status = "refunded" }), 409, "INVALID_TRANSITION")
    move(order, "confirmed", "confirmed", "preparing")
    check.status(act("patch", order, "status", staff, { status = "dispatched" }), 409, "INVALID_TRANSITION")
    check.status(act("post", order, "cancel", john), 409, "INVALID_TRANSITION")
    local done = move(order, "ready", "delivered", "delivered")
    check.equal(done.payment_status, "paid")
    check.truthy(done.delivered_at ~= cjson.null, "delivered_at")
    check.equal(points(), 25)      -- of 25.99 without the tip
    local steps = {}
    for i, entry in ipairs(done.history) do steps[i] = entry.status end
    check.equal(table.concat(steps, " "), "pending confirmed preparing ready delivered")
    check.equal(value("SELECT count(*) FROM outbox WHERE aggregate_id = '%s' AND topic = 'order.status_changed'", order.id), "4")
    check.status(act("patch", order, "status", staff, { status = "cancelled" }), 409, "INVALID_TRANSITION")
    check.equal(value("SELECT count(*) FROM audit_log WHERE entity_id = '%s' AND action = 'order.status'", order.id), "4")
  end },

  { "an order by bank transfer is paid before it is handed over", function()
    local order = placed({ items = { one(CAKE, 1) }, payment_method = "bank_transfer" }, john)
    move(order, "confirmed", "preparing", "ready")
    check.status(act("patch", order, "status", staff, { status = "delivered" }), 409, "PAYMENT_REQUIRED")
    local paid = check.status(act("patch", order, "payment", staff, { payment_status = "paid", payment_reference = "B1" }), 200).json().data
    check.equal(paid.payment_reference, "B1")
    check.status(act("patch", order, "payment", staff, { payment_status = "failed" }), 409, "INVALID_TRANSITION")
    check.status(act("patch", order, "payment", staff, { payment_status = "refunded" }), 400, "VALIDATION_ERROR")
    move(order, "delivered")
  end },

  { "a failed delivery frees its place and wants another", function()
    local id, other = slot(1), slot(1)
    local order = placed(delivery(id), john)
    move(order, "confirmed", "preparing", "dispatched")
    value("UPDATE delivery_schedules SET rider_id = '%s', status = 'assigned' WHERE id = '%s'", rider_id, id)
    check.equal(check.status(get(order, rider), 200).json().data.tracking_token, cjson.null)
    check.equal(get(order, john).json().data.tracking_token, order.tracking_token)
    check.equal(move(order, "preparing").delivery_schedule_id, cjson.null)
    check.equal(value("SELECT booked FROM delivery_schedules WHERE id = '%s'", id), "0")
    check.status(act("patch", order, "status", staff, { status = "dispatched" }), 409, "INVALID_TRANSITION")
    check.status(act("patch", order, "schedule", john, { delivery_schedule_id = other }), 409, "INVALID_TRANSITION")
    check.status(act("patch", order, "schedule", staff, { delivery_schedule_id = other }), 200)
    move(order, "dispatched", "delivered")
  end },

  { "another date", function()
    local first, second, full = slot(1), slot(1), slot(1)
    placed(delivery(full), jane)
    local order = placed(delivery(first), john)
    check.status(act("patch", order, "schedule", john, { delivery_schedule_id = full }), 409, "SLOT_FULL")
    check.equal(check.status(act("patch", order, "schedule", john, { delivery_schedule_id = second }), 200).json().data.delivery_schedule_id, second)
    check.equal(value("SELECT string_agg(booked::text, ',' ORDER BY delivery_date) FROM delivery_schedules WHERE id IN ('%s', '%s')", first, second), "0,1")
    check.status(act("patch", order, "schedule", john, {}), 400, "VALIDATION_ERROR")
    check.status(act("patch", order, "schedule", john, { pickup_at = "2030-01-01T10:00:00Z" }), 400, "VALIDATION_ERROR")
    move(order, "confirmed")
    check.status(act("patch", order, "schedule", john, { delivery_schedule_id = first }), 409, "INVALID_TRANSITION")
    local pickup = placed({ items = { one(CAKE, 1) } }, john)
    check.equal(check.status(act("patch", pickup, "schedule", john, { pickup_at = "2030-01-01T10:00:00+01:00" }), 200).json().data.pickup_at, "2030-01-01T09:00:00.000Z")
    move(pickup, "confirmed", "preparing", "ready")
    check.status(act("patch", pickup, "schedule", staff, { pickup_at = "2030-01-02T10:00:00Z" }), 200)
    move(pickup, "delivered")
    check.status(act("patch", pickup, "schedule", staff, { pickup_at = "2030-01-03T10:00:00Z" }), 409, "INVALID_TRANSITION")
  end },

  { "an earlier date for a cake, as soon as its rush fee was paid for", function()
    local function noon(days)
      return value("SELECT to_char((current_date + %d) + time '12:00', 'YYYY-MM-DD\"T\"HH24:MI:SSZ')", days)
    end
    local function ordered(fields, days)
      local cake = { flavor = "vanilla", size = "small_6", frosting = "buttercream" }
      for name, content in pairs(fields) do cake[name] = content end
      return placed({ items = { { product_id = CAKE, custom_cake = cake } }, pickup_at = noon(days) }, john)
    end
    local function refused(order, days, earliest)
      local answer = check.status(act("patch", order, "schedule", john, { pickup_at = noon(days) }), 422, "LEAD_TIME")
      check.equal(answer.json().earliest_date, value("SELECT current_date + %d", earliest))
    end
    local plain = ordered({}, 9)
    refused(plain, 1, 2)
    check.status(act("patch", plain, "schedule", john, { pickup_at = noon(2) }), 200)
    refused(ordered({ layers = 4 }, 2), 1, 2)         -- 25.00 were paid, 50.00 would be due
    refused(ordered({ decorations = { { id = "themed_toppers" } } }, 9), 4, 5)
  end },

  { "refunds, to the cent and no further", function()
    set_points(0)
    local order = placed({ items = { one(CAKE, 2) }, promo_code = promo { discount_type = "fixed", amount = 1 } }, john)     -- 50.98
    check.status(act("post", order, "refund", admin, {}), 409, "INVALID_TRANSITION")
    move(order, "confirmed", "preparing", "ready", "delivered")
    check.equal(points(), 50)
    local stock_before = stock(CAKE)
    check.status(act("post", order, "refund", admin, { amount = 51 }), 409, "CONFLICT")
    local part = check.status(act("post", order, "refund", admin, { amount = 10.5, reason = "dry" }), 200).json().data
    check.equal(part.refunded_amount, 10.5)
    check.equal(part.status, "delivered")
    check.equal(points(), 40)      -- floor of 40.48
    local rest = check.status(act("post", order, "refund", admin), 200).json().data
    check.equal(rest.refunded_amount, 50.98)
    check.equal(rest.status, "refunded")
    check.equal(rest.payment_status, "refunded")
    check.equal(points(), 0)
    check.equal(stock(CAKE), stock_before)
    check.status(act("post", order, "refund", admin, {}), 409, "INVALID_TRANSITION")
    check.equal(value("SELECT sum(amount) FROM refunds WHERE order_id = '%s'", order.id), "50.98")
    check.equal(value("SELECT count(*) FROM outbox WHERE aggregate_id = '%s' AND topic = 'order.refunded'", order.id), "2")
  end },

  { "redeemed points return once, with the full amount or the cancellation", function()
    set_points(500)
    local order = placed({ items = { one(CUPCAKES, 1) }, redeem_points = 500, payment_method = "online" }, john)
    check.equal(points(), 0)
    check.status(act("patch", order, "payment", staff, { payment_status = "paid" }), 200)
    check.status(act("post", order, "cancel", staff, { reason = "closed" }), 200)
    check.equal(points(), 500)
    check.status(act("post", order, "refund", admin, {}), 200)
    check.equal(points(), 500)
    order = placed({ items = { one(CUPCAKES, 1) }, redeem_points = 500 }, john)      -- 7.99
    move(order, "confirmed", "preparing", "ready", "delivered")
    check.equal(points(), 7)
    check.status(act("post", order, "refund", admin, { amount = 1 }), 200)
    check.equal(points(), 6)
    check.status(act("post", order, "refund", admin, {}), 200)
    check.equal(points(), 500)
  end },

  { "what points pay for alone needs no money: handed over, and returned", function()
    set_points(5000)
    local price = math.tointeger(value("SELECT price * 100 FROM products WHERE id = '%s'", CUPCAKES) // 1)
    local function free(method)
      local order = placed({ items = { one(CUPCAKES, 1) }, redeem_points = price, payment_method = method }, john)
      check.equal(order.total_amount, 0)
      return order
    end
    local order = free "online"
    check.status(act("post", order, "pay", john), 409, "CONFLICT")
    check.equal(move(order, "confirmed", "preparing", "ready", "delivered").payment_status, "paid")
    check.equal(points(), 5000 - price)
    check.status(act("post", order, "refund", admin, { amount = 0.01 }), 409, "CONFLICT")
    local refunded = check.status(act("post", order, "refund", admin), 200).json().data
    check.equal(refunded.status .. " " .. refunded.payment_status, "refunded refunded")
    check.equal(points(), 5000)
    check.status(act("post", order, "refund", admin), 409, "INVALID_TRANSITION")
    check.equal(points(), 5000)
    check.equal(move(free "cash", "confirmed", "preparing", "ready", "delivered").payment_status, "paid")
  end },

  { "paying online", function()
    local order = placed({ items = { one(CAKE, 1) }, payment_method = "online" }, john)
    local answer = check.status(act("post", order, "pay", john), 200).json().data
    check.equal(answer.provider, "generic")
    check.equal(answer.payment_url, "https://pay.example/?order=" .. order.id .. "&amount=25.99&currency=USD")
    local body = event(order)
    check.status(tell(body, sign(body, "wrong")), 400)
    check.status(tell(body, sign(body, nil, os.time() - 400)), 400)
    check.status(tell(body, "t=1,v1=zz"), 400)
    check.status(client.post("/api/v1/payments/webhook/other", { json = body }), 404)
    check.equal(get(order, john).json().data.payment_status, "pending")
    check.status(tell(event(order, { type = "payment.failed" })), 200)
    check.equal(get(order, john).json().data.payment_status, "failed")
    for _ = 1, 3 do check.status(tell(body), 200) end
    check.equal(get(order, john).json().data.payment_status, "paid")
    check.status(tell(event(order, { type = "payment.failed" })), 200)
    check.equal(get(order, john).json().data.payment_status, "paid")
    check.equal(value("SELECT count(*) FROM payments WHERE order_id = '%s' AND outcome = 'applied'", order.id), "2")
    check.status(act("post", order, "pay", john), 409, "CONFLICT")
    move(order, "confirmed", "preparing", "ready", "delivered")
    check.status(tell(event(order, { type = "refund.succeeded", amount = 5 })), 200)
    check.equal(get(order, john).json().data.refunded_amount, 5)
    check.status(tell(event(order, { type = "refund.succeeded", amount = 0 })), 200)      -- recorded, and changes nothing
    check.equal(value("SELECT string_agg(amount || ' ' || outcome, ', ' ORDER BY created_at) FROM payments "
      .. "WHERE order_id = '%s' AND type = 'refund.succeeded'", order.id), "5.00 applied, 0.00 ignored")
    check.equal(get(order, john).json().data.refunded_amount, 5)
  end },

  { "what does not fit is recorded for a look", function()
    local function reviewed(order, fields, why)
      local before = tonumber(value "SELECT count(*) FROM outbox WHERE topic = 'payment.review'")
      local body = event(order, fields)
      check.status(tell(body), 200)
      check.status(tell(body), 200)
      check.equal(tonumber(value "SELECT count(*) FROM outbox WHERE topic = 'payment.review'"), before + 1, why)
      check.equal(value("SELECT outcome FROM payments WHERE event_id = '%s'", cjson.decode(body).id), "review")
    end
    local order = placed({ items = { one(CAKE, 1) }, payment_method = "online" }, john)
    reviewed(order, { amount = 25.98 }, "another amount")
    reviewed(order, { currency = "EUR" }, "another currency")
    reviewed({ id = "99999999-0000-0000-0000-000000000001", total_amount = 1 }, {}, "no such order")
    check.equal(get(order, john).json().data.payment_status, "pending")
    check.status(act("post", order, "cancel", john), 200)
    reviewed(order, {}, "a cancelled order")
    check.equal(get(order, john).json().data.payment_status, "pending")
  end },

  { "one key, one order, one answer", function()
    local body, headers = { items = { one(CUPCAKES, 1) } }, { ["Idempotency-Key"] = "key-1" }
    local first = check.status(place(body, john, headers), 201)
    local second = check.status(place(body, john, headers), 201)
    check.equal(second.body, first.body)
    check.equal(second.headers["idempotency-replayed"], "true")
    check.status(place({ items = { one(CUPCAKES, 2) } }, john, headers), 422, "IDEMPOTENCY_MISMATCH")
    check.truthy(place(body, jane, headers).json().data.id ~= first.json().data.id, "somebody else's key is another")
    check.status(place({ items = { one(CUPCAKES, 50), one(CUPCAKES, 50) }, promo_code = "NOSUCH" }, john, { ["Idempotency-Key"] = "key-2" }), 422, "PROMO_INVALID")
    check.status(place(body, john, { ["Idempotency-Key"] = "key-2" }), 201)
    check.status(place(body, john, { ["Idempotency-Key"] = ("k"):rep(129) }), 400, "VALIDATION_ERROR")
  end },

  { "lists and figures", function()
    local list = check.status(client.get(ORDERS .. "?limit=5&status=pending", { token = john }), 200).json().data
    check.equal(#list.orders, 5)
    for _, order in ipairs(list.orders) do
      check.equal(order.user_id, JOHN)
      check.equal(order.status, "pending")
    end
    check.equal(list.total, tonumber(value("SELECT count(*) FROM orders WHERE user_id = '%s' AND status = 'pending'", JOHN)))
    local order = placed(guest { guest_name = "Zebulon Guest" })
    local found = client.get(ORDERS .. "/all?customer=zebulon", { token = staff }).json().data
    check.equal(found.total, 1)
    check.equal(found.orders[1].id, order.id)
    found = client.get(ORDERS .. "/all?customer=john%40example.com&limit=100", { token = staff }).json().data
    check.truthy(found.total > 10)
    check.equal(client.get(ORDERS .. "/all?customer=" .. JOHN, { token = staff }).json().data.total, found.total)
    check.equal(client.get(ORDERS .. "/all?order_number=" .. order.order_number, { token = staff }).json().data.total, 1)
    local today = value "SELECT (now() AT TIME ZONE 'UTC')::date"
    check.equal(client.get(ORDERS .. "/all?date_from=" .. today .. "&date_to=" .. today, { token = staff }).json().data.total,
                tonumber(value("SELECT count(*) FROM orders WHERE created_at >= '%s'", today)))
    for query, where in pairs { ["?date_from=2000-01-01"] = "true", [""] = "created_at >= current_date - 29" } do
      local stats = check.status(client.get(ORDERS .. "/stats" .. query, { token = staff }), 200).json().data
      local sum = 0
      for _, row in ipairs(stats.by_status) do sum = sum + row.count end
      check.equal(sum, tonumber(value("SELECT count(*) FROM orders WHERE " .. where)))
    end
    check.status(client.get(ORDERS .. "?page=100000&limit=100", { token = john }), 400, "VALIDATION_ERROR")
    check.status(client.get(ORDERS .. "?date_from=2026-02-30", { token = john }), 400, "VALIDATION_ERROR")
  end },

  { "events, and their resumption", function()
    local function next_event(c)
      local text
      repeat text = assert(c:read_until "\n\n") until text:find "data:"
      return text
    end
    local order = placed({ items = { one(CAKE, 1) } }, john)
    local c = client.connect()
    c:send(client.format("GET", ORDERS .. "/" .. order.id .. "/events", { token = john }))
    check.matches(c:read_until "\r\n\r\n", "text/event%-stream")
    check.matches(next_event(c), '"status":"pending"')
    move(order, "confirmed")
    local confirmed = next_event(c)
    check.matches(confirmed, '"status":"confirmed"')
    local id = confirmed:match "id: ?(%d+)"
    move(order, "preparing")
    check.matches(next_event(c), '"status":"preparing"')
    c:close()
    local again = client.connect()
    again:send(client.format("GET", ORDERS .. "/" .. order.id .. "/events", { token = john, headers = { ["Last-Event-ID"] = id } }))
    again:read_until "\r\n\r\n"
    local resumed = next_event(again)
    check.matches(resumed, '"status":"preparing"')
    again:close()
    local as_guest = client.connect()
    as_guest:send(client.format("GET", ORDERS .. "/" .. order.id .. "/events", { headers = token_of(order) }))
    check.matches(as_guest:read_until "\r\n\r\n", "200 OK")
    check.matches(next_event(as_guest), '"status":"pending"')
    as_guest:close()
  end },
}
