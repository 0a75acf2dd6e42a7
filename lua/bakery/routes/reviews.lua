--- Reviews: written by who received the product, once, and read by all.

local answers = require "bakery.rules.answers"
local audit   = require "bakery.services.audit"
local db      = require "omade.db"
local json    = require "omade.json"
local page    = require "omade.page"
local s       = require "omade.schema"
local v       = require "omade.validate"
local web     = require "omade.web"

local changing <const> = require("bakery.services.product_cache").changing

local COLUMNS <const> = "r.id, r.user_id, r.product_id, r.rating, r.comment, r.created_at"

---- Shapes: what a caller may send -------------------------------------------------------

local Id <const> = v.shape { id = v.uuid { label = "Review id" } }
local ProductId <const> = v.shape { id = v.uuid { label = "Product id" } }
local List <const> = v.shape(page.fields())

local NewReview <const> = v.shape {
  product_id = v.uuid(),
  rating     = v.integer { min = 1, max = 5 },
  comment    = v.text { max = 1000, optional = true },
}

local Change <const> = v.partial(v.shape {
  rating  = v.integer { min = 1, max = 5 },
  comment = v.text { max = 1000, optional = true },
})

---- Reading ---------------------------------------------------------------------------------

local AUTHOR <const> = [[(SELECT jsonb_build_object('id', u.id, 'name', u.name) FROM public_profiles u
  WHERE u.id = r.user_id) AS "user"]]

local FIGURES <const> = [[
  SELECT COALESCE(round(avg(r.rating), 2), 0) AS average, jsonb_build_object(
    '1', count(*) FILTER (WHERE r.rating = 1), '2', count(*) FILTER (WHERE r.rating = 2),
    '3', count(*) FILTER (WHERE r.rating = 3), '4', count(*) FILTER (WHERE r.rating = 4),
    '5', count(*) FILTER (WHERE r.rating = 5)) AS distribution
  FROM reviews r WHERE r.product_id = $1]]

local PRODUCT <const> = "SELECT id FROM products WHERE id = $1 AND archived_at IS NULL"

local function of_product(req)
  local id = req.params.id
  local parts = db.all { { PRODUCT, id, as = "row" }, { FIGURES, id, as = "row" } }
  if parts[1] == json.null then web.fail(404, "Product not found") end
  local answer = page.list("reviews", req.query, {
    select = COLUMNS .. ", " .. AUTHOR, from = "reviews r WHERE r.product_id = $1",
    order = "r.created_at DESC, r.id", values = { id } })
  answer.average, answer.distribution = parts[2].average, parts[2].distribution
  return answer
end

local function own(req)
  return page.list("reviews", req.query, {
    select = COLUMNS .. [[, (SELECT jsonb_build_object('id', p.id, 'name', p.name, 'image_url', p.image_url)
      FROM products p WHERE p.id = r.product_id) AS product]],
    from = "reviews r WHERE r.user_id = $1", order = "r.created_at DESC, r.id", values = { req.user.id } })
end

local function shown(id)
  return db.json_row("SELECT " .. COLUMNS .. ", " .. AUTHOR .. " FROM reviews r WHERE r.id = $1", id)
end

---- Writing -----------------------------------------------------------------------------------

local function not_found() web.fail(404, "Review not found") end

local function product_of(id)
  local row = db.row("SELECT product_id FROM reviews WHERE id = $1", id) or not_found()
  return row.product_id
end

-- Received: it was delivered, whatever became of the money later.
local RIGHTS <const> = [[
  SELECT EXISTS (SELECT FROM orders o JOIN order_items i ON i.order_id = o.id
    WHERE o.user_id = $2 AND o.delivered_at IS NOT NULL AND i.product_id = p.id) AS received
  FROM products p WHERE p.id = $1 AND p.archived_at IS NULL]]

local INSERT <const> = [[
  INSERT INTO reviews (user_id, product_id, rating, comment) VALUES ($1, $2, $3, $4)
  ON CONFLICT (user_id, product_id) DO NOTHING RETURNING id]]

local function create(req)
  local new, me = req.body, req.user.id
  local rights = db.row(RIGHTS, new.product_id, me) or web.fail(404, "Product not found")
  if not rights.received then
    web.fail(403, "Only who received the product may review it", { code = "NOT_PURCHASED" })
  end
  local made = changing({ new.product_id }, function()
    return db.row(INSERT, me, new.product_id, new.rating, new.comment)
  end)
  if not made then
    web.fail(409, "You have reviewed this product already", { code = "ALREADY_REVIEWED" })
  end
  return web.created(shown(made.id), "Review added successfully")
end

--- Not given: as it was.  null: no comment.
local UPDATE <const> = [[
  UPDATE reviews SET rating = COALESCE($3, rating), comment = CASE WHEN $4 THEN $5 ELSE comment END
  WHERE id = $1 AND user_id = $2]]

local function change(req)
  local id, new = req.params.id, req.body
  local comment = new.comment
  if comment == json.null then comment = nil end
  local changed = changing({ product_of(id) }, function()
    return db.exec(UPDATE, id, req.user.id, new.rating, new.comment ~= nil, comment)
  end)
  if changed == 0 then not_found() end
  return shown(id) or not_found()       -- deleted meanwhile
end

-- Who may is row-level security's to say: the author, and staff.
local DELETE <const> = "DELETE FROM reviews WHERE id = $1 RETURNING product_id, user_id, rating, comment"

local function delete_in(req, id)
  local row = db.row(DELETE, id) or not_found()
  if row.user_id == req.user.id then return end
  audit.write(req, "review.delete", "review", id, { product_id = row.product_id, rating = row.rating,
                                                    comment = row.comment })
end

local function remove(req)
  local id = req.params.id
  changing({ product_of(id) }, function()
    db.transaction(function() delete_in(req, id) end)
  end)
  return web.data(json.null, { message = "Review deleted successfully" })
end

---- Routes: the table of contents ---------------------------------------------------------------

local PAGE <const> = s.page("reviews", answers.Review, {
  average = s.number,
  distribution = s.object { ["1"] = s.count, ["2"] = s.count, ["3"] = s.count, ["4"] = s.count, ["5"] = s.count },
})

local Own <const> = s.object {
  id = s.uuid, user_id = s.uuid, product_id = s.uuid, rating = s.count, comment = s.nullable(s.text),
  created_at = s.time, product = s.object { id = s.uuid, name = s.text, image_url = s.nullable(s.text) },
}

local REFUSED <const> = { [403] = "NOT_PURCHASED", [404] = "Product not found", [409] = "ALREADY_REVIEWED" }

return web.routes("/api/v1/reviews", {
  { "POST",   "/",            create,     who = "customer", body = NewReview, limit = "reviews", status = 201,
    answer = answers.Review, errors = REFUSED, summary = "Review a product that one received" },
  { "GET",    "/product/:id", of_product, who = "anyone", params = ProductId, query = List, etag = true,
    public = true, answer = PAGE, summary = "Reviews of a product" },
  { "GET",    "/my",          own,        who = "any", query = List, answer = s.page("reviews", Own),
    summary = "One's own reviews" },
  { "PATCH",  "/:id",         change,     who = "any", params = Id, body = Change, answer = answers.Review,
    summary = "Change one's review" },
  { "DELETE", "/:id",         remove,     who = "any", params = Id, answer = s.null, summary = "Delete a review" },
})
