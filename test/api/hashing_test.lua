-- Passwords are hashed beside the loop, in a queue that has an end.
-- serve: --workers 1
-- env: BCRYPT_COST=8

local check  = require "check"
local client = require "client"

local LOGIN <const> = "/api/v1/auth/login"
local QUEUE <const> = 200

local function body(n) return { email = "nobody" .. n .. "@example.com", password = "Crumb-les!42" } end

local function login(n)
  local c = client.connect()
  c:send(client.format("POST", LOGIN, { body = body(n) }))
  return c
end

local function has_answer(c)
  c.timeout = 0
  local bytes = c:more()
  c.timeout = nil
  c.rest = c.rest .. (bytes or "")
  return bytes ~= nil
end

return {
  { "others are answered while passwords are hashed", function()
    local calls = {}
    for i = 1, 100 do calls[i] = login(i) end
    for _ = 1, 5 do check.status(client.get "/api/v1/store", 200) end
    check.truthy(not has_answer(calls[#calls]), "the last one still waits")
    for _, c in ipairs(calls) do
      check.status(c:answer "POST", 401, "INVALID_CREDENTIALS")
      c:close()
    end
  end },

  { "more than may wait are refused at once", function()
    local requests = {}
    for i = 1, QUEUE + 100 do requests[i] = { "POST", LOGIN, { body = body(i) } } end
    local counts = client.statuses(client.parallel(requests))
    check.truthy(counts[503] and counts[503] <= 100, "refused: " .. tostring(counts[503]))
    check.equal(counts[401], #requests - counts[503], "hashed")
    check.status(client.post(LOGIN, { body = body(0) }), 401)
  end },
}
