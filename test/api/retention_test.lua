-- What is kept long enough goes, and nothing else; who looks at people leaves traces.
-- serve: --workers 1
-- env: AUDIT_KEEP_DAYS=40
-- env: UNSUBSCRIBED_KEEP_DAYS=3
-- env: UPLOAD_KEEP_DAYS=4
-- env: OUTBOX_KEEP_DAYS=5
-- env: BCRYPT_COST=4

local check  = require "check"
local client = require "client"

local JOHN <const>, STAFF <const> = "00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000004"

local function forget() check.status(client.post "/test/forget", 200) end

local function picture(name, days)
  client.sql(("INSERT INTO uploads (name, content_type, size, created_at) VALUES ('%s', 'image/png', 1, now() - interval '%d days')")
    :format(name, days))
  client.shell(("mkdir -p \"$UPLOAD_DIR\" && touch \"$UPLOAD_DIR/%s\""):format(name))
end

local function files() return client.shell "ls \"$UPLOAD_DIR\"" end

--- Rows in which one of the words stands, as "table: row", and the keys of Redis.
local function traces_of(words)
  local rows = client.sql(([[
    CREATE FUNCTION pg_temp.rows_with(words text) RETURNS SETOF text LANGUAGE plpgsql AS $$
    DECLARE relation text;
    BEGIN
      FOR relation IN SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' ORDER BY 1 LOOP
        RETURN QUERY EXECUTE format('SELECT %%L || left(x::text, 500) FROM %%I x WHERE x::text ~* $1', relation || ': ', relation) USING words;
      END LOOP;
    END $$;
    SELECT pg_temp.rows_with('%s')]]):format(words))
  local keys = {}
  for key in client.redis("--scan"):gmatch "[^\n]+" do
    local kind = client.redis("TYPE", key)
    local value = kind == "string" and client.redis("GET", key) or kind == "set" and client.redis("SMEMBERS", key) or ""
    for word in words:gmatch "[^|]+" do
      if (key .. value):lower():find(word, 1, true) then keys[#keys + 1] = key break end
    end
  end
  return rows, table.concat(keys, "\n")
end

return {
  { "traces, addresses and pictures, by their age", function()
    client.sql [[
      INSERT INTO audit_log (at, actor_role, action, entity) VALUES (now() - interval '41 days', 'admin', 'old', 'r'),
        (now() - interval '39 days', 'admin', 'young', 'r');
      INSERT INTO newsletter_subscribers (email, unsubscribed_at) VALUES ('gone@example.com', now() - interval '4 days'),
        ('leaving@example.com', now() - interval '2 days'), ('here@example.com', NULL)]]
    local old, young, shown = ("a"):rep(32) .. ".png", ("b"):rep(32) .. ".png", ("c"):rep(32) .. ".png"
    picture(old, 5)
    picture(young, 3)
    picture(shown, 5)
    client.sql(("UPDATE products SET image_url = '/uploads/%s' WHERE id = (SELECT min(id::text)::uuid FROM products)"):format(shown))

    for _ = 1, 2 do
      forget()
      check.equal(client.sql "SELECT action FROM audit_log WHERE entity = 'r'", "young")
      check.equal(client.sql "SELECT string_agg(email, ' ' ORDER BY email) FROM newsletter_subscribers WHERE email ~ '^(gone|leaving|here)@'",
                  "here@example.com leaving@example.com")
      check.equal(files(), young .. "\n" .. shown)
      check.equal(client.sql "SELECT string_agg(name, E'\\n' ORDER BY name) FROM uploads", young .. "\n" .. shown)
    end
  end },

  { "answers, links and messages, by their age; what waits stays", function()
    client.sql(([[
      INSERT INTO idempotency_keys (scope, key, request_hash, status, body, expires_at) VALUES
        ('s', 'over', repeat('a', 64), 200, '', now() - interval '1 second'), ('s', 'kept', repeat('a', 64), 200, '', now() + interval '1 minute');
      INSERT INTO password_resets (user_id, purpose, token_sha256, created_at, expires_at) VALUES
        ('%s', 'reset_password', repeat('a', 64), now() - interval '3 days', now() - interval '25 hours'),
        ('%s', 'reset_password', repeat('b', 64), now() - interval '2 days', now() - interval '23 hours');
      INSERT INTO outbox (topic, aggregate_id, created_at, sent_at, failed_at, available_at)
        SELECT topic, gen_random_uuid(), now() - interval '9 days', sent, failed, now() + interval '1 day' FROM (VALUES
          ('t.sent.old', now() - interval '121 hours', NULL), ('t.sent', now() - interval '119 hours', NULL),
          ('t.failed.old', NULL, now() - interval '121 hours'), ('t.failed', NULL, now() - interval '119 hours'),
          ('t.waiting', NULL::timestamptz, NULL::timestamptz)) AS v (topic, sent, failed)]]):format(JOHN, JOHN))
    for _ = 1, 2 do
      forget()
      check.equal(client.sql "SELECT key FROM idempotency_keys WHERE scope = 's'", "kept")
      check.equal(client.sql "SELECT left(token_sha256, 1) FROM password_resets WHERE token_sha256 ~ '^(aaaa|bbbb)'", "b")
      check.equal(client.sql "SELECT string_agg(topic, ' ' ORDER BY topic) FROM outbox WHERE topic LIKE 't.%'", "t.failed t.sent t.waiting")
    end
  end },

  { "of who leaves, nothing is left but what privacy.md says", function()
    local PASSWORD <const> = "Quite-Long-1"
    local own = check.status(client.post("/api/v1/auth/register", { body = { name = "Zebedee Quux", email = "zeb@quux.example",
      password = PASSWORD, phone = "+4915100009999" } }), 201).json().data
    local token, id = own.access_token, own.user.id
    local staff, admin = client.session("staff", STAFF), client.session "admin"
    check.status(client.post("/api/v1/newsletter/subscribe", { body = { email = "zeb@quux.example" } }), 201)
    check.status(client.post("/api/v1/auth/forgot-password", { body = { email = "zeb@quux.example" } }), 200)
    check.status(client.post("/api/v1/auth/me/email", { token = token, body = { email = "other@quux.example", password = PASSWORD } }), 200)
    local slot = client.sql [[INSERT INTO delivery_schedules (delivery_date, delivery_time, capacity)
      VALUES (current_date + 200, '09:00-11:00', 5) RETURNING id]]
    local date = client.sql "SELECT current_date + 200"
    local order = check.status(client.post("/api/v1/orders", { token = token, headers = { ["Idempotency-Key"] = "quux" }, body = {
      fulfilment = "delivery", delivery_schedule_id = slot, notes = "ask for Quux",
      address = { line1 = "7 Quux Alley", city = "Baketown", postal_code = "12345" },
      items = { { product_id = "10000000-0000-0000-0000-000000000001", quantity = 1, custom_cake = { flavor = "vanilla", size = "small_6", frosting = "buttercream",
        message = "Happy Quux", instructions = "for Quux", requested_date = date } } } } }), 201).json().data
    check.status(client.patch("/api/v1/orders/" .. order.id .. "/status", { token = staff,
      body = { status = "confirmed", notes = "Quux called" } }), 200)
    check.status(client.post("/api/v1/loyalty/adjust", { token = admin, body = { user_id = id, points = 5, reason = "birthday" } }), 200)
    client.sql("UPDATE loyalty_ledger SET note = 'Mr Quux' WHERE user_id = '" .. id .. "'")
    check.status(client.patch("/api/v1/auth/me", { token = token, body = { name = "Zebedee Quux II" } }), 200)
    local product = client.sql "SELECT id FROM products WHERE archived_at IS NULL AND stock > 0 ORDER BY id LIMIT 1"
    check.status(client.post("/api/v1/cart/items", { token = token, body = { product_id = product, quantity = 1 } }), 200)
    check.equal(#check.status(client.get("/api/v1/auth/me/export", { token = token }), 200).json().data.orders, 1)
    local rows = traces_of "quux|15100009999"
    for _, relation in ipairs { "users", "orders", "custom_cake_configurations", "outbox", "newsletter_subscribers",
                                "loyalty_ledger", "order_status_history", "password_resets" } do
      check.truthy(("\n" .. rows):find("\n" .. relation .. ": ", 1, true), relation .. " had something: " .. rows)
    end

    check.status(client.delete("/api/v1/auth/me", { token = token, body = { password = PASSWORD } }), 200)
    client.sql "DELETE FROM idempotency_keys"                                  -- a day later
    client.sql "UPDATE audit_log SET changes = changes - 'notes'"             -- what staff typed, until its time is over
    local keys
    rows, keys = traces_of "quux|15100009999"
    check.equal(rows, "")
    check.equal(keys, "")
    keys = select(2, traces_of(id))
    for key in keys:gmatch "[^\n]+" do
      check.truthy(key:find "^rate_limit:" or key:find "^refresh:", key)       -- an id without a person
    end
    check.equal(client.sql("SELECT count(*) FROM orders WHERE user_id = '" .. id .. "'"), "1")
  end },

  { "who looked at whom, and searched for what", function()
    local staff = client.session("staff", STAFF)
    local function traces()
      return client.sql [[SELECT concat_ws(' ', actor_role, actor_id, action, entity_id, changes->>'search', changes->>'format')
        FROM audit_log WHERE action LIKE 'customer.%' ORDER BY id DESC LIMIT 1]]
    end
    check.status(client.get("/api/v1/customers/" .. JOHN, { token = staff }), 200)
    check.equal(traces(), ("staff %s customer.view %s"):format(STAFF, JOHN))
    check.status(client.get("/api/v1/customers?search=john", { token = staff }), 200)
    check.equal(traces(), ("staff %s customer.list john"):format(STAFF))
    check.status(client.get("/api/v1/reports/customers?format=csv", { token = staff }), 200)
    check.equal(traces(), ("staff %s customer.report csv"):format(STAFF))
    local function last()
      return client.sql "SELECT concat_ws(' ', actor_role, action, entity_id, changes) FROM audit_log ORDER BY id DESC LIMIT 1"
    end
    local order = client.sql("SELECT id FROM orders WHERE user_id = '" .. JOHN .. "' ORDER BY id LIMIT 1")
    check.status(client.get("/api/v1/orders/" .. order, { token = staff }), 200)
    check.equal(last(), "staff order.view " .. order)
    local before = last()
    check.status(client.get("/api/v1/orders/" .. order, { token = client.session("customer", JOHN) }), 200)
    check.equal(last(), before)
    check.status(client.get("/api/v1/orders/all?customer=john", { token = staff }), 200)
    check.matches(last(), '^staff order.list .*"customer": "john"')
    local admin = client.session "admin"
    check.status(client.get("/api/v1/users?search=john&role=customer", { token = admin }), 200)
    check.matches(last(), '^admin user.list .*"search": "john"')
    check.status(client.get("/api/v1/admin/outbox", { token = admin }), 200)
    check.matches(last(), "^admin outbox.list ")
    local count = client.sql "SELECT count(*) FROM audit_log"
    check.status(client.get("/api/v1/customers/99999999-0000-0000-0000-000000000001", { token = staff }), 404)
    check.equal(client.sql "SELECT count(*) FROM audit_log", count)
  end },
}
