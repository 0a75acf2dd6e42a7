-- The server's wall clock jumps: deadlines are monotonic, what expires does so by PostgreSQL
-- and Redis.  Not in the build with sanitizers (clock.sh).
-- only: release
-- serve: --workers 2
-- before: clock.sh
-- env: BCRYPT_COST=4

local cjson  = require "cjson"
local check  = require "check"
local client = require "client"
local storm  = require "storm"

local DAY <const>  = 24 * 3600
local AUTH <const> = "/api/v1/auth"

if not os.getenv "CLOCK_SHIFT" then return { { "the clock of this build cannot be set", function() end } } end

local function shift(seconds)
  local f = assert(io.open(os.getenv "CLOCK_SHIFT", "r+b"))
  f:write(("<i8"):pack(seconds))
  f:close()
end

local function workers() return client.shell("pgrep -P " .. os.getenv "TEST_SERVER_PID") end

--- The day that the server takes for today.
local function servers_day()
  return check.status(client.get "/health", 200).json().timestamp:sub(1, 10)
end

local buyer = storm.people(1)[1]
local bun   = storm.products(1, 1000)[1]

local function sessions(condition)
  return storm.number("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND " .. condition)
end

--- A request that waits in PostgreSQL until the function is called.
local function held_order(key)
  client.shell(("psql -Xq '%s' -c \"BEGIN; SELECT 1 FROM products WHERE id = '%s' FOR UPDATE; SELECT pg_sleep(600)\" >%s 2>&1 &")
    :format(os.getenv "DATABASE_URL", bun, os.getenv "TEST_WORK" .. "/holder"))
  client.eventually(20, "the holder's lock", function() return sessions "wait_event = 'PgSleep'" == 1 end)
  local request = storm.order(buyer, storm.one(bun), key)
  local c = client.connect()
  c:send(client.format(request[1], request[2], request[3]))
  client.eventually(20, "the order waits", function() return sessions "wait_event_type = 'Lock'" > 0 end)
  return c, function()
    client.sql "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'"
  end
end

local function new_account(email)
  return check.status(client.post(AUTH .. "/register", { body = { name = "Clock", email = email, password = "Crumb-les!42" } }),
                      201).json().data
end

--- All that lasts for a time, made before the jump and used after it.
local function across(name, seconds)
  return function()
    local account, before = new_account(name .. "@example.com"), workers()
    check.status(client.post(AUTH .. "/forgot-password", { body = { email = name .. "@example.com" } }), 200)
    local token = cjson.decode(client.sql(("SELECT payload FROM outbox WHERE aggregate_id = '%s' AND topic = 'user.password_reset'")
                                          :format(account.user.id))).token
    local code = storm.promo { discount_type = "percent", amount = 10 }
    local first = storm.send(storm.order(buyer, storm.one(bun), name))
    local idle = client.connect()
    check.status(client.get("/api/v1/store", { on = idle }), 200)
    local waiting, free = held_order(name .. "-held")

    local today = servers_day()
    shift(seconds)
    check.truthy(servers_day() ~= today, "the server's clock jumped")
    free()
    check.status(waiting:answer "POST", 201)
    waiting:close()
    for _ = 1, 20 do check.status(client.get("/api/v1/store", { on = idle }), 200) end
    idle:close()

    check.status(client.get(AUTH .. "/me", { token = account.access_token }), 200)
    local again = storm.send(storm.order(buyer, storm.one(bun), name))
    check.equal(again.headers["idempotency-replayed"], "true")
    check.equal(again.body, first.body)
    check.equal(client.get("/api/v1/promo/validate?order_amount=20&code=" .. code).json().data.valid, true)
    local order = storm.placed(storm.order(buyer, storm.one(bun), name .. "-after"))
    check.equal(storm.number("SELECT count(*) FROM orders WHERE id = '%s' AND created_at BETWEEN now() - interval '1 hour' AND now() "
                             .. "AND pickup_at BETWEEN created_at - interval '1 second' AND created_at + interval '7 days'", order.id), 1, "times of the order")
    local renewed = check.status(client.post(AUTH .. "/refresh", { body = { refresh_token = account.refresh_token } }), 200).json().data
    check.status(client.get(AUTH .. "/me", { token = renewed.access_token }), 200)
    check.status(client.post(AUTH .. "/reset-password", { body = { token = token, password = "Sour*dough77" } }), 200)
    check.status(client.post(AUTH .. "/login", { body = { email = name .. "@example.com", password = "Sour*dough77" } }), 200)
    check.equal(workers(), before, "the workers")
    shift(0)
  end
end

return storm.tests {
  { "forty days on", across("later", 40 * DAY) },
  { "forty days back", across("earlier", -40 * DAY) },
}
