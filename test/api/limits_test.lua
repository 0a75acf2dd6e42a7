-- Rate limits: exact over two workers, by address and by user, and without Redis.
-- serve: --workers 2
-- redis: own
-- env: RATE_LIMITS=test/api/apps/limits_test/limits.json

local check  = require "check"
local client = require "client"
local redis  = require "own_redis"

--- Sends all, then reads all: {[status] = how many}, and the answers.
local function at_once(n, path, options)
  local all, counts, answers = {}, {}, {}
  for i = 1, n do all[i] = client.connect() end
  for i = 1, n do all[i]:send(client.format("GET", path, options)) end
  for i = 1, n do
    answers[i] = assert(all[i]:answer("GET"))
    counts[answers[i].status] = (counts[answers[i].status] or 0) + 1
    all[i]:close()
  end
  return counts, answers
end

redis.start()
client.eventually(20, "the workers see Redis", function()
  for _ = 1, 8 do
    if not client.get("/general").headers["x-ratelimit-limit"] then return false end
  end
  return true
end)
client.redis("FLUSHDB")

return {
  { "the contract's numbers", function()
    local rules = client.get("/rules").json().data
    check.same(rules.general, { guest = 300, user = 1000, staff = 5000, seconds = 900 })
    check.same(rules.orders, { max = 30, seconds = 3600 })
    check.same(rules.search, { max = 120, seconds = 300 })
    check.same(rules.reviews, { max = 10, seconds = 86400 })
    check.equal(rules["sign-in"].max, 10)
    check.equal(rules["sign-in-address"].max, 50)
    for _, name in ipairs { "register", "forgot", "reset" } do check.equal(rules[name].max, 20) end
    check.same(rules.promo, { max = 2, seconds = 60 }, "changed by the file")
    check.same(rules.cart, { max = 37, seconds = 900 }, "changed by the file")
  end },

  { "100 at once against 37: exactly 37 pass", function()
    local counts, answers = at_once(100, "/cart")
    check.same(counts, { [200] = 37, [429] = 63 })
    local seen = {}
    for _, answer in ipairs(answers) do
      check.equal(answer.headers["x-ratelimit-limit"], "37")
      if answer.status == 200 then
        local left = tonumber(answer.headers["x-ratelimit-remaining"])
        check.truthy(not seen[left], "each remaining number once")
        seen[left] = true
      end
    end
    check.equal(client.redis("GET", "rate_limit:127.0.0.1:cart"), "37")
    local life = tonumber(client.redis("PTTL", "rate_limit:127.0.0.1:cart"))
    check.truthy(life > 0 and life <= 900 * 1000, "the window's life")
  end },

  { "a refusal says when to come back", function()
    local answer = check.status(client.get("/cart"), 429, "RATE_LIMITED")
    local wait = tonumber(answer.headers["retry-after"])
    check.truthy(wait >= 1 and wait <= 900, "Retry-After")
    check.equal(answer.headers["x-ratelimit-remaining"], "0")
    check.truthy(math.abs(tonumber(answer.headers["x-ratelimit-reset"]) - os.time() - wait) <= 5, "Reset")
  end },

  { "a signed-in user is counted by id, staff may more", function()
    local customer, staff = client.session "customer", client.session("staff", "00000000-0000-0000-0000-000000000002")
    check.equal(check.status(client.get("/mine", { token = customer }), 200).headers["x-ratelimit-remaining"], "36")
    check.equal(check.status(client.get("/cart", { token = customer }), 200).headers["x-ratelimit-remaining"], "35")
    check.equal(client.redis("GET", "rate_limit:user:00000000-0000-0000-0000-000000000003:cart"), "2")
    check.equal(client.get("/general").headers["x-ratelimit-limit"], "300")
    check.equal(client.get("/general", { token = customer }).headers["x-ratelimit-limit"], "1000")
    check.equal(client.get("/general", { token = staff }).headers["x-ratelimit-limit"], "5000")
    check.equal(client.get("/general", { token = "over" }).headers["x-ratelimit-limit"], "300")
    check.equal(client.get("/list?search=a").headers["x-ratelimit-limit"], "120")
    check.equal(client.get("/list").headers["x-ratelimit-limit"], "300")
    client.post("/register", { token = customer, body = {} })
    check.equal(client.redis("GET", "rate_limit:127.0.0.1:register"), "1", "by address also when signed in")
    check.status(client.get("/mine"), 401)
  end },

  { "a request has exactly one limit, or none", function()
    client.redis("FLUSHDB")
    client.get("/cart")
    client.get("/list?search=a")
    client.get("/free")
    check.equal(client.get("/free").headers["x-ratelimit-limit"], nil)
    local keys = client.redis("KEYS", "*")
    check.matches(keys, "127.0.0.1:cart")
    check.matches(keys, "127.0.0.1:search")
    check.equal(select(2, keys:gsub("rate_limit", "")), 2)
  end },

  { "the limit comes before the syntax, and its headers are on every answer", function()
    check.equal(check.status(client.post("/promo", { body = { n = 0 } }), 400).headers["x-ratelimit-remaining"], "1")
    check.status(client.post("/promo", { json = "{" }), 400)
    check.status(client.post("/promo", { json = "{" }), 429)
    check.status(client.get("/list?search=%ff"), 400)
  end },

  { "failures: ten of an account, also at once; a success counts nothing", function()
    check.same(at_once(60, "/sign-in?email=a&password=right"), { [200] = 60 })
    check.same(at_once(40, "/sign-in?email=a&password=wrong"), { [401] = 10, [429] = 30 })
    check.status(client.get("/sign-in?email=a&password=right"), 429)
    local refused = check.status(client.get("/sign-in?email=a&password=wrong"), 429).headers
    check.equal(refused["x-ratelimit-limit"], "10")
    check.equal(refused["x-ratelimit-remaining"], "0")
    check.equal(check.status(client.get("/sign-in?email=d&password=wrong"), 401).headers["x-ratelimit-remaining"], "9")
    check.equal(check.status(client.get("/sign-in?email=d&password=right"), 200).headers["x-ratelimit-remaining"], "9")
    check.status(client.get("/peek?email=a"), 429)
    check.status(client.get("/peek?email=b"), 200)
    check.status(client.get("/sign-in?email=b&password=right"), 200)
  end },

  { "without Redis routes stay open, and sign-in is counted by each process", function()
    redis.stop()
    for _ = 1, 60 do check.status(client.get("/cart"), 200) end
    check.equal(client.get("/cart").headers["x-ratelimit-limit"], nil)
    local refused = 0
    for _ = 1, 60 do
      if client.get("/sign-in?email=c&password=wrong").status == 429 then refused = refused + 1 end
    end
    check.truthy(refused >= 40, "at most ten a worker")
    check.status(client.get("/sign-in?email=d&password=right"), 200)
    local log = io.open(os.getenv "TEST_SERVER_LOG"):read "a"
    check.matches(log, "rate limits are not shared")
  end },
}
