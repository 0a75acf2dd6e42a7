-- Workers killed, PostgreSQL's sessions ended, the database away, all in the middle of
-- orders: each is there wholly or not at all, what was acknowledged exists once, and its
-- Idempotency-Key tells the truth afterwards.
-- serve: --workers 2
-- env: LOG_LEVEL=info

local check  = require "check"
local client = require "client"
local storm  = require "storm"

local CLIENTS <const> = 24

local supervisor = os.getenv "TEST_SERVER_PID"
local buyers = storm.people(CLIENTS)
local buns   = storm.products(4, 100000)

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

---- Orders under way ---------------------------------------------------------------------------------

local sent = {}      -- key -> {request, body of the answer if it was acknowledged}

local function begin(round, i)
  local key = ("crash-%s-%d"):format(round, i)
  local request = storm.order(buyers[i], { items = { storm.one(buns[1 + i % 4], 2), storm.one(buns[1 + (i + 1) % 4]) } }, key)
  local connection = client.connect()
  connection:send(client.format(request[1], request[2], request[3]))
  sent[key] = { request = request }
  return { connection = connection, entry = sent[key] }
end

--- An answer, or nil when the connection broke.
local function finish(call, outcomes)
  local ok, answer = pcall(call.connection.answer, call.connection, "POST")
  call.connection:close()
  local status = ok and answer and answer.status or "none"
  outcomes[status] = (outcomes[status] or 0) + 1
  if status == 201 then call.entry.body = answer.body
  else check.truthy(status == "none" or status == 503, "a failure is a 503: " .. tostring(ok and answer and answer.body)) end
end

--- Orders by all clients, and a fault among them.
local function round(name, outcomes, fault)
  local calls = {}
  for i = 1, CLIENTS do
    calls[i] = begin(name, i)
    if i == CLIENTS // 2 then fault() end
  end
  for _, call in ipairs(calls) do finish(call, outcomes) end
end

--- Asks for all again with their keys; then each is there once.
local function check_keys()
  local keys, again = 0, { kept = 0, late = 0, new = 0 }
  for key, entry in pairs(sent) do
    local answer
    client.eventually(30, "the key " .. key, function()
      answer = storm.send(entry.request)
      return answer.status ~= 409 and answer.status ~= 503
    end)
    check.status(answer, 201)
    local replayed = answer.headers["idempotency-replayed"] == "true"
    if entry.body then
      check.truthy(replayed, "an acknowledged order is replayed")
      check.equal(answer.body, entry.body)
    end
    local kind = entry.body and "kept" or replayed and "late" or "new"
    again[kind] = again[kind] + 1
    keys = keys + 1
  end
  check.equal(storm.number("SELECT count(*) FROM orders WHERE user_id IN (SELECT id FROM users WHERE name LIKE 'Storm %%')"), keys, "orders")
  check.equal(storm.number("SELECT count(*) FROM idempotency_keys WHERE key LIKE 'crash-%%'"), keys, "keys")
  return again
end

local function tell(outcomes, again)
  local parts = {}
  for status, count in pairs(outcomes) do parts[#parts + 1] = count .. " x " .. status end
  print(("# %s; asked again: %d kept, %d committed unheard, %d never placed"):format(table.concat(parts, ", "),
                                                                              again.kept, again.late, again.new))
end

return storm.tests {
  { "workers killed in the middle", function()
    local outcomes = {}
    for n = 1, 5 do
      round("kill" .. n, outcomes, function()
        local list = workers()
        client.shell("kill -9 " .. (n == 5 and table.concat(list, " ") or list[1 + n % 2]))
      end)
      all_well()
    end
    tell(outcomes, check_keys())
  end },

  { "sessions of PostgreSQL ended in the middle, again and again", function()
    local outcomes = {}
    local killer = io.popen("psql -Xq '" .. os.getenv "DATABASE_URL" .. [[' -c "DO \$\$ BEGIN FOR i IN 1..60 LOOP
      PERFORM pg_stat_clear_snapshot(), pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND usename = 'app_user' AND random() < 0.5;
      PERFORM pg_sleep(0.02 + random() * 0.05); END LOOP; END \$\$" 2>&1; echo ended]])
    for n = 1, 8 do round("end" .. n, outcomes, function() end) end
    check.equal(killer:read "a", "ended\n")
    killer:close()
    all_well()
    tell(outcomes, check_keys())
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
      round("away" .. n, outcomes, function() allow "false" end)
      round("gone" .. n, outcomes, function() end)
      allow "true"
      all_well()
    end
    check.truthy(outcomes[503] and outcomes[503] >= 40, "503 while it is away")
    tell(outcomes, check_keys())
  end },
}
