-- Redis killed in the middle of orders from carts, hung, full, loading: what needs it gets 503
-- at once, all else goes on, it recovers by itself, and a cart is one order whatever happened.
-- What is said of time is promised ten times faster (reliability.md, "Faults and promises").
-- serve: --workers 2
-- redis: own
-- env: REDIS_TIMEOUT=100
-- env: RATE_LIMITS=on
-- before: quick.sh
-- env: SCRIPT_LOAD_CPU=20000
-- env: SCRIPT_CPU=5000
-- env: SCRIPT_REQUEST_CPU=20000
-- env: HEARTBEAT_CPU=10000

local check  = require "check"
local client = require "client"
local redis  = require "own_redis"

local CAKE <const>  = "/api/v1/products/10000000-0000-0000-0000-000000000001"
local LIST <const>  = "/api/v1/products?limit=1"
local CART <const>  = "/api/v1/cart"
local ME <const>    = "/api/v1/auth/me"
local KEEPS <const> = "--appendonly yes"              -- what was answered outlives a kill
local BUYERS <const> = 16

local SCALE <const> = tonumber(os.getenv "OMADE_TIME_SCALE")
local ANSWERED <const>, AT_ONCE <const>, BACK <const> = 50 * SCALE, 10 * SCALE, 10 * SCALE  -- seconds: ten times the promise

redis.start(KEEPS)
client.all_healthy()
client.timeout = ANSWERED

local storm  = require "storm"
local buyers = storm.people(BUYERS)
local bun    = storm.products(1, 100000)[1]

---- Short ways -----------------------------------------------------------------------------------------

local function add(buyer)
  return { "POST", CART .. "/items", { token = buyer.token, body = storm.one(bun) } }
end

local function order_cart(buyer, key)
  return { "POST", storm.ORDERS, { token = buyer.token, body = { notes = "from the cart" },
                                   headers = { ["Idempotency-Key"] = key } } }
end

local guests = 0
local function order_as_guest()
  guests = guests + 1
  return storm.send(storm.order(nil, { items = { storm.one(bun) }, guest_name = "Guest",
                                       guest_email = "guest" .. guests .. "@example.com" }))
end

--- What Redis holds is 503 at once; the rest goes on.
local function without_redis()
  client.timeout = AT_ONCE
  for _ = 1, 4 do
    check.status(client.get(CAKE), 200)
    check.status(client.get(LIST), 200)
    check.status(client.get(CART, { token = buyers[1].token }), 503, "UNAVAILABLE")
    check.status(client.get(CART, { headers = { ["X-Session-Id"] = ("ab"):rep(32) } }), 503, "UNAVAILABLE")
    check.status(client.get(ME, { token = buyers[1].token }), 503, "UNAVAILABLE")
    check.status(storm.send(order_cart(buyers[1], "away")), 503, "UNAVAILABLE")
    check.status(order_as_guest(), 201)
  end
  check.equal(client.get(LIST).headers["x-ratelimit-limit"], nil, "a limit that is counted")
  check.equal(check.status(client.get "/health", 200).json().status, "degraded")
  client.timeout = ANSWERED
end

local function with_redis()
  client.all_healthy(BACK)
  check.equal(client.get(LIST).headers["x-ratelimit-limit"], "300")
  check.status(client.get(CART, { token = buyers[1].token }), 200)
end

---- Carts and orders under way ---------------------------------------------------------------------------

local sent  = {}                 -- {request, body of its answer if that was 201}
local added = { sure = 0, perhaps = 0 }

local function count_of(buyer, limit) return ("rate_limit:user:%s:%s"):format(buyer.id, limit) end

local function forget_orders()
  for _, buyer in ipairs(buyers) do client.redis("DEL", count_of(buyer, "orders")) end
end

local function fill_carts()
  local requests = {}
  for i, buyer in ipairs(buyers) do requests[i] = add(buyer) end
  for _, answer in ipairs(client.parallel(requests)) do
    check.truthy(answer.status == 200 or answer.status == 503, answer.body)
    local kind = answer.status == 200 and "sure" or "perhaps"
    added[kind] = added[kind] + 1
  end
end

