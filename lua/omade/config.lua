--- Settings of the app, from the environment or .env.
--
-- app.lua declares them:  settings = { SHOP_NAME = { default = "Omade", doc = "..." },
-- SLOT_CUTOFF_MINUTES = { type = "integer", default = 120, min = 0 } }

local engine = require "omade.core.engine"
local money  = require "omade.money"

---@class omade.config
local config = {}

---@class omade.setting
---@field default any
---@field type? "text"|"integer"|"boolean"|"money"|"list" default "text"
---@field min? number|omade.money.amount
---@field max? number|omade.money.amount
---@field check? fun(value: any): string? what is wrong with it beside that
---@field doc? string

local values, declared = {}, {}

local readers = {
  text = function(text) return text end,
  integer = function(text) return math.tointeger(tonumber(text)) end,
  money = function(text) return (money.parse(text)) end,
  boolean = function(text)
    if text == "on" or text == "true" or text == "1" then return true end
    if text == "off" or text == "false" or text == "0" then return false end
    return nil
  end,
  list = function(text)
    local list = {}
    for item in text:gmatch("[^,]+") do list[#list + 1] = engine.trim(item) end
    return list
  end,
}

local function range(setting)
  local least = setting.min and " of at least " .. tostring(setting.min) or ""
  return least .. (setting.max and (setting.min and " and" or " of") .. " at most " .. tostring(setting.max) or "")
end

local function read(name, setting)
  local kind = setting.type or "text"
  local text = engine.setting(name)

  if not readers[kind] then error("setting " .. name .. ": unknown type " .. kind, 0) end
  if text == nil or text == "" then return setting.default end
  local value = readers[kind](text)
  if value == nil or (setting.min and value < setting.min)
    or (setting.max and value > setting.max) then
    error(("%s is '%s', which is no %s%s"):format(name, text, kind, range(setting)), 0)
  end
  local fault = setting.check and setting.check(value)
  if fault then error(("%s is '%s': %s"):format(name, text, fault), 0) end
  return value
end

--- For the engine: reads what app.lua declared; raises for a wrong value.
---@param settings table<string, omade.setting>
function config.declare(settings)
  for name, setting in pairs(settings) do
    if type(setting) ~= "table" then error("setting " .. name .. ": write { default = ... }", 0) end
    declared[name] = setting
    values[name] = read(name, setting)
  end
end

--- The value of a declared setting; raises for one that is not.
---@param name string
---@return any
function config.get(name)
  if not declared[name] then
    error("setting " .. tostring(name) .. " is not declared in app.lua", 2)
  end
  return values[name]
end

return config
