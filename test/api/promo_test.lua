-- Promotion codes: what one is worth, their administration, and many buyers at once.
-- serve: --workers 2

local cjson  = require "cjson"
local check  = require "check"
local client = require "client"

local PROMO <const>, ORDERS <const> = "/api/v1/promo", "/api/v1/orders"
local JOHN <const> = "00000000-0000-0000-0000-000000000001"
local COOKIE <const> = "10000000-0000-0000-0000-000000000011"

local john  = client.session("customer", JOHN)
local staff = client.session("staff", "00000000-0000-0000-0000-000000000004")
local admin = client.session "admin"

client.sql "UPDATE products SET stock = 100000, price = 10.00"

---- Short ways -----------------------------------------------------------------------------------------

local function sql(text, ...) return client.sql(text:format(...)) end

local number = 0

--- A code that is good; `fields` change it.
local function body(fields)
  number = number + 1
  local new = { code = "code" .. number, discount_type = "percent", amount = 10,
                valid_from = "2026-01-01T00:00:00Z", valid_to = "2099-01-01T00:00:00Z" }
  for name, value in pairs(fields or {}) do new[name] = value end
  return new
end

local function create(fields, token) return client.post(PROMO, { token = token or admin, body = body(fields) }) end

local function created(fields) return check.status(create(fields), 201).json().data end

local function change(promo, fields, token)
  return client.patch(PROMO .. "/" .. promo.id, { token = token or admin, body = fields })
end

local function escape(text)
  return (text:gsub("[^%w]", function(c) return ("%%%02X"):format(c:byte()) end))
end

local function validate(code, amount, token)
  local answer = client.get(PROMO .. "/validate?code=" .. escape(code) .. "&order_amount=" .. amount, { token = token })
  return check.status(answer, 200).json().data, answer.body
end

local function refused(code, amount, why, token)
  local data = validate(code, amount, token)
  check.equal(data.valid, false)
  check.equal(data.code, why)
  check.equal(type(data.error), "string")
end

local function field(answer, ...)
  local fields = check.status(answer, 400, "VALIDATION_ERROR").json().fields
  for _, name in ipairs { ... } do check.truthy(fields[name], "no word of " .. name .. ": " .. answer.body) end
end

local function order(code, fields)
  local new = { items = { { product_id = COOKIE, quantity = 1 } }, promo_code = code }
  for name, value in pairs(fields or {}) do new[name] = value end
  return new
end

--- As many orders at the same time, each of another guest; the answers.
local function orders_at_once(count, code)
  local requests = {}
  for i = 1, count do
    requests[i] = { "POST", ORDERS, { body = order(code, { guest_name = "Guest", guest_email = ("g%d.%d@example.com"):format(number, i) }) } }
  end
  return client.parallel(requests)
end

--- used_count, active redemptions, orders with the code.
local function uses(promo)
  return sql([[SELECT used_count || ' ' || (SELECT count(*) FROM promo_redemptions r WHERE r.promo_code_id = p.id AND r.returned_at IS NULL)
    || ' ' || (SELECT count(*) FROM orders o WHERE o.promo_code_id = p.id AND o.status <> 'cancelled') FROM promo_codes p WHERE id = '%s']], promo.id)
end

