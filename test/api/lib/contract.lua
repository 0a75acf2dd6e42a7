--- The contract: what the bakery answers is what its openapi.json says.  client.lua and
-- curl (traces.lua) show all that was received to contract.judge, by way of a wire.

local cjson  = require "cjson"
local schema = require "schema"

local contract = {}

---@type table? openapi.json; nil when the bakery is not served
contract.document = nil

local faults = {}      -- found since contract.take

--- Answers of the server itself, before or instead of a route's: described by `default`.
local ENGINE <const> = { [400] = true, [405] = true, [408] = true, [413] = true, [414] = true, [415] = true,
                         [417] = true, [431] = true, [500] = true, [501] = true, [503] = true, [504] = true,
                         [505] = true }

---- Finding the operation --------------------------------------------------------------------

local routes       -- {method, pattern, operation, fixed = how much of it is no parameter}

local function pattern_of(path)
  local text = path:gsub("[%-%.%+%*%?%^%$%(%)%%%[%]]", "%%%0")
  return "^" .. text:gsub("{[^}]+}", "[^/]+") .. "$"
end

local function list_routes()
  routes = {}
  for path, item in pairs(contract.document.paths) do
    for method, operation in pairs(item) do
      routes[#routes + 1] = { method = method:upper(), path = path, pattern = pattern_of(path),
                              operation = operation, fixed = #path:gsub("{[^}]+}", "") }
    end
  end
  table.sort(routes, function(a, b)
    if a.fixed ~= b.fixed then return a.fixed > b.fixed end
    return a.path .. a.method < b.path .. b.method
  end)
end

--- Every operation: {method, path, operation}, in a fixed order.
function contract.routes() return routes end

--- The operation behind a request, or nil.
---@param method string
---@param path string
---@return table?
function contract.find(method, path)
  if method == "HEAD" then method = "GET" end
  path = path:gsub("[?#].*", "")
  if #path > 1 then path = path:gsub("/$", "") end
  for _, route in ipairs(routes) do
    if route.method == method and path:find(route.pattern) then return route end
  end
end

---- Judging -----------------------------------------------------------------------------------

--- The body as it was before it was packed.
local function unpacked(answer)
  if answer.headers["content-encoding"] ~= "gzip" then return answer.body end
  local name = os.tmpname()
  local file = assert(io.open(name, "wb"))
  file:write(answer.body)
  file:close()
  local pipe = assert(io.popen("gzip -dc < " .. name))
  local text = pipe:read "a"
  pipe:close()
  os.remove(name)
  return text
end

local function json_fault(one, text)
  local ok, body = pcall(schema.decode, text)
  if not ok then return "it is no JSON" end
  local is_object = type(body) == "table"
  if is_object and body.code == "VALIDATION_ERROR" and not (body.errors and body.fields) then return "it names no faults" end
  return schema.check(one, body, contract.document)
end

local function media_of(response, answer)
  local type = (answer.headers["content-type"] or ""):match "^[^;]+" or ""
  local content = response.content
  return content and (content[type] or content[type:gsub("/.*", "/*")]), type
end

local function body_fault(response, answer)
  if not response.content then return answer.body ~= "" and "it has a body" or nil end
  local media, type = media_of(response, answer)
  if not media then return "its type is " .. type end
  if type == "application/json" then return json_fault(media.schema, unpacked(answer)) end
end

local function event_fault(response, answer, event)
  local media = media_of(response, answer)
  local list = media and media.schema and schema.follow(media.schema, contract.document)
  if not list or not list.items then return "its events are not described" end
  return schema.check(list.items, event, contract.document)
end

--- Of a route that the document has.
local function response_to(route, status)
  local responses = route.operation.responses
  local response = responses[tostring(status)] or status < 300 and responses["2XX"]
  if not response and (ENGINE[status] or responses["2XX"]) then response = responses.default end
  return response and schema.follow(response, contract.document)
end

--- Of what is no request, or asks for what the document has not: a failure like any.
local function response_to_unknown(request, status)
  local may_be = ENGINE[status] or request and status == 404
  return may_be and contract.document.components.responses.default
end

local function fault_of(request, answer, event)
  local route = request and contract.find(request.method, request.path)
  if not route and request and request.method == "OPTIONS" and answer.status == 204 then return nil end
  local response
  if route then response = response_to(route, answer.status)
  else response = response_to_unknown(request, answer.status) end
  if not response then return "this status is not described" end
  if event then return event_fault(response, answer, event) end
  if request and request.method == "HEAD" then return nil end
  return body_fault(response, answer)
end

--- What is wrong with an answer, or an event of a stream, by the document; nil for nothing.
-- Without a request it answers something that is none.
---@param request {method: string, path: string, undescribed: boolean?}?
---@param answer table without a body it is a stream's
---@param event table?
---@return string?
function contract.judge(request, answer, event)
  if request and request.undescribed then return nil end
  local fault = fault_of(request, answer, event)
  if not fault then return nil end
  local asked = request and request.method .. " " .. request.path or "what is no request"
  local said = event and ("%s: %s"):format(event.event, event.data) or answer.body or answer.head
  fault = ("%s: %d: not as openapi.json says: %s\n%s"):format(asked, answer.status, fault, said:sub(1, 2000))
  faults[#faults + 1] = fault
  return fault
end

--- The faults found since this was called last: also those that a test has overlooked.
---@return string[]
function contract.take()
  local list = faults
  faults = {}
  return list
end

---- Beginning ---------------------------------------------------------------------------------

---@param text string openapi.json
function contract.load(text)
  contract.document = cjson.decode(text)
  list_routes()
end

--- Whether the bakery is served, or an app made of it.
local function is_bakery()
  local file = io.open((os.getenv "TEST_APP" or "") .. "/app.lua")
  local text = file and file:read "a" or ""
  if file then file:close() end
  return text:find "openapi%s*=" or text:find 'require "bakery.app"'
end

--- Begins to judge, when the bakery is served.
---@param fetch fun(): table the answer to GET /api/openapi.json
function contract.begin(fetch)
  if not is_bakery() then return end
  local answer = fetch()
  contract.load(answer.body)
  local fault = contract.judge({ method = "GET", path = "/api/openapi.json" }, answer)
  if fault then error(fault, 0) end
end

return contract
