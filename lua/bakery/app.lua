--- The bakery: which files declare its routes, and its settings.

require "bakery.services.cleaning"

return {
  routes = {
    "bakery.routes.service",
    "bakery.routes.products",
    "bakery.routes.custom_cakes",
    "bakery.routes.uploads",
  },

  openapi = { title = "Omade Cravings Bakery API", version = "1.0.0" },

  limits = require "bakery.rules.limits",

  settings = {
    SHOP_NAME     = { default = "Omade Cravings", doc = "the shop's name" },
    SHOP_TIMEZONE = { default = "UTC", doc = "the shop's time zone" },
  },
}
