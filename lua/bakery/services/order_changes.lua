--- What happens to an order after it was placed: status, payment, cancel, refund, another
-- date.  Each change locks the order, has its effects once, and writes history and outbox
-- in the same transaction; the same change a second time has none.
--
-- Functions named `_in` run inside the caller's transaction; they take the locked order.

local cache    = require "omade.cache"
local commerce = require "omade.commerce"
local db       = require "omade.db"
local json     = require "omade.json"
local money    = require "omade.money"
local outbox   = require "bakery.services.outbox"
local rules    = require "bakery.rules.orders"
local web      = require "omade.web"

local changes = {}

---- The order, locked ---------------------------------------------------------------------------------

local LOCK <const> = [[
  SELECT id, order_number, user_id, status, payment_status, payment_method, fulfilment, total_amount,
    tip_amount, delivery_fee, tax_amount, refunded_amount, points_redeemed, payment_reference,
    delivery_schedule_id, pickup_at
  FROM orders WHERE id = $1 FOR NO KEY UPDATE]]

--- The order, locked until the transaction ends, or nil.
---@param id string
---@return table?
function changes.find(id) return db.row(LOCK, id) end

--- The same; 404 when the caller cannot see it.
---@param id string
---@return table
function changes.lock(id)
  return changes.find(id) or web.fail(404, "Order not found")
end

local function refuse(message)
  web.fail(409, message, { code = "INVALID_TRANSITION" })
end

---- Parts of changes ---------------------------------------------------------------------------------

local SET_STATUS <const> = [[
  UPDATE orders SET status = $2::varchar,
    delivered_at = CASE WHEN $2::varchar = 'delivered' THEN $3::timestamptz ELSE delivered_at END
  WHERE id = $1]]

local HISTORY <const> = [[
  INSERT INTO order_status_history (order_id, status, payment_status, at, note)
  VALUES ($1, $2, $3, COALESCE($4::timestamptz, now()), $5)]]

--- The statements of a new status.
local function status_entries(order, to, note, at)
  return {
    { SET_STATUS, order.id, to, at, n = 4, as = "exec" },
    { HISTORY, order.id, to, nil, at, note, n = 6, as = "exec" },
    outbox.entry("order.status_changed", order.id, { order_number = order.order_number, from = order.status, to = to }),
  }
end

local function payment_entries(order, status, payment_status, reference)
  return {
    { "UPDATE orders SET payment_status = $2, payment_reference = COALESCE($3, payment_reference) WHERE id = $1",
      order.id, payment_status, reference, n = 4, as = "exec" },
    { HISTORY, order.id, status, payment_status, nil, nil, n = 6, as = "exec" },
    outbox.entry("order.payment_changed", order.id, { order_number = order.order_number, to = payment_status }),
  }
end

local LOCK_POINTS <const> = "SELECT lock_points($1) AS points"

local EARN <const> = [[
  INSERT INTO loyalty_ledger (user_id, points, reason, order_id) VALUES ($1, $2, 'earned', $3)
  ON CONFLICT DO NOTHING]]

