-- Reviews: by who received the product, once; public figures follow at once.
-- serve: --workers 2

local cjson  = require "cjson"
local check  = require "check"
local client = require "client"

local REVIEWS <const> = "/api/v1/reviews"
local JOHN <const>, JANE <const> = "00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000002"
local NOBODYS <const> = "99999999-0000-0000-0000-000000000000"

local john, jane = client.session("customer", JOHN), client.session("customer", JANE)
local rider = client.session("rider", "00000000-0000-0000-0000-000000000006")
local staff = client.session("staff", "00000000-0000-0000-0000-000000000004")
local admin = client.session "admin"

client.sql "UPDATE products SET stock = 1000"
client.sql "DELETE FROM reviews"

---- Short ways -----------------------------------------------------------------------------------------

local function sql(text, ...) return client.sql(text:format(...)) end

--- A new product.
local function product()
  return client.post("/api/v1/products", { token = admin, body = { name = "Test bun", price = 2, stock = 1000 } }).json().data.id
end

--- An order of it, moved on to a status.
local function ordered(id, token, ...)
  local answer = client.post("/api/v1/orders", { token = token, body = { items = { { product_id = id } } } })
  local order = check.status(answer, 201).json().data
  for _, status in ipairs { ... } do
    check.status(client.patch("/api/v1/orders/" .. order.id .. "/status", { token = staff, body = { status = status } }), 200)
  end
  return order
end

local DELIVERED <const> = { "confirmed", "preparing", "ready", "delivered" }

local function received(id, token) return ordered(id, token, table.unpack(DELIVERED)) end

local function review(id, token, rating, comment)
  return client.post(REVIEWS, { token = token, body = { product_id = id, rating = rating or 5, comment = comment } })
end

local function reviewed(...) return check.status(review(...), 201).json().data end

local function of_product(id, query)
  return check.status(client.get(REVIEWS .. "/product/" .. id .. (query or "")), 200).json().data
end

local function shown(id) return check.status(client.get("/api/v1/products/" .. id), 200).json().data end

local function field(answer, ...)
  local fields = check.status(answer, 400, "VALIDATION_ERROR").json().fields
  for _, name in ipairs { ... } do check.truthy(fields[name], "no word of " .. name .. ": " .. answer.body) end
end

--- Ratings equal the rows (invariant 12).
local function figures_are_right()
  check.equal(sql [[SELECT count(*) FROM product_ratings p LEFT JOIN (SELECT product_id, sum(rating) AS s, count(*) AS n
    FROM reviews GROUP BY product_id) r USING (product_id)
    WHERE (p.rating_sum, p.review_count) <> (COALESCE(r.s, 0), COALESCE(r.n, 0))]], "0", "products with wrong figures")
end

