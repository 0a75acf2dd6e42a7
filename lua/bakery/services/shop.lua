--- What the shop charges and takes: the settings of app.lua, read once while scripts load.

local charges = require "bakery.rules.charges"
local config  = require "omade.config"
local days    = require "bakery.services.days"
local json    = require "omade.json"
local money   = require "omade.money"

local shop = {}

--- 100 points pay this much.
shop.HUNDRED_POINTS = money "1.00"

--- What commerce.totals takes of the shop's settings and rules.
---@param order bakery.charged_order
---@return table
function shop.charges(order)
  local settings = { delivery_fee = config.get "DELIVERY_FEE", free_from = config.get "DELIVERY_FREE_FROM",
                     tax_rate = config.get "TAX_RATE" }
  local fee, free_from = charges.delivery(settings, order)
  return { delivery_fee = fee, free_from = free_from, tax_rate = charges.tax_rate(settings, order),
           hundred_points = shop.HUNDRED_POINTS }
end

--- Days on which nothing is delivered or handed over: "2026-12-25", or "sunday" each week.
---@param day string a date
---@return boolean
function shop.closed_on(day)
  local weekday = days.weekday(day)
  for _, closed in ipairs(config.get "CLOSED_DAYS") do
    if closed == day or closed:lower() == weekday then return true end
  end
  return false
end

--- The same days for SQL: dates and names of weekdays in lower case.
---@return string[]
function shop.closed_days()
  local list = json.array {}
  for i, closed in ipairs(config.get "CLOSED_DAYS") do list[i] = closed:lower() end
  return list
end

---@param method string
---@return boolean
function shop.takes(method)
  for _, known in ipairs(config.get "PAYMENT_METHODS") do
    if known == method then return true end
  end
  return false
end

return shop
