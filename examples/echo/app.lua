--- Answers with what it was sent: any method, any path.

local web = require "omade.web"

--- Method, path, query, headers and body as JSON.
local function echo(req)
  return web.json {
    method = req.method, path = req.path, query = req.query, headers = req.headers,
    body = req.raw,
  }
end

--- The body itself, under its own type.
local function raw(req)
  return web.raw(req.raw, req:header("Content-Type") or "application/octet-stream")
end

return {
  routes = web.routes("", {
    { "ANY", "/raw",   raw,  who = "anyone" },
    { "ANY", "/*path", echo, who = "anyone" },
  }),
}
