--- What a shop client needs to start; all of it settings.

local config = require "omade.config"
local json   = require "omade.json"
local web    = require "omade.web"

local function store()
  return {
    name = config.get "SHOP_NAME", currency = config.get "SHOP_CURRENCY", timezone = config.get "SHOP_TIMEZONE",
    opening_hours = json.array(config.get "OPENING_HOURS"), closed_days = json.array(config.get "CLOSED_DAYS"),
    delivery_fee = config.get "DELIVERY_FEE", delivery_free_from = config.get "DELIVERY_FREE_FROM",
    minimum_order = config.get "MINIMUM_ORDER", tax_rate = tonumber(config.get "TAX_RATE"),
    payment_methods = json.array(config.get "PAYMENT_METHODS"),
    slot_cutoff_minutes = config.get "SLOT_CUTOFF_MINUTES",
  }
end

return web.routes("/api/v1/store", {
  { "GET", "/", store, who = "anyone", etag = true, public = true, summary = "The shop's settings" },
})
