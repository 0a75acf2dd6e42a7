-- Two customers, a guest and nobody, their requests interleaved on few connections to
-- PostgreSQL: nobody ever sees what is another's.  And what ends a session ends it for the
-- very next request, in every worker.
-- serve: --workers 2
-- env: DB_CONNECTIONS=1
-- env: DB_TRANSACTION_CONNECTIONS=1
-- env: BCRYPT_COST=4

local check  = require "check"
local client = require "client"
local storm  = require "storm"

local buns  = storm.products(2, 1000000)
local gone  = storm.products(1, 0)[1]
local pair  = storm.people(2)
local admin = storm.people(1, "admin")[1]

---- Who asks ---------------------------------------------------------------------------------------

--- Each with orders of his own; `secrets` are what nobody else may be told.
local function with_orders(person, body)
  person.orders, person.secrets = {}, { person.id }
  for i = 1, 3 do
    local request = { items = { storm.one(buns[1]) }, notes = "secret of " .. person.name }
    for name, value in pairs(body or {}) do request[name] = value end
    local made = storm.placed(storm.order(person.token and person, request))
    person.orders[i] = made.id
    person.tracking = made.tracking_token
    table.move({ made.id, made.tracking_token, '"' .. made.order_number .. '"' }, 1, 3, #person.secrets + 1, person.secrets)
  end
  person.secrets[#person.secrets + 1] = "secret of " .. person.name
  return person
end

pair[1].name, pair[2].name = "A", "B"
local a, b  = with_orders(pair[1]), with_orders(pair[2])
local guest = with_orders({ name = "G", id = "greta@example.com" }, { guest_name = "Greta", guest_email = "greta@example.com" })
storm.give_points(a, 111111)
storm.give_points(b, 222222)
a.secrets[#a.secrets + 1], b.secrets[#b.secrets + 1] = "111111", "222222"

---- What is asked ----------------------------------------------------------------------------------

--- Bytes of a request, the status that must come, and a text that must be in the answer.
local function ask(me, method, path, status, text, options)
  options = options or {}
  options.token = me.token
  return { bytes = client.format(method, path, options), method = method, status = status, text = text, me = me }
end

local function track(me) return { headers = { ["X-Tracking-Token"] = me.tracking } } end

local kinds = {}
for i, me in ipairs { a, b } do
  local other = i == 1 and b or a
  local function add(...) kinds[#kinds + 1] = ask(me, ...) end
  add("GET", "/api/v1/orders?limit=2", 200, me.id)
  add("GET", "/api/v1/orders/" .. me.orders[1], 200, "secret of " .. me.name)
  add("GET", "/api/v1/orders/" .. other.orders[1], 404, "NOT_FOUND")
  add("GET", "/api/v1/orders/" .. guest.orders[1], 404, "NOT_FOUND")
  add("POST", "/api/v1/orders/" .. other.orders[2] .. "/cancel", 404, "NOT_FOUND")
  add("GET", "/api/v1/loyalty", 200, i == 1 and "111111" or "222222")
  add("GET", "/api/v1/auth/me", 200, me.id)
  add("GET", "/api/v1/orders/all", 403, "FORBIDDEN")
  add("POST", "/api/v1/orders", 409, "OUT_OF_STOCK", { body = { items = { storm.one(gone) } } })
  add("POST", "/api/v1/orders", 422, "PROMO_INVALID", { body = { items = { storm.one(buns[2]) }, promo_code = "NOSUCH" } })
end
kinds[#kinds + 1] = ask(guest, "GET", "/api/v1/orders/" .. guest.orders[3], 200, "secret of G", track(guest))
kinds[#kinds + 1] = ask(guest, "GET", "/api/v1/orders/" .. a.orders[3], 404, "NOT_FOUND", track(guest))
kinds[#kinds + 1] = ask({ secrets = {} }, "GET", "/api/v1/orders/" .. b.orders[3], 401, "UNAUTHENTICATED")
kinds[#kinds + 1] = ask({ secrets = {} }, "GET", "/api/v1/products?limit=3", 200, "products")
kinds[#kinds + 1] = ask(a, "POST", "/api/v1/orders", 201, a.id, { body = { items = { storm.one(buns[2]) } } })

local function check_answer(kind, answer)
  if answer.status ~= kind.status or not answer.body:find(kind.text, 1, true) then
    error(("%s: %d with %s expected, not %s"):format(kind.bytes, kind.status, kind.text, answer.head .. answer.body), 0)
  end
  for _, person in ipairs { a, b, guest } do
    for _, secret in ipairs(person ~= kind.me and person.secrets or {}) do
      if answer.body:find(secret, 1, true) then error(kind.bytes .. " is told " .. secret .. ": " .. answer.body, 0) end
    end
  end
end

---- Sessions ----------------------------------------------------------------------------------------

local crowd = {}

--- Connections to both workers, new for each test: idle ones are closed after a minute.
local function gather()
  for i = 1, 24 do
    if crowd[i] then crowd[i]:close() end
    crowd[i] = client.connect()
  end
end

--- The same request on all connections has this status.
local function everywhere(token, path, status)
  for _, connection in ipairs(crowd) do check.status(client.get(path, { token = token, on = connection }), status) end
end

local PASSWORD <const> = "Crumble-Tart-7!"

local function sign_in(email, password)
  local answer = client.post("/api/v1/auth/login", { body = { email = email, password = password or PASSWORD } })
  return check.status(answer, 200).json().data.access_token
end

local function new_account(email)
  gather()
  local body = { name = "Sessions", email = email, password = PASSWORD }
  return check.status(client.post("/api/v1/auth/register", { body = body }), 201).json().data
end

return storm.tests {
  -- A hundred thousand: TEST_INTERLEAVED=100000 ./omade test --fast -R api/storm_privacy
  { "requests of several people, interleaved on few connections", function()
    math.randomseed(7)
    local connections, asked, left = {}, {}, tonumber(os.getenv "TEST_INTERLEAVED" or 10000)
    for i = 1, 16 do connections[i], asked[i] = client.connect(), {} end
    while left > 0 do
      for i, connection in ipairs(connections) do
        local bytes = {}
        for k = 1, 8 do
          asked[i][k] = kinds[math.random(#kinds)]
          bytes[k] = asked[i][k].bytes
        end
        connection:send(table.concat(bytes))
      end
      for i, connection in ipairs(connections) do
        for k = 1, 8 do check_answer(asked[i][k], assert(connection:answer(asked[i][k].method))) end
      end
      left = left - 128
    end
    for _, connection in ipairs(connections) do connection:close() end
  end },

  { "signing out counts at once, everywhere", function()
    local one = new_account "sessions1@example.com"
    everywhere(one.access_token, "/api/v1/auth/me", 200)
    check.status(client.post("/api/v1/auth/logout", { token = one.access_token }), 200)
    everywhere(one.access_token, "/api/v1/auth/me", 401)

    local first, second = sign_in "sessions1@example.com", sign_in "sessions1@example.com"
    everywhere(first, "/api/v1/auth/me", 200)
    check.status(client.post("/api/v1/auth/logout-all", { token = second }), 200)
    everywhere(first, "/api/v1/auth/me", 401)
    everywhere(second, "/api/v1/auth/me", 401)
  end },

  { "another password ends the other sessions", function()
    new_account "sessions2@example.com"
    local first, second = sign_in "sessions2@example.com", sign_in "sessions2@example.com"
    everywhere(first, "/api/v1/auth/me", 200)
    check.status(client.put("/api/v1/auth/change-password", { token = second, body = { current_password = PASSWORD,
      new_password = "Other-Crumbs-8?", confirm_password = "Other-Crumbs-8?" } }), 200)
    everywhere(first, "/api/v1/auth/me", 401)
    everywhere(second, "/api/v1/auth/me", 200)
  end },

  { "another role counts at once, and so does the end of an account", function()
    local account = new_account "sessions3@example.com"
    local path = "/api/v1/users/" .. account.user.id
    everywhere(account.access_token, "/api/v1/orders/all", 403)
    check.status(client.patch(path, { token = admin.token, body = { role = "staff" } }), 200)
    everywhere(account.access_token, "/api/v1/orders/all", 401)
    local staff = sign_in "sessions3@example.com"
    everywhere(staff, "/api/v1/orders/all", 200)
    check.status(client.patch(path, { token = admin.token, body = { role = "customer" } }), 200)
    everywhere(staff, "/api/v1/orders/all", 401)
    local last = sign_in "sessions3@example.com"
    everywhere(last, "/api/v1/orders/all", 403)
    check.status(client.delete(path, { token = admin.token }), 200)
    everywhere(last, "/api/v1/auth/me", 401)
    check.status(client.post("/api/v1/auth/login", { body = { email = "sessions3@example.com", password = PASSWORD } }), 401)
  end },
}
