--- What development serves while the app has not loaded once: every answer says why.

local engine = require "omade.core.engine"
local web    = require "omade.web"

local function tell()
  web.fail(503, "The scripts do not load: " .. (engine.fault() or "try again"))
end

return {
  routes = web.routes("", {
    { "ANY", "/*path", tell, who = "anyone", summary = "Why the scripts do not load" },
  }),
}
