-- PostgreSQL and Redis as scripts see them, and their faults.
-- serve: --workers 1
-- scale: 4
-- env: DB_QUERY_TIMEOUT=1500
-- env: DB_ROW_MAX=100000
-- env: SHOP_TIMEZONE=Europe/Rome

local check  = require "check"
local client = require "client"

local function ask(name) return client.get("/ask/" .. name) end
local function data(name) return check.status(ask(name), 200).json().data end

local function stock()
  return client.sql "SELECT stock FROM products WHERE id = '10000000-0000-0000-0000-000000000001'"
end

local function open_transactions()
  return client.sql [[SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
    AND usename = 'app_user' AND state LIKE 'idle in transaction%']]
end

local function connections()
  return tonumber(client.sql "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND usename = 'app_user'")
end

--- Sends a request and hangs up.
local function hang_up(name, method)
  local c = client.connect()
  c:send(client.format(method or "GET", "/ask/" .. name))
  client.sleep(0.05)
  c:close()
end

return {
  { "rows, types and parameters", function()
    check.matches(ask("row").body, '"data":{"id":"10000000%-.-","name":"Chocolate Cake","price":25.99,"stock":%d+,"created_at":"[^"]+Z","image_url":null}')
    check.same(data "none", { json = true, row = true })
    check.equal(ask("types").body:match '"data":(.*)}$', '{"a":1,"b":9007199254740993,"c":1.50,"d":true,"e":null,'
      .. '"f":{"x":[1,2.5]},"g":["a","b c",null],"h":[1,2],"i":0.5,"j":"2026-01-15T10:30:00.123Z","k":"2026-01-15","l":null,"m":""}')
    check.equal(ask("json").body, '{"success":true,"data":[{"a":1,"b":null},{"a":2,"b":"x"}]}')
    check.equal(data("timezone").zone, "Europe/Rome")
    check.equal(data "exec", 1)
    check.equal(ask("params").body, [[{"success":true,"data":{"s":"ä'\\\"","n":5,"b":true,"z":null,"j":[1]}}]])
    check.equal(ask("batch").body, '{"success":true,"data":[[{"a":1}],{"b":2}]}')
    check.equal(ask("all").body, '{"success":true,"data":[[{"a":1}],{"b":"x"},[{"c":3}]]}')
  end },

  { "errors have the right status and no SQL", function()
    local cases = { nul = 400, utf8 = 400, number = 400, syntax = 500, unique = 409, check = 422, slow = 504, rows_max = 500,
                    nested = 500, redis_error = 500 }
    for name, status in pairs(cases) do
      local answer = check.status(ask(name), status)
      check.truthy(not answer.body:find "SELE" and not answer.body:find "INSERT", answer.body)
    end
    check.equal(data("json") ~= nil, true)
  end },

  { "each kind of failure has its status, and nothing of its text", function()
    local cases = {
      [400] = "22001 22003 22007 22P02 22021 22P05", [409] = "23505 23503", [422] = "23514 23502",
      [403] = "42501", [500] = "P0001 42601 42P01 XX000 08P01 0A000", [504] = "57014",
      [503] = "40001 40P01 53000 53100 53200 53300 57P01 57P02 57P03 57P05 08000 08003 08006",
    }
    for status, states in pairs(cases) do
      for state in states:gmatch "%S+" do
        local answer = client.get("/ask/fault/" .. state)
        check.equal(answer.status, status, state)
        check.truthy(not answer.body:find "secret" and not answer.body:find(state), answer.body)
        check.equal(answer.headers["retry-after"] ~= nil, status == 503, "Retry-After of " .. state)
      end
    end
  end },

  { "a transaction commits, rolls back, and leaves nothing open", function()
    local before = stock()
    check.equal(data("transaction").stock, tonumber(before) + 1)
    local after = stock()
    check.equal(tonumber(after), tonumber(before) + 1)
    check.status(ask "raises", 500)
    check.status(ask "endless", 503)
    check.status(ask "caught", 500)
    hang_up("sleepy", "GET")
    hang_up("sleepy", "GET")
    client.eventually(20, "no open transaction", function() return open_transactions() == "0" end)
    check.equal(stock(), after)
    for _ = 1, 5 do data "transaction" end
    check.equal(tonumber(stock()), tonumber(after) + 5)
    check.truthy(connections() <= 4, "connections")
  end },

  { "db.commit ends a transaction with its last statements", function()
    local before = tonumber(stock())
    check.same(data "commit", { before, 1, before + 1 })
    check.same(data "commit_alone", { 1 })
    check.equal(tonumber(stock()), before + 2)
    check.matches(ask("commit_outside").status, "500")
    check.status(ask "commit_fails", 422)
    check.status(ask "commit_fails_caught", 500)
    check.equal(tonumber(stock()), before + 2, "what failed left nothing")

    local refused = data "commit_then"
    check.same({ refused[1], refused[3] }, { false, false })
    check.matches(refused[2], "after db.commit the transaction is over")
    check.equal(tonumber(stock()), before + 3)
    check.same(data "commit_raises", { 1, false, "commit", { usable = 1 } })
    check.equal(tonumber(stock()), before + 4, "what is committed never runs again")
    check.equal(data("commit_too_large")[1], false)
    check.equal(tonumber(stock()), before + 5)
    check.equal(data "commit_serial", 3)
    check.equal(tonumber(stock()), before + 6)

    client.sql "CREATE TABLE deferred_of (id int PRIMARY KEY)"
    client.sql "CREATE TABLE deferred (id int REFERENCES deferred_of DEFERRABLE INITIALLY DEFERRED); GRANT ALL ON deferred TO app_user"
    check.status(ask "commit_deferred", 409)
    check.equal(client.sql "SELECT count(*) FROM deferred", "0", "refused by COMMIT itself")
    client.sql "DROP TABLE deferred, deferred_of"
    for _ = 1, 8 do data "transaction" end      -- every connection is whole
    check.equal(open_transactions(), "0")
  end },

  { "a transaction that lost against another runs again", function()
    local function stocks()
      return tonumber(client.sql [[SELECT sum(stock) FROM products
        WHERE id IN ('10000000-0000-0000-0000-000000000001', '10000000-0000-0000-0000-000000000002')]])
    end
    local before, a, b = stocks(), client.connect(), client.connect()
    a:send(client.format("GET", "/ask/deadlock_ab"))
    b:send(client.format("GET", "/ask/deadlock_ba"))
    check.status(a:answer "GET", 200)
    check.status(b:answer "GET", 200)
    check.equal(stocks(), before + 4, "each counted once")
    check.equal(data "serial", 3)
    check.equal(data "deadlock_lost", 2)
    check.equal(stocks(), before + 6, "failed attempts leave nothing")
    local refused = check.status(ask "serial_always", 503, "UNAVAILABLE")
    check.truthy(refused.headers["retry-after"], "Retry-After")
    check.status(ask "other_fault", 422)
    check.equal(stocks(), before + 6)
    check.equal(open_transactions(), "0")
  end },

  { "a changed table is prepared anew", function()
    client.sql "CREATE TABLE changing AS SELECT 1 AS id; GRANT SELECT, UPDATE ON changing TO app_user"
    for _ = 1, 6 do check.same(data "star", { id = 1 }) end         -- on every connection
    for _ = 1, 4 do data "star_tx" end
    client.sql "ALTER TABLE changing ADD COLUMN name text DEFAULT 'x'"
    for _ = 1, 6 do check.same(data "star", { id = 5, name = "x" }) end
    for i = 6, 9 do check.same(data "star_tx", { id = i, name = "x" }) end
    client.sql "DROP TABLE changing"
  end },

  { "the user travels with each statement and goes with it", function()
    local d = data "identity"
    check.truthy(type(d[1].u) ~= "string" or d[1].u == "", "no user at first")
    for i = 2, 4 do
      check.equal(d[i].u, "10000000-0000-0000-0000-000000000001")
      check.equal(d[i].r, "staff")
    end
    check.truthy(type(d[5].u) ~= "string" or d[5].u == "", "no user at the end")
    check.equal(data("counted").n, 0, "orders without a user")
  end },

  { "64 clients share the configured connections", function()
    local clients = {}
    for i = 1, 64 do
      clients[i] = client.connect()
      clients[i]:send(client.format("GET", "/ask/row"):rep(5))
    end
    for i = 1, 64 do
      for _ = 1, 5 do check.status(clients[i]:answer "GET", 200) end
      clients[i]:close()
    end
    check.truthy(connections() <= 4, "connections: " .. connections())
  end },

  { "one that fails among a hundred fails alone", function()
    local clients = {}
    for i = 1, 100 do
      clients[i] = client.connect()
      clients[i]:send(client.format("GET", i == 50 and "/ask/number" or "/ask/row"))
    end
    for i = 1, 100 do
      check.status(clients[i]:answer "GET", i == 50 and 400 or 200)
      clients[i]:close()
    end
  end },

  -- Ten thousand: TEST_HANGUPS=10000 ./omade test --fast -R api/database
  { "a thousand clients that hang up under a query leave nothing", function()
    local worker = client.shell("pgrep -P " .. os.getenv "TEST_SERVER_PID")
    local function descriptors() return tonumber((client.shell("ls /proc/" .. worker .. "/fd | wc -l"))) end
    local before, at_most = stock(), descriptors() + 8
    local kinds = { "row", "nap", "transaction_nap", "nap" }
    local open = {}
    for i = 1, tonumber(os.getenv "TEST_HANGUPS" or 1000) do
      local c = client.connect()
      c:send(client.format("GET", "/ask/" .. kinds[1 + i % #kinds]))
      open[#open + 1] = c
      if #open == 16 then table.remove(open, math.random(16)):close() end    -- at any moment of it
    end
    for _, c in ipairs(open) do c:close() end
    client.eventually(20, "what they left behind is done", function() return ask("row").status == 200 end)
    client.eventually(20, "idle connections", function()
      return client.sql "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND usename = 'app_user' AND state <> 'idle'" == "0"
    end)
    client.eventually(20, "closed descriptors", function() return descriptors() <= at_most end)
    check.equal(client.shell("pgrep -P " .. os.getenv "TEST_SERVER_PID"), worker, "the same worker")
    check.truthy(connections() <= 4, "connections")
    local counted = tonumber(stock())
    check.truthy(counted >= tonumber(before), "whole transactions only")
    check.equal(data("transaction").stock, counted + 1)
  end },

  { "Redis: commands, errors, cache", function()
    local d = data "redis"
    check.truthy(d.get and d.none and d.incr == 1 and d.ttl > 90, "redis")
    check.same(d.pipe, { "OK", "1", false })
    check.same(d.eval, { "key", "arg" })
    check.equal(data("cached").n, 1)
    check.equal(data("cached").n, 1)
  end },

  { "notifications of PostgreSQL and Redis", function()
    local d = data "listen"
    check.equal(d.first, "hello")
    check.truthy(d.second and d.begun, "nothing else")
    check.equal(data "subscribe", "hello")
  end },

  { "connections that PostgreSQL ends are made anew", function()
    client.sql [[SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND usename = 'app_user']]
    client.eventually(20, "200 again", function() return ask("row").status == 200 end)
  end },
}
