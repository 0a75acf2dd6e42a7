-- PostgreSQL killed with SIGKILL in the middle of orders, and started again: no request hangs,
-- all recover by themselves, and no order is half there, lost after its answer, or there twice.
-- What is said of time is promised ten times faster (reliability.md, "Faults and promises").
-- serve: --workers 2
-- postgres: own
-- before: quick.sh
-- env: SCRIPT_LOAD_CPU=20000
-- env: SCRIPT_CPU=5000
-- env: SCRIPT_REQUEST_CPU=20000
-- env: HEARTBEAT_CPU=10000

local check  = require "check"
local client = require "client"
local crash  = require "crash"
local storm  = require "storm"

local CAKE <const> = "/api/v1/products/10000000-0000-0000-0000-000000000001"
local LIST <const> = "/api/v1/products?limit=1"
local POSTGRES <const> = "bash " .. debug.getinfo(1, "S").source:match "^@(.*/)" .. "own_postgres.sh "

local CLUSTER_LOG <const> = os.getenv "TEST_WORK" .. "/cluster/postgres.log"
local SERVER_LOG <const>  = os.getenv "TEST_SERVER_LOG"

local SCALE <const> = tonumber(os.getenv "OMADE_TIME_SCALE")
local ANSWERED <const>, AT_ONCE <const>, BACK <const> = 50 * SCALE, 10 * SCALE, 10 * SCALE  -- seconds: ten times the promise

local buyer = storm.people(1)[1]
local bun   = storm.products(1, 1000)[1]

client.timeout = ANSWERED

local function postgres(what)
  local out, ok = client.shell(POSTGRES .. what)
  if not ok then error(out, 2) end
end

local function count(file, words)
  local n = 0
  for line in io.lines(file) do if line:find(words, 1, true) then n = n + 1 end end
  return n
end

--- Orders without a pause, until they notice the fault, which comes at any moment of theirs.
local function order_through(name, fault)
  local outcomes, waves = {}, 0
  local killer = assert(io.popen(("sleep 0.%d; %s%s 2>&1"):format(math.random(0, 4), POSTGRES, fault)))
  repeat
    waves = waves + 1
    check.truthy(waves < 500, name .. " was noticed")
    crash.round(name .. waves, outcomes)
  until outcomes[503]
  check.equal(killer:read "a", "")
  killer:close()
  check.equal(outcomes.none, nil, "requests without an answer")
  return outcomes
end

local function while_it_is_away()
  client.timeout = AT_ONCE
  for i = 1, 10 do
    local answer = storm.send(storm.order(buyer, storm.one(bun), "away-" .. i))
    check.truthy(check.status(answer, 503, "UNAVAILABLE").headers["retry-after"], "Retry-After")
    check.status(client.get(LIST), 503, "UNAVAILABLE")
    check.status(client.get(CAKE), 200)                   -- is in Redis
    check.status(client.get "/ready", 200)
  end
  check.equal(check.status(client.get "/health", 503).json().status, "unhealthy")
  client.timeout = ANSWERED
end

--- Health tells of one connection; those for transactions may be a moment behind it.
local function after_its_return(name)
  local round = 0
  client.eventually(BACK, "orders after its return", function()
    local outcomes = {}
    round = round + 1
    crash.round(name .. "-after-" .. round, outcomes)
    return outcomes[201] == crash.CLIENTS
  end)
  storm.placed(storm.order(buyer, storm.one(bun), "away-1"))
end

--- Killed by `fault`, and started again.
local function killed(fault)
  return function()
    check.status(client.get(CAKE), 200)
    local outcomes = order_through(fault, fault)
    client.eventually(AT_ONCE, "503", function() return client.get(LIST).status == 503 end)
    while_it_is_away()
    postgres "start"
    client.all_healthy(BACK)
    after_its_return(fault)
    crash.check_keys(outcomes)
  end
end

client.all_healthy()

return storm.tests {
  { "all of it at once", killed "kill" },
  { "its first process, the others end when they notice", killed "orphan" },
  { "no connection is let in: one of a worker's tries, and the log does not fill", function()
    local name = client.sql "SELECT current_database()"
    local other = os.getenv("DATABASE_URL"):gsub("/" .. name, "/postgres")
    local function sql(text)
      local out, ok = client.shell(("psql -XqAt '%s' -c \"%s\""):format(other, text))
      if not ok then error(out, 2) end
    end
    local refused, told = count(CLUSTER_LOG, "not currently accepting"), count(SERVER_LOG, "cannot be reached")
    sql("ALTER DATABASE " .. name .. " ALLOW_CONNECTIONS false")
    sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '" .. name .. "'")
    client.eventually(AT_ONCE, "503", function() return client.get(LIST).status == 503 end)
    local began, asked = client.now(), 0
    while client.now() < began + 4 do        -- whoever asks waits for no try, and causes none
      check.status(client.get(LIST), 503, "UNAVAILABLE")
      asked = asked + 1
      client.sleep(0.005)
    end
    local seconds = client.now() - began
    refused, told = count(CLUSTER_LOG, "not currently accepting") - refused, count(SERVER_LOG, "cannot be reached") - told
    print(("# %d requests in %.1f s; %d tries to connect, %d lines of the log"):format(asked, seconds, refused, told))
    sql("ALTER DATABASE " .. name .. " ALLOW_CONNECTIONS true")
    client.all_healthy(BACK)
    -- two workers, each with two that try twice a second: the pool's one, and the one that listens
    check.truthy(refused <= 2 * (8 + 6 * seconds), "tries: " .. refused)
    check.truthy(told <= 4, "lines: " .. told)
  end },

  { "one of its processes: it starts again by itself", function()
    local outcomes = order_through("backend", "backend")
    client.all_healthy()
    after_its_return "backend"
    crash.check_keys(outcomes)
  end },
}
