-- Every route with every role, and with what belongs to another customer.  The routes are
-- those of openapi.json, which has all of `omade routes`: new ones are tested by themselves.
-- serve: --workers 1

local check    = require "check"
local client   = require "client"
local contract = require "contract"
local example  = require "example"

local ROLES <const> = { "customer", "rider", "staff", "admin" }

---- Who asks -------------------------------------------------------------------------------------

local function user_of(role, nth)
  return client.sql(("SELECT id FROM users WHERE role = '%s' ORDER BY id OFFSET %d LIMIT 1"):format(role, nth))
end

local tokens = {}

local function token_of(role)
  if role == "guest" then return nil end
  tokens[role] = tokens[role] or client.session(role, user_of(role, role == "customer" and 1 or 0))
  return tokens[role]
end

local function allows(route, role)
  for _, one in ipairs(route.operation["x-roles"]) do if one == role then return true end end
  return false
end

local function is_open(route) return #route.operation.security == 0 end

local function each(fn)
  for _, route in ipairs(contract.routes()) do fn(route, route.method .. " " .. route.path) end
end

--- An empty body where one is taken: what it does is not the matter here.
local function ask(route, role)
  local body = route.operation.requestBody and "{}" or nil
  local answer = client.request(route.method, example.path(route) .. example.query(route.operation),
                                { token = token_of(role), json = body })
  if role ~= "guest" and route.method ~= "GET" and answer.status < 300 then tokens[role] = nil end  -- signed out?
  return answer
end

---- What belongs to somebody -------------------------------------------------------------------------
-- By the first part of a path behind /api/v1; PUBLIC things are nobody's own.

local PUBLIC <const> = { products = true, promo = true, ["custom-cakes"] = true }

local john <const> = user_of("customer", 0)
local john_token <const> = client.session("customer", john)

local function order_of_john()
  return client.sql(("SELECT id FROM orders WHERE user_id = '%s' AND status = 'pending' UNION ALL "
                     .. "SELECT id FROM orders WHERE user_id = '%s' LIMIT 1"):format(john, john))
end

local function cart_line_of_john()
  local id = client.sql "SELECT id FROM products WHERE archived_at IS NULL AND stock > 5 ORDER BY id LIMIT 1"
  client.post("/api/v1/cart/items", { token = john_token, body = { product_id = id, quantity = 1 } })
  return id
end

local OWNED <const> = {
  orders  = order_of_john,
  reviews = function() return client.sql("SELECT id FROM reviews WHERE user_id = '" .. john .. "' LIMIT 1") end,
  cart    = cart_line_of_john,
  delivery = order_of_john,
  users   = function() return john end,
  customers = function() return john end,
}

--- What the contract says: who may, and what.
local CONTRACT <const> = {
  ["guest customer rider staff admin"] = [[
    GET /
    GET /health
    GET /api/health
    GET /ready
    GET /api/v1/products
    GET /api/v1/products/categories
    GET /api/v1/products/{id}
    GET /api/v1/custom-cakes/options
    POST /api/v1/custom-cakes/preview
    POST /api/v1/custom-cakes/calculate-pricing
    POST /api/v1/custom-cakes/check-availability
    GET /api/v1/delivery/schedules
    POST /api/v1/cart/guest
    GET /api/v1/orders/track/{order_number}
    POST /api/v1/payments/webhook/{provider}
    GET /api/v1/promo/validate
    GET /api/v1/reviews/product/{id}
    POST /api/v1/newsletter/subscribe
    GET,POST /api/v1/newsletter/unsubscribe
    GET /api/v1/store
    GET /uploads/{name}
    POST /api/v1/auth/register
    POST /api/v1/auth/login
    POST /api/v1/auth/social
    POST /api/v1/auth/refresh
    POST /api/v1/auth/forgot-password
    POST /api/v1/auth/reset-password
    GET /api/v1/orders/{id}
    GET /api/v1/orders/{id}/events
    POST /api/v1/orders/{id}/cancel
    POST /api/v1/orders/{id}/pay
    POST /api/v1/custom-cakes/upload
  ]],
  ["customer rider staff admin"] = [[
    GET /api/v1/orders
    PATCH /api/v1/orders/{id}/schedule
    GET /api/v1/reviews/my
    PATCH,DELETE /api/v1/reviews/{id}
    GET /api/v1/loyalty
    GET /api/v1/loyalty/history
    GET,PATCH,DELETE /api/v1/auth/me
    POST /api/v1/auth/me/email
    POST /api/v1/auth/me/email/confirm
    GET /api/v1/auth/me/export
    POST /api/v1/auth/logout
    POST /api/v1/auth/logout-all
    PUT /api/v1/auth/change-password
  ]],
  ["guest customer"] = [[
    GET,DELETE /api/v1/cart
    POST /api/v1/cart/items
    PATCH,DELETE /api/v1/cart/items/{productId}
    POST /api/v1/cart/quote
    POST /api/v1/orders
    POST /api/v1/orders/guest
  ]],
  ["customer"] = [[
    POST /api/v1/cart/merge
    POST /api/v1/reviews
  ]],
  ["rider"] = [[
    GET /api/v1/delivery/my
  ]],
  ["rider staff admin"] = [[
    POST /api/v1/delivery/orders/{id}/dispatched
    POST /api/v1/delivery/orders/{id}/delivered
    POST /api/v1/delivery/orders/{id}/failed
  ]],
  ["staff admin"] = [[
    GET /api/v1/products/low-stock
    GET /api/v1/products/stats
    POST /api/v1/products/bulk-stock
    PATCH /api/v1/products/{id}/stock
    GET /api/v1/reports/daily-sales
    GET /api/v1/reports/product-stats
    GET /api/v1/reports/customers
    GET /api/v1/reports/promo-usage
    GET /api/v1/reports/delivery
    GET /api/v1/customers
    GET /api/v1/customers/{id}
    POST /api/v1/delivery/schedules
    PATCH,DELETE /api/v1/delivery/schedules/{id}
    POST /api/v1/delivery/schedules/{id}/assign
    GET /api/v1/orders/all
    GET /api/v1/orders/stats
    PATCH /api/v1/orders/{id}/status
    PATCH /api/v1/orders/{id}/payment
  ]],
  ["admin"] = [[
    POST /api/v1/products
    PATCH,DELETE /api/v1/products/{id}
    POST /api/v1/orders/{id}/refund
    GET,POST /api/v1/promo
    GET /api/v1/promo/active
    PATCH,DELETE /api/v1/promo/{id}
    POST /api/v1/loyalty/adjust
    GET,POST /api/v1/users
    PATCH,DELETE /api/v1/users/{id}
    GET /api/v1/admin/audit
    GET /api/v1/admin/outbox
    POST /api/v1/admin/outbox/{id}/retry
  ]],
}

