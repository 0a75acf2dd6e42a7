--- The catalogue: list, search, show, create, change, archive; stock.
-- Reads are cached; a write drops what it made stale, after it commits.

local answers   = require "bakery.rules.answers"
local audit     = require "bakery.services.audit"
local catalogue = require "bakery.services.catalogue"
local db        = require "omade.db"
local json      = require "omade.json"
local page      = require "omade.page"
local pictures  = require "bakery.services.pictures"
local s         = require "omade.schema"
local uploads   = require "omade.uploads"
local v         = require "omade.validate"
local web       = require "omade.web"

-- The 14 of Regulation (EU) 1169/2011, Annex II.
local ALLERGENS <const> = {
  "gluten", "crustaceans", "eggs", "fish", "peanuts", "soybeans", "milk", "nuts", "celery",
  "mustard", "sesame", "sulphites", "lupin", "molluscs",
}

local COLUMNS <const>, FIGURES <const>, SOURCE <const> = catalogue.COLUMNS, catalogue.FIGURES, catalogue.SOURCE

local FROM <const> = " FROM " .. SOURCE

---- Shapes: what a caller may send -------------------------------------------------------

local Id <const> = v.shape { id = v.uuid { label = "Product id" } }

local List <const> = v.shape(page.fields {
  category  = v.text    { max = 100, optional = true },
  search    = v.text    { max = 200, optional = true },
  minPrice  = v.money   { min = 0, max = "999999.99", optional = true },
  maxPrice  = v.money   { min = 0, max = "999999.99", optional = true },
  inStock   = v.boolean { optional = true },
  sortBy    = v.one_of({ "name", "price", "created_at", "rating", "popularity" }, { optional = true }),
  sortOrder = v.one_of({ "ASC", "DESC", "asc", "desc" }, { optional = true }),
})

local NewProduct <const> = v.shape {
  name            = v.text    { min = 2, max = 255 },
  description     = v.text    { max = 5000, optional = true },
  price           = v.money   { min = 0, max = "999999.99" },
  category        = v.text    { min = 1, max = 100, optional = true },
  stock           = v.integer { min = 0, max = 2147483647, default = 0 },
  image_url       = v.url     { max = 500, local_prefixes = { "/uploads/" }, optional = true },
  image           = v.file    { optional = true },      -- instead of image_url
  is_customizable = v.boolean { default = false },
  allergens       = v.list(v.one_of(ALLERGENS), { max = 14, unique = true, optional = true }),
}

local StockChange <const> = v.shape({
  stockChange = v.integer { min = -2147483647, max = 2147483647, optional = true },
  stock       = v.integer { min = 0, max = 2147483647, optional = true },
}, { together = function(change, fault)
  if (change.stock == nil) == (change.stockChange == nil) then
    fault("Give either stock or stockChange", "stock", "stockChange")
  end
end })

local BulkStock <const> = v.shape({
  updates = v.list(v.shape {
    id    = v.uuid(),
    stock = v.integer { min = 0, max = 2147483647 },
  }, { min = 1, max = 500 }),
}, { together = function(bulk, fault)
  local seen = {}
  for i, update in ipairs(bulk.updates or {}) do
    local id = update.id or ""
    if seen[id] then fault("A product is listed twice", ("updates[%d].id"):format(i - 1)) end
    seen[id] = id ~= ""
  end
end })

---- Answers -----------------------------------------------------------------------------------

local Categories <const> = s.list(s.object { name = s.text, count = s.count })

local Stats <const> = s.object {
  overview   = s.object { total_products = s.count, total_stock = s.count, out_of_stock = s.count,
                          low_stock = s.count, average_price = s.money, stock_value = s.money },
  categories = s.list(s.object { name = s.text, count = s.count, stock = s.count }),
  topRated   = s.list(s.object { id = s.uuid, name = s.text, avg_rating = s.number, review_count = s.count }),
  bestSold   = s.list(s.object { id = s.uuid, name = s.text, total_sold = s.count }),
}

