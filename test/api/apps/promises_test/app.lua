--- For promises_test: what is slow, greedy or in the way, and what must not suffer from it.

local db     = require "omade.db"
local shared = require "omade.shared"
local web    = require "omade.web"

local function loop() while true do end end

local function blow_up()
  local t = {}
  while true do t[#t + 1] = ("x"):rep(10000) .. #t end
end

--- A transaction that lasts until POST /go.
local function hold()
  return db.transaction(function()
    local row = db.row "SELECT 1 AS n"
    while not shared.get "go" do sleep(0.02) end
    return row
  end)
end

local function go() shared.set("go", 1) end

local function upload(req)
  local n = 0
  for piece in function() return req:read() end do n = n + #piece end
  return n
end

return { routes = web.routes("", {
  { "GET",  "/row",    function() return db.row "SELECT 1 AS n" end, who = "anyone" },
  { "GET",  "/loop",   loop, who = "anyone" },
  { "GET",  "/memory", blow_up, who = "anyone" },
  { "GET",  "/hold",   hold, who = "anyone" },
  { "POST", "/go",     go, who = "anyone" },
  { "GET",  "/large",  function() return ("x"):rep(4 << 20) end, who = "anyone" },
  { "POST", "/upload", upload, who = "anyone", body = "stream" },
}) }
