--- For toolbox_test: everything that docs/lua.md offers, used rightly and wrongly.

local auth    = require "omade.auth"
local cache   = require "omade.cache"
local config  = require "omade.config"
local crypto  = require "omade.crypto"
local db      = require "omade.db"
local decimal = require "omade.decimal"
local http    = require "omade.http"
local json    = require "omade.json"
local log     = require "omade.log"
local money   = require "omade.money"
local redis   = require "omade.redis"
local shared  = require "omade.shared"
local time    = require "omade.time"
local uuid    = require "omade.uuid"
local v       = require "omade.validate"
local web     = require "omade.web"

local MODULES <const> = {
  "auth", "cache", "commerce", "config", "crypto", "db", "decimal", "http", "idempotency", "json", "limits", "log",
  "money", "openapi", "page", "redis", "shared", "time", "uploads", "uuid", "validate", "web",
}

every(0.05, "worker", function() shared.incr "worker" end, { where = "worker" })
every(0.05, "cluster", function() shared.incr "cluster" end)

---- What works: name -> what it answers ---------------------------------------------

local use = {}

function use.db()
  local n = 0
  db.transaction(function()
    n = n + 1
    return db.row("SELECT 1 AS one").one
  end)
  local batch = db.batch { { "SELECT $1::int AS a", 1 }, { "SELECT 2 AS b", as = "row" } }
  local beside = db.all { { "SELECT 3 AS c", as = "json" }, { "SELECT 4 AS d", as = "row", timeout = 5 } }
  return {
    row = db.row("SELECT $1::int AS n, $2::numeric AS price, $3::jsonb AS doc, $4::text AS missing, $5::bool AS yes",
                 7, money "25.99", { tags = { "a" } }, nil, true),
    none = db.row "SELECT 1 WHERE false" == nil,
    rows = #db.rows "SELECT generate_series(1, 3)",
    json = db.json "SELECT 'x' AS y",
    json_row = db.json_row "SELECT 'x' AS y",
    no_json_row = db.json_row "SELECT 1 WHERE false" == nil,
    batch = { batch[1][1].a, batch[2].b },
    all = { beside[1], beside[2].d },
    as = db.as({ user_id = "00000000-0000-0000-0000-000000000003", role = "customer" }, function()
      return db.row("SELECT current_setting('app.user_role') AS role").role
    end),
    runs = n,
  }
end

function use.listen()
  local subscription = db.listen "toolbox"
  local got = { subscription:next(5) }                 -- false: it has begun
  db.exec "SELECT pg_notify('toolbox', 'fresh bread')"
  got[2] = subscription:next(5)
  got[3] = subscription:next(0.01) == nil
  subscription:close()
  return got
end

function use.redis()
  redis.set("a", "1", 60)
  local bytes = redis.get_bytes "a"
  return {
    get = redis.get "a", none = redis.get "none" == nil, bytes = bytes, del = redis.del("a", "b"),
    call = redis.call("INCRBY", "n", 5),
    pipeline = redis.pipeline { { "SET", "p", "x" }, { "GET", "p" }, { "GET", "none" } },
    eval = redis.eval("return {KEYS[1], ARGV[1]}", { "k" }, "v"),
  }
end

function use.subscribe()
  local subscription = redis.subscribe "toolbox"
  local got = { subscription:next(5) }
  redis.call("PUBLISH", "toolbox", "warm")
  got[2] = subscription:next(5)
  subscription:close()
  return got
end

function use.cache()
  local loads = 0
  local function load()
    loads = loads + 1
    return json.encode { price = money "1.50" }
  end
  cache.drop "bread"
  local first = cache.fetch("bread", 60, load)
  local again = cache.fetch("bread", 60, load)
  cache.drop("bread", "other")
  cache.fetch("bread", 60, load, "object")
  return { first = first, again = again, loads = loads, none = cache.fetch("nil", 60, function() end) == nil }
end

function use.money()
  local m = money "25.99"
  return {
    times = m * 3, minus = m - money "5", percent = m:percent "7.25", share = money "10":share(3),
    split = money "10":split { 1, 2 }, cents = m:cents(), text = tostring(m), of = money.of_cents(2599) == m,
    parsed = money.parse "x" == nil, is = money.is(m), more = m > money(25), plain = money(25), method = m:times(2),
    decimal = decimal "12.345", number = decimal "4.67":number(), tomoney = decimal "3.50":money(),
    parse = decimal.parse "x" == nil, isd = decimal.is(decimal(1)), format = ("%s"):format(m),
  }
end

