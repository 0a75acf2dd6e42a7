local part   = require "part"
local shared = require "omade.shared"
local web    = require "omade.web"

every(0.3, "tick", function() shared.incr "ticks" end, { where = "worker" })

--- Says who it is, again and again.
local function stream(req)
  web.stream(req, function(s)
    local n = math.tointeger(req:header "Last-Event-ID") or 0
    while true do
      n = n + 1
      s:event(part.text, nil, tostring(n))
      sleep(0.02)
    end
  end)
end

--- Its task goes on after the answer, and tells in which generation.
local function spawned()
  spawn(function()
    sleep(0.3)
    shared.set("spawned", part.text)
  end)
end

return { routes = web.routes("", {
  { "GET", "/", function() return part.text end, who = "anyone" },
  { "GET", "/slow", function() sleep(0.3) return part.text end, who = "anyone" },
  { "GET", "/stream", stream, who = "anyone" },
  { "POST", "/spawned", spawned, who = "anyone" },
  { "GET", "/shared/:name", function(req) return shared.get(req.params.name) end, who = "anyone" },
}) }
