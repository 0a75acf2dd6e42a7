--- Orders: placing them, following them, moving them on.

local access      = require "bakery.services.order_access"
local answers     = require "bakery.rules.answers"
local audit       = require "bakery.services.audit"
local auth        = require "omade.auth"
local cake_shape  = require "bakery.rules.cake_shape"
local cakes       = require "bakery.rules.cakes"
local changes     = require "bakery.services.order_changes"
local checkout    = require "bakery.services.checkout"
local days        = require "bakery.services.days"
local db          = require "omade.db"
local events      = require "bakery.services.order_events"
local idempotency = require "omade.idempotency"
local json        = require "omade.json"
local page        = require "omade.page"
local payment     = require "bakery.services.payment"
local pictures    = require "bakery.services.pictures"
local phone       = require "bakery.rules.phone"
local reports     = require "bakery.rules.reports"
local reschedule  = require "bakery.services.reschedule"
local rules       = require "bakery.rules.orders"
local s           = require "omade.schema"
local shop        = require "bakery.services.shop"
local uuid        = require "omade.uuid"
local v           = require "omade.validate"
local view        = require "bakery.services.order_view"
local web         = require "omade.web"

---- Shapes: what a caller may send -------------------------------------------------------

local Id <const> = v.shape { id = v.uuid { label = "Order id" } }

local Address <const> = v.shape({
  line1       = v.text { min = 1, max = 255 },
  line2       = v.text { max = 255, optional = true },
  city        = v.text { min = 1, max = 100 },
  postal_code = v.text { min = 1, max = 20 },
  notes       = v.text { max = 300, optional = true },
}, { optional = true })

local function check_hand_over(order, fault)
  if order.fulfilment ~= "delivery" then return end
  if not order.delivery_schedule_id then
    fault("Delivery schedule id is required for delivery", "delivery_schedule_id")
  end
  if not order.address then fault("Address is required for delivery", "address") end
end

local function check_guest(order, fault)
  if not order.guest_name then fault("Guest name is required", "guest_name") end
  if not order.guest_email and not order.guest_phone then
    fault("Guest email or guest phone is required", "guest_email", "guest_phone")
  end
  if (order.redeem_points or 0) > 0 then fault("Redeem points is for signed-in customers", "redeem_points") end
end

--- Those of a cart were looked at when they were added.
local function check_cakes(order, fault)
  for i, item in ipairs(order.items or {}) do
    for _, issue in ipairs(item.custom_cake and cakes.issues(item.custom_cake) or {}) do
      fault(issue.message, ("items[%d].custom_cake.%s"):format(i - 1, issue.field))
    end
  end
end

local function check_order(order, fault, req)
  check_hand_over(order, fault)
  if not shop.takes(order.payment_method) then
    fault("Payment method is not taken by the shop", "payment_method")
  end
  if not req.user then check_guest(order, fault) end
  check_cakes(order, fault)
end

local NewOrder <const> = v.shape({
  fulfilment           = v.one_of({ "pickup", "delivery" }, { default = "pickup" }),
  pickup_at            = v.time { optional = true },
  delivery_schedule_id = v.uuid { optional = true },
  address              = Address,
  promo_code           = v.text { min = 1, max = 50, optional = true },
  redeem_points        = v.integer { min = 0, max = 2147483647, default = 0 },
  tip_amount           = v.money { min = 0, max = "999.99", optional = true },
  payment_method       = v.one_of(rules.PAYMENT_METHODS, { default = "cash" }),
  notes                = v.text { max = 500, optional = true },
  guest_name           = v.text { min = 2, max = 255, optional = true },
  guest_email          = v.email { optional = true },
  guest_phone          = phone { optional = true },
  items                = v.list(v.shape {
    product_id  = v.uuid(),
    quantity    = v.integer { min = 1, max = 50, default = 1 },
    custom_cake = v.optional(cake_shape),
  }, { min = 1, max = 50, optional = true }),
}, { together = check_order })

local List <const> = {
  status         = v.one_of(rules.STATUSES, { optional = true }),
  payment_status = v.one_of(rules.PAYMENT_STATUSES, { optional = true }),
  date_from      = v.date { optional = true },
  date_to        = v.date { optional = true },
}

local OwnList <const> = v.shape(page.fields(List))

local StaffList <const> = v.shape(page.fields {
  status = List.status, payment_status = List.payment_status, date_from = List.date_from, date_to = List.date_to,
  order_number         = v.text { max = 32, optional = true },
  customer             = v.text { min = 1, max = 255, optional = true },
  delivery_schedule_id = v.uuid { optional = true },
})

local Range <const> = v.shape { date_from = List.date_from, date_to = List.date_to }

local Track <const> = v.shape {
  email = v.text { max = 255, optional = true },
  phone = v.text { max = 50, optional = true },
  token = v.text { max = 64, optional = true },
}

