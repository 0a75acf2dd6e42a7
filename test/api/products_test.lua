-- Products: every route of the contract.

local cjson  = require "cjson"
local check  = require "check"
local client = require "client"

local CAKE <const> = "10000000-0000-0000-0000-000000000001"
local BASE <const> = "/api/v1/products"
local NOBODY <const> = "10000000-0000-0000-0000-0000000fffff"

local admin, staff, customer = client.session "admin", client.session "staff", client.session "customer"

local function find(products, id)
  for _, product in ipairs(products) do
    if product.id == id then return product end
  end
end

local function new_product(fields)
  local body = { name = "Test Tart", price = 4.5, stock = 7, category = "tarts" }
  for name, value in pairs(fields or {}) do body[name] = value end
  local answer = check.status(client.post(BASE, { token = admin, body = body }), 201)
  return answer.json().data, answer
end

return {
  { "the list has the seed's products and the list shape", function()
    local data = check.status(client.get(BASE .. "?limit=100"), 200).json().data
    local cake = check.truthy(find(data.products, CAKE), "Chocolate Cake")
    check.equal(cake.name, "Chocolate Cake")
    check.equal(cake.price, 25.99)
    check.equal(data.total, #data.products)
    check.equal(data.page, 1)
    check.equal(data.limit, 100)
    check.equal(data.totalPages, 1)
    check.truthy(cake.review_count and cake.avg_rating, "figures")
    check.matches(cake.created_at, "^%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%d%.%d%d%dZ$")
  end },

  { "prices keep the digits that PostgreSQL sent", function()
    check.matches(client.get(BASE .. "/" .. CAKE).body, '"price":25%.99,')
  end },

  { "pages, filters and sorting", function()
    local first = client.get(BASE .. "?limit=2&sortBy=price&sortOrder=ASC").json().data
    local second = client.get(BASE .. "?limit=2&page=2&sortBy=price&sortOrder=ASC").json().data
    check.equal(#first.products, 2)
    check.truthy(first.products[1].price <= first.products[2].price
                 and first.products[2].price <= second.products[1].price, "ascending prices")
    check.equal(first.totalPages, math.ceil(first.total / 2))
    for _, product in ipairs(client.get(BASE .. "?category=cakes&limit=100").json().data.products) do
      check.equal(product.category, "cakes")
    end
    for _, product in ipairs(client.get(BASE .. "?minPrice=10&maxPrice=13&limit=100").json().data.products) do
      check.truthy(product.price >= 10 and product.price <= 13, "price in range")
    end
    for _, sort in ipairs { "name", "price", "created_at", "rating", "popularity" } do
      check.status(client.get(BASE .. "?sortBy=" .. sort), 200)
    end
    check.same(client.get(BASE .. "?category=no-such").json().data.products, {})
    check.matches(client.get(BASE .. "?category=no-such").body, '"products":%[%]')
  end },

  { "search finds words, and forgives typing errors", function()
    check.truthy(find(client.get(BASE .. "?search=chocolate").json().data.products, CAKE))
    check.truthy(find(client.get(BASE .. "?search=choclate").json().data.products, CAKE))
    check.equal(client.get(BASE .. "?search=chocolate&sortBy=price&sortOrder=ASC").json().data.products[1].name,
                "Chocolate Chip Cookie")
    check.equal(client.get(BASE .. "?search=chocolate").json().data.products[1].id, CAKE, "the name counts most")
    check.equal(client.get(BASE .. "?search=%25").json().data.total, 0)
    check.equal(client.get(BASE .. "?search=_______").json().data.total, 0)
    check.equal(client.get(BASE .. "?search=zzqqxx").json().data.total, 0)
    check.status(client.get(BASE .. "?search=%25%27%22%3B--"), 200)
    check.status(client.get(BASE .. "?search=a%20%26%20%7C%20!%20("), 200)
  end },

  { "bad queries are refused, all faults at once", function()
    for _, query in ipairs { "page=0", "page=x", "limit=101", "limit=0", "minPrice=-1", "minPrice=1.234",
                             "minPrice=NaN", "inStock=perhaps", "sortBy=password", "sortOrder=UP",
                             "page=5000&limit=100", "search=%00", "search=%ff" } do
      check.status(client.get(BASE .. "?" .. query), 400)
    end
    local body = check.status(client.get(BASE .. "?page=0&limit=x&sortBy=y"), 400, "VALIDATION_ERROR").json()
    check.equal(#body.errors, 3)
    check.equal(#client.get(BASE .. "?page=5000&limit=100").json().errors, 1)
    check.truthy(client.get(BASE .. "?category=&search=&limit=1").json().data.total > 20, "empty filters")
    check.truthy(body.fields.page and body.fields.limit and body.fields.sortBy, "fields")
  end },

  { "one product comes from Redis the second time", function()
    client.redis("DEL", "product:" .. CAKE)
    local first = check.status(client.get(BASE .. "/" .. CAKE), 200)
    check.equal(first.json().data.name, "Chocolate Cake")
    local life = tonumber(client.redis("TTL", "product:" .. CAKE))
    check.truthy(life > 3500 and life <= 3600, "an hour to live")
    check.equal(client.redis("GET", "product:" .. CAKE),
                first.body:match '^{"success":true,"data":(.*)}$', "the cached bytes")
    client.redis("SET", "product:" .. CAKE, '{"id":"from redis"}')
    check.equal(client.get(BASE .. "/" .. CAKE, { undescribed = true }).body,
                '{"success":true,"data":{"id":"from redis"}}')
    client.redis("DEL", "product:" .. CAKE)
  end },

  { "a cached value that is no product is ignored and deleted", function()
    local key = "product:" .. CAKE
    for _, value in ipairs { "garbage", "", "[1]", "5", "null", '{"a":1}x', '{"a":' } do
      client.redis("SET", key, value)
      check.equal(check.status(client.get(BASE .. "/" .. CAKE), 200).json().data.name, "Chocolate Cake")
      check.matches(client.redis("GET", key), '^{"id":')
      check.truthy(tonumber(client.redis("TTL", key)) > 3500, "an hour to live")
    end
    client.redis("DEL", key)
    client.redis("RPUSH", key, "a")
    check.status(client.get(BASE .. "/" .. CAKE), 200)
    check.equal(client.redis("TYPE", key), "string")
  end },

  { "while another has the lease, nothing is filled in", function()
    local key = "product:" .. CAKE
    client.redis("DEL", key)
    client.redis("SET", key .. ":lease", "another", "PX", 60000)
    check.status(client.get(BASE .. "/" .. CAKE), 200)
    check.equal(client.redis("EXISTS", key), "0")
    check.status(client.patch(BASE .. "/" .. CAKE, { token = admin, body = { price = 25.99 } }), 200)
    check.equal(client.redis("EXISTS", key .. ":lease"), "0", "a change ends the lease")
    check.status(client.get(BASE .. "/" .. CAKE), 200)
    check.equal(client.redis("EXISTS", key), "1")
  end },

  { "unknown and malformed ids", function()
    check.status(client.get(BASE .. "/" .. NOBODY), 404, "NOT_FOUND")
    check.equal(client.redis("EXISTS", "product:" .. NOBODY), "0")
    local body = check.status(client.get(BASE .. "/banana"), 400, "VALIDATION_ERROR").json()
    check.matches(body.message, "UUID")
    check.truthy(body.fields.id)
  end },

  { "etag: the same answer is 304", function()
    local answer = client.get(BASE .. "/" .. CAKE)
    check.matches(answer.headers.etag, '^W/"')
    local again = client.get(BASE .. "/" .. CAKE, { headers = { ["If-None-Match"] = answer.headers.etag } })
    check.status(again, 304)
    check.equal(again.body, "")
    check.status(client.get(BASE .. "/" .. CAKE, { headers = { ["If-None-Match"] = 'W/"x"' } }), 200)
  end },

  { "who may do what", function()
    local cases = {
      { "POST", "", { body = { name = "Xx", price = 1, stock = 1 } } }, { "PATCH", "/" .. CAKE, { body = { price = 1 } } },
      { "DELETE", "/" .. NOBODY, {} },
    }
    for _, case in ipairs(cases) do
      local function try(token)
        return client.request(case[1], BASE .. case[2], { body = case[3].body, token = token })
      end
      check.status(try(nil), 401, "UNAUTHENTICATED")
      check.status(try("no-such-token"), 401, "UNAUTHENTICATED")
      check.status(try(customer), 403, "FORBIDDEN")
      check.status(try(staff), 403, "FORBIDDEN")
    end
    for _, path in ipairs { "/low-stock", "/stats" } do
      check.status(client.get(BASE .. path), 401)
      check.status(client.get(BASE .. path, { token = customer }), 403)
      check.status(client.get(BASE .. path, { token = staff }), 200)
      check.status(client.get(BASE .. path, { token = admin }), 200)
    end
    check.equal(client.sql("SELECT price FROM products WHERE id = '" .. CAKE .. "'"), "25.99")
  end },

  { "a session that is gone is signed out on the next request", function()
    local token, id = client.session "admin"
    check.status(client.get(BASE .. "/stats", { token = token }), 200)
    client.redis("DEL", "session:" .. id)
    check.status(client.get(BASE .. "/stats", { token = token }), 401)
  end },

  { "what is no session signs nobody in, and goes", function()
    local token, id = client.session "admin"
    local key = "session:" .. id
    local user = '"user_id":"00000000-0000-0000-0000-000000000003"'
    for _, value in ipairs { "garbage", "[1]", '{"role":"admin"}', "{" .. user .. ',"role":"root"}' } do
      client.redis("SET", key, value)
      check.status(client.get(BASE .. "/stats", { token = token }), 401)
      check.equal(client.redis("EXISTS", key), "0")
    end
    client.redis("RPUSH", key, "a")
    check.status(client.get(BASE .. "/stats", { token = token }), 401)
    client.redis("SET", key, "{" .. user .. ',"role":"admin","last_activity":5}')
    check.status(client.get(BASE .. "/stats", { token = token }), 200)
  end },

  { "create, and the answer's shape", function()
    local product, answer = new_product { description = "  Sweet  ", allergens = { "milk", "gluten" },
                                          is_customizable = true, role = "admin", archived_at = "x" }
    check.equal(product.description, "Sweet")
    check.equal(product.price, 4.5)
    check.equal(product.is_customizable, true)
    check.same(product.allergens, { "milk", "gluten" })
    check.equal(answer.json().success, true)
    check.status(client.get(BASE .. "/" .. product.id), 200)
  end },

  { "bad bodies are refused with the field's name", function()
    local cases = {
      name = { "x", "", 1, true, {}, ("x"):rep(256) },
      price = { -1, 1000000, 1.234, "5", true, {} },
      stock = { -1, 1.5, "1", 2147483648 },
      image_url = { "javascript:alert(1)", "http://x.example/a.png", "x", 5 },
      is_customizable = { "yes", 1 },
      allergens = { "milk", { "chocolate" }, { "milk", "milk" } },
      description = { ("x"):rep(5001), 5 },
    }
    for field, values in pairs(cases) do
      for _, value in ipairs(values) do
        local body = { name = "Fine", price = 1, stock = 1, [field] = value }
        local answer = check.status(client.post(BASE, { token = admin, body = body }), 400, "VALIDATION_ERROR")
        local named = false
        for name in pairs(answer.json().fields) do named = named or name:find(field, 1, true) == 1 end
        check.truthy(named, field .. " in " .. answer.body)
      end
    end
    for _, json in ipairs { '{"price":1e999}', '{"price":NaN}', '{"a":1,"a":2}', '{"name":"\\u0000"}',
                            '{"price":25.990000000000000001,"name":"ab","stock":1}', "[1,2]", "5", "{", '{"a":1}x',
                            "{\"name\":\"\xff\"}" } do
      check.status(client.post(BASE, { token = admin, json = json }), 400)
    end
    check.matches(client.post(BASE, { token = admin, json = "null" }).json().message, "^The body ")
    local answer = check.status(client.post(BASE, { token = admin, body = {} , json = "{}" }), 400)
    check.truthy(#answer.json().errors >= 2, "all faults at once")
    check.status(client.post(BASE, { token = admin, body = "x=1", headers = { ["Content-Type"] = "text/plain" } }),
                 415, "UNSUPPORTED_MEDIA_TYPE")
    check.status(client.post(BASE, { token = admin }), 400)
  end },

  { "a change is visible on the very next read", function()
    local id = new_product().id
    for i = 1, 30 do
      check.status(client.get(BASE .. "/" .. id), 200)
      local changed = client.patch(BASE .. "/" .. id, { token = admin, body = { price = i } })
      check.equal(check.status(changed, 200).json().data.price, i)
      check.equal(client.get(BASE .. "/" .. id).json().data.price, i)
    end
    check.status(client.patch(BASE .. "/" .. id, { token = admin, json = "{}" }), 400)
    check.status(client.patch(BASE .. "/" .. NOBODY, { token = admin, body = { price = 1 } }), 404)
  end },

  { "null clears what may be empty, and nothing else", function()
    local id = new_product { description = "x", image_url = "https://example.com/a.png",
                             allergens = { "milk" } }.id
    local function change(json) return client.patch(BASE .. "/" .. id, { token = admin, json = json }) end
    local changed = check.status(change '{"description":null,"category":null,"image_url":null,"allergens":null}', 200)
    check.matches(changed.body, '"description":null,')
    check.matches(changed.body, '"category":null,')
    check.matches(changed.body, '"image_url":null,')
    check.matches(changed.body, '"allergens":%[%]')
    for _, name in ipairs { "name", "price", "stock", "is_customizable" } do
      local refused = check.status(change('{"' .. name .. '":null}'), 400, "VALIDATION_ERROR")
      check.truthy(refused.json().fields[name], name)
    end
    check.status(change '{"stock":2.0}', 200)
    check.equal(check.status(change '{"stock":1e2}', 200).json().data.stock, 100)
    check.status(change '{"stock":100.0000000000000000000001}', 400, "VALIDATION_ERROR")
  end },

  { "readers at the same time never put an old price back", function()
    local id = new_product().id
    local path, readers = BASE .. "/" .. id, {}
    for i = 1, 12 do readers[i] = client.connect() end
    for price = 1, 60 do
      for _, reader in ipairs(readers) do reader:send(client.format("GET", path):rep(2)) end
      check.status(client.patch(path, { token = admin, body = { price = price } }), 200)
      for _, reader in ipairs(readers) do reader:send(client.format("GET", path)) end
      check.equal(client.get(path).json().data.price, price)
      for _, reader in ipairs(readers) do
        local before = price
        for _ = 1, 2 do before = reader:answer("GET").json().data.price end
        check.truthy(before == price or before == price - 1 or price == 1, "a price of its time")
        check.equal(reader:answer("GET").json().data.price, price)
      end
    end
    for _, reader in ipairs(readers) do reader:close() end
  end },

  { "every write drops the product from the cache", function()
    local id = new_product().id
    local path = BASE .. "/" .. id
    local writes = {
      function() return client.patch(path, { token = admin, body = { price = 2 } }) end,
      function() return client.patch(path .. "/stock", { token = staff, body = { stockChange = 1 } }) end,
      function() return client.post(BASE .. "/bulk-stock", { token = staff,
                                    body = { updates = { { id = id, stock = 3 } } } }) end,
      function() return client.delete(path, { token = admin }) end,
    }
    for i, write in ipairs(writes) do
      check.status(client.get(path), 200)
      check.equal(client.redis("EXISTS", "product:" .. id), "1", "cached before " .. i)
      check.status(write(), 200)
      check.equal(client.redis("EXISTS", "product:" .. id), "0", "dropped by " .. i)
    end
  end },

  { "stock: by a delta, or absolute, never below zero", function()
    local id = new_product { stock = 7 }.id
    local function change(body)
      return client.patch(BASE .. "/" .. id .. "/stock", { token = staff, body = body })
    end
    check.equal(check.status(change { stockChange = -3 }, 200).json().data.stock, 4)
    check.equal(check.status(change { stock = 10 }, 200).json().data.stock, 10)
    local refused = check.status(change { stockChange = -11 }, 409, "OUT_OF_STOCK")
    check.equal(refused.json().available, 10)
    check.status(change { stockChange = 2147483647 }, 409)
    check.status(change { stockChange = 1, stock = 1 }, 400)
    check.status(change { stock = -1 }, 400)
    check.equal(client.get(BASE .. "/" .. id).json().data.stock, 10)
  end },

  { "bulk stock is all or nothing", function()
    local a, b = new_product().id, new_product().id
    local function bulk(updates)
      return client.post(BASE .. "/bulk-stock", { token = staff, body = { updates = updates } })
    end
    check.status(bulk { { id = a, stock = 100 }, { id = b, stock = 200 } }, 200)
    check.equal(client.get(BASE .. "/" .. b).json().data.stock, 200)
    local refused = check.status(bulk { { id = a, stock = 1 }, { id = NOBODY, stock = 1 } }, 404, "NOT_FOUND")
    check.equal(refused.json().unknown[1], NOBODY)
    check.equal(client.get(BASE .. "/" .. a).json().data.stock, 100)
    check.status(bulk { { id = a, stock = 1 }, { id = a, stock = 2 } }, 400)
    check.status(bulk { { id = a, stock = -1 } }, 400)
    check.status(client.post(BASE .. "/bulk-stock", { token = staff, json = '{"updates":[]}' }), 400)
  end },

  { "delete: erased without sales, archived with", function()
    local id = new_product().id
    check.status(client.delete(BASE .. "/" .. id, { token = admin }), 200)
    check.status(client.get(BASE .. "/" .. id), 404)
    check.status(client.delete(BASE .. "/" .. id, { token = admin }), 404)
    check.equal(client.sql("SELECT count(*) FROM products WHERE id = '" .. id .. "'"), "0")

    local sold = client.sql "SELECT product_id FROM order_items LIMIT 1"
    check.status(client.delete(BASE .. "/" .. sold, { token = admin }), 200)
    check.status(client.get(BASE .. "/" .. sold), 404)
    check.equal(client.sql("SELECT archived_at IS NOT NULL FROM products WHERE id = '" .. sold .. "'"), "t")
  end },

  { "who changed what is written with each change", function()
    local id, sold = new_product().id, new_product().id
    local function traces(of)
      return client.sql("SELECT string_agg(actor_role || ' ' || action || ' ' || changes, '; ' ORDER BY id) FROM audit_log "
                        .. "WHERE entity = 'product' AND entity_id = '" .. of .. "' AND action <> 'product.create'")
    end
    check.equal(client.sql("SELECT changes->>'name' || actor_role FROM audit_log WHERE entity_id = '" .. id .. "'"), "Test Tartadmin")
    check.status(client.patch(BASE .. "/" .. id, { token = admin, body = { price = 5, description = cjson.null, id = sold } }), 200)
    check.status(client.patch(BASE .. "/" .. id .. "/stock", { token = staff, body = { stockChange = -2 } }), 200)
    check.status(client.patch(BASE .. "/" .. id .. "/stock", { token = staff, body = { stockChange = -9 } }), 409)
    check.status(client.post(BASE .. "/bulk-stock", { token = staff, body = { updates = { { id = id, stock = 3 } } } }), 200)
    check.status(client.post(BASE .. "/bulk-stock", { token = staff, body = { updates = { { id = id, stock = 1 }, { id = NOBODY, stock = 1 } } } }), 404)
    check.status(client.delete(BASE .. "/" .. id, { token = admin }), 200)
    check.status(client.delete(BASE .. "/" .. id, { token = admin }), 404)
    check.equal(traces(id), 'admin product.update {"price": 5.00, "description": null}; staff product.stock {"stock": 5, "change": -2}; '
                .. 'staff product.stock {"stock": 3}; admin product.delete {"name": "Test Tart"}')
    check.status(client.post("/api/v1/orders/guest", { body = { guest_name = "Gus", guest_email = "gus@example.com",
                                                                items = { { product_id = sold } } } }), 201)
    check.status(client.delete(BASE .. "/" .. sold, { token = admin }), 200)
    check.equal(traces(sold), 'admin product.archive {"name": "Test Tart"}')
  end },

  { "categories, low stock and figures", function()
    local categories = client.get(BASE .. "/categories").json().data
    check.truthy(#categories >= 3 and categories[1].name and categories[1].count, "categories")
    local id = new_product { stock = 2 }.id
    check.truthy(find(client.get(BASE .. "/low-stock", { token = staff }).json().data, id))
    check.truthy(not find(client.get(BASE .. "/low-stock?threshold=1", { token = staff }).json().data, id))
    local figures = client.get(BASE .. "/stats", { token = staff }).json().data
    check.equal(figures.overview.total_products,
                tonumber(client.sql "SELECT count(*) FROM products WHERE archived_at IS NULL"))
    check.truthy(figures.topRated and figures.bestSold and figures.categories, "figures")
  end },

  { "common rules: 404, 405, OPTIONS, HEAD, headers", function()
    local unknown = check.status(client.get "/no/such/path?x=1", 404, "ROUTE_NOT_FOUND").json()
    check.equal(unknown.path, "/no/such/path")
    local refused = check.status(client.put(BASE), 405, "METHOD_NOT_ALLOWED")
    check.matches(refused.headers.allow, "GET")
    check.matches(refused.headers.allow, "POST")
    check.matches(check.status(client.options(BASE), 204).headers.allow, "POST")
    local head, get = client.head(BASE .. "/" .. CAKE), client.get(BASE .. "/" .. CAKE)
    check.equal(head.headers["content-length"], get.headers["content-length"])
    check.equal(get.headers["x-content-type-options"], "nosniff")
    check.truthy(get.headers["x-request-id"] and get.headers["x-frame-options"]
                 and get.headers["referrer-policy"], "common headers")
    check.equal(client.get("/health").headers["cache-control"], "no-store")
    check.equal(get.headers["cache-control"], nil)
    local packed = client.get(BASE .. "?limit=100", { headers = { ["Accept-Encoding"] = "gzip" } })
    check.equal(packed.headers["content-encoding"], "gzip")
    check.matches(packed.headers.vary, "Accept%-Encoding")
  end },

  { "service routes answer bare", function()
    local index = client.get("/").json()
    check.truthy(index.message and index.version and index.documentation and index.endpoints, "index")
    for _, path in ipairs { "/health", "/api/health" } do
      local health = check.status(client.get(path), 200).json()
      check.equal(health.status, "healthy")
      check.truthy(health.services.database and health.services.redis and health.services.api, "services")
    end
    check.status(client.get "/ready", 200)
  end },
}
