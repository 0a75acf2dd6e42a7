-- What is kept long enough goes, and nothing else; who looks at people leaves traces.
-- serve: --workers 1
-- env: AUDIT_KEEP_DAYS=40
-- env: UNSUBSCRIBED_KEEP_DAYS=3
-- env: UPLOAD_KEEP_DAYS=4

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
    local count = client.sql "SELECT count(*) FROM audit_log"
    check.status(client.get("/api/v1/customers/99999999-0000-0000-0000-000000000001", { token = staff }), 404)
    check.equal(client.sql "SELECT count(*) FROM audit_log", count)
  end },
}
