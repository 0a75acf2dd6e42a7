--- Carts that others wrote: user_id and items of product_id, quantity and unit_price, as
-- the seed document has them.  Names come from the catalogue, sums from the lines; what is
-- no line that can be bought is left out.

local commerce = require "omade.commerce"
local db       = require "omade.db"
local json     = require "omade.json"
local v        = require "omade.validate"

local Line <const> = v.shape {
  product_id = v.uuid(),
  quantity   = v.integer { min = 1, max = 50 },
  unit_price = v.money { min = 0, max = "999999.99" },
}

--- A cart with an id is one of ours, or a damaged one.
local function read(bytes, owner)
  local value = json.decode(bytes, { exact = true })
  if type(value) ~= "table" or value.cart_id ~= nil or not json.is_array(value.items) then return nil end
  if not owner.user_id or value.user_id ~= owner.user_id then return nil end
  local lines = {}
  for _, item in ipairs(value.items) do
    local faults = {}
    local line = v.check(Line, item, false, "", faults)
    if #faults == 0 then lines[#lines + 1] = line end
  end
  return lines
end

local NAMES <const> = "SELECT id, name FROM products WHERE id = ANY($1::uuid[]) AND archived_at IS NULL"

local function names_of(lines)
  local ids, names = {}, {}
  for i, line in ipairs(lines) do ids[i] = line.product_id end
  for _, row in ipairs(db.rows(NAMES, "{" .. table.concat(ids, ",") .. "}")) do names[row.id] = row.name end
  return names
end

local plain_carts = {}

--- The cart of these bytes, with ids of its own; nil when they are none, or somebody else's.
---@param bytes string
---@param owner bakery.cart_owner
---@return omade.commerce.cart?
function plain_carts.take(bytes, owner)
  local lines = read(bytes, owner)
  if not lines or #lines == 0 then return nil end
  local names, cart = names_of(lines), commerce.cart(nil, { user_id = owner.user_id })
  for _, line in ipairs(lines) do
    line.name = names[line.product_id]
    if line.name then cart:add(line) end
  end
  return cart:touch()
end

return plain_carts
