-- Mail: each letter arrives at a real SMTP server, whole and harmless.
-- serve: --workers 1
-- port: SMTP_PORT
-- env: OUTBOX_DRIVER=smtp
-- env: SMTP_URL=smtp://127.0.0.1:@SMTP_PORT@
-- env: MAIL_FROM=shop@bakery.example
-- env: SHOP_NAME=Bäckerei "Süß"
-- env: PUBLIC_URL=https://shop.example/
-- env: OUTBOX_RETRY_SECONDS=0
-- env: BCRYPT_COST=4

local check  = require "check"
local client = require "client"

local CUPCAKES <const> = "10000000-0000-0000-0000-000000000002"
local MAILS <const> = os.getenv "TEST_WORK" .. "/mails"
local EVIL <const> = [[<script>alert("1")</script> & 'Ann']]

local staff = client.session("staff", client.sql "SELECT id FROM users WHERE role = 'staff' ORDER BY id LIMIT 1")
local admin = client.session("admin", client.sql "SELECT id FROM users WHERE role = 'admin' LIMIT 1")

local function value(sql, ...) return client.sql((sql:format(...))) end

---- The server and its mails --------------------------------------------------------------------------

local sink = client.shell(("/usr/bin/aiosmtpd -n -c aiosmtpd.handlers.Mailbox -l 127.0.0.1:%s '%s' >'%s.log' 2>&1 & echo $! | tee $TEST_WORK/sink.pid")
  :format(os.getenv "SMTP_PORT", MAILS, MAILS))

local function decode(text)
  return (text:gsub("=\r?\n", ""):gsub("=(%x%x)", function(code) return string.char(tonumber(code, 16)) end))
end

