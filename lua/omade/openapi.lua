--- OpenAPI 3.1 from the route declarations, so that the two never disagree.
--
-- app.lua says `openapi = {title = ..., version = ...}`; then GET /api/openapi.json and
-- GET /api/docs are there; `schemas = {Order = ...}` are those that answers name.  Routes
-- may tell more than they need to run: `answer` (a shape, or a schema, of data: see
-- omade.schema), `bare = true` (no envelope), `status` (200 otherwise; a list of several),
-- `type` of the answer (also several), `errors = {[409] = "OUT_OF_STOCK: ..."}`,
-- `description`; rules take `example`.

local docs   = require "omade.web.docs_page"
local engine = require "omade.core.engine"
local json   = require "omade.json"
local limits = require "omade.limits"
local web    = require "omade.web"

---@class omade.openapi
local openapi = {}

---@class omade.openapi_info
---@field title string
---@field version string
---@field description? string
---@field schemas? table<string, table> by the names that omade.schema's `ref` takes

local ROLES <const> = { "guest", "customer", "rider", "staff", "admin" }

-- What a word in `who` stands for, where it is no role itself.
local WORDS <const> = { any = { "customer", "rider", "staff", "admin" }, staff = { "staff", "admin" },
                        anyone = ROLES, optional = ROLES }
local METHODS <const> = { "GET", "POST", "PUT", "PATCH", "DELETE" }

---- Schemas -------------------------------------------------------------------------

local schema_of

local function copy(t)
  local result = {}
  for key, value in pairs(t) do result[key] = value end
  return result
end

