local uuid = require "omade.uuid"
local web  = require "omade.web"
local shared = require "omade.shared"

--- Something that differs between workers and stays over reloads.
local function who()
  if not shared.get "name" then shared.set("name", uuid.v4()) end
  return shared.get "name"
end

return { routes = web.routes("", {
  { "GET", "/pid",  who, who = "anyone" },
  { "GET", "/slow", function() sleep(3) return "slow" end, who = "anyone" },
}) }
