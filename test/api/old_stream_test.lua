-- Ten seconds after a reload the streams of before end; their clients come back.
-- app: test/api/apps/reload_test
-- serve: dev --workers 1
-- env: OMADE_TIME_SCALE=1
-- env: SCRIPT_LOAD_CPU=20000
-- env: HEARTBEAT_CPU=10000

local check  = require "check"
local client = require "client"

return {
  { "a stream is of one generation, ends, and goes on in the next", function()
    local c = client.connect()
    c:send(client.format("GET", "/stream"))
    local text = c:read_until "data: one\n"
    local f = assert(io.open(os.getenv "TEST_APP" .. "/part.lua", "w"))
    f:write "return { text = 'two' }"
    f:close()
    client.eventually(20, "the new version", function() return client.get("/").json().data == "two" end)
    text = text .. assert(c:read_until "\r\n0\r\n\r\n", "the stream ends")
    check.truthy(not text:find "data: two", "one generation")
    local last = math.tointeger(text:match ".*id: (%d+)\n")
    c:send(client.format("GET", "/stream", { headers = { ["Last-Event-ID"] = last } }))
    check.matches(c:read_until "data: two\n", "id: " .. last + 1 .. "\n")
    c:close()
  end },
}
