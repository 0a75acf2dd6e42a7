--- What riders tell of an order on its way: dispatched, delivered, failed.  A report may
-- come late (the rider was offline) or twice; it has one effect.

local auth    = require "omade.auth"
local changes = require "bakery.services.order_changes"
local db      = require "omade.db"
local json    = require "omade.json"
local outbox  = require "bakery.services.outbox"
local rules   = require "bakery.rules.orders"
local view    = require "bakery.services.order_view"
local v       = require "omade.validate"
local web     = require "omade.web"

local delivery = {}

---@class bakery.report
---@field note? string
---@field occurred_at? string
---@field payment_taken? boolean false: a delivery that was not paid at the door

local WHEN <const> = [[
  SELECT LEAST($2::timestamptz, now()) AS at, $2::timestamptz > now() + interval '1 minute' AS future,
    $2::timestamptz < (SELECT created_at FROM orders WHERE id = $1) AS too_early]]

local function invalid(field, message)
  v.refuse { { path = field, message = message } }
end

--- When it happened, by a clock that may be a little fast; nil: now.
local function time_of(id, occurred_at)
  if not occurred_at then return nil end
  local row = db.row(WHEN, id, occurred_at)
  if row.future then invalid("occurred_at", "Occurred at must not be in the future") end
  if row.too_early then invalid("occurred_at", "Occurred at must not be before the order") end
  return row.at
end

local function check_payment(order, report)
  if report.payment_taken ~= false or order.payment_status == "paid" or order.status == "delivered"
    or rules.is_free(order) then return end
  web.fail(409, "The order must be paid before it is handed over", { code = "PAYMENT_REQUIRED" })
end

--- dispatched or delivered; nothing when it is so already.
---@param id string
---@param to "dispatched"|"delivered"
---@param report bakery.report
---@param also? fun(order: table) in the transaction that does it
function delivery.move(id, to, report, also)
  changes.move(id, to, {
    note = report.note, at = time_of(id, report.occurred_at), also = also,
    check = to == "delivered" and function(order) check_payment(order, report) end or nil,
  })
end

--- Why fail_delivery() did nothing; false when it was done before.
local function not_failed(order)
  if not order then web.fail(404, "Order not found") end
  if order.status == "preparing" and order.fulfilment == "delivery" and not order.delivery_schedule_id then
    return false
  end
  web.fail(409, "Only an order that is dispatched can fail to be delivered", { code = "INVALID_TRANSITION" })
end

--- A delivery that failed: back to the kitchen and out of its slot, which its rider may do
-- through fail_delivery() only, since he does not see the order any more.
---@param id string
---@param report bakery.report
---@param also? fun(order: table)
function delivery.fail(id, report, also)
  local at = time_of(id, report.occurred_at)
  db.transaction(function()
    local order = changes.find(id)
    local done = db.row("SELECT fail_delivery($1, $2, $3) AS done", id, report.note, at).done
    if done == "again" then return end
    if done ~= "failed" then return not_failed(order) end
    outbox.add("order.status_changed", id, { order_number = order.order_number, from = order.status,
                                             to = "preparing" })
    if also then also(order) end
  end)
end

--- The order for whoever reported on it: a rider does not see one that failed any more, and
-- its tracking token is never his.
---@param id string
---@param role string
---@return table
function delivery.shown(id, role)
  if role ~= "rider" then return view.load(id) end
  local order = auth.as_system(function() return view.load(id) end)
  order.tracking_token = json.null
  return order
end

return delivery
