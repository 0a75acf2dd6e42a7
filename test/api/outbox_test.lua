-- The outbox: exactly what was committed arrives, in order, whatever fails and whoever dies.
-- serve: --workers 2
-- port: RECEIVER_PORT
-- env: OUTBOX_DRIVER=webhook
-- env: OUTBOX_WEBHOOK_URL=http://127.0.0.1:@RECEIVER_PORT@/hook
-- env: OUTBOX_WEBHOOK_SECRET=top-secret
-- env: OUTBOX_TIMEOUT=1
-- env: OUTBOX_RETRY_SECONDS=0

local cjson  = require "cjson"
local check  = require "check"
local client = require "client"

local OUTBOX <const> = "/api/v1/admin/outbox"
local CUPCAKES <const> = "10000000-0000-0000-0000-000000000002"
local HOME <const>, WORK <const> = os.getenv "OMADE_HOME", os.getenv "TEST_WORK"

local staff = client.session("staff", client.sql "SELECT id FROM users WHERE role = 'staff' ORDER BY id LIMIT 1")
local admin = client.session("admin", client.sql "SELECT id FROM users WHERE role = 'admin' LIMIT 1")

local function value(sql, ...) return client.sql((sql:format(...))) end

---- The receiver -----------------------------------------------------------------------------------

local log = WORK .. "/received.jsonl"
local receiver

local function stop()
  if receiver then client.shell("kill " .. receiver) end
  receiver = nil
end

local function start(delay, failures, refused)
  stop()
  receiver = client.shell(("lua5.4 '%s/test/api/lib/receiver.lua' %s '%s' %s %s '%s' >/dev/null 2>&1 & echo $! | tee $TEST_WORK/receiver.pid")
    :format(HOME, os.getenv "RECEIVER_PORT", log, delay, failures, refused or ""))
end

