--- Customers, as staff see them: who they are, what they bought.

local audit = require "bakery.services.audit"
local db    = require "omade.db"
local page = require "omade.page"
local s    = require "omade.schema"
local v    = require "omade.validate"
local web  = require "omade.web"

--- The columns of user_order_summary, and what staff need besides.
local COLUMNS <const> = [[u.id, u.id AS user_id, u.name, u.email, u.phone, f.total_orders, f.total_spent,
  f.last_order_date, p.points AS loyalty_points, u.created_at]]

local FROM <const> = [[users u JOIN user_order_figures f ON f.user_id = u.id
  JOIN loyalty_points p ON p.user_id = u.id]]

---- Shapes: what a caller may send --------------------------------------------------------------

local Id <const> = v.shape { id = v.uuid { label = "Customer id" } }

--- What lists are sorted by.
local ORDER <const> = {
  name = "u.name", email = "u.email", total_orders = "f.total_orders", total_spent = "f.total_spent",
  last_order_date = "f.last_order_date", loyalty_points = "p.points", created_at = "u.created_at",
}

local List <const> = v.shape(page.fields {
  search    = v.text { max = 200, optional = true },
  sortBy    = v.one_of({ "name", "email", "total_orders", "total_spent", "last_order_date", "loyalty_points",
                         "created_at" }, { default = "created_at" }),
  sortOrder = v.one_of({ "ASC", "DESC", "asc", "desc" }, { default = "DESC" }),
})

---- Handlers: request in, answer out ------------------------------------------------------------

--- Whose id makes equals come in one order.
local ID <const> = { total_orders = "f.user_id", total_spent = "f.user_id", last_order_date = "f.user_id",
                     loyalty_points = "p.user_id" }

--- Such that an index has it; who never ordered is the one whose order is longest ago.
local function order_of(q)
  local way = " " .. q.sortOrder:upper()
  local nulls = q.sortBy == "last_order_date" and (way == " DESC" and " NULLS LAST" or " NULLS FIRST") or ""
  return ORDER[q.sortBy] .. way .. nulls .. ", " .. (ID[q.sortBy] or "u.id") .. way
end

local function list(req)
  local q = req.query
  audit.write(req, "customer.list", "user", nil, { search = q.search, page = q.page, limit = q.limit })
  local filter = page.filter()
  filter:add("u.role = %s AND u.deleted_at IS NULL", "customer")
  if q.search ~= "" then filter:add("u.id IN (SELECT user_id FROM search_customers(%s))", q.search) end
  return page.list("customers", q, {
    select = COLUMNS, from = FROM .. filter:sql(), values = filter.values, order = order_of(q),
    count = "users u" .. filter:sql(),
  })
end

local ONE <const> = "SELECT " .. COLUMNS .. [[,
    (SELECT count(*) FROM reviews r WHERE r.user_id = u.id) AS reviews_count,
    (SELECT COALESCE(json_agg(json_build_object('id', o.id, 'order_number', o.order_number, 'status', o.status,
        'payment_status', o.payment_status, 'total_amount', o.total_amount, 'refunded_amount', o.refunded_amount,
        'created_at', to_char(o.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')) ORDER BY o.created_at DESC, o.id), '[]')
      FROM (SELECT * FROM orders WHERE user_id = u.id ORDER BY created_at DESC, id LIMIT 10) o) AS recent_orders
  FROM ]] .. FROM .. " WHERE u.id = $1 AND u.role = 'customer' AND u.deleted_at IS NULL"

--- Who looked at whom is written down, and so is who searched for what.
local function show(req)
  local customer = db.json_row(ONE, req.params.id) or web.fail(404, "Customer not found")
  audit.write(req, "customer.view", "user", req.params.id)
  return customer
end

---- Answers -----------------------------------------------------------------------------------------

local Customer <const> = s.object {
  id = s.uuid, user_id = s.uuid, name = s.text, email = s.text, phone = s.nullable(s.text), total_orders = s.count,
  total_spent = s.money, last_order_date = s.nullable(s.time), loyalty_points = s.count, created_at = s.time,
}

local OneCustomer <const> = s.with(Customer, {
  reviews_count = s.count,
  recent_orders = s.list(s.object {
    id = s.uuid, order_number = s.text, status = s.text, payment_status = s.text, total_amount = s.money,
    refunded_amount = s.money, created_at = s.time,
  }),
})

---- Routes: the table of contents -----------------------------------------------------------------

return web.routes("/api/v1/customers", {
  { "GET", "/",    list, who = "staff", query = List, answer = s.page("customers", Customer),
    summary = "Customers with what they bought" },
  { "GET", "/:id", show, who = "staff", params = Id, answer = OneCustomer, summary = "One customer" },
})
