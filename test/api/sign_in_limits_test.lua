-- How often one may fail to sign in, and that nobody learns who has an account.
-- serve: --workers 2
-- env: BCRYPT_COST=9
-- env: RATE_LIMITS=on

local check  = require "check"
local client = require "client"

local AUTH <const> = "/api/v1/auth"
local GOOD <const> = "Crumb-les!42"
local WRONG <const> = "Sour*dough77"

local function post(path, body, token)
  return client.post(AUTH .. path, { body = body, token = token })
end

local function login(email, password) return post("/login", { email = email, password = password }) end

local function register(email)
  return check.status(post("/register", { name = "Person", email = email, password = GOOD }), 201).json().data
end

local function fresh() client.redis "FLUSHDB" end

local function limited(answer)
  check.truthy(answer.headers["x-ratelimit-limit"], "on every answer")
  check.status(answer, 429, "RATE_LIMITED")
  check.matches(answer.headers["retry-after"], "^%d+$")
end

--- That many sign-ins at the same time: {[status] = how many}.
local function at_once(n, email, password)
  local all, counts = {}, {}
  for i = 1, n do all[i] = client.connect() end
  for i = 1, n do
    all[i]:send(client.format("POST", AUTH .. "/login", { body = { email = email, password = password } }))
  end
  for i = 1, n do
    local answer = all[i]:answer "POST"
    counts[answer.status] = (counts[answer.status] or 0) + 1
    all[i]:close()
  end
  return counts
end

--- Processor time of the server, in ticks: other processes do not change it.
local function ticks()
  local sum = 0
  local pids = os.getenv "TEST_SERVER_PID" .. " " .. client.shell("ps -o pid= --ppid " .. os.getenv "TEST_SERVER_PID")
  for pid in pids:gmatch "%d+" do
    local stat = client.shell("cat /proc/" .. pid .. "/stat 2>/dev/null"):match "^.*%) (.*)$"
    local field = 0
    for number in (stat or ""):gmatch "%S+" do
      field = field + 1
      if field == 12 or field == 13 then sum = sum + tonumber(number) end
    end
  end
  return sum
end

local function work_of(email)
  fresh()
  local before = ticks()
  for _ = 1, 10 do check.status(login(email, WRONG), 401) end
  return ticks() - before
end

return {
  { "an unknown address costs as much work as a wrong password", function()
    register "known@test.example"
    client.sql "INSERT INTO users (name, email, role, invited_at) VALUES ('Invited', 'invited@test.example', 'staff', now())"
    local known = work_of "known@test.example"
    check.truthy(known >= 5, "a hash is much of the work: " .. known)
    for _, email in ipairs { "unknown@test.example", "invited@test.example" } do
      local work = work_of(email)
      check.truthy(work * 2 > known, ("%s: %d ticks, not about %d"):format(email, work, known))
    end
  end },

  { "ten failures of an account, known or not, and then not even the right password", function()
    for _, email in ipairs { "ten@test.example", "nobody@test.example" } do
      fresh()
      if email == "ten@test.example" then register(email) end
      for _ = 1, 10 do check.status(login(email, WRONG), 401, "INVALID_CREDENTIALS") end
      limited(login(email, GOOD))
      limited(login(email:upper(), WRONG))
    end
    check.status(login("known@test.example", GOOD), 200)
  end },

  { "parallel failures are never more than ten", function()
    fresh()
    check.same(at_once(30, "known@test.example", WRONG), { [401] = 10, [429] = 20 })
  end },

  { "who signs in rightly is not counted, not even meanwhile", function()
    fresh()
    check.same(at_once(60, "known@test.example", GOOD), { [200] = 60 })
    local answer = check.status(login("known@test.example", WRONG), 401)
    check.equal(answer.headers["x-ratelimit-limit"], "10")
    check.equal(answer.headers["x-ratelimit-remaining"], "9")
  end },

  { "fifty failures from an address, whatever the accounts; it then locks nobody's", function()
    fresh()
    for i = 1, 50 do check.status(login(("n%d@test.example"):format(i), WRONG), 401) end
    limited(login("n51@test.example", WRONG))
    limited(login("known@test.example", GOOD))
    limited(post("/social", { provider = "google", id_token = "a.b.c" }))
    for _ = 1, 12 do limited(login("known@test.example", WRONG)) end
    client.redis("DEL", "rate_limit:127.0.0.1:sign-in-address")
    check.status(login("known@test.example", GOOD), 200)
  end },

  { "a stolen session guesses no password either", function()
    fresh()
    local own = register "stolen@test.example"
    for i = 1, 10 do
      local answer = i % 2 == 0
        and client.put(AUTH .. "/change-password", { token = own.access_token, body = { current_password = WRONG,
              new_password = "Focaccia#31", confirm_password = "Focaccia#31" } })
        or post("/me/email", { email = "e@test.example", password = WRONG }, own.access_token)
      check.status(answer, 400, "WRONG_PASSWORD")
    end
    limited(client.delete(AUTH .. "/me", { token = own.access_token, body = { password = GOOD } }))
  end },

  { "register, forgot and reset: 20 an address each", function()
    fresh()
    local function body(i)
      return { name = "x", email = ("r%d@test.example"):format(i), password = "weak", token = "t" }
    end
    for _, path in ipairs { "/register", "/forgot-password", "/reset-password" } do
      for i = 1, 20 do
        local answer = post(path, body(i))
        check.equal(answer.headers["x-ratelimit-limit"], "20", path)
        check.truthy(answer.status ~= 429, path)
      end
      limited(post(path, body(21)))
    end
  end },
}
