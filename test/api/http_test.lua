-- HTTP from outside: grammar, limits, bodies, pipelining, streams.
-- serve: --workers 1
-- scale: 4
-- env: CORS_ORIGINS=https://a.example
-- env: HTTP_HEAD_TIMEOUT=1500
-- env: HTTP_IDLE_TIMEOUT=2000

local check   = require "check"
local client  = require "client"
local hostile = require "hostile"

local line <const> = hostile.line

local GOOD <const> = "GET /echo/x?a=1 HTTP/1.1\r\nHost: a\r\n\r\n"

--- Sends bytes, cut as given; returns everything that came, and whether the server closed.
local function raw(bytes, cuts)
  local c = client.connect()
  c.timeout = 8
  if cuts then
    for _, part in ipairs(cuts) do
      c:send(part)
      client.sleep(0.002)
    end
  else
    c:send(bytes)
  end
  local text, why = c:read_all()
  c:close()
  return text, why
end

local function count(text, pattern)
  return select(2, text:gsub(pattern, ""))
end

--- Exactly one answer with this status, then the end.
local function refused(bytes, status)
  local text, why = raw(bytes)
  local got = tonumber(text:match "^HTTP/1%.1 (%d+)")
  if got ~= status or why ~= "closed" or count(text, "HTTP/1%.1 %d") ~= 1 then
    error(("%q\nexpected %s and the end, got %s (%s)"):format(bytes:sub(1, 200), status, text:sub(1, 300), why), 2)
  end
end

