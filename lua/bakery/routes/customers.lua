--- Customers, as staff see them: who they are, what they bought.

local db   = require "omade.db"
local page = require "omade.page"
local s    = require "omade.schema"
local v    = require "omade.validate"
local web  = require "omade.web"

local COLUMNS <const> = [[s.user_id AS id, s.name, s.email, u.phone, s.total_orders, s.total_spent,
  s.last_order_date, s.loyalty_points, u.created_at]]

local FROM <const> = "user_order_summary s JOIN users u ON u.id = s.user_id"

---- Shapes: what a caller may send --------------------------------------------------------------

local Id <const> = v.shape { id = v.uuid { label = "Customer id" } }

--- What lists are sorted by.
local ORDER <const> = {
  name = "s.name", email = "s.email", total_orders = "s.total_orders", total_spent = "s.total_spent",
  last_order_date = "s.last_order_date", loyalty_points = "s.loyalty_points", created_at = "u.created_at",
}

local List <const> = v.shape(page.fields {
  search    = v.text { max = 200, optional = true },
  sortBy    = v.one_of({ "name", "email", "total_orders", "total_spent", "last_order_date", "loyalty_points",
                         "created_at" }, { default = "created_at" }),
  sortOrder = v.one_of({ "ASC", "DESC", "asc", "desc" }, { default = "DESC" }),
})

---- Handlers: request in, answer out ------------------------------------------------------------

--- Who never ordered comes last.  Said of no other column, as it would keep indexes from serving.
local function order_of(q)
  local order = ORDER[q.sortBy] .. " " .. q.sortOrder:upper()
  return q.sortBy == "last_order_date" and order .. " NULLS LAST" or order
end

local function list(req)
  local q = req.query
  local filter = page.filter()
  filter:add("u.role = %s AND u.deleted_at IS NULL", "customer")
  if q.search ~= "" then filter:add("s.user_id IN (SELECT user_id FROM search_customers(%s))", q.search) end
  return page.list("customers", q, {
    select = COLUMNS, from = FROM .. filter:sql(), values = filter.values,
    order = order_of(q) .. ", s.user_id",
  })
end

local ONE <const> = "SELECT " .. COLUMNS .. [[,
    (SELECT count(*) FROM reviews r WHERE r.user_id = s.user_id) AS reviews_count,
    (SELECT COALESCE(json_agg(json_build_object('id', o.id, 'order_number', o.order_number, 'status', o.status,
        'payment_status', o.payment_status, 'total_amount', o.total_amount, 'refunded_amount', o.refunded_amount,
        'created_at', o.created_at) ORDER BY o.created_at DESC, o.id), '[]')
      FROM (SELECT * FROM orders WHERE user_id = s.user_id ORDER BY created_at DESC, id LIMIT 10) o) AS recent_orders
  FROM ]] .. FROM .. " WHERE s.user_id = $1 AND u.role = 'customer' AND u.deleted_at IS NULL"

local function show(req)
  return db.json_row(ONE, req.params.id) or web.fail(404, "Customer not found")
end

---- Answers -----------------------------------------------------------------------------------------

local Customer <const> = s.object {
  id = s.uuid, name = s.text, email = s.text, phone = s.nullable(s.text), total_orders = s.count,
  total_spent = s.money, last_order_date = s.nullable(s.time), loyalty_points = s.count, created_at = s.time,
}

local OneCustomer <const> = s.with(Customer, {
  reviews_count = s.count,
  recent_orders = s.list(s.object {
    id = s.uuid, order_number = s.text, status = s.text, payment_status = s.text, total_amount = s.money,
    refunded_amount = s.money, created_at = s.text,
  }),
})

---- Routes: the table of contents -----------------------------------------------------------------

return web.routes("/api/v1/customers", {
  { "GET", "/",    list, who = "staff", query = List, answer = s.page("customers", Customer),
    summary = "Customers with what they bought" },
  { "GET", "/:id", show, who = "staff", params = Id, answer = OneCustomer, summary = "One customer" },
})
