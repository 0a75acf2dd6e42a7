-- Carts: of customers and guests, changed by many at the same time, merged, quoted.
-- serve: --workers 2
-- redis: own

local cjson  = require "cjson"
local check  = require "check"
local client = require "client"
local redis  = require "own_redis"

local CART <const>, ORDERS <const> = "/api/v1/cart", "/api/v1/orders"
local JOHN <const>, JANE <const> = "00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000002"

--- The product of a number in the sample data; 1, 3, 4, 5 are customizable.
local function product(n) return ("10000000-0000-0000-0000-%012d"):format(n) end

local CAKE <const>, CUPCAKES <const>, COOKIE <const> = product(1), product(2), product(11)
local NOBODYS <const> = "99999999-0000-0000-0000-000000000000"

local john, jane, staff

---- Short ways -----------------------------------------------------------------------------------------

local function sql(text, ...) return client.sql(text:format(...)) end

local function set_stock(id, stock) sql("UPDATE products SET stock = %d WHERE id = '%s'", stock, id) end

local function ask(method, path, options) return client[method](CART .. path, options) end

--- Whoever a cart belongs to, as options of a request.
local function guest()
  local session = check.status(ask("post", "/guest"), 201).json().data
  check.equal(session.expires_in, 24 * 3600)
  return { headers = { ["X-Session-Id"] = session.session_id } }
end

local function with(owner, body)
  return { token = owner.token, headers = owner.headers, body = body }
end

local function put(owner, id, quantity, cake)
  return ask("post", "/items", with(owner, { product_id = id, quantity = quantity, custom_cake = cake }))
end

local function cart(owner) return check.status(ask("get", "", with(owner)), 200).json().data end

local function add(owner, ...) return check.status(put(owner, ...), 200).json().data end

local function empty(owner) check.status(ask("delete", "", with(owner)), 200) end

--- What must always hold of a cart.
local function sound(shown)
  local pieces, cents = 0, 0
  for _, item in ipairs(shown.items) do
    check.equal(math.floor(item.subtotal * 100 + 0.5), item.quantity * math.floor(item.unit_price * 100 + 0.5), "subtotal")
    pieces, cents = pieces + item.quantity, cents + math.floor(item.subtotal * 100 + 0.5)
  end
  check.equal(shown.item_count, pieces, "item_count")
  check.equal(math.floor(shown.total_amount * 100 + 0.5), cents, "total_amount")
  return shown
end

local function field(answer, name, code)
  local body = check.status(answer, 400, code or "VALIDATION_ERROR").json()
  check.truthy(body.fields and body.fields[name], "no word of " .. name .. ": " .. answer.body)
end

local CONFIGURATION <const> = { flavor = "chocolate", size = "medium_8", frosting = "buttercream", layers = 2,
                                decorations = { { id = "fresh_flowers", quantity = 2 } } }