return {
  { "what a code takes off, whatever its case and spaces", function()
    local promo = created { code = "Spring25", amount = 12.5 }
    check.equal(promo.code, "SPRING25")
    local data, text = validate(" sPring25 ", "19.99")
    check.same(data, { valid = true, discount_amount = 2.5, promo = { code = "SPRING25", discount_type = "percent", amount = 12.5 } })
    check.matches(text, '"discount_amount":2.50?[,}]')
    created { code = "FIVER", discount_type = "fixed", amount = 5 }
    check.equal(validate("fiver", "3.20").discount_amount, 3.2, "never more than the order")
    check.equal(validate("fiver", "30").discount_amount, 5)
    local old = client.get(PROMO .. "/validate", { body = { code = "fiver", order_amount = 30 } })
    check.equal(check.status(old, 200).json().data.discount_amount, 5, "old clients send a body")
  end },

  { "why a code is no good", function()
    refused("NOSUCHCODE", "10", "PROMO_INVALID")
    created { code = "over1", valid_to = "2026-02-01T00:00:00Z" }
    refused("over1", "10", "PROMO_EXPIRED")
    created { code = "later1", valid_from = "2098-01-01T00:00:00Z" }
    refused("later1", "10", "PROMO_NOT_STARTED")
    created { code = "big1", minimum_order = 50 }
    refused("big1", "49.99", "PROMO_MINIMUM")
    check.equal(validate("big1", "50").valid, true)
    local once = created { code = "once1", usage_limit = 1 }
    local each = created { code = "each1", per_user_limit = 1 }
    check.equal(validate("each1", "10", john).valid, true)
    check.status(client.post(ORDERS, { token = john, body = order "once1" }), 201)
    check.status(client.post(ORDERS, { token = john, body = order "each1" }), 201)
    refused("once1", "10", "PROMO_EXHAUSTED")
    refused("each1", "10", "PROMO_ALREADY_USED", john)
    check.equal(validate("each1", "10").valid, true, "others may")
    check.equal(uses(once), "1 1 1")
    check.equal(uses(each), "0 1 1", "an unlimited code counts nothing")
  end },

  { "validate names what is wrong", function()
    field(client.get(PROMO .. "/validate"), "code", "order_amount")
    field(client.get(PROMO .. "/validate?code=x"), "order_amount")
    for _, bad in ipairs { "-1", "1.005", "x", "1e999", "1000000", "NaN" } do
      field(client.get(PROMO .. "/validate?code=x&order_amount=" .. bad), "order_amount")
    end
    field(client.get(PROMO .. "/validate?order_amount=1&code=" .. ("x"):rep(51)), "code")
    field(client.get(PROMO .. "/validate", { body = { code = 5, order_amount = "x" } }), "code", "order_amount")
    check.status(client.get(PROMO .. "/validate?code=%00&order_amount=1"), 400)
    refused("';DROP TABLE orders;--", "1", "PROMO_INVALID")
  end },

  { "administration is the admin's", function()
    local promo = created()
    for _, token in ipairs { john, staff } do
      check.status(client.get(PROMO, { token = token }), 403, "FORBIDDEN")
      check.status(client.get(PROMO .. "/active", { token = token }), 403, "FORBIDDEN")
      check.status(create({}, token), 403, "FORBIDDEN")
      check.status(change(promo, { amount = 5 }, token), 403, "FORBIDDEN")
      check.status(client.delete(PROMO .. "/" .. promo.id, { token = token }), 403, "FORBIDDEN")
    end
    check.status(client.get(PROMO), 401, "UNAUTHENTICATED")
    check.status(client.post(PROMO, { body = body() }), 401, "UNAUTHENTICATED")
  end },

  { "a code is made, once, and written down", function()
    local promo = created { code = " summer ", discount_type = "fixed", amount = 7.5, usage_limit = 3, per_user_limit = 2, minimum_order = 20 }
    check.equal(promo.code, "SUMMER")
    check.equal(promo.amount, 7.5)
    check.equal(promo.used_count, 0)
    check.equal(promo.usage_limit, 3)
    check.equal(promo.per_user_limit, 2)
    check.equal(promo.minimum_order, 20)
    check.equal(promo.valid_from, "2026-01-01T00:00:00.000Z")
    check.status(create { code = "summer" }, 409, "PROMO_CODE_TAKEN")
    check.equal(sql("SELECT action || ' ' || actor_role FROM audit_log WHERE entity = 'promo' AND entity_id = '%s'", promo.id), "promo.create admin")
  end },

  { "every bad field is named, all at once", function()
    field(client.post(PROMO, { token = admin, json = "{}" }), "code", "discount_type", "amount", "valid_from", "valid_to")
    for name, list in pairs {
      code = { "ab", ("x"):rep(51), 5, cjson.null }, discount_type = { "gift", 1 }, amount = { 0, -1, 1000000, 1.005, "10", true },
      valid_from = { "today", 5, "2026-13-01T00:00:00Z" }, valid_to = { "2026-01-01" }, usage_limit = { 0, -1, 1.5, 2147483648, "1" },
      per_user_limit = { 0, 1.5 }, minimum_order = { -1, 1000000, "x" } } do
      for _, bad in ipairs(list) do field(create { [name] = bad }, name) end
    end
    field(create { amount = 100.01 }, "amount")
    field(create { code = "x", amount = 100.01, valid_to = "2020-01-01T00:00:00Z" }, "code", "amount", "valid_to")
    created { amount = 100 }
    created { amount = 0.01 }
    created { discount_type = "fixed", amount = 100.01 }
    field(create { valid_from = "2026-01-01T00:00:00Z", valid_to = "2026-01-01T00:00:00Z" }, "valid_to")
    field(create { amount = 200, valid_to = "2025-01-01T00:00:00Z" }, "valid_to", "amount")
  end },

  { "a code changes, as far as it may", function()
    local promo = created { usage_limit = 5, minimum_order = 20 }
    local changed = check.status(change(promo, { code = "renamed1", amount = 20, usage_limit = cjson.null, minimum_order = cjson.null }), 200).json().data
    check.equal(changed.code, "RENAMED1")
    check.equal(changed.amount, 20)
    check.equal(changed.usage_limit, cjson.null)
    check.equal(changed.minimum_order, cjson.null)
    field(change(promo, { amount = 101 }), "amount")
    check.status(change(promo, { discount_type = "fixed", amount = 150 }), 200)
    field(change(promo, { discount_type = "percent" }), "amount")
    field(change(promo, { valid_to = "2025-01-01T00:00:00Z" }), "valid_to")
    field(change(promo, { code = cjson.null }), "code")
    field(change(promo, { valid_from = "x", usage_limit = 0 }), "valid_from", "usage_limit")
    field(change(promo, { discount_type = "percent", amount = 200, code = "x" }), "amount", "code")
    check.status(change(promo, {}), 400, "VALIDATION_ERROR")
    local other = created()
    check.status(change(promo, { code = other.code:lower() }), 409, "PROMO_CODE_TAKEN")
    check.status(change({ id = JOHN }, { amount = 1 }), 404, "NOT_FOUND")
    field(change({ id = "x" }, { amount = 1 }), "id")
    check.equal(sql("SELECT count(*) FROM audit_log WHERE action = 'promo.update' AND entity_id = '%s'", promo.id), "2")

    check.status(client.post(ORDERS, { token = john, body = order(other.code) }), 201)
    check.status(client.post(ORDERS, { token = john, body = order(other.code) }), 201)
    check.status(change(other, { usage_limit = 1 }), 409, "CONFLICT")
    check.equal(check.status(change(other, { usage_limit = 2 }), 200).json().data.used_count, 2)
    refused(other.code, "10", "PROMO_EXHAUSTED")
  end },

  { "an unused code is erased, a used one is ended", function()
    local unused, used = created(), created()
    check.status(client.post(ORDERS, { token = john, body = order(used.code) }), 201)
    for _, promo in ipairs { unused, used } do check.status(client.delete(PROMO .. "/" .. promo.id, { token = admin }), 200) end
    check.equal(sql("SELECT count(*) FROM promo_codes WHERE id = '%s'", unused.id), "0")
    check.equal(sql("SELECT valid_to <= now() FROM promo_codes WHERE id = '%s'", used.id), "t")
    refused(unused.code, "10", "PROMO_INVALID")
    refused(used.code, "10", "PROMO_EXPIRED")
    check.status(client.post(ORDERS, { token = john, body = order(used.code) }), 422, "PROMO_EXPIRED")
    check.status(client.delete(PROMO .. "/" .. unused.id, { token = admin }), 404, "NOT_FOUND")
    check.status(client.delete(PROMO .. "/" .. used.id, { token = admin }), 200)
    check.equal(sql("SELECT string_agg(action, ',' ORDER BY id) FROM audit_log WHERE entity_id IN ('%s', '%s') AND action <> 'promo.create'",
                    unused.id, used.id), "promo.delete,promo.end,promo.end")
  end },

  { "lists: all, and those that are good now", function()
    local good, over = created(), created { valid_to = "2026-02-01T00:00:00Z" }
    local full = created { usage_limit = 1 }
    check.status(client.post(ORDERS, { token = john, body = order(full.code) }), 201)
    local function ids(path)
      local found, data = {}, check.status(client.get(PROMO .. path, { token = admin }), 200).json().data
      for _, promo in ipairs(data.promoCodes) do found[promo.id] = true end
      return found, data
    end
    local all, data = ids "?limit=100"
    check.truthy(all[good.id] and all[over.id] and all[full.id], "all")
    check.equal(data.total, tonumber(sql "SELECT count(*) FROM promo_codes"))
    local active = ids "/active?limit=100"
    check.truthy(active[good.id] and not active[over.id] and not active[full.id], "active")
    field(client.get(PROMO .. "?limit=101", { token = admin }), "limit")
    check.equal(#ids "?limit=1&page=2" <= 1, true)
  end },

  { "200 orders at once with a code of 10 uses: it is used 10 times", function()
    local promo = created { usage_limit = 10 }
    local answers = orders_at_once(200, promo.code)
    check.same(client.statuses(answers), { [201] = 10, [422] = 190 })
    for _, answer in ipairs(answers) do
      if answer.status == 422 then check.status(answer, 422, "PROMO_EXHAUSTED") end
    end
    check.equal(uses(promo), "10 10 10")
  end },

  { "100 orders at once with an unlimited code all succeed", function()
    local promo = created()
    check.same(client.statuses(orders_at_once(100, promo.code)), { [201] = 100 })
    check.equal(uses(promo), "0 100 100")
  end },

  { "one who may use a code twice does so twice, in 50 tries at once", function()
    local promo = created { per_user_limit = 2 }
    local requests = {}
    for i = 1, 50 do requests[i] = { "POST", ORDERS, { token = john, body = order(promo.code) } } end
    check.same(client.statuses(client.parallel(requests)), { [201] = 2, [422] = 48 })
    check.equal(uses(promo), "0 2 2")
  end },

  { "a limit that is set while people order counts them all", function()
    for round = 1, 5 do
      local promo = created()
      local requests = { { "PATCH", PROMO .. "/" .. promo.id, { token = admin, body = { usage_limit = 1000 } } } }
      for i = 1, 30 do
        table.insert(requests, i % 2 + 1, { "POST", ORDERS, { body = order(promo.code, {
          guest_name = "Guest", guest_email = ("r%d.%d@example.com"):format(round, i) }) } })
      end
      local counts = client.statuses(client.parallel(requests))
      check.same(counts, { [200] = 1, [201] = 30 })
      check.equal(uses(promo), "30 30 30")
    end
  end },

  { "cancelled and used again at once: used_count stays right", function()
    local promo = created { usage_limit = 20 }
    local placed = {}
    for i, answer in ipairs(orders_at_once(20, promo.code)) do placed[i] = check.status(answer, 201).json().data end
    local requests = {}
    for i = 1, 20 do
      local cancel = { "POST", ORDERS .. "/" .. placed[i].id .. "/cancel", { headers = { ["X-Tracking-Token"] = placed[i].tracking_token }, body = {} } }
      requests[#requests + 1], requests[#requests + 2] = cancel, cancel
    end
    for i = 1, 20 do
      requests[#requests + 1] = { "POST", ORDERS, { body = order(promo.code, { guest_name = "Guest", guest_email = "c" .. i .. "@example.com" }) } }
    end
    for _, answer in ipairs(client.parallel(requests)) do
      check.truthy(answer.status == 200 or answer.status == 201 or answer.status == 422, answer.body)
    end
    local used, active, with_code = uses(promo):match "(%d+) (%d+) (%d+)"
    check.equal(used, active)
    check.equal(used, with_code)
    check.truthy(tonumber(used) <= 20, "over the limit")
  end },
}
