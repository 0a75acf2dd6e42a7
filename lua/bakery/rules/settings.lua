--- What the shop's settings must be, beside their types: each says what is wrong, or nothing.
-- A wrong one stops the start, instead of every order.

local money  = require "omade.money"
local orders = require "bakery.rules.orders"
local time   = require "omade.time"

local settings = {}

local WEEKDAYS <const> = { sunday = true, monday = true, tuesday = true, wednesday = true, thursday = true,
                           friday = true, saturday = true }

local METHODS <const> = {}
for _, method in ipairs(orders.PAYMENT_METHODS) do METHODS[method] = true end

---@param text string
---@return string?
function settings.tax_rate(text)
  local rate, one = tonumber(text), money "1.00"
  if not rate or rate < 0 or rate > 100 or not pcall(one.percent, one, text) then
    return "must be percent with at most four decimals, such as 7.25"
  end
end

---@param text string
---@return string?
function settings.currency(text)
  if not text:find "^%u%u%u$" then return "must be three letters of ISO 4217, such as EUR" end
end

---@param days string[]
---@return string?
function settings.closed_days(days)
  for _, day in ipairs(days) do
    if not WEEKDAYS[day:lower()] and not (#day == 10 and time.parse(day)) then
      return day .. " is neither a date (YYYY-MM-DD) nor a weekday such as sunday"
    end
  end
end

---@param methods string[]
---@return string?
function settings.payment_methods(methods)
  for _, method in ipairs(methods) do
    if not METHODS[method] then
      return method .. " is not one of " .. table.concat(orders.PAYMENT_METHODS, ", ")
    end
  end
end

---@param text string
---@return string?
function settings.url(text)
  if not text:find "^https?://[^/%s]" then return "must be an address such as https://shop.example" end
end

---@param text string
---@return string?
function settings.email(text)
  if not text:find "^[^%s<>@]+@[^%s<>@]+$" then return "must be an address such as shop@example.com" end
end

return settings
