--- From an app's declarations to one closure per route, once, while scripts load.
--
-- The closure does, in the contract's order: sign-in, role, rate limit, syntax of path,
-- query, headers and body, then the handler.  What a route does not ask for costs nothing.

local auth     = require "omade.auth"
local config   = require "omade.config"
local dev_page = require "omade.web.dev_page"
local engine   = require "omade.core.engine"
local idempotency = require "omade.idempotency"
local openapi  = require "omade.openapi"
local limits   = require "omade.limits"
local uploads  = require "omade.uploads"
local validate = require "omade.validate"
require "omade.jobs"

local METHODS <const> = { GET = true, HEAD = true, POST = true, PUT = true, PATCH = true,
                          DELETE = true, OPTIONS = true, ANY = true }

local FIELDS <const> = {
  who = true, params = true, query = true, headers = true, body = true, files = true, form = true, body_limit = true, etag = true,
  public = true, limit = true, idempotent = true, summary = true, description = true, answer = true, status = true,
  reads = true, sends = true, guest_sends = true,
  errors = true, bare = true, type = true, [1] = true, [2] = true, [3] = true,
}
local APP <const> = { routes = true, settings = true, limits = true, openapi = true }
local COMMON <const> = { who = true, limit = true, before = true, after = true }

---- Checks ------------------------------------------------------------------------

--- A field that nobody reads, such as a misspelt shape, would check nothing.
local function check_fields(name, fields, known)
  for field in pairs(fields) do
    if not known[field] then error(("%s: there is no field '%s'"):format(name, tostring(field)), 0) end
  end
end

local function check_route(route, prefix)
  local name = tostring(route[1]) .. " " .. prefix .. tostring(route[2])

  if not METHODS[route[1]] then error(name .. ": the method is not known", 0) end
  if type(route[2]) ~= "string" then error(name .. ": the path is missing", 0) end
  if type(route[3]) ~= "function" then error(name .. ": the handler is missing", 0) end
  check_fields(name, route, FIELDS)
  return name
end

local function full_path(prefix, path)
  if path == "/" and prefix ~= "" then return prefix end
  return prefix .. path
end

---- The closure --------------------------------------------------------------------

local PARTS <const> = { "params", "query", "headers", "body" }      -- in the order of checking

--- The route with shapes where it has plain tables of rules.
local function with_shapes(route)
  local copy = {}
  for key, value in pairs(route) do copy[key] = value end
  for _, part in ipairs { "reads", table.unpack(PARTS) } do
    local fields = copy[part]
    if type(fields) == "table" and not fields.is_shape then copy[part] = validate.shape(fields) end
  end
  return copy
end

--- The parts of a request that have a shape.
local function shapes_of(route)
  local parts = {}
  for _, part in ipairs(PARTS) do
    local shape = route[part]
    if type(shape) == "table" then parts[#parts + 1] = { part, shape } end
  end
  return #parts > 0 and parts or nil
end

local function with_hooks(handler, common)
  local before, after = common.before, common.after
  if not before and not after then return handler end

  return function(req)
    local result
    if before then result = before(req) end
    if result == nil then result = handler(req) end
    if after then return after(req, result) end
    return result
  end
end

--- What `make` makes for a route; what it raises, a word that is not known, names the route.
local function made_for(name, make, ...)
  local ok, check = pcall(make, ...)
  if not ok then error(name .. ": " .. tostring(check), 0) end
  return check
end

local function make_run(route, name, who, limit, common)
  local handler = with_hooks(route[3], common)
  local shapes = shapes_of(route)
  local admit = made_for(name, auth.gate, who, route.guest_sends)
  local count = made_for(name, limits.gate, limit)

  local check_key = route.idempotent and idempotency.check
  local files = route.files

  if not (admit or count or check_key or files or shapes) then return handler end
  return function(req)
    if admit then admit(req) end
    if count then count(req) end
    if check_key then check_key(req) end
    if files then uploads.receive(req, files) end
    if shapes then validate.request(req, shapes) end
    return handler(req)
  end
end

local function add(list, block, route)
  local name = check_route(route, block.prefix)
  route = with_shapes(route)
  local who = route.who or block.common.who

  if who == nil then error(name .. ": say who may call it, as in who = \"anyone\"", 0) end
  local limit = route.limit
  if limit == nil then limit = block.common.limit end

  list[#list + 1] = {
    method = route[1], path = full_path(block.prefix, route[2]), name = name, who = who, limit = limit,
    handler = route[3], run = make_run(route, name, who, limit, block.common),
    body_mode = type(route.body) == "string" and route.body or "whole",
    body_limit = route.body_limit, files = route.files,
    files_limit = route.files and uploads.body_limit(route.files), etag = route.etag, public = route.public,
    form = route.form,
    idempotent = route.idempotent, summary = route.summary, shapes = route,
  }
end

---- The app -------------------------------------------------------------------------

--- Module names, route tables, or lists of them.
local function add_all(list, entry)
  local name = type(entry) == "string" and entry or "an entry"
  if type(entry) == "string" then entry = require(entry) end
  if type(entry) ~= "table" then error("routes: " .. name .. " is not what web.routes(...) returns", 0) end
  if entry.is_routes then
    check_fields("web.group " .. entry.prefix, entry.common, COMMON)
    for _, route in ipairs(entry.routes) do add(list, entry, route) end
  else
    for _, part in ipairs(entry) do add_all(list, part) end
  end
end

---@param app {routes: table, settings?: table, limits?: table} what app.lua returned
---@return table[] for the core
return function(app)
  if type(app) ~= "table" then error("app.lua must return {routes = {...}}", 0) end
  if app.routes ~= nil then check_fields("app.lua", app, APP)
  elseif not app.is_routes and #app == 0 then error("app.lua must return {routes = {...}}", 0) end
  config.declare(app.settings or {})
  limits.configure(app.limits)
  local list = {}
  add_all(list, app.routes or app)
  if app.openapi then add_all(list, openapi.routes(list, app.openapi)) end
  if engine.development() then add_all(list, dev_page.routes(list)) end
  return list
end
