-- The bakery while PostgreSQL or Redis is away, and when they come back.
-- serve: --workers 2
-- scale: 4
-- redis: own
-- env: REDIS_TIMEOUT=100
-- env: DB_QUERY_TIMEOUT=1500

local check  = require "check"
local client = require "client"
local redis  = require "own_redis"

local CAKE <const> = "/api/v1/products/10000000-0000-0000-0000-000000000001"
local LIST <const> = "/api/v1/products?limit=3"

--- As postgres would be: nobody is let in, and who is in is thrown out.
local function database_away()
  local name = client.sql "SELECT current_database()"
  local url = os.getenv("DATABASE_URL"):gsub("/" .. name, "/postgres")
  local out, ok = client.shell(("psql -XqAt '%s' -c 'ALTER DATABASE %s ALLOW_CONNECTIONS %s' -c \"SELECT count("
    .. "pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = '%s' AND pid <> pg_backend_pid()\"")
    :format(url, name, "false", name))
  if not ok then error(out) end
end

--- The connections of this database get no answer meanwhile.
local function with_hung_backends(fn)
  local pids = client.sql("SELECT string_agg(pid::text, ' ') FROM pg_stat_activity WHERE "
                          .. "datname = current_database() AND usename = 'app_user'")
  local out, ok = client.shell("kill -STOP " .. pids)
  if not ok then error(out) end
  local good, fault = pcall(fn)
  client.shell("kill -CONT " .. pids)
  if not good then error(fault, 0) end
end

return {
  { "without Redis from the start, the catalogue answers", function()
    check.status(client.get(CAKE), 200)
    check.status(client.get(LIST), 200)
    check.equal(check.status(client.get "/health", 200).json().status, "degraded")
    check.status(client.get("/api/v1/products/stats", { token = "x" }), 503, "UNAVAILABLE")
  end },

  { "Redis comes, goes and comes: nothing but its own routes notices", function()
    redis.start()
    client.all_healthy()
    check.status(client.get("/api/v1/products/stats", { token = "x" }), 401)
    redis.kill()
    for _ = 1, 20 do check.status(client.get(CAKE), 200) end
    check.status(client.get("/api/v1/products/stats", { token = "x" }), 503)
    redis.start()
    client.all_healthy()
  end },

  { "PostgreSQL away: 503 at once, cached reads go on, 200 after its return", function()
    check.status(client.get(CAKE), 200)
    check.status(client.get(CAKE), 200)
    local fill = client.connect()
    for _ = 1, 4 do check.status(client.get(CAKE, { on = fill }), 200) end
    fill:close()
    local reopen = os.getenv "DATABASE_URL"
    database_away()
    client.eventually(20, "503", function() return client.get(LIST).status == 503 end)
    local answer = check.status(client.get(LIST), 503, "UNAVAILABLE")
    check.truthy(answer.headers["retry-after"], "Retry-After")
    check.equal(check.status(client.get "/health", 503).json().status, "unhealthy")
    check.status(client.get(CAKE), 200)
    -- the owner cannot come in either: open it through the server's other database
    local name = reopen:match "/([^/?]+)$" or reopen:match "/([^/?]+)%?"
    local url = reopen:gsub("/" .. name, "/postgres")
    local out, ok = client.shell(("psql -XqAt '%s' -c 'ALTER DATABASE %s ALLOW_CONNECTIONS true'"):format(url, name))
    if not ok then error(out) end
    client.eventually(30, "200 again", function() return client.get(LIST).status == 200 end)
    client.all_healthy()
  end },

  { "PostgreSQL hangs: only who needs it waits, until its deadline; health tells at once", function()
    check.status(client.get(CAKE), 200)
    for _ = 1, 20 do check.status(client.get(LIST), 200) end
    with_hung_backends(function()
      local waiting = client.connect()
      waiting:send(client.format("GET", LIST))
      check.equal(check.status(client.get "/health", 503).json().status, "unhealthy")
      check.status(client.get(CAKE), 200)
      check.status(client.get "/ready", 200)
      waiting.timeout = 0
      check.equal(waiting:more(), nil, "the list's answer comes later")
      waiting.timeout = nil
      check.status(waiting:answer "GET", 504, "TIMEOUT")
      waiting:close()
    end)
    client.eventually(30, "200 again", function() return client.get(LIST).status == 200 end)
    client.all_healthy()
    client.eventually(30, "no open transaction", function()
      return client.sql [[SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
        AND usename = 'app_user' AND state LIKE 'idle in transaction%']] == "0"
    end)
  end },
}