local function names_of(path)
  local names = {}
  for name in path:gmatch "{([^}]+)}" do names[#names + 1] = name end
  return names
end

--- The same for somebody else's and for what is not there: 404 in the same words.
local function compare(route, name, theirs, options)
  local values, absent = {}, {}
  for _, parameter in ipairs(names_of(route.path)) do
    values[parameter], absent[parameter] = theirs, example.ABSENT
  end
  local function send(with)
    local copy = { token = options.token, headers = options.headers }
    return example.send(route, example.path(route, with) .. example.query(route.operation), copy)
  end
  local of_theirs, of_none = send(values), send(absent)
  check.status(of_theirs, 404, "NOT_FOUND")
  check.status(of_none, 404, "NOT_FOUND")
  local one, other = of_theirs.json(), of_none.json()
  check.equal(one.message, other.message, name)
  check.equal(example.form(one), example.form(other), name)
end

local function has_parameter(route) return route.path:find "{" ~= nil and not is_open(route) end

local function tag_of(route) return route.operation.tags[1] end

return {
  { "nobody: 401 where a role is needed, and only there", function()
    local needing = 0
    each(function(route, name)
      local answer = ask(route, "guest")
      if allows(route, "guest") then
        -- Of an order, who may is known only by its token or a session.
        local asked = is_open(route) and answer.status == 401 and not route.operation.responses["401"]
        check.truthy(answer.status ~= 403 and not asked, name .. ": " .. answer.body)
      else
        needing = needing + 1
        check.equal(answer.status, 401, name)
        check.equal(answer.json().code, "UNAUTHENTICATED", name)
      end
    end)
    check.truthy(needing > 10, "routes that need a role: " .. needing)
  end },

  { "a role that may not: 403; one that may: neither 401 nor 403", function()
    for _, role in ipairs(ROLES) do
      each(function(route, name)
        local answer = ask(route, role)
        name = name .. " as " .. role .. ": " .. answer.body
        if not allows(route, role) then
          check.equal(answer.status, 403, name)
          check.equal(answer.json().code, "FORBIDDEN", name)
        else
          local refused = answer.status == 403 and answer.json().code == "FORBIDDEN" or answer.status == 401
          check.truthy(not refused or is_open(route), name)
          check.truthy(answer.status < 500 or answer.status == 503, name)
        end
      end)
    end
  end },

  { "who may what is as the contract says", function()
    for roles, routes in pairs(CONTRACT) do
      for methods, path in routes:gmatch "(%u[%u,]*) (/%S*)" do
        for method in methods:gmatch "%u+" do
          local operation = (contract.document.paths[path] or {})[method:lower()]
          check.truthy(operation, method .. " " .. path)
          check.equal(table.concat(operation["x-roles"], " "), roles, method .. " " .. path)
        end
      end
    end
  end },

  { "a session that is over is 401, also where a guest may ask", function()
    each(function(route, name)
      if is_open(route) then return end
      local answer = client.request(route.method, example.path(route), { token = "over-and-done" })
      check.equal(answer.status, 401, name)
    end)
  end },

  { "it is known to whom each path's thing belongs", function()
    each(function(route, name)
      if not has_parameter(route) or not (allows(route, "customer") or allows(route, "rider")) then return end
      check.truthy(PUBLIC[tag_of(route)] or OWNED[tag_of(route)], name .. ": add it to OWNED or PUBLIC")
    end)
  end },

  { "what belongs to another customer is 404, as if it were not there", function()
    local count, ids = 0, {}
    each(function(route, name)
      local tag = tag_of(route)
      if not has_parameter(route) or not OWNED[tag] then return end
      ids[tag] = ids[tag] or check.truthy(OWNED[tag](), tag)
      for _, role in ipairs { "customer", "rider" } do
        if allows(route, role) then
          count = count + 1
          compare(route, name .. " as " .. role, ids[tag], { token = token_of(role) })
        end
      end
    end)
    check.truthy(count >= 8, "compared: " .. count)
  end },

  { "a guest with another token: 404", function()
    each(function(route, name)
      if tag_of(route) ~= "orders" or not has_parameter(route) or not allows(route, "guest") then return end
      compare(route, name, order_of_john(), { headers = { ["X-Tracking-Token"] = ("0"):rep(32) } })
    end)
  end },
}