local Status <const> = v.shape {
  status = v.one_of(rules.STATUSES),
  notes  = v.text { max = 500, optional = true },
}

local Reason <const> = v.shape({ reason = v.text { max = 500, optional = true } }, { optional = true })

local Schedule <const> = v.shape({
  delivery_schedule_id = v.uuid { optional = true },
  pickup_at            = v.time { optional = true },
}, { together = function(date, fault)
  if (date.delivery_schedule_id == nil) == (date.pickup_at == nil) then
    fault("Delivery schedule id or pickup at is required", "delivery_schedule_id", "pickup_at")
  end
end })

local Payment <const> = v.shape {
  payment_status    = v.one_of { "pending", "paid", "failed" },
  payment_reference = v.text { max = 255, optional = true },
}

local Refund <const> = v.shape({
  amount = v.money { min = "0.01", max = "999999.99", optional = true },
  reason = v.text { max = 500, optional = true },
}, { optional = true })

---- Placing ------------------------------------------------------------------------------------

local function check_pictures(items)
  local configurations = {}
  for i, item in ipairs(items or {}) do
    if item.custom_cake then configurations[("items[%d].custom_cake"):format(i - 1)] = item.custom_cake end
  end
  pictures.check(configurations)
end

local function create(req)
  if req.body.fulfilment ~= "delivery" then req.body.delivery_schedule_id = nil end
  check_pictures(req.body.items)
  return checkout.place(req)
end

---- Lists ----------------------------------------------------------------------------------------

local ITEMS <const> = [[, (SELECT COALESCE(json_agg(json_build_object('id', i.id, 'product_id', i.product_id,
    'product_name', i.product_name, 'quantity', i.quantity, 'unit_price', i.unit_price,
    'subtotal', i.subtotal, 'discount_amount', i.discount_amount) ORDER BY i.line_no, i.id), '[]')
  FROM order_items i WHERE i.order_id = o.id) AS items]]

-- No join, which may read all customers for the few of a page.
local CUSTOMER <const> = ", (SELECT u.name FROM users u WHERE u.id = o.user_id) AS customer_name"
  .. ", (SELECT u.email FROM users u WHERE u.id = o.user_id) AS customer_email"

--- Days are the shop's, both ends included.  As sub-selects, so that the index serves under
-- row-level security: see bakery.rules.reports.
local function add_dates(filter, q, column)
  filter:add(column .. " >= (SELECT (%s::date)::timestamp AT TIME ZONE shop_timezone())", q.date_from)
  filter:add(column .. " < (SELECT (%s::date + 1)::timestamp AT TIME ZONE shop_timezone())", q.date_to)
end

local function filter_of(q)
  local filter = page.filter()
  filter:add("o.status = %s", q.status)
  filter:add("o.payment_status = %s", q.payment_status)
  add_dates(filter, q, "o.created_at")
  return filter
end

local function own(req)
  local q = req.query
  local filter = filter_of(q)
  filter:add("o.user_id = %s", req.user.id)
  return page.list("orders", q, { select = view.COLUMNS .. ITEMS, from = "orders o" .. filter:sql(),
                                  order = "o.created_at DESC, o.id", values = filter.values })
end

--- Who searched for whose orders is written down.
local function every_order(req)
  local q = req.query
  audit.write(req, "order.list", "order", nil, { customer = q.customer, order_number = q.order_number, page = q.page })
  local filter = filter_of(q)
  filter:add("o.order_number = %s", q.order_number)
  filter:add("o.delivery_schedule_id = %s", q.delivery_schedule_id)
  if uuid.valid(q.customer) then
    filter:add("o.user_id = %s", q.customer)
  else
    filter:add("o.id IN (SELECT order_id FROM search_orders(%s))", q.customer)
  end
  return page.list("orders", q, {
    select = view.COLUMNS .. CUSTOMER .. ITEMS, from = "orders o" .. filter:sql(),
    order = "o.created_at DESC, o.id", values = filter.values,
  })
end

--- Counts and sums of order_figures, by these columns.
local function sums_of(columns, from)
  return ([[SELECT %s, sum(orders)::bigint AS count, sum(total_amount) AS total_amount,
      sum(refunded_amount) AS refunded_amount
    FROM %s GROUP BY %s HAVING sum(orders) <> 0]]):format(columns, from, (columns:gsub(" AS %w+", "")))
end

local function as_list(rows, order)
  return ("(SELECT COALESCE(json_agg(r ORDER BY %s), '[]') FROM (%s) r)"):format(order, rows)
end

local YEAR <const> = 366      -- days, of which by_day has one each

