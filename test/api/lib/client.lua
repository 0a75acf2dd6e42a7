--- A small HTTP client for tests: exact about bytes, and able to misbehave.  Whatever the
-- bakery answers on its connections, however it is read, is checked against openapi.json.

local cjson    = require "cjson"
local contract = require "contract"
local socket   = require "socket"
local wire     = require "wire"

local client = {}
client.port = tonumber(os.getenv "TEST_PORT")
client.timeout = 30

---- Connections --------------------------------------------------------------------------

local Connection = {}
Connection.__index = Connection

function client.connect()
  local s = assert(socket.tcp())
  s:settimeout(client.timeout)
  assert(s:connect("127.0.0.1", client.port))
  s:setoption("tcp-nodelay", true)
  return setmetatable({ socket = s, rest = "", wire = contract.document and wire.new(contract.judge) }, Connection)
end

--- Sends; what is `undescribed` has answers that are not as openapi.json says.
function Connection:send(bytes, undescribed)
  if self.wire then self.wire:sent(bytes, undescribed) end
  return self.socket:send(bytes)
end

function Connection:close()
  self.socket:close()
end

--- Shows the wire what came; raises when it is an answer that must not be.
local function look(self, bytes)
  local fault = self.wire and self.wire:received(bytes)
  if fault then error(fault, 0) end
  return bytes
end

--- What is there, waiting for at least a byte; nil and why.  All is read by this.
function Connection:more()
  local ready = socket.select({ self.socket }, nil, self.timeout or client.timeout)
  if #ready == 0 then return nil, "timeout" end
  self.socket:settimeout(0)
  local bytes, why, part = self.socket:receive(65536)
  self.socket:settimeout(client.timeout)
  bytes = bytes or part
  if #bytes == 0 and why == "closed" then return look(self), why end
  return look(self, bytes)
end

--- Up to and with `mark`, or nil and what was there.
function Connection:read_until(mark)
  while true do
    local _, stop = self.rest:find(mark, 1, true)
    if stop then
      local text = self.rest:sub(1, stop)
      self.rest = self.rest:sub(stop + 1)
      return text
    end
    local more, why = self:more()
    if not more then return nil, why, self.rest end
    self.rest = self.rest .. more
  end
end

function Connection:read_bytes(n)
  while #self.rest < n do
    local more, why = self:more()
    if not more then return nil, why end
    self.rest = self.rest .. more
  end
  local text = self.rest:sub(1, n)
  self.rest = self.rest:sub(n + 1)
  return text
end

--- Everything until the server closes; the reason is "closed" or "timeout".
function Connection:read_all()
  while true do
    local more, why = self:more()
    self.rest = self.rest .. (more or "")
    if not more then
      local text = self.rest
      self.rest = ""
      return text, why
    end
  end
end

