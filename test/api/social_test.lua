-- Sign-in with a provider's id token, with keys made here: RS256 and ES256, and nothing else.
-- serve: --workers 2
-- before: social/keys.sh
-- env: BCRYPT_COST=4
-- env: GOOGLE_CLIENT_ID=shop-web, shop-ios
-- env: GOOGLE_ISSUER=https://issuer.test
-- env: APPLE_CLIENT_ID=shop-apple

local check  = require "check"
local cjson  = require "cjson"
local client = require "client"
local make   = require "id_token"

local AUTH <const> = "/api/v1/auth"
local GOOD <const> = "Crumb-les!42"
local WORK <const> = os.getenv "TEST_WORK"

---- Tokens -----------------------------------------------------------------------------------

--- A token; `without` takes some of the usual claims away.
local function token(options)
  options = options or {}
  local claims = { sub = "sub-1", aud = "shop-web", email = "social@test.example", email_verified = true,
                   name = "Social Person" }
  for name, value in pairs(options.claims or {}) do claims[name] = value end
  options.claims = claims
  return make.make(options)
end

local function social(id_token, more)
  local body = { provider = "google", id_token = id_token }
  for name, value in pairs(more or {}) do body[name] = value end
  return client.post(AUTH .. "/social", { body = body })
end

local function refused(id_token, more) check.status(social(id_token, more), 401, "INVALID_CREDENTIALS") end

local function accepted(id_token, more)
  local answer = social(id_token, more)
  if answer.status ~= 200 then check.status(answer, 201) end
  return answer.json().data, answer.status
end

local function count(what) return client.sql("SELECT count(*) FROM " .. what) end

local number = 0

--- Claims of somebody new.
local function somebody(more)
  number = number + 1
  local claims = { sub = "person-" .. number, email = ("social%d@test.example"):format(number) }
  for name, value in pairs(more or {}) do claims[name] = value end
  return claims
end

---- Tests ------------------------------------------------------------------------------------

