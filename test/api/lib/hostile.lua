--- What is no request, or not to be taken.

local hostile = {}

--- A request of one line and a Host.
---@param text string
---@param headers? string
function hostile.line(text, headers) return text .. "\r\nHost: a\r\n" .. (headers or "") .. "\r\n" end

local line <const> = hostile.line

--- By the status of their answer, where the paths are those of apps/http_test.
hostile.by_status = {
  [400] = {
    "GET / HTTP/1.1\nHost: a\n\n", "GET / HTTP/1.1\r\nHost: a\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n",
    "GET / HTTP/1.1\r\n X: a\r\nHost: a\r\n\r\n", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n", "GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
    " GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET /\r\nHost: a\r\n\r\n", "GET / HTTP/1.1\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
    line("GET / HTTP/1.1", ": x\r\n"), line("GET / HTTP/1.1", "X : a\r\n"), line("GET / HTTP/1.1", "X\r\n"),
    line("POST / HTTP/1.1", "Content-Length: 1\r\nContent-Length: 1\r\n") .. "x",
    line("POST / HTTP/1.1", "Content-Length: +1\r\n") .. "x", line("POST / HTTP/1.1", "Content-Length: 1,1\r\n") .. "x",
    line("POST / HTTP/1.1", "Content-Length: \r\n"), line("POST / HTTP/1.1", "Content-Length: 99999999999999999999\r\n"),
    line("POST / HTTP/1.1", "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n") .. "0\r\n\r\n",
    line("POST / HTTP/1.1", "Transfer-Encoding: chunked, identity\r\n") .. "0\r\n\r\n",
    line("POST / HTTP/1.1", "Transfer-Encoding: identity\r\n"), line("POST / HTTP/1.1", "Transfer-Encoding: xchunked\r\n") .. "0\r\n\r\n",
    line("POST / HTTP/1.1", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n") .. "0\r\n\r\n",
    line("POST / HTTP/1.1", "Transfer-Encoding:\r\n"), "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    line("POST / HTTP/1.1", "Transfer-Encoding: chunked\r\n") .. "x\r\n",
    line("POST / HTTP/1.1", "Transfer-Encoding: chunked\r\n") .. "1\r\nab\r\n0\r\n\r\n",
    line("POST / HTTP/1.1", "Transfer-Encoding: chunked\r\n") .. "0\r\n\n",
    line("POST / HTTP/1.1", "Transfer-Encoding: chunked\r\n") .. "fffffffffffffffff\r\n",
    line "GET /%00 HTTP/1.1", line "GET /%ff HTTP/1.1", line "GET /%zz HTTP/1.1", line "GET /../etc HTTP/1.1",
    line "GET /a/%2e%2e/%2e%2e/b HTTP/1.1", line "GET http://b/ HTTP/1.1", line "GET * HTTP/1.1", line "GET x HTTP/1.1",
    "\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "\0\0\0\0\r\n\r\n", "GET / HTTP/1.12\r\nHost: a\r\n\r\n", "GET / http/1.1\r\nHost: a\r\n\r\n",
  },
  [405] = { line "CONNECT a:1 HTTP/1.1" },
  [413] = { line("POST /echo/x HTTP/1.1", "Content-Length: 1048577\r\n"), line("POST /small HTTP/1.1", "Content-Length: 11\r\n") .. "01234567890" },
  [414] = { "GET /" .. ("a"):rep(9000) .. " HTTP/1.1\r\nHost: a\r\n\r\n", "GET /" .. ("a"):rep(9000) },
  [417] = { line("POST /echo/x HTTP/1.1", "Expect: a miracle\r\nContent-Length: 1\r\n") .. "x" },
  [431] = { line("GET / HTTP/1.1", "X: " .. ("a"):rep(17000) .. "\r\n"), line("GET / HTTP/1.1", ("X: a\r\n"):rep(101)),
            "GET / HTTP/1.1\r\nHost: a\r\nX: " .. ("a"):rep(18000) },
  [501] = { line "BREW / HTTP/1.1", line "get / HTTP/1.1" },
  [505] = { line "GET / HTTP/2.0", line "GET / HTTP/1.2" },
}

return hostile
