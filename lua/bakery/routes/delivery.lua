--- Delivery: slots for customers and staff, rides and reports of riders.

local answers   = require "bakery.rules.answers"
local audit     = require "bakery.services.audit"
local auth      = require "omade.auth"
local delivery  = require "bakery.services.delivery"
local json      = require "omade.json"
local page      = require "omade.page"
local s         = require "omade.schema"
local slot_time = require "bakery.rules.slot_time"
local slots     = require "bakery.services.slots"
local v         = require "omade.validate"
local web       = require "omade.web"

---- Shapes: what a caller may send --------------------------------------------------------------

local Id <const> = v.shape { id = v.uuid { label = "Delivery schedule id" } }
local OrderId <const> = v.shape { id = v.uuid { label = "Order id" } }

local List <const> = v.shape(page.fields {
  date_from = v.date { optional = true },
  date_to   = v.date { optional = true },
  all       = v.boolean { default = false },
})

local NewSlot <const> = v.shape {
  delivery_date = v.date(),
  delivery_time = slot_time(),
  capacity      = v.integer { min = 1, max = 500, default = 10 },
}

local SlotChange <const> = v.partial(v.shape {
  capacity      = v.integer { min = 1, max = 500 },
  delivery_time = slot_time(),
  status        = v.one_of { "available", "assigned", "completed" },
})

local Rider <const> = v.shape { rider_id = v.uuid() }
local Day <const> = v.shape { date = v.date { optional = true } }

local Report <const> = v.shape({
  note          = v.text { max = 500, optional = true },
  occurred_at   = v.time { optional = true },
  payment_taken = v.boolean { optional = true },
}, { optional = true })

---- Slots -----------------------------------------------------------------------------------------

local function is_staff(user) return user ~= nil and (user.role == "staff" or user.role == "admin") end

local FROM_DAY <const> = [[d.delivery_date
  >= COALESCE(NULLIF(%s::text, '')::date, (now() AT TIME ZONE shop_timezone())::date)]]

--- Past slots are only shown to who asks for them; `all` is the staff's.
local function list(req)
  local q, user = req.query, auth.user(req)
  local staff = is_staff(user)
  if q.all and not user then web.fail(401, "Sign in first", { code = "UNAUTHENTICATED" }) end
  if q.all and not staff then web.fail(403, "You may not do this", { code = "FORBIDDEN" }) end

  local filter = page.filter()
  filter:add(FROM_DAY, q.date_from or "")
  filter:add("d.delivery_date <= %s", q.date_to)
  if not q.all then slots.add_bookable(filter) end
  return page.list("schedules", q, {
    select = staff and slots.STAFF_COLUMNS or slots.COLUMNS, from = "delivery_schedules d" .. filter:sql(),
    order = "d.delivery_date, d.delivery_time", values = filter.values,
  })
end

local function create(req) return web.created(slots.create(req, req.body)) end
local function update(req) return slots.update(req, req.params.id, req.body) end
local function assign(req) return slots.assign(req, req.params.id, req.body.rider_id) end

local function remove(req)
  slots.remove(req, req.params.id)
  return web.data(json.null, { message = "Delivery schedule deleted" })
end

---- Rides -------------------------------------------------------------------------------------------

local function my(req)
  return { schedules = slots.of_rider(req.user.id, req.query.date) }
end

--- What staff do for a rider is written down.
local function audited(req, to)
  if not is_staff(req.user) then return nil end
  return function(order)
    audit.write(req, "order.status", "order", order.id, { order_number = order.order_number, from = order.status, to = to })
  end
end

local function report(to)
  return function(req)
    local id = req.params.id
    delivery.move(id, to, req.body or {}, audited(req, to))
    return delivery.shown(id, req.user.role)
  end
end

local function failed(req)
  local id = req.params.id
  delivery.fail(id, req.body or {}, audited(req, "preparing"))
  return delivery.shown(id, req.user.role)
end

---- Answers ---------------------------------------------------------------------------------------------

local Ridden <const> = s.object {
  id = s.uuid, delivery_date = s.date, delivery_time = s.text, capacity = s.count, booked = s.count, remaining = s.count,
  status = s.one_of { "available", "assigned", "completed" },
}

local Slot <const> = s.with(Ridden, { ["rider_id?"] = s.nullable(s.uuid), ["rider_name?"] = s.nullable(s.text) })

local Ride <const> = s.with(Ridden, { orders = s.list(s.object {
  id = s.uuid, order_number = s.text, status = s.text, payment_status = s.text, payment_method = s.text,
  total_amount = s.money, amount_due = s.money, notes = s.nullable(s.text), address = s.nullable(answers.Address),
  contact = s.object { name = s.text, phone = s.nullable(s.text) },
  items = s.list(s.object { product_name = s.text, quantity = s.count }),
}) })

local REPORTING <const> = { [409] = "INVALID_TRANSITION, PAYMENT_REQUIRED" }

---- Routes: the table of contents ---------------------------------------------------------------------

local CARRIERS <const> = { "rider", "staff" }

return web.routes("/api/v1/delivery", {
  { "GET",    "/schedules", list, who = "anyone", query = List, answer = s.page("schedules", Slot),
    summary = "Delivery slots that can be booked", errors = { [401] = "`all` is for staff: sign in first", [403] = "`all` is for staff" } },
  { "POST",   "/schedules", create, who = "staff", body = NewSlot, status = 201, answer = Slot, summary = "Add a slot",
    errors = { [409] = "SLOT_EXISTS: there is one at that time" } },
  { "PATCH",  "/schedules/:id", update, who = "staff", params = Id, body = SlotChange, answer = Slot,
    summary = "Change a slot", errors = { [409] = "SLOT_BOOKED: orders are in the way; SLOT_EXISTS; CONFLICT: it has no rider" } },
  { "DELETE", "/schedules/:id", remove, who = "staff", params = Id, answer = s.null, summary = "Remove an empty slot",
    errors = { [409] = "SLOT_BOOKED: it has orders" } },
  { "POST",   "/schedules/:id/assign", assign, who = "staff", params = Id, body = Rider, answer = Slot,
    summary = "Give it to a rider", errors = { [409] = "CONFLICT: another rider has it; SLOT_CLOSED" } },
  { "GET",    "/my", my, who = "rider", query = Day, answer = s.object { schedules = s.list(Ride) },
    summary = "A rider's slots with their orders" },
  { "POST",   "/orders/:id/dispatched", report "dispatched", who = CARRIERS, params = OrderId, body = Report,
    answer = answers.Order, errors = REPORTING, summary = "It is on its way" },
  { "POST",   "/orders/:id/delivered", report "delivered", who = CARRIERS, params = OrderId, body = Report,
    answer = answers.Order, errors = REPORTING, summary = "It was handed over" },
  { "POST",   "/orders/:id/failed", failed, who = CARRIERS, params = OrderId, body = Report,
    answer = answers.Order, errors = REPORTING, summary = "It could not be handed over" },
})
