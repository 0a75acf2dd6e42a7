-- Workers killed, clients gone, PostgreSQL's sessions ended, the database away, in the middle of
-- orders: each is there wholly or not at all, what was acknowledged exists once, and its
-- Idempotency-Key tells the truth afterwards.
-- serve: --workers 2
-- env: LOG_LEVEL=info

local check  = require "check"
local client = require "client"
local crash  = require "crash"
local storm  = require "storm"

local supervisor = os.getenv "TEST_SERVER_PID"

local function workers()
  local list = {}
  for pid in client.shell("pgrep -P " .. supervisor):gmatch "%d+" do list[#list + 1] = pid end
  return list
end

local function all_well()
  client.eventually(60, "two workers that answer", function()
    if #workers() ~= 2 then return false end
    for _ = 1, 10 do if client.get("/api/v1/products?limit=1").status ~= 200 then return false end end
    return true
  end)
end

return storm.tests {
  { "workers killed in the middle", function()
    local outcomes = {}
    for n = 1, 5 do
      crash.round("kill" .. n, outcomes, function()
        local list = workers()
        client.shell("kill -9 " .. (n == 5 and table.concat(list, " ") or list[1 + n % 2]))
      end)
      all_well()
    end
    crash.check_keys(outcomes)
  end },

  { "clients gone in the middle", function()
    for n = 1, 4 do crash.abandon("gone" .. n) end
    all_well()
    crash.check_keys {}
  end },

  { "sessions of PostgreSQL ended in the middle, again and again", function()
    local outcomes = {}
    local killer = io.popen("psql -Xq '" .. os.getenv "DATABASE_URL" .. [[' -c "DO \$\$ BEGIN FOR i IN 1..60 LOOP
      PERFORM pg_stat_clear_snapshot(), pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND usename = 'app_user' AND random() < 0.5;
      PERFORM pg_sleep(0.02 + random() * 0.05); END LOOP; END \$\$" 2>&1; echo ended]])
    for n = 1, 8 do crash.round("end" .. n, outcomes) end
    check.equal(killer:read "a", "ended\n")
    killer:close()
    all_well()
    crash.check_keys(outcomes)
  end },

  { "the database away in the middle, and back", function()
    local outcomes, name = {}, client.sql "SELECT current_database()"
    local url = os.getenv("DATABASE_URL"):gsub("/" .. name, "/postgres")
    local function allow(yes)
      local out, ok = client.shell(("psql -XqAt '%s' -c 'ALTER DATABASE %s ALLOW_CONNECTIONS %s' -c \"SELECT count("
        .. "pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = '%s' AND pid <> pg_backend_pid()\"")
        :format(url, name, yes, name))
      if not ok then error(out) end
    end
    for n = 1, 2 do
      crash.round("away" .. n, outcomes, function() allow "false" end)
      crash.round("still" .. n, outcomes)
      allow "true"
      all_well()
    end
    check.truthy(outcomes[503] and outcomes[503] >= 40, "503 while it is away")
    crash.check_keys(outcomes)
  end },
}
