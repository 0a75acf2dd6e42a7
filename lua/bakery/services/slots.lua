--- Delivery slots: made, changed, given to riders.  How many places are taken is counted by
-- triggers (docs/data.md); what is changed here is locked first.

local audit  = require "bakery.services.audit"
local config = require "omade.config"
local db     = require "omade.db"
local shop   = require "bakery.services.shop"
local v      = require "omade.validate"
local web    = require "omade.web"

local slots = {}

--- The columns that everybody sees; d is delivery_schedules.
slots.COLUMNS = [[d.id, d.delivery_date, d.delivery_time, d.status, d.capacity, d.booked,
  d.capacity - d.booked AS remaining]]

slots.STAFF_COLUMNS = slots.COLUMNS .. [[, d.rider_id,
  (SELECT u.name FROM users u WHERE u.id = d.rider_id) AS rider_name]]

---- Which can be booked ----------------------------------------------------------------------

--- Adds to a page.filter what quote.lua asks of a slot when it is ordered.
---@param filter table
function slots.add_bookable(filter)
  filter:add([[d.status <> 'completed' AND d.booked < d.capacity
    AND (d.delivery_date + left(d.delivery_time, 5)::time) AT TIME ZONE shop_timezone()
      > now() + %s::int * interval '1 minute']], config.get "SLOT_CUTOFF_MINUTES")
  local closed = shop.closed_days()
  if #closed == 0 then return end
  filter:add([[NOT EXISTS (SELECT FROM jsonb_array_elements_text(%s::jsonb) AS closed (day)
    WHERE closed.day IN (d.delivery_date::text, to_char(d.delivery_date, 'FMday')))]], closed)
end

---- Refusals -----------------------------------------------------------------------------------

local function booked(message) web.fail(409, message, { code = "SLOT_BOOKED" }) end

local function invalid(field, message)
  v.refuse { { path = field, message = message } }
end

local REFUSALS <const> = {
  delivery_schedules_slot_key = function()
    web.fail(409, "There is a slot at that time already", { code = "SLOT_EXISTS" })
  end,
  delivery_schedules_booked_check = function() booked "More orders are booked than that" end,
  delivery_schedules_rider_role_check = function() invalid("rider_id", "Rider id must be that of a rider") end,
}

--- A transaction in which what the table refuses is told in words.
local function change(fn)
  local ok, result = pcall(db.transaction, fn)
  if ok then return result end
  local refuse = type(result) == "table" and REFUSALS[result.constraint]
  if refuse then refuse() end
  error(result, 0)
end

---- Reading ------------------------------------------------------------------------------------

local ONE <const> = "SELECT " .. slots.STAFF_COLUMNS .. " FROM delivery_schedules d WHERE d.id = $1"

local function lock(id)
  return db.row("SELECT * FROM lock_slot($1)", id) or web.fail(404, "Delivery schedule not found")
end

---- Changes --------------------------------------------------------------------------------------

--- A new slot; 409 SLOT_EXISTS.
---@param req omade.request
---@param new {delivery_date: string, delivery_time: string, capacity: integer}
function slots.create(req, new)
  return change(function()
    local id = db.row([[INSERT INTO delivery_schedules (delivery_date, delivery_time, capacity)
      VALUES ($1, $2, $3) RETURNING id]], new.delivery_date, new.delivery_time, new.capacity).id
    audit.write(req, "slot.create", "delivery_schedule", id, new)
    return db.row(ONE, id)
  end)
end

local OPEN <const> = [[SELECT EXISTS (SELECT FROM orders WHERE delivery_schedule_id = $1
  AND status NOT IN ('delivered', 'cancelled', 'refunded')) AS open]]

--- Why a slot cannot be changed so.
local function check_change(slot, to)
  if to.capacity and to.capacity < slot.booked then
    booked(("%d orders are booked, more than %d"):format(slot.booked, to.capacity))
  end
  if to.delivery_time and to.delivery_time ~= slot.delivery_time and slot.booked > 0 then
    booked "Orders are booked for this time; move them first"
  end
  if to.status == "assigned" and not slot.rider_id then
    web.fail(409, "The slot has no rider; assign one", { code = "CONFLICT" })
  end
  if to.status == "completed" and db.row(OPEN, slot.id).open then
    booked "Orders of this slot are neither delivered nor cancelled"
  end