return {
  { "a good RS256 token makes an account, and then signs in", function()
    local data, status = accepted(token { claims = { picture = "https://cdn.test/me.png" } })
    check.equal(status, 201)
    check.equal(data.is_new_user, true)
    check.same({ data.user.name, data.user.email, data.user.social_provider, data.user.role, data.user.avatar_url },
               { "Social Person", "social@test.example", "google", "customer", "https://cdn.test/me.png" })
    check.equal(data.expires_in, 2592000)
    check.equal(client.get(AUTH .. "/me", { token = data.access_token }).json().data.id, data.user.id)
    check.equal(count("loyalty_points WHERE user_id = '" .. data.user.id .. "'"), "1")
    local again
    again, status = accepted(token())
    check.equal(status, 200)
    check.same({ again.is_new_user, again.user.id }, { false, data.user.id })
    check.status(client.post(AUTH .. "/refresh", { body = { refresh_token = again.refresh_token } }), 200)
    check.status(client.post(AUTH .. "/login", { body = { email = "social@test.example", password = GOOD } }), 401)
  end },

  { "a good ES256 token, and the other client id", function()
    local data = accepted(token { alg = "ES256", claims = somebody { aud = "shop-ios" } })
    check.equal(data.is_new_user, true)
    check.equal(accepted(token { alg = "ES256", claims = { sub = "person-1" } }).user.id, data.user.id)
    for _ = 1, 8 do accepted(token { alg = "ES256", claims = somebody() }) end     -- numbers of any length
  end },

  { "it is matched by its subject, whatever the address says later", function()
    local claims = somebody()
    local data = accepted(token { claims = claims })
    claims.email = "changed@test.example"
    local again = accepted(token { claims = claims })
    check.same({ again.user.id, again.user.email, again.is_new_user }, { data.user.id, data.user.email, false })
    local other = accepted(token { claims = { sub = "somebody-else", email = "changed@test.example" } })
    check.truthy(other.user.id ~= data.user.id, "another")
    check.equal(accepted(token { claims = claims, without = { "email", "email_verified", "name" } }).user.id, data.user.id)
  end },

  { "tokens that do not count", function()
    local before = count "users"
    for what, id_token in pairs {
      ["wrong audience"] = token { claims = somebody { aud = "another-shop" } },
      ["another provider's audience"] = token { claims = somebody { aud = "shop-apple" } },
      ["several audiences, made for another"] = token { claims = somebody { aud = { "shop-web", "x" }, azp = "x" } },
      ["several audiences, made for nobody"] = token { claims = somebody { aud = { "shop-web", "x" } } },
      ["no audience"] = token { claims = somebody(), without = { "aud" } },
      ["wrong issuer"] = token { claims = somebody { iss = "https://evil.test" } },
      ["no issuer"] = token { claims = somebody(), without = { "iss" } },
      ["wrong key"] = token { claims = somebody(), key = "rsa2.pem" },
      ["wrong EC key"] = token { alg = "ES256", claims = somebody(), key = "ec2.pem" },
      ["a key of 1,024 bits"] = token { claims = somebody(), key = "small.pem", kid = "small" },
      ["expired"] = token { claims = somebody { exp = os.time() - 1 } },
      ["no expiry"] = token { claims = somebody(), without = { "exp" } },
      ["expiry as text"] = token { claims = somebody { exp = tostring(os.time() + 600) } },
      ["not yet"] = token { claims = somebody { nbf = os.time() + 600 } },
      ["of the future"] = token { claims = somebody { iat = os.time() + 6000 } },
      ["alg none"] = token { alg = "none", claims = somebody() },
      ["alg none with a signature"] = token { alg = "none", claims = somebody(), signature = "AAAA" },
      ["alg nOnE"] = token { claims = somebody(), header = { alg = "nOnE" } },
      ["HS256 with the public key"] = token { alg = "HS256", claims = somebody(), key = "rsa.pub" },
      ["RS256 said to be ES256"] = token { claims = somebody(), header = { alg = "ES256" } },
      ["ES256 under the RSA key's name"] = token { alg = "ES256", claims = somebody(), kid = "r1" },
      ["ES256 in DER"] = token { alg = "ES256", claims = somebody(), der = true },
      ["unknown key id"] = token { claims = somebody(), kid = "nobody" },
      ["no key id"] = token { claims = somebody(), header = { kid = 7 } },
      ["critical extensions"] = token { claims = somebody(), header = { crit = { "b64" } } },
      ["no subject"] = token { claims = somebody(), without = { "sub" } },
      ["empty subject"] = token { claims = somebody { sub = "" } },
      ["a subject that is a number"] = token { claims = somebody { sub = 12 } },
      ["no token"] = "x", ["two parts"] = "e30.e30", ["four parts"] = token { claims = somebody() } .. ".AAAA",
      ["no JSON"] = "AAAA.AAAA.AAAA", ["padding"] = token { claims = somebody() } .. "=",
    } do
      local answer = social(id_token)
      if answer.status ~= 401 then error(what .. ": " .. answer.status .. " " .. answer.body) end
      check.status(answer, 401, "INVALID_CREDENTIALS")
    end
    check.equal(count "users", before)
    check.equal(count "user_identities WHERE subject = ''", "0")
  end },

  { "a token that was changed anywhere does not count", function()
    local good = token { claims = somebody() }
    for at = 1, #good, 37 do
      local char = good:sub(at, at)
      if char ~= "." then
        refused(good:sub(1, at - 1) .. (char == "A" and "B" or "A") .. good:sub(at + 1))
      end
    end
    accepted(good)
  end },

  { "a nonce that is sent must be the token's", function()
    local claims = somebody { nonce = "n-1" }
    refused(token { claims = claims }, { nonce = "n-2" })
    refused(token { claims = claims, without = { "nonce" } }, { nonce = "n-1" })
    accepted(token { claims = claims }, { nonce = "n-1" })
  end },

  { "an address that belongs to somebody with a password is not taken over", function()
    local email = "owner@test.example"
    check.status(client.post(AUTH .. "/register", { body = { name = "Owner", email = email, password = GOOD } }), 201)
    check.status(social(token { claims = somebody { email = email } }), 409, "EMAIL_TAKEN")
    check.status(social(token { claims = somebody { email = email:upper() } }), 409, "EMAIL_TAKEN")
    check.equal(count("user_identities i JOIN users u ON u.id = i.user_id WHERE u.email = '" .. email .. "'"), "0")
  end },

  { "without a password it is linked, if the provider vouches for the address", function()
    client.sql "INSERT INTO users (name, email, role, invited_at) VALUES ('Invited', 'link@test.example', 'staff', now())"
    local claims = somebody { email = "link@test.example" }
    for _, verified in ipairs { false, "false", 1 } do
      claims.email_verified = verified
      check.status(social(token { claims = claims }), 409, "EMAIL_TAKEN")
    end
    check.status(social(token { claims = claims, without = { "email_verified" } }), 409, "EMAIL_TAKEN")
    claims.email_verified = true
    local data, status = accepted(token { claims = claims })
    check.equal(status, 200)
    check.same({ data.is_new_user, data.user.role, data.user.email }, { false, "staff", "link@test.example" })
    claims.email_verified = false
    check.equal(accepted(token { claims = claims }).user.id, data.user.id)
  end },

  { "whoever came first with an address he does not own gets nothing of its owner", function()
    local email = "victim@test.example"
    local thief = accepted(token { claims = somebody { email = email, email_verified = false } })
    check.status(social(token { claims = somebody { email = email } }), 409, "EMAIL_TAKEN")
    check.status(client.post(AUTH .. "/forgot-password", { body = { email = email } }), 200)
    local mail = cjson.decode(client.sql("SELECT payload FROM outbox WHERE aggregate_id = '" .. thief.user.id .. "'"))
    check.status(client.post(AUTH .. "/reset-password", { body = { token = mail.token, password = GOOD } }), 200)
    check.status(client.get(AUTH .. "/me", { token = thief.access_token }), 401)
    check.equal(count("user_identities WHERE user_id = '" .. thief.user.id .. "'"), "0")
  end },

  { "a new account needs an address", function()
    local body = check.status(social(token { claims = somebody(), without = { "email" } }), 400, "VALIDATION_ERROR").json()
    check.truthy(body.fields.id_token, "the field")
    check.status(social(token { claims = somebody { email = "no address" } }), 400)
    check.status(social(token { claims = somebody { email = "\xc3\x89@test.example" } }), 400)
    check.equal(accepted(token { claims = somebody { name = ("x"):rep(300) } }).user.name, ("social%d"):format(number))
  end },

  { "ten first sign-ins at once make one account", function()
    local id_token, all, ids = token { claims = somebody() }, {}, {}
    for i = 1, 10 do all[i] = client.connect() end
    for i = 1, 10 do
      all[i]:send(client.format("POST", AUTH .. "/social", { body = { provider = "google", id_token = id_token } }))
    end
    local new = 0
    for i = 1, 10 do
      local answer = all[i]:answer "POST"
      if answer.status == 201 then new = new + 1 else check.status(answer, 200) end
      ids[answer.json().data.user.id] = true
      all[i]:close()
    end
    check.equal(new, 1)
    check.truthy(next(ids, next(ids)) == nil, "one account")
  end },

  { "with `cookie` the tokens stay out of the body", function()
    local answer = check.status(social(token(), { cookie = true }), 200)
    check.matches(answer.headers["set-cookie"], "^omade_session=%x+;")
    check.truthy(not answer.body:find "_token", "no token")
  end },

  { "a deleted account does not come back", function()
    local claims = somebody()
    local data = accepted(token { claims = claims })
    check.status(client.delete(AUTH .. "/me", { token = data.access_token, json = "{}" }), 200)
    local again = accepted(token { claims = claims })
    check.truthy(again.is_new_user and again.user.id ~= data.user.id, "another account")
  end },

  { "a provider that is not set up", function()
    check.status(social(token(), { provider = "facebook" }), 503, "PROVIDER_NOT_CONFIGURED")
    check.status(social(token(), { provider = "myspace" }), 400, "VALIDATION_ERROR")
  end },

  { "keys by URL are kept; an unknown one is asked for once a minute", function()
    local function apple(options)
      options.claims = somebody { iss = "https://appleid.apple.com", aud = "shop-apple", email_verified = "true" }
      return social(token(options), { provider = "apple" })
    end
    local function asked() return #make.read "asked" end

    client.eventually(60, "both workers have asked", function()
      check.status(apple { kid = "a1" }, 201)
      return asked() == 2
    end)
    for _ = 1, 12 do check.status(apple { kid = "a1" }, 201) end
    check.equal(asked(), 2, "once a worker")
    os.rename(WORK .. "/apple_later.json", WORK .. "/apple.json")
    for _ = 1, 12 do check.status(apple { alg = "ES256", key = "ec2.pem", kid = "a2" }, 401) end
    check.equal(asked(), 2, "not yet again")
    check.status(apple { kid = "a1" }, 201)
  end },
}
