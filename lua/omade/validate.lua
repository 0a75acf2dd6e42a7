--- Shapes: what a caller may send.
--
-- A shape lists fields; each field is a rule made by v.text, v.integer and so on.  All
-- faults are found at once.  Unknown fields are dropped: what a handler sees was asked
-- for.

local decimal = require "omade.decimal"
local engine  = require "omade.core.engine"
local json    = require "omade.json"
local money   = require "omade.money"
local time    = require "omade.time"
local uuid    = require "omade.uuid"
local web     = require "omade.web"

---@class omade.validate
local v = {}

---@class omade.rule
---@field optional? boolean may be absent or null
---@field default? any when it is absent
---@field label? string in messages; made from the name otherwise

---@class omade.text_options: omade.rule
---@field min? integer
---@field max? integer
---@field pattern? string
---@field message? string when the pattern does not match
---@field trim? boolean
---@field lower? boolean

---@class omade.shape
---@field fields table<string, omade.rule>

---@alias omade.fault fun(message: string, field: string, ...: string)
---@alias omade.together fun(value: table, fault: omade.fault, req?: omade.request)

local MISSING <const> = {}

---- Rules --------------------------------------------------------------------------
-- A rule is {check = function(value, from_text) -> value | nil, message}.  `from_text`
-- says that the value came as text (path, query, header) and is to be read from it.

local OPTIONS <const> = {
  optional = true, default = true, label = true, example = true, min = true, max = true, pattern = true, message = true,
  trim = true, lower = true, unique = true, local_prefixes = true, nullable = true, at_least_one = true, together = true,
}

--- An option that nobody reads, such as a misspelt limit, would check nothing.
local function check_options(options)
  for name in pairs(options) do
    if not OPTIONS[name] then error(("shape: there is no option '%s'"):format(tostring(name)), 0) end
  end
end

local function rule(options, check, schema)
  options = options or {}
  check_options(options)
  return { check = check, optional = options.optional or options.default ~= nil,
           default = options.default, label = options.label, nullable = options.nullable,
           options = options, schema = schema }
end

--- A rule that is written without (), or a shape that is a plain table, is meant so.
local function as_rule(name, field)
  if type(field) == "function" then field = field() end
  if type(field) ~= "table" then error(("shape: '%s' is no rule, such as v.text()"):format(name), 0) end
  return (field.check or field.is_shape) and field or v.shape(field)
end

--- Text of min to max characters (not bytes); surrounding blanks are dropped unless
-- trim = false.  pattern is a Lua pattern.
---@param o? omade.text_options
---@return omade.rule
function v.text(o)
  o = o or {}
  return rule(o, function(value)
    if type(value) ~= "string" then return nil, "must be text" end
    if o.trim ~= false then value = engine.trim(value) end
    local length = engine.text_length(value)
    if not length then return nil, "must be UTF-8 text without NUL" end
    if o.min and length < o.min then
      return nil, o.min == 1 and "must not be empty"
        or "must be at least " .. o.min .. " characters"
    end
    if o.max and length > o.max then
      return nil, "must be at most " .. o.max .. " characters"
    end
    if o.pattern and not value:find(o.pattern) then
      return nil, o.message or "has the wrong form"
    end
    return o.lower and value:lower() or value
  end, { type = "string", minLength = o.min, maxLength = o.max })
end

local function in_range(value, o)
  if o.min and value < o.min then return nil, "must be at least " .. tostring(o.min) end
  if o.max and value > o.max then return nil, "must be at most " .. tostring(o.max) end
  return value
end

--- 5.0 and 1e2 are written as decimals, but are whole; nil for all others.
local function whole(value)
  local integer = math.tointeger(value:number())
  return integer and value <= integer and value >= integer and integer or nil
end

--- A whole number.
---@param o? {min?: integer, max?: integer, optional?: boolean, default?: integer, label?: string}
---@return omade.rule
function v.integer(o)
  o = o or {}
  return rule(o, function(value, from_text)
    if from_text then
      value = type(value) == "string" and value:find("^%-?%d+$") and math.tointeger(value)
        or nil
    elseif decimal.is(value) then
      value = whole(value)
    end
    if math.type(value) ~= "integer" then return nil, "must be a whole number" end
    return in_range(value, o)
  end, { type = "integer", minimum = o.min, maximum = o.max })
end