function use.text()
  return {
    sha256 = crypto.sha256 "abc", hmac = crypto.hmac_sha256("key", "text"), random = #crypto.random(10),
    token = #crypto.token(8), equal = crypto.equal("a", "a"), bcrypt = crypto.verify("secret", crypto.bcrypt("secret", 4)),
    decoded = json.decode '{"a": [1, 2.5, null]}', bad = select(2, json.decode "[1,"), array = json.array(),
    object = json.object(), is_array = json.is_array(json.decode "[]"), text = json.text "a\xff", null = json.null,
    uuid = uuid.valid(uuid.v4()), nouuid = uuid.valid(7), now = time.now() > 1.7e9, iso = time.iso(0),
    date = time.date(0), parse = time.parse "2026-01-15", noparse = time.parse "soon" == nil,
    monotonic = time.monotonic() <= time.monotonic(), shop = config.get "SHOP_NAME", lead = config.get "LEAD_DAYS",
  }
end

function use.beside()
  shared.set("spawned", 0)
  spawn(function() sleep(0.01) shared.incr "spawned" end)
  local a, b = all(function() time.sleep(0.01) return "slow", "unseen" end, function() return "quick" end)
  return { a, b, shared.incr("count", 3) }
end

function use.counters()
  return { spawned = shared.get "spawned", worker = shared.get "worker", cluster = shared.get "cluster" }
end

function use.log()
  log.debug "unseen"
  log.info("a cake", { name = "Sacher\nforged=1", price = money "3.50", n = 3, ok = true })
  log.warn "warned"
  log.error("failed", {})
  print("printed", 1)
end

---- Answers ---------------------------------------------------------------------------

local answer = {
  json = function() return web.json({ bare = true }, { status = 202 }) end,
  data = function() return web.data({ 1 }, { message = "done", headers = { ["X-Cake"] = 1 } }) end,
  created = function() return web.created({ id = 1 }, "made") end,
  no_content = function() return web.no_content() end,
  list = function() return web.list("cakes", db.json "SELECT 1 AS n", 41, { page = 2, limit = 20 }) end,
  raw = function() return web.raw("<b>", "text/html") end,
  redirect = function() return web.redirect "/answer/raw" end,
  cookie = function() return web.data({}, { cookies = { web.cookie("cake", "1", { max_age = 60 }) } }) end,
  fail = function() web.fail(409, "Sold out", { code = "OUT_OF_STOCK", extra = { left = 0 } }) end,
  file = function() return web.file "app.lua" end,
  is_answer = function() return { web.is_answer(web.no_content()), web.is_answer {} } end,
  nothing = function() end,
}

local function stream(req)
  web.stream(req, function(s)
    s:event("one\ntwo", "bread", "1")
    s:event(req:header "Last-Event-ID" or "none")
    s:write ": end\n\n"
  end, { headers = { ["X-Stream"] = "yes" } })
end

local Everything = v.shape {
  text = v.text { min = 2, max = 5, pattern = "^%a+$", lower = true }, integer = v.integer { min = 1 },
  number = v.number { max = 9.5 }, money = v.money { min = 0 }, boolean = v.boolean { default = true },
  uuid = v.uuid(), email = v.email(), url = v.url { max = 100 }, date = v.date(), time = v.time(),
  one_of = v.one_of { "pickup", "delivery" }, list = v.list(v.integer(), { max = 3 }), any = v.any { optional = true },
  shape = v.shape { city = v.text { label = "The city" } }, gone = v.optional(v.text()),
}

local function request(req)
  return { method = req.method, path = req.path, params = req.params, query = req.query, cookie = req.cookies.a,
           agent = req.headers["x-agent"], body = req.body, raw = #req.raw, ip = req.ip, id = #req.id > 0,
           host = req.host, user = auth.user(req) and req.user.role, cancelled = req.cancelled }
end

local function outgoing(req)
  local ok, got = pcall(http.request, { url = req.body.url, timeout = req.body.timeout and req.body.timeout:number() })
  if ok then return { status = got.status, body = got.body, type = got.headers["content-type"] } end
  return { failed = got.status, message = got.message, detail = got.detail }
end

---- Mistakes: their messages are the answer ---------------------------------------------