--- Without dates the last days, as reports.
local function stats(req)
  local from, to = req.query.date_from, req.query.date_to
  local last = to or days.today()
  if not from and not to then from = days.after(last, 1 - reports.DAYS) end
  local range = page.filter()
  add_dates(range, { date_from = from, date_to = to }, "quarter")
  local state = "payment_method, payment_status, status"
  local states = sums_of(state, "order_figures" .. range:sql())
  range:add("quarter >= (SELECT (%s::date - " .. YEAR - 1 .. ")::timestamp AT TIME ZONE shop_timezone())", last)
  local day = sums_of("(quarter AT TIME ZONE shop_timezone())::date AS day", "order_figures" .. range:sql())

  local again = "(SELECT status, payment_method, payment_status, count AS orders, total_amount, refunded_amount FROM states) s"
  return db.json_row(("WITH states AS MATERIALIZED (%s) SELECT %s AS by_status, %s AS by_day, %s AS by_payment"):format(
    states, as_list(sums_of("status", again), "r.status"), as_list(day, "r.day DESC"),
    as_list(sums_of("payment_method, payment_status", again), "r.payment_method, r.payment_status")),
    table.unpack(range.values))
end

---- One order --------------------------------------------------------------------------------------

local function shown(id) return view.load(id) or web.fail(404, "Order not found") end

--- The token opens the order as its buyer: its rider gets none.  Staff who look leave a trace.
local function show(req)
  local id = req.params.id
  local order = access.with(req, id, function() return shown(id) end)
  if req.user and req.user.role == "rider" then order.tracking_token = json.null end
  if access.is_staff(req) then audit.write(req, "order.view", "order", id) end
  return order
end

--- Status and history without personal data, for whoever knows the order.
local function track(req)
  local q = req.query
  local token = q.token or req:header "X-Tracking-Token"
  local id = db.row("SELECT find_tracked_order($1, $2, $3, $4) AS id", req.params.order_number, token,
                    q.email, q.phone).id
  if not id then web.fail(404, "Order not found") end

  local order = auth.as_guest(id, function() return view.load(id) end)
  if order.delivery then order.delivery = { date = order.delivery.date, time = order.delivery.time } end
  return { order_number = order.order_number, status = order.status, payment_status = order.payment_status,
           fulfilment = order.fulfilment, pickup_at = order.pickup_at, delivered_at = order.delivered_at,
           delivery = order.delivery, history = order.history, created_at = order.created_at }
end

local function stream(req)
  local id = req.params.id
  return access.with(req, id, function()
    if not db.row("SELECT 1 FROM orders WHERE id = $1", id) then web.fail(404, "Order not found") end
    return events.stream(req, id)
  end)
end

---- Changes ----------------------------------------------------------------------------------------

local function audited(req, action, detail)
  return function(order)
    detail.order_number, detail.from = order.order_number, order.status
    audit.write(req, action, "order", order.id, detail)
  end
end

local function set_status(req)
  local id, to, notes = req.params.id, req.body.status, req.body.notes
  changes.move(id, to, { note = notes, also = audited(req, "order.status", { to = to, notes = notes }) })
  return shown(id)
end

local function cancel(req)
  local id, reason = req.params.id, req.body and req.body.reason
  return access.with(req, id, function()
    local staff = access.is_staff(req)
    changes.cancel(id, {
      reason = reason,
      may = staff and function(order) return rules.may_become(order, "cancelled") end or rules.owner_may_cancel,
      also = staff and audited(req, "order.cancel", { reason = reason }) or nil,
    })
    return shown(id)
  end)
end

local function set_schedule(req)
  local id, body = req.params.id, req.body
  local staff = access.is_staff(req)
  reschedule.run(id, body, { staff = staff, also = staff and audited(req, "order.schedule", {
    delivery_schedule_id = body.delivery_schedule_id, pickup_at = body.pickup_at }) or nil })
  return shown(id)
end

local function set_payment(req)
  local id, body = req.params.id, req.body
  db.transaction(function()
    local order = changes.lock(id)
    if changes.pay_in(order, body.payment_status, body.payment_reference) then
      audit.write(req, "order.payment", "order", id, { from = order.payment_status, to = body.payment_status })
    end
  end)
  return shown(id)
end

local function pay(req)
  local id = req.params.id
  return access.with(req, id, function()
    return idempotency.run(req, function() return payment.begin_in(changes.lock(id)) end)
  end)
end

local function refund(req)
  local id, body = req.params.id, req.body or {}
  return idempotency.run(req, function()
    local order = changes.lock(id)
    local amount = changes.refund_in(order, body.amount, { reason = body.reason })
    audit.write(req, "order.refund", "order", id, { amount = amount, reason = body.reason })
    return shown(id)
  end)
end

---- Answers --------------------------------------------------------------------------------------

local Counted <const> = s.object { count = s.count, total_amount = s.money, refunded_amount = s.money }