--- A number as a Lua float.
---@param o? {min?: number, max?: number, optional?: boolean, default?: number, label?: string}
---@return omade.rule
function v.number(o)
  o = o or {}
  return rule(o, function(value, from_text)
    if from_text then
      value = type(value) == "string" and value:find("^%-?%d+%.?%d*$") and tonumber(value)
        or nil
    elseif decimal.is(value) then
      value = value:number()
    end
    if type(value) ~= "number" then return nil, "must be a number" end
    return in_range(value, o)
  end, { type = "number", minimum = o.min, maximum = o.max })
end

--- An amount with at most two decimals, exact.
---@param o? {min?: integer|string, max?: integer|string, optional?: boolean, default?: any, label?: string}
---@return omade.rule
function v.money(o)
  o = o or {}
  local least = o.min and money(tostring(o.min))
  local most = o.max and money(tostring(o.max))

  return rule(o, function(value, from_text)
    if from_text and type(value) ~= "string"
      or not from_text and math.type(value) ~= "integer" and not decimal.is(value) then
      return nil, "must be an amount"
    end
    local text = tostring(value)
    if from_text and not text:find("^%-?%d+%.?%d*$") then return nil, "must be an amount" end
    local amount = money.parse(text)
    if not amount then return nil, "must be an amount with at most two decimals" end
    if least and amount < least then return nil, "must be at least " .. tostring(least) end
    if most and amount > most then return nil, "must be at most " .. tostring(most) end
    return amount
  end, { type = "number", minimum = o.min and tonumber(o.min),
         maximum = o.max and tonumber(o.max),
         description = "at most two decimals" })
end

--- true or false.
---@param o? {optional?: boolean, default?: boolean, label?: string}
---@return omade.rule
function v.boolean(o)
  return rule(o, function(value, from_text)
    if from_text then
      if value == "true" or value == "1" then return true end
      if value == "false" or value == "0" then return false end
    elseif type(value) == "boolean" then
      return value
    end
    return nil, "must be true or false"
  end, { type = "boolean" })
end

--- An id.
---@param o? {optional?: boolean, label?: string}
---@return omade.rule
function v.uuid(o)
  return rule(o, function(value)
    if not uuid.valid(value) then return nil, "must be a UUID" end
    return value:lower()
  end, { type = "string", format = "uuid" })
end

--- One of a list of words.
---@param words string[]
---@param o? {optional?: boolean, default?: string, label?: string}
---@return omade.rule
function v.one_of(words, o)
  local known = {}
  for _, word in ipairs(words) do known[word] = true end
  return rule(o, function(value)
    if type(value) == "string" and known[value] then return value end
    return nil, "must be one of " .. table.concat(words, ", ")
  end, { type = "string", enum = words })
end

--- An e-mail address, in lower case.
---@param o? {optional?: boolean, label?: string}
---@return omade.rule
function v.email(o)
  return rule(o, function(value)
    if type(value) ~= "string" then return nil, "must be an e-mail address" end
    value = engine.trim(value):lower()
    if #value > 255 or not engine.text_length(value)
      or not value:find("^[%w%.!#$%%&'*+/=?^_`{|}~-]+@[%w-]+%.[%w.-]*%w$")
      or value:find("..", 1, true) then
      return nil, "must be an e-mail address"
    end
    return value
  end, { type = "string", format = "email", maxLength = 255 })
end

