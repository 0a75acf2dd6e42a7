-- What PostgreSQL does for every route, on a shop with many orders: nothing that a request
-- waits for reads a large table whole.  Plans are those of the statements as they were run, by
-- auto_explain: under row-level security, with functions and triggers.
-- only: release
-- serve: --workers 1
-- env: BCRYPT_COST=4
-- env: PAYMENT_GENERIC_SECRET=plans-secret
-- env: PAYMENT_URL_TEMPLATE=https://pay.example.com/?order={order_id}&amount={amount}&currency={currency}

local check    = require "check"
local client   = require "client"
local cjson    = require "cjson"
local contract = require "contract"

local ORDERS <const> = 20000

--- What a scan may read: as many rows as the totals of lists are exact for (omade.page), and a
-- few for nothing.
local READ <const>, DROPPED <const> = 11000, 1000

--- Routes that ask PostgreSQL for nothing that grows, and those tried elsewhere.
local EXCUSED <const> = {
  ["GET /"] = "no database", ["GET /health"] = "no database", ["GET /api/health"] = "no database",
  ["GET /metrics"] = "no database", ["GET /ready"] = "SELECT 1", ["GET /api/openapi.json"] = "no database",
  ["GET /api/docs"] = "no database", ["GET /api/docs/page.js"] = "no database", ["GET /api/docs/page.css"] = "no database",
  ["GET /api/docs/{name}"] = "no database", ["GET /api/v1/custom-cakes/options"] = "no database",
  ["POST /api/v1/custom-cakes/preview"] = "no database",
  ["GET /uploads/{name}"] = "a file",
  ["POST /api/v1/cart/guest"] = "Redis",
  ["POST /api/v1/auth/social"] = "needs a provider; looks for its subject and an e-mail address, both unique",
}

--- What a route is meant to read whole: a part of its path, and the table.
local WHOLE <const> = {
  { "/reports/customers", "user_sales_figures", "tells about every customer" },
}

local JOHN <const>, JANE <const> = "00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000002"
local ADMIN <const>, STAFF <const>, RIDER <const> = "00000000-0000-0000-0000-000000000003",
  "00000000-0000-0000-0000-000000000004", "00000000-0000-0000-0000-000000000006"
local PRODUCT <const>, OTHER <const> = "10000000-0000-0000-0000-000000000001", "10000000-0000-0000-0000-000000000020"

---- Many orders --------------------------------------------------------------------------------------

local function admin_sql(sql)
  local url = os.getenv "TEST_ADMIN_DATABASE_URL":gsub("^(postgres[ql]*://[^/]+).*$", "%1") .. "/"
    .. os.getenv "DATABASE_URL":match "/([^/?]+)[^/]*$"
  local out, ok = client.shell(("psql -XqAt -v ON_ERROR_STOP=1 '%s' -c \"%s\""):format(url, sql))
  if not ok then error(out, 2) end
  return out
end

--- Where PostgreSQL writes its log; what is there already is not ours.
local LOG <const> = check.truthy(os.getenv "OMADE_STATE_DIR", "OMADE_STATE_DIR") .. "/postgres.log"
local log = assert(io.open(LOG))

local function grow()
  local binary = client.shell "readlink -f /proc/$TEST_SERVER_PID/exe"
  local out, ok = client.shell(("OMADE_HOME='%s' '%s' seed --scale %d"):format(os.getenv "OMADE_HOME", binary, ORDERS))
  check.truthy(ok, out)
  client.sql(([[
    INSERT INTO users (name, email, password_hash, role, created_at) SELECT 'Quiet ' || md5(n::text), 'quiet' || n || '@example.com', '!',
      'customer', now() - n * interval '1 hour' FROM generate_series(1, 18000) n;
    INSERT INTO audit_log (actor_id, actor_role, action, entity, entity_id) SELECT '%s', 'admin', 'product.update', 'product', n
      FROM generate_series(1, 20000) n;
    INSERT INTO outbox (topic, aggregate_id, sent_at) SELECT 'order.created', gen_random_uuid(), now() FROM generate_series(1, 20000);
    INSERT INTO idempotency_keys (scope, key, request_hash, status, body) SELECT 'POST /x', n, repeat('0', 64), 201, '{}'
      FROM generate_series(1, 20000) n;
    INSERT INTO newsletter_subscribers (email) SELECT 'n' || n || '@example.com' FROM generate_series(1, 20000) n;
    INSERT INTO uploads (name, user_id, content_type, size) SELECT md5(n::text) || '.png', '%s', 'image/png', 1
      FROM generate_series(1, 5000) n;
    INSERT INTO password_resets (user_id, token_sha256, expires_at) SELECT id, md5(id::text) || md5(email), now() + interval '1 day'
      FROM users;
    INSERT INTO user_identities (user_id, provider, subject) SELECT id, 'google', id FROM users;
    INSERT INTO payments (provider, event_id, type, order_id, amount, currency, raw)
      SELECT 'generic', id, 'payment.succeeded', id, total_amount, 'USD', '{}' FROM orders;
    INSERT INTO promo_redemptions (promo_code_id, order_id, user_id, amount, created_at)
      SELECT (SELECT id FROM promo_codes WHERE code = 'BIRTHDAY20'), id, user_id, 1, created_at FROM orders WHERE user_id IS NOT NULL
      ON CONFLICT DO NOTHING;
    INSERT INTO refunds (order_id, amount) SELECT id, 1 FROM orders WHERE status = 'refunded';
    INSERT INTO outbox (topic, aggregate_id, failed_at) SELECT 'order.created', gen_random_uuid(), now() FROM generate_series(1, 20)]])
    :format(ADMIN, STAFF))
  client.sql "VACUUM (ANALYZE)"
