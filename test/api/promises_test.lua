-- One client's fault is not another's: pools run dry, scripts run wild, clients are slow.
-- What is said of time is promised ten times faster (reliability.md, "Faults and promises").
-- serve: --workers 1
-- before: quick.sh
-- env: SCRIPT_LOAD_CPU=20000
-- env: HEARTBEAT_CPU=10000
-- env: DB_QUEUE_MAX=20
-- env: DB_QUEUE_TIMEOUT=1000
-- env: HTTP_HEAD_TIMEOUT=1000
-- env: HTTP_WRITE_TIMEOUT=1000
-- port: METRICS_PORT

local check  = require "check"
local client = require "client"

local TIMES <const>   = 10        -- what is promised
local GUARD <const>   = TIMES * tonumber(os.getenv "OMADE_TIME_SCALE")
local CPU <const>     = 0.2       -- SCRIPT_CPU
local AT_ONCE <const> = GUARD
local STORM <const>   = 80        -- of slow clients, each kind

local function gauge(name)
  local text = client.shell "curl -s http://127.0.0.1:$METRICS_PORT/metrics"
  return tonumber(text:match("\n" .. name .. "{[^}]*} (%d+)"))
end

local function ask(path)
  local c = client.connect()
  c:send(client.format("GET", path))
  return c
end

--- The slowest of a hundred requests but one, in seconds.
local function slowest(path, count)
  local times = {}
  for i = 1, count or 100 do
    local began = client.now()
    check.status(client.get(path), 200)
    times[i] = client.now() - began
  end
  table.sort(times)
  return times[#times - 1]
end

return {
  { "no connection left: a bounded wait, 503 at once, and as before", function()
    local holding = { ask "/hold", ask "/hold" }
    client.eventually(AT_ONCE, "both are in transactions", function() return gauge "omade_pg_connections_pinned" == 2 end)
    local more = {}
    for i = 1, 60 do more[i] = ask "/hold" end
    client.eventually(AT_ONCE, "those who may wait", function() return gauge "omade_pg_transactions_waiting" == 20 end)
    check.status(client.get "/row", 200)
    for _, c in ipairs(more) do
      c.timeout = AT_ONCE
      check.truthy(check.status(c:answer "GET", 503, "UNAVAILABLE").headers["retry-after"], "Retry-After")
      c:close()
    end
    client.eventually(AT_ONCE, "an empty queue", function() return gauge "omade_pg_transactions_waiting" == 0 end)
    check.status(client.post "/go", 200)
    for _, c in ipairs(holding) do
      check.status(c:answer "GET", 200)
      c:close()
    end
    check.status(client.get "/hold", 200)
    client.eventually(AT_ONCE, "idle connections", function() return gauge "omade_pg_connections_pinned" == 0 end)
  end },

  { "endless loops and blow-ups: others wait for twice the limit", function()
    client.timeout = GUARD * 2 * CPU
    for _, path in ipairs { "/loop", "/memory" } do
      for _ = 1, 4 do
        local c = ask(path)
        for _ = 1, 5 do check.status(client.get "/row", 200) end
        check.status(c:answer "GET", 503, "UNAVAILABLE")
        c:close()
      end
    end
    client.timeout = 30
  end },

  { "slow heads, bodies and readers are ended, and nobody else is slow", function()
    local alone, slow = slowest "/row", {}
    for _ = 1, STORM do
      local head, body, reader = client.connect(), client.connect(), client.connect()
      head:send "GET / HTTP/1.1\r\nHost: a\r\nX: "
      body:send "POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nabc"
      reader.socket:setoption("recv-buffer-size", 4096)
      reader:send(client.format("GET", "/large"))
      slow[#slow + 1], slow[#slow + 2], slow[#slow + 3] = { head, 408 }, { body, 408 }, { reader, 200 }
    end
    local beside = slowest "/row"
    print(("# the slowest but one: %.1f ms alone, %.1f ms beside %d slow clients"):format(alone * 1000, beside * 1000, #slow))
    check.truthy(beside <= TIMES * 2 * math.max(alone, 0.05), "too slow beside slow clients")
    client.eventually(GUARD * 2, "they are ended", function() return gauge "omade_http_connections" <= 1 end)
    for _, one in ipairs(slow) do
      local c, status = one[1], one[2]
      check.matches((c:read_all()), "^HTTP/1.1 " .. status)
      c:close()
    end
  end },
}
