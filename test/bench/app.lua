--- The workloads W1 to W4 of the speed lab, in the shapes of its floors.

local db    = require "omade.db"
local redis = require "omade.redis"
local web   = require "omade.web"

local COLUMNS <const> = [[SELECT id, name, description, price, category, stock, image_url, is_customizable, created_at
  FROM products]]
local ONE <const>  = COLUMNS .. " WHERE id = $1::uuid"
local LIST <const> = COLUMNS .. " WHERE category = $1 ORDER BY created_at DESC, id LIMIT $2::int"

local JSON <const> = "application/json"

local n = 0

--- W1: a small JSON, built per request.
local function small()
  n = n + 1
  return web.json { message = "hello", service = "bakery", version = 1, ok = true, n = n }
end

--- W2: bytes from Redis, passed through.
local function cached(req)
  return web.raw(redis.get_bytes("product:" .. req.params.id) or web.fail(404, "No such product"), JSON)
end

--- W3: a row by its key.
local function one(req)
  return web.raw(db.json_row(ONE, req.params.id) or web.fail(404, "No such product"), JSON)
end

--- W4: 20 rows.
local function list(req)
  return web.raw(db.json(LIST, req.query.category, req.query.limit or 20), JSON)
end

return {
  routes = web.routes("", {
    { "GET", "/json",               small,  who = "anyone", public = true },
    { "GET", "/cache/products/:id", cached, who = "anyone", public = true },
    { "GET", "/products/:id",       one,    who = "anyone", public = true },
    { "GET", "/products",           list,   who = "anyone", public = true },
  }),
}
