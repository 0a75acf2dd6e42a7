--- Another date for an order: another slot, or another time to pick it up.

local cakes   = require "bakery.rules.cakes"
local changes = require "bakery.services.order_changes"
local db      = require "omade.db"
local outbox  = require "bakery.services.outbox"
local quote   = require "bakery.services.quote"
local v       = require "omade.validate"
local web     = require "omade.web"

local reschedule = {}

local CAKES <const> = [[
  SELECT c.price_breakdown, COALESCE(c.extra_details, '{}') AS extra_details
  FROM custom_cake_configurations c WHERE c.order_id = $1]]

local SET_SLOT <const> = "UPDATE orders SET delivery_schedule_id = $2 WHERE id = $1"
local SET_PICKUP <const> = "UPDATE orders SET pickup_at = $2 WHERE id = $1"

--- The price was for the notice of then: less notice than was paid for is refused.
local function check_cakes(order, notice)
  for _, row in ipairs(db.rows(CAKES, order.id)) do
    local fee = cakes.rush_fee(row.extra_details, notice)
    local paid = row.price_breakdown and row.price_breakdown.rush_fee
    if not fee or tostring(fee) ~= "0.00" and tonumber(tostring(fee)) > tonumber(tostring(paid or 0)) then
      web.fail(422, "A cake of this order cannot be ready by then", { code = "LEAD_TIME" })
    end
  end
end

local function check_state(order, staff)
  local open = staff and (order.status == "pending" or order.status == "confirmed" or order.status == "preparing")
    or order.status == "pending"
  if not open then
    web.fail(409, "An order that is " .. order.status .. " keeps its date", { code = "INVALID_TRANSITION" })
  end
end

local function check_kind(order, body)
  local field = order.fulfilment == "delivery" and "delivery_schedule_id" or "pickup_at"
  if body[field] then return end
  v.refuse { { path = field, message = "An order for " .. order.fulfilment .. " needs " .. field } }
end

local LOCK_SLOT <const> = "SELECT FROM lock_slot($1)"

--- Both slots, always in the same order: two orders that change places must not wait for
-- each other.
local function lock_slots(one, other)
  if not one or not other then return end
  if other < one then one, other = other, one end
  db.batch { { LOCK_SLOT, one, as = "exec" }, { LOCK_SLOT, other, as = "exec" } }
end

--- Sets the date; staff until it leaves the kitchen, its buyer while it is pending.
---@param id string
---@param body {delivery_schedule_id?: string, pickup_at?: string}
---@param options {staff: boolean, also?: fun(order: table)}
function reschedule.run(id, body, options)
  db.transaction(function()
    local order = changes.lock(id)
    check_kind(order, body)
    check_state(order, options.staff)
    if body.delivery_schedule_id and body.delivery_schedule_id == order.delivery_schedule_id then return end

    lock_slots(order.delivery_schedule_id, body.delivery_schedule_id)
    local notice = quote.notice_in(body, order.fulfilment)
    if not options.staff then check_cakes(order, notice) end
    if body.pickup_at then db.exec(SET_PICKUP, id, body.pickup_at)
    else db.exec(SET_SLOT, id, body.delivery_schedule_id) end
    outbox.add("order.rescheduled", id, { order_number = order.order_number })
    if options.also then options.also(order) end
  end)
end

return reschedule