--- A mail as {raw, headers = {lower-case name = unfolded text}, text, html}.
local function read(path)
  local file = assert(io.open(path, "rb"))
  local raw = file:read("a"):gsub("\r\n", "\n")
  file:close()
  local head, body = raw:match "^(.-)\n\n(.*)$"
  local mail = { raw = raw, headers = {} }
  for name, content in head:gsub("\n[ \t]+", " "):gmatch "([^\n:]+): ([^\n]*)" do
    assert(not mail.headers[name:lower()], name .. " is there twice")
    mail.headers[name:lower()] = content
  end
  local boundary = mail.headers["content-type"]:match 'boundary="(.-)"'
  for kind, part in body:gmatch "Content%-Type: text/(%l+);[^\n]*\n[^\n]*\n\n(.-)\n%-%-=_" do
    mail[kind == "plain" and "text" or kind] = decode(part)
  end
  assert(body:find("--" .. boundary .. "--", 1, true), "it ends")
  for line in raw:gmatch "[^\n]+" do assert(#line <= 1000 and not line:find "[\128-\255]", "a line is long or no ASCII") end
  return mail
end

--- The next mail to an address; each is looked at once.
local seen = {}
local function mail_to(address, subject)
  return client.eventually(60, "a mail to " .. address, function()
    for path in client.shell("ls -1tr '" .. MAILS .. "'/new/* 2>/dev/null"):gmatch "[^\n]+" do
      if not seen[path] and path:find("^/") then
        local mail = read(path)
        if mail.headers["x-rcptto"] == address and (not subject or mail.headers.subject:find(subject)) then
          seen[path] = true
          return mail
        end
      end
    end
  end)
end

local function all_sent()
  client.eventually(60, "all is done", function()
    return value "SELECT count(*) FROM outbox WHERE sent_at IS NULL AND failed_at IS NULL" == "0"
  end)
end

local function insert(topic, payload)
  return value("INSERT INTO outbox (aggregate_id, topic, payload) VALUES (gen_random_uuid(), '%s', '%s') RETURNING id", topic, payload)
end

local function status(order, ...)
  for _, to in ipairs { ... } do
    check.status(client.patch("/api/v1/orders/" .. order.id .. "/status", { token = staff, body = { status = to } }), 200)
  end
end

client.eventually(60, "the mail server listens", function()
  return client.shell("printf 'QUIT\\r\\n' | timeout 2 bash -c 'exec 3<>/dev/tcp/127.0.0.1/'$SMTP_PORT'; head -c 3 <&3' 2>/dev/null") == "220"
end)

return {
  { "an order: confirmation, news, refund; escaped", function()
    value("UPDATE products SET name = '<b>Cup</b>cakes', stock = 100 WHERE id = '%s'", CUPCAKES)
    local order = check.status(client.post("/api/v1/orders", { body = { items = { { product_id = CUPCAKES, quantity = 2 } },
      guest_name = EVIL, guest_email = "greta@example.com", tip_amount = 1.5 } }), 201).json().data

    local mail = mail_to "greta@example.com"
    check.equal(mail.headers.subject, "Your order " .. order.order_number)
    check.equal(mail.headers.to, "<greta@example.com>")
    check.equal(mail.headers["x-mailfrom"], "shop@bakery.example")
    check.matches(mail.headers.from, "^=%?UTF%-8%?Q%?B=C3=A4ckerei.*%?= <shop@bakery%.example>$")
    check.matches(mail.headers.date, "^%u%l%l, %d+ %u%l%l %d%d%d%d %d%d:%d%d:%d%d %+0000$")
    check.matches(mail.headers["message-id"], "^<outbox%-%d+@bakery%.example>$")
    check.equal(mail.headers["list-unsubscribe"], "<mailto:shop@bakery.example?subject=unsubscribe>")
    check.truthy(mail.text:find(EVIL, 1, true), "the text is as it is")
    check.truthy(mail.text:find("2 x <b>Cup</b>cakes", 1, true), mail.text)
    check.truthy(mail.text:find("Bäckerei \"Süß\"", 1, true), "the shop's name")
    check.truthy(mail.text:find(("%.2f USD"):format(order.total_amount), 1, true), "the total")
    check.truthy(mail.html:find("&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt; &amp; &#39;Ann&#39;", 1, true), mail.html)
    check.truthy(mail.html:find("2 x &lt;b&gt;Cup&lt;/b&gt;cakes", 1, true), mail.html)
    check.truthy(not mail.html:find("<script", 1, true) and not mail.html:find("<b>", 1, true), "nothing of theirs is HTML")

    status(order, "confirmed")
    check.matches(mail_to("greta@example.com").headers.subject, "^Your order " .. order.order_number .. " has been confirmed$")
    status(order, "preparing", "ready")
    check.matches(mail_to("greta@example.com").headers.subject, "is ready$")
    status(order, "delivered")
    check.matches(mail_to("greta@example.com").headers.subject, "handed over$")
    check.status(client.post("/api/v1/orders/" .. order.id .. "/refund", { token = admin, body = { amount = 1.25 } }), 200)
    check.matches(mail_to("greta@example.com", "refund").text, "refunded 1%.25 USD for your order " .. order.order_number)
    all_sent()
    check.equal(value "SELECT count(*) FROM outbox WHERE failed_at IS NOT NULL", "0")
  end },

  { "a password's reset: the token works and stays nowhere", function()
    check.status(client.post("/api/v1/auth/forgot-password", { body = { email = "john@example.com" } }), 200)
    local mail = mail_to "john@example.com"
    check.matches(mail.headers.subject, "Reset")
    local token = mail.text:match "https://shop%.example/reset%-password%?token=(%w+)"
    check.truthy(token, mail.text)
    check.truthy(mail.html:find('href="https://shop.example/reset-password?token=' .. token .. '"', 1, true), mail.html)
    all_sent()
    check.equal(value "SELECT count(*) FROM outbox WHERE payload ? 'token'", "0")
    check.truthy(not io.open(os.getenv "TEST_SERVER_LOG"):read("a"):find(token, 1, true), "not in the log")
    check.status(client.post("/api/v1/auth/reset-password", { body = { token = token, password = "Another!2026x" } }), 200)
  end },

  { "invitations, new addresses, the newsletter with a way out", function()
    check.status(client.post("/api/v1/users", { token = admin, body = { email = "new@example.com", name = "New Rider", role = "rider" } }), 201)
    check.matches(mail_to("new@example.com").text, "Hello New Rider,.*https://shop%.example/reset%-password%?token=%w+")
    insert("user.email_change", '{"email": "other@example.com", "name": "Ann", "token": "abc123", "purpose": "change_email"}')
    check.matches(mail_to("other@example.com").text, "https://shop%.example/confirm%-email%?token=abc123")

    check.status(client.post("/api/v1/newsletter/subscribe", { body = { email = "reader@example.com" } }), 201)
    local mail = mail_to "reader@example.com"
    local path = mail.headers["list-unsubscribe"]:match "^<https://shop%.example(/[^>]+)>, <mailto:"
    check.truthy(path, mail.headers["list-unsubscribe"])
    check.equal(mail.headers["list-unsubscribe-post"], "List-Unsubscribe=One-Click")
    check.truthy(mail.text:find("https://shop.example" .. path, 1, true), mail.text)
    check.status(client.post(path, { body = "List-Unsubscribe=One-Click",
      headers = { ["Content-Type"] = "application/x-www-form-urlencoded" } }), 200)
    check.equal(value "SELECT unsubscribed_at IS NOT NULL FROM newsletter_subscribers WHERE email = 'reader@example.com'", "t")
  end },

  { "what has no letter, or nobody to get it, is done with", function()
    local before = client.shell("ls '" .. MAILS .. "/new' | wc -l")
    local ids = { insert("order.payment_changed", "{}"), insert("payment.review", "{}"), insert("order.created", "{}"),
                  insert("user.invited", "{}") }
    local phone = check.status(client.post("/api/v1/orders", { body = { items = { { product_id = CUPCAKES, quantity = 1 } },
      guest_name = "Greta", guest_phone = "+4915112345678" } }), 201).json().data
    all_sent()
    check.equal(value("SELECT count(*) FROM outbox WHERE id IN (%s) AND sent_at IS NOT NULL", table.concat(ids, ",")), "4")
    check.equal(value("SELECT sent_at IS NOT NULL FROM outbox WHERE aggregate_id = '%s'", phone.id), "t")
    check.equal(client.shell("ls '" .. MAILS .. "/new' | wc -l"), before)
  end },

  { "no header and no second mail is smuggled in", function()
    local id = insert("user.email_change", [[{"email": "a@example.com\r\nBcc: b@example.com", "name": "x", "token": "t"}]])
    local two = insert("user.email_change", [[{"email": "a@example.com,b@example.com", "name": "x", "token": "t"}]])
    local named = insert("user.email_change", [[{"email": "named@example.com", "name": "x\r\n.\r\nMAIL FROM:<e@e.example>\r\nBcc: b", "token": "t"}]])
    local mail = mail_to "named@example.com"
    check.equal(mail.headers.bcc, nil)
    check.matches(mail.text, "\n%.\n")
    local numbered = value [[INSERT INTO outbox (aggregate_id, topic, payload) SELECT id, 'order.status_changed',
      '{"to": "ready", "order_number": "1\r\nBcc: b@example.com"}' FROM orders WHERE guest_email = 'greta@example.com' RETURNING id]]
    mail = mail_to("greta@example.com", "^Your order 1 Bcc: b@example.com is ready$")
    check.equal(mail.headers.bcc, nil)
    all_sent()
    check.truthy(numbered)
    check.equal(value("SELECT count(*) FROM outbox WHERE id IN (%s, %s) AND failed_at IS NOT NULL", id, two), "2")
    check.equal(value("SELECT sent_at IS NOT NULL FROM outbox WHERE id = %s", named), "t")
  end },

  { "a letter without its token is not written; what was given up needs no retry", function()
    local id = insert("user.password_reset", '{"email": "late@example.com", "name": "x"}')
    all_sent()
    check.matches(value("SELECT attempts || ' ' || last_error FROM outbox WHERE id = %s", id), "^1 its token is gone")
  end },

  { "the server away: the letters wait", function()
    client.shell("kill " .. sink)
    local id = insert("user.invited", '{"email": "late@example.com", "name": "x", "token": "t"}')
    client.eventually(60, "it is given up", function() return value("SELECT failed_at IS NOT NULL FROM outbox WHERE id = %s", id) == "t" end)
    check.equal(value("SELECT attempts FROM outbox WHERE id = %s", id), "10")
    check.matches(value("SELECT last_error FROM outbox WHERE id = %s", id), "mail server is away")
  end },
}
