--- What a purchase costs: one way to it, for the quote of a cart and for an order.
--
-- `purchase` is what is bought and how:
--   lines           {product_id, quantity, custom_cake?, unit_price? (of a cart)}
--   cart            the cart, when the lines are a cart's
--   user_id, guest_identity, promo_code, redeem_points, fulfilment, pickup_at,
--   delivery_schedule_id, tip_amount
-- quote.statements asks for all that it needs - for an order under locks -, and quote.price
-- turns the answers into prices, or refuses.

local cakes    = require "bakery.rules.cakes"
local commerce = require "omade.commerce"
local config   = require "omade.config"
local days     = require "bakery.services.days"
local db       = require "omade.db"
local json     = require "omade.json"
local shop     = require "bakery.services.shop"
local v        = require "omade.validate"
local web      = require "omade.web"

local quote = {}

---- What must be known ---------------------------------------------------------------------------

local COLUMNS <const> = "id, name, price, stock, is_customizable"

local PRODUCTS <const> = {
  look = "SELECT " .. COLUMNS .. " FROM products WHERE id = ANY($1::uuid[]) AND archived_at IS NULL",
  lock = "SELECT " .. COLUMNS .. " FROM lock_products($1::uuid[]) WHERE archived_at IS NULL",
}

local POINTS <const> = {
  look = "SELECT points FROM loyalty_points WHERE user_id = $1",
  lock = "SELECT lock_points($1) AS points",
}

local PROMO_COLUMNS <const> = [[SELECT p.id, p.code, p.discount_type, p.amount,
  extract(epoch FROM p.valid_from)::float8 AS valid_from, extract(epoch FROM p.valid_to)::float8 AS valid_to,
  p.usage_limit, p.used_count, p.per_user_limit, p.minimum_order, ]]

--- Parameters: code, user, what a guest is known by.
local PROMO <const> = {
  look = PROMO_COLUMNS .. [[(SELECT count(*)::int FROM promo_redemptions r
    WHERE r.promo_code_id = p.id AND r.returned_at IS NULL
      AND (r.user_id = $2 OR r.guest_identity = $3)) AS used_by_user FROM find_promo($1) p]],
  lock = PROMO_COLUMNS .. "p.buyer_uses AS used_by_user FROM lock_promo($1, $2, $3) p",
}

quote.LOOK_PROMO = PROMO.look

local SLOT_COLUMNS <const> = [[SELECT id, delivery_date, delivery_time, status, capacity > booked AS free,
  (delivery_date + left(delivery_time, 5)::time) AT TIME ZONE shop_timezone()
    > now() + $2::int * interval '1 minute' AS open,
  delivery_date - (now() AT TIME ZONE shop_timezone())::date AS days ]]

local SLOT <const> = {
  look = SLOT_COLUMNS .. "FROM delivery_schedules WHERE id = $1",
  lock = SLOT_COLUMNS .. "FROM lock_slot($1)",
}

local CLOCK <const> = [[SELECT now() AS now, extract(epoch FROM now())::float8 AS seconds,
  (now() AT TIME ZONE shop_timezone())::date AS today,
  ($1::timestamptz AT TIME ZONE shop_timezone())::date AS day,
  $1::timestamptz < now() - interval '5 minutes' AS past]]

