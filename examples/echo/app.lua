--- Answers with what it was sent: any method, any path.

local json = require "omade.json"
local web  = require "omade.web"

--- Method, path, query, headers and body as JSON; of bytes that are not UTF-8 the body
-- under /raw is the faithful copy.
local function echo(req)
  local headers = {}
  for name, value in pairs(req.headers) do headers[name] = json.text(value) end
  return web.json {
    method = req.method, path = req.path, query = req.query, headers = headers,
    body = json.text(req.raw),
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
