-- Scripts that misbehave fail alone; what scripts are promised holds.
-- serve: --workers 1
-- scale: 4

local check  = require "check"
local client = require "client"

local function good() check.equal(check.status(client.get "/good/config", 200).json().data, "Test Shop") end

return {
  { "a script that never ends, or wants all memory, gets 503 and others go on", function()
    for _, name in ipairs { "loop", "pcall", "close", "pattern", "move", "memory", "strings",
                       "twice", "parts", "held" } do
      local c = client.connect()
      c:send(client.format("GET", "/bad/" .. name))
      good()
      check.status(c:answer "GET", 503, "UNAVAILABLE")
      c:close()
      good()
    end
    check.matches(io.open(os.getenv "TEST_SERVER_LOG"):read "a", "request killed.-app%.lua:%d+")
  end },

  { "errors: 500 without their text", function()
    for _, name in ipairs { "error", "object", "cyclic", "func", "sort", "global", "deep", "nested", "bomb", "concat", "status" } do
      local answer = check.status(client.get("/bad/" .. name), 500, "INTERNAL")
      check.truthy(not answer.body:find "secret" and not answer.body:find "%.lua", answer.body)
    end
    local log = io.open(os.getenv "TEST_SERVER_LOG"):read "a"
    check.matches(log, "secret text")
    check.matches(log, 'request failed.-route="GET /bad/:name" status=500 at=[%w_/.]*app%.lua:%d+ error="table: ')
    check.matches(log, 'at=[%w_/.]*app%.lua:%d+ error="the answer cannot be JSON')
  end },

  { "what is written wrongly says what to do", function()
    local cases = {
      begin = "use db%.transaction", set = "use db%.as", set_config = "use db%.as", listen = "use db%.listen",
      set_upper = "use db%.as", lock = "use pg_advisory_xact_lock", unlock = "ends with its transaction",
      commit = "commits when its function returns", few = "supplies 1 parameters", two = "multiple commands",
      many = "at most 65535", entry = "entry 1 is a string: each is {sql, parameter", as = "row, rows, exec, json",
      list = "web%.list takes a name", cookie = "malformed value", fail = "400 to 599", log = "keys of the fields",
      config = "not declared in app%.lua", require = "not found", bare_money = 'write money%("5"%)',
    }
    for name, message in pairs(cases) do
      local data = check.status(client.get("/misuse/" .. name), 200).json().data
      check.truthy(not data.ok, name)
      check.matches(data.why, message)
    end
    check.equal(client.get("/savepoint").json().data, "inside")
  end },

  { "one worker served it all", function()
    check.truthy(not io.open(os.getenv "TEST_SERVER_LOG"):read "a":find "worker ended")
  end },

  { "web.fail: status, code, fields and what was added", function()
    local body = check.status(client.get "/bad/fail", 422, "LEAD_TIME").json()
    check.equal(body.earliest_date, "2026-01-01")
    check.equal(body.fields.a, "b")
  end },

  { "values of Lua as JSON", function()
    local body = client.get("/good/values").body
    check.matches(body, '"money":77%.97')
    check.matches(body, '"null":null')
    check.matches(body, '"empty":%[%]')
    check.matches(body, '"object":{}')
    check.matches(body, '"big":9007199254740993')
    check.matches(body, '"parsed":1768465800')
  end },

  { "crypto", function()
    local d = client.get("/good/crypto").json().data
    check.equal(d[1], "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
    check.equal(d[2], client.shell "printf text | openssl dgst -sha256 -hmac key | sed 's/.*= //'")
    check.same({ d[3], d[4], d[5], d[6], d[7], d[8], d[9] }, { 10, 64, true, false, true, false, false })
  end },

  { "all, spawn, every", function()
    check.same(client.get("/good/all").json().data, { 1, 2 })
    client.get "/good/spawned"
    client.eventually(20, "a spawned task", function() return client.get("/good/spawned").json().data > 0 end)
    client.eventually(20, "ticks", function() return client.get("/good/ticks").json().data >= 3 end)
  end },

  { "groups: who, before and after", function()
    local token = client.session "admin"
    check.status(client.get "/group/x", 401)
    check.status(client.get("/group/x", { token = client.session "customer" }), 403)
    check.equal(client.get("/group/x", { token = token }).json().data.wrapped, "admin")
    check.equal(client.get("/group/x?stop=1", { token = token }).json().data.wrapped, "stopped")
  end },
}
