--- The cart of a customer, or of a guest with a session id: read, changed, merged, quoted.
-- Names and prices are the catalogue's at the time of adding; when a price is another one
-- later, the order says so (PRICE_CHANGED) and the cart then shows the new one.

local answers    = require "bakery.rules.answers"
local cake_shape = require "bakery.rules.cake_shape"
local cakes      = require "bakery.rules.cakes"
local carts      = require "bakery.services.carts"
local checkout   = require "bakery.services.checkout"
local db         = require "omade.db"
local json       = require "omade.json"
local pictures   = require "bakery.services.pictures"
local s          = require "omade.schema"
local v          = require "omade.validate"
local web        = require "omade.web"

local PIECES_MAX <const> = 50      -- of a line, as in core/commerce/cart.h

---- Shapes: what a caller may send -------------------------------------------------------

local Product <const> = v.shape { productId = v.uuid { label = "Product id" } }

local NewItem <const> = v.shape {
  product_id  = v.uuid(),
  quantity    = v.integer { min = 1, max = PIECES_MAX, default = 1 },
  custom_cake = v.optional(cake_shape),
}

local Change <const> = v.shape {
  quantity = v.integer { min = 0, max = PIECES_MAX },
  line_id  = v.uuid { optional = true },
}

local Line <const> = v.shape { line_id = v.uuid { optional = true } }

local Wish <const> = v.shape({
  promo_code           = v.text { min = 1, max = 50, optional = true },
  redeem_points        = v.integer { min = 0, max = 2147483647, default = 0 },
  fulfilment           = v.one_of({ "pickup", "delivery" }, { default = "pickup" }),
  pickup_at            = v.time { optional = true },
  tip_amount           = v.money { min = 0, max = "999.99", optional = true },
  delivery_schedule_id = v.uuid { optional = true },
}, { together = function(wish, fault, req)
  if not req.user and (wish.redeem_points or 0) > 0 then
    fault("Redeem points is for signed-in customers", "redeem_points")
  end
end })

---- Whose, and what it may hold --------------------------------------------------------------

local function invalid(field, message) v.refuse { { path = field, message = message } } end

local PRODUCT <const> = [[SELECT id, name, price, stock, is_customizable FROM products
  WHERE id = $1 AND archived_at IS NULL]]

local function check_cake(product, cake)
  if not product.is_customizable then invalid("custom_cake", product.name .. " cannot be customised") end
  local faults = {}
  for i, issue in ipairs(cakes.issues(cake)) do
    faults[i] = { path = "custom_cake." .. issue.field, message = issue.message }
  end
  v.refuse(faults)
  pictures.check { custom_cake = cake }
end

--- Of a product, with all its lines summed.
local function check_stock(pieces, stock)
  if pieces <= stock then return end
  web.fail(409, "There is not enough stock", { code = "OUT_OF_STOCK", extra = { available = stock } })
end

local function no_item() web.fail(404, "Item not found in cart") end

---- Handlers: request in, answer out -----------------------------------------------------------

local function guest()
  return web.created { session_id = carts.new_session(), expires_in = carts.SECONDS }
end

local function show(req)
  return carts.load(carts.owner(req)):bytes()
end

local function put(cart, product, line)
  local before = cart:count()
  check_stock(cart:count(product.id) + line.quantity, product.stock)
  local at, code = cart:add(line)
  if not at then web.fail(422, "A cart holds at most 50 lines", { code = code }) end
  if cart:count() - before < line.quantity then
    invalid("quantity", ("Quantity must be at most %d in a line"):format(PIECES_MAX))
  end
end

local function add(req)
  local owner, new = carts.owner(req), req.body
  local product = db.row(PRODUCT, new.product_id) or web.fail(404, "Product not found")
  if new.custom_cake then check_cake(product, new.custom_cake) end

  local line = { product_id = product.id, name = product.name, quantity = new.quantity,
                 custom_cake = new.custom_cake,
                 unit_price = new.custom_cake and cakes.price(new.custom_cake) or product.price:money() }
  return carts.change(owner, function(cart) put(cart, product, line) end):bytes()
