--- Placing an order: one transaction, in which either everything happens or nothing.
--
-- First batch: the idempotency key, and under locks all that decides - products, points,
-- promotion, slot.  Then the prices, in Lua and C.  Last batch: order, lines, cakes, stock,
-- promotion, points, history, outbox and the answer for the key, and COMMIT with it: two
-- round trips.  In between nothing waits.

local auth        = require "omade.auth"
local cache       = require "omade.cache"
local carts       = require "bakery.services.carts"
local crypto      = require "omade.crypto"
local days        = require "bakery.services.days"
local db          = require "omade.db"
local idempotency = require "omade.idempotency"
local json        = require "omade.json"
local outbox      = require "bakery.services.outbox"
local quote       = require "bakery.services.quote"
local time        = require "omade.time"
local uuid        = require "omade.uuid"
local view        = require "bakery.services.order_view"
local web         = require "omade.web"

local checkout = {}

local DAY_SECONDS <const> = 24 * 3600

---- The statements ---------------------------------------------------------------------------------

local NUMBER <const> = "SELECT next_order_number() AS order_number"

local ORDER <const> = [[
  INSERT INTO orders (id, user_id, guest_name, guest_email, guest_phone, order_number,
    tracking_token, cart_id, payment_method, fulfilment, subtotal, discount_amount,
    points_redeemed, points_amount, delivery_fee, tip_amount, tax_amount, total_amount,
    promo_code, promo_code_id, pickup_at, delivery_schedule_id, address, notes)
  VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18,
    $19, $20, $21, $22, $23, $24)]]

local ITEMS <const> = [[
  INSERT INTO order_items (id, order_id, product_id, line_no, product_name, quantity, unit_price,
    subtotal, discount_amount)
  SELECT x.id, $1, x.product_id, x.line_no, x.product_name, x.quantity, x.unit_price, x.subtotal,
    x.discount_amount
  FROM jsonb_to_recordset($2::jsonb) AS x (id uuid, product_id uuid, line_no int, product_name text,
    quantity int, unit_price numeric, subtotal numeric, discount_amount numeric)]]

local CAKES <const> = [[
  INSERT INTO custom_cake_configurations (order_id, order_item_id, flavor, size, frosting, message,
    image_reference, extra_details, unit_price, price_breakdown, requested_date)
  SELECT $1, x.item, x.flavor, x.size, x.frosting, x.message, x.image_reference, x.extra, x.unit_price,
    x.breakdown, $3::date
  FROM jsonb_to_recordset($2::jsonb) AS x (item uuid, flavor text, size text, frosting text, message text,
    image_reference text, extra jsonb, unit_price numeric, breakdown jsonb)]]

local STOCK <const> = "SELECT move_stock($1::uuid[], $2::int[])"

local REDEMPTION <const> = [[
  INSERT INTO promo_redemptions (promo_code_id, order_id, user_id, guest_identity, amount)
  VALUES ($1, $2, $3, $4, $5)]]

local POINTS <const> = [[
  INSERT INTO loyalty_ledger (user_id, points, reason, order_id) VALUES ($1, $2, 'redeemed', $3)]]

local HISTORY <const> = "INSERT INTO order_status_history (order_id, status) VALUES ($1, 'pending')"

---- What is bought --------------------------------------------------------------------------------------

local function cart_lines(cart)
  local lines = {}
  for i, line in ipairs(cart:lines()) do
    lines[i] = { product_id = line.product_id, quantity = line.quantity, unit_price = line.unit_price,
                 custom_cake = line.custom_cake }
  end
  return lines
end

--- The purchase of a request: its own items, or the cart's.
local function purchase_of(req)
  local body, user = req.body, req.user
  local purchase = {
    user_id = user and user.id, guest_identity = not user and (body.guest_email or body.guest_phone) or nil,
    promo_code = body.promo_code, redeem_points = user and body.redeem_points or 0,
    fulfilment = body.fulfilment, delivery_schedule_id = body.delivery_schedule_id,
    pickup_at = body.fulfilment == "pickup" and body.pickup_at or nil, tip_amount = body.tip_amount,
    lines = body.items,
  }
  if purchase.lines then return purchase end

  local owner = carts.owner(req)
  if owner then
    purchase.owner = owner
    purchase.cart, purchase.cart_bytes = carts.load(owner)
    purchase.lines = cart_lines(purchase.cart)
  end
  if not purchase.lines or #purchase.lines == 0 then
    web.fail(409, "The cart is empty", { code = "EMPTY_CART" })
  end
  return purchase
