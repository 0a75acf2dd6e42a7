--- The smallest app: one route.

local web = require "omade.web"

local function hello(req)
  return { message = "Hello, " .. (req.query.name or "world") .. "!" }
end

return {
  routes = web.routes("", {
    { "GET", "/", hello, who = "anyone" },
  }),
}