local function product_ids(purchase)
  local ids, seen = {}, {}
  for _, line in ipairs(purchase.lines) do
    if not seen[line.product_id] then ids[#ids + 1] = line.product_id end
    seen[line.product_id] = true
  end
  return "{" .. table.concat(ids, ",") .. "}"
end

--- The statements to send; `how` is "look", or "lock" inside an order's transaction.
-- Locks are taken in the order that all transactions keep.
---@param purchase table
---@param how "look"|"lock"
---@return omade.statement[]
function quote.statements(purchase, how)
  local list = { { CLOCK, purchase.pickup_at, n = 2, as = "row" },
                 { PRODUCTS[how], product_ids(purchase) } }
  if purchase.redeem_points > 0 then
    list[#list + 1] = { POINTS[how], purchase.user_id, as = "row" }
  end
  if purchase.promo_code then
    list[#list + 1] = { PROMO[how], purchase.promo_code, purchase.user_id, purchase.guest_identity,
                        n = 4, as = "row" }
  end
  if purchase.delivery_schedule_id then
    list[#list + 1] = { SLOT[how], purchase.delivery_schedule_id, config.get "SLOT_CUTOFF_MINUTES", as = "row" }
  end
  return list
end

--- Names to the results, which are in the order of the statements.
local function known_of(purchase, results)
  local next_result = 2
  local function take()
    next_result = next_result + 1
    local result = results[next_result]
    return result ~= json.null and result or nil
  end
  local known = { clock = results[1], products = {} }
  for _, product in ipairs(results[2]) do known.products[product.id] = product end
  if purchase.redeem_points > 0 then known.points = take() end
  if purchase.promo_code then known.promo = take() end
  if purchase.delivery_schedule_id then known.slot = take() end
  return known
end

---- When it is handed over -------------------------------------------------------------------------

local function slot_days(known)
  local slot = known.slot
  if not slot then web.fail(404, "Delivery schedule not found") end
  if slot.status == "completed" or not slot.open or shop.closed_on(slot.delivery_date) then
    web.fail(409, "This delivery slot is closed", { code = "SLOT_CLOSED" })
  end
  if not slot.free then web.fail(409, "This delivery slot is full", { code = "SLOT_FULL" }) end
  return slot.days
end

local function invalid(field, message)
  v.refuse { { path = field, message = message } }
end

--- The first day that is open and needs no rush fee.
local function first_days(purchase, today)
  local count = 0
  for _, line in ipairs(purchase.lines) do
    if line.custom_cake then count = math.max(count, cakes.lead_days(line.custom_cake)) end
  end
  for _ = 1, 366 do
    if not shop.closed_on(days.after(today, count)) then return count end
    count = count + 1
  end
  web.fail(409, "The shop is closed", { code = "SLOT_CLOSED" })
end

--- What was asked for is looked at before what there is.
local function check_clock(clock)
  if clock.past then invalid("pickup_at", "Pickup at must not be in the past") end
end

local function pickup_days(purchase, known)
  local clock = known.clock
  if not purchase.pickup_at then return first_days(purchase, clock.today) end
  if shop.closed_on(clock.day) then
    web.fail(409, "The shop is closed on that day", { code = "SLOT_CLOSED" })
  end
  return days.between(clock.today, clock.day)
end

--- Days from today to the hand-over; nil while it has no date.
local function days_of(purchase, known)
  if purchase.fulfilment == "delivery" then
    return purchase.delivery_schedule_id and slot_days(known) or nil
  end
  return pickup_days(purchase, known)
end

--- Days from today to a new date, which must be one that can be had; locks the slot.
---@param date {delivery_schedule_id?: string, pickup_at?: string}
---@param fulfilment string
---@return integer
function quote.notice_in(date, fulfilment)
  local purchase = { lines = {}, fulfilment = fulfilment, pickup_at = date.pickup_at, redeem_points = 0,
                     delivery_schedule_id = date.delivery_schedule_id }
  local known = known_of(purchase, db.batch(quote.statements(purchase, "lock")))
  check_clock(known.clock)
  return days_of(purchase, known)
end

---- What a line costs -------------------------------------------------------------------------------

local function check_cake(line, product, at)
  local where = ("items[%d].custom_cake"):format(at - 1)
  if not product.is_customizable then invalid(where, product.name .. " cannot be customised") end
  local issue = cakes.issues(line.custom_cake)[1]
  if issue then invalid(where .. "." .. issue.field, issue.message) end
end

--- The rush fee of a cake; refuses what cannot be ready.
local function fee_of(cake, notice, today)
  if not notice then return nil end
  local fee = cakes.rush_fee(cake, notice)
  if fee then return fee end
  local earliest = days.after(today, cakes.earliest_days(cake))
  web.fail(422, "A cake of this order cannot be ready by then; the earliest day is " .. earliest,
           { code = "LEAD_TIME", extra = { earliest_date = earliest } })
end

--- Price now, and without what only an order with a date costs (as a cart has it).
local function price_of(line, product, notice, today)
  if not line.custom_cake then
    local price = product.price:money()
    return price, price
  end
  local plain = cakes.price(line.custom_cake)
  local price, breakdown = cakes.price(line.custom_cake, fee_of(line.custom_cake, notice, today))
  return price, plain, breakdown
end

local function out_of_stock(missing)
  web.fail(409, "There is not enough stock", { code = "OUT_OF_STOCK", extra = { items = missing } })
end

--- Every product that is short, with all its lines summed.
local function check_stock(purchase, known)
  local wanted, order, missing = {}, {}, json.array {}
  for _, line in ipairs(purchase.lines) do
    local id = line.product_id
    if not wanted[id] then order[#order + 1] = id end
    wanted[id] = (wanted[id] or 0) + line.quantity
  end
  for _, id in ipairs(order) do
    local available = known.products[id] and known.products[id].stock or 0
    if available < wanted[id] then
      missing[#missing + 1] = { product_id = id, available = available, requested = wanted[id] }
    end
  end
  if #missing > 0 then out_of_stock(missing) end
end

local function check_products(purchase, known)
  for i, line in ipairs(purchase.lines) do
    local product = known.products[line.product_id]
    if not product and not purchase.cart then web.fail(404, "Product not found: " .. line.product_id) end
    if product and line.custom_cake then check_cake(line, product, i) end
  end
end

--- Lines with their prices, and those of a cart whose price is another now.
local function priced_lines(purchase, known, notice)
  local lines, changed = {}, {}
  for i, line in ipairs(purchase.lines) do
    local product = known.products[line.product_id]
    local price, plain, breakdown = price_of(line, product, notice, known.clock.today)
    if line.unit_price and line.unit_price ~= plain then changed[#changed + 1] = { at = i, price = plain } end
    lines[i] = { product = product, quantity = line.quantity, unit_price = price,
                 custom_cake = line.custom_cake, price_breakdown = breakdown }
  end
  return lines, changed
end

---- Totals -------------------------------------------------------------------------------------------

local MESSAGES <const> = {
  PROMO_INVALID = "This promo code is not valid", PROMO_EXPIRED = "This promo code has expired",
  PROMO_NOT_STARTED = "This promo code is not valid yet", PROMO_EXHAUSTED = "This promo code has been used up",
  PROMO_MINIMUM = "The order is too small for this promo code",
  PROMO_ALREADY_USED = "You have used this promo code already",
  INSUFFICIENT_POINTS = "You have not so many points",
  TOTAL_TOO_LARGE = "An order may cost at most 999999.99",
}

--- The text for a code that commerce answers.
---@param code string
---@return string
function quote.message(code) return MESSAGES[code] end

local function refuse(code) web.fail(422, MESSAGES[code], { code = code }) end

local function totals_of(purchase, known, lines)
  if purchase.promo_code and not known.promo then refuse "PROMO_INVALID" end
  local order = shop.charges { fulfilment = purchase.fulfilment, slot = known.slot, lines = lines }
  order.lines, order.now, order.tip_amount = lines, known.clock.seconds, purchase.tip_amount
  order.promo = known.promo and commerce.promo(known.promo)
  order.redeem_points = purchase.redeem_points
  order.points_available = known.points and known.points.points or 0
  order.fulfilment = purchase.fulfilment

  local totals, code = commerce.totals(order)
  if not totals then refuse(code) end
  local least = config.get "MINIMUM_ORDER"
  if totals.subtotal < least then
    web.fail(422, "An order must be of at least " .. tostring(least), { code = "MINIMUM_ORDER" })
  end
  return totals
end

--- Lines, totals and what else an order needs; raises what the contract says.
---@param purchase table
---@param results any[] of quote.statements
---@return {clock: table, lines: table[], changed: table[], totals: omade.commerce.totals, promo: table?, slot: table?, days: integer?}
function quote.price(purchase, results)
  local known = known_of(purchase, results)
  check_clock(known.clock)
  check_products(purchase, known)
  local notice = days_of(purchase, known)
  check_stock(purchase, known)
  local lines, changed = priced_lines(purchase, known, notice)
  local made = { clock = known.clock, promo = known.promo, slot = known.slot, days = notice,
                 lines = lines, changed = changed }
  if #changed == 0 then made.totals = totals_of(purchase, known, lines) end
  return made
end

return quote
