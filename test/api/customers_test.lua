-- Customers, as staff see them.

local check  = require "check"
local client = require "client"

local CUSTOMERS <const> = "/api/v1/customers"
local JOHN <const> = "00000000-0000-0000-0000-000000000001"
local MARCO <const> = "00000000-0000-0000-0000-000000000006"

local staff = client.session("staff", client.sql "SELECT id FROM users WHERE role = 'staff' ORDER BY id LIMIT 1")
local admin = client.session("admin", client.sql "SELECT id FROM users WHERE role = 'admin' LIMIT 1")

local function get(query, token)
  return check.status(client.get(CUSTOMERS .. "?" .. query, { token = token or staff }), 200).json().data
end

local function value(sql, ...) return client.sql(sql:format(...)) end

return {
  { "only staff see them", function()
    for _, role in ipairs { "customer", "rider" } do
      local token = client.session(role)
      check.status(client.get(CUSTOMERS, { token = token }), 403, "FORBIDDEN")
      check.status(client.get(CUSTOMERS .. "/" .. JOHN, { token = token }), 403, "FORBIDDEN")
    end
    check.status(client.get(CUSTOMERS), 401, "UNAUTHENTICATED")
    check.status(client.get(CUSTOMERS, { token = admin }), 200)
  end },

  { "all customers, nobody else, with what they spent", function()
    local data = get "limit=100"
    check.equal(data.total, tonumber(value "SELECT count(*) FROM users WHERE role = 'customer'"))
    local john
    for _, one in ipairs(data.customers) do
      check.equal(value("SELECT role FROM users WHERE id = '%s'", one.id), "customer")
      check.equal(one.user_id, one.id, "as in user_order_summary")
      if one.id == JOHN then john = one end
    end
    check.equal(("%d %.2f"):format(john.total_orders, john.total_spent),
      value([[SELECT count(*) || ' ' || COALESCE(sum(total_amount - refunded_amount), 0)::numeric(10,2) FROM orders
        WHERE user_id = '%s' AND status = 'delivered']], JOHN))
    check.equal(john.loyalty_points, tonumber(value("SELECT points FROM loyalty_points WHERE user_id = '%s'", JOHN)))
    check.equal(john.password_hash, nil)
  end },

  { "sorted and paged", function()
    local function column(sort, field)
      local list = {}
      for i, one in ipairs(get("limit=100&" .. sort).customers) do list[i] = one[field] end
      return list
    end
    for _, field in ipairs { "total_spent", "total_orders", "loyalty_points" } do
      local list = column("sortBy=" .. field .. "&sortOrder=asc", field)
      for i = 2, #list do check.truthy(list[i - 1] <= list[i], field) end
    end
    local names = column("sortBy=name&sortOrder=DESC", "name")
    for i = 2, #names do check.truthy(names[i - 1]:lower() >= names[i]:lower(), names[i]) end
    local seen, total = {}, nil
    for page = 1, 100 do
      local data = get("sortBy=total_spent&limit=3&page=" .. page)
      total = data.total
      if #data.customers == 0 then break end
      for _, one in ipairs(data.customers) do seen[one.id] = true end
    end
    local count = 0
    for _ in pairs(seen) do count = count + 1 end
    check.equal(count, total)
  end },

  { "searched by a part of name, address or number; no pattern comes through", function()
    local john = get("search=" .. "JOHN%40exam").customers
    check.equal(#john, 1)
    check.equal(john[1].id, JOHN)
    check.equal(get("search=" .. value("SELECT right(phone, 7) FROM users WHERE id = '%s'", JOHN)).customers[1].id, JOHN)
    check.equal(get("search=marco").total, 0)
    for _, text in ipairs { "%25", "_", "%5C", "'%3B--", "%5C%25" } do check.equal(get("search=" .. text).total, 0, text) end
    check.truthy(get("search=").total > 5)
  end },

  { "bad input names its fields", function()
    local function refused(query, field)
      local answer = check.status(client.get(CUSTOMERS .. "?" .. query, { token = staff }), 400, "VALIDATION_ERROR")
      check.truthy(answer.json().fields[field], answer.body)
    end
    refused("sortBy=password_hash", "sortBy")
    refused("sortBy=name;DROP", "sortBy")
    refused("sortOrder=up", "sortOrder")
    refused("page=0", "page")
    refused("limit=101", "limit")
    refused("page=200000&limit=100", "page")
    refused("search=" .. ("x"):rep(201), "search")
    check.status(client.get(CUSTOMERS .. "/x", { token = staff }), 400, "VALIDATION_ERROR")
  end },

  { "one customer, with his last orders", function()
    local data = check.status(client.get(CUSTOMERS .. "/" .. JOHN, { token = staff }), 200).json().data
    check.equal(data.id, JOHN)
    check.equal(data.reviews_count, tonumber(value("SELECT count(*) FROM reviews WHERE user_id = '%s'", JOHN)))
    check.equal(#data.recent_orders, tonumber(value("SELECT LEAST(count(*), 10) FROM orders WHERE user_id = '%s'", JOHN)))
    check.equal(data.recent_orders[1].id,
                value("SELECT id FROM orders WHERE user_id = '%s' ORDER BY created_at DESC, id LIMIT 1", JOHN))
    check.matches(data.recent_orders[1].created_at, "^%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%d%.%d%d%dZ$")
    check.status(client.get(CUSTOMERS .. "/" .. MARCO, { token = staff }), 404, "NOT_FOUND")
    check.status(client.get(CUSTOMERS .. "/99999999-0000-0000-0000-000000000001", { token = staff }), 404, "NOT_FOUND")
  end },
}