return {
  { "without Redis the answer is 503 at once", function()
    local session = { headers = { ["X-Session-Id"] = ("ab"):rep(32) } }
    check.status(ask("get", "", session), 503, "UNAVAILABLE")
    check.status(put(session, CUPCAKES, 1), 503, "UNAVAILABLE")
    check.status(ask("delete", "", session), 503, "UNAVAILABLE")
    redis.start()
    client.all_healthy()
    check.equal(#cart(session).items, 0)
    redis.stop()
    check.status(ask("get", "", session), 503, "UNAVAILABLE")
    redis.start()
    client.all_healthy()
    john, jane = { token = client.session("customer", JOHN) }, { token = client.session("customer", JANE) }
    staff = { token = client.session("staff", "00000000-0000-0000-0000-000000000004") }
    client.sql "UPDATE products SET stock = 1000"
  end },

  { "whose cart: a customer's, a session's, nobody's", function()
    check.status(ask("get", ""), 401, "UNAUTHENTICATED")
    check.status(ask("get", "", { token = "over" }), 401, "UNAUTHENTICATED")
    check.status(ask("patch", "/items/x", { json = "{" }), 401, "UNAUTHENTICATED")
    check.status(ask("get", "", with(staff)), 403, "FORBIDDEN")
    for _, id in ipairs { "x", "", ("g"):rep(64), ("a"):rep(63), ("a"):rep(65), JOHN } do
      field(ask("get", "", { headers = { ["X-Session-Id"] = id } }), "X-Session-Id")
    end
    for _, one in ipairs { { "post", "/items", { product_id = CAKE } }, { "patch", "/items/" .. CAKE, { quantity = 1 } },
                           { "delete", "/items/" .. CAKE }, { "delete", "" }, { "post", "/quote", {} } } do
      check.status(ask(one[1], one[2], { body = one[3] }), 401, "UNAUTHENTICATED")
    end
  end },

  { "an empty cart is an answer, and what was added is in it", function()
    local mine = cart(john)
    check.equal(mine.user_id, JOHN)
    check.equal(mine.session_id, nil)
    check.equal(mine.item_count, 0)
    check.matches(ask("get", "", with(john)).body, '"items":%[%]')
    check.matches(ask("get", "", with(john)).body, '"total_amount":0')

    local answer = check.status(put(john, CUPCAKES, 2), 200)
    check.matches(answer.body, '"unit_price":12.99')
    check.matches(answer.body, '"subtotal":25.98')
    mine = sound(add(john, CAKE))
    check.equal(#mine.items, 2)
    check.equal(mine.items[1].name, "Vanilla Cupcakes")
    check.equal(mine.items[2].quantity, 1, "one unless said")
    check.matches(mine.items[1].line_id, "^%x+%-%x+%-%x+%-%x+%-%x+$")
    check.matches(mine.updated_at, "^%d%d%d%d%-%d%d%-%d%dT[%d:%.]+Z$")
    check.same(cart(john), mine)
    check.equal(#cart(jane).items, 0, "not another's")

    local visitor = guest()
    add(visitor, COOKIE, 3)
    local theirs = cart(visitor)
    check.equal(theirs.session_id, visitor.headers["X-Session-Id"])
    check.equal(theirs.user_id, nil)
    check.equal(theirs.item_count, 3)
    check.equal(#cart(guest()).items, 0)
  end },

  { "pieces are set and lines removed", function()
    empty(john)
    add(john, CUPCAKES, 2)
    add(john, CAKE, 1)
    local function set(id, body) return ask("patch", "/items/" .. id, with(john, body)) end
    check.equal(sound(check.status(set(CUPCAKES, { quantity = 50 }), 200).json().data).item_count, 51)
    check.equal(#check.status(set(CUPCAKES, { quantity = 0 }), 200).json().data.items, 1)
    check.equal(check.status(set(CUPCAKES, { quantity = 1 }), 404, "NOT_FOUND").json().error, "Item not found in cart")
    check.status(set(CAKE, { quantity = 1, line_id = NOBODYS }), 404, "NOT_FOUND")
    local gone = ask("delete", "/items/" .. CUPCAKES, with(john))
    check.equal(check.status(gone, 404, "NOT_FOUND").json().error, "Item not found in cart")
    check.equal(#check.status(ask("delete", "/items/" .. CAKE, with(john)), 200).json().data.items, 0)
    add(john, CAKE, 1)
    empty(john)
    check.equal(#cart(john).items, 0)
  end },

  { "custom cakes are priced by the server, each a line of its own", function()
    empty(john)
    add(john, CAKE, 1)
    sound(add(john, CAKE, 2, CONFIGURATION))
    local mine = sound(add(john, CAKE, 1, CONFIGURATION))
    check.equal(#mine.items, 3)
    local quoted = client.post("/api/v1/custom-cakes/preview", { body = { configuration = CONFIGURATION } }).json().data
    check.equal(mine.items[2].unit_price, quoted.unit_price)
    check.equal(mine.items[2].custom_cake.decorations[1].quantity, 2)
    check.equal(mine.items[1].unit_price, 25.99)

    local function set(body) return ask("patch", "/items/" .. CAKE, with(john, body)) end
    field(set { quantity = 2 }, "line_id")
    mine = check.status(set { quantity = 3, line_id = mine.items[2].line_id }, 200).json().data
    check.equal(mine.items[2].quantity, 3)
    mine = check.status(ask("delete", "/items/" .. CAKE .. "?line_id=" .. mine.items[1].line_id, with(john)), 200).json().data
    check.equal(#mine.items, 2)
    check.equal(#check.status(ask("delete", "/items/" .. CAKE, with(john)), 200).json().data.items, 0)

    field(put(john, CUPCAKES, 1, CONFIGURATION), "custom_cake")
    field(put(john, CAKE, 1, { flavor = "carrot", size = "small_6", frosting = "fondant", dietary = { "vegan" } }), "custom_cake.dietary[0]")
    local wrong = { flavor = "mud", size = "small_6", frosting = "fondant", layers = 9, message = ("x"):rep(101) }
    for _, name in ipairs { "flavor", "layers", "message" } do field(put(john, CAKE, 1, wrong), "custom_cake." .. name) end
    check.equal(#cart(john).items, 0)
  end },

  { "every bad field is named, all at once", function()
    empty(john)
    local function item(json, name) field(ask("post", "/items", { token = john.token, json = json }), name) end
    local id = '"product_id":"' .. CAKE .. '"'
    item("{}", "product_id")
    for _, bad in ipairs { '"x"', "1", "null", "[]", "{}", '""' } do item('{"product_id":' .. bad .. "}", "product_id") end
    for _, bad in ipairs { "0", "51", "-1", "1.5", '"2"', "[]", "{}", "true", "9223372036854775808" } do
      item(("{%s,\"quantity\":%s}"):format(id, bad), "quantity")
      field(ask("patch", "/items/" .. CAKE, { token = john.token, json = '{"quantity":' .. (bad == "0" and "null" or bad) .. "}" }), "quantity")
    end
    for _, bad in ipairs { '"cake"', "1", "[]", "true" } do item(("{%s,\"custom_cake\":%s}"):format(id, bad), "custom_cake") end
    item(("{%s,\"custom_cake\":{}}"):format(id), "custom_cake.flavor")
    field(ask("patch", "/items/" .. CAKE, { token = john.token, json = '{"quantity":1,"line_id":"x"}' }), "line_id")
    field(ask("patch", "/items/x", { token = john.token, json = '{"quantity":1}' }), "productId")
    field(ask("delete", "/items/" .. CAKE .. "?line_id=x", with(john)), "line_id")
    local both = ask("post", "/items", { token = john.token, json = '{"quantity":0}' }).json()
    check.truthy(both.fields.quantity and both.fields.product_id, "all at once")
    check.status(ask("post", "/items", { token = john.token, json = "{" }), 400, "MALFORMED_JSON")
    check.status(put(john, NOBODYS, 1), 404, "NOT_FOUND")
    sql("UPDATE products SET archived_at = now() WHERE id = '%s'", product(30))
    check.status(put(john, product(30), 1), 404, "NOT_FOUND")
    check.equal(#cart(john).items, 0)
  end },

  { "stock counts all lines of a product; a line holds 50, a cart 50 lines", function()
    empty(john)
    set_stock(CAKE, 5)
    add(john, CAKE, 2)
    add(john, CAKE, 2, CONFIGURATION)
    local refused = check.status(put(john, CAKE, 2), 409, "OUT_OF_STOCK").json()
    check.equal(refused.available, 5)
    check.status(put(john, CAKE, 2, CONFIGURATION), 409, "OUT_OF_STOCK")
    local line = add(john, CAKE, 1).items[1].line_id
    local function set(quantity) return ask("patch", "/items/" .. CAKE, with(john, { quantity = quantity, line_id = line })) end
    check.equal(check.status(set(4), 409, "OUT_OF_STOCK").json().available, 5)
    set_stock(CAKE, 1)
    check.status(set(2), 200)
    check.status(set(3), 409, "OUT_OF_STOCK")
    check.status(set(0), 200)
    set_stock(CAKE, 1000)

    add(john, CUPCAKES, 45)
    field(put(john, CUPCAKES, 6), "quantity")
    check.equal(cart(john).items[2].quantity, 45)
    add(john, CUPCAKES, 5)

    for _ = 3, 50 do add(john, CAKE, 1, CONFIGURATION) end
    check.status(put(john, CAKE, 1, CONFIGURATION), 422, "CART_FULL")
    check.status(put(john, COOKIE, 1), 422, "CART_FULL")
    check.equal(#sound(cart(john)).items, 50)
  end },

  { "a hundred at the same time lose nothing", function()
    for _, owner in ipairs { john, guest() } do
      empty(owner)
      local requests = {}
      for i = 1, 100 do requests[i] = { "POST", CART .. "/items", with(owner, { product_id = product(i % 2 + 1) }) } end
      check.same(client.statuses(client.parallel(requests)), { [200] = 100 })
      local shown = sound(cart(owner))
      check.equal(shown.item_count, 100)
      check.equal(#shown.items, 2, "two lines of 50")

      local changes = {}
      for i = 1, 25 do changes[i] = { "DELETE", CART .. "/items/" .. CAKE, with(owner) } end
      for i = 1, 25 do changes[25 + i] = { "POST", CART .. "/items", with(owner, { product_id = product(2 + i), quantity = 2 }) } end
      sql "UPDATE products SET stock = 1000"
      local counts = client.statuses(client.parallel(changes))
      check.same(counts, { [200] = 26, [404] = 24 })
      shown = sound(cart(owner))
      check.equal(shown.item_count, 100)
      check.equal(#shown.items, 26, "lines")
    end
  end },

  { "a cart as the seed document has it is taken over", function()
    local key = "cart:" .. JOHN
    local function seed(who, items)
      client.redis("SET", key, ('{"user_id":"%s","items":[%s],"total_amount":51.98,"updated_at":"2024-01-15T10:30:00Z"}')
        :format(who, items))
    end
    local cakes = ('{"product_id":"%s","quantity":2,"unit_price":25.99,"subtotal":51.98}'):format(CAKE)
    seed(JOHN, cakes)
    local taken = cart(john)
    check.equal(#taken.items, 1)
    check.same({ taken.items[1].name, taken.items[1].quantity, taken.total_amount, taken.item_count },
               { "Chocolate Cake", 2, 51.98, 2 })
    check.same(cart(john), taken, "its ids stay")
    check.truthy(tonumber(client.redis("TTL", key)) > 86000, "life")

    -- Sums are the lines'; what cannot be bought is left out; somebody else's is nobody's.
    local odd = ',{"product_id":"' .. NOBODYS .. '","quantity":1,"unit_price":1,"subtotal":1}'
      .. ',{"product_id":"x","quantity":1},{"product_id":"' .. COOKIE .. '","quantity":51,"unit_price":1,"subtotal":51},7'
    seed(JOHN, cakes .. odd .. "," .. cakes)
    check.equal(check.status(put(john, CUPCAKES, 1), 200).json().data.item_count, 5)
    seed(JANE, cakes)
    check.equal(#cart(john).items, 0)
    for _, items in ipairs { "", "[]", "7" } do
      seed(JOHN, items)
      check.equal(#cart(john).items, 0, items)
    end
    client.redis("DEL", key)
  end },

  { "what is no cart counts as empty", function()
    local key = "cart:" .. JOHN
    empty(john)
    add(john, CAKE, 1)
    local mine = client.redis("GET", key)
    client.redis("SET", "cart:" .. JANE, mine)
    check.equal(#cart(jane).items, 0, "another's cart")
    for _, garbage in ipairs { "", "{", "[]", "null", mine:sub(1, -2), mine:gsub('"quantity":1', '"quantity":51'), "\255\254" } do
      client.redis("SET", key, garbage)
      check.equal(#cart(john).items, 0, garbage)
      check.equal(#add(john, CUPCAKES, 1).items, 1)
    end
    client.redis("DEL", key)
    client.redis("RPUSH", key, "x")
    check.equal(#cart(john).items, 0, "a list")
    check.equal(#add(john, CUPCAKES, 1).items, 1)
    local visitor = guest()
    client.redis("RPUSH", "cart:guest:" .. visitor.headers["X-Session-Id"], "x")
    check.equal(#cart(visitor).items, 0)
    local answer = ask("post", "/merge", { token = john.token, headers = visitor.headers })
    check.equal(#check.status(answer, 200).json().data.items, 1)
  end },

  { "a cart lives for a day after the last look", function()
    add(john, CUPCAKES, 1)
    client.redis("EXPIRE", "cart:" .. JOHN, 100)
    cart(john)
    check.truthy(tonumber(client.redis("TTL", "cart:" .. JOHN)) > 86000, "sliding")
    empty(john)
    check.truthy(tonumber(client.redis("TTL", "cart:" .. JOHN)) > 86000, "sliding")
  end },

  { "a guest's cart is merged once, as far as 50 and the stock allow", function()
    sql "UPDATE products SET stock = 1000"
    empty(john)
    local visitor = guest()
    add(john, CUPCAKES, 45)
    add(john, COOKIE, 2)
    add(visitor, CUPCAKES, 10)
    add(visitor, CAKE, 2, CONFIGURATION)
    add(visitor, COOKIE, 4)
    add(visitor, product(12), 3)
    set_stock(COOKIE, 5)
    sql("UPDATE products SET archived_at = now() WHERE id = '%s'", product(12))

    local requests = {}
    for i = 1, 10 do requests[i] = { "POST", CART .. "/merge", { token = john.token, headers = visitor.headers } } end
    local answers = client.parallel(requests)
    check.same(client.statuses(answers), { [200] = 10 })
    local adjusted, effects = {}, 0
    for _, answer in ipairs(answers) do
      local list = answer.json().data.adjusted
      if #list > 0 then effects = effects + 1 end
      for _, entry in ipairs(list) do adjusted[entry.product_id] = entry end
    end
    check.equal(effects, 1, "one effect")
    check.equal(adjusted[CUPCAKES].requested, 55)
    check.equal(adjusted[CUPCAKES].quantity, 50)
    check.equal(adjusted[COOKIE].requested, 6)
    check.equal(adjusted[COOKIE].quantity, 5)
    check.equal(adjusted[product(12)].quantity, 0, "not sold any more")
    check.equal(adjusted[CAKE], nil)

    local shown = sound(cart(john))
    check.equal(#shown.items, 3)
    check.equal(shown.item_count, 50 + 5 + 2)
    check.equal(#cart(visitor).items, 0)
    check.equal(client.redis("EXISTS", "cart:guest:" .. visitor.headers["X-Session-Id"]), "0")

    set_stock(COOKIE, 1)
    add(visitor, CAKE, 1)
    shown = check.status(ask("post", "/merge", { token = john.token, headers = visitor.headers }), 200).json().data
    check.equal(shown.items[2].quantity, 5, "what was there stays: the order says")
    check.equal(#shown.adjusted, 0)
    set_stock(COOKIE, 1000)

    field(ask("post", "/merge", with(john)), "X-Session-Id")
    field(ask("post", "/merge", { token = john.token, headers = { ["X-Session-Id"] = "x" } }), "X-Session-Id")
    check.status(ask("post", "/merge", with(visitor)), 401, "UNAUTHENTICATED")
  end },

  { "a merge that finds no line left says so", function()
    empty(john)
    local visitor = guest()
    for _ = 1, 49 do add(john, CAKE, 1, CONFIGURATION) end
    add(visitor, CUPCAKES, 1)
    add(visitor, COOKIE, 2)
    local shown = check.status(ask("post", "/merge", { token = john.token, headers = visitor.headers }), 200).json().data
    check.equal(#shown.items, 50)
    check.same({ shown.adjusted[1].product_id, shown.adjusted[1].requested, shown.adjusted[1].quantity }, { COOKIE, 2, 0 })
  end },

  { "a quote is the order that follows, to the cent", function()
    sql "UPDATE products SET stock = 100000, archived_at = NULL"
    sql("INSERT INTO loyalty_ledger (user_id, points, reason, note) VALUES ('%s', 100000, 'adjusted', 'test')", JOHN)
    sql [[INSERT INTO promo_codes (code, discount_type, amount, valid_from, valid_to) VALUES
      ('QUOTE7', 'percent', 7.33, now() - interval '1 day', now() + interval '1 day'),
      ('QUOTE9', 'fixed', 9.99, now() - interval '1 day', now() + interval '1 day')]]
    local slot = sql [[INSERT INTO delivery_schedules (delivery_date, delivery_time, capacity)
      VALUES (current_date + 200, '09:00-11:00', 500) RETURNING id]]
    local address = { line1 = "1 Oven Street", city = "Baketown", postal_code = "12345" }
    local FIELDS <const> = { "subtotal", "discount_amount", "points_redeemed", "points_amount", "delivery_fee",
                             "tip_amount", "tax_amount", "total_amount", "promo_code", "fulfilment" }
    math.randomseed(7)
    local function maybe(value) return math.random(2) == 1 and value or nil end
    local plain = { flavor = "lemon", size = "small_6", frosting = "buttercream" }
    local days = {}
    for i = 0, 5 do days[i] = sql('SELECT to_char(now() + %d * interval \'1 day\', \'YYYY-MM-DD"T"23:59:00"Z"\')', i) end
    local placed, refused, rushed = 0, 0, 0

    for round = 1, 60 do
      empty(john)
      for _ = 1, math.random(4) do
        local id = product(math.random(30))
        put(john, id, math.random(9), id == CAKE and maybe(CONFIGURATION) or nil)
        if math.random(3) == 1 then put(john, CAKE, 1, math.random(2) == 1 and CONFIGURATION or plain) end
      end
      local is_rush = round % 6 == 0
      if is_rush then put(john, CAKE, 1, plain) end
      local delivery = not is_rush and maybe(true)
      local wish = { promo_code = maybe(math.random(2) == 1 and " quote7 " or "QUOTE9"), redeem_points = maybe(math.random(3000)),
                     tip_amount = maybe(math.random(0, 999) / 100), fulfilment = delivery and "delivery" or maybe("pickup"),
                     delivery_schedule_id = delivery and slot or nil, pickup_at = is_rush and days[1] or not delivery and maybe(days[math.random(0, 5)]) or nil }
      local quote = ask("post", "/quote", with(john, wish))
      wish.address = address
      local answer = client.post(ORDERS, { token = john.token, body = wish })
      if quote.status ~= 200 then
        check.equal(answer.status, quote.status)
        check.equal(answer.json().code, quote.json().code)
        refused = refused + 1
        goto continue
      end
      placed = placed + 1
      local quoted, order = quote.json().data, check.status(answer, 201).json().data
      for _, name in ipairs(FIELDS) do check.equal(quoted[name], order[name], name) end
      if wish.pickup_at then check.equal(quoted.pickup_at, order.pickup_at, "pickup_at") end
      check.equal(#quoted.items, #order.items)
      for i, item in ipairs(quoted.items) do
        for _, name in ipairs { "product_id", "quantity", "unit_price", "subtotal", "discount_amount" } do
          check.equal(item[name], order.items[i][name], name)
        end
      end
      check.equal(#cart(john).items, 0, "ordered")
      if quote.body:find '"rush_fee":[1-9]' then rushed = rushed + 1 end
      ::continue::
    end
    check.truthy(placed > 20 and refused > 0 and rushed > 0, ("placed %d, refused %d, rushed %d"):format(placed, refused, rushed))
    check.truthy(sql "SELECT count(*) FROM promo_redemptions r JOIN promo_codes p ON p.id = r.promo_code_id AND p.code LIKE 'QUOTE_'" ~= "0",
                 "no order had a code")
  end },

  { "a quote changes nothing, and refuses what the order would", function()
    local function quote(owner, body) return ask("post", "/quote", with(owner, body)) end
    local function state() return sql "SELECT (SELECT count(*) FROM orders) || ' ' || (SELECT sum(stock) FROM products) || ' ' || (SELECT count(*) FROM outbox)" end
    empty(john)
    check.status(quote(john, {}), 409, "EMPTY_CART")
    add(john, CAKE, 2)
    add(john, CAKE, 1, CONFIGURATION)
    local before, mine = state(), client.redis("GET", "cart:" .. JOHN)
    local shown = check.status(quote(john, {}), 200).json().data
    check.matches(shown.pickup_at, "^%d%d%d%d%-%d%d%-%d%dT")
    check.equal(shown.delivery_fee, 0)
    check.equal(shown.promo_code, cjson.null)
    check.equal(check.status(quote(john, { fulfilment = "delivery" }), 200).json().data.delivery_fee, 0, "free from 50.00")
    check.status(quote(john, { promo_code = "NOSUCHCODE" }), 422, "PROMO_INVALID")
    check.status(quote(jane, { redeem_points = 1 }), 409, "EMPTY_CART")
    check.status(quote(john, { redeem_points = 2147483647 }), 422, "INSUFFICIENT_POINTS")
    check.status(quote(john, { fulfilment = "delivery", delivery_schedule_id = NOBODYS }), 404, "NOT_FOUND")
    check.equal(check.status(ask("post", "/quote", { token = john.token }), 200).json().data.total_amount, shown.total_amount, "no body")
    check.equal(state(), before)
    check.equal(client.redis("GET", "cart:" .. JOHN), mine)

    for name, bad in pairs { promo_code = 5, redeem_points = -1, fulfilment = "drone", pickup_at = "soon", tip_amount = 1000,
                             delivery_schedule_id = "x" } do
      field(quote(john, { [name] = bad }), name)
    end
    field(quote(john, { tip_amount = 1.005 }), "tip_amount")
    field(quote(john, { pickup_at = "2020-01-01T10:00:00Z" }), "pickup_at")
    local visitor = guest()
    add(visitor, CUPCAKES, 1)
    field(quote(visitor, { redeem_points = 1 }), "redeem_points")
    check.equal(check.status(quote(visitor, { fulfilment = "delivery" }), 200).json().data.total_amount, 18.98)
    set_stock(CUPCAKES, 0)
    check.equal(check.status(quote(visitor, {}), 409, "OUT_OF_STOCK").json().items[1].available, 0)
  end },

  { "a price that changed is told once, and the cart shows the new one", function()
    sql "UPDATE products SET stock = 1000"
    empty(john)
    add(john, CUPCAKES, 2)
    sql("UPDATE products SET price = 13.49 WHERE id = '%s'", CUPCAKES)
    check.equal(cart(john).items[1].unit_price, 12.99, "reading changes no price")
    check.status(ask("post", "/quote", with(john, {})), 409, "PRICE_CHANGED")
    check.equal(sound(cart(john)).items[1].unit_price, 13.49)
    check.equal(check.status(ask("post", "/quote", with(john, {})), 200).json().data.total_amount, 26.98)
    check.status(client.post(ORDERS, { token = john.token, body = {} }), 201)
  end },
}
