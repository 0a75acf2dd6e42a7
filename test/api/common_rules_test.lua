-- The contract's common rules, on every route: those of openapi.json.
-- serve: --workers 1

local check    = require "check"
local client   = require "client"
local contract = require "contract"
local example  = require "example"

local tokens = {}

--- The token of a role that may, or may not, call the route.
local function token_of(route, may)
  if #route.operation.security == 0 then return nil end
  local allowed = {}
  for _, role in ipairs(route.operation["x-roles"]) do allowed[role] = true end
  for _, role in ipairs { "admin", "staff", "rider", "customer" } do
    if (allowed[role] or false) == may then
      tokens[role] = tokens[role] or client.session(role, client.sql("SELECT id FROM users WHERE role = '" .. role
                                                                     .. "' ORDER BY id LIMIT 1"))
      return tokens[role]
    end
  end
end

local function each(fn)
  for _, route in ipairs(contract.routes()) do fn(route, route.method .. " " .. route.path) end
end

local function is_stream(route)
  return route.operation.responses["200"] and (route.operation.responses["200"].content or {})["text/event-stream"]
end

local function get(route, options, method)
  options.token = token_of(route, true)
  return client.request(method or route.method, example.path(route) .. example.query(route.operation), options)
end

local function methods_of(path)
  local list = {}
  for method in pairs(contract.document.paths[path]) do list[method:upper()] = true end
  if list.GET then list.HEAD = true end
  list.OPTIONS = true
  return list
end