return {
  { "each hostile input gets its status, one answer, and the end", function()
    for status, inputs in pairs(hostile.by_status) do
      for _, input in ipairs(inputs) do refused(input, status) end
    end
    check.status(client.get "/big", 200)
  end },

  { "a refused request is answered in the form of the contract", function()
    local c = client.connect()
    c:send(line "GET /%00 HTTP/1.1")
    check.status(c:answer "GET", 400, "BAD_REQUEST")
    c:close()
  end },

  { "20 requests in one packet are answered in order", function()
    local c = client.connect()
    local parts = {}
    for i = 1, 20 do parts[i] = client.format("GET", i % 3 == 0 and "/slow" or "/users/" .. i) end
    c:send(table.concat(parts))
    for i = 1, 20 do
      check.equal(c:answer("GET").json().data, i % 3 == 0 and "slow" or tostring(i))
    end
    c:close()
  end },

  { "a request cut at every byte gives the same answer", function()
    local bytes = client.format("POST", "/echo/cut?x=%41", { body = { a = 1 } })
    for at = 1, #bytes - 1 do
      local c = client.connect()
      c:send(bytes:sub(1, at))
      client.sleep(0.001)
      c:send(bytes:sub(at + 1))
      local answer = c:answer("POST").json()
      check.equal(answer.body, '{"a":1}')
      check.equal(answer.query.x, "A")
      c:close()
    end
  end },

  { "chunked bodies, extensions and trailers", function()
    local head = line("POST /echo/x HTTP/1.1", "Transfer-Encoding: chunked\r\nX-A: head\r\n")
    local c = client.connect()
    c:send(head .. "3;q=1\r\nabc\r\nA\r\n0123456789\r\n0\r\nX-A: trailer\r\nHost: evil\r\n\r\n")
    local answer = c:answer("POST").json()
    check.equal(answer.body, "abc0123456789")
    check.equal(answer.headers["x-a"], "head")
    check.equal(answer.headers.host, "a")
    c:send(GOOD)
    check.status(c:answer "GET", 200)
    c:close()
    refused(head .. "1;" .. ("e"):rep(2000) .. "\r\na\r\n0\r\n\r\n", 400)
    refused(line("POST /small HTTP/1.1", "Transfer-Encoding: chunked\r\n") .. "b\r\n01234567890\r\n0\r\n\r\n", 413)
  end },

  { "a body that went to a file is kept under a new name, once", function()
    local path = os.getenv "TEST_WORK" .. "/kept"
    local function save()
      local answer = client.post("/file", { body = ("z"):rep(100000), headers = { ["Content-Type"] = "x/y", ["X-Path"] = path } })
      return check.status(answer, 200).json().data
    end
    local first = save()
    check.equal(first.why, nil)
    check.equal(first.saved, true)
    check.equal(io.open(path):read "a", ("z"):rep(100000))
    check.matches(save().why, "File exists")
  end },

  { "bodies streamed to the handler and to a file", function()
    for _, path in ipairs { "/stream", "/file" } do
      for _, size in ipairs { 0, 1, 100000, 5 << 20 } do
        local answer = client.post(path, { body = ("z"):rep(size), headers = { ["Content-Type"] = "x/y" } })
        check.equal(check.status(answer, 200).json().data.bytes, size, path)
      end
    end
    local c = client.connect()
    c:send(line("POST /stream HTTP/1.1", "Transfer-Encoding: chunked\r\n"))
    for _ = 1, 50 do
      c:send "5\r\nhello\r\n"
      client.sleep(0.001)
    end
    c:send "0\r\n\r\n"
    check.equal(c:answer("POST").json().data.bytes, 250)
    c:close()
  end },

  { "a streamed body that turns out malformed, or ends early", function()
    local worker = client.shell("pgrep -P " .. os.getenv "TEST_SERVER_PID")
    local head = line("POST /stream HTTP/1.1", "Transfer-Encoding: chunked\r\n") .. "5\r\nhello\r\n"
    for _, rest in ipairs { "nonsense\r\n", "", "80000000\r\n" } do
      local c = client.connect()
      c:send(head)
      client.sleep(0.02)                       -- the handler waits for more
      if rest == "" then c.socket:shutdown "send" else c:send(rest) end
      check.status(c:answer "POST", rest:find "^8" and 413 or 400)
      check.equal(select(2, c:read_all()), "closed")
      c:close()
    end
    local c = client.connect()
    c.timeout = 60
    c:send(head)
    check.status(c:answer "POST", 408, "REQUEST_TIMEOUT")
    c:close()
    check.equal(client.shell("pgrep -P " .. os.getenv "TEST_SERVER_PID"), worker)
  end },

  { "100-continue when the body is wanted", function()
    local c = client.connect()
    c:send(line("POST /echo/x HTTP/1.1", "Expect: 100-continue\r\nContent-Length: 2\r\n"))
    check.equal(c:answer("POST").status, 100)
    c:send "ok"
    check.equal(c:answer("POST").json().body, "ok")
    c:close()
    refused(line("POST /small HTTP/1.1", "Expect: 100-continue\r\nContent-Length: 11\r\n"), 413)
  end },

  { "forms and multipart", function()
    local form = client.post("/form", { body = "name=%C3%84pfel+und+Birnen&other=1",
                                        headers = { ["Content-Type"] = "application/x-www-form-urlencoded" } })
    check.equal(form.json().data.name, "Äpfel und Birnen")
    local body = '--B\r\nContent-Disposition: form-data; name="name"\r\n\r\nTart\r\n--B\r\n'
      .. 'Content-Disposition: form-data; name="image"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n'
      .. ("\0\1\2\r\n"):rep(1000) .. "\r\n--B--\r\n"
    local answer = client.post("/upload", { body = body, headers = { ["Content-Type"] = "multipart/form-data; boundary=B" } })
    check.same(check.status(answer, 200).json().data, { bytes = 5000, filename = "a.png", name = "Tart", type = "image/png" })
    check.status(client.post("/upload", { body = "junk", headers = { ["Content-Type"] = "multipart/form-data; boundary=B" } }), 400)
    check.status(client.post("/form", { body = "name=%zz", headers = { ["Content-Type"] = "application/x-www-form-urlencoded" } }), 400)
  end },

  { "events and large streams", function()
    local answer = client.get "/events"
    check.equal(answer.headers["content-type"], "text/event-stream")
    check.equal(answer.body, 'id: 1\nevent: tick\ndata: {"n":1}\n\nid: 2\nevent: tick\ndata: {"n":2}\n\n'
                .. 'id: 3\nevent: tick\ndata: {"n":3}\n\n')
    check.equal(#client.get("/flood").body, 4 << 20)
  end },

  { "HTTP/1.0, Connection: close, HEAD, OPTIONS *", function()
    local text, why = raw "GET /users/1 HTTP/1.0\r\n\r\n"
    check.matches(text, "^HTTP/1%.1 200 ")
    check.equal(why, "closed")
    text, why = raw "GET /users/1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    check.matches(text, "[Cc]onnection: close")
    check.equal(why, "closed")
    local head = client.head "/big"
    check.equal(head.headers["content-length"], client.get("/big").headers["content-length"])
    local c = client.connect()
    c:send "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"
    check.status(c:answer "OPTIONS", 204)
    c:close()
  end },

  { "OPTIONS: Allow, also of a route for any method; preflights are the engine's", function()
    local all = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
    check.equal(check.status(client.request("OPTIONS", "/echo/x"), 200).headers.allow, all)
    check.equal(check.status(client.request("TRACE", "/echo/x"), 405).headers.allow, all)
    check.equal(check.status(client.request("OPTIONS", "/big"), 204).headers.allow, "GET, HEAD, OPTIONS")
    check.equal(check.status(client.request("PUT", "/big"), 405).headers.allow, "GET, HEAD, OPTIONS")
    for path, methods in pairs { ["/echo/x"] = all, ["/form"] = "POST, OPTIONS" } do
      local answer = client.request("OPTIONS", path, {
        headers = { Origin = "https://a.example", ["Access-Control-Request-Method"] = "PUT" } })
      check.equal(check.status(answer, 204).headers["access-control-allow-methods"], methods)
      check.equal(answer.headers["access-control-allow-origin"], "https://a.example")
      answer = client.request("OPTIONS", path, {
        headers = { Origin = "https://b.example", ["Access-Control-Request-Method"] = "PUT" } })
      check.equal(answer.headers["access-control-allow-methods"], nil)
      check.equal(answer.headers["access-control-allow-origin"], nil)
    end
  end },

  { "cookies and repeated headers", function()
    local c = client.connect()
    c:send "GET /cookies HTTP/1.1\r\nHost: a\r\nCookie: a=1; b=\"x y\"\r\nX-A: 1\r\ncookie: c=3; a=2\r\nx-a: 2\r\n\r\n"
    local data = check.status(c:answer "GET", 200).json().data
    check.same(data.cookies, { a = "1", b = "x y", c = "3" })
    check.equal(data.headers.cookie, 'a=1; b="x y"; c=3; a=2')
    check.equal(data.headers["x-a"], "1, 2")
    c:close()
  end },

  { "failures are not for caches, nor does a type come twice", function()
    check.equal(client.get("/files/a.css").headers["cache-control"], nil)
    check.equal(client.get("/files/none.css").headers["cache-control"], "no-store")
    check.equal(client.get("/typed").headers["content-type"], "application/problem+json")
  end },

  { "null is no object", function()
    local answer = client.post("/form", { body = "null", headers = { ["Content-Type"] = "application/json" } })
    check.equal(check.status(answer, 400, "VALIDATION_ERROR").json().error, "The body must be an object")
  end },

  { "a half-closed client gets its answer", function()
    local c = client.connect()
    c:send "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n"
    c.socket:shutdown "send"
    check.equal(c:answer("GET").json().data, "slow")
    c:close()
  end },

  { "answers of scripts: status, headers, cookies, redirect, nothing", function()
    local answer = check.status(client.get "/headers", 418)
    check.equal(answer.headers["x-one"], "1")
    check.matches(answer.headers["set-cookie"], "a=b; Path=/; HttpOnly; SameSite=Lax; Secure, c=d")
    check.equal(check.status(client.get "/redirect", 303).headers.location, "/big")
    check.status(client.get "/nothing", 204)
    check.status(client.get "/split", 500)
    check.equal(client.get("/split").headers["x-evil"], nil)
  end },

  { "static files: type, ETag, HEAD, and nothing outside of the folder", function()
    local answer = check.status(client.get "/files/a.css", 200)
    check.equal(answer.headers["content-type"], "text/css; charset=utf-8")
    check.equal(answer.body, "body { color: red }\n")
    check.status(client.get("/files/a.css", { headers = { ["If-None-Match"] = answer.headers.etag } }), 304)
    check.equal(client.head("/files/a.css").headers["content-length"], tostring(#answer.body))
    check.equal(check.status(client.get "/files/", 200).body, "index\n")
    for _, path in ipairs { "/files/none.css", "/files/.hidden", "/files/deep", "/files/..%2fapp.lua", "/files/%2e%2e/app.lua" } do
      local status = client.get(path).status
      check.truthy(status == 404 or status == 400, path .. " is " .. status)
    end
  end },

  { "a literal segment wins over a parameter", function()
    check.equal(client.get("/users/me").json().data, "literal")
    check.equal(client.get("/users/%6de").json().data, "literal")
    check.equal(client.get("/users/you").json().data, "you")
    check.equal(client.get("/users/a%2Fb").status == 200, client.get("/users/a%2Fb").status == 200)
    check.status(client.get "//users/me", 404)
    check.equal(client.get("/users/me/").json().data, "literal")
    check.status(client.get "/users/me//", 404)
    check.equal(client.get("/x/../users/./me").json().data, "literal")
  end },

  { "slow heads and idle connections are ended", function()
    local c = client.connect()
    c.timeout = 60
    c:send "GET / HTTP/1.1\r\nHo"
    check.status(c:answer "GET", 408)
    check.equal(select(2, c:read_all()), "closed")
    c = client.connect()
    c.timeout = 60
    check.equal(select(2, c:read_all()), "closed")
  end },

  { "clients that hang up leave nothing", function()
    for i = 1, 300 do
      local c = client.connect()
      c:send(i % 2 == 0 and GOOD or "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
      if i % 3 == 0 then c.socket:setoption("linger", { on = true, timeout = 0 }) end
      c:close()
    end
    check.status(client.get "/big", 200)
  end },
}
