--- The contract: what the bakery answers is what its openapi.json says.

local schema = require "schema"

local contract = {}

---@type table? openapi.json; nil when another app is served
contract.document = nil

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

---- Checking an answer ------------------------------------------------------------------------

local function check_body(response, answer)
  local type = (answer.headers["content-type"] or ""):match "^[^;]+" or ""
  local content = response.content
  if not content then return #answer.body > 0 and "it has a body" or nil end
  local media = content[type] or content[type:gsub("/.*", "/*")]
  if not media then return "its type is " .. type end
  if type ~= "application/json" or answer.headers["content-encoding"] then return nil end
  local body = schema.decode(answer.body)
  if body.code == "VALIDATION_ERROR" and not (body.errors and body.fields) then return "it names no faults" end
  return schema.check(media.schema, body, contract.document)
end

local function check_known(route, method, answer)
  local responses = route.operation.responses
  local response = responses[tostring(answer.status)] or answer.status < 300 and responses["2XX"]
  if not response and (ENGINE[answer.status] or responses["2XX"]) then response = responses.default end
  if not response then return "this status is not described" end
  if method == "HEAD" then return nil end
  return check_body(schema.follow(response, contract.document), answer)
end

local function check_unknown(method, answer)
  if answer.status < 400 then
    if method == "OPTIONS" then return nil end
    return "this path is not described"
  end
  if method == "HEAD" then return nil end
  return check_body(contract.document.components.responses.default, answer)
end

--- Raises when an answer is not what the document says.
---@param method string
---@param path string
---@param answer table
function contract.check(method, path, answer)
  if not contract.document then return end
  local route = contract.find(method, path)
  local fault
  if route then fault = check_known(route, method, answer)
  else fault = check_unknown(method, answer) end
  if fault then
    error(("%s %s: %d: not as openapi.json says: %s\n%s"):format(method, path, answer.status, fault,
                                                                  answer.body:sub(1, 2000)), 0)
  end
end

--- Begins to check, when the bakery is served.
---@param fetch fun(): table the answer to GET /api/openapi.json
function contract.begin(fetch)
  if not (os.getenv "TEST_APP" or ""):find "/lua/bakery$" then return end
  contract.document = fetch().json()
  list_routes()
end

return contract
