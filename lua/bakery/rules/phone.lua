--- Phone numbers: 10 to 15 digits, with or without a plus in front.

local v = require "omade.validate"

local PATTERN <const> = "^%+?[1-9]" .. ("%d"):rep(9) .. ("%d?"):rep(5) .. "$"

--- The rule for a shape.
---@param options? {optional?: boolean, nullable?: boolean}
return function(options)
  options = options or {}
  local rule = v.text { pattern = PATTERN, message = "must be a phone number of 10 to 15 digits",
                        optional = options.optional, nullable = options.nullable }
  rule.schema.pattern = [[^\+?[1-9]\d{9,14}$]]
  return rule
end