return {
  { "every answer has its safety headers, and what is private is kept by nobody", function()
    each(function(route, name)
      local answer = get(route, { json = route.operation.requestBody and "{}" or nil })
      local h = answer.headers
      check.truthy(h["x-request-id"], name .. ": X-Request-Id")
      check.equal(h["x-content-type-options"], "nosniff", name)
      check.truthy(h["x-frame-options"] and h["referrer-policy"], name .. ": X-Frame-Options, Referrer-Policy")
      if #route.operation.security > 0 or route.method ~= "GET" then
        check.matches(h["cache-control"], "no%-store", name)
      end
      tokens = answer.status < 300 and route.method ~= "GET" and {} or tokens
    end)
  end },

  { "HEAD wherever GET, without a body", function()
    each(function(route, name)
      if route.method ~= "GET" or is_stream(route) then return end
      local got, head = get(route, {}), get(route, {}, "HEAD")
      check.equal(head.status, got.status, name)
      check.equal(head.headers["content-type"], got.headers["content-type"], name)
      check.equal(head.body, "", name)
    end)
  end },

  { "OPTIONS and 405 say what there is", function()
    for path in pairs(contract.document.paths) do
      local route = { path = path }
      local known = methods_of(path)
      local options = check.status(client.options(example.path(route)), 204)
      for method in pairs(known) do check.matches(options.headers.allow, method, path) end
      for _, method in ipairs { "GET", "POST", "PUT", "PATCH", "DELETE" } do
        if not known[method] and not contract.find(method, example.path(route)) then
          local answer = check.status(client.request(method, example.path(route)), 405, "METHOD_NOT_ALLOWED")
          check.truthy(answer.headers.allow, method .. " " .. path)
        end
      end
    end
  end },

  { "sign-in and role come before the syntax of what was sent", function()
    each(function(route, name)
      if #route.operation.security == 0 then return end
      local path = example.path(route, { id = "banana", productId = "banana" })
      local options = { json = route.method ~= "GET" and "{" or nil }
      local open = route.operation["x-roles"][1] == "guest"
      if not open then check.equal(client.request(route.method, path, options).status, 401, name) end
      options.token = token_of(route, false)
      if options.token then check.equal(client.request(route.method, path, options).status, 403, name) end
    end)
  end },

  { "a path written otherwise changes nothing about who may", function()
    local function forms(path)
      local head, last = path:match "^(.*)/([^/]*)$"
      return { "/" .. path, path .. "/", head .. "//" .. last, head .. "/./" .. last, head .. "/x/../" .. last,
               head .. "/%2e/" .. last, head .. "/x/%2E%2e/" .. last, head .. "%2f" .. last, head .. ";a=b/" .. last,
               (path:gsub("%a", function(letter) return ("%%%02x"):format(letter:byte()) end)), path:upper() }
    end
    local tried = 0
    each(function(route, name)
      if #route.operation.security == 0 then return end
      local others = token_of(route, false)
      for _, form in ipairs(forms(example.path(route))) do
        for _, token in ipairs { others or "none", "none" } do
          tried = tried + 1
          local answer = client.request(route.method, form, { token = token ~= "none" and token or nil, undescribed = true,
            json = route.operation.requestBody and "{}" or nil })
          check.truthy(answer.status >= 400 and answer.status < 500, ("%s as %s: %d"):format(name, form, answer.status))
        end
      end
    end)
    check.truthy(tried > 1000, "forms: " .. tried)
  end },

  { "a body may be of any JSON type, and of no other", function()
    local route = contract.find("POST", "/api/v1/newsletter/subscribe")
    local function send(type, n)
      return client.post(route.path, { body = '{"email": "json' .. n .. '@example.com"}', headers = { ["Content-Type"] = type } })
    end
    for n, type in ipairs { "application/json", "application/json; charset=utf-8", "application/merge-patch+json",
                            "Application/JSON;charset=UTF-8" } do
      check.status(send(type, n), 201)
    end
    for _, type in ipairs { "text/json", "application/xml", "application/json; charset=utf-16", "json", "" } do
      check.status(send(type, 0), 415, "UNSUPPORTED_MEDIA_TYPE")
    end
  end },

  { "what does not change is 304, where caches may keep it", function()
    local count = 0
    each(function(route, name)
      if not route.operation.responses["304"] then return end
      local values = { id = client.sql "SELECT id FROM products WHERE archived_at IS NULL ORDER BY id LIMIT 1",
                       name = "swagger-ui.css" }
      local path = example.path(route, values)
      local first = client.get(path)
      if first.status == 404 then return end
      count = count + 1
      local tag = check.truthy(first.headers.etag, name .. ": ETag")
      check.status(client.get(path, { headers = { ["If-None-Match"] = tag } }), 304)
    end)
    check.truthy(count >= 6, "catalogue reads: " .. count)
  end },

  { "lists: total, page, limit, totalPages; a page that is too deep is refused", function()
    local lists = 0
    each(function(route, name)
      local paged = false
      for _, one in ipairs(route.operation.parameters or {}) do paged = paged or one.name == "page" end
      if not paged then return end
      lists = lists + 1
      local values = { id = client.sql "SELECT id FROM products WHERE archived_at IS NULL ORDER BY id LIMIT 1" }
      local function ask(page, limit)
        local query = example.query(route.operation, { page = page, limit = limit })
        return client.get(example.path(route, values) .. query, { token = token_of(route, true) })
      end
      local data = check.status(ask(2, 1), 200).json().data
      check.equal(data.page, 2, name)
      check.equal(data.limit, 1, name)
      check.equal(data.totalPages, data.total, name)
      check.truthy(check.status(ask(2001, 100), 400, "VALIDATION_ERROR").json().fields.page, name)
      check.status(ask(2000, 100), 200)
    end)
    check.truthy(lists >= 10, "lists: " .. lists)
  end },

  { "unknown fields are ignored", function()
    local route = contract.find("POST", "/api/v1/products")
    local body = example.media(route.operation).example
    body.id, body.price_paid, body.__proto__ = "x", 1, { role = "admin" }
    local made = check.status(client.post(route.path, { body = body, token = token_of(route, true) }), 201).json().data
    check.truthy(made.id ~= "x" and made.price_paid == nil, "ignored")
  end },
}
