--- The bakery: which files declare its routes, and its settings.

local money = require "omade.money"
local must  = require "bakery.rules.settings"

local NONE <const> = money "0.00"

require "bakery.tasks"

return {
  routes = {
    "bakery.routes.service",
    "bakery.routes.products",
    "bakery.routes.reports",
    "bakery.routes.custom_cakes",
    "bakery.routes.customers",
    "bakery.routes.delivery",
    "bakery.routes.cart",
    "bakery.routes.orders",
    "bakery.routes.outbox",
    "bakery.routes.payments",
    "bakery.routes.promo",
    "bakery.routes.reviews",
    "bakery.routes.loyalty",
    "bakery.routes.newsletter",
    "bakery.routes.store",
    "bakery.routes.uploads",
    "bakery.routes.auth",
    "bakery.routes.users",
    "bakery.routes.audit",
  },

  openapi = { title = "Omade Cravings Bakery API", version = "1.0.0",
              schemas = require("bakery.rules.answers").schemas },

  limits = require "bakery.rules.limits",

  settings = {
    SHOP_NAME     = { default = "Omade Cravings", doc = "the shop's name" },
    SHOP_TIMEZONE = { default = "UTC", doc = "the shop's time zone" },
    SHOP_CURRENCY = { default = "USD", check = must.currency, doc = "ISO 4217; two decimals" },
    OPENING_HOURS = { type = "list", default = { "mon-fri 08:00-18:00", "sat 09:00-16:00" },
                      doc = "for people to read; comma-separated" },
    CLOSED_DAYS   = { type = "list", default = {}, check = must.closed_days,
                      doc = "no delivery and no pickup: dates, or weekdays such as sunday" },

    DELIVERY_FEE        = { type = "money", default = money "5.99", min = NONE, doc = "of a delivery" },
    DELIVERY_FREE_FROM  = { type = "money", default = money "50.00", min = NONE, doc = "goods after discount that are delivered free" },
    MINIMUM_ORDER       = { type = "money", default = NONE, min = NONE, doc = "least subtotal of an order" },
    TAX_RATE            = { default = "0", check = must.tax_rate, doc = "percent of goods after discount: 7.25" },
    SLOT_CUTOFF_MINUTES = { type = "integer", default = 120, min = 0, doc = "a delivery slot closes so long before it begins" },

    PUBLIC_URL            = { default = "", check = must.url, doc = "where its pages are, for links of mails: https://shop.example" },
    OUTBOX_DRIVER         = { default = "log", doc = "where messages go: off, log, file, webhook, smtp" },
    OUTBOX_FILE           = { default = "", doc = "of the driver file: a line of JSON a message" },
    OUTBOX_WEBHOOK_URL    = { default = "", check = must.url, doc = "of the driver webhook: gets each message by POST" },
    OUTBOX_WEBHOOK_SECRET = { default = "", doc = "signs what is posted (X-Omade-Signature)" },
    SMTP_URL              = { default = "", doc = "smtp://, smtps:// or smtp+starttls://[user:password@]host:port" },
    SMTP_CA_FILE          = { default = "", doc = "certificates to trust instead of the system's" },
    MAIL_FROM             = { default = "", check = must.email, doc = "the shop's address in mails" },
    OUTBOX_TIMEOUT        = { type = "integer", default = 10, min = 1, max = 120, doc = "seconds for one try" },
    OUTBOX_ATTEMPTS       = { type = "integer", default = 10, min = 1, max = 100, doc = "tries before a message is given up" },
    OUTBOX_RETRY_SECONDS  = { type = "integer", default = 5, min = 0, max = 3600, doc = "before the second try; doubles" },
    OUTBOX_KEEP_DAYS      = { type = "integer", default = 30, min = 1, doc = "how long messages are kept that were sent or given up" },

    PAYMENT_METHODS        = { type = "list", default = { "cash", "card_on_delivery", "bank_transfer", "online" },
                               check = must.payment_methods, doc = "what the shop takes" },
    PAYMENT_PROVIDER       = { default = "generic", doc = "named in the answer of /pay" },
    PAYMENT_URL_TEMPLATE   = { default = "", check = must.url, doc = "https://...?order={order_id}&amount={amount}&currency={currency}" },
    PAYMENT_GENERIC_SECRET = { default = "", doc = "signs the events of the provider 'generic'" },
    UNPAID_ORDER_MINUTES   = { type = "integer", default = 30, min = 1, doc = "an online order unpaid for so long is cancelled" },

    -- Reports.
    CSV_AHEAD = { type = "integer", default = 32 << 20, min = 0,
                  doc = "bytes of a CSV that may wait in memory for a slow client; one CSV at a time in a worker is made" },

    -- How long what nobody needs any more is kept: docs/privacy.md.
    AUDIT_KEEP_DAYS        = { type = "integer", default = 365, min = 30, doc = "traces of who changed what" },
    UNSUBSCRIBED_KEEP_DAYS = { type = "integer", default = 30, min = 1, doc = "addresses that left the newsletter" },
    UPLOAD_KEEP_DAYS       = { type = "integer", default = 7, min = 2, doc = "uploaded pictures that nothing shows" },

    -- Accounts.
    BCRYPT_COST        = { type = "integer", default = 12, min = 4, max = 15,
                           doc = "work of a password's hash; each step doubles it" },
    GOOGLE_CLIENT_ID   = { type = "list", default = {}, doc = "client ids of Google sign-in; none: it is off" },
    GOOGLE_ISSUER      = { type = "list", default = { "https://accounts.google.com", "accounts.google.com" },
                           doc = "who issues the tokens" },
    GOOGLE_JWKS        = { default = "https://www.googleapis.com/oauth2/v3/certs",
                           doc = "the keys: an https URL, or a file" },
    APPLE_CLIENT_ID    = { type = "list", default = {}, doc = "the same for Apple" },
    APPLE_ISSUER       = { type = "list", default = { "https://appleid.apple.com" } },
    APPLE_JWKS         = { default = "https://appleid.apple.com/auth/keys" },
    FACEBOOK_CLIENT_ID = { type = "list", default = {}, doc = "the same for Facebook, or any other issuer" },
    FACEBOOK_ISSUER    = { type = "list", default = {} },
    FACEBOOK_JWKS      = {},
  },
}
