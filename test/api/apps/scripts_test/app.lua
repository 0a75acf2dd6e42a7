--- For scripts_test: scripts that misbehave, and what scripts are promised.

local crypto = require "omade.crypto"
local config = require "omade.config"
local db     = require "omade.db"
local json   = require "omade.json"
local log    = require "omade.log"
local money  = require "omade.money"
local shared = require "omade.shared"
local time   = require "omade.time"
local uuid   = require "omade.uuid"
local web    = require "omade.web"

every(0.05, "tick", function() shared.incr "ticks" end, { where = "worker" })

local bad = {
  loop     = function() while true do end end,
  pcall    = function() while true do pcall(function() while true do end end) end end,
  close    = function() local _ <close> = setmetatable({}, { __close = function() while true do end end }) end,
  pattern  = function() return (("a"):rep(50000)):find(("a-"):rep(25) .. "b") end,
  move     = function() table.move({}, 1, 1e15, 2) end,
  memory   = function() local t = {} for i = 1, 1e9 do t[i] = {} end end,
  twice    = function() local function f() pcall(f) pcall(f) end f() end,
  parts    = function() while true do pcall(all, function() while true do end end) end end,
  held     = function() local t = {} while true do t[#t + 1] = db.json("SELECT repeat('x', 1000000)") end end,
  nested   = function() local function f() return all(f, f) end return f() end,
  bomb     = function() local function f() spawn(f) spawn(f) end f() f() error "secret" end,
  concat   = function() local m = {} local t = setmetatable({}, m) m.__concat = function() return "" end return "a" .. t end,
  status   = function() return web.json({}, { status = "x" }) end,
  strings  = function() local s = "x" while true do s = s .. s end end,
  error    = function() error("secret text") end,
  object   = function() error({ secret = true }) end,
  cyclic   = function() local t = {} t.t = t return t end,
  func     = function() return { f = print } end,
  sort     = function() table.sort({ 3, 2, 1 }, function() db.row "SELECT 1" end) end,
  global   = function() leaked = 1 end,
  deep     = function() local t = {} for _ = 1, 300 do t = { t } end return t end,
  fail     = function() web.fail(422, "No cake", { code = "LEAD_TIME", fields = { a = "b" }, extra = { earliest_date = "2026-01-01" } }) end,
}

--- What is written wrongly, and says so: its message is the answer.
local misuse = {
  begin      = function() db.exec "BEGIN" end,
  set        = function() db.exec " -- c\n /* x /* y */ */ set search_path = x" end,
  set_config = function() db.row "SELECT set_config('app.user_role', 'admin', false)" end,
  set_upper  = function() db.row "SELECT pg_catalog.SET_CONFIG('app.user_role', 'admin', false)" end,
  lock       = function() db.row "SELECT pg_try_Advisory_Lock_shared(1)" end,
  unlock     = function() db.row "SELECT pg_advisory_unlock_all()" end,
  listen     = function() db.exec "LISTEN x" end,
  commit     = function() db.transaction(function() db.exec "commit" end) end,
  few        = function() db.row("SELECT $1::text, $2::text", "a") end,
  two        = function() db.row "SELECT 1; SELECT 2" end,
  many       = function() db.row("SELECT 1", table.unpack({}, 1, 70000)) end,
  entry      = function() db.all { "SELECT 1" } end,
  as         = function() db.all { { "SELECT 1", as = "table" } } end,
  list       = function() web.list("x", {}, nil, {}) end,
  cookie     = function() web.cookie("a") end,
  fail       = function() web.fail(200, "x") end,
  log        = function() log.info("x", { 1 }) end,
  config     = function() config.get "NOPE" end,
  require    = function() require "not.loaded" end,
  bare_money = function() return money "1" + 1 end,
}

local function explain(req)
  local ok, fault = pcall(misuse[req.params.name])
  return { ok = ok, why = type(fault) == "table" and (fault.detail or fault.message) or tostring(fault) }
end

--- Commands that change the connection are fine where they end with the transaction.
local function savepoint()
  return db.transaction(function()
    db.exec "SAVEPOINT a"
    db.exec "ROLLBACK TO a"
    db.row "SELECT pg_advisory_xact_lock(1)"
    db.exec "SET LOCAL statement_timeout = 1000"
    return db.row("SELECT 'inside' AS it").it
  end)
end

local function run(req) return (bad[req.params.name] or web.fail(404, "no such script"))() end

local good = {
  crypto = function()
    local hash = crypto.bcrypt("Correct horse 1!", 4)
    return { crypto.sha256 "abc", crypto.hmac_sha256("key", "text"), #crypto.random(10), #crypto.token(),
             crypto.equal("a", "a"), crypto.equal("a", "b"), crypto.verify("Correct horse 1!", hash),
             crypto.verify("wrong", hash), crypto.verify(("x"):rep(72) .. "1", crypto.bcrypt(("x"):rep(72) .. "2", 4)) }
  end,
  values = function()
    return { money = money("25.99") * 3, null = json.null, empty = json.array {}, object = {}, big = 9007199254740993,
             id = #uuid.v4(), time = #time.iso(), parsed = time.parse "2026-01-15T10:30:00+02:00" }
  end,
  all = function() return json.array { all(function() sleep(0.01) return 1 end, function() return 2 end) } end,
  ticks = function() return shared.get "ticks" or 0 end,
  config = function() return config.get "SHOP_NAME" end,
  spawned = function() spawn(function() sleep(0.01) shared.incr "spawned" end) return shared.get "spawned" or 0 end,
}

return {
  settings = { SHOP_NAME = { default = "Test Shop" } },
  routes = {
    web.routes("/bad", { { "GET", "/:name", run, who = "anyone" } }),
    web.routes("/misuse", { { "GET", "/:name", explain, who = "anyone" } }),
    web.routes("/savepoint", { { "GET", "/", savepoint, who = "anyone" } }),
    web.routes("/good", { { "GET", "/:name", function(req) return good[req.params.name]() end, who = "anyone" } }),
    web.group("/group", { who = "staff", before = function(req) if req.query.stop then return "stopped" end end,
                          after = function(_, result) return { wrapped = result } end },
      { { "GET", "/x", function(req) return req.user.role end } }),
  },
}
