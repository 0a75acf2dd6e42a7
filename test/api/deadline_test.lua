-- REQUEST_TIMEOUT: no request waits for ever, but for streams.
-- serve: --workers 1
-- env: REQUEST_TIMEOUT=100

local check  = require "check"
local client = require "client"

--- Of REQUEST_TIMEOUT, in seconds.
local LIMIT <const> = 0.1 * tonumber(os.getenv "OMADE_TIME_SCALE" or 1)

local function log() return io.open(os.getenv "TEST_SERVER_LOG"):read "a" end

return {
  { "504, for readers and writers, and the log says where it waited", function()
    local requests = {}
    for _, name in ipairs { "sleep", "loop", "rows", "pcall", "all", "transaction", "close" } do
      requests[#requests + 1] = { "GET", "/endless/" .. name }
      requests[#requests + 1] = { "POST", "/endless/" .. name }
    end
    for _, answer in ipairs(client.parallel(requests)) do check.status(answer, 504, "TIMEOUT") end
    client.eventually(20, "the log", function()
      return log():find "request killed.-GET /endless/:name.-app%.lua:%d+: the request took too long"
        or log():find "request killed.-ANY /endless/:name.-app%.lua:%d+: the request took too long"
    end)
    check.equal(client.get("/closed").json().data, 2)
  end },

  { "its transaction is rolled back, its connection free", function()
    client.eventually(20, "no open transaction", function()
      return client.sql([[SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
        AND usename = 'app_user' AND state LIKE '%in transaction%']]) == "0"
    end)
  end },

  { "streams go on", function()
    local steps = math.ceil(3 * LIMIT / 0.25)
    local body = client.get("/stream?steps=" .. steps).body
    check.matches(body, "data: " .. steps .. "\n")
  end },

  { "a body that still arrives has the time of its rate", function()
    local c = client.connect()
    c:send "POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 40000\r\n\r\n"
    for _ = 1, 20 do
      c:send(("x"):rep(2000))
      client.sleep(LIMIT * 3 / 20)
    end
    check.equal(check.status(c:answer "POST", 200).json().data, 40000)
    c:close()
  end },
}
