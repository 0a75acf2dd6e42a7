-- Supervisor and workers: crash, replacement, balance, reload, drain.
-- serve: --workers 2
-- env: HEARTBEAT_TIMEOUT=1000
-- env: ASAN_OPTIONS=detect_leaks=1:handle_segv=0

local check  = require "check"
local client = require "client"
local socket = require "socket"

local supervisor = os.getenv "TEST_SERVER_PID"

local function workers()
  local list = {}
  for pid in client.shell("pgrep -P " .. supervisor):gmatch "%d+" do list[#list + 1] = pid end
  return list
end

return {
  { "two workers share 200 connections: neither has over 60 %", function()
    local per, c = {}, {}
    for i = 1, 400 do
      c[i] = client.connect()
      local answer = client.get("/pid", { on = c[i] }).json().data
      per[answer] = (per[answer] or 0) + 1
    end
    for i = 1, 400 do c[i]:close() end
    local most = 0
    for _, n in pairs(per) do most = math.max(most, n) end
    check.truthy(most <= 240, "the busier one has " .. most .. " of 400")
  end },

  { "a crashed worker is replaced, no connection is refused", function()
    local victim = workers()[1]
    client.shell("kill -SEGV " .. victim)
    for _ = 1, 50 do check.status(client.get "/pid", 200) end
    client.eventually(10, "two workers, promised within a second", function()
      local now = workers()
      return #now == 2 and now[1] ~= victim and now[2] ~= victim
    end)
  end },

  { "a worker that gives no sign of life is replaced", function()
    local victim = workers()[1]
    client.shell("kill -STOP " .. victim)
    client.eventually(150, "it is replaced", function()
      local now = workers()
      return #now == 2 and now[1] ~= victim and now[2] ~= victim
    end)
    for _ = 1, 10 do check.status(client.get "/pid", 200) end
  end },

  { "crash loops wait longer and longer, and the other worker serves", function()
    local stays = workers()[1]
    local function victim()
      for _, pid in ipairs(workers()) do if pid ~= stays then return pid end end
    end
    local log = io.open(os.getenv "TEST_SERVER_LOG")
    log:seek "end"
    for _ = 1, 5 do
      local pid = client.eventually(30, "one to crash", victim)
      client.shell("kill -SEGV " .. pid)
      for _ = 1, 10 do check.status(client.get "/pid", 200) end
      client.eventually(10, "its end", function() return victim() ~= pid end)
    end
    local text, waits = "", nil
    client.eventually(10, "five crashes in the log", function()
      text, waits = text .. log:read "a", {}
      for wait in text:gmatch "worker ended[^\n]-restart_in_ms=(%d+)" do waits[#waits + 1] = tonumber(wait) end
      return #waits == 5
    end)
    local last = 0
    for _, wait in ipairs(waits) do
      check.truthy(wait >= last, "waits " .. wait .. " ms after " .. last)
      last = wait
    end
    check.truthy(last > 300, "the last one waits only " .. last .. " ms")
    client.eventually(30, "two workers", function() return #workers() == 2 end)
    check.equal(workers()[1] == stays or workers()[2] == stays, true, "the other one is still there")
  end },

  { "SIGHUP reloads without a failed request", function()
    for _ = 1, 10 do
      client.shell("kill -HUP " .. supervisor)
      for _ = 1, 10 do check.status(client.get "/pid", 200) end
    end
    client.eventually(20, "reloaded", function()
      return io.open(os.getenv "TEST_SERVER_LOG"):read("a"):find "scripts reloaded"
    end)
  end },

  { "SIGTERM answers what is in flight and ends", function()
    local c = client.connect()
    c:send(client.format("GET", "/slow"))
    local idle = client.connect()
    client.get("/pid", { on = idle })
    client.sleep(0.1)
    client.shell("kill -TERM " .. supervisor)
    client.eventually(20, "new connections are refused", function()
      local ok, fresh = pcall(client.connect)
      if ok then fresh:close() end
      return not ok
    end)
    check.equal(#socket.select({ c.socket }, nil, 0), 0, "before the one in flight is answered")
    local answer = c:answer "GET"
    check.status(answer, 200)
    check.matches(answer.headers.connection, "close")
    client.eventually(30, "the end", function()
      return select(2, client.shell("kill -0 " .. supervisor .. " 2>/dev/null && [ \"$(ps -o stat= -p " .. supervisor
                                    .. " | cut -c1)\" != Z ]")) == nil
    end)
    check.equal(#workers(), 0)
  end },
}