end

--- The figures of a seeded shop are those of its orders.
local function check_figures()
  check.equal(client.sql [[SELECT concat_ws(' ', (SELECT sum(orders) = (SELECT count(*) FROM orders) FROM order_figures),
    (SELECT sum(delivered + open + cancelled) = (SELECT count(*) FROM orders WHERE delivery_schedule_id IS NOT NULL) FROM slot_figures),
    (SELECT sum(uses + returned) = (SELECT count(*) FROM promo_redemptions) FROM promo_figures),
    (SELECT sum(cardinality(times)) + (SELECT COALESCE(sum(orders), 0) FROM user_sales_movements) = (SELECT count(*) FROM orders
      WHERE status = 'delivered' AND user_id IS NOT NULL) FROM user_sales_figures),
    (SELECT count(*) > 50 FROM order_status_history WHERE failed))]], "t t t t t")
end

--- From here on every statement of the server leaves its plan in the log.
local function watch()
  for name, value in pairs { session_preload_libraries = "auto_explain", ["auto_explain.log_min_duration"] = "0",
                             ["auto_explain.log_format"] = "json", ["auto_explain.log_nested_statements"] = "on",
                             ["auto_explain.log_analyze"] = "on", ["auto_explain.log_timing"] = "off" } do
    admin_sql(("ALTER ROLE app_user IN DATABASE %s SET %s = '%s'"):format(os.getenv "DATABASE_URL":match "/([^/?]+)[^/]*$",
                                                                          name, value))
  end
  admin_sql "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app_user' AND datname = current_database()"
  local well = 0
  client.eventually(20, "the server is ready again", function()
    well = client.get("/api/v1/products?limit=1").status == 200 and well + 1 or 0
    return well == 10
  end)
  log:seek "end"
end

---- Plans ---------------------------------------------------------------------------------------------

