--- Another date for an order: another slot, or another time to pick it up.

local cakes   = require "bakery.rules.cakes"
local changes = require "bakery.services.order_changes"
local days    = require "bakery.services.days"
local db      = require "omade.db"
local money   = require "omade.money"
local outbox  = require "bakery.services.outbox"
local quote   = require "bakery.services.quote"
local v       = require "omade.validate"
local web     = require "omade.web"

local reschedule = {}

local CAKES <const> = [[
  SELECT COALESCE(c.price_breakdown ->> 'rush_fee', '0') AS paid, COALESCE(c.extra_details, '{}') AS extra_details
  FROM custom_cake_configurations c WHERE c.order_id = $1]]

local SET_SLOT <const> = "UPDATE orders SET delivery_schedule_id = $2 WHERE id = $1"
local SET_PICKUP <const> = "UPDATE orders SET pickup_at = $2 WHERE id = $1"

--- Whether the cake can be had with so much notice, for the rush fee that was paid.
local function is_enough(cake, notice, paid)
  local fee = cakes.rush_fee(cake, notice)
  return fee ~= nil and fee <= paid
end

--- The price was for the notice of then: less notice than was paid for is refused.
local function check_cakes(order, notice)
  local least = 0
  for _, row in ipairs(db.rows(CAKES, order.id)) do
    local paid = money(row.paid)
    while not is_enough(row.extra_details, least, paid) do least = least + 1 end
  end
  if notice >= least then return end
  local earliest = days.after(days.today(), least)
  web.fail(422, "A cake of this order cannot be ready by then; the earliest day is " .. earliest,
           { code = "LEAD_TIME", extra = { earliest_date = earliest } })
end

--- Who may still give it another date: the staff until it is on its way, its buyer while
-- nobody has looked at it.
local OPEN <const> = {
  staff = { pending = true, confirmed = true, preparing = true, ready = true },
  buyer = { pending = true },
}

local function check_state(order, staff)
  if not OPEN[staff and "staff" or "buyer"][order.status] then
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

--- Sets the date.
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