local function read_chunks(self)
  local parts = {}
  while true do
    local line = assert(self:read_until("\r\n"), "a chunk's size is missing")
    local size = tonumber(line:match("^%x+"), 16)
    if size == 0 then break end
    parts[#parts + 1] = assert(self:read_bytes(size))
    assert(self:read_bytes(2) == "\r\n")
  end
  assert(self:read_until("\r\n"))
  return table.concat(parts)
end

--- One answer: {status, headers, body, json()}, or nil and why not.
function Connection:answer(method)
  local head, why, part = self:read_until("\r\n\r\n")
  if not head then return nil, why, part end
  local answer = assert(wire.answer(head), "malformed status line: " .. head)
  local status, headers = answer.status, answer.headers
  if status == 100 then return { status = 100, headers = headers, body = "" } end

  local body
  if method == "HEAD" or status == 204 or status == 304 then
    body = ""
  elseif headers["transfer-encoding"] == "chunked" then
    body = read_chunks(self)
  elseif headers["content-length"] then
    body = assert(self:read_bytes(tonumber(headers["content-length"])), "the body is cut")
  else
    body = self:read_all()
  end
  answer.body = body
  function answer.json() return cjson.decode(body) end
  return answer
end

---- Requests --------------------------------------------------------------------------------

--- The bytes of a request.  options: headers, body (a table is sent as JSON), token.
function client.format(method, path, options)
  options = options or {}
  local headers, body = {}, options.body
  for name, value in pairs(options.headers or {}) do headers[name] = value end
  if type(body) == "table" then
    body = cjson.encode(body)
    headers["Content-Type"] = headers["Content-Type"] or "application/json"
  end
  if options.json then
    body = options.json
    headers["Content-Type"] = headers["Content-Type"] or "application/json"
  end
  if options.token then headers.Authorization = "Bearer " .. options.token end
  headers.Host = headers.Host or "127.0.0.1:" .. client.port
  if body then headers["Content-Length"] = #body end

  local lines = { method .. " " .. path .. " HTTP/1.1" }
  for name, value in pairs(headers) do lines[#lines + 1] = name .. ": " .. value end
  return table.concat(lines, "\r\n") .. "\r\n\r\n" .. (body or "")
end

--- One request on a connection of its own (or options.on).  What the test itself made unlike
-- openapi.json it asks for with options.undescribed.
function client.request(method, path, options)
  options = options or {}
  local connection = options.on or client.connect()
  assert(connection:send(client.format(method, path, options), options.undescribed))
  local answer, why = connection:answer(method)
  if not options.on then connection:close() end
  if not answer then error(method .. " " .. path .. ": no answer: " .. tostring(why), 2) end
  return answer
end

for _, method in ipairs { "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS" } do
  client[method:lower()] = function(path, options) return client.request(method, path, options) end
end

--- Requests at the same time, each on a connection of its own: a list of
-- {method, path, options}; the answers in the same order.
function client.parallel(requests)
  local connections, answers = {}, {}
  for i = 1, #requests do connections[i] = client.connect() end
  for i, r in ipairs(requests) do assert(connections[i]:send(client.format(r[1], r[2], r[3]))) end
  for i, r in ipairs(requests) do
    local answer, why = connections[i]:answer(r[1])
    connections[i]:close()
    answers[i] = answer or error(("%s %s: no answer: %s"):format(r[1], r[2], why), 2)
  end
  return answers
end

--- How many answers have each status: {[201] = 50}.
function client.statuses(answers)
  local counts = {}
  for _, answer in ipairs(answers) do counts[answer.status] = (counts[answer.status] or 0) + 1 end
  return counts
end

---- Beside HTTP ---------------------------------------------------------------------------------

local function quote(text) return "'" .. text:gsub("'", "'\\''") .. "'" end

function client.shell(command)
  local pipe = assert(io.popen(command .. " 2>&1"))
  local text = pipe:read "a"
  local ok = pipe:close()
  return (text:gsub("%s+$", "")), ok
end

--- SQL as the owner (row-level security does not count); rows as lines.
function client.sql(text)
  local out, ok = client.shell("psql -XqAt -v ON_ERROR_STOP=1 " .. quote(os.getenv "DATABASE_URL")
                               .. " -c " .. quote(text))
  if not ok then error(out, 2) end
  return out
end

function client.redis(...)
  local words, url = {}, os.getenv "REDIS_URL"
  local path = url:match "^unix://([^?]+)"
  local server = path and "-s " .. quote(path) or "-u " .. quote(url)
  for i, word in ipairs { ... } do words[i] = quote(tostring(word)) end
  return (client.shell("redis-cli " .. server .. " " .. table.concat(words, " ")))
end

--- Signs somebody in by writing the session's key; returns the token.
function client.session(role, user_id)
  local token = ("%s-%s-%d"):format(role, tostring(os.time()), math.random(1 << 40))
  local id = client.shell("printf %s " .. quote(token) .. " | sha256sum | cut -d' ' -f1")
  client.redis("SET", "session:" .. id, cjson.encode {
    user_id = user_id or "00000000-0000-0000-0000-000000000003", email = role .. "@example.com",
    role = role, created_at = "2026-01-01T00:00:00.000Z", last_activity = "2026-01-01T00:00:00.000Z",
  }, "EX", 2592000)
  return token, id
end

--- Tries again until fn returns something true; fails after `seconds`.
function client.eventually(seconds, what, fn)
  local until_time = socket.gettime() + seconds
  repeat
    local result = fn()
    if result then return result end
    socket.sleep(0.02)
  until socket.gettime() > until_time
  error("not in " .. seconds .. " s: " .. what, 2)
end

--- Waits until all workers have PostgreSQL and Redis: the kernel spreads connections over
-- them, so it asks often.
function client.all_healthy(seconds)
  client.eventually(seconds or 60, "all workers healthy", function()
    for _ = 1, 10 do
      if client.get("/health").json().status ~= "healthy" then return false end
    end
    return true
  end)
end

client.sleep, client.now = socket.sleep, socket.gettime

contract.begin(function() return client.get "/api/openapi.json" end)

return client
