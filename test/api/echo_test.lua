-- examples/echo: what it was sent comes back, whatever the bytes are.
-- app: examples/echo
-- serve: --workers 1

local check  = require "check"
local client = require "client"

local function every_byte()
  local bytes = {}
  for i = 0, 255 do bytes[#bytes + 1] = string.char(i) end
  return table.concat(bytes)
end

return {
  { "method, path, query, headers and body as JSON", function()
    for _, method in ipairs { "GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS" } do
      local answer = client.request(method, "/a/%C3%A9?x=1%202&y", { body = "b\0dy", headers = { ["X-One"] = "1" } })
      local echo = check.status(answer, 200).json()
      check.equal(echo.method, method)
      check.equal(echo.path, "/a/\u{e9}")
      check.same(echo.query, { x = "1 2", y = "" })
      check.equal(echo.headers["x-one"], "1")
      check.equal(echo.body, "b\0dy")
    end
    check.equal(check.status(client.get "/", 200).json().path, "/")
  end },

  { "bytes that are not UTF-8 are no fault", function()
    local echo = check.status(client.post("/", { body = "a\xff\xc3\xa9\xc3", headers = { ["X-A"] = "\xe9" } }), 200).json()
    check.equal(echo.body, "a\u{fffd}\u{e9}\u{fffd}")
    check.equal(echo.headers["x-a"], "\u{fffd}")
    check.status(client.post("/", { body = ("\xff\0"):rep(1 << 19) }), 200)
  end },

  { "/raw gives back the bytes and their type", function()
    local bytes = every_byte()
    for _, body in ipairs { "", bytes, bytes:rep(4096) } do
      local answer = client.post("/raw", { body = body, headers = { ["Content-Type"] = "a/b; c=\"d\"" } })
      check.equal(check.status(answer, 200).headers["content-type"], 'a/b; c="d"')
      check.truthy(answer.body == body, "the bodies differ")
    end
    check.equal(client.get("/raw").headers["content-type"], "application/octet-stream")
    check.status(client.post("/raw", { body = bytes:rep(4096) .. "x" }), 413, "PAYLOAD_TOO_LARGE")
  end },
}