---- Reading ---------------------------------------------------------------------------------

local ORDER <const> = {
  name = "p.name", price = "p.price", created_at = "p.created_at",
  rating = "avg_rating", popularity = "COALESCE(r.sold, 0)",
}

--- The conditions of a list, with their parameters.  search_products finds by words,
-- else - for typing errors - by likeness of the name; see docs/data.md.
local function filter(q)
  local from, where, values = SOURCE, {}, {}
  local function add(condition, value)
    values[#values + 1] = value
    where[#where + 1] = " AND " .. condition:format("$" .. #values)
  end

  if q.search then
    values[1] = q.search
    from = "search_products($1) s JOIN products p ON p.id = s.product_id"
      .. SOURCE:sub(#"products p" + 1)
  end
  if q.category then add("p.category = %s", q.category) end
  if q.minPrice then add("p.price >= %s", q.minPrice) end
  if q.maxPrice then add("p.price <= %s", q.maxPrice) end
  if q.inStock ~= nil then where[#where + 1] = q.inStock and " AND p.stock > 0" or " AND p.stock = 0" end
  return from .. table.concat(where), values
end

local function order_of(q)
  local key = q.sortBy and ORDER[q.sortBy] or q.search and "s.rank" or "p.created_at"
  return key .. " " .. (q.sortOrder or "DESC"):upper() .. ", p.id"
end

local function list(req)
  local q = req.query
  if q.search == "" then q.search = nil end
  if q.category == "" then q.category = nil end
  local from, values = filter(q)
  return page.list("products", q, { select = COLUMNS .. "," .. FIGURES, from = from,
                                    order = order_of(q), values = values })
end

local function categories()
  return db.json [[
    SELECT category AS name, count(*) AS count FROM products
    WHERE archived_at IS NULL AND category IS NOT NULL GROUP BY category ORDER BY category]]
end

-- Up to 5 there is an index (docs/data.md).
local function low_stock(req)
  local threshold = req.query.threshold
  return db.json("SELECT " .. COLUMNS .. "," .. FIGURES .. FROM .. (threshold <= 5 and " AND p.low_stock" or "")
                 .. " AND p.stock <= $1 ORDER BY p.stock, p.name LIMIT 1000", threshold)
end

local function stats()
  local parts = db.all {
    { [[SELECT count(*) AS total_products, COALESCE(sum(stock), 0) AS total_stock,
          count(*) FILTER (WHERE stock = 0) AS out_of_stock,
          count(*) FILTER (WHERE stock BETWEEN 1 AND 5) AS low_stock,
          COALESCE(round(avg(price), 2), 0) AS average_price,
          COALESCE(sum(price * stock), 0) AS stock_value
        FROM products WHERE archived_at IS NULL]], as = "json_row" },
    { [[SELECT COALESCE(category, '') AS name, count(*) AS count, sum(stock) AS stock
        FROM products WHERE archived_at IS NULL GROUP BY category ORDER BY count(*) DESC, name]],
      as = "json" },
    { [[SELECT id, name, round(avg_rating, 2) AS avg_rating, review_count FROM product_stats
        WHERE review_count > 0 ORDER BY avg_rating DESC, review_count DESC, name LIMIT 5]],
      as = "json" },
    { [[SELECT id, name, total_sold FROM product_stats WHERE total_sold > 0
        ORDER BY total_sold DESC, name LIMIT 5]], as = "json" },
  }
  return { overview = parts[1], categories = parts[2], topRated = parts[3], bestSold = parts[4] }
end

local function show(req)
  return catalogue.cached(req.params.id) or web.fail(404, "Product not found")
end

---- Writing -----------------------------------------------------------------------------------

local changing <const> = require("bakery.services.product_cache").changing

-- text[] in PostgreSQL's own form; the words are from a fixed list.
local function array(words)
  return words and "{" .. table.concat(words, ",") .. "}"
end

--- Runs fn with the picture that was sent as image_url; it is gone when fn fails.
local function with_image(req, fn)
  local reference, url = uploads.keep(req, "image")
  if not reference then return fn() end
  req.body.image_url = url
  local ok, result = pcall(fn)
  if ok then return result end
  uploads.drop(reference)
  error(result, 0)
end

local CHANGEABLE <const> = { "name", "description", "price", "category", "stock", "image_url",
                             "is_customizable", "allergens" }

--- What a body says about a product, for the audit.
local function told(new)
  local fields = {}
  for _, name in ipairs(CHANGEABLE) do fields[name] = new[name] end
  return fields
end

local INSERT <const> = [[
  INSERT INTO products (name, description, price, category, stock, image_url, is_customizable, allergens)
  VALUES ($1, $2, $3, $4, $5, $6, $7, COALESCE($8::text[], '{}')) RETURNING id]]

local function create(req)
  local new = req.body
  pictures.check_url("image_url", new.image_url)
  local id = with_image(req, function()
    return db.transaction(function()
      local made = db.row(INSERT, new.name, new.description, new.price, new.category, new.stock, new.image_url,
                          new.is_customizable, array(new.allergens)).id
      audit.write(req, "product.create", "product", made, told(new))
      return made
    end)
  end)

  return web.created(catalogue.read(id), "Product created successfully")
end

--- Runs a statement on a product that gives a row when it is there, with its trace, whose
-- detail may depend on the row; returns the row.
local function traced(req, action, id, detail, sql, ...)
  local values = table.pack(...)
  return changing({ id }, function()
    return db.transaction(function()
      local row = db.row(sql, id, table.unpack(values, 1, values.n))
      if row then audit.write(req, action, "product", id, detail(row)) end
      return row
    end)
  end)
end

local function save_changes(req, id)
  local new = req.body
  local sets, values = {}, {}
  for _, name in ipairs(CHANGEABLE) do
    local value = new[name]
    if value ~= nil then
      if name == "allergens" then value = value == json.null and "{}" or array(value) end
      values[#values + 1] = value
      sets[#sets + 1] = name .. " = $" .. #values + 1
    end
  end
  local changed = traced(req, "product.update", id, function() return told(new) end, "UPDATE products SET "
    .. table.concat(sets, ", ") .. " WHERE id = $1 AND archived_at IS NULL RETURNING id", table.unpack(values))
  if not changed then web.fail(404, "Product not found") end
end

local function change(req)
  local id = req.params.id
  pictures.check_url("image_url", req.body.image_url)
  with_image(req, function() save_changes(req, id) end)
  return catalogue.read(id)
end

-- Adding in bigint: a sum beyond integer is refused by the guard, not by an overflow.
local STOCK <const> = [[
  UPDATE products SET stock = COALESCE($2, stock + $3)
  WHERE id = $1 AND archived_at IS NULL
    AND stock::bigint + COALESCE($3, 0) BETWEEN 0 AND 2147483647 RETURNING stock]]

local function change_stock(req)
  local id, new = req.params.id, req.body
  local changed = traced(req, "product.stock", id, function(row)
    return { stock = row.stock, change = new.stockChange }
  end, STOCK, new.stock, new.stockChange)
  if not changed then
    local row = db.row("SELECT stock FROM products WHERE id = $1 AND archived_at IS NULL", id)
    if not row then web.fail(404, "Product not found") end
    web.fail(409, "There is not enough stock",
             { code = "OUT_OF_STOCK", extra = { available = row.stock } })
  end
  return catalogue.read(id)
end

local function trace_stock(req, ids, stock)
  local traces = {}
  for i, id in ipairs(ids) do
    traces[i] = audit.entry(req, "product.stock", "product", id, { stock = stock[i] })
  end
  db.batch(traces)
end

--- Sets them if all are there; else the ids of those that are not.  Rows are locked in the order of
-- their ids, as orders do.
local function set_stock(req, ids, stock)
  local wanted = "{" .. table.concat(ids, ",") .. "}"

  return db.transaction(function()
    local found, unknown = {}, {}
    for _, row in ipairs(db.rows([[SELECT id FROM products WHERE id = ANY($1::uuid[])
      AND archived_at IS NULL ORDER BY id FOR UPDATE]], wanted)) do found[row.id] = true end
    for _, id in ipairs(ids) do
      if not found[id] then unknown[#unknown + 1] = id end
    end
    if #unknown > 0 then return unknown end
    db.exec([[UPDATE products p SET stock = u.stock
      FROM unnest($1::uuid[], $2::int[]) AS u (id, stock) WHERE p.id = u.id]],
      wanted, "{" .. table.concat(stock, ",") .. "}")
    trace_stock(req, ids, stock)
  end)
end

--- All or nothing.
local function bulk_stock(req)
  local stock, ids = {}, {}
  for i, update in ipairs(req.body.updates) do ids[i], stock[i] = update.id, update.stock end

  local unknown = changing(ids, function() return set_stock(req, ids, stock) end)
  if unknown then
    web.fail(404, "Unknown products: " .. table.concat(unknown, ", "),
             { extra = { unknown = json.array(unknown) } })
  end
  return web.data({ updated = #ids }, { message = "Stock updated successfully" })
end

local DELETE <const> = "DELETE FROM products WHERE id = $1 AND archived_at IS NULL RETURNING name"

local ARCHIVE <const> = [[UPDATE products SET archived_at = now() WHERE id = $1 AND archived_at IS NULL
  RETURNING name]]

local function delete_or_archive(req, id)
  local function name_of(row) return { name = row.name } end
  local ok, result = pcall(traced, req, "product.delete", id, name_of, DELETE)

  if ok then return result end
  if type(result) ~= "table" or result.sqlstate ~= "23503" then error(result, 0) end
  return traced(req, "product.archive", id, name_of, ARCHIVE)
end

--- A product with sales is archived: gone from lists, kept in orders.
local function delete(req)
  if not delete_or_archive(req, req.params.id) then web.fail(404, "Product not found") end
  return web.data(json.null, { message = "Product deleted successfully" })
end

---- Routes: the table of contents ---------------------------------------------------------------

local function search_or_general(req) return req.query.search and "search" or "general" end

local Threshold <const> = v.shape { threshold = v.integer { min = 0, max = 2147483647, default = 5 } }

return web.routes("/api/v1/products", {
  { "GET",    "/",           list,         who = "anyone", query = List, limit = search_or_general,
    etag = true, public = true, answer = s.page("products", answers.Product), summary = "List and search products" },
  { "GET",    "/categories", categories,   who = "anyone", etag = true, public = true,
    answer = Categories, summary = "Categories with their number of products" },
  { "GET",    "/low-stock",  low_stock,    who = "staff",  query = Threshold,
    answer = s.list(answers.Product), summary = "Products that run out" },
  { "GET",    "/stats",      stats,        who = "staff",  answer = Stats, summary = "Figures of the catalogue" },
  { "GET",    "/:id",        show,         who = "anyone", params = Id, etag = true, public = true,
    answer = answers.Product, summary = "One product" },
  { "POST",   "/",           create,       who = "admin",  body = NewProduct, files = { "image" },
    status = 201, answer = answers.Product, summary = "Add a product" },
  { "POST",   "/bulk-stock", bulk_stock,   who = "staff",  body = BulkStock,
    answer = s.object { updated = s.count }, summary = "Set the stock of many",
    errors = { [404] = "`unknown` names the products that are not there; nothing was changed" } },
  { "PATCH",  "/:id",        change,       who = "admin",  params = Id, body = v.partial(NewProduct),
    files = { "image" }, answer = answers.Product, summary = "Change a product" },
  { "PATCH",  "/:id/stock",  change_stock, who = "staff",  params = Id, body = StockChange,
    answer = answers.Product, summary = "Change the stock",
    errors = { [409] = "OUT_OF_STOCK: it would go below 0; `available` tells what there is" } },
  { "DELETE", "/:id",        delete,       who = "admin",  params = Id, answer = s.null,
    summary = "Delete a product; one with sales is archived" },
})