end

---- The order -----------------------------------------------------------------------------------------------

local function pickup_at(purchase, priced)
  if purchase.fulfilment ~= "pickup" then return nil end
  if purchase.pickup_at then return purchase.pickup_at end
  return time.iso(priced.clock.seconds + priced.days * DAY_SECONDS)
end

--- The row of orders, by its columns.
local function order_of(req, purchase, priced, number)
  local body, totals, promo = req.body, priced.totals, priced.promo
  return {
    id = purchase.order_id, user_id = purchase.user_id,
    guest_name = not purchase.user_id and body.guest_name or nil,
    guest_email = not purchase.user_id and body.guest_email or nil,
    guest_phone = not purchase.user_id and body.guest_phone or nil,
    order_number = number, tracking_token = crypto.token(16), cart_id = purchase.cart and purchase.cart:id(),
    status = "pending", payment_status = "pending", payment_method = body.payment_method,
    fulfilment = purchase.fulfilment, subtotal = totals.subtotal, discount_amount = totals.discount_amount,
    points_redeemed = totals.points_redeemed, points_amount = totals.points_amount,
    delivery_fee = totals.delivery_fee, tip_amount = totals.tip_amount, tax_amount = totals.tax_amount,
    total_amount = totals.total_amount, refunded_amount = totals.subtotal - totals.subtotal,
    promo_code = promo and promo.code, promo_code_id = promo and promo.id,
    pickup_at = pickup_at(purchase, priced), delivery_schedule_id = purchase.delivery_schedule_id,
    address = purchase.fulfilment == "delivery" and body.address or nil, notes = body.notes,
    delivery_date = priced.slot and priced.slot.delivery_date, delivery_time = priced.slot and priced.slot.delivery_time,
    created_at = priced.clock.now, updated_at = priced.clock.now,
  }
end

local function items_of(priced)
  local items = json.array {}
  for i, line in ipairs(priced.lines) do
    local shares = priced.totals.lines[i]
    items[i] = { id = uuid.v4(), line_no = i, product_id = line.product.id, product_name = line.product.name,
                 quantity = line.quantity, unit_price = line.unit_price, subtotal = shares.subtotal,
                 discount_amount = shares.discount_amount, custom_cake = line.custom_cake }
  end
  return items
end

--- What has no column of its own.
local function extra_of(cake)
  return { layers = cake.layers, decorations = cake.decorations, dietary = cake.dietary,
           instructions = cake.instructions }
end

local function cakes_of(priced, items)
  local list = json.array {}
  for i, line in ipairs(priced.lines) do
    local cake = line.custom_cake
    if cake then
      list[#list + 1] = { item = items[i].id, flavor = cake.flavor, size = cake.size, frosting = cake.frosting,
                          message = cake.message, image_reference = cake.image_reference, extra = extra_of(cake),
                          unit_price = line.unit_price, breakdown = line.price_breakdown }
    end
  end
  return #list > 0 and list or nil
end

local function plain_items(items)
  local list = json.array {}
  for i, item in ipairs(items) do
    list[i] = { id = item.id, line_no = item.line_no, product_id = item.product_id, product_name = item.product_name,
                quantity = item.quantity, unit_price = item.unit_price, subtotal = item.subtotal,
                discount_amount = item.discount_amount }
  end
  return list
end

local function taken(items)
  local ids, quantities = {}, {}
  for i, item in ipairs(items) do ids[i], quantities[i] = item.product_id, -item.quantity end
  return "{" .. table.concat(ids, ",") .. "}", "{" .. table.concat(quantities, ",") .. "}"
end

---- Writing it ------------------------------------------------------------------------------------------------

local function insert_order(o)
  return { ORDER, o.id, o.user_id, o.guest_name, o.guest_email, o.guest_phone, o.order_number, o.tracking_token,
           o.cart_id, o.payment_method, o.fulfilment, o.subtotal, o.discount_amount, o.points_redeemed,
           o.points_amount, o.delivery_fee, o.tip_amount, o.tax_amount, o.total_amount, o.promo_code,
           o.promo_code_id, o.pickup_at, o.delivery_schedule_id, o.address, o.notes, n = 25, as = "exec" }
end