return {
  { "only what was received is reviewed, and once", function()
    local bun = product()
    check.status(review(bun, john), 403, "NOT_PURCHASED")
    local order = ordered(bun, john, "confirmed", "preparing", "ready")
    check.status(review(bun, john), 403, "NOT_PURCHASED")
    received(bun, jane)
    check.status(review(bun, john), 403, "NOT_PURCHASED")
    check.status(client.patch("/api/v1/orders/" .. order.id .. "/status", { token = staff, body = { status = "delivered" } }), 200)
    local mine = reviewed(bun, john, 4, "  Good  ")
    check.equal(mine.rating, 4)
    check.equal(mine.comment, "Good")
    check.equal(mine.product_id, bun)
    check.same(mine.user, { id = JOHN, name = "John D." })
    check.status(review(bun, john), 409, "ALREADY_REVIEWED")
    local cancelled = ordered(product(), john, "confirmed", "cancelled")
    check.status(review(cancelled.items[1].product_id, john), 403, "NOT_PURCHASED")
    check.status(review(NOBODYS, john), 404, "NOT_FOUND")
  end },

  { "money back takes no review away", function()
    local bun = product()
    local order = received(bun, john)
    check.status(client.post("/api/v1/orders/" .. order.id .. "/refund", { token = admin, body = {} }), 200)
    reviewed(bun, john, 1, "Dry")
  end },

  { "who may", function()
    check.status(review(product(), nil), 401, "UNAUTHENTICATED")
    for _, token in ipairs { rider, staff, admin } do check.status(review(product(), token), 403, "FORBIDDEN") end
    check.status(client.get(REVIEWS .. "/my"), 401, "UNAUTHENTICATED")
    check.status(client.patch(REVIEWS .. "/" .. NOBODYS, { body = { rating = 1 } }), 401, "UNAUTHENTICATED")
    check.status(client.delete(REVIEWS .. "/" .. NOBODYS), 401, "UNAUTHENTICATED")
  end },

  { "every bad field is named, all at once", function()
    field(client.post(REVIEWS, { token = john, json = "{}" }), "product_id", "rating")
    for _, bad in ipairs { "0", "6", "4.5", '"5"', "null", "[]", "true" } do
      field(client.post(REVIEWS, { token = john, json = ('{"product_id":"%s","rating":%s}'):format(JOHN, bad) }), "rating")
    end
    field(client.post(REVIEWS, { token = john, body = { product_id = "x", rating = 9, comment = ("x"):rep(1001) } }), "product_id", "rating", "comment")
    field(client.patch(REVIEWS .. "/x", { token = john, body = { rating = 0 } }), "id", "rating")
    field(client.delete(REVIEWS .. "/x", { token = john }), "id")
    field(client.get(REVIEWS .. "/product/x"), "id")
    field(client.get(REVIEWS .. "/my?page=0&limit=101", { token = john }), "page", "limit")
    check.status(client.post(REVIEWS, { token = john, json = '{"comment":"\255"}' }), 400)
  end },

  { "the product's figures follow each change at once", function()
    local bun = product()
    for _, token in ipairs { john, jane } do received(bun, token) end
    check.equal(shown(bun).review_count, 0)
    local mine = reviewed(bun, john, 5)
    check.equal(shown(bun).avg_rating, 5)
    reviewed(bun, jane, 2, "Too sweet")
    check.equal(shown(bun).avg_rating, 3.5)
    check.equal(shown(bun).review_count, 2)
    check.status(client.patch(REVIEWS .. "/" .. mine.id, { token = john, body = { rating = 3 } }), 200)
    check.equal(shown(bun).avg_rating, 2.5)
    check.status(client.delete(REVIEWS .. "/" .. mine.id, { token = john }), 200)
    check.equal(shown(bun).avg_rating, 2)
    check.equal(shown(bun).review_count, 1)
    figures_are_right()
  end },

  { "a product's reviews, with average and distribution", function()
    local bun = product()
    check.matches(client.get(REVIEWS .. "/product/" .. bun).body, '"reviews":%[%]')
    check.equal(of_product(bun).average, 0)
    for i = 8, 12 do
      local token = client.session("customer", ("00000000-0000-0000-0000-%012d"):format(i))
      received(bun, token)
      reviewed(bun, token, i == 8 and 1 or i == 9 and 4 or 5, "Review " .. i)
    end
    local data = of_product(bun, "?limit=2")
    check.equal(data.total, 5)
    check.equal(data.totalPages, 3)
    check.equal(#data.reviews, 2)
    check.equal(data.average, 4)
    check.same(data.distribution, { ["1"] = 1, ["2"] = 0, ["3"] = 0, ["4"] = 1, ["5"] = 3 })
    check.equal(data.reviews[1].comment, "Review 12", "the newest first")
    check.equal(data.reviews[1].user.name, "Yuki T.")
    check.truthy(not client.get(REVIEWS .. "/product/" .. bun).body:find "@", "an address")
    check.equal(of_product(bun, "?limit=2&page=3").reviews[1].comment, "Review 8")
    check.status(client.get(REVIEWS .. "/product/" .. NOBODYS), 404, "NOT_FOUND")

    local answer = client.get(REVIEWS .. "/product/" .. bun)
    check.status(client.get(REVIEWS .. "/product/" .. bun, { headers = { ["If-None-Match"] = answer.headers.etag } }), 304)
  end },

  { "one's own reviews, and nobody else's", function()
    local bun = product()
    for _, token in ipairs { john, jane } do
      received(bun, token)
      reviewed(bun, token, 3)
    end
    local data = check.status(client.get(REVIEWS .. "/my?limit=100", { token = jane }), 200).json().data
    check.equal(data.total, tonumber(sql("SELECT count(*) FROM reviews WHERE user_id = '%s'", JANE)))
    for _, one in ipairs(data.reviews) do check.equal(one.user_id, JANE) end
    check.same({ data.reviews[1].product.id, data.reviews[1].product.name }, { bun, "Test bun" })
  end },

  { "changed by its author, deleted by him and staff", function()
    local bun = product()
    received(bun, john)
    local path = REVIEWS .. "/" .. reviewed(bun, john, 4, "Fine").id
    for _, token in ipairs { jane, rider, staff, admin } do
      check.status(client.patch(path, { token = token, body = { rating = 1 } }), 404, "NOT_FOUND")
    end
    for _, token in ipairs { jane, rider } do check.status(client.delete(path, { token = token }), 404, "NOT_FOUND") end
    local changed = check.status(client.patch(path, { token = john, body = { comment = "Finer" } }), 200).json().data
    check.equal(changed.rating, 4)
    check.equal(changed.comment, "Finer")
    check.equal(check.status(client.patch(path, { token = john, body = { comment = cjson.null } }), 200).json().data.comment, cjson.null)
    field(client.patch(path, { token = john, body = { rating = cjson.null } }), "rating")
    check.status(client.patch(path, { token = john, body = {} }), 400, "VALIDATION_ERROR")
    check.status(client.delete(path, { token = staff }), 200)
    check.equal(sql "SELECT string_agg(actor_role || ' ' || (changes->>'rating'), ',') FROM audit_log WHERE action = 'review.delete'", "staff 4")
    check.status(client.delete(path, { token = john }), 404, "NOT_FOUND")
    check.equal(shown(bun).review_count, 0)
    reviewed(bun, john, 5)
  end },

  { "fifty at once are one review, and readers never see an old figure", function()
    local bun = product()
    received(bun, john)
    local requests = {}
    for i = 1, 50 do
      requests[2 * i - 1] = { "POST", REVIEWS, { token = john, body = { product_id = bun, rating = i % 5 + 1 } } }
      requests[2 * i] = { "GET", "/api/v1/products/" .. bun }
    end
    local counts = client.statuses(client.parallel(requests))
    check.same(counts, { [201] = 1, [409] = 49, [200] = 50 })
    check.equal(sql("SELECT count(*) FROM reviews WHERE product_id = '%s'", bun), "1")
    for _ = 1, 10 do check.equal(shown(bun).review_count, 1) end
    figures_are_right()
  end },

  { "many buyers of one product at once: the figures are the rows'", function()
    local bun = product()
    local requests, token_of = {}, {}
    for i = 8, 19 do
      token_of[i] = client.session("customer", ("00000000-0000-0000-0000-%012d"):format(i))
      received(bun, token_of[i])
      requests[#requests + 1] = { "POST", REVIEWS, { token = token_of[i], body = { product_id = bun, rating = i % 5 + 1 } } }
    end
    local answers = client.parallel(requests)
    check.same(client.statuses(answers), { [201] = 12 })
    requests = {}
    for i, answer in ipairs(answers) do
      local path = REVIEWS .. "/" .. answer.json().data.id
      requests[#requests + 1] = { "PATCH", path, { token = token_of[i + 7], body = { rating = 5 } } }
      if i % 3 == 0 then requests[#requests + 1] = { "DELETE", path, { token = staff } } end
    end
    for _, answer in ipairs(client.parallel(requests)) do
      check.truthy(answer.status == 200 or answer.status == 404, answer.body)
    end
    check.equal(shown(bun).review_count, 8)
    check.equal(shown(bun).avg_rating, 5)
    figures_are_right()
  end },
}
