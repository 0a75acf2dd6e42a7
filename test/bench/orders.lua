-- For orders.sh: one process of clients.  Orders on keep-alive connections for some seconds;
-- prints how many, and the answers that were no order.
--
--   orders.lua CLIENTS SECONDS hot|uniform TOKEN...

local client = require "client"

require("contract").document = nil      -- the clients have no time to check answers

local count, seconds, kind = tonumber(arg[1]), tonumber(arg[2]), arg[3]
local tokens = table.move(arg, 4, #arg, 1, {})
local products = {}
for id in client.sql("SELECT id FROM products WHERE name LIKE 'Bench %' ORDER BY id"):gmatch "%S+" do
  products[#products + 1] = id
end

local function request(i)
  local product = kind == "hot" and products[1] or products[math.random(#products)]
  return client.format("POST", "/api/v1/orders", { token = tokens[1 + i % #tokens],
    headers = { ["Idempotency-Key"] = ("%x-%x"):format(math.random(1 << 60), i) },
    body = { items = { { product_id = product, quantity = 1 } } } })
end

math.randomseed()
local connections, sent = {}, 0
local function send(i)
  connections[i]:send(request(sent))
  sent = sent + 1
end
for i = 1, count do
  connections[i] = client.connect()
  send(i)
end

local ends, good, bad = client.now() + seconds, 0, 0
while client.now() < ends do
  for i = 1, count do
    local answer = assert(connections[i]:answer "POST")
    if answer.status == 201 then good = good + 1 else bad = bad + 1 end
    send(i)
  end
end
print(good, bad)
