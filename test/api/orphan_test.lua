-- A supervisor that is killed leaves no orphan on the port.
-- serve: --workers 2
-- env: TEST_EXPECT_EXIT=137

local check  = require "check"
local client = require "client"

local supervisor = os.getenv "TEST_SERVER_PID"

return {
  { "workers answer what is in flight and end", function()
    local workers = client.shell("pgrep -P " .. supervisor)
    check.status(client.get "/", 200)
    local c = client.connect()
    c:send(client.format("GET", "/slow"))
    client.sleep(0.1)
    client.shell("kill -9 " .. supervisor)
    check.equal(c:answer("GET").json().data, "slow")
    for pid in workers:gmatch "%d+" do
      client.eventually(100, "worker " .. pid .. " ends", function()
        local state = client.shell("ps -o stat= -p " .. pid)
        return state == "" or state:sub(1, 1) == "Z"
      end)
    end
    check.equal(pcall(client.get, "/"), false, "somebody still answers")
  end },
}
