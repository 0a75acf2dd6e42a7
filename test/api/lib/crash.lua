--- Orders in the middle of faults: sent with keys, counted, and asked for again.

local check  = require "check"
local client = require "client"
local storm  = require "storm"

local crash = {}

crash.CLIENTS = 24

local buyers = storm.people(crash.CLIENTS)
local buns   = storm.products(4, 100000)
local sent   = {}     -- key -> {request, body of the answer if it was acknowledged}

local ids = {}
for i, buyer in ipairs(buyers) do ids[i] = "'" .. buyer.id .. "'" end
local ORDERS <const> = "SELECT count(*) FROM orders WHERE user_id IN (" .. table.concat(ids, ", ") .. ")"

---- Orders under way ---------------------------------------------------------------------------------

local function begin(round, i)
  local key = ("crash-%s-%d"):format(round, i)
  local items = { storm.one(buns[1 + i % 4], 2), storm.one(buns[1 + (i + 1) % 4]) }
  local request = storm.order(buyers[i], { items = items }, key)
  local connection = client.connect()
  connection:send(client.format(request[1], request[2], request[3]))
  sent[key] = { request = request }
  return { connection = connection, entry = sent[key] }
end

--- An answer, or "none" when the connection broke.
local function finish(call, outcomes)
  local ok, answer = pcall(call.connection.answer, call.connection, "POST")
  call.connection:close()
  local status = ok and answer and answer.status or "none"
  outcomes[status] = (outcomes[status] or 0) + 1
  if status == 201 then
    call.entry.body = answer.body
  else
    check.truthy(status == "none" or status == 503, "a failure is a 503: " .. tostring(ok and answer and answer.body))
  end
end

--- Orders by all clients, and a fault among them.
---@param name string another one for each round
---@param outcomes table<integer|"none", integer> answers by status; is added to
---@param fault? fun()
function crash.round(name, outcomes, fault)
  local calls = {}
  for i = 1, crash.CLIENTS do
    calls[i] = begin(name, i)
    if fault and i == crash.CLIENTS // 2 then fault() end
  end
  for _, call in ipairs(calls) do finish(call, outcomes) end
end

--- Orders by all clients, who are gone at any moment of it.
---@param name string another one for each round
function crash.abandon(name)
  for i = 1, crash.CLIENTS do
    local connection = begin(name, i).connection
    client.sleep(math.random() * 0.01)
    if i % 2 == 0 then connection.socket:setoption("linger", { on = true, timeout = 0 }) end      -- a reset
    connection:close()
  end
end

---- Afterwards ------------------------------------------------------------------------------------------

--- What a key's answer tells of is there, whole: the order with the lines, the history and
--- the message that were written with it.
local WHOLE <const> = [[
  SELECT count(*) FROM idempotency_keys k
    JOIN orders o ON o.id = (convert_from(k.body, 'UTF8')::jsonb -> 'data' ->> 'id')::uuid
   WHERE k.key LIKE 'crash-%%' AND o.status = 'pending'
     AND (SELECT count(*) = 2 AND sum(quantity) = 3 AND sum(subtotal) = o.total_amount
            FROM order_items WHERE order_id = o.id)
     AND (SELECT count(*) = 1 FROM order_status_history WHERE order_id = o.id AND status = 'pending')
     AND (SELECT count(*) = 1 FROM outbox WHERE aggregate_id = o.id AND topic = 'order.created')]]

--- Asks for all again with their keys; then each is there once, and whole.
---@param outcomes table to be told of
function crash.check_keys(outcomes)
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
  check.equal(storm.number(ORDERS), keys, "orders")
  check.equal(storm.number("SELECT count(*) FROM idempotency_keys WHERE key LIKE 'crash-%%'"), keys, "keys")
  check.equal(storm.number(WHOLE), keys, "whole orders")
  local parts = {}
  for status, count in pairs(outcomes) do parts[#parts + 1] = count .. " x " .. status .. "; " end
  print(("# %sasked again: %d kept, %d committed unheard, %d never placed")
    :format(table.concat(parts), again.kept, again.late, again.new))
end

return crash
