-- /metrics: figures of all workers, for who has the token, or on a port of their own.
-- serve: --workers 2
-- env: METRICS_TOKEN=a-token-for-tests
-- env: METRICS_PORT=0

local check  = require "check"
local client = require "client"

local CAKE <const> = "/api/v1/products/10000000-0000-0000-0000-000000000001"

local function read()
  local answer = check.status(client.get("/metrics", { token = "a-token-for-tests" }), 200)
  check.matches(answer.headers["content-type"], "^text/plain; version=0.0.4")
  local values = {}
  for line in answer.body:gmatch "[^\n]+" do
    if line:sub(1, 1) ~= "#" then
      local name, value = line:match "^(%S+{.*}) (%S+)$"
      if not name then name, value = line:match "^(%S+) (%S+)$" end
      values[check.truthy(name, "a line of the format: " .. line)] = check.truthy(tonumber(value), line)
    end
  end
  return values, answer.body
end

local function answers(values, route, class)
  return values['omade_http_answers_total{route="' .. route .. '",class="' .. class .. '"}'] or 0
end

--- A request to METRICS_PORT, where openapi.json describes the figures and no refusal.
local function on_private(method, path, options)
  local file = assert(io.open(os.getenv "TEST_SERVER_LOG"))
  local host, port = file:read("a"):match "figures at /metrics host=(%S+) port=(%d+)"
  file:close()
  check.equal(host, "127.0.0.1")
  local public = client.port
  client.port = tonumber(port)
  options = options or {}
  options.undescribed = path ~= "/metrics" or method == "POST"
  local ok, answer = pcall(client.request, method, path, options)
  client.port = public
  if not ok then error(answer, 0) end
  return answer
end

return {
  { "on the private port: without a token, and nothing else", function()
    local answer = check.status(on_private("GET", "/metrics"), 200)
    check.matches(answer.headers["content-type"], "^text/plain; version=0.0.4")
    check.matches(answer.body, "omade_http_answers_total")
    local _, text = read()
    local function names(body)
      local list = {}
      for name in body:gmatch "# TYPE (%S+)" do list[#list + 1] = name end
      return table.concat(list, " ")
    end
    check.equal(names(answer.body), names(text))
    check.equal(check.status(on_private("HEAD", "/metrics"), 200).body, "")
    check.status(on_private("GET", "/api/v1/products"), 404)
    check.status(on_private("POST", "/metrics"), 404)
    check.status(on_private("POST", "/metrics", { body = "x" }), 413)
    check.status(on_private("GET", "/"), 404)
  end },

  { "a private port that is taken stops the start", function()
    local out, ok = client.shell('METRICS_PORT=' .. client.port .. ' "$(readlink -f /proc/$TEST_SERVER_PID/exe)" '
                                 .. 'serve "$TEST_APP" --host 127.0.0.1 --port 0')
    check.truthy(not ok, "serve")
    check.matches(out, "METRICS_PORT: cannot listen on 127.0.0.1, port " .. client.port)
  end },

  { "only with the token", function()
    check.status(client.get "/metrics", 401)
    check.status(client.get("/metrics", { token = "another" }), 401)
  end },

  { "answers by route and class, summed over the workers", function()
    local before = read()
    for _ = 1, 40 do check.status(client.get(CAKE), 200) end
    for _ = 1, 7 do client.get "/api/v1/products/banana" end
    for _ = 1, 5 do client.get "/no/such/path" end
    local show = "GET /api/v1/products/:id"
    local after
    client.eventually(10, "all are counted", function()      -- an answer is counted once it is sent
      after = read()
      return answers(after, show, "2xx") - answers(before, show, "2xx") >= 40
        and answers(after, show, "4xx") - answers(before, show, "4xx") >= 7
        and answers(after, "none", "4xx") - answers(before, "none", "4xx") >= 5
    end)
    check.equal(answers(after, show, "2xx") - answers(before, show, "2xx"), 40)
    check.equal(answers(after, show, "4xx") - answers(before, show, "4xx"), 7)
    check.equal(answers(after, "none", "4xx") - answers(before, "none", "4xx"), 5)
    local count = after.omade_http_answer_seconds_count
    check.equal(after['omade_http_answer_seconds_bucket{le="+Inf"}'], count)
    check.truthy(count - before.omade_http_answer_seconds_count >= 52, "the histogram counts all")
    check.truthy(after.omade_http_answer_seconds_sum > 0, "time")
    local last = 0
    for _, le in ipairs { "0.00025", "0.001", "0.01", "0.1", "1", "5", "+Inf" } do
      local n = after['omade_http_answer_seconds_bucket{le="' .. le .. '"}']
      check.truthy(n >= last, "buckets grow")
      last = n
    end
  end },

  { "each worker's pools, Redis, memory", function()
    check.equal(read().omade_workers, 2)
    client.eventually(10, "both have measured", function()
      local values = read()
      for _, worker in ipairs { "1", "2" } do
        local label = '{worker="' .. worker .. '"}'
        if values["omade_redis_up" .. label] ~= 1 then return false end
        if values["omade_resident_bytes" .. label] < 1000000 then return false end
        if values["omade_lua_heap_bytes" .. label] < 100000 then return false end
        if values["omade_pg_connections_idle" .. label] < 1 then return false end
      end
      return true
    end)
  end },

  { "every series is described once, and none comes twice", function()
    local _, text = read()
    local seen = {}
    for line in text:gmatch "[^\n]+" do
      local key = line:match "^# TYPE %S+" or line:match "^# HELP %S+" or line:match "^(.*) %S+$"
      check.truthy(not seen[key], key)
      seen[key] = true
    end
  end },

  { "a worker that is killed goes on counting where it was", function()
    local before = read()
    local workers = client.shell "pgrep -P $TEST_SERVER_PID"
    client.shell("kill -9 " .. workers:match "%d+")
    client.eventually(20, "two workers again", function()
      return select(2, client.shell("pgrep -P $TEST_SERVER_PID"):gsub("%d+", "")) == 2
    end)
    check.status(on_private("GET", "/metrics"), 200)
    local after = read()
    check.truthy(after.omade_http_answer_seconds_count >= before.omade_http_answer_seconds_count, "no step back")
  end },
}
