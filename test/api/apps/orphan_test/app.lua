local web = require "omade.web"

return { routes = web.routes("", {
  { "GET", "/",     function() return "here" end, who = "anyone" },
  { "GET", "/slow", function() sleep(0.5) return "slow" end, who = "anyone" },
}) }