local Stats <const> = s.object {
  by_status  = s.list(s.with(Counted, { status = s.text })),
  by_day     = s.list(s.with(Counted, { day = s.date })),
  by_payment = s.list(s.with(Counted, { payment_method = s.text, payment_status = s.text })),
}

local Pay <const> = s.object { provider = s.text, payment_url = s.text, expires_at = s.time }

local ORDERING <const> = {
  [404] = "A product or slot is not there",
  [409] = "EMPTY_CART, OUT_OF_STOCK (`items` says what there is), PRICE_CHANGED, SLOT_FULL, SLOT_CLOSED, "
    .. "IDEMPOTENCY_IN_FLIGHT",
  [422] = "PROMO_*, INSUFFICIENT_POINTS, LEAD_TIME (`earliest_date`), MINIMUM_ORDER, TOTAL_TOO_LARGE, "
    .. "IDEMPOTENCY_MISMATCH",
}

local MOVING <const> = { [409] = "INVALID_TRANSITION, PAYMENT_REQUIRED" }

local TOKEN <const> = { ["X-Tracking-Token"] = "the order's token, of who is not signed in" }
local SESSION <const> = { ["X-Session-Id"] = "a guest's, whose cart is ordered when there are no items" }

---- Routes: the table of contents ---------------------------------------------------------------

local BUYER <const> = { "customer", "guest" }

return web.routes("/api/v1/orders", {
  { "POST",  "/",             create,      who = BUYER, body = NewOrder, limit = "orders", idempotent = true,
    status = 201, answer = answers.Order, errors = ORDERING, sends = SESSION, summary = "Place an order" },
  { "POST",  "/guest",        create,      who = BUYER, body = NewOrder, limit = "orders", idempotent = true,
    status = 201, answer = answers.Order, errors = ORDERING, sends = SESSION,
    summary = "Place an order as a guest" },
  { "GET",   "/",             own,         who = "any", query = OwnList,
    answer = s.page("orders", answers.OrderRow), summary = "One's own orders" },
  { "GET",   "/all",          every_order, who = "staff", query = StaffList,
    answer = s.page("orders", answers.OrderRow), summary = "All orders" },
  { "GET",   "/stats",        stats,       who = "staff", query = Range, answer = Stats, summary = "Counts and sums",
    description = "Days of the shop, both ends included; without dates the last " .. reports.DAYS
      .. ". `by_day` has the last " .. YEAR .. " days at most" },
  { "GET",   "/track/:order_number", track, who = "anyone", query = Track,
    answer = answers.TrackedOrder, summary = "Where an order is",
    sends = TOKEN },
  { "GET",   "/:id",          show,        who = "optional", guest_sends = "X-Tracking-Token", params = Id,
    answer = answers.Order, summary = "One order", sends = TOKEN },
  { "GET",   "/:id/events",   stream,      who = "optional", guest_sends = "X-Tracking-Token", params = Id,
    type = "text/event-stream", bare = true, answer = answers.OrderEvents, summary = "Changes as they happen",
    description = "Server-Sent Events",
    sends = { ["Last-Event-ID"] = "resumes behind it", ["X-Tracking-Token"] = TOKEN["X-Tracking-Token"] } },
  { "PATCH", "/:id/status",   set_status,  who = "staff", params = Id, body = Status,
    answer = answers.Order, errors = MOVING, summary = "Move it on" },
  { "POST",  "/:id/cancel",   cancel,      who = "optional", guest_sends = "X-Tracking-Token", params = Id, body = Reason,
    answer = answers.Order, errors = MOVING, summary = "Cancel it", sends = TOKEN },
  { "PATCH", "/:id/schedule", set_schedule, who = "any", params = Id, body = Schedule,
    answer = answers.Order, summary = "Another date",
    errors = { [409] = "INVALID_TRANSITION, SLOT_FULL, SLOT_CLOSED", [422] = "LEAD_TIME" } },
  { "PATCH", "/:id/payment",  set_payment, who = "staff", params = Id, body = Payment,
    answer = answers.Order, errors = MOVING, summary = "Its payment" },
  { "POST",  "/:id/pay",      pay,         who = "optional", guest_sends = "X-Tracking-Token", params = Id, idempotent = true,
    answer = Pay, summary = "Pay online", sends = TOKEN,
    errors = { [409] = "INVALID_TRANSITION, CONFLICT: nothing is left to be paid, IDEMPOTENCY_IN_FLIGHT",
               [503] = "PROVIDER_NOT_CONFIGURED" } },
  { "POST",  "/:id/refund",   refund,      who = "admin", params = Id, body = Refund, idempotent = true,
    answer = answers.Order, summary = "Give money back",
    errors = { [409] = "INVALID_TRANSITION, CONFLICT: more than is left, IDEMPOTENCY_IN_FLIGHT" } },
})
