--- A product as it is shown: the one query behind GET and behind the cache that it answers from.

local cache = require "omade.cache"
local db    = require "omade.db"

local catalogue = {}

local TTL <const> = 3600           -- seconds; the key and its life are fixed in data.md

catalogue.COLUMNS = [[p.id, p.name, p.description, p.price, p.category, p.stock, p.image_url,
  p.is_customizable, p.allergens, p.created_at, p.updated_at]]

catalogue.FIGURES = [[
  COALESCE(round(r.rating_sum::numeric / NULLIF(r.review_count, 0), 2), 0) AS avg_rating,
  COALESCE(r.review_count, 0) AS review_count]]

catalogue.SOURCE = [[products p LEFT JOIN product_ratings r ON r.product_id = p.id
  WHERE p.archived_at IS NULL]]

local SHOW <const> = "SELECT " .. catalogue.COLUMNS .. "," .. catalogue.FIGURES .. " FROM " .. catalogue.SOURCE
  .. " AND p.id = $1"

--- The product as the database has it; nil when there is none, or no more.
---@param id string
---@return userdata? JSON bytes
function catalogue.read(id)
  return db.json_row(SHOW, id)
end

--- The same from the cache, which keeps it.
---@param id string
---@return userdata? JSON bytes
function catalogue.cached(id)
  return cache.fetch("product:" .. id, TTL, function()       -- bytes in, bytes out: no decode
    return catalogue.read(id)
  end, "object")
end

--- The ids of all that are sold.
---@return string[]
function catalogue.ids()
  local ids = {}
  for i, row in ipairs(db.rows "SELECT id FROM products WHERE archived_at IS NULL ORDER BY id") do ids[i] = row.id end
  return ids
end

return catalogue
