--- The bakery, and a route that forgets now what was kept long enough.

local app    = require "bakery.app"
local outbox = require "bakery.services.outbox_worker"
local tasks = require "bakery.tasks"
local web   = require "omade.web"

local routes = { table.unpack(app.routes) }
routes[#routes + 1] = web.routes("/test", {
  { "POST", "/forget", function()
    tasks.forget()
    tasks.clean()
    outbox.forget()
    return {}
  end, who = "anyone", limit = false },
})

local copy = {}
for name, value in pairs(app) do copy[name] = value end
copy.routes = routes
return copy
