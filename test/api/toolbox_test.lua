-- Everything that docs/lua.md offers, used rightly and wrongly; and it is all documented.
-- serve: --workers 1

local check  = require "check"
local client = require "client"
local socket = require "socket"

local home = os.getenv "OMADE_HOME"

local function use(name) return check.status(client.get("/use/" .. name), 200).json().data end

local function read(path)
  local file = assert(io.open(path))
  local text = file:read "a"
  file:close()
  return text
end

local function free_port()
  local server = assert(socket.bind("127.0.0.1", 0))
  local _, port = server:getsockname()
  server:close()
  return port
end

--- An HTTPS server whose certificate nobody has signed; ends with fn.
local function with_stranger(fn)
  local port, key = free_port(), os.getenv "TEST_WORK" .. "/stranger.pem"
  client.shell(("openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -keyout %s -out %s.crt")
                 :format(key, key))
  local pid = client.shell(("openssl s_server -quiet -www -accept %d -key %s -cert %s.crt >/dev/null 2>&1 & echo $!")
                             :format(port, key, key))
  client.eventually(20, "the stranger", function()
    local s = socket.connect("127.0.0.1", port)
    return s and s:close()
  end)
  local ok, fault = pcall(fn, port)
  client.shell("kill " .. pid)
  if not ok then error(fault, 0) end
end

local function outgoing(body) return check.status(client.post("/http", { body = body }), 200).json().data end

--- How often a name stands in the text.
local function count(text, name)
  local _, n = text:gsub("%f[%w_]" .. name:gsub("%.", "%%.") .. "%f[^%w_]", "")
  return n
end

--- As a ---@field of its class, or by lines above its definition that have all that goes
-- in, and what comes out.
local function is_annotated(text, module, name)
  if text:find("%-%-%-@field " .. name .. " ") then return true end
  local place = text:find("\nfunction " .. module .. "." .. name .. "(", 1, true)
    or text:find("\n" .. module .. "." .. name .. " = ", 1, true)
  if not place then return false end
  local comment = ""
  for line in text:sub(1, place):gmatch "[^\n]*\n" do comment = line:find "^%-%-" and comment .. line or "" end
  local parameters, body = text:match("^%s*function [%w_.]+%(([^)]*)%)(.-)\nend", place)
  for parameter in (parameters or ""):gmatch "[%w_.]+" do
    if not comment:find("@param " .. parameter:gsub("%.", "%%.") .. "[ ?]") then return false end
  end
  if (body or ""):gsub("return end", ""):find "return +[^%s]" and not comment:find "@return" then return false end
  return comment ~= ""
end

--- Answers of /wrong/:name that tell what to do.
local SAYS <const> = {
  db_nil = "string expected", db_function = "a function cannot be a parameter", db_sql = "42601: syntax error",
  db_many = "supplies 1 parameters", transaction = "function expected", nested = "in a transaction already",
  batch = "table expected", as = "table expected", db_listen = "string expected", redis_key = "wrong number of arguments",
  redis_value = "string, number or bytes expected", redis_command = "unknown command 'NOPE'",
  pipeline = "entry 1 is a string: each is {command, argument", eval = "table expected",
  blocking = "not for a shared connection", cache_load = "a function that loads", cache_text = "no JSON; use json%.encode",
  money_float = 'write money%("25%.99"%)', money_text = "more than two decimals", money_plus = 'write money%("5"%)',
  money_concat = "concatenate a money value", money_times = "for a proportion use :percent",
  decimal_float = 'write decimal%("12%.345"%)', decimal_plus = "write d:money%(%)", json_function = "a function cannot be JSON",
  json_mixed = "neither a list", log_nil = "string expected", crypto_nil = "string expected", http_url = "url is missing",
  http_option = "no option 'tineout'", sleep_text = "number expected", sleep_minus = "0 to 86,400 seconds",
  all_nothing = "1 to 64 functions", all_call = "function expected", spawn_call = "function expected",
  every_late = "at the top of a file", shared_table = "string, integer, boolean or nil expected",
  shared_text = "not an integer", setting = "not declared in app%.lua", redirect = "takes the URL",
  stream = "web%.stream takes req", cookie_value = "malformed value", list = "web%.list takes a name",
  routes = "takes a prefix and a list of routes", coroutine = "use all%(%) or spawn%(%)", gsub = "inside gsub; collect first",
  global = "'counter' is not declared: write 'local counter'", module = "shared by all requests and read%-only",
}

