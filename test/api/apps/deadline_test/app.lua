--- For deadline_test: requests that wait for ever.

local db     = require "omade.db"
local shared = require "omade.shared"
local web    = require "omade.web"

local endless = {
  sleep = function() sleep(10000) end,
  loop  = function() while true do sleep(0.01) end end,
  rows  = function() while true do db.row "SELECT pg_sleep(0.05)" end end,
  pcall = function() while true do pcall(sleep, 10000) end end,
  all   = function() all(function() sleep(10000) end, function() while true do sleep(0.01) end end) end,
  transaction = function()
    db.transaction(function()
      db.exec "CREATE TEMPORARY TABLE mine (n int)"
      sleep(10000)
    end)
  end,
  close = function()
    local _ <close> = setmetatable({}, { __close = function() shared.incr "closed" end })
    sleep(10000)
  end,
}

--- Longer than any request may take; `steps` says how much.
local function stream(req)
  web.stream(req, function(s)
    for i = 1, math.tointeger(req.query.steps) do
      sleep(0.25)
      s:event(tostring(i))
    end
  end)
end

local function upload(req)
  local n = 0
  for piece in function() return req:read() end do n = n + #piece end
  return n
end

return { routes = web.routes("", {
  { "ANY",  "/endless/:name", function(req) return endless[req.params.name]() end, who = "anyone" },
  { "GET",  "/closed", function() return shared.get "closed" or 0 end, who = "anyone" },
  { "GET",  "/stream", stream, who = "anyone" },
  { "POST", "/upload", upload, who = "anyone", body = "stream" },
}) }
