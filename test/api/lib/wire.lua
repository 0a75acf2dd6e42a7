--- Beside a connection: sees what is sent and received, whoever does it and however, pairs
-- each answer with its request and has it judged once it is whole; of a stream of events
-- the head at once, and then each event.

local wire = {}

---- Readers: get bytes as they come, and wait for more in between ---------------------------

local Reader = {}
Reader.__index = Reader

--- Runs fn(reader) until it waits.
local function reader_of(fn)
  local reader = setmetatable({ rest = "", thread = coroutine.create(fn) }, Reader)
  assert(coroutine.resume(reader.thread, reader))
  return reader
end

--- From outside: what came; nil at the end.
function Reader:feed(bytes)
  if coroutine.status(self.thread) == "dead" then return end
  local ok, fault = coroutine.resume(self.thread, bytes)
  if not ok then error(debug.traceback(self.thread, fault), 0) end
end

--- Waits for bytes; false when there are no more.
function Reader:more()
  local bytes = not self.ended and coroutine.yield()
  if not bytes then
    self.ended = true
    return false
  end
  self.rest = self.rest .. bytes
  return true
end

--- What is there, and n bytes of it taken away.
function Reader:cut(n)
  local bytes = self.rest:sub(1, n)
  self.rest = self.rest:sub(n + 1)
  return bytes
end

--- The bytes up to and with `mark`, or nil.
function Reader:up_to(mark)
  repeat
    local _, stop = self.rest:find(mark, 1, true)
    if stop then return self:cut(stop) end
  until not self:more()
end

--- The next n bytes, or nil.
function Reader:take(n)
  while #self.rest < n do
    if not self:more() then return nil end
  end
  return self:cut(n)
end

---- Messages --------------------------------------------------------------------------------

local function headers_of(head)
  local headers = {}
  for name, value in head:gmatch "\r\n([^:\r\n]+): ?([^\r\n]*)" do
    name = name:lower()
    headers[name] = headers[name] and headers[name] .. ", " .. value or value
  end
  return headers
end

--- An answer's status and headers; nil when it is malformed.
---@param head string
---@return table?
function wire.answer(head)
  local status = tonumber(head:match "^HTTP/1%.[01] (%d%d%d) ")
  return status and { status = status, headers = headers_of(head), head = head }
end

--- A request's method, path and headers; nil when they cannot be told.
local function request_of(head)
  local method, target = head:match "^[\r\n]*(%u+) (%S+) HTTP/1%.[01]\r\n"
  if not method then return nil end
  return { method = method, path = target:gsub("^http://[^/]*", ""), headers = headers_of(head) }
end

--- Calls fn with each chunk; false when the end comes before the last.
local function read_chunks(reader, fn)
  while true do
    local line = reader:up_to "\r\n"
    if not line then return false end
    local size = tonumber(line:match "^%x+" or "", 16)
    if not size then return false, "no chunk: " .. line end
    if size == 0 then break end
    local chunk = reader:take(size)
    if not chunk or not reader:take(2) then return false end
    fn(chunk)
  end
  local line
  repeat line = reader:up_to "\r\n" until not line or line == "\r\n"
  return line ~= nil
end

local function length_of(headers) return math.tointeger((headers["content-length"] or ""):match "^%d+$") end

--- Calls fn with the body, piece by piece; false when the end comes before it is whole.
local function read_body(reader, headers, fn)
  if headers["transfer-encoding"] == "chunked" then return read_chunks(reader, fn) end
  local bytes = reader:take(length_of(headers) or 0)
  if bytes then fn(bytes) end
  return bytes ~= nil
end

--- The same of an answer, which may end with its connection.
local function read_answers_body(reader, headers, fn)
  if headers["transfer-encoding"] or headers["content-length"] then return read_body(reader, headers, fn) end
  repeat fn(reader:cut(#reader.rest)) until not reader:more()
  return true
end

---- Events ----------------------------------------------------------------------------------

--- {id =, event =, data =} of its lines; nil for signs of life.
local function event_of(text)
  local event
  for line in text:gmatch "[^\n]+" do
    local name, value = line:match "^([^:]*):? ?(.*)$"
    if name ~= "" then
      event = event or {}
      event[name] = name == "data" and event.data and event.data .. "\n" .. value or value
    end
  end
  return event
end

--- A function for the pieces of a body, which calls fn with each event.
local function each_event(fn)
  local rest = ""
  return function(piece)
    rest = rest .. piece
    local from = 1
    for ends in rest:gmatch "\n\n()" do
      local event = event_of(rest:sub(from, ends - 1))
      if event then fn(event) end
      from = ends
    end
    rest = rest:sub(from)
  end
end

---- Wires -----------------------------------------------------------------------------------

local Wire = {}
Wire.__index = Wire

local function read_requests(reader, self)
  repeat
    local head = reader:up_to "\r\n\r\n"
    local request = head and request_of(head)
    if not request then return end       -- what follows cannot be told from its body
    request.undescribed = self.undescribed
    table.insert(self.requests, request)
  until not read_body(reader, request.headers, function() end)
end

local function has_body(request, answer)
  return not (request and request.method == "HEAD" or answer.status == 204 or answer.status == 304)
end

local function is_stream(answer)
  return (answer.headers["content-type"] or ""):find "^text/event%-stream" ~= nil
end

--- Judges an answer when it is whole, a stream by its events; false when the end came before.
local function read_answer(reader, self, request, answer)
  local function judge(event) self:found(self.judge(request, answer, event)) end
  local parts = {}
  if not has_body(request, answer) then
    answer.body = ""
    judge()
    return true
  end
  if is_stream(answer) then
    judge()
    return read_answers_body(reader, answer.headers, each_event(judge))
  end
  local whole, why = read_answers_body(reader, answer.headers, function(piece) parts[#parts + 1] = piece end)
  if not whole then return self:found(why) end
  answer.body = table.concat(parts)
  judge()
  return true
end

local function read_answers(reader, self)
  repeat
    local head = reader:up_to "\r\n\r\n"
    if not head then return end
    local answer = wire.answer(head)
    if not answer then return self:found("no status line: " .. head) end
    local is_final = answer.status >= 200
  until is_final and not read_answer(reader, self, table.remove(self.requests, 1), answer)
end

--- judge(request?, answer, event?) returns what is wrong, or nil: the request is nil when
-- what was sent is none, an answer whose body is nil is a stream's.
---@param judge fun(request: table?, answer: table, event: table?): string?
function wire.new(judge)
  local self = setmetatable({ judge = judge, requests = {} }, Wire)
  self.out = reader_of(function(reader) read_requests(reader, self) end)
  self.back = reader_of(function(reader) read_answers(reader, self) end)
  return self
end

function Wire:found(fault) self.fault = self.fault or fault end

--- What was sent; `undescribed`: the answer is judged by the test alone.
---@param bytes string
---@param undescribed? boolean
function Wire:sent(bytes, undescribed)
  self.undescribed = undescribed
  self.out:feed(bytes)
end

--- What was received, nil at the end: returns what is wrong with it, or nil.
---@param bytes string?
---@return string?
function Wire:received(bytes)
  self.back:feed(bytes)
  local fault = self.fault
  self.fault = nil
  return fault
end

return wire
