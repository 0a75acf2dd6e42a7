-- Servers that follow one another on a socket of systemd's, under load: no request fails.
-- app: test/api/apps/processes_test
-- serve: --workers 1

local check  = require "check"
local client = require "client"

local RESTARTS <const> = 2

local work  = os.getenv "TEST_WORK"
local place = work .. "/activated"
local here  = debug.getinfo(1, "S").source:match "^@(.*/)"

local function content(name)
  local f = io.open(place .. "/" .. name)
  return f and f:read "a"
end

--- Asks until the file is there: on a new connection each time, or on one as long as it lives.
local CROWD <const> = [[
  local client = require "client"
  local path, stop, keeps = arg[1], arg[2], arg[3] == "keeps"
  local count, kept = 0, nil
  repeat
    kept = keeps and (kept or client.connect()) or nil
    local answer = client.get(path, { on = kept })
    assert(answer.status == 200, answer.head)
    if kept and answer.headers.connection == "close" then
      kept:close()
      kept = nil
    end
    count = count + 1
  until io.open(stop)
  print(count)]]

local function crowd(path, keeps)
  return assert(io.popen(("TEST_PORT=%s lua5.4 %s/crowd.lua %s %s/stop %s 2>&1")
    :format(content "port", work, path, place, keeps and "keeps" or "")))
end

return {
  { RESTARTS .. " restarts under load: no request fails", function()
    local out = assert(io.open(work .. "/crowd.lua", "w"))
    out:write(CROWD)
    out:close()
    client.shell("mkdir " .. place)
    client.shell(("python3 %sactivate.py %s %s serve %s --workers 2 > %s/activated.log 2>&1 & echo $! > %s/activated.pid")
      :format(here, place, os.getenv "TEST_BINARY", os.getenv "TEST_APP", work, work))
    local first = client.eventually(30, "the first server", function() return content "server" end)
    local crowds = { crowd "/pid", crowd("/pid", true), crowd("/pid", true), crowd "/slow" }

    local last = first
    client.port = tonumber(content "port")
    for _ = 1, RESTARTS do
      for _ = 1, 100 do check.status(client.get "/pid", 200) end
      client.shell("kill -TERM " .. last)
      last = client.eventually(60, "the next server", function()
        local now = content "server"
        return now ~= last and now
      end)
    end
    check.status(client.get "/pid", 200)
    assert(io.open(place .. "/stop", "w")):close()
    for _, one in ipairs(crowds) do
      local said = one:read "a"
      one:close()
      print("# requests: " .. said:gsub("%s+$", ""))
      check.matches(said, "^%d+%s*$", "a client")
    end
    client.shell(("kill -TERM $(cat %s/activated.pid)"):format(work))
    client.eventually(60, "the end", function() return not select(2, client.shell("kill -0 $(cat " .. work .. "/activated.pid)")) end)
    local log = io.open(work .. "/activated.log"):read "a"
    check.truthy(not log:find "Sanitizer" and not log:find "runtime error", log)
  end },
}