--- What arrived: {begun, ended, status, signature, message}, in the order of arrival.
local function received()
  local list, file = {}, io.open(log)
  for line in file and file:lines() or function() end do
    local one = cjson.decode(line)
    one.message = cjson.decode(one.body)
    list[#list + 1] = one
  end
  if file then file:close() end
  table.sort(list, function(a, b) return a.begun < b.begun end)
  return list
end

local function all_sent()
  client.eventually(120, "all is sent", function()
    return value "SELECT count(*) FROM outbox WHERE sent_at IS NULL AND failed_at IS NULL" == "0"
  end)
end

--- {[id] = the id before it of the same aggregate}.
local function predecessors()
  local before = {}
  for id, earlier in client.sql [[SELECT id || '<' || lag(id) OVER (PARTITION BY aggregate_id ORDER BY id)
      FROM outbox]]:gmatch "(%d+)<(%d+)" do
    before[tonumber(id)] = tonumber(earlier)
  end
  return before
end

--- No message twice at the same time, and none before the one before it was taken.
local function check_order(list)
  local last, taken, predecessor = {}, {}, predecessors()
  for _, one in ipairs(list) do
    local id = one.message.id
    check.truthy(not last[id] or last[id] <= one.begun, id .. " was sent twice at once")
    last[id] = one.ended
    local before = predecessor[id]
    check.truthy(not before or taken[before], id .. " came before " .. tostring(before))
    if one.status == 200 then taken[id] = true end
  end
  return taken
end

local function new_id() return value "SELECT gen_random_uuid()" end

return {
  { "a storm of orders, a receiver that fails at random", function()
    value("UPDATE products SET stock = 60 WHERE id = '%s'", CUPCAKES)
    value "UPDATE outbox SET sent_at = now() WHERE sent_at IS NULL"
    start(0.01, 0.3)
    local requests = {}
    for i = 1, 40 do
      requests[i] = { "POST", "/api/v1/orders", { body = { items = { { product_id = CUPCAKES, quantity = 2 } },
        guest_name = "Greta Guest", guest_email = "greta" .. i .. "@example.com" } } }
    end
    local orders, moves = {}, {}
    for _, answer in ipairs(client.parallel(requests)) do
      if answer.status == 201 then orders[#orders + 1] = answer.json().data end
    end
    check.equal(#orders, 30)
    for i, order in ipairs(orders) do
      moves[i] = { "PATCH", "/api/v1/orders/" .. order.id .. "/status", { token = staff,
        body = { status = i % 3 == 0 and "cancelled" or "confirmed" } } }
    end
    check.same(client.statuses(client.parallel(moves)), { [200] = 30 })
    all_sent()

    local list = received()
    local taken, topics, failures = check_order(list), {}, 0
    for _, one in ipairs(list) do
      if one.status ~= 200 then failures = failures + 1 end
      if taken[one.message.id] and one.status == 200 then
        topics[one.message.aggregate_id] = (topics[one.message.aggregate_id] or "") .. one.message.topic .. " "
        taken[one.message.id] = nil
      end
    end
    check.truthy(failures > 0, "it failed at times")
    for _, order in ipairs(orders) do check.equal(topics[order.id], "order.created order.status_changed ") end
    local count = 0
    for _ in pairs(topics) do count = count + 1 end
    check.equal(count, 30, "nothing of orders that were refused")
    check.equal(value "SELECT count(*) FROM outbox WHERE failed_at IS NOT NULL", "0")
  end },

  { "each is signed", function()
    local one = received()[1]
    local stamp, mac = one.signature:match "^t=(%d+),v1=(%x+)$"
    check.truthy(math.abs(os.time() - tonumber(stamp)) < 600)
    local file = assert(io.open(WORK .. "/signed", "w"))
    file:write(stamp, ".", one.body)
    file:close()
    check.equal(client.shell("openssl dgst -sha256 -hmac top-secret '" .. WORK .. "/signed' | sed 's/.*= *//'"), mac)
    check.matches(one.message.created_at, "^%d+%-%d+%-%d+T.*Z$")
  end },

  { "what fails too often is given up; others of its kind wait, strangers do not", function()
    start(0, 0, "test.bad")
    local a, b = new_id(), new_id()
    local ids = {}      -- at once: all three wait when the first is tried
    for id in value([[INSERT INTO outbox (aggregate_id, topic, payload) VALUES
        ('%s', 'test.bad', '{"token": "secret-token", "n": 1}'), ('%s', 'test.good', '{}'), ('%s', 'test.good', '{}')
        RETURNING id]], a, a, b):gmatch "%d+" do
      ids[#ids + 1] = tonumber(id)
    end
    local bad, after, other = table.unpack(ids)
    client.eventually(60, "given up", function() return value("SELECT failed_at IS NOT NULL FROM outbox WHERE id = %d", bad) == "t" end)
    all_sent()
    check.equal(value("SELECT attempts || ' ' || last_error FROM outbox WHERE id = %d", bad), "10 the receiver answered 500")
    local first = {}
    local attempts, last_bad = 0, 0
    for _, one in ipairs(received()) do
      first[one.message.id] = first[one.message.id] or one.begun
      if one.message.id == bad then
        attempts, last_bad = attempts + 1, one.ended
        check.equal(one.message.payload.token, "secret-token")
      end
    end
    check.equal(attempts, 10)
    check.truthy(first[other] < last_bad, "others go on")
    check.truthy(first[after] >= last_bad, "the next of the same waits")
    check.equal(value("SELECT payload->>'token' IS NULL AND payload->>'n' = '1' FROM outbox WHERE id = %d", bad), "t")
  end },

  { "the list, and one more try", function()
    for _, token in ipairs { staff, (client.session "customer"), (client.session "rider") } do
      check.status(client.get(OUTBOX, { token = token }), 403, "FORBIDDEN")
      check.status(client.post(OUTBOX .. "/1/retry", { token = token }), 403, "FORBIDDEN")
    end
    check.status(client.get(OUTBOX), 401, "UNAUTHENTICATED")
    local bad = tonumber(value "SELECT id FROM outbox WHERE failed_at IS NOT NULL")
    local function list(query) return check.status(client.get(OUTBOX .. query, { token = admin }), 200).json().data end
    local failed = list "?status=failed"
    check.equal(failed.total, 1)
    check.equal(failed.messages[1].id, bad)
    check.equal(failed.messages[1].status, "failed")
    check.equal(failed.messages[1].last_error, "the receiver answered 500")
    check.equal(list("?status=sent").total + 1, list("").total)
    check.equal(list("?topic=test.good").total, 2)
    check.equal(list("?aggregate_id=" .. failed.messages[1].aggregate_id .. "&status=sent").total, 1)
    check.truthy(check.status(client.get(OUTBOX .. "?status=x&limit=0", { token = admin }), 400).json().fields.status)

    local function retry(id) return client.post(OUTBOX .. "/" .. id .. "/retry", { token = admin }) end
    check.status(retry "x", 400, "VALIDATION_ERROR")
    check.status(retry(999999999), 404, "NOT_FOUND")
    start(0, 0)
    local path = OUTBOX .. "/" .. bad .. "/retry"
    local counts = client.statuses(client.parallel { { "POST", path, { token = admin } }, { "POST", path, { token = admin } } })
    check.same(counts, { [200] = 1, [409] = 1 })
    all_sent()
    check.status(retry(bad), 409, "CONFLICT")
    check.equal(value("SELECT count(*) FROM audit_log WHERE action = 'outbox.retry' AND entity_id = '%d'", bad), "1")
  end },

  { "a token is hidden while it waits, and goes when it is sent", function()
    local id = tonumber(value([[INSERT INTO outbox (aggregate_id, topic, available_at, payload) VALUES ('%s', 'user.password_reset',
      now() + interval '1 hour', '{"email": "a@b.example", "token": "secret-token"}') RETURNING id]], new_id()))
    local answer = check.status(client.get(OUTBOX .. "?status=waiting", { token = admin }), 200)
    check.equal(answer.json().data.total, 1)
    check.truthy(not answer.body:find("secret-token", 1, true), "hidden")
    value("UPDATE outbox SET available_at = now() WHERE id = %d", id)
    all_sent()
    check.equal(value("SELECT payload FROM outbox WHERE id = %d", id), '{"email": "a@b.example"}')
    check.truthy(not io.open(os.getenv "TEST_SERVER_LOG"):read("a"):find("secret-token", 1, true), "not in the log")
  end },

  { "workers killed in the middle lose nothing", function()
    stop()
    value "INSERT INTO outbox (aggregate_id, topic) SELECT gen_random_uuid(), 'test.killed' FROM generate_series(1, 40)"
    start(0.3, 0)
    client.eventually(60, "the first batch is there", function()
      return value "SELECT count(*) FROM outbox WHERE topic = 'test.killed' AND sent_at IS NOT NULL" ~= "0"
    end)
    client.shell("pkill -KILL -P " .. os.getenv "TEST_SERVER_PID")
    all_sent()
    local list = {}
    for _, one in ipairs(received()) do
      if one.message.topic == "test.killed" then list[#list + 1] = one end
    end
    local count = 0
    for _ in pairs(check_order(list)) do count = count + 1 end
    check.equal(count, 40)
    stop()
  end },
}
