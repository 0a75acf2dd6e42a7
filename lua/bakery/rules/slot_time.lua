--- The hours of a delivery slot: "09:00-11:00", from earlier to later on one day.

local v = require "omade.validate"

local PATTERN <const> = "^([0-2]%d:[0-5]%d)%-([0-2]%d:[0-5]%d)$"

local function is_slot(text)
  local from, to = text:match(PATTERN)
  return from ~= nil and from < to and to <= "24:00"
end

--- The rule for a shape.
---@param options? {optional?: boolean}
return function(options)
  local rule = v.text { optional = options and options.optional }
  local is_text = rule.check
  rule.check = function(value, ...)
    local text, fault = is_text(value, ...)
    if not text then return nil, fault end
    if not is_slot(text) then return nil, "must be hours such as 09:00-11:00" end
    return text
  end
  rule.schema = { type = "string", pattern = [[^\d\d:\d\d-\d\d:\d\d$]], example = "09:00-11:00" }
  return rule
end