--- An https address, or a path of ours that begins with one of `local_prefixes`.
---@param o? {max?: integer, local_prefixes?: string[], optional?: boolean, label?: string}
---@return omade.rule
function v.url(o)
  o = o or {}
  local max = o.max or 500
  return rule(o, function(value)
    if type(value) ~= "string" then return nil, "must be an https address" end
    value = engine.trim(value)
    if #value > max then return nil, "must be at most " .. max .. " characters" end
    if value:find("^https://[%w%.%-]+[:%d]*/?[^%s\"<>\\%c]*$") then return value end
    for _, prefix in ipairs(o.local_prefixes or {}) do
      if value:sub(1, #prefix) == prefix and value:find("^[%w%./_-]+$")
        and not value:find("..", 1, true) then
        return value
      end
    end
    return nil, "must be an https address"
  end, { type = "string", format = "uri-reference", maxLength = max })
end

-- What PostgreSQL and time.iso can write: the years 1 to 9999.  An offset may lead out of them.
local EARLIEST <const>, LATEST <const> = time.parse "0001-01-01T00:00:00Z", time.parse "9999-12-31T23:59:59.999Z"

local function in_calendar(text)
  local seconds = time.parse(text)
  return seconds and seconds >= EARLIEST and seconds <= LATEST and seconds or nil
end

--- A day, "2026-01-15".
---@param o? {optional?: boolean, label?: string}
---@return omade.rule
function v.date(o)
  return rule(o, function(value)
    if type(value) == "string" and #value == 10 and in_calendar(value) then return value end
    return nil, "must be a date (YYYY-MM-DD)"
  end, { type = "string", format = "date" })
end

--- A moment with its offset; comes as "2026-01-15T10:30:00.000Z".
---@param o? {optional?: boolean, label?: string}
---@return omade.rule
function v.time(o)
  return rule(o, function(value)
    local seconds = type(value) == "string" and #value > 10 and in_calendar(value)
    if not seconds then return nil, "must be a time (RFC 3339)" end
    return time.iso(seconds)
  end, { type = "string", format = "date-time" })
end

local function split(text)
  local list = json.array {}
  for item in text:gmatch "[^,]+" do list[#list + 1] = item end
  return list
end

--- A list of min to max items of one rule; as text, they are separated by commas.
---@param item omade.rule|omade.shape
---@param o? {min?: integer, max?: integer, unique?: boolean, optional?: boolean, label?: string}
---@return omade.rule
function v.list(item, o)
  o = o or {}
  item = as_rule("list", item)
  return rule(o, function(value, from_text, path, faults)
    if from_text and type(value) == "string" then value = split(value) end
    if type(value) ~= "table" or not json.is_array(value) then return nil, "must be a list" end
    if o.min and #value < o.min then return nil, "must have at least " .. o.min .. " items" end
    if o.max and #value > o.max then return nil, "must have at most " .. o.max .. " items" end
    local list, seen = json.array {}, {}
    for i = 1, #value do
      list[i] = v.check(item, value[i], from_text, ("%s[%d]"):format(path, i - 1), faults)
      if o.unique and list[i] ~= nil then
        if seen[list[i]] then return nil, "must not repeat an item" end
        seen[list[i]] = true
      end
    end
    return list
  end, { type = "array", items = item, minItems = o.min, maxItems = o.max })
end

--- A file of a multipart body, on a route with `files`: see omade.uploads.
---@param o? {optional?: boolean, label?: string}
---@return omade.rule
function v.file(o)
  local file = rule(o, function(value, from_form)
    if from_form and type(value) == "table" then return value end
    return nil, "must be a file, sent as multipart/form-data"
  end, { type = "string", format = "binary" })
  file.is_file = true
  return file
end

--- Whatever JSON holds.
---@param o? {optional?: boolean}
---@return omade.rule
function v.any(o)
  return rule(o, function(value) return value end, {})
end

---- Shapes --------------------------------------------------------------------------

--- A table of fields.  `together` says what fields require of each other: it gets what the
-- rules made of them - nil where there is none, or a faulty one - and calls `fault(message,
-- field, ...)` with a whole sentence and the fields that it is about, the first of which
-- gets it.  Where one of them is faulty by itself, nothing is said about them together.
---@param fields table<string, omade.rule|omade.shape|fun(): omade.rule>
---@param o? {optional?: boolean, at_least_one?: boolean, together?: omade.together}
---@return omade.shape
function v.shape(fields, o)
  o = o or {}
  check_options(o)
  local names, rules = {}, {}
  for name, field in pairs(fields) do
    names[#names + 1] = name
    rules[name] = as_rule(name, field)
  end
  table.sort(names)
  return { fields = rules, names = names, is_shape = true, optional = o.optional,
           at_least_one = o.at_least_one, together = o.together }
end

--- The same rule or shape, which may be absent or null.
---@generic T
---@param field T
---@return T
function v.optional(field)
  local copy = {}
  for key, value in pairs(field) do copy[key] = value end
  copy.optional = true
  return copy
end

--- The same fields, all optional and without defaults: for PATCH.  What could be left
-- out before is cleared by null (json.null); what has a value always has none of it.
-- `together` looks at what is given, too.
---@param shape omade.fields
---@return omade.shape
function v.partial(shape)
  shape = as_rule("partial", shape)
  local fields = {}
  for name, field in pairs(shape.fields) do
    local copy = {}
    for key, value in pairs(field) do copy[key] = value end
    copy.nullable = field.optional and field.default == nil and not field.is_file
    copy.not_null = not copy.nullable
    copy.optional, copy.default = true, nil
    fields[name] = copy
  end
  return v.shape(fields, { at_least_one = true, together = shape.together })
end

--- "minPrice" and "image_url" as people write them: "Min price", "Image url".
local function label_of(name, field)
  if field.label then return field.label end
  if name == "" then return "The body" end
  local words = name:match("([^%.%]]+)$") or name
  words = words:gsub("_", " "):gsub("(%l)(%u)", function(a, b) return a .. " " .. b:lower() end)
  return words:sub(1, 1):upper() .. words:sub(2)
end

local function fault(faults, path, field, message)
  faults[#faults + 1] = { path = path, message = label_of(path, field) .. " " .. message }
end

local function check_together(shape, result, path, faults)
  local faulty, prefix = {}, path == "" and "" or path .. "."
  for _, one in ipairs(faults) do faulty[one.path] = true end
  shape.together(result, function(message, ...)
    for _, name in ipairs { ... } do
      if faulty[prefix .. name] then return end
    end
    faults[#faults + 1] = { path = prefix .. (...), message = message }
  end, faults.req)
end

local function check_fields(shape, value, from_text, path, faults)
  if type(value) ~= "table" and type(value) ~= "userdata" or json.is_array(value) then
    faults[#faults + 1] = { path = path, message = path == "" and "The body must be an object"
                            or label_of(path, {}) .. " must be an object" }
    return nil
  end
  local result, given = {}, 0
  for _, name in ipairs(shape.names) do
    local part = value[name]
    local where = path == "" and name or path .. "." .. name
    if part ~= nil then given = given + 1 end
    result[name] = v.check(shape.fields[name], part == nil and MISSING or part, from_text,
                           where, faults)
  end
  if shape.at_least_one and given == 0 and #faults == 0 then
    faults[#faults + 1] = { path = path, message = "Nothing to change was given" }
  end
  if shape.together then check_together(shape, result, path, faults) end
  return result
end

--- Checks one value; faults are added to a list of {path, message}, whose `req`, if any, is
-- what `together` gets.
---@param field omade.rule|omade.shape
---@param value any
---@param from_text boolean
---@param path string
---@param faults table
---@return any the value that the rule makes of it; nil when there is none, or it is faulty
function v.check(field, value, from_text, path, faults)
  if value == MISSING or value == json.null then
    if field.default ~= nil then return field.default end
    if value == json.null and field.nullable then return json.null end
    if value == json.null and field.not_null then fault(faults, path, field, "must not be null") end
    if not field.optional then
      fault(faults, path, field, path == "" and "must be an object" or "is required")
    end
    return nil
  end
  if field.is_shape then return check_fields(field, value, from_text, path, faults) end

  local before = #faults
  local result, message = field.check(value, from_text, path, faults)
  if result == nil and message and #faults == before then fault(faults, path, field, message) end
  return result
end

---- Requests ------------------------------------------------------------------------

local function raise(faults)
  local errors, fields = json.array {}, {}
  for i, one in ipairs(faults) do
    errors[i] = one.message
    if one.path ~= "" then fields[one.path] = fields[one.path] or one.message end
  end
  web.fail(400, errors[1], { code = "VALIDATION_ERROR", errors = errors, fields = fields })
end

--- Answers 400 as a shape does, for what no shape can say; nothing with no faults.
---@param faults {path: string, message: string}[]
function v.refuse(faults)
  if #faults > 0 then raise(faults) end
end

--- For the engine: checks the parts of a request that have a shape, all faults at once,
-- and puts what the shapes made in their place; raises 400.
---@param req omade.request
---@param shapes {[1]: string, [2]: omade.shape}[] of each part
function v.request(req, shapes)
  local faults = { req = req }
  for _, entry in ipairs(shapes) do
    local part, shape = entry[1], entry[2]
    local value = req[part]
    if value == nil then value = shape.optional and MISSING or {} end
    if value == MISSING then
      req[part] = nil
    else
      req[part] = v.check(shape, value, part ~= "body" or req.form ~= nil, "", faults)
    end
  end
  if #faults > 0 then raise(faults) end
end

--- The body as the shape makes it, for a handler that must look at other things first;
-- raises like a route's `body`.
---@param req omade.request
---@param shape omade.fields
---@return table
function v.body(req, shape)
  shape = as_rule("body", shape)
  local faults = { req = req }
  local body = req.body
  if body == nil then body = shape.optional and MISSING or {} end
  local value = v.check(shape, body, req.form ~= nil, "", faults)
  if #faults > 0 then raise(faults) end
  return value
end

return v