return {
  { "PostgreSQL", function()
    local d = use "db"
    check.matches(client.get("/use/db").body,
      '"row":{"n":7,"price":25.99,"doc":{"tags":%["a"%]},"missing":null,"yes":true}')
    check.same({ d.none, d.rows, d.json[1].y, d.json_row.y, d.no_json_row, d.as, d.runs },
               { true, 3, "x", "x", true, "customer", 1 })
    check.same({ d.batch, d.all[1][1].c, d.all[2] }, { { 1, 2 }, 3, 4 })
    check.same(use "listen", { false, "fresh bread", true })
  end },

  { "Redis and caches", function()
    local d = use "redis"
    check.same({ d.get, d.none, d.bytes, d.del, d.call, d.eval }, { "1", true, 1, 1, 5, { "k", "v" } })
    check.same(d.pipeline, { "OK", "x", false })
    check.same(use "subscribe", { false, "warm" })
    check.same(use "cache", { first = { price = 1.5 }, again = { price = 1.5 }, loads = 2, none = true })
  end },

  { "money and decimals", function()
    local body = client.get("/use/money").body
    for _, member in ipairs { '"times":77.97', '"minus":20.99', '"percent":1.88', '"share":[3.33,3.33,3.34]',
                              '"split":[3.33,6.67]', '"cents":2599', '"text":"25.99"', '"plain":25.00',
                              '"decimal":12.345', '"tomoney":3.50', '"format":"25.99"' } do
      check.truthy(body:find(member, 1, true), member .. " in " .. body)
    end
    check.truthy(not body:find "false", body)
  end },

  { "texts, times, hashes, settings", function()
    local d = use "text"
    check.same({ d.random, d.token, d.equal, d.bcrypt, d.uuid, d.nouuid, d.shop, d.lead },
               { 10, 16, true, true, true, false, "Toolbox", 2 })
    check.matches(d.sha256, "^ba7816bf")
    check.same({ d.iso, d.date, d.parse, d.noparse }, { "1970-01-01T00:00:00.000Z", "1970-01-01", 1768435200, true })
    check.matches(d.bad, "line 1")
    check.equal(d.text, "a\u{FFFD}")
  end },

  { "beside the request", function()
    check.same(use "beside", { "slow", "quick", 3 })
    client.eventually(20, "spawn and every", function()
      local d = use "counters"
      return d.spawned == 1 and d.worker > 1 and d.cluster > 1
    end)
  end },

  { "the log", function()
    use "log"
    local log
    client.eventually(20, "the lines", function()
      log = read(os.getenv "TEST_SERVER_LOG")
      return log:find "printed"
    end)
    check.matches(log, "a cake request=%w+ ")
    check.matches(log, "price=3%.50")
    check.matches(log, "Sacher\\nforged=1")
    check.truthy(not log:find "\nforged", "one line")
  end },

  { "answers", function()
    local function get(name) return client.get("/answer/" .. name) end
    check.equal(check.status(get "json", 202).body, '{"bare":true}')
    check.equal(get "data".headers["x-cake"], "1")
    check.equal(check.status(get "created", 201).json().message, "made")
    check.status(get "no_content", 204)
    check.same(get "list".json().data, { cakes = { { n = 1 } }, total = 41, page = 2, limit = 20, totalPages = 3 })
    check.equal(get "raw".headers["content-type"], "text/html")
    check.equal(check.status(get "redirect", 303).headers.location, "/answer/raw")
    check.matches(get "cookie".headers["set-cookie"], "^cake=1; Path=/; HttpOnly; SameSite=Lax; Max%-Age=60; Secure$")
    check.equal(check.status(get "fail", 409, "OUT_OF_STOCK").json().left, 0)
    check.matches(get "file".body, "^%-%-%- For toolbox_test")
    check.same(get "is_answer".json().data, { true, false })
    check.matches(get "nothing".body, '"data":null')
    check.status(client.get "/static/app.lua", 200)
    check.status(client.get "/group", 401)
    check.equal(client.get("/group", { token = client.session "admin" }).json().data, "admin")
  end },

  { "streams", function()
    local answer = client.get("/stream", { headers = { ["Last-Event-ID"] = "7" } })
    check.equal(answer.body, "id: 1\nevent: bread\ndata: one\ndata: two\n\ndata: 7\n\n: end\n\n")
    check.equal(answer.headers["x-stream"], "yes")
  end },

  { "requests and shapes", function()
    local d = client.post("/request/42?q=x", { body = { a = 1 }, headers = { Cookie = "a=b", ["X-Agent"] = "me" } })
                .json().data
    check.same({ d.params.id, d.query.q, d.cookie, d.agent, d.body.a, d.raw, d.method, d.path, d.cancelled },
               { 42, "x", "b", "me", 1, 7, "POST", "/request/42", false })
    check.status(client.post("/request/x", { body = {} }), 400, "VALIDATION_ERROR")
    local good = {
      text = "Abc", integer = 1, number = 1.5, money = 2.5, uuid = "00000000-0000-0000-0000-000000000003",
      email = "a@example.com", url = "https://example.com/x", date = "2026-01-15", time = "2026-01-15T10:00:00Z",
      one_of = "pickup", list = { 1, 2 }, shape = { city = "Rome" },
    }
    local kept = check.status(client.post("/shape", { body = good }), 200).json().data
    check.same({ kept.text, kept.boolean, kept.money }, { "abc", true, 2.5 })
    local faults = check.status(client.post("/shape", { json = [[{"text": "a1", "integer": 0, "number": 10, "money": 1.234,
      "boolean": "yes", "uuid": "x", "email": "x", "url": "ftp://x", "date": "2026-02-30", "time": "x", "one_of": "x",
      "list": [1, 2, 3, 4], "shape": {}}]] }), 400, "VALIDATION_ERROR").json().fields
    for _, name in ipairs { "text", "integer", "number", "money", "boolean", "uuid", "email", "url", "date", "time",
                            "one_of", "list", "shape.city" } do
      check.truthy(faults[name], "a fault of " .. name)
    end
    check.status(client.post("/partial", { body = { number = 2 } }), 200)
  end },

  { "a plain table of rules is a shape everywhere", function()
    check.same(check.status(client.post("/plain", { body = { name = "a", n = 1 } }), 200).json().data, { name = "a", n = 1 })
    check.truthy(check.status(client.post("/plain", { body = { name = "a" } }), 400).json().fields.n)
    check.same(check.status(client.patch("/plain", { body = { n = 1 } }), 200).json().data, { n = 1 })
    check.truthy(check.status(client.patch("/plain", { body = { n = "x" } }), 400).json().fields.n)
  end },

  { "requests to other servers: certificates are verified, deadlines hold", function()
    local here = "http://127.0.0.1:" .. client.port
    check.same(outgoing { url = here .. "/answer/raw" }, { status = 200, body = "<b>", type = "text/html" })
    check.equal(outgoing { url = here .. "/nowhere" }.status, 404)
    check.equal(outgoing { url = "http://127.0.0.1:" .. free_port() .. "/" }.failed, 503)
    local silent = assert(socket.bind("127.0.0.1", 0))
    local _, port = silent:getsockname()
    check.equal(outgoing { url = "http://127.0.0.1:" .. port .. "/", timeout = 0.05 }.failed, 504)
    silent:close()
    with_stranger(function(https)
      local answer = outgoing { url = ("https://localhost:%d/"):format(https) }
      check.equal(answer.failed, 503)
      check.matches(answer.detail or answer.message, "certificate")
    end)
  end },

  { "what is used wrongly says what to do", function()
    for _, name in ipairs(client.get("/wrong").json().data) do
      local d = check.status(client.get("/wrong/" .. name), 200).json().data
      check.truthy(not d.ok, name .. " raises")
      check.matches(d.why, SAYS[name] or error("what does " .. name .. " say?"))
    end
  end },

  { "every function is annotated, and used somewhere", function()
    local users = client.shell(("cd '%s' && cat lua/*/*.lua lua/*/*/*.lua test/api/apps/*/*.lua"):format(home))
    local faults = {}
    for module, names in pairs(client.get("/exports").json().data) do
      local text = read(home .. "/lua/omade/" .. module .. ".lua")
      local short = module == "validate" and "v" or module
      check.truthy(#names > 0, module)
      for _, name in ipairs(names) do
        local full = module .. "." .. name
        if not is_annotated(text, short, name) then faults[#faults + 1] = full .. " is not annotated" end
        local definition = users:find("function " .. short .. "." .. name .. "(", 1, true) and 1 or 0
        if count(users, short .. "." .. name) + (short ~= module and count(users, full) or 0) <= definition then
          faults[#faults + 1] = full .. " is used nowhere"
        end
      end
    end
    check.same(faults, {})
  end },

  { "apps, routes and shapes with misspelt fields do not load", function()
    local cases = {
      ["there is no field 'qurey'"] = 'qurey = {}, who = "anyone"',
      ["there is no option 'mx'"] = 'who = "anyone", query = { a = require("omade.validate").text { mx = 3 } }',
      ["'a' is no rule"] = 'who = "anyone", query = { a = "text" }',
      ["say who may call it"] = "summary = ''",
      ['GET /x/: who = "boss" is not known'] = 'who = "boss"',
    }
    local apps = {
      ["app.lua: there is no field 'route'"] = "{ routes = {}, route = {} }",
      ["app.lua must return {routes = {...}}"] = "{ settings = {} }",
      ["setting A: write { default = ... }"] = "{ routes = {}, settings = { A = 3 } }",
      ["GET /x: there is no limit 'zz'"] = '{ limits = { general = { max = 1, seconds = 1 } }, routes = require("omade.web").routes("", '
        .. '{ { "GET", "/x", print, who = "any", limit = "zz" } }) }',
      ["routes: an entry is not what web.routes(...) returns"] = "{ routes = 3 }",
    }
    local folder = os.getenv "TEST_WORK" .. "/misspelt"
    client.shell("mkdir -p " .. folder)
    for message, fields in pairs(cases) do
      apps[message] = ('{ routes = require("omade.web").routes("/x", { { "GET", "/", print, %s } }) }'):format(fields)
    end
    for message, app in pairs(apps) do
      local file = assert(io.open(folder .. "/app.lua", "w"))
      file:write("return " .. app)
      file:close()
      local told = client.shell(os.getenv "TEST_BINARY" .. " routes " .. folder)
      check.truthy(told:find(message, 1, true), message .. " in " .. told)
    end
  end },
}
