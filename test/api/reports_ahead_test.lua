-- A CSV is made at PostgreSQL's speed, whatever its client's: it waits in memory.
-- serve: --workers 1

local check  = require "check"
local client = require "client"

local CSV <const> = "/api/v1/reports/product-stats?format=csv"
local OPEN <const> = [[SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND usename = 'app_user'
  AND (state LIKE 'idle in%' OR query LIKE 'FETCH%' AND state <> 'idle')]]

local staff = client.session("staff", client.sql "SELECT id FROM users WHERE role = 'staff' ORDER BY id LIMIT 1")

return {
  { "a client that does not read holds no connection, and gets all of it later", function()
    -- More than the buffers of a connection hold.
    client.sql [[INSERT INTO products (name, category, price, stock) SELECT repeat('long ', 48) || n, repeat('c', 90), 1, 1
      FROM generate_series(1, 20000) n]]
    local c = client.connect()
    c:send(client.format("GET", CSV, { token = staff }))
    local head = c:read_until "\r\n\r\n"
    client.eventually(20, "it is made", function() return client.sql(OPEN) == "0" end)
    check.status(client.get("/api/v1/reports/daily-sales?format=csv", { token = staff }), 200)
    c.rest = head .. c.rest
    local body = check.status(c:answer "GET", 200).body
    local _, lines = body:gsub("\r\n", "")
    check.equal(lines, 1 + tonumber(client.sql "SELECT count(*) FROM products"))
    check.matches(body, "\r\n$")
  end },
}
