-- The check against openapi.json can fail: answers that deviate are found by whatever way
-- they are read.  Here it is the document that is changed, which comes to the same.
-- serve: --workers 1

local check    = require "check"
local client   = require "client"
local contract = require "contract"
local hostile  = require "hostile"
local storm    = require "storm"
local traces   = require "traces"

local PRODUCTS <const> = "/api/v1/products?limit=1"
local URL <const> = "http://127.0.0.1:" .. client.port

local schemas = contract.document.components.schemas
local buyer = storm.people(1)[1]
local bun   = storm.products(1, 100)[1]

--- Runs fn while `part[name]` of the document is another: the faults found, and whether fn
-- heard of them.
local function while_changed(part, name, value, fn)
  local was = part[name]
  part[name] = value
  local ok, fault = pcall(fn)
  part[name] = was
  return contract.take(), not ok and tostring(fault)
end

--- Each way of reading must find that `part[name]` is not so, and raise.
local function check_found(what, part, name, value, fn)
  local faults, raised = while_changed(part, name, value, fn)
  check.equal(#faults, 1, what .. ": faults")
  check.matches(faults[1], "not as openapi%.json says: %$", what)
  check.truthy(raised and raised:find(faults[1], 1, true), what .. ": raised: " .. tostring(raised))
end

local function check_product(what, fn) check_found(what, schemas.Product.properties, "stock", { type = "string" }, fn) end
local function check_error(what, fn) check_found(what, schemas.Error.properties, "code", { type = "integer" }, fn) end

--- A connection on which this was sent.
local function sent(bytes)
  local c = client.connect()
  check.truthy(c:send(bytes))
  return c
end

local function get(path, options) return client.format("GET", path, options) end

local function order() return storm.placed(storm.order(buyer, storm.one(bun))) end

--- Reads an order's stream up to the end of its first event.
local function stream(id)
  local c = sent(get(storm.ORDERS .. "/" .. id .. "/events", { token = buyer.token }))
  local head = c:read_until "\r\n\r\n"
  check.matches(c:read_until "\n\n", "data: ")
  c:close()
  return head
end

local function curl(arguments)
  local out = client.shell("curl -s -o /dev/null " .. arguments)
  check.equal(out, "", "curl " .. arguments)
  return traces.judge(os.getenv "CURL_TRACES")
end

local function events_of(name)
  for _, one in ipairs(schemas.OrderEvents.items.anyOf) do
    if one.properties.event.const == name then return one.properties end
  end
end

return {
  { "one request, many at once, the storms' clients", function()
    check_product("get", function() client.get(PRODUCTS) end)
    check_product("on a connection", function() client.get(PRODUCTS, { on = client.connect() }) end)
    check_product("parallel", function() client.parallel { { "GET", PRODUCTS } } end)
    check_product("storm.expect", function() storm.expect({ { "GET", PRODUCTS } }, { [200] = 1 }) end)
    check_product("storm.send", function() storm.send { "GET", PRODUCTS } end)
    check_found("an order", schemas.Order.properties, "status", { const = "cooked" }, order)
    check_product("packed", function() client.get("/api/v1/products?limit=100", { headers = { ["Accept-Encoding"] = "gzip" } }) end)
  end },

  { "connections that are read by hand", function()
    check_product("answer", function() sent(get(PRODUCTS)):answer "GET" end)
    check_product("read_until", function() sent(get(PRODUCTS)):read_until '"totalPages"' end)
    check_product("read_all", function() sent(get(PRODUCTS, { headers = { Connection = "close" } })):read_all() end)
    check_product("the third of three", function()
      local c = sent(get "/health" .. get "/nowhere" .. get(PRODUCTS))
      for _ = 1, 3 do c:answer "GET" end
    end)
    check_product("byte by byte", function()
      local c = client.connect()
      for byte in get(PRODUCTS):gmatch "." do c:send(byte) end
      c:read_all()
    end)
    check_product("after a body", function()
      local c = sent(client.format("POST", "/api/v1/auth/login", { body = {} }) .. get(PRODUCTS))
      c:answer "POST"
      c:answer "GET"
    end)
    check.equal(#contract.take(), 0, "faults that are none")
  end },

  { "a status, a type, or a body that is not described", function()
    local responses = contract.find("GET", "/api/v1/products").operation.responses
    local faults = while_changed(responses, "200", nil, function() client.get(PRODUCTS) end)
    check.matches(faults[1], "this status is not described")
    faults = while_changed(responses["200"], "content", { ["text/csv"] = {} }, function() client.get(PRODUCTS) end)
    check.matches(faults[1], "its type is application/json")
    faults = while_changed(responses["200"], "content", nil, function() client.get(PRODUCTS) end)
    check.matches(faults[1], "it has a body")
    faults = while_changed(contract.find("GET", "/health"), "pattern", "nothing", function() client.get "/health" end)
    check.matches(faults[1], "GET /health: 200: .* this status is not described")
    faults = while_changed(responses, "200", nil, function() client.head(PRODUCTS) end)
    check.matches(faults[1], "HEAD .* this status is not described")
  end },

  { "answers to what is no request are failures like any", function()
    check_error("no request", function() sent "GARBAGE\r\n\r\n":read_all() end)
    check_error("half a request", function() sent("GET /" .. ("a"):rep(9000)):read_all() end)
    check_error("a path that is not there", function() client.get "/nowhere" end)
    for _, inputs in pairs(hostile.by_status) do
      for _, input in ipairs(inputs) do
        local c = sent(input)
        c.socket:shutdown "send"      -- ends also what could go on
        local text, why = c:read_all()
        check.truthy(text:find "^HTTP/1.1 4%d%d" or text:find "^HTTP/1.1 50[15]", text)
        check.equal(why, "closed", input)
      end
    end
    check.equal(#contract.take(), 0, "faults")
  end },

  { "streams: the type, each event, and signs of life that are none", function()
    local made = order()
    check.matches(stream(made.id), "text/event%-stream")
    local event = events_of "status"
    check_found("its name", event, "event", { const = "another" }, function() stream(made.id) end)
    check_found("its id", event, "id", { type = "integer" }, function() stream(made.id) end)
    check_found("its data", event.data.contentSchema.properties, "at", { type = "integer" }, function() stream(made.id) end)
    check_found("a field that is not told", event.data.contentSchema.properties, "by_role", nil, function() stream(made.id) end)
    local response = contract.find("GET", storm.ORDERS .. "/x/events").operation.responses["200"]
    local faults = while_changed(response, "content", { ["text/plain"] = {} }, function() stream(made.id) end)
    check.matches(faults[1], "its type is text/event%-stream")
    faults = while_changed(response.content["text/event-stream"], "schema", {}, function() stream(made.id) end)
    check.matches(faults[1], "its events are not described")
    storm.move(made, storm.people(1, "staff")[1], "confirmed")
    check_found("the second", event.data.contentSchema.properties, "status", { const = "pending" }, function()
      local c = sent(get(storm.ORDERS .. "/" .. made.id .. "/events", { token = buyer.token }))
      c:read_until "\n\n"
      c:read_until "confirmed"
    end)
  end },

  { "curl", function()
    local function found(part, name, value, arguments)
      return while_changed(part, name, value, function() check.truthy(curl(arguments) > 0, "a trace") end)
    end
    check.equal(curl(URL .. "/health -o /dev/null " .. URL .. PRODUCTS), 2, "exchanges")
    check.equal(#contract.take(), 0, "faults")
    check.matches(found(schemas.Product.properties, "stock", { type = "string" }, URL .. PRODUCTS)[1], "stock: number")
    check.matches(found(schemas.Product.properties, "stock", { type = "string" }, "--compressed '" .. URL
                        .. "/api/v1/products?limit=100'")[1], "stock: number")
    check.matches(found(schemas.Error.properties, "code", { type = "integer" }, "-X BREW " .. URL)[1], "BREW /: 501: .*code: string")
    local sign_in = [[-H 'Content-Type: application/json' -d '{"email":"nobody@example.com","password":"x"}' ]]
    check.matches(found(schemas.Error.properties, "code", { type = "integer" }, sign_in .. URL .. "/api/v1/auth/login")[1],
                  "POST /api/v1/auth/login: 401")
    local csv = contract.find("GET", "/api/v1/reports/daily-sales").operation.responses["200"].content
    check.matches(found(csv, "text/csv", nil, "-H 'Authorization: Bearer " .. client.session "staff" .. "' '" .. URL
                        .. "/api/v1/reports/daily-sales?format=csv'")[1], "its type is text/csv")
  end },

  { "curl in tests that are no Lua", function()
    local work = os.getenv "TEST_WORK"
    local function conforms()
      return client.shell(("lua5.4 '%s/test/api/lib/conforms.lua' %s/openapi.json"):format(os.getenv "OMADE_HOME", work))
    end
    local function ask(more)
      client.shell(("curl -s -o %s/openapi.json %s/api/openapi.json; curl -s -o /dev/null '%s%s'"):format(work, URL, URL, more))
    end
    ask(PRODUCTS)
    local out, ok = conforms()
    check.truthy(ok, out)
    ask(PRODUCTS)
    client.shell("sed -i 's/ 32 30 30 20 4f 4b/ 32 39 39 20 4f 4b/' \"$CURL_TRACES\"/*")      -- 200 to 299
    out, ok = conforms()
    check.truthy(not ok)
    check.matches(out, "GET " .. PRODUCTS:gsub("%p", "%%%0") .. ": 299: .* this status is not described")
    client.shell("curl -s -o /dev/null " .. URL .. "/health")
    out, ok = conforms()
    check.truthy(not ok)
    check.matches(out, "no traces")
  end },

  { "what a test overlooks is kept for its end", function()
    pcall(check_product, "overlooked", function() pcall(client.get, PRODUCTS) end)
    local faults = while_changed(schemas.Product.properties, "stock", { type = "string" }, function() pcall(client.get, PRODUCTS) end)
    check.equal(#faults, 1)
    local file = os.getenv "TEST_WORK" .. "/overlooks.lua"
    local f = assert(io.open(file, "w"))
    f:write [[
      local client, contract = require "client", require "contract"
      contract.document.components.schemas.Product.properties.stock = { type = "string" }
      return { { "it overlooks", function() pcall(client.get, "/api/v1/products") end } }]]
    f:close()
    local out, ok = client.shell(("lua5.4 '%s/test/api/lib/main.lua' %s"):format(os.getenv "OMADE_HOME", file))
    check.truthy(not ok)
    check.matches(out, "not ok it overlooks\n.*stock: number")
  end },

  { "no test reads from the bakery in another way", function()
    local function files(command) return client.shell('cd "$OMADE_HOME/test" && ' .. command .. " | sort") end
    check.equal(files [[grep -rlE ':[r]eceive\b|/dev/[t]cp/|socket\.[h]ttp|[w]get ' --include=*.lua --include=*.sh .]], table.concat({
      "api/lib/client.lua",            -- Connection:more
      "api/lib/receiver.lua",          -- a server, of webhooks
      "api/outbox_mail_test.lua",      -- SMTP
      "api/outbox_tls_test.lua",       -- SMTP
      "api/social/keys_server.lua",    -- a server, of keys
    }, "\n./"):gsub("^", "./"))
    check.equal(files [[grep -rl '\bcurl ' --include=*.sh . | xargs grep -LE 'CURL_TRACES|/[a-z_]*rig\.sh']], table.concat({
      "./bench/times.sh",              -- no bakery
      "./examples/examples_test.sh",   -- no bakery
    }, "\n"))
  end },
}