--- The plans that were logged since the last call: {query, plan}.
local function plans()
  local list, text = {}, nil
  local function finish()
    if not text then return end
    local entry = cjson.decode(table.concat(text, "\n"))
    list[#list + 1] = { query = entry["Query Text"], plan = entry.Plan }
    text = nil
  end
  for line in log:lines() do
    if text and line:find "^\t" then
      text[#text + 1] = line
    else
      finish()
      if line:find "plan:$" then text = {} end
    end
  end
  finish()
  return list
end

--- The faults of a plan: "orders: Seq Scan of 20000 rows".
local function faults(node, list)
  local loops = node["Actual Loops"] or 0
  local table_name = node["Relation Name"]
  if table_name and loops > 0 then
    local dropped = ((node["Rows Removed by Filter"] or 0) + (node["Rows Removed by Index Recheck"] or 0)) * loops
    local read = dropped + (node["Actual Rows"] or 0) * loops
    if node["Node Type"] == "Seq Scan" and read > READ or dropped > DROPPED then
      list[#list + 1] = { table = table_name, text = ("%s: %s of %d rows, %d for nothing"):format(table_name, node["Node Type"],
                                                                                                read, dropped) }
    end
  end
  for _, child in ipairs(node.Plans or {}) do faults(child, list) end
  return list
end

local function meant(path, name)
  for _, entry in ipairs(WHOLE) do
    if path:find(entry[1], 1, true) and entry[2] == name then return true end
  end
end

---- Requests ------------------------------------------------------------------------------------------

local tokens = {
  john = client.session("customer", JOHN), jane = client.session("customer", JANE), admin = client.session("admin", ADMIN),
  staff = client.session("staff", STAFF), rider = client.session("rider", RIDER),
}

local tried, found, statements = {}, {}, 0

--- What was logged for a request, or whatever fn did.
local function look(name)
  for _, one in ipairs(plans()) do
    statements = statements + 1
    for _, fault in ipairs(faults(one.plan, {})) do
      if not meant(name, fault.table) then
        found[#found + 1] = ("%s\n    %s\n    %s"):format(name, fault.text, one.query:gsub("%s+", " "):sub(1, 300))
      end
    end
  end
end

--- "GET /api/v1/orders/{id}" by somebody; the answer must not be a refusal.
local function call(who, route, values, options)
  options = options or {}
  local method, path = route:match "^(%u+) (%S+)$"
  values = values or {}
  path = path:gsub("{([%w_]+)}", function(name) return check.truthy(values[name], route .. ": " .. name) end)
  path = path .. (values.query and "?" .. values.query or "")
  options.token = options.token or tokens[who]
  local answer = client.request(method, path, options)
  check.truthy(answer.status < 400, ("%s: %d %s"):format(route, answer.status, answer.body))
  tried[route] = true
  look(method .. " " .. path)
  return answer
end

local function data(...) return call(...).json().data end

local function one(id, quantity) return { product_id = id, quantity = quantity or 1 } end

local function order(who, more)
  local body = { items = { one(PRODUCT) } }
  for name, value in pairs(more or {}) do body[name] = value end
  return data(who, "POST /api/v1/orders", nil, { body = body })
end

local function delivery_order(slot)
  local made = order("john", { fulfilment = "delivery", delivery_schedule_id = slot,
                               address = { line1 = "1", city = "B", postal_code = "1" } })
  for _, status in ipairs { "confirmed", "preparing" } do
    call("staff", "PATCH /api/v1/orders/{id}/status", { id = made.id }, { body = { status = status } })
  end
  return made.id
end

local function mail_token(purpose, user, email)
  local token = ("%064x"):format(math.random(1 << 60))
  client.sql(("INSERT INTO password_resets (user_id, purpose, token_sha256, new_email, expires_at) VALUES ('%s', '%s', "
              .. "encode(sha256('%s'), 'hex'), %s, now() + interval '20 minutes')"):format(user, purpose, token,
              email and "'" .. email .. "'" or "NULL"))
  return token
end

local function every_query(who, route, queries, values)
  for _, query in ipairs(queries) do
    local with = { query = query }
    for name, value in pairs(values or {}) do with[name] = value end
    call(who, route, with)
  end
end

---- The groups: each a test ------------------------------------------------------------------------------

local function catalogue()
  local sorts = { "search=cake", "search=choclate", "category=Cakes&inStock=true&minPrice=1&maxPrice=90", "limit=100" }
  for _, by in ipairs { "name", "price", "created_at", "rating", "popularity" } do
    sorts[#sorts + 1] = "sortBy=" .. by .. "&sortOrder=ASC"
    sorts[#sorts + 1] = "sortBy=" .. by .. "&sortOrder=DESC"
  end
  every_query(nil, "GET /api/v1/products", sorts)
  call(nil, "GET /api/v1/products/categories")
  call("staff", "GET /api/v1/products/low-stock")
  call("staff", "GET /api/v1/products/stats")
  call(nil, "GET /api/v1/products/{id}", { id = PRODUCT })
  local made = data("admin", "POST /api/v1/products", nil, { body = { name = "Plan", price = 5, stock = 9 } })
  call("admin", "PATCH /api/v1/products/{id}", { id = made.id }, { body = { price = 6 } })
  call("staff", "PATCH /api/v1/products/{id}/stock", { id = made.id }, { body = { stockChange = 1 } })
  call("staff", "POST /api/v1/products/bulk-stock", nil, { body = { updates = { { id = made.id, stock = 50 },
                                                                               { id = PRODUCT, stock = 500 } } } })
  call("admin", "DELETE /api/v1/products/{id}", { id = made.id })
  call("admin", "DELETE /api/v1/products/{id}", { id = OTHER })
  local cake = { configuration = { flavor = "vanilla", size = "small_6", layers = 1, frosting = "buttercream" },
                 requested_date = client.sql "SELECT current_date + 20" }
  call(nil, "POST /api/v1/custom-cakes/calculate-pricing", nil, { body = cake })
  call(nil, "POST /api/v1/custom-cakes/check-availability", nil, { body = cake })
  call("john", "POST /api/v1/custom-cakes/upload", nil, {
    headers = { ["Content-Type"] = "multipart/form-data; boundary=XyZ" },
    body = '--XyZ\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'
      .. "\x89PNG\r\n\x1a\n\0\0\0\rIHDR" .. (">I4I4"):pack(9, 9) .. "\8\6\0\0\0crc." .. ("x"):rep(100) .. "\r\n--XyZ--\r\n" })
  call(nil, "GET /api/v1/store")
end

local function orders()
  call("john", "POST /api/v1/cart/items", nil, { body = one(PRODUCT) })
  call("john", "GET /api/v1/cart")
  call("john", "PATCH /api/v1/cart/items/{productId}", { productId = PRODUCT }, { body = { quantity = 2 } })
  call("john", "POST /api/v1/cart/quote", nil, { body = { promo_code = "SAVE5" } })
  call("john", "DELETE /api/v1/cart/items/{productId}", { productId = PRODUCT })
  call("john", "DELETE /api/v1/cart")
  local guest = client.post("/api/v1/cart/guest").json().data
  call("john", "POST /api/v1/cart/merge", nil, { headers = { ["X-Session-Id"] = guest.session_id } })

  local mine = order("john", { promo_code = "SAVE5", redeem_points = 0, payment_method = "online" })
  local of_guest = data(nil, "POST /api/v1/orders/guest", nil, { headers = { ["Idempotency-Key"] = "plans" }, body = {
    items = { one(PRODUCT) }, guest_name = "Guest", guest_email = "g@example.com" } })
  for _, query in ipairs { "", "status=delivered", "payment_status=paid", "date_from=2020-01-01&date_to=2030-01-01", "limit=100" } do
    call("john", "GET /api/v1/orders", { query = query })
  end
  every_query("staff", "GET /api/v1/orders/all", { "", "status=pending", "status=delivered", "status=cancelled&limit=100", "payment_status=paid",
    "payment_status=refunded", "customer=smith", "customer=zebra@nowhere.test", "order_number=" .. mine.order_number, "delivery_schedule_id="
    .. client.sql "SELECT delivery_schedule_id FROM orders WHERE delivery_schedule_id IS NOT NULL LIMIT 1",
    "date_from=2020-01-01&date_to=2030-01-01", "date_from=2026-01-05&date_to=2026-01-05", "page=50" })
  every_query("staff", "GET /api/v1/orders/stats", { "", "date_from=2026-01-05&date_to=2026-01-06" })
  every_query(nil, "GET /api/v1/orders/track/{order_number}", { "email=g@example.com", "token=" .. of_guest.tracking_token },
              { order_number = of_guest.order_number })
  call("john", "GET /api/v1/orders/{id}", { id = mine.id })
  call("staff", "GET /api/v1/orders/{id}", { id = of_guest.id })
  call(nil, "GET /api/v1/orders/{id}", { id = of_guest.id }, { headers = { ["X-Tracking-Token"] = of_guest.tracking_token } })
  call("john", "POST /api/v1/orders/{id}/pay", { id = mine.id })
  local event = cjson.encode { id = "plans-1", type = "payment.succeeded", order_id = mine.id, amount = mine.total_amount,
                               currency = "USD", reference = "r", created = client.sql "SELECT to_json(now())#>>'{}'" }
  local time = os.time()
  local signature = ("t=%d,v1=%s"):format(time, client.shell(("printf %%s '%d.%s' | openssl dgst -sha256 -hmac plans-secret -r "
    .. "| cut -d' ' -f1"):format(time, event)))
  call(nil, "POST /api/v1/payments/webhook/{provider}", { provider = "generic" },
       { json = event, headers = { ["X-Omade-Signature"] = signature } })
  call("john", "POST /api/v1/orders/{id}/cancel", { id = mine.id }, { body = { reason = "r" } })
  call("admin", "POST /api/v1/orders/{id}/refund", { id = mine.id }, { body = { reason = "r" } })
  call("staff", "PATCH /api/v1/orders/{id}/payment", { id = of_guest.id }, { body = { payment_status = "paid" } })

  local stream = client.connect()
  stream:send(client.format("GET", "/api/v1/orders/" .. of_guest.id .. "/events", { token = tokens.staff }))
  check.matches(stream:read_until "\r\n\r\n", "^HTTP/1.1 200")
  stream:read_until "\n\n"
  stream:close()
  tried["GET /api/v1/orders/{id}/events"] = true
  look "GET /api/v1/orders/{id}/events"
end

local function delivery()
  every_query(nil, "GET /api/v1/delivery/schedules", { "", "date_from=2027-01-01&date_to=2027-12-31" })
  call("staff", "GET /api/v1/delivery/schedules", { query = "all=true" })
  local day = client.sql "SELECT current_date + 13"
  local slot = data("staff", "POST /api/v1/delivery/schedules", nil, { body = { delivery_date = day, delivery_time = "07:00-07:30",
                                                                              capacity = 10 } })
  local other = data("staff", "POST /api/v1/delivery/schedules", nil, { body = { delivery_date = day, delivery_time = "07:30-08:00" } })
  call("staff", "PATCH /api/v1/delivery/schedules/{id}", { id = other.id }, { body = { capacity = 5 } })
  call("staff", "POST /api/v1/delivery/schedules/{id}/assign", { id = slot.id }, { body = { rider_id = RIDER } })
  local brought, lost, moved = delivery_order(slot.id), delivery_order(slot.id), order("john")
  call("rider", "GET /api/v1/delivery/my", { query = "date=" .. day })
  for _, id in ipairs { brought, lost } do call("rider", "POST /api/v1/delivery/orders/{id}/dispatched", { id = id }) end
  call("rider", "POST /api/v1/delivery/orders/{id}/delivered", { id = brought }, { body = { payment_taken = true } })
  call("rider", "POST /api/v1/delivery/orders/{id}/failed", { id = lost }, { body = { note = "nobody" } })
  call("staff", "PATCH /api/v1/orders/{id}/schedule", { id = lost }, { body = { delivery_schedule_id = other.id } })
  call("john", "POST /api/v1/orders/{id}/cancel", { id = moved.id })
  local empty = data("staff", "POST /api/v1/delivery/schedules", nil, { body = { delivery_date = day, delivery_time = "08:00-08:30" } })
  call("staff", "DELETE /api/v1/delivery/schedules/{id}", { id = empty.id })
end

local function offers()
  call("john", "GET /api/v1/promo/validate", { query = "code=SAVE5&order_amount=50" })
  call("admin", "GET /api/v1/promo")
  call("admin", "GET /api/v1/promo/active")
  local made = data("admin", "POST /api/v1/promo", nil, { body = { code = "PLANS", discount_type = "percent", amount = 5,
    valid_from = "2026-01-01T00:00:00Z", valid_to = "2036-01-01T00:00:00Z" } })
  call("admin", "PATCH /api/v1/promo/{id}", { id = made.id }, { body = { usage_limit = 9 } })
  call("admin", "DELETE /api/v1/promo/{id}", { id = made.id })
  client.sql(("DELETE FROM reviews WHERE user_id = '%s'"):format(JOHN))
  local review = data("john", "POST /api/v1/reviews", nil, { body = { product_id = PRODUCT, rating = 4, comment = "c" } })
  every_query(nil, "GET /api/v1/reviews/product/{id}", { "", "page=2" }, { id = PRODUCT })
  call("john", "GET /api/v1/reviews/my")
  call("john", "PATCH /api/v1/reviews/{id}", { id = review.id }, { body = { rating = 3 } })
  call("john", "DELETE /api/v1/reviews/{id}", { id = review.id })
  call("john", "GET /api/v1/loyalty")
  call("john", "GET /api/v1/loyalty/history")
  call("admin", "POST /api/v1/loyalty/adjust", nil, { body = { user_id = JOHN, points = 5, reason = "r" } })
  call(nil, "POST /api/v1/newsletter/subscribe", nil, { body = { email = "plans@example.com" } })
  local token = client.sql "SELECT token FROM newsletter_subscribers WHERE email = 'plans@example.com'"
  call(nil, "GET /api/v1/newsletter/unsubscribe", { query = "token=" .. token })
  call(nil, "POST /api/v1/newsletter/unsubscribe", { query = "token=" .. token })
end

local function backoffice()
  for _, name in ipairs { "daily-sales", "product-stats", "customers", "promo-usage", "delivery" } do
    every_query("staff", "GET /api/v1/reports/" .. name, { "", "format=csv", "limit=100&page=2" })
  end
  local lists = { "", "search=ada%20baker", "search=john@example.com", "page=5&limit=20" }
  for _, by in ipairs { "name", "email", "total_orders", "total_spent", "last_order_date", "loyalty_points", "created_at" } do
    lists[#lists + 1] = "sortBy=" .. by .. "&sortOrder=ASC"
    lists[#lists + 1] = "sortBy=" .. by .. "&sortOrder=DESC"
  end
  every_query("staff", "GET /api/v1/customers", lists)
  call("staff", "GET /api/v1/customers/{id}", { id = client.sql "SELECT user_id FROM orders WHERE user_id IS NOT NULL LIMIT 1" })
  every_query("admin", "GET /api/v1/users", { "", "role=customer", "role=rider", "search=baker", "page=50" })
  local made = data("admin", "POST /api/v1/users", nil, { body = { email = "invited@example.com", role = "rider", name = "Invited" } })
  call("admin", "PATCH /api/v1/users/{id}", { id = made.id }, { body = { role = "staff" } })
  call("admin", "DELETE /api/v1/users/{id}", { id = made.id })
  every_query("admin", "GET /api/v1/admin/audit", { "", "entity=product", "entity=product&id=5", "actor=" .. ADMIN, "page=100" })
  every_query("admin", "GET /api/v1/admin/outbox", { "", "status=failed", "status=sent", "status=waiting" })
  call("admin", "POST /api/v1/admin/outbox/{id}/retry", { id = client.sql "SELECT max(id) FROM outbox WHERE failed_at IS NOT NULL" })
end

local function accounts()
  local password <const> = "Plans!2026x"
  data(nil, "POST /api/v1/auth/register", nil, { body = { name = "Plan", email = "p@example.com", password = password } })
  local session = data(nil, "POST /api/v1/auth/login", nil, { body = { email = "p@example.com", password = password } })
  session = data(nil, "POST /api/v1/auth/refresh", nil, { body = { refresh_token = session.refresh_token } })
  local user = client.sql "SELECT id FROM users WHERE email = 'p@example.com'"
  local function as_own(route, body) return call(nil, route, nil, { token = session.token or session.access_token, body = body }) end
  as_own "GET /api/v1/auth/me"
  as_own("PATCH /api/v1/auth/me", { name = "Plans", phone = "+49301234567" })
  as_own "GET /api/v1/auth/me/export"
  call("john", "GET /api/v1/auth/me/export")
  as_own("POST /api/v1/auth/me/email", { email = "q@example.com", password = password })
  as_own("POST /api/v1/auth/me/email/confirm", { token = mail_token("change_email", user, "q@example.com") })
  call(nil, "POST /api/v1/auth/forgot-password", nil, { body = { email = "q@example.com" } })
  as_own("PUT /api/v1/auth/change-password", { current_password = password, new_password = password .. "1",
                                              confirm_password = password .. "1" })
  call(nil, "POST /api/v1/auth/reset-password", nil, { body = { token = mail_token("reset_password", user), password = password } })
  local function again()
    session = data(nil, "POST /api/v1/auth/login", nil, { body = { email = "q@example.com", password = password } })
  end
  again()
  as_own "POST /api/v1/auth/logout"
  again()
  as_own "POST /api/v1/auth/logout-all"
  again()
  as_own("DELETE /api/v1/auth/me", { password = password })
end

local function group(name, fn)
  return { name, function()
    found = {}
    fn()
    check.equal(#found, 0, "\n  " .. table.concat(found, "\n  "))
  end }
end

return {
  { "a shop with many orders", function()
    grow()
    check_figures()
    watch()
  end },
  group("catalogue", catalogue),
  group("orders", orders),
  group("delivery", delivery),
  group("offers", offers),
  group("back office", backoffice),
  group("accounts", accounts),

  { "that was every route", function()
    local missing = {}
    for _, route in ipairs(contract.routes()) do
      local name = route.method .. " " .. route.path
      if not tried[name] and not EXCUSED[name] then missing[#missing + 1] = name end
      if tried[name] and EXCUSED[name] then missing[#missing + 1] = name .. ", which is excused" end
    end
    check.equal(table.concat(missing, "\n"), "")
    check.truthy(statements > 500, "statements: " .. statements)
  end },

  { "a scan is found", function()
    local before = #found
    client.get("/api/v1/products/" .. PRODUCT)
    log:seek "end"
    client.shell(("psql -Xq '%s' -c \"SET app.user_role = 'staff'\" -c \"SELECT count(*) FROM orders WHERE notes = 'x'\"")
      :format(os.getenv "APP_DATABASE_URL"))
    look "a scan"
    check.truthy(#found > before, "nothing was found")
  end },
}
