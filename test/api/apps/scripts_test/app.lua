--- For scripts_test: scripts that misbehave, and what scripts are promised.

local crypto = require "omade.crypto"
local config = require "omade.config"
local db     = require "omade.db"
local json   = require "omade.json"
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
    web.routes("/good", { { "GET", "/:name", function(req) return good[req.params.name]() end, who = "anyone" } }),
    web.group("/group", { who = "staff", before = function(req) if req.query.stop then return "stopped" end end,
                          after = function(_, result) return { wrapped = result } end },
      { { "GET", "/x", function(req) return req.user.role end } }),
  },
}