end

--- Sets the pieces of a line.  Fewer than there were are always right.
local function set_pieces(cart, id, new, product)
  local before = cart:count(id)
  local done, code = cart:set(id, new.quantity, new.line_id)
  if code == "SEVERAL" then invalid("line_id", "Line id is required: the product has several lines") end
  if not done then no_item() end
  if cart:count(id) <= before then return end
  if not product then web.fail(404, "Product not found") end
  check_stock(cart:count(id), product.stock)
end

local function change(req)
  local owner, id, new = carts.owner(req), req.params.productId, req.body
  local product = db.row(PRODUCT, id)
  return carts.change(owner, function(cart) set_pieces(cart, id, new, product) end):bytes()
end

local function remove(req)
  return carts.change(carts.owner(req), function(cart)
    if cart:remove(req.params.productId, req.query.line_id) == 0 then no_item() end
  end):bytes()
end

local function clear(req)
  return carts.change(carts.owner(req), function(cart) cart:clear() end):bytes()
end

---- Merging ----------------------------------------------------------------------------------------

local STOCKS <const> = "SELECT id, stock FROM products WHERE id = ANY($1::uuid[]) AND archived_at IS NULL"

--- Stock by product, of all products of a cart; nil for what is not sold any more.
local function stocks_of(lines)
  local ids, stocks = {}, {}
  for i, line in ipairs(lines) do ids[i] = line.product_id end
  for _, row in ipairs(db.rows(STOCKS, "{" .. table.concat(ids, ",") .. "}")) do stocks[row.id] = row.stock end
  return stocks
end

local function pieces_of(cart)
  local pieces = {}
  for _, line in ipairs(cart:lines()) do pieces[line.line_id] = line.quantity end
  return pieces
end

--- Takes back what the stock does not allow, from the last line on, and never what the cart
-- held before.
local function stop_at_stock(cart, before, note)
  local lines = cart:lines()
  local stocks = #lines > 0 and stocks_of(lines) or {}
  for i = #lines, 1, -1 do
    local line = lines[i]
    local excess = cart:count(line.product_id) - (stocks[line.product_id] or 0)
    local back = math.min(excess, line.quantity - (before[line.line_id] or 0))
    if back > 0 then
      cart:set(line.product_id, line.quantity - back, line.line_id)
      note(line, line.quantity - back)
    end
  end
end

--- Adds the guest's lines; returns those that did not come over whole.
local function join(cart, guests)
  local before = pieces_of(cart)
  local adjusted = cart:merge(guests)
  stop_at_stock(cart, before, function(line, quantity)
    for _, entry in ipairs(adjusted) do
      if entry.line_id == line.line_id then
        entry.quantity = quantity
        return
      end
    end
    adjusted[#adjusted + 1] = { product_id = line.product_id, line_id = line.line_id,
                                requested = line.quantity, quantity = quantity }
  end)
  return adjusted
end

local function merge(req)
  local session = carts.session_of(req)
  if not session then invalid("X-Session-Id", "X-Session-Id is required") end
  local cart, adjusted = carts.merge(carts.owner(req), carts.guest(session), join)
  return cart:bytes { adjusted = adjusted or json.array {} }
end

---- What the order would cost ---------------------------------------------------------------------

local function shown_lines(priced)
  local items = json.array {}
  for i, line in ipairs(priced.lines) do
    local shares = priced.totals.lines[i]
    items[i] = { product_id = line.product.id, product_name = line.product.name, quantity = line.quantity,
                 unit_price = line.unit_price, subtotal = shares.subtotal,
                 discount_amount = shares.discount_amount, custom_cake = line.custom_cake,
                 price_breakdown = line.price_breakdown }
  end
  return items
end

