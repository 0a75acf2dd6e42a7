--- What an order costs beside its goods.  Pure: the shop's settings and the order in,
-- amounts out; the sums are made in C (omade.commerce).

local charges = {}

---@class bakery.charged_order
---@field fulfilment "pickup"|"delivery"
---@field slot? {delivery_date: string, delivery_time: string} of a delivery
---@field lines {unit_price: omade.money.amount, quantity: integer}[]

--- The fee of a delivery, and the goods after discount from which it is free.
---@param settings {delivery_fee: omade.money.amount, free_from: omade.money.amount}
---@param _order bakery.charged_order
---@return omade.money.amount fee
---@return omade.money.amount free_from
function charges.delivery(settings, _order)
  return settings.delivery_fee, settings.free_from
end

--- The rate of the tax on goods after discount, in percent: "7.25".
---@param settings {tax_rate: string}
---@param _order bakery.charged_order
---@return string
function charges.tax_rate(settings, _order)
  return settings.tax_rate
end

return charges
