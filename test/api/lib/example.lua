--- Requests made up from openapi.json: what an operation takes, and how it refuses.

local cjson    = require "cjson"
local client   = require "client"
local contract = require "contract"
local schema   = require "schema"

local example = {}

example.ABSENT = "7e57ab5e-0000-4000-8000-000000000000"

---- Parts ------------------------------------------------------------------------------------------

--- The path with its parameters filled in: ids by `values` or absent ones.
---@param route table of contract.routes
---@param values? table<string, string>
---@return string
function example.path(route, values)
  return (route.path:gsub("{([^}]+)}", function(name)
    return values and values[name] or example.ABSENT
  end))
end

local function value_of(one)
  one = schema.follow(one, contract.document)
  if one.examples then return one.examples[1] end
  if one.default ~= nil then return one.default end
  if one.enum then return one.enum[1] end
  local type = one.type
  if type == "integer" or type == "number" then return math.max(one.minimum or 1, 1) end
  if type == "boolean" then return true end
  local formats = { uuid = example.ABSENT, date = "2027-01-15", ["date-time"] = "2027-01-15T10:30:00Z",
                    email = "ada@example.com" }
  return formats[one.format] or ("x"):rep(math.max(one.minLength or 1, 1))
end

--- "?a=1&b=2" of the query's parameters that are required, with those of `more`.
---@param operation table
---@param more? table<string, string>
---@return string
function example.query(operation, more)
  local parts = {}
  for _, one in ipairs(operation.parameters or {}) do
    local value = more and more[one.name]
    if one["in"] == "query" and (value or one.required) then
      value = tostring(value or value_of(one.schema))
      parts[#parts + 1] = one.name .. "=" .. value:gsub("[^%w%-._~]", function(c)
        return ("%%%02X"):format(c:byte())
      end)
    end
  end
  return #parts > 0 and "?" .. table.concat(parts, "&") or ""
end

--- The JSON media type of its body, or nil.
---@param operation table
---@return table?
function example.media(operation)
  return operation.requestBody and operation.requestBody.content["application/json"]
end

---- Bodies that are accepted -------------------------------------------------------------------------

local function without(body, name)
  local copy = {}
  for key, value in pairs(body) do if key ~= name then copy[key] = value end end
  return copy
end

--- Whether an answer says that what was sent is malformed.
function example.is_malformed(answer)
  return answer.status == 400 and answer.body:find '"code":"VALIDATION_ERROR"' ~= nil
end

--- Sends it with its example as body; what the example has too much is left out by and by.
---@param route table
---@param path string
---@param options table
---@return table answer
function example.send(route, path, options)
  local media = example.media(route.operation)
  options.body = media and media.example or nil
  local answer = client.request(route.method, path, options)
  if not media or not example.is_malformed(answer) then return answer end
  for name in pairs(media.schema.properties or {}) do
    options.body = without(media.example, name)
    if next(options.body) == nil then options.body, options.json = nil, "{}" end
    local other = client.request(route.method, path, options)
    if not example.is_malformed(other) then return other end
  end
  return answer
end

--- {a = 1, b = {c = 2}} as "a b.c", in order: the form of a body.
---@param value any
---@return string
function example.form(value)
  local names = {}
  local function add(one, where)
    if type(one) ~= "table" or one == cjson.null then
      names[#names + 1] = where
      return
    end
    for name, part in pairs(one) do add(part, where .. "." .. name) end
  end
  add(value, "")
  table.sort(names)
  return table.concat(names, " ")
end

return example
