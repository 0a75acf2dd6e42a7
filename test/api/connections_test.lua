-- Many idle connections: what each costs, and that the server goes on answering.
-- serve: --workers 1
-- env: LOG_LEVEL=info
-- env: HTTP_IDLE_TIMEOUT=600000

local check  = require "check"
local client = require "client"

local CLIENTS <const>, EACH <const> = 4, 500     -- a process waits for up to 1024 descriptors
local LIMIT <const> = 10 * 1024                  -- bytes an idle connection

local sanitized = os.getenv "TEST_SANITIZED" == "ON"
local work      = os.getenv "TEST_WORK"

local function worker() return client.shell("pgrep -P " .. os.getenv "TEST_SERVER_PID") end

local function resident(pid)
  for line in io.lines("/proc/" .. pid .. "/status") do
    local kib = line:match "^VmRSS:%s*(%d+)"
    if kib then return tonumber(kib) * 1024 end
  end
end

--- A process that opens connections, asks once on each, waits for the file, asks again.
local CROWD <const> = [[
  local client = require "client"
  local count, file, connections = tonumber(arg[1]), arg[2], {}
  local function ask()
    local good = 0
    for i = 1, count do
      local answer = client.get("/", { on = connections[i] })
      if answer.status == 200 then good = good + 1 end
    end
    print(good)
    io.stdout:flush()
  end
  for i = 1, count do connections[i] = client.connect() end
  ask()
  client.eventually(60, "the file", function() return io.open(file) end)
  ask()]]

local script = work .. "/crowd.lua"
local out = assert(io.open(script, "w"))
out:write(CROWD)
out:close()

local function crowd(file, count)
  return assert(io.popen(("lua5.4 %s %d %s"):format(script, count, file)))
end

--- Opens them all, calls `fn` while they are idle; all are asked before and after.
local function with_idle(each, fn)
  local file = os.tmpname()
  os.remove(file)
  local crowds = {}
  for i = 1, CLIENTS do crowds[i] = crowd(file, each) end
  local ok, fault = pcall(function()
    for i = 1, CLIENTS do check.equal(crowds[i]:read "l", tostring(each), "first answers") end
    fn()
  end)
  assert(io.open(file, "w")):close()
  local second = {}
  for i = 1, CLIENTS do
    second[i] = crowds[i]:read "l"
    crowds[i]:close()
  end
  os.remove(file)
  if not ok then error(fault, 0) end
  for i = 1, CLIENTS do check.equal(second[i], tostring(each), "second answers") end
end

return {
  { CLIENTS * EACH .. " idle connections", function()
    local pid, before = worker(), nil

    with_idle(50, function() before = resident(pid) end)     -- warm
    with_idle(EACH, function()
      local each = (resident(pid) - before) // (CLIENTS * (EACH - 50))
      print("# " .. each .. " bytes of memory an idle connection")
      if not sanitized then check.truthy(each < LIMIT, each .. " bytes < " .. LIMIT) end
      for _ = 1, 20 do check.status(client.get "/", 200) end
    end)
    check.equal(worker(), pid, "the worker")
  end },

  { "they are forgotten when they leave", function()
    local pid = worker()
    local function descriptors()
      return tonumber((client.shell("ls /proc/" .. pid .. "/fd | wc -l")))
    end
    client.eventually(20, "their descriptors are closed", function() return descriptors() < 100 end)
    check.status(client.get "/", 200)
  end },
}