local wrong = {
  db_nil        = function() db.row(nil) end,
  db_function   = function() db.row("SELECT $1", print) end,
  db_sql        = function() db.row "SELEC 1" end,
  db_many       = function() db.row("SELECT 1", 2) end,
  transaction   = function() db.transaction() end,
  nested        = function() db.transaction(function() db.transaction(function() end) end) end,
  batch         = function() db.batch "SELECT 1" end,
  as            = function() db.as("admin", function() end) end,
  db_listen     = function() db.listen() end,
  redis_key     = function() redis.get() end,
  redis_value   = function() redis.set("a", {}) end,
  redis_command = function() redis.call("NOPE") end,
  pipeline      = function() redis.pipeline { "GET" } end,
  eval          = function() redis.eval("return 1", "key") end,
  blocking      = function() redis.call("SUBSCRIBE", "x") end,
  cache_load    = function() cache.fetch("wrong", 60) end,
  cache_text    = function() return cache.fetch("wrong", 60, function() return "no json" end) end,
  money_float   = function() return money(25.99) end,
  money_text    = function() return money "12.345" end,
  money_plus    = function() return money "1" + 1 end,
  money_concat  = function() return "costs " .. money "1" end,
  money_times   = function() return money "1" * 1.5 end,
  decimal_float = function() return decimal(1.5) end,
  decimal_plus  = function() return decimal "1" + decimal "1" end,
  json_function = function() return json.encode { f = print } end,
  json_mixed    = function() return json.encode { 1, a = 2 } end,
  log_nil       = function() log.info() end,
  crypto_nil    = function() return crypto.sha256() end,
  http_url      = function() http.request {} end,
  http_option   = function() http.request { url = "http://x", tineout = 1 } end,
  sleep_text    = function() sleep "soon" end,
  sleep_minus   = function() sleep(-1) end,
  all_nothing   = function() all() end,
  all_call      = function() all(1) end,
  spawn_call    = function() spawn(1) end,
  every_late    = function() every(1, "late", function() end) end,
  shared_table  = function() shared.set("a", {}) end,
  shared_text   = function() shared.set("text", "a") shared.incr "text" end,
  setting       = function() config.get "NOPE" end,
  redirect      = function() return web.redirect() end,
  stream        = function() web.stream(nil, function() end) end,
  cookie_value  = function() return web.cookie("a", "b;c") end,
  list          = function() return web.list("x", {}, "3", { page = 1, limit = 2 }) end,
  routes        = function() return web.routes("/x") end,
  coroutine     = function() coroutine.wrap(function() db.row "SELECT 1" end)() end,
  gsub          = function() return ("a"):gsub("a", function() return db.row("SELECT 'b' AS b").b end) end,
  global        = function() counter = 1 end,
  module        = function() money.cheap = true end,
}

local function explain(req)
  local ok, fault = pcall(wrong[req.params.name])
  return { ok = ok, why = type(fault) == "table" and (fault.detail or fault.message) or tostring(fault) }
end

local function names_of(mistakes)
  local names = json.array {}
  for name in pairs(mistakes) do names[#names + 1] = name end
  return names
end

--- The functions of each module, as a script sees them.
local exports = {}
for _, name in ipairs(MODULES) do
  exports[name] = json.array {}
  local functions = exports[name]
  for key in pairs(require("omade." .. name)) do functions[#functions + 1] = key end
  table.sort(functions)
end

return {
  settings = { SHOP_NAME = { default = "Toolbox" }, LEAD_DAYS = { type = "integer", default = 2, min = 0 } },
  routes = {
    web.routes("", {
      { "GET",  "/exports", function() return exports end, who = "anyone" },
      { "GET",  "/wrong", function() return names_of(wrong) end, who = "anyone" },
      { "GET",  "/wrong/:name", explain, who = "anyone" },
      { "GET",  "/use/:name", function(req) return use[req.params.name]() end, who = "anyone" },
      { "GET",  "/answer/:name", function(req) return answer[req.params.name]() end, who = "anyone" },
      { "GET",  "/stream", stream, who = "anyone" },
      { "POST", "/shape", function(req) return req.body end, who = "anyone", body = Everything },
      { "POST", "/partial", function(req) return req.body end, who = "anyone", body = v.partial(Everything) },
      { "POST", "/plain", function(req) return v.body(req, { name = v.text, n = v.integer }) end, who = "anyone" },
      { "PATCH", "/plain", function(req) return req.body end, who = "anyone", body = v.partial { name = v.text, n = v.integer } },
      { "POST", "/http", outgoing, who = "anyone" },
      { "POST", "/request/:id", request, who = "anyone", params = { id = v.integer }, query = { q = v.text() },
        headers = { ["x-agent"] = v.text { optional = true } } },
    }),
    web.group("/group", { who = "staff", before = function(req) if req.query.stop then return "stopped" end end },
      { { "GET", "/", function(req) return req.user.role end } }),
    web.static("/static", "."),
  },
}
