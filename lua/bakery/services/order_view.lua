--- An order as the API shows it: read from the database, or made from what was just
-- written, with the same fields in both cases.

local db   = require "omade.db"
local json = require "omade.json"

local view = {}

local FIELDS <const> = {
  "id", "order_number", "tracking_token", "user_id", "status", "payment_status",
  "payment_method", "payment_reference", "fulfilment", "subtotal", "discount_amount",
  "points_redeemed", "points_amount", "delivery_fee", "tip_amount", "tax_amount",
  "total_amount", "refunded_amount", "promo_code", "pickup_at", "delivered_at",
  "delivery_schedule_id", "notes", "created_at", "updated_at",
}

local GUEST_FIELDS <const> = { "guest_name", "guest_email", "guest_phone" }

--- The columns of a list's rows; o is orders.
view.COLUMNS = "o." .. table.concat(FIELDS, ", o.") .. ", o." .. table.concat(GUEST_FIELDS, ", o.")

local ORDER <const> = "SELECT " .. view.COLUMNS .. [[, o.address, d.delivery_date, d.delivery_time
  FROM orders o LEFT JOIN delivery_schedules d ON d.id = o.delivery_schedule_id WHERE o.id = $1]]

local ITEMS <const> = [[
  SELECT i.id, i.product_id, i.product_name, i.quantity, i.unit_price, i.subtotal,
    i.discount_amount, CASE WHEN c.id IS NOT NULL THEN
      jsonb_strip_nulls(jsonb_build_object('flavor', c.flavor, 'size', c.size, 'frosting', c.frosting,
        'message', c.message, 'image_reference', c.image_reference))
      || COALESCE(c.extra_details, '{}') END AS custom_cake
  FROM order_items i LEFT JOIN custom_cake_configurations c ON c.order_item_id = i.id
  WHERE i.order_id = $1 ORDER BY i.line_no, i.id]]

local HISTORY <const> = [[
  SELECT status, at, by_role FROM order_status_history
  WHERE order_id = $1 AND payment_status IS NULL ORDER BY id]]

--- The statements that view.of needs, for a db.batch; as rows.
---@param id string
---@return omade.statement[]
function view.statements(id)
  return { { ORDER, id, as = "row" }, { ITEMS, id }, { HISTORY, id } }
end

local function item_of(row)
  return { id = row.id, product_id = row.product_id, product_name = row.product_name,
           quantity = row.quantity, unit_price = row.unit_price, subtotal = row.subtotal,
           discount_amount = row.discount_amount, custom_cake = row.custom_cake }
end

local function delivery_of(order)
  if order.fulfilment ~= "delivery" then return nil end
  return { date = order.delivery_date or json.null, time = order.delivery_time or json.null,
           address = order.address or json.null }
end

--- The order of its parts.
---@param order table a row, or the same fields
---@param items table[]
---@param history table[]
---@return table
function view.of(order, items, history)
  local shown = { delivery = delivery_of(order), items = json.array {}, history = json.array {} }
  for _, name in ipairs(FIELDS) do
    local value = order[name]
    if value == nil then value = json.null end
    shown[name] = value
  end
  for _, name in ipairs(GUEST_FIELDS) do shown[name] = order[name] end
  for i, item in ipairs(items) do shown.items[i] = item_of(item) end
  for i, entry in ipairs(history) do
    shown.history[i] = { status = entry.status, at = entry.at, by_role = entry.by_role }
  end
  return shown
end

--- An order that the caller may see, or nil.
---@param id string
---@return table?
function view.load(id)
  local parts = db.batch(view.statements(id))
  if parts[1] == json.null then return nil end
  return view.of(parts[1], parts[2], parts[3])
end

return view
