-- Who may call, in which order it is checked, and as whom PostgreSQL is asked.
-- serve: --workers 1

local check  = require "check"
local client = require "client"

local customer, session = client.session "customer"
local staff = client.session "staff"
local ORDER <const> = "20000000-0000-0000-0000-000000000009"

--- Where the scripts act as the shop itself: "file: count of calls".  A new caller is
-- added here by somebody who has thought about it.
local SYSTEM <const> = {
  ["lua/bakery/routes/auth.lua"] = 4,
  ["lua/bakery/services/accounts.lua"] = 2,
  ["lua/bakery/services/delivery.lua"] = 1,
  ["lua/bakery/services/outbox_worker.lua"] = 2,
  ["lua/bakery/services/payment.lua"] = 1,
  ["lua/bakery/services/social.lua"] = 1,
  ["lua/bakery/tasks.lua"] = 4,
}

local function whom(path, options)
  return check.status(client.get(path, options), 200).json().data
end

local function with_cookie(method, path, token, headers)
  headers = headers or {}
  headers.Cookie = "omade_session=" .. token
  return client.request(method, path, { headers = headers, json = "{}" })
end

return {
  { "statements carry the session's user and role", function()
    local row = whom("/any", { token = customer })
    check.equal(row.role, "customer")
    check.equal(row.user_id, "00000000-0000-0000-0000-000000000003")
    check.equal(whom("/any", { token = staff }).role, "staff")
  end },

  { "routes for anyone look at no session, until they ask", function()
    check.matches(client.get("/anyone", { token = customer }).body, '"role":"?n?u?l?l?"?[,}]')
    local seen = whom("/lazily", { token = customer })
    check.equal(seen.before, "")
    check.equal(seen.after, "customer")
    check.equal(seen.email, "customer@example.com")
    check.equal(whom("/lazily", { token = "over" }).after, "")
  end },

  { "a guest without the header that says who he is: 401 before all else", function()
    local with_key = { ["X-Key"] = "k" }
    for _, path in ipairs { "/known/x", "/known/" .. ORDER } do
      check.matches(check.status(client.post(path, { json = "{" }), 401, "UNAUTHENTICATED").json().message, "X%-Key")
      check.status(client.post(path, { json = "{", headers = with_key }), 400)
      check.status(client.post(path, { json = "{", token = customer }), 400)
    end
    check.status(client.post("/known/" .. ORDER, { json = '{"n":1}', headers = with_key }), 200)
    check.status(client.post("/known/" .. ORDER, { json = '{"n":1}', token = customer }), 200)
  end },

  { "optional sign-in: nobody is a guest, a session counts, one that is over is refused", function()
    check.equal(whom("/optional").role, "guest")
    check.equal(whom("/optional", { token = customer }).role, "customer")
    check.status(client.get("/optional", { token = "over" }), 401, "UNAUTHENTICATED")
    check.status(client.get("/optional", { headers = { Authorization = "Basic YTpi" } }), 401)
    check.status(client.get("/optional", { headers = { Cookie = "omade_session=over" } }), 401)
    check.equal(check.status(client.get("/optional", { headers = { Cookie = "omade_session=" .. customer } }), 200)
                .json().data.role, "customer")
  end },

  { "one request's identity is gone with the next", function()
    local c = client.connect()
    for _ = 1, 20 do
      check.equal(whom("/any", { token = customer, on = c }).role, "customer")
      check.truthy(whom("/anyone", { on = c }).role ~= "customer", "nobody")
    end
    c:close()
  end },

  { "the order: sign-in, role, syntax", function()
    check.status(client.post("/staff/x", { json = "{" }), 401, "UNAUTHENTICATED")
    check.status(client.post("/staff/x", { json = "{", token = customer }), 403, "FORBIDDEN")
    check.status(client.post("/staff/x", { json = "{", token = staff }), 400)
    local body = check.status(client.post("/staff/x", { body = { n = 0 }, token = staff }), 400,
                              "VALIDATION_ERROR").json()
    check.truthy(body.fields.id and body.fields.n, "all faults at once")
    check.status(client.put("/staff/" .. ORDER, { token = staff }), 405, "METHOD_NOT_ALLOWED")
  end },

  { "with the cookie a change comes from our own pages, as JSON", function()
    local own = "http://127.0.0.1:" .. client.port
    check.status(with_cookie("POST", "/optional", customer), 403, "FORBIDDEN")
    check.status(with_cookie("POST", "/optional", customer, { Origin = "https://evil.example" }), 403)
    check.status(with_cookie("POST", "/optional", customer, { Origin = own }), 200)
    check.status(with_cookie("POST", "/optional", customer,
                             { Origin = own, ["Content-Type"] = "application/x-www-form-urlencoded" }), 415)
    check.status(with_cookie("GET", "/optional", customer, { Origin = "https://evil.example" }), 200)
  end },

  { "the shop itself and a guest, and back", function()
    local data = check.status(client.get("/others", { token = customer }), 200).json().data
    check.equal(data.system, "system")
    check.equal(data.guest.role, "guest")
    check.equal(data.guest.order_id, ORDER)
    check.equal(data.placing.role, "guest")
    check.equal(data.after.role, "customer")
    check.equal(data.after.user_id, data.user)
  end },

  { "a header of the request is on every answer to it", function()
    for how, status in pairs { ok = 200, fail = 409, raise = 500 } do
      local answer = check.status(client.get("/headers?how=" .. how), status)
      check.equal(answer.headers["x-one"], "1")
      check.equal(answer.headers["x-two"], "2")
    end
    local split = check.status(client.get("/headers?how=split"), 500)
    check.equal(split.headers["x-evil"], nil)
  end },

  { "a session that ends is over at once", function()
    client.redis("DEL", "session:" .. session)
    check.status(client.get("/any", { token = customer }), 401)
  end },

  { "who acts as the shop itself is listed here", function()
    local home = os.getenv "OMADE_HOME"
    local found = client.shell("cd '" .. home .. "' && grep -rEc 'as_system\\(|role = \"system\"' lua "
                               .. "--include='*.lua' | grep -v ':0$' | grep -v '^lua/omade/auth.lua:' | sort")
    local listed = {}
    for file, count in pairs(SYSTEM) do listed[#listed + 1] = file .. ":" .. count end
    table.sort(listed)
    check.equal(found, table.concat(listed, "\n"), "callers of auth.as_system")
  end },
}
