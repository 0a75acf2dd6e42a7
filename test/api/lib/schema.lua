--- Checks values against schemas of openapi.json.  Stricter than JSON Schema in one point:
-- an object has no property that its schema does not name, unless it says additionalProperties.

local cjson = require "cjson"

local schema = {}

---- JSON: cjson tells [] from {} only by this ------------------------------------------------

local EMPTY <const> = -8589934597

--- Decodes; empty lists are schema.EMPTY_LIST.
function schema.decode(text)
  return cjson.decode((text:gsub("%[%s*%]", "[" .. EMPTY .. "]")))
end

local function kind_of(value)
  if value == cjson.null then return "null" end
  if type(value) ~= "table" then return type(value) end
  return #value > 0 and "array" or "object"
end

--- The items of a decoded list.
local function items_of(value)
  return #value == 1 and value[1] == EMPTY and {} or value
end

---- Formats --------------------------------------------------------------------------------------

local HEX <const> = "%x%x%x%x"
local FORMATS <const> = {
  uuid = "^" .. HEX .. HEX .. "%-" .. HEX .. "%-" .. HEX .. "%-" .. HEX .. "%-" .. HEX .. HEX .. HEX .. "$",
  date = "^%d%d%d%d%-%d%d%-%d%d$",
  ["date-time"] = "^%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%d%.%d%d%dZ$",
  email = "^[^@%s]+@[^@%s]+$",
}

---- Checks -----------------------------------------------------------------------------------------
-- Each returns nil, or what is wrong and where.

local check

local function is_type(value, wanted)
  local kind = kind_of(value)
  return kind == wanted or wanted == "integer" and kind == "number" and value % 1 == 0
end

local function check_type(one, value, where)
  if one.type == nil then return nil end
  for _, wanted in ipairs(type(one.type) == "table" and one.type or { one.type }) do
    if is_type(value, wanted) then return nil end
  end
  return where .. ": " .. kind_of(value) .. " instead of " .. cjson.encode(one.type)
end

--- A text that holds JSON.
local function check_content(one, value, where, document)
  local ok, content = pcall(schema.decode, value)
  if not ok then return where .. ": no JSON" end
  return check(one, content, where, document)
end

local function check_text(one, value, where, document)
  local length = utf8.len(value)
  if not length then return where .. ": no UTF-8" end
  if one.minLength and length < one.minLength or one.maxLength and length > one.maxLength then
    return where .. ": a text of " .. length .. " characters"
  end
  local form = FORMATS[one.format]
  if form and not value:find(form) then return where .. ": no " .. one.format .. ": " .. value end
  if one.contentSchema then return check_content(one.contentSchema, value, where, document) end
end

local function check_number(one, value, where)
  if one.minimum and value < one.minimum or one.maximum and value > one.maximum then
    return where .. ": " .. value .. " is out of range"
  end
  if one.multipleOf then
    local times = value / one.multipleOf
    if math.abs(times - math.floor(times + 0.5)) > 1e-4 then
      return where .. ": " .. value .. " is no multiple of " .. one.multipleOf
    end
  end
end

local function check_list(one, value, where, document)
  local items = items_of(value)
  if one.minItems and #items < one.minItems or one.maxItems and #items > one.maxItems then
    return where .. ": a list of " .. #items
  end
  for i, item in ipairs(one.items and items or {}) do
    local fault = check(one.items, item, where .. "[" .. i - 1 .. "]", document)
    if fault then return fault end
  end
end

local function check_object(one, value, where, document)
  for _, name in ipairs(one.required or {}) do
    if value[name] == nil then return where .. ": " .. name .. " is missing" end
  end
  local more = one.additionalProperties
  for name, part in pairs(value) do
    local known = one.properties and one.properties[name] or type(more) == "table" and more or nil
    if not known and (one.properties and not more or more == false) then
      return where .. ": " .. name .. " is not described"
    end
    local fault = known and check(known, part, where .. "." .. name, document)
    if fault then return fault end
  end
end

local BY_KIND <const> = { string = check_text, number = check_number, array = check_list, object = check_object }

local function check_any(list, value, where, document)
  local faults = {}
  for i, one in ipairs(list) do
    faults[i] = check(one, value, where, document)
    if not faults[i] then return nil end
  end
  return table.concat(faults, "; nor ")
end

local function check_enum(words, value, where)
  for _, word in ipairs(words) do if word == value then return nil end end
  return where .. ": " .. tostring(value) .. " is none of " .. cjson.encode(words)
end

function check(one, value, where, document)
  if one["$ref"] then one = schema.follow(one, document) end
  if one.const ~= nil and one.const ~= value then return where .. ": " .. tostring(value) end
  local fault = check_type(one, value, where)
    or one.enum and check_enum(one.enum, value, where)
    or (one.anyOf or one.oneOf) and check_any(one.anyOf or one.oneOf, value, where, document)
  if fault then return fault end
  local by_kind = BY_KIND[kind_of(value)]
  return by_kind and by_kind(one, value, where, document)
end

--- What a $ref stands for; else the thing itself.
function schema.follow(one, document)
  if not one["$ref"] then return one end
  local at = document
  for name in one["$ref"]:gmatch "[^#/]+" do at = at[name] end
  return assert(at, one["$ref"] .. " is not in the document")
end

--- Nil, or what is wrong with a value of schema.decode.
function schema.check(one, value, document) return check(one, value, "$", document) end

return schema
