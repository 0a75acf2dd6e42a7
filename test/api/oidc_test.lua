-- A provider's keys by URL: fetched when one is unknown, kept when the provider is away.
-- serve: --workers 1
-- before: social/keys.sh

local check    = require "check"
local client   = require "client"
local id_token = require "id_token"

local WORK <const> = os.getenv "TEST_WORK"

local function move(from, to) assert(os.rename(WORK .. "/" .. from, WORK .. "/" .. to)) end

local function verify(options)
  options.claims = { sub = "one" }
  return client.post("/verify", { body = { token = id_token.make(options) } })
end

local function accepted(options) check.equal(check.status(verify(options), 200).json().data.sub, "one") end

local function refused(options, why) check.equal(check.status(verify(options), 200).json().data.why, why) end

local function asked()
  local ok, bytes = pcall(id_token.read, "asked")
  return ok and #bytes or 0
end

local OLD <const> = { kid = "a1" }
local NEW <const> = { alg = "ES256", key = "ec2.pem", kid = "a2" }

return {
  { "no keys yet, and the provider is away: 503, then as soon as it is back", function()
    move("apple.json", "away.json")
    check.status(verify(OLD), 503, "UNAVAILABLE")
    move("away.json", "apple.json")
    accepted(OLD)
  end },

  { "a known key asks nobody", function()
    local before = asked()
    for _ = 1, 5 do accepted(OLD) end
    check.equal(asked(), before)
  end },

  { "a malformed token asks nobody", function()
    local before = asked()
    check.equal(client.post("/verify", { body = { token = "a.b.c" } }).json().data.why, "algorithm")
    check.equal(asked(), before)
  end },

  { "an unknown key is fetched, the others stay", function()
    refused(NEW, "unknown key")
    move("apple.json", "old.json")
    move("apple_later.json", "apple.json")
    accepted(NEW)
    accepted(OLD)
  end },

  { "what is no key set, or no answer, leaves the keys as they were", function()
    move("apple.json", "good.json")
    for _, text in ipairs { "", "<html>", "[]", '{"keys":{}}', '{"keys":"x"}' } do
      local file = assert(io.open(WORK .. "/apple.json", "w"))
      file:write(text)
      file:close()
      refused({ kid = "nobody" }, "unknown key")
      accepted(OLD)
    end
    os.remove(WORK .. "/apple.json")
    refused({ kid = "nobody" }, "unknown key")
    accepted(NEW)
  end },

  { "a set with keys that are none refuses them one by one; a withdrawn one is unknown", function()
    local file = assert(io.open(WORK .. "/apple.json", "w"))
    file:write('{"keys":[1,null,{"kid":"k"},{"kty":"RSA","kid":"k1"},{"kty":"RSA","kid":"k2","n":"AQAB","e":"AQAB"},'
               .. '{"kty":"EC","kid":"k3","crv":"P-256","x":"AAAA","y":"AAAA"},'
               .. '{"kty":"EC","kid":"k4","crv":"P-256","x":"' .. ("A"):rep(43) .. '","y":"' .. ("A"):rep(43) .. '"},'
               .. '{"kty":"RSA","kid":"k5","n":"' .. ("A"):rep(342) .. '","e":"AA"},'
               .. '{"kty":"oct","kid":"k6","k":"AQAB"},{"kty":"RSA","kid":"k7","n":5,"e":{}}]}')
    file:close()
    refused({ kid = "k1" }, "signature")
    for i = 2, 7 do
      refused({ kid = "k" .. i }, "signature")
      refused({ alg = "ES256", kid = "k" .. i }, "signature")
    end
    refused(OLD, "unknown key")
  end },
}
