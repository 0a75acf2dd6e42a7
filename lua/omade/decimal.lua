--- The exact digits of a NUMERIC column, or of a JSON number with a fraction.
--
--   row.avg_rating:number()        --> 4.67, a float
--   row.price:money()              --> a money; raises with more than two decimals
--   tostring(row.weight)           --> "1.500", as PostgreSQL sent it
--
-- Decimals compare by value (1.50 == 1.5) with each other, with money and - but for
-- `==`, which Lua never asks about - with integers.  They have no arithmetic, and
-- comparing with a float raises.

---@class omade.decimal.value
---The same amount as money.  Raises with more than two decimals, or when it is too large.
---@field money fun(self: omade.decimal.value): omade.money.amount
---The nearest float.
---@field number fun(self: omade.decimal.value): number

---@class omade.decimal
---`decimal("12.345")`, `decimal(12)`, `decimal(m)` of a money.  Raises for floats and for
---texts that are no number of at most 400 characters.
---@overload fun(digits: omade.money.source): omade.decimal.value
---nil and a message instead of raising.
---@field parse fun(text: string): omade.decimal.value?, string?
---Whether the value is a decimal.
---@field is fun(value: any): boolean

return require "omade.core.decimal"
