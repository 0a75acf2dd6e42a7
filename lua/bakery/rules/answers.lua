--- What the API answers with: the schemas that several routes share.  In openapi.json they
-- stand by name; a route says answer = answers.Order.  The API's tests check each answer.

local order_rules = require "bakery.rules.orders"
local s           = require "omade.schema"

local maybe <const>, object <const>, list <const> = s.nullable, s.object, s.list

local schemas = {}

schemas.Product = object {
  id = s.uuid, name = s.text, description = maybe(s.text), price = s.money, category = maybe(s.text),
  stock = s.count, image_url = maybe(s.text), is_customizable = s.boolean, allergens = list(s.text),
  avg_rating = s.number, review_count = s.count, created_at = s.time, updated_at = s.time,
}

schemas.User = object {
  id = s.uuid, name = s.text, email = s.text, role = s.one_of { "customer", "rider", "staff", "admin" },
  phone = maybe(s.text), avatar_url = maybe(s.text), social_provider = maybe(s.text), created_at = s.time, updated_at = s.time,
}

---- Custom cakes ------------------------------------------------------------------------------

schemas.CakeConfiguration = object {
  flavor = s.text, size = s.text, frosting = s.text, ["message?"] = s.text, ["image_reference?"] = s.text,
  ["layers?"] = s.integer, ["decorations?"] = list(object { id = s.text, quantity = s.count }),
  ["dietary?"] = list(s.text), ["instructions?"] = s.text,
}

schemas.PriceBreakdown = object {
  base = s.money, size = object { id = s.text, amount = s.money }, flavor = s.money, frosting = s.money,
  layers = s.money, decorations = list(object { id = s.text, quantity = s.count, amount = s.money }),
  dietary = list(object { id = s.text, amount = s.money }), rush_fee = s.money,
}

---- Orders ------------------------------------------------------------------------------------

schemas.OrderItem = object {
  id = s.uuid, product_id = maybe(s.uuid), product_name = s.text, quantity = s.count, unit_price = s.money,
  subtotal = s.money, discount_amount = s.money, ["custom_cake?"] = s.ref "CakeConfiguration",
}

schemas.Address = object {
  line1 = s.text, ["line2?"] = maybe(s.text), city = s.text, postal_code = s.text, ["notes?"] = maybe(s.text),
}

local History <const> = object { status = s.one_of(order_rules.STATUSES), at = s.time, by_role = maybe(s.text) }

-- The columns that lists and the order itself have in common.
local Row <const> = object {
  id = s.uuid, order_number = s.text, tracking_token = maybe(s.text), user_id = maybe(s.uuid),
  ["guest_name?"] = maybe(s.text), ["guest_email?"] = maybe(s.text), ["guest_phone?"] = maybe(s.text),
  status = s.one_of(order_rules.STATUSES), payment_status = s.one_of(order_rules.PAYMENT_STATUSES),
  payment_method = s.one_of(order_rules.PAYMENT_METHODS), payment_reference = maybe(s.text),
  fulfilment = s.one_of { "pickup", "delivery" }, subtotal = s.money, discount_amount = s.money,
  points_redeemed = s.count, points_amount = s.money, delivery_fee = s.money, tip_amount = s.money,
  tax_amount = s.money, total_amount = s.money, refunded_amount = s.money, promo_code = maybe(s.text),
  pickup_at = maybe(s.time), delivered_at = maybe(s.time), delivery_schedule_id = maybe(s.uuid),
  notes = maybe(s.text), created_at = s.time, updated_at = s.time,
}

schemas.Order = s.with(Row, {
  ["delivery?"] = object { date = maybe(s.date), time = maybe(s.text), address = maybe(s.ref "Address") },
  items = list(s.ref "OrderItem"), history = list(History),
})

schemas.OrderRow = s.with(Row, { items = list(s.ref "OrderItem"), ["customer_name?"] = maybe(s.text),
                                 ["customer_email?"] = maybe(s.text) })

schemas.TrackedOrder = object {
  order_number = s.text, status = s.one_of(order_rules.STATUSES),
  payment_status = s.one_of(order_rules.PAYMENT_STATUSES), fulfilment = s.text, pickup_at = maybe(s.time),
  delivered_at = maybe(s.time), ["delivery?"] = object { date = maybe(s.date), time = maybe(s.text) },
  history = list(History), created_at = s.time,
}

schemas.OrderEvents = s.events {
  status  = object { status = s.one_of(order_rules.STATUSES), at = s.time, by_role = s.text },
  payment = object { status = s.one_of(order_rules.STATUSES), payment_status = s.one_of(order_rules.PAYMENT_STATUSES),
                     at = s.time, by_role = s.text },
}

---- Carts -------------------------------------------------------------------------------------

schemas.Cart = object {
  ["user_id?"] = s.uuid, ["session_id?"] = s.text, cart_id = s.uuid, version = s.count,
  items = list(object {
    line_id = s.uuid, product_id = s.uuid, name = s.text, quantity = s.count, unit_price = s.money,
    subtotal = s.money, ["custom_cake?"] = s.ref "CakeConfiguration",
  }),
  total_amount = s.money, item_count = s.count, updated_at = s.time,
}

---- Promotions, reviews, points ---------------------------------------------------------------

schemas.Promo = object {
  id = s.uuid, code = s.text, discount_type = s.one_of { "percent", "fixed" }, amount = s.money,
  valid_from = s.time, valid_to = s.time, usage_limit = maybe(s.count), used_count = s.count,
  per_user_limit = maybe(s.count), minimum_order = maybe(s.money), created_at = s.time,
}

schemas.Review = object {
  id = s.uuid, user_id = s.uuid, product_id = s.uuid, rating = s.count, comment = maybe(s.text), created_at = s.time,
  user = object { id = s.uuid, name = s.text },
}

schemas.Loyalty = object {
  id = s.uuid, user_id = s.uuid, points = s.count, value = s.money, updated_at = s.time,
  user = object { id = s.uuid, name = s.text, email = s.text },
}

---- By name -------------------------------------------------------------------------------------

local answers = { schemas = schemas }
for name in pairs(schemas) do answers[name] = s.ref(name) end
return answers
