--- Exact amounts of the shop's one currency.
--
--   local money = require "omade.money"
--   local total = money("25.99") * 3 - money("5")       --> 72.97
--   local tax   = total:percent("7.25")                 --> 5.29
--
-- A money never changes; operators make new ones.  Whatever would lose a part of a
-- cent, or mixes money with bare numbers, raises and says what to write instead.
-- JSON and SQL get a decimal with two places.  There is no `..`: write tostring(m),
-- or "%s" in string.format.

---@alias omade.percent integer|string|omade.decimal.value

---@class omade.money.amount
---@operator add(omade.money.amount): omade.money.amount
---@operator sub(omade.money.amount): omade.money.amount
---@operator unm: omade.money.amount
---@operator mul(integer): omade.money.amount
---The whole amount in cents: 2599 for 25.99.
---@field cents fun(self: omade.money.amount): integer
---The same as `m * quantity`.  Raises when quantity is no integer.
---@field times fun(self: omade.money.amount, quantity: integer): omade.money.amount
---A part in percent with at most four decimals (10, "8.875"), rounded to cents, half away
---from zero.
---@field percent fun(self: omade.money.amount, p: omade.percent): omade.money.amount
---Divides into 1 to 100000 parts that differ by at most a cent and add up exactly.
---@field share fun(self: omade.money.amount, n: integer): omade.money.amount[]
---Divides in proportion to weights, a list of integers or money; the parts add up
---exactly.  Raises when all weights are zero or one is negative.
---@field split fun(self: omade.money.amount, weights: table): omade.money.amount[]

---@alias omade.money.source string|integer|omade.decimal.value|omade.money.amount

---@class omade.money
---`money("25.99")`, `money(25)` (an integer means whole units: 25.00), `money(d)` of a
---decimal.  Raises for floats and for texts that are no amount.
---@overload fun(amount: omade.money.source): omade.money.amount
---money.of_cents(2599) is 25.99.
---@field of_cents fun(cents: integer): omade.money.amount
---nil and a message instead of raising: "25.99", "25", "-3.5", "2599e-2", at most two
---decimals.
---@field parse fun(text: string|omade.decimal.value): omade.money.amount?, string?
---Whether the value is a money.
---@field is fun(value: any): boolean

return require "omade.core.money"
