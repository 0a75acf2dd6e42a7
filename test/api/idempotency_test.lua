-- Idempotency-Key: one effect and one answer, byte for byte, over two workers.
-- serve: --workers 2

local check  = require "check"
local client = require "client"

client.sql [[
  CREATE TABLE test_effects (id integer GENERATED ALWAYS AS IDENTITY, n integer);
  GRANT SELECT, INSERT ON test_effects TO app_user]]

local number = 0

local function new_key()
  number = number + 1
  return "key " .. number
end

local function post(path, body, key, options)
  options = options or {}
  local headers = { ["Idempotency-Key"] = key }
  for name, value in pairs(options.headers or {}) do headers[name] = value end
  return client.post(path, { body = body, headers = headers, token = options.token, on = options.on })
end

local function effects() return tonumber(client.sql "SELECT count(*) FROM test_effects") end

--- How many effects fn has.
local function effects_of(fn)
  local before = effects()
  fn()
  return effects() - before
end

return {
  { "the same request again: the same answer, no second effect", function()
    local key, first = new_key(), nil
    check.equal(effects_of(function()
      first = check.status(post("/work", { n = 1 }, key), 201)
      check.equal(first.headers["idempotency-replayed"], nil)
      check.matches(first.body, '^{"success":true,"data":{"id":%d+,"n":1},"message":"Done"}$')
      for _ = 1, 5 do
        local again = check.status(post("/work", { n = 1 }, key), 201)
        check.equal(again.body, first.body)
        check.equal(again.headers["idempotency-replayed"], "true")
        check.equal(again.headers["content-type"], first.headers["content-type"])
      end
    end), 1)
  end },

  { "without a key each request is one", function()
    check.equal(effects_of(function()
      check.status(client.post("/work", { body = { n = 1 } }), 201)
      check.status(client.post("/work", { body = { n = 1 } }), 201)
    end), 2)
  end },

  { "50 at once have one effect; each gets the answer or 409 at once", function()
    local key, all, bodies, good = new_key(), {}, {}, 0
    check.equal(effects_of(function()
      local bytes = client.format("POST", "/work", { body = { n = 3 }, headers = { ["Idempotency-Key"] = key } })
      for i = 1, 50 do all[i] = client.connect() end
      for i = 1, 50 do all[i]:send(bytes) end
      for i = 1, 50 do
        local answer = all[i]:answer("POST")
        if answer.status == 409 then
          check.status(answer, 409, "IDEMPOTENCY_IN_FLIGHT")
          check.equal(answer.headers["retry-after"], "1")
        else
          check.status(answer, 201)
          good, bodies[answer.body] = good + 1, true
        end
        all[i]:close()
      end
    end), 1)
    check.truthy(good >= 1 and next(bodies, next(bodies)) == nil, "one answer")
  end },

  { "while the first is under way the others are told so", function()
    local key, c = new_key(), client.connect()
    c:send(client.format("POST", "/work", { body = { n = 4, how = "wait" }, headers = { ["Idempotency-Key"] = key } }))
    client.eventually(20, "the first runs", function() return client.redis("GET", "started") == "1" end)
    for _ = 1, 6 do
      local answer = check.status(post("/work", { n = 4, how = "wait" }, key), 409, "IDEMPOTENCY_IN_FLIGHT")
      check.equal(answer.headers["retry-after"], "1")
    end
    check.equal(client.sql [[SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
      WHERE d.datname = current_database() AND NOT granted]], "0", "nobody waits for a lock")
    client.redis("SET", "go", "1")
    local first = check.status(c:answer("POST"), 201)
    check.equal(post("/work", { n = 4, how = "wait" }, key).body, first.body)
    c:close()
  end },

  { "another body, or another thing, with the same key is refused", function()
    local key = new_key()
    check.status(post("/work", { n = 1 }, key), 201)
    check.equal(effects_of(function()
      check.status(post("/work", { n = 2 }, key), 422, "IDEMPOTENCY_MISMATCH")
    end), 0)
    check.status(post("/work/a", { n = 1 }, key), 201)
    check.status(post("/work/b", { n = 1 }, key), 422, "IDEMPOTENCY_MISMATCH")
  end },

  { "the key is the caller's and the route's own", function()
    local key = new_key()
    local a = client.session("customer", "00000000-0000-0000-0000-000000000003")
    local b = client.session("customer", "00000000-0000-0000-0000-000000000004")
    local bodies, count = {}, 0
    check.equal(effects_of(function()
      for _, who in ipairs {
        { token = a }, { token = b }, {}, { headers = { ["X-Session-Id"] = "one" } },
        { headers = { ["X-Session-Id"] = "two" } }, { email = "a@example.com" }, { email = "b@example.com" },
      } do
        local answer = check.status(post("/work", { n = 1, guest_email = who.email }, key, who), 201)
        check.truthy(not bodies[answer.body], "nobody else's answer")
        bodies[answer.body], count = true, count + 1
      end
      check.status(post("/other", { n = 1 }, key, { token = a }), 201)
    end), count + 1)
  end },

  { "a refused or failed request leaves the key free", function()
    for how, status in pairs { refuse = 409, raise = 500 } do
      for _ = 1, 10 do              -- at once: the failed one is rolled back when its answer comes
        local key = new_key()
        check.status(post("/work", { n = 1, how = how }, key), status)
        check.equal(effects_of(function() check.status(post("/work", { n = 2 }, key), 201) end), 1)
      end
    end
    local key = new_key()
    check.status(post("/work", { n = 0 }, key), 400, "VALIDATION_ERROR")
    check.status(post("/work", { n = 1, how = "bad" }, key), 400)
    check.status(post("/work", { n = 1 }, key), 201)
  end },

  { "bare answers and other statuses replay, too", function()
    local key = new_key()
    local first = check.status(post("/work", { n = 1, how = "accept" }, key), 202)
    check.matches(first.body, '^{"id":%d+}$')
    local again = check.status(post("/work", { n = 1, how = "accept" }, key), 202)
    check.equal(again.body, first.body)
  end },

  { "statements in the caller's own batches", function()
    local key = new_key()
    check.equal(effects_of(function()
      local first = check.status(post("/batched", {}, key), 201)
      check.equal(first.body, '{"success":true,"data":{"n":7}}')
      check.equal(post("/batched", {}, key).headers["idempotency-replayed"], "true")
      check.status(post("/batched", { n = 1 }, key), 422, "IDEMPOTENCY_MISMATCH")
    end), 1)
    check.equal(client.post("/batched", { json = "{}" }).body, '{"success":true,"data":{"n":7}}')
  end },

  { "keys are 1 to 128 printable characters", function()
    for _, key in ipairs { "", ("k"):rep(129), "a\tb", "caf\xc3\xa9" } do
      local body = check.status(post("/work", { n = 1 }, key), 400, "VALIDATION_ERROR").json()
      check.truthy(body.fields["Idempotency-Key"], "the field")
    end
    check.status(post("/work", { n = 1 }, ("~"):rep(128)), 201)
  end },

  { "after a day the key is free, and cleaned away", function()
    local key = new_key()
    check.status(post("/work", { n = 1 }, key), 201)
    client.sql("UPDATE idempotency_keys SET expires_at = now() WHERE key = '" .. key .. "'")
    check.equal(effects_of(function()
      check.equal(check.status(post("/work", { n = 2 }, key), 201).headers["idempotency-replayed"], nil)
    end), 1)
    check.equal(post("/work", { n = 2 }, key).headers["idempotency-replayed"], "true")
    client.sql "UPDATE idempotency_keys SET expires_at = now()"
    check.truthy(client.post("/clean").json().data >= 1, "some are cleaned")
    check.equal(client.sql "SELECT count(*) FROM idempotency_keys", "0")
  end },
}