local function add(list, more)
  for _, statement in ipairs(more) do list[#list + 1] = statement end
end

---- Cancel ----------------------------------------------------------------------------------------------

local LINES <const> = "SELECT product_id, quantity FROM order_items WHERE order_id = $1 ORDER BY product_id"

local RETURN_PROMO <const> = [[
  UPDATE promo_redemptions SET returned_at = now() WHERE order_id = $1 AND returned_at IS NULL]]

local RETURN_POINTS <const> = [[
  INSERT INTO loyalty_ledger (user_id, points, reason, order_id)
  SELECT $1, $2, 'returned', $3 WHERE NOT EXISTS (SELECT FROM loyalty_ledger
    WHERE order_id = $3 AND reason = 'returned')]]

local function return_points(order)
  if order.points_redeemed == 0 or not order.user_id then return {} end
  return { { RETURN_POINTS, order.user_id, order.points_redeemed, order.id, as = "exec" } }
end

--- Undoes what the order took - stock, points, promotion, place - in the order in which
-- orders take it.
---@param order table
---@param reason? string
---@param products table<string, true> gets the products whose stock changed
function changes.cancel_in(order, reason, products)
  local ids, quantities = {}, {}
  for i, line in ipairs(db.rows(LINES, order.id)) do
    ids[i], quantities[i] = line.product_id, line.quantity
    products[line.product_id] = true
  end
  local list = { { "SELECT move_stock($1::uuid[], $2::int[])", "{" .. table.concat(ids, ",") .. "}",
                   "{" .. table.concat(quantities, ",") .. "}", as = "exec" } }
  add(list, return_points(order))
  list[#list + 1] = { RETURN_PROMO, order.id, as = "exec" }
  add(list, status_entries(order, "cancelled", reason))
  db.batch(list)
end

--- Drops the products that changes.cancel_in named, after the commit.
---@param products table<string, true>
function changes.drop_products(products)
  local keys = {}
  for id in pairs(products) do keys[#keys + 1] = "product:" .. id end
  if #keys > 0 then cache.drop(table.unpack(keys)) end
end

--- Cancels an order; a second time nothing happens.
---@param id string
---@param options {reason?: string, may: fun(order: table): boolean, also?: fun(order: table)}
---@return boolean whether this call did it
function changes.cancel(id, options)
  local products
  local done = db.transaction(function()
    products = {}
    local order = changes.lock(id)
    if order.status == "cancelled" then return false end
    if not options.may(order) then refuse("An order that is " .. order.status .. " cannot be cancelled") end
    changes.cancel_in(order, options.reason, products)
    if options.also then options.also(order) end
    return true
  end)
  changes.drop_products(products)
  return done
end

---- Status ------------------------------------------------------------------------------------------------

local function deliver_in(order, note, at)
  local list = {}
  local points = order.user_id and commerce.points_earned(order) or 0
  if points > 0 then list[1] = { LOCK_POINTS, order.user_id, as = "row" } end      -- before its slot
  local paid = order.payment_status == "paid"
  if not paid then
    if not rules.paid_by_delivery(order) then
      web.fail(409, "The order must be paid before it is handed over", { code = "PAYMENT_REQUIRED" })
    end
    add(list, payment_entries(order, order.status, "paid"))
  end
  add(list, status_entries(order, "delivered", note, at))
  if points > 0 then list[#list + 1] = { EARN, order.user_id, points, order.id, as = "exec" } end
  db.batch(list)
end

--- What a status does beyond being the status.
local function dispatch_in(order, note, at)
  if not order.delivery_schedule_id then refuse "The order has no delivery slot; set one first" end
  db.batch(status_entries(order, "dispatched", note, at))
end

--- A failed delivery: back to the kitchen, and its place in the slot is free.
local function fail_in(order, note, at)
  local list = { { "UPDATE orders SET delivery_schedule_id = NULL WHERE id = $1", order.id, as = "exec" } }
  add(list, status_entries(order, "preparing", note, at))
  db.batch(list)
end

--- Moves a locked order on; false when it is there already.
---@param order table
---@param to string
---@param note? string
---@param at? string when it happened
---@param products table<string, true>
---@return boolean
function changes.move_in(order, to, note, at, products)
  if order.status == to then return false end
  if not rules.may_become(order, to) then
    refuse(("An order that is %s cannot become %s"):format(order.status, to))
  end
  if to == "cancelled" then changes.cancel_in(order, note, products)
  elseif to == "delivered" then deliver_in(order, note, at)
  elseif to == "dispatched" then dispatch_in(order, note, at)
  elseif order.status == "dispatched" then fail_in(order, note, at)
  else db.batch(status_entries(order, to, note, at)) end
  return true
end

--- Moves an order on.
---@param id string
---@param to string
---@param options? {note?: string, at?: string, check?: fun(order: table), also?: fun(order: table)}
---@return boolean whether this call did it
function changes.move(id, to, options)
  options = options or {}
  local products
  local done = db.transaction(function()
    products = {}
    local order = changes.lock(id)
    if options.check then options.check(order) end
    local moved = changes.move_in(order, to, options.note, options.at, products)
    if moved and options.also then options.also(order) end
    return moved
  end)
  changes.drop_products(products)
  return done
end

---- Payment -----------------------------------------------------------------------------------------------

--- Another payment status for a locked order; false when it has it already.
---@param order table
---@param to "pending"|"paid"|"failed"
---@param reference? string
---@return boolean
function changes.pay_in(order, to, reference)
  if order.payment_status == to then
    if reference then db.exec("UPDATE orders SET payment_reference = $2 WHERE id = $1", order.id, reference) end
    return false
  end
  if not rules.PAYMENT_TRANSITIONS[order.payment_status][to] then
    refuse(("A payment that is %s cannot become %s"):format(order.payment_status, to))
  end
  db.batch(payment_entries(order, order.status, to, reference))
  return true
end

---- Refund ------------------------------------------------------------------------------------------------

local ADD_REFUND <const> = [[
  INSERT INTO refunds (order_id, payment_id, amount, reason) VALUES ($1, $2, $3, $4) RETURNING id]]

local POINTS_LEFT <const> = [[
  SELECT COALESCE(sum(points), 0)::int AS points FROM loyalty_ledger
  WHERE order_id = $1 AND reason IN ('earned', 'clawed_back')]]

local CLAW_BACK <const> = [[
  INSERT INTO loyalty_ledger (user_id, points, reason, order_id, refund_id)
  VALUES ($1, $2, 'clawed_back', $3, $4)]]

--- Takes back what was earned for money that is returned, as far as it is still there.
local function claw_back(order, refund_id, refunded)
  if not order.user_id then return end
  local has = db.batch { { LOCK_POINTS, order.user_id, as = "row" },
                         { POINTS_LEFT, order.id, as = "row" } }
  local keeps = commerce.points_earned { total_amount = order.total_amount, tip_amount = order.tip_amount,
                                         delivery_fee = order.delivery_fee, tax_amount = order.tax_amount,
                                         refunded_amount = refunded }
  local points = math.min(has[2].points - keeps, has[1].points or 0)
  if points > 0 then db.exec(CLAW_BACK, order.user_id, -points, order.id, refund_id) end
end

--- Gives money back for a locked order; the sum never exceeds what was paid.  What points paid
-- for alone is returned with nothing.
---@param order table
---@param amount? omade.money.amount all that is left, unless given
---@param options {reason?: string, payment_id?: string}
---@return omade.money.amount amount
function changes.refund_in(order, amount, options)
  if not rules.refundable(order) then
    refuse "Only a paid order that was delivered or cancelled can be refunded"
  end
  local total, refunded = order.total_amount:money(), order.refunded_amount:money()
  local left = total - refunded
  amount = amount or left
  local nothing = amount == money "0"
  if amount > left or nothing and not rules.is_free(order) then
    web.fail(409, "At most " .. tostring(left) .. " can be refunded", { code = "CONFLICT" })
  end
  refunded = refunded + amount

  if not nothing then
    local refund = db.row(ADD_REFUND, order.id, options.payment_id, amount, options.reason)
    claw_back(order, refund.id, refunded)
  end
  local list = { outbox.entry("order.refunded", order.id, { order_number = order.order_number, amount = amount,
                                                            refunded_amount = refunded }) }
  if refunded == total then
    add(list, return_points(order))
    add(list, { { "UPDATE orders SET refunded_amount = $2, payment_status = 'refunded', status = 'refunded' WHERE id = $1",
                  order.id, refunded, as = "exec" },
                { HISTORY, order.id, order.status, "refunded", nil, nil, n = 6, as = "exec" },
                { HISTORY, order.id, "refunded", nil, nil, options.reason, n = 6, as = "exec" } })
  else
    list[#list + 1] = { "UPDATE orders SET refunded_amount = $2 WHERE id = $1", order.id, refunded, as = "exec" }
  end
  db.batch(list)
  return amount
end

---- For tasks --------------------------------------------------------------------------------------------

--- Orders that wait for an online payment longer than they may.
---@param minutes integer
---@return string[] ids, the oldest first
function changes.unpaid(minutes)
  local ids = json.array {}
  for i, row in ipairs(db.rows([[SELECT id FROM orders WHERE status = 'pending' AND payment_method = 'online'
      AND payment_status <> 'paid' AND total_amount > 0 AND created_at < now() - $1::int * interval '1 minute'
      ORDER BY created_at LIMIT 100]], minutes)) do
    ids[i] = row.id
  end
  return ids
end

return changes