--- Everybody orders what is in the cart; returns how many were refused for want of Redis.
local function order_all(round)
  local requests, away = {}, 0
  for i, buyer in ipairs(buyers) do requests[i] = order_cart(buyer, ("%s-%d"):format(round, i)) end
  for i, answer in ipairs(client.parallel(requests)) do
    if answer.status == 503 then away = away + 1
    elseif answer.status ~= 201 then check.status(answer, 409, "EMPTY_CART") end
    sent[#sent + 1] = { request = requests[i], body = answer.status == 201 and answer.body }
  end
  return away
end

local function order_through_a_kill(name)
  local killer = assert(io.popen(("sleep 0.%d; %s 2>&1"):format(math.random(0, 3), redis.KILL)))
  local waves, away = 0
  repeat
    waves = waves + 1
    check.truthy(waves < 20, name .. " was noticed")       -- 30 orders an hour are a buyer's limit
    fill_carts()
    away = order_all(name .. waves)
  until away > 0
  check.equal(killer:read "a", "")
  killer:close()
end

--- The keys tell what became of the orders; what is left in the carts is ordered, too.
local function settle()
  for _, one in ipairs(sent) do
    local answer = storm.send(one.request)
    if one.body then
      check.equal(check.status(answer, 201).headers["idempotency-replayed"], "true")
      check.equal(answer.body, one.body)
    elseif answer.status ~= 201 then
      check.status(answer, 409, "EMPTY_CART")
    end
  end
  for i, buyer in ipairs(buyers) do
    local last = storm.send(order_cart(buyer, ("last-%d-%d"):format(#sent, i)))
    if last.status ~= 201 then check.status(last, 409, "EMPTY_CART") end
    check.status(storm.send(order_cart(buyer, ("none-%d-%d"):format(#sent, i))), 409, "EMPTY_CART")
    check.equal(#client.get(CART, { token = buyer.token }).json().data.items, 0, "lines left")
  end
  local pieces = storm.number([[SELECT COALESCE(sum(quantity), 0) FROM order_items i JOIN orders o ON o.id = i.order_id
    WHERE o.notes = 'from the cart']])
  check.truthy(pieces >= added.sure and pieces <= added.sure + added.perhaps,
               ("%d pieces ordered of %d added, and perhaps %d"):format(pieces, added.sure, added.perhaps))
  sent = {}
end

---- Tests -----------------------------------------------------------------------------------------------

return storm.tests {
  { "killed in the middle of orders from carts, and back: sessions, carts and limits, too", function()
    check.status(client.get(CAKE), 200)
    for n = 1, 2 do
      forget_orders()
      check.status(client.get(CART, { token = buyers[1].token }), 200)
      local asked = tonumber(client.redis("GET", count_of(buyers[1], "cart")))
      order_through_a_kill("kill" .. n)
      without_redis()
      redis.start(KEEPS)
      with_redis()
      check.truthy(tonumber(client.redis("GET", count_of(buyers[1], "cart"))) > asked, "the count went on")
      settle()
    end
    check.matches(io.open(os.getenv "TEST_SERVER_LOG"):read "a", "rate limits are not shared")
  end },

  { "stopped without a word", function()
    local pid = client.shell("cat " .. os.getenv "TEST_WORK" .. "/redis.pid")
    client.shell("kill -STOP " .. pid)
    local ok, fault = pcall(without_redis)
    client.shell("kill -CONT " .. pid)
    if not ok then error(fault, 0) end
    with_redis()
  end },

  { "full: what must be kept is refused, what is there is read", function()
    check.status(storm.send(add(buyers[2])), 200)
    client.redis("CONFIG", "SET", "maxmemory", "1")
    check.status(storm.send(add(buyers[1])), 503, "UNAVAILABLE")
    check.status(client.get(CAKE), 200)
    check.status(client.get(LIST), 200)
    check.status(client.get(ME, { token = buyers[1].token }), 200)
    check.status(storm.send(order_cart(buyers[2], "full")), 201)
    check.status(storm.send(storm.order(buyers[1], storm.one(bun), "full")), 201)
    client.redis("CONFIG", "SET", "maxmemory", "0")
    check.status(storm.send(add(buyers[1])), 200)
    check.status(storm.send(order_cart(buyers[1], "room")), 201)
    check.equal(#client.get(CART, { token = buyers[2].token }).json().data.items, 0, "lines of a cart that was ordered")
  end },

  { "loading", function()
    client.redis "SAVE"
    redis.kill()
    client.shell("rm -rf " .. os.getenv "TEST_WORK" .. "/appendonlydir")
    redis.start "--key-load-delay 200000 --loading-process-events-interval-bytes 1024"
    check.matches(client.redis "PING", "LOADING")
    without_redis()
    client.eventually(60, "loaded", function() return client.redis "PING" == "PONG" end)
    with_redis()
  end },

  { "back with nothing: all are signed out, and the keys know the orders still", function()
    local request = storm.order(buyers[1], storm.one(bun), "before")
    local before = check.status(storm.send(request), 201)
    redis.kill()
    client.shell("rm -f " .. os.getenv "TEST_WORK" .. "/dump.rdb")
    redis.start()
    client.all_healthy(BACK)
    check.status(storm.send(request), 401)
    request[3].token = client.session("customer", buyers[1].id)
    check.equal(check.status(storm.send(request), 201).body, before.body)
    check.equal(#client.get(CART, { token = request[3].token }).json().data.items, 0, "lines")
  end },
}