local function quote(req)
  if req.body.fulfilment == "pickup" then req.body.delivery_schedule_id = nil end
  local priced, purchase = checkout.quote(req)
  local totals = priced.totals
  return {
    fulfilment = purchase.fulfilment, pickup_at = priced.pickup_at or json.null,
    delivery_schedule_id = purchase.delivery_schedule_id or json.null,
    promo_code = priced.promo and priced.promo.code or json.null,
    subtotal = totals.subtotal, discount_amount = totals.discount_amount,
    points_redeemed = totals.points_redeemed, points_amount = totals.points_amount,
    delivery_fee = totals.delivery_fee, tip_amount = totals.tip_amount, tax_amount = totals.tax_amount,
    total_amount = totals.total_amount, items = shown_lines(priced),
  }
end

---- Routes: the table of contents ---------------------------------------------------------------

local OWNER <const> = { "customer", "guest" }
local CART  <const> = answers.Cart
local ID    <const> = "X-Session-Id"       -- who a guest is
local SESSION <const> = { [ID] = "of POST /api/v1/cart/guest, of who is not signed in" }

local NO_ITEM <const> = { [404] = "Item not found in cart" }
local NO_STOCK <const> = "OUT_OF_STOCK: `available` pieces, for all lines of the product"

local Guest <const> = s.object { session_id = s.text, expires_in = s.count }

local Merged <const> = s.with(answers.schemas.Cart, { adjusted = s.list(s.object {
  product_id = s.uuid, line_id = s.uuid, requested = s.count, quantity = s.count,
}) })

local Quote <const> = s.object {
  fulfilment = s.one_of { "pickup", "delivery" }, pickup_at = s.nullable(s.time),
  delivery_schedule_id = s.nullable(s.uuid), promo_code = s.nullable(s.text), subtotal = s.money,
  discount_amount = s.money, points_redeemed = s.count, points_amount = s.money, delivery_fee = s.money,
  tip_amount = s.money, tax_amount = s.money, total_amount = s.money,
  items = s.list(s.object {
    product_id = s.uuid, product_name = s.text, quantity = s.count, unit_price = s.money, subtotal = s.money,
    discount_amount = s.money, ["custom_cake?"] = answers.CakeConfiguration,
    ["price_breakdown?"] = answers.PriceBreakdown,
  }),
}

return web.routes("/api/v1/cart", {
  { "POST",   "/guest",            guest,  who = "anyone", limit = "cart", status = 201, answer = Guest,
    summary = "A session id for a guest's cart" },
  { "GET",    "/",                 show,   who = OWNER, guest_sends = ID, limit = "cart", answer = CART, sends = SESSION,
    summary = "The cart" },
  { "POST",   "/items",            add,    who = OWNER, guest_sends = ID, limit = "cart", body = NewItem, answer = CART, sends = SESSION,
    errors = { [404] = "Product not found", [409] = NO_STOCK, [422] = "CART_FULL: 50 lines" },
    summary = "Add pieces of a product, or a custom cake" },
  { "PATCH",  "/items/:productId", change, who = OWNER, guest_sends = ID, limit = "cart", params = Product, body = Change,
    answer = CART, sends = SESSION, errors = { [404] = NO_ITEM[404], [409] = NO_STOCK },
    summary = "Set the pieces of a line" },
  { "DELETE", "/items/:productId", remove, who = OWNER, guest_sends = ID, limit = "cart", params = Product, query = Line,
    answer = CART, sends = SESSION, errors = NO_ITEM, summary = "Remove a product, or one of its lines" },
  { "DELETE", "/",                 clear,  who = OWNER, guest_sends = ID, limit = "cart", answer = CART, sends = SESSION,
    summary = "Empty the cart" },
  { "POST",   "/merge",            merge,  who = "customer", limit = "cart", answer = Merged, sends = SESSION,
    summary = "Add a guest's cart to one's own" },
  { "POST",   "/quote",            quote,  who = OWNER, guest_sends = ID, limit = "cart", body = Wish, answer = Quote, sends = SESSION,
    errors = { [404] = "Delivery schedule not found", [409] = "EMPTY_CART, OUT_OF_STOCK, PRICE_CHANGED, SLOT_FULL, SLOT_CLOSED",
               [422] = "What the order would refuse: PROMO_..., INSUFFICIENT_POINTS, LEAD_TIME, MINIMUM_ORDER, TOTAL_TOO_LARGE" },
    summary = "What the order would cost" },
})
