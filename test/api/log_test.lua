-- The log: a line each, whatever clients send, and nothing in it that signs anybody in; passwords
-- and session tokens are kept nowhere.
-- serve: --workers 2
-- env: BCRYPT_COST=4
-- env: LOG_LEVEL=debug
-- env: LOG_FORMAT=json
-- env: OUTBOX_DRIVER=log

local cjson  = require "cjson"
local check  = require "check"
local client = require "client"

local AUTH <const> = "/api/v1/auth"
local BUN <const>  = "10000000-0000-0000-0000-000000000002"

local secrets = {}

--- Remembers what must not be in the log, and gives it back.
local function secret(text)
  secrets[#secrets + 1] = check.truthy(text, "a secret")
  return text
end

local function lines()
  local list = {}
  for line in io.lines(os.getenv "TEST_SERVER_LOG") do list[#list + 1] = line end
  return list
end

--- The lines of these requests' paths, once all are written.
local function requests(pattern, count)
  local found
  client.eventually(20, "the log's lines", function()
    found = {}
    for _, line in ipairs(lines()) do
      local ok, entry = pcall(cjson.decode, line)
      if ok and entry.event == "request" and entry.path:find(pattern) then found[#found + 1] = entry end
    end
    return #found >= count
  end)
  check.equal(#found, count, "lines of " .. pattern)
  return found
end

local function all_of_redis()
  local parts = {}
  for key in client.redis("KEYS", "*"):gmatch "%S+" do
    parts[#parts + 1] = key .. "\n" .. client.redis("GET", key) .. client.redis("SMEMBERS", key)
  end
  return table.concat(parts, "\n")
end

-- Messages as they were written: the worker may send one, and forget its tokens, at once.
client.sql [[
  CREATE TABLE letters (LIKE outbox);
  CREATE FUNCTION keep_letter() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS
    'BEGIN INSERT INTO public.letters SELECT NEW.*; RETURN NEW; END';
  CREATE TRIGGER keep_letter AFTER INSERT ON outbox FOR EACH ROW EXECUTE FUNCTION keep_letter()]]

local function payload(topic)
  return cjson.decode(client.sql("SELECT payload FROM letters WHERE topic = '" .. topic .. "' ORDER BY id DESC LIMIT 1"))
end

return {
  { "passwords and tokens, wherever they are sent, are not in it", function()
    local password, wrong, new = secret "Crumb-les!42", secret "Wrong*dough77", secret "Sour*dough77"
    local own = check.status(client.post(AUTH .. "/register", { body = {
      name = "Logged", email = "logged@test.example", password = password } }), 201).json().data
    secret(own.access_token)
    secret(own.refresh_token)
    check.status(client.get(AUTH .. "/me", { token = own.access_token }), 200)
    check.status(client.get(AUTH .. "/me", { headers = { Cookie = "omade_session=" .. own.access_token } }), 200)
    check.status(client.post(AUTH .. "/login", { body = { email = "logged@test.example", password = wrong } }), 401)
    check.status(client.post(AUTH .. "/login", { json = '{"password": "' .. wrong .. '",' }), 400)
    check.status(client.post(AUTH .. "/refresh", { body = { refresh_token = own.refresh_token } }), 200)
    check.status(client.post(AUTH .. "/forgot-password", { body = { email = "logged@test.example" } }), 200)
    local token = secret(payload "user.password_reset".token)
    check.status(client.get(AUTH .. "/reset-password?token=" .. token), 405)
    check.status(client.post(AUTH .. "/reset-password", { body = { token = token, password = new } }), 200)

    local order = check.status(client.post("/api/v1/orders", { body = {
      guest_name = "Gus", guest_email = "gus@test.example", items = { { product_id = BUN, quantity = 1 } } } }), 201).json().data
    secret(order.tracking_token)
    local track = "/api/v1/orders/track/" .. order.order_number
    check.status(client.get(track .. "?token=" .. order.tracking_token), 200)
    check.status(client.get(track, { headers = { ["X-Tracking-Token"] = order.tracking_token } }), 200)
    check.status(client.post("/api/v1/newsletter/subscribe", { body = { email = "logged@test.example" } }), 201)
    requests("/newsletter/subscribe", 1)
    client.eventually(60, "the outbox's lines", function()
      return client.sql "SELECT count(*) FROM outbox WHERE sent_at IS NULL" == "0"
    end)

    local log = table.concat(lines(), "\n")
    for _, text in ipairs(secrets) do check.truthy(not log:find(text, 1, true), "in the log: " .. text) end
    check.truthy(not log:find "%$2[aby]%$", "a hash in the log")

    local kept = client.shell("pg_dump --data-only '" .. os.getenv "DATABASE_URL" .. "'") .. all_of_redis()
    check.truthy(#kept > 10000 and kept:find("logged@test.example", 1, true), "what is kept")
    for i = 1, 5 do check.truthy(not kept:find(secrets[i], 1, true), "kept as it is: " .. secrets[i]) end
  end },

  { "what clients send begins no line, and every line is JSON", function()
    local paths = { "/evil/%0a%0dlevel=error", "/evil/%1b[2J", "/evil/%22%7d%5c", "/evil/%e2%80%a8%c2%85", "/evil/%7f" }
    for _, path in ipairs(paths) do check.status(client.get(path), 404) end
    local c = client.connect()
    c:send "GET /evil/\xff\xfe HTTP/1.1\r\nHost: a\r\n\r\n"
    c:read_all()
    c:close()
    check.status(client.get("/evil/agent", { headers = { ["User-Agent"] = "a\t\"b\" \\ \u{2028}" } }), 404)
    requests("^/evil/", #paths + 1)
    for _, line in ipairs(lines()) do
      local ok, entry = pcall(cjson.decode, line)
      check.truthy(ok and entry.level and entry.event, "a line that is no entry: " .. line)
      check.truthy(not line:find "[%c\x7f]", "control characters: " .. line)
    end
  end },
}
