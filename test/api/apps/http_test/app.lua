--- For http_test: bodies in every mode, streams, forms, headers.

local json = require "omade.json"
local v    = require "omade.validate"
local web  = require "omade.web"

local Form = v.shape { name = v.text { min = 1, max = 20 } }

local function echo(req)
  return web.json { method = req.method, path = req.path, query = req.query, headers = req.headers,
                    body = req.raw }
end

local function stream_in(req)
  local bytes, pieces = 0, 0
  for piece in function() return req:read() end do
    bytes, pieces = bytes + #piece, pieces + 1
  end
  return { bytes = bytes, pieces = pieces }
end

local function to_file(req)
  local path = req:header "X-Path"
  local saved, why
  if path then saved, why = req:save(path) end
  return { bytes = req.size, saved = saved, why = why }
end

local function upload(req)
  local file = req.body.image
  return { filename = file.filename, type = file.type, bytes = #file.data, name = req.body.name }
end

local function events(req)
  web.stream(req, function(stream)
    for i = 1, 3 do
      stream:event(json.encode { n = i }, "tick", tostring(i))
      sleep(0.01)
    end
  end)
end

local function flood(req)
  web.stream(req, function(stream)
    local piece = ("x"):rep(64 * 1024)
    for _ = 1, 64 do stream:write(piece) end
  end, { type = "application/octet-stream" })
end

local function headers()
  return web.json({ ok = true }, { status = 418, headers = { ["X-One"] = "1" },
                                   cookies = { web.cookie("a", "b"), web.cookie("c", "d") } })
end

local function cookies(req) return { cookies = req.cookies, headers = req.headers } end

local function typed()
  return web.json({}, { headers = { ["Content-Type"] = "application/problem+json" } })
end

local function split() return web.json({}, { headers = { ["X-Bad"] = "a\r\nX-Evil: 1" } }) end
local function big() return { text = ("0123456789"):rep(20000) } end
local function slow() sleep(0.2) return "slow" end

return {
  routes = { web.static("/files", "public"), web.routes("", {
    { "POST", "/stream",   stream_in, who = "anyone", body = "stream", body_limit = 64 << 20 },
    { "POST", "/file",     to_file,   who = "anyone", body = "file", body_limit = 64 << 20 },
    { "POST", "/upload",   upload,    who = "anyone", form = true, body_limit = 4 << 20 },
    { "POST", "/form",     function(req) return req.body end, who = "anyone", form = true, body = Form },
    { "POST", "/small",    echo,      who = "anyone", body_limit = 10 },
    { "GET",  "/events",   events,    who = "anyone" },
    { "GET",  "/flood",    flood,     who = "anyone" },
    { "GET",  "/headers",  headers,   who = "anyone" },
    { "GET",  "/cookies",  cookies,   who = "anyone" },
    { "GET",  "/typed",    typed,     who = "anyone" },
    { "GET",  "/split",    split,     who = "anyone" },
    { "GET",  "/big",      big,       who = "anyone" },
    { "GET",  "/slow",     slow,      who = "anyone" },
    { "GET",  "/redirect", function() return web.redirect "/big" end, who = "anyone" },
    { "GET",  "/nothing",  function() return web.no_content() end, who = "anyone" },
    { "GET",  "/users/me", function() return "literal" end, who = "anyone" },
    { "GET",  "/users/:id", function(req) return req.params.id end, who = "anyone" },
    { "ANY",  "/echo/*path", echo,    who = "anyone" },
  }) },
}
