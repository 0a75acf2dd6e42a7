-- SIGTERM: what does not end within DRAIN_TIMEOUT is ended, and the server, too.
-- app: test/api/apps/deadline_test
-- serve: --workers 2
-- env: DRAIN_TIMEOUT=300

local check  = require "check"
local client = require "client"

local supervisor = os.getenv "TEST_SERVER_PID"

--- Ten times the promise.
local GUARD <const> = 10 * 0.3 * tonumber(os.getenv "OMADE_TIME_SCALE" or 1)

return {
  { "requests without an end get 503, streams end, exit 0", function()
    local calls = {}
    for _, path in ipairs { "/endless/sleep", "/endless/rows", "/endless/transaction", "/endless/pcall" } do
      for _ = 1, 4 do
        local c = client.connect()
        c:send(client.format("GET", path))
        calls[#calls + 1] = c
      end
    end
    local stream = client.connect()
    stream:send(client.format("GET", "/stream?steps=100000"))
    check.truthy(stream:read_until "data: 1\n", "the stream's first event")
    client.shell("kill -TERM " .. supervisor)
    for _, c in ipairs(calls) do
      c.timeout = GUARD
      local answer = check.status(c:answer "GET", 503, "UNAVAILABLE")
      check.matches(answer.headers.connection, "close")
      c:close()
    end
    stream.timeout = GUARD
    check.equal(select(2, stream:read_all()), "closed")
    client.eventually(GUARD, "the end", function()
      local state = client.shell("ps -o stat= -p " .. supervisor)
      return state == "" or state:sub(1, 1) == "Z"
    end)
    client.eventually(GUARD, "no session of PostgreSQL is left", function()     -- which notices by itself
      return client.sql [[SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
        AND usename = 'app_user']] == "0"
    end)
  end },
}