--- All that makes the order, in the order in which it must be written.
local function writes_of(purchase, priced, order, items)
  local ids, quantities = taken(items)
  local cakes = cakes_of(priced, items)
  local list = {
    insert_order(order),
    { ITEMS, order.id, plain_items(items), as = "exec" },
    { STOCK, ids, quantities, as = "exec" },
    { HISTORY, order.id, as = "exec" },
    outbox.entry("order.created", order.id, { order_number = order.order_number }),
  }
  if cakes then
    local date = priced.days and days.after(priced.clock.today, priced.days)
    list[#list + 1] = { CAKES, order.id, cakes, date, n = 4, as = "exec" }
  end
  if priced.promo then
    list[#list + 1] = { REDEMPTION, priced.promo.id, order.id, order.user_id, purchase.guest_identity,
                        order.discount_amount, n = 6, as = "exec" }
  end
  if order.points_redeemed > 0 then
    list[#list + 1] = { POINTS, order.user_id, -order.points_redeemed, order.id, as = "exec" }
  end
  return list
end

local function write(req, purchase, priced, number, key)
  local order = order_of(req, purchase, priced, number)
  local items = items_of(priced)
  local first = { status = "pending", at = priced.clock.now, by_role = req.user and req.user.role or "guest" }
  local answer, keep = idempotency.answer(key, web.created(view.of(order, items, { first }),
                                                           "Order placed successfully"))
  local writes = writes_of(purchase, priced, order, items)
  for _, statement in ipairs(keep) do writes[#writes + 1] = statement end
  db.commit(writes)
  return answer
end

---- The transaction ---------------------------------------------------------------------------------------------

--- Returns the answer; or nil and the lines of the cart whose price is another now.
local function place(req, purchase, key)
  local statements = quote.statements(purchase, "lock")
  statements[#statements + 1] = { NUMBER, as = "row" }
  local results = idempotency.begin(key, statements)
  local number = table.remove(results).order_number
  local priced = quote.price(purchase, results)
  if #priced.changed > 0 then return nil, priced.changed end
  return write(req, purchase, priced, number, key)
end

local function price_changed(purchase, changed)
  carts.change(purchase.owner, function(cart)
    if cart:id() ~= purchase.cart:id() or cart:version() ~= purchase.cart:version() then return end
    for _, line in ipairs(changed) do cart:reprice(line.at, line.price) end
  end)
  web.fail(409, "Prices have changed; the cart shows the new ones", { code = "PRICE_CHANGED" })
end

--- One cart makes one order: who comes second finds it ordered.
local function refuse_second(purchase, fault)
  if type(fault) == "table" and fault.constraint == "orders_cart_id_key" then
    carts.empty(purchase.owner, purchase.cart, purchase.cart_bytes)
    web.fail(409, "This cart was ordered already", { code = "EMPTY_CART" })
  end
  error(fault, 0)
end

--- The order is there: what remains may fail without harm.
local function tidy_up(purchase)
  local keys = {}
  for i, line in ipairs(purchase.lines) do keys[i] = "product:" .. line.product_id end
  cache.drop(table.unpack(keys))
  if purchase.cart then pcall(carts.empty, purchase.owner, purchase.cart, purchase.cart_bytes) end
end

local function as_buyer(req, order_id, fn)
  if req.user then return fn() end
  return auth.as_guest(order_id, fn)
end

--- What the order of a cart would cost, from what is there now and without a lock; refuses
-- what the order would refuse.  The request's body is an order's, without items.
---@param req omade.request
---@return {lines: table[], totals: omade.commerce.totals} priced as quote.price makes it
---@return table purchase
function checkout.quote(req)
  local purchase = purchase_of(req)
  local priced = quote.price(purchase, db.batch(quote.statements(purchase, "look")))
  if #priced.changed > 0 then price_changed(purchase, priced.changed) end
  priced.pickup_at = pickup_at(purchase, priced)
  return priced, purchase
end

--- Places the order that a request asks for.
---@param req omade.request
---@return any answer
function checkout.place(req)
  local key = idempotency.key(req)
  local found, purchase = pcall(purchase_of, req)
  if not found then
    -- A cart that is empty by now may have been ordered with this very key.
    return key and as_buyer(req, nil, function() return idempotency.find(key) end) or error(purchase, 0)
  end
  purchase.order_id = uuid.v4()

  local ok, answer, changed = pcall(as_buyer, req, purchase.order_id, function()
    return db.transaction(function() return place(req, purchase, key) end)
  end)
  if not ok and idempotency.is_taken(answer) then
    return as_buyer(req, nil, function() return idempotency.replay(key) end)
  end
  if not ok then refuse_second(purchase, answer) end
  if changed then price_changed(purchase, changed) end
  tidy_up(purchase)
  return answer
end

return checkout
