-- Any allocation of a request may fail: its answer is the right one, 500, 503, or the
-- connection is closed; the worker lives on, and the next request is right.
-- serve: --workers 1
-- env: LOG_LEVEL=info
-- env: WATCH=off

local check  = require "check"
local client = require "client"

local supervisor = os.getenv "TEST_SERVER_PID"
local admin      = client.session "admin"
local product    = client.sql "SELECT id FROM products WHERE archived_at IS NULL ORDER BY name LIMIT 1"

local function worker() return client.shell("pgrep -P " .. supervisor) end

--- One request with a failure planned: its answer, or nil and why there is none.
local function try(kind, after)
  local c = client.connect()
  local options = { headers = { ["X-Omade-Fail-After"] = after }, body = kind.body, token = kind.token,
                    json = kind.json }
  c:send(client.format(kind.method or "GET", kind.path, options))
  local answer, why, rest = c:answer()
  c:close()
  return answer, why, rest
end

local function right(kind, answer)
  return answer.status == kind.status and (not kind.has or answer.body:find(kind.has, 1, true) ~= nil)
end

local function judge(kind, after, answer, why, rest)
  local what = kind.path .. ", failure after " .. after .. ": "
  if answer then
    if answer.status ~= 500 and answer.status ~= 503 and not right(kind, answer) then
      error(what .. answer.head .. answer.body, 0)
    end
  elseif why ~= "closed" then
    error(what .. "no answer: " .. tostring(why) .. " " .. tostring(rest), 0)
  end
  return answer and answer.status or "closed"
end

local function clean(kind) return client.request(kind.method or "GET", kind.path, kind) end

--- The next request is right - at once, or when the connection to PostgreSQL or Redis that
--- the failure took is there again.  True if the planned failure did come.
local function recover(kind, after)
  local answer = clean(kind)
  local failed = answer.headers["x-omade-failed-before"] == "1"

  if answer.status == 503 and kind.status ~= 503 then
    client.eventually(20, kind.path .. " is right again after a failure at " .. after, function()
      answer = clean(kind)
      return answer.status ~= 503
    end)
  end
  if not right(kind, answer) then
    error(kind.path .. ": after a failure at " .. after .. " the next answer is " .. answer.head .. answer.body, 0)
  end
  return failed
end

--- One after the other: every N up to 300, then ever wider steps.
local function every_allocation(kind)
  local seen, pid = {}, worker()
  local after, tried, passes = 0, 0, 0

  if kind.before then kind.before() end
  check.truthy(right(kind, clean(kind)), "it works without a failure")
  while passes < 3 do
    if kind.before then kind.before() end
    local outcome = judge(kind, after, try(kind, after))
    seen[outcome] = (seen[outcome] or 0) + 1
    passes = recover(kind, after) and 0 or passes + 1
    check.equal(worker(), pid, "the worker after a failure at " .. after)
    after = after + (after < 300 and 1 or after // 25)
    tried = tried + 1
    check.truthy(after < 1000000, "an end")
  end
  local words = {}
  for outcome, n in pairs(seen) do words[#words + 1] = outcome .. ": " .. n end
  table.sort(words)
  print("# " .. (kind.name or kind.path) .. ": " .. tried .. " tries; " .. table.concat(words, ", "))
  check.truthy((seen[kind.status] or 0) < tried, "at least one failure shows")
end

local number = 0
local kinds = {
  { path = "/", status = 200, has = "endpoints" },
  { path = "/nowhere", status = 404, has = "ROUTE_NOT_FOUND" },
  { path = "/", method = "DELETE", status = 405, has = "METHOD_NOT_ALLOWED" },
  { path = "/api/v1/products?limit=banana", status = 400, has = '"success":false' },
  { path = "/api/v1/products?limit=5", status = 200, has = '"success":true',
    before = function() client.redis "FLUSHDB" end },
  { path = "/api/v1/products/" .. product, status = 200, has = product, name = "a product from PostgreSQL",
    before = function() client.redis "FLUSHDB" end },
  { path = "/api/v1/products/" .. product, status = 200, has = product, name = "a product from the cache" },
  { path = "/api/v1/products", method = "POST", status = 401, json = "{}", name = "without a session" },
  { path = "/api/v1/products", method = "POST", status = 400, json = '{"name":[[[', token = admin, name = "half JSON" },
  { path = "/api/v1/products", method = "POST", status = 201, has = '"success":true', name = "POST",
    body = { name = "Memory Cake", price = 12.5, category = "cakes", description = ("x"):rep(2000) },
    token = admin, before = function() number = number + 1 end },
}

local tests = {}
for i, kind in ipairs(kinds) do
  tests[i] = { kind.name or (kind.method or "GET") .. " " .. kind.path, function()
    if kind.token then   -- FLUSHDB took the sessions
      admin = client.session "admin"
      kind.token = admin
    end
    every_allocation(kind)
  end }
end

--- The allocations before a request's head is read: a connection is accepted, bytes arrive.
tests[#tests + 1] = { "a new connection", function()
  local kind, pid = kinds[1], worker()
  local failures = 0

  for after = 0, 30 do
    check.status(client.get("/", { headers = { ["X-Omade-Fail-Next"] = after } }), 200)
    local c = client.connect()
    c:send(client.format("GET", "/"))
    local answer, why, rest = c:answer()
    c:close()
    if not answer or answer.headers["x-omade-failed-before"] == "1" then failures = failures + 1 end
    judge(kind, after, answer, why, rest)
    recover(kind, after)
    check.equal(worker(), pid, "the worker after a failure at " .. after)
  end
  print("# a new connection: " .. failures .. " failures")
  check.truthy(failures > 0, "failures")
end }

return tests