--- An object; `without_files` leaves out what only a form can carry.
local function object_of(shape, without_files)
  local properties, required = json.object {}, {}
  for _, name in ipairs(shape.names) do
    local field = shape.fields[name]
    if not (without_files and field.is_file) then
      properties[name] = schema_of(field)
      if not field.optional then required[#required + 1] = name end
    end
  end
  return { type = "object", properties = properties,
           required = #required > 0 and json.array(required) or nil }
end

function schema_of(field)
  if field.is_shape then return object_of(field) end
  if not field.check then return field end          -- a JSON schema already
  local schema = copy(field.schema)
  if schema.items then schema.items = schema_of(schema.items) end
  if schema.enum then schema.enum = json.array(copy(schema.enum)) end
  if field.nullable and schema.type then
    if schema.enum then schema.enum[#schema.enum + 1] = json.null end
    schema.type = json.array { schema.type, "null" }
  end
  if field.default ~= nil then schema.default = field.default end
  if field.options.example ~= nil then schema.examples = json.array { field.options.example } end
  return schema
end

---- Examples ------------------------------------------------------------------------

local BY_FORMAT <const> = {
  uuid = "10000000-0000-0000-0000-000000000001", email = "ada@example.com", date = "2027-01-15",
  ["date-time"] = "2027-01-15T10:30:00Z", ["uri-reference"] = "https://example.com/cake.jpg",
}

local example_of

local function text_example(schema, name)
  local text = name:gsub("_", " ")
  while #text < (schema.minLength or 0) do text = text .. " " .. name end
  return text:sub(1, schema.maxLength)
end

--- What cannot be made up, and need not be there.
local function is_left_out(field)
  return field.is_file or field.optional and field.options and field.options.pattern
    and field.options.example == nil
end

function example_of(field, name)
  if field.is_shape then
    local object = json.object {}
    for _, key in ipairs(field.names) do
      local part = field.fields[key]
      if not is_left_out(part) then object[key] = example_of(part, key) end
    end
    return object
  end
  if field.options.example ~= nil then return field.options.example end
  if field.default ~= nil then return field.default end
  local schema = field.schema
  if schema.enum then return schema.enum[1] end
  if schema.type == "array" then return json.array { example_of(schema.items, name) } end
  if schema.type == "integer" or schema.type == "number" then return math.max(schema.minimum or 1, 1) end
  if schema.type == "boolean" then return true end
  if schema.type == "string" then return BY_FORMAT[schema.format] or text_example(schema, name) end
  return json.object {}
end

---- Parts of an operation -----------------------------------------------------------

local function parameter(place, name, field)
  return { ["in"] = place, name = name, required = place == "path" or not field.optional,
           schema = schema_of(field) }
end

local function add_shape(list, place, shape, seen)
  for _, name in ipairs(shape.names) do
    list[#list + 1] = parameter(place, name, shape.fields[name])
    seen[name] = true
  end
end

local function parameters_of(route)
  local list, declared, in_path = {}, route.shapes, {}
  if declared.params then add_shape(list, "path", declared.params, in_path) end
  for name in route.path:gmatch "[:*]([%w_]+)" do
    if not in_path[name] then
      list[#list + 1] = { ["in"] = "path", name = name, required = true, schema = { type = "string" } }
    end
  end
  if declared.query then add_shape(list, "query", declared.query, {}) end
  if declared.headers then add_shape(list, "header", declared.headers, {}) end
  for name, text in pairs(declared.sends or {}) do
    list[#list + 1] = { ["in"] = "header", name = name, required = false, description = text,
                        schema = { type = "string" } }
  end
  if route.idempotent then
    list[#list + 1] = { ["in"] = "header", name = "Idempotency-Key", required = false,
                        description = "The same request again with the same key has one effect and one answer",
                        schema = { type = "string", minLength = 1, maxLength = 128 } }
  end
  return #list > 0 and json.array(list) or nil
end

--- Whether a body may come as JSON: not when it must have a file.
local function takes_json(shape)
  for _, field in pairs(shape.fields) do
    if field.is_file and not field.optional then return false end
  end
  return true
end

--- As a request body of OpenAPI; nil without one.
local function body_of(route)
  local body = route.shapes.body or route.shapes.reads
  if type(body) == "string" then
    return { required = true, content = { ["application/octet-stream"] = { schema = {} } } }
  end
  if not body then return nil end
  local content = {}
  if takes_json(body) then
    content["application/json"] = { schema = object_of(body, true), example = example_of(body, "body") }
  end
  if route.shapes.form then content["application/x-www-form-urlencoded"] = { schema = object_of(body, true) } end
  if route.files or route.shapes.form then content["multipart/form-data"] = { schema = object_of(body) } end
  return { required = not body.optional, content = content }
end

--- One, or a list of them: as a list.
local function words(one) return type(one) == "table" and one or { one } end

local function roles_of(who)
  local list, allowed = {}, {}
  for _, word in ipairs(words(who)) do
    for _, role in ipairs(WORDS[word] or { word }) do allowed[role] = true end
  end
  for _, role in ipairs(ROLES) do
    if allowed[role] then list[#list + 1] = role end
  end
  return json.array(list)
end

local function security_of(who)
  if who == "anyone" then return json.array {} end
  local list = json.array { { bearer = json.array {} }, { cookie = json.array {} } }
  if roles_of(who)[1] == "guest" then table.insert(list, 1, json.object {}) end
  return list
end

local function limit_of(route)
  if route.limit == false or next(limits.rules()) == nil then return nil end
  local name = type(route.limit) == "string" and route.limit or "general"
  local rule = copy(limits.rules()[name] or {})
  rule.name = type(route.limit) == "function" and "by request, else general" or name
  return rule
end

---- Answers --------------------------------------------------------------------------

local function envelope(data)
  return { type = "object", required = json.array { "success", "data" },
           properties = { success = { const = true }, data = data, message = { type = "string" } } }
end

--- What has a schema; of other media types nothing more is told.
local DESCRIBED <const> = { ["application/json"] = true, ["text/event-stream"] = true }

local function success_of(declared, status)
  if status == 204 then return { description = "Success, and nothing to tell" } end
  if status == 304 then return { description = "It is what you have" } end
  local answer = declared.answer and schema_of(declared.answer) or json.object {}
  local content = {}
  for _, type in ipairs(words(declared.type or "application/json")) do
    local schema = json.object {}
    if DESCRIBED[type] then schema = declared.bare and answer or envelope(answer) end
    content[type] = { schema = schema }
  end
  return { description = "Success", content = content }
end

local WHY <const> = {
  default = "What may go wrong with any request: malformed or too large (400, 413, 414, 417, 431), too slow "
    .. "(408, 504), not to be had here (405, 501, 505), or our fault (500, 503)",
  [400] = "What was sent is malformed; `fields` says where", [401] = "Sign in first",
  [403] = "This role may not do it", [404] = "There is no such thing, or it is somebody else's",
  [413] = "It is too large", [415] = "The body has another type", [409] = "Not in this state",
  [422] = "It makes no sense as it is", [429] = "Too many requests; Retry-After says when",
  [503] = "A service is away; Retry-After says when", [507] = "There is no room for the file",
}

local function statuses_of(route)
  local list, declared = { 503 }, route.shapes
  local body = declared.body or declared.reads
  if declared.params or declared.query or declared.headers or body then list[#list + 1] = 400 end
  if body then
    list[#list + 1] = 413
    list[#list + 1] = 415
  end
  if route.who ~= "anyone" then list[#list + 1] = 401 end
  -- Of a change that comes with the cookie: whence, and as what.
  local changes = route.who ~= "anyone" and route.method ~= "GET"
  local needs_role = route.who ~= "anyone" and route.who ~= "optional" and route.who ~= "any"
  if changes or needs_role then list[#list + 1] = 403 end
  if changes and not body then list[#list + 1] = 415 end
  if route.path:find "[:*]" then list[#list + 1] = 404 end
  if limit_of(route) then list[#list + 1] = 429 end
  if route.files then list[#list + 1] = 507 end
  if route.idempotent then
    list[#list + 1] = 409
    list[#list + 1] = 422
  end
  return list
end

local function responses_of(route)
  local declared = route.shapes
  local responses = { default = { ["$ref"] = "#/components/responses/default" } }
  for _, status in ipairs(statuses_of(route)) do
    responses[tostring(status)] = { ["$ref"] = "#/components/responses/" .. status }
  end
  for status, text in pairs(declared.errors or {}) do
    responses[tostring(status)] = {
      description = text,
      content = { ["application/json"] = { schema = { ["$ref"] = "#/components/schemas/Error" } } },
    }
  end
  local is_told = declared.answer or declared.bare
  for _, status in ipairs(words(declared.status or is_told and 200 or "2XX")) do
    responses[tostring(status)] = success_of(declared, status)
  end
  if route.etag then responses["304"] = success_of(declared, 304) end
  return responses
end

---- The document ---------------------------------------------------------------------

local function id_of(method, path)
  return (method:lower() .. path:gsub("[^%w]+", "_"):gsub("_$", ""))
end

local function operation_of(route, method)
  local segments = {}
  for segment in route.path:gmatch "[^/]+" do segments[#segments + 1] = segment end
  local tag = segments[1] == "api" and segments[2] == "v1" and segments[3] or "service"
  -- Browsers send none with a GET, and the page to try it would: there it is only told.
  local body_name = method == "GET" and "x-body" or "requestBody"
  return {
    operationId = id_of(method, route.path), summary = route.summary,
    description = route.shapes.description, tags = json.array { tag },
    parameters = parameters_of(route), [body_name] = body_of(route),
    responses = responses_of(route), security = security_of(route.who),
    ["x-roles"] = roles_of(route.who), ["x-rate-limit"] = limit_of(route),
  }
end

local function components(shared)
  local error_schema = {
    type = "object", required = json.array { "success", "error", "message", "code", "request_id" },
    properties = {
      success = { const = false }, error = { type = "string" }, message = { type = "string" },
      code = { type = "string" }, request_id = { type = "string" },
      errors = { type = "array", items = { type = "string" } },
      fields = { type = "object", additionalProperties = { type = "string" } },
    },
    additionalProperties = true,      -- what the code's meaning needs: `available`, `items`, ...
  }
  local schemas = { Error = error_schema }
  for name, schema in pairs(shared or {}) do schemas[name] = schema_of(schema) end
  local responses = {}
  for status, text in pairs(WHY) do
    responses[tostring(status)] = {
      description = text,
      content = { ["application/json"] = { schema = { ["$ref"] = "#/components/schemas/Error" } } },
    }
  end
  return {
    schemas = schemas, responses = responses,
    securitySchemes = {
      bearer = { type = "http", scheme = "bearer" },
      cookie = { type = "apiKey", ["in"] = "cookie", name = "omade_session" },
    },
  }
end

--- The document of an app's routes.
---@param list table[] what omade.web.compile made
---@param info omade.openapi_info
---@return table
function openapi.document(list, info)
  local paths, tags, seen = {}, {}, {}
  for _, route in ipairs(list) do
    local path = route.path:gsub("[:*]([%w_]+)", "{%1}")
    paths[path] = paths[path] or {}
    for _, method in ipairs(route.method == "ANY" and METHODS or { route.method }) do
      local operation = operation_of(route, method)
      paths[path][method:lower()] = operation
      if not seen[operation.tags[1]] then tags[#tags + 1] = { name = operation.tags[1] } end
      seen[operation.tags[1]] = true
    end
  end
  table.sort(tags, function(a, b) return a.name < b.name end)
  return { openapi = "3.1.0", servers = json.array { { url = "/" } },
           info = { title = info.title, version = info.version, description = info.description },
           tags = json.array(tags), paths = paths, components = components(info.schemas) }
end

---- Its routes -----------------------------------------------------------------------

local ASSETS <const> = {
  ["swagger-ui-bundle.js"] = "text/javascript; charset=utf-8",
  ["swagger-ui.css"] = "text/css; charset=utf-8",
}

--- What the build installed (deploy/assets/install.sh); 404 without it: the page then makes do.
local function asset(req)
  local type = ASSETS[req.params.name]
  if not type then web.fail(404, "There is no such file") end
  return web.file(engine.home() .. "/build/assets/node_modules/swagger-ui-dist/" .. req.params.name,
                  { type = type })
end

local POLICY <const> = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
  .. "img-src 'self' data:; connect-src 'self'; font-src 'self' data:; base-uri 'none'; form-action 'none'"

local function page_part(text, type)
  return function()
    return web.raw(text, type .. "; charset=utf-8", { headers = { ["Content-Security-Policy"] = POLICY } })
  end
end

--- For the engine: the document and the page; `list` is what the app declared.
---@param list table[]
---@param info omade.openapi_info
---@return table
function openapi.routes(list, info)
  local text
  local function show()
    text = text or json.encode(openapi.document(list, info))
    return web.raw(text, "application/json; charset=utf-8")
  end

  return web.group("", { who = "anyone", limit = false }, {
    { "GET", "/api/openapi.json", show, public = true, etag = true, bare = true,
      answer = { type = "object", additionalProperties = true }, summary = "This description" },
    { "GET", "/api/docs", page_part(docs.html(info.title), "text/html"), public = true, type = "text/html",
      bare = true, summary = "A page to read and try it" },
    { "GET", "/api/docs/page.js", page_part(docs.script, "text/javascript"), public = true, etag = true,
      type = "text/javascript", bare = true, summary = "Of that page" },
    { "GET", "/api/docs/page.css", page_part(docs.style, "text/css"), public = true, etag = true,
      type = "text/css", bare = true, summary = "Of that page" },
    { "GET", "/api/docs/:name", asset, public = true, etag = true, type = { "text/javascript", "text/css" },
      bare = true, summary = "Of that page" },
  })
end

return openapi
