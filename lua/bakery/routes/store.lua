--- What a shop client needs to start; all of it settings.

local config = require "omade.config"
local json   = require "omade.json"
local s      = require "omade.schema"
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

local Store <const> = s.object {
  name = s.text, currency = s.text, timezone = s.text, opening_hours = s.list(s.text),
  closed_days = s.list(s.text), delivery_fee = s.money, delivery_free_from = s.money, minimum_order = s.money,
  tax_rate = s.number, payment_methods = s.list(s.text), slot_cutoff_minutes = s.count,
}

return web.routes("/api/v1/store", {
  { "GET", "/", store, who = "anyone", etag = true, public = true, answer = Store, summary = "The shop's settings" },
})
