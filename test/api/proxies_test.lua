-- Behind a proxy of TRUSTED_PROXIES: its word is whose address counts, and by which scheme.
-- serve: --workers 1
-- env: TRUSTED_PROXIES=127.0.0.1, 10.0.0.0/8
-- env: RATE_LIMITS=on

local check  = require "check"
local client = require "client"

local function register(forwarded)
  return client.post("/api/v1/auth/register", { json = "{}", headers = { ["X-Forwarded-For"] = forwarded } })
end

local function logged(id)
  return client.eventually(5, "a line of the log", function()
    local file = assert(io.open(os.getenv "TEST_SERVER_LOG"))
    local text = file:read "a"
    file:close()
    return text:match("request=" .. id .. " ip=(%S+)")
  end)
end

return {
  { "who is limited is the client, not the proxy, and nobody whom the client made up", function()
    for _ = 1, 20 do check.status(register "203.0.113.1", 400) end
    check.status(register "203.0.113.1", 429, "RATE_LIMITED")
    check.status(register "198.51.100.77, 203.0.113.1", 429)
    check.status(register "10.0.0.1, 203.0.113.1, 10.2.3.4", 429)
    check.status(register "203.0.113.2", 400)
    check.status(register "2001:db8::1", 400)
  end },

  { "the log has the client's address", function()
    check.equal(logged(register("203.0.113.3").headers["x-request-id"]), "203.0.113.3")
    check.equal(logged(register("garbage").headers["x-request-id"]), "127.0.0.1")
  end },

  { "by https, a page by http is another origin", function()
    local own = "127.0.0.1:" .. client.port
    local token = client.session("customer", client.sql "SELECT id FROM users WHERE role = 'customer' LIMIT 1")
    local function change(origin, proto)
      return client.patch("/api/v1/auth/me", { json = '{"name":"Somebody"}', headers = {
        Cookie = "omade_session=" .. token, Origin = origin, ["X-Forwarded-Proto"] = proto } })
    end
    check.status(change("https://" .. own, "https"), 200)
    check.status(change("http://" .. own, "https"), 403, "FORBIDDEN")
    check.status(change("http://" .. own, "http"), 200)
    check.status(change("https://" .. own, nil), 200)
  end },

  { "a wrong list stops the start and names the entry", function()
    local out, ok = client.shell('TRUSTED_PROXIES="10.0.0.0/8, proxy.example" "$(readlink -f /proc/$TEST_SERVER_PID/exe)" config')
    check.truthy(not ok, "config")
    check.matches(out, "TRUSTED_PROXIES: 'proxy%.example' is neither an address nor a range")
  end },
}