end

local UPDATE <const> = [[
  UPDATE delivery_schedules SET capacity = COALESCE($2::int, capacity),
    delivery_time = COALESCE($3::varchar, delivery_time), status = COALESCE($4::varchar, status),
    rider_id = CASE WHEN $4::varchar = 'available' THEN NULL ELSE rider_id END
  WHERE id = $1]]

--- Changes a slot; "available" also takes its rider off.
---@param req omade.request
---@param id string
---@param to {capacity?: integer, delivery_time?: string, status?: string}
function slots.update(req, id, to)
  return change(function()
    check_change(lock(id), to)
    db.exec(UPDATE, id, to.capacity, to.delivery_time, to.status)
    audit.write(req, "slot.update", "delivery_schedule", id, to)
    return db.row(ONE, id)
  end)
end

--- Removes a slot without orders.  Cancelled orders may still name it; they forget it.
---@param req omade.request
---@param id string
function slots.remove(req, id)
  change(function()
    local slot = lock(id)
    if db.row([[SELECT EXISTS (SELECT FROM orders WHERE delivery_schedule_id = $1
        AND status <> 'cancelled') AS named]], id).named then
      booked "The slot has orders"
    end
    db.batch {
      { "UPDATE orders SET delivery_schedule_id = NULL WHERE delivery_schedule_id = $1", id, as = "exec" },
      { "DELETE FROM delivery_schedules WHERE id = $1", id, as = "exec" },
      audit.entry(req, "slot.delete", "delivery_schedule", id,
                  { delivery_date = slot.delivery_date, delivery_time = slot.delivery_time }),
    }
  end)
end

--- Gives a slot to a rider.  The first one keeps it; for another it is made available first.
---@param req omade.request
---@param id string
---@param rider_id string
function slots.assign(req, id, rider_id)
  return change(function()
    local slot = lock(id)
    if slot.status == "completed" then
      web.fail(409, "The slot is completed", { code = "SLOT_CLOSED" })
    end
    if slot.rider_id and slot.rider_id ~= rider_id then
      web.fail(409, "The slot has another rider; make it available first", { code = "CONFLICT" })
    end
    if slot.rider_id ~= rider_id or slot.status ~= "assigned" then
      db.exec("UPDATE delivery_schedules SET rider_id = $2, status = 'assigned' WHERE id = $1", id, rider_id)
      audit.write(req, "slot.assign", "delivery_schedule", id, { rider_id = rider_id })
    end
    return db.row(ONE, id)
  end)
end

---- For riders -------------------------------------------------------------------------------------

local DUE <const> = [[CASE WHEN o.payment_status <> 'paid' AND o.payment_method IN ('cash', 'card_on_delivery')
  THEN o.total_amount ELSE 0 END]]

local RIDES <const> = "SELECT " .. slots.COLUMNS .. [[, COALESCE((
    SELECT json_agg(json_build_object('id', o.id, 'order_number', o.order_number, 'status', o.status,
      'payment_status', o.payment_status, 'payment_method', o.payment_method,
      'total_amount', o.total_amount, 'amount_due', ]] .. DUE .. [[, 'contact',
      json_build_object('name', c.name, 'phone', c.phone), 'address', o.address, 'notes', o.notes,
      'items', (SELECT COALESCE(json_agg(json_build_object('product_name', i.product_name,
        'quantity', i.quantity) ORDER BY i.line_no, i.id), '[]') FROM order_items i WHERE i.order_id = o.id))
      ORDER BY o.created_at, o.id)
    FROM orders o JOIN slot_contacts(d.id) c ON c.order_id = o.id
    WHERE o.delivery_schedule_id = d.id AND o.status NOT IN ('cancelled', 'refunded')), '[]') AS orders
  FROM delivery_schedules d
  WHERE d.rider_id = $1 AND d.delivery_date = COALESCE($2::date, (now() AT TIME ZONE shop_timezone())::date)
  ORDER BY d.delivery_time]]

--- A rider's slots of a day (today) with what is to be brought, as JSON bytes.
---@param rider_id string
---@param day? string
---@return userdata
function slots.of_rider(rider_id, day) return db.json(RIDES, rider_id, day) end

return slots
