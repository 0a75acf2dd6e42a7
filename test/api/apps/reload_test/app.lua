local part = require "part"
local web  = require "omade.web"

return { routes = web.routes("", {
  { "GET", "/", function() return part.text end, who = "anyone" },
  { "GET", "/slow", function() sleep(0.3) return part.text end, who = "anyone" },
}) }
