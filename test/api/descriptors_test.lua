-- More clients than the process may open files: idle ones go, nobody is turned away.
-- files: 110
-- app: examples/hello
-- serve: --workers 1

local check  = require "check"
local client = require "client"

--- Clients that stay after an answer.
local function fill(count)
  local crowd = {}
  for i = 1, count do
    crowd[i] = client.connect()
    check.status(client.get("/", { on = crowd[i] }), 200)
  end
  return crowd
end

local function leave(crowd)
  for _, c in ipairs(crowd) do c:close() end
end

return {
  { "the limit of clients stays below the one of files", function()
    check.matches(io.open(os.getenv "TEST_SERVER_LOG"):read "a", "HTTP_MAX_CONNECTIONS is lowered")
  end },

  { "new clients are answered while more wait than there is room for", function()
    local crowd = fill(100)
    for _ = 1, 10 do check.status(client.get "/", 200) end
    leave(crowd)
    for _ = 1, 10 do check.status(client.get "/", 200) end
  end },
}
