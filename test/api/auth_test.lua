-- Accounts: sign-in and out, passwords, one's own account; sessions over two workers.
-- serve: --workers 2
-- env: BCRYPT_COST=4
-- redis: own

local check  = require "check"
local cjson  = require "cjson"
local client = require "client"
local redis  = require "own_redis"

local AUTH <const> = "/api/v1/auth"
local GOOD <const> = "Crumb-les!42"
local OTHER <const> = "Sour*dough77"

local number = 0

---- Helpers --------------------------------------------------------------------------------

local function new_email()
  number = number + 1
  return ("person%d@test.example"):format(number)
end

local function post(path, body, token, options)
  options = options or {}
  return client.post(AUTH .. path, { body = body, token = token, on = options.on, headers = options.headers })
end

--- A new customer: {user, access_token, refresh_token, email}.
local function person(more)
  local body = { name = "Person", email = new_email(), password = GOOD }
  for name, value in pairs(more or {}) do body[name] = value end
  local data = check.status(post("/register", body), 201).json().data
  data.email = body.email
  return data
end

local function login(email, password)
  return post("/login", { email = email, password = password or GOOD })
end

local function sign_in(email, password)
  return check.status(login(email, password), 200).json().data
end

--- Every worker has answered so: enough connections for two of them.
local function everywhere(token, status)
  for _ = 1, 12 do check.status(client.get(AUTH .. "/me", { token = token }), status) end
end

--- The newest token in the outbox for somebody.
local function mailed(user_id, topic)
  local text = client.sql(("SELECT payload FROM outbox WHERE aggregate_id = '%s' AND topic = '%s' ORDER BY id DESC LIMIT 1")
                          :format(user_id, topic))
  return text ~= "" and cjson.decode(text) or nil
end

local function refused(answer, ...)
  local body = check.status(answer, 400, "VALIDATION_ERROR").json()
  for _, field in ipairs { ... } do
    check.truthy(body.fields[field], field .. " in " .. answer.body)
  end
end

redis.start()
client.all_healthy()

---- Tests ----------------------------------------------------------------------------------

return {
  { "register: an account, a session, points, and no hash anywhere", function()
    local answer = check.status(post("/register", {
      name = "  Ann Baker ", email = "Ann.Baker@Test.Example", password = GOOD, phone = "+4915112345678",
      role = "admin", id = "00000000-0000-0000-0000-0000000000aa", session_epoch = 7 }), 201)
    local body = answer.json()
    check.equal(body.message, "User registered successfully")
    local data = body.data
    check.equal(data.expires_in, 2592000)
    check.matches(data.access_token, "^%x+$")
    check.equal(#data.access_token, 64)
    check.equal(#data.refresh_token, 64)
    local user = data.user
    check.same({ user.name, user.email, user.role, user.phone, user.avatar_url, user.social_provider },
               { "Ann Baker", "ann.baker@test.example", "customer", "+4915112345678", cjson.null, cjson.null })
    check.matches(user.created_at, "^%d+%-%d%d%-%d%dT%d%d:%d%d:%d%d%.%d%d%dZ$")
    check.truthy(user.updated_at and user.id ~= "00000000-0000-0000-0000-0000000000aa", "id")
    check.truthy(not answer.body:find "hash" and not answer.body:find "%$2b", "no hash")
    check.equal(client.sql("SELECT points FROM loyalty_points WHERE user_id = '" .. user.id .. "'"), "0")
    check.matches(client.sql("SELECT password_hash FROM users WHERE id = '" .. user.id .. "'"), "^%$2b%$04%$")
    check.same(client.get(AUTH .. "/me", { token = data.access_token }).json().data, user)
    check.equal(client.redis("EXISTS", "session:" .. data.access_token), "0", "the token itself is not kept")
  end },

  { "register: an address and a phone number belong to one", function()
    local one = person { phone = "+4915112340000" }
    local body = check.status(post("/register", { name = "Two", email = one.email:upper(), password = GOOD,
                                                  phone = "+4915112340000" }), 409, "EMAIL_TAKEN").json()
    check.equal(body.error, "Email already registered")
    body = check.status(post("/register", { name = "Two", email = new_email(), password = GOOD,
                                            phone = "+4915112340000" }), 409, "PHONE_TAKEN").json()
    check.equal(body.error, "Phone number already registered")
  end },

  { "register: 20 at once with one address make one account", function()
    local email, requests, good = new_email(), {}, 0
    for i = 1, 20 do
      requests[i] = { "POST", AUTH .. "/register", { body = { name = "Race", email = email, password = GOOD } } }
    end
    for _, answer in ipairs(client.parallel(requests)) do
      if answer.status == 201 then good = good + 1 else check.status(answer, 409, "EMAIL_TAKEN") end
    end
    check.equal(good, 1)
    check.equal(client.sql("SELECT count(*) FROM users WHERE email = '" .. email .. "'"), "1")
  end },

  { "bad inputs name their fields, all at once", function()
    refused(post("/register", {}), "name", "email", "password")
    refused(post("/register", { name = "x", email = "no", password = "short", phone = "123", cookie = "yes" }),
            "name", "email", "password", "phone", "cookie")
    local long = ("a"):rep(10000)
    for _, value in ipairs { 12, true, cjson.empty_array or { "x" }, { a = 1 }, long, "a\0b", "a\xffb" } do
      if type(value) == "string" and value:find "\xff" then       -- refused by the JSON itself
        check.status(client.post(AUTH .. "/register", { json = '{"name": "a\xffb"}' }), 400)
      elseif type(value) == "string" and value:find "%z" then
        local answer = client.post(AUTH .. "/register", { json = '{"name":"a\\u0000b","email":"a\\u0000b","password":"a\\u0000b","phone":"a\\u0000b"}' })
        check.status(answer, 400)
        check.truthy(not answer.body:find "SQL", "no SQL")
      else
        refused(post("/register", { name = value, email = value, password = value, phone = value }),
                "name", "email", "password", "phone")
        refused(post("/login", { email = value, password = value }), "email", "password")
        refused(post("/social", { provider = value, id_token = type(value) == "string" and ("a"):rep(20000) or value }),
                "provider", "id_token")
        refused(post("/refresh", { refresh_token = value }), "refresh_token")
        refused(post("/forgot-password", { email = value }), "email")
        refused(post("/reset-password", { token = value, password = value }), "token", "password")
      end
    end
    local own = person()
    for _, value in ipairs { 12, { "x" }, long } do
      refused(client.patch(AUTH .. "/me", { token = own.access_token, body = { name = value, phone = value,
        avatar_url = value } }), "name", "phone", "avatar_url")
      refused(post("/me/email", { email = value, password = value }, own.access_token), "email", "password")
      refused(post("/me/email/confirm", { token = value }, own.access_token), "token")
      refused(client.put(AUTH .. "/change-password", { token = own.access_token, body = {
        current_password = value, new_password = value, confirm_password = value } }),
        "current_password", "new_password", "confirm_password")
    end
    check.status(client.post(AUTH .. "/login", { json = "{" }), 400, "MALFORMED_JSON")
    check.status(client.post(AUTH .. "/login", { json = '{"email":"a@b.example","email":"c@d.example","password":"x"}' }), 400)
  end },

  { "passwords: 8 to 128 characters, of each kind, and no common one", function()
    for password, why in pairs {
      ["Aa1!Aa1"] = "at least 8", ["AA11!!AA"] = "lower", ["aa11!!aa"] = "upper", ["Aaaa!!!!"] = "digit",
      ["Aaaa1111"] = "special", ["P@ssw0rd123!"] = "common", ["Password1!"] = "common", ["Qwerty123$"] = "common",
      ["Welcome2026!"] = "common", ["Summer#2025"] = "common", ["Letmein!1"] = "common",
    } do
      local body = check.status(post("/register", { name = "Pass", email = new_email(), password = password }), 400).json()
      check.matches(body.fields.password, why, password)
    end
    refused(post("/register", { name = "Pass", email = new_email(), password = GOOD .. ("x"):rep(128) }), "password")
  end },

  { "passwords beyond 72 bytes count whole, in any script", function()
    for _, filling in ipairs { "x", "\xc3\xa9", "\xe3\x83\x91" } do
      local password = "Aa1!" .. filling:rep(123)
      local own = person { password = password .. "y" }
      sign_in(own.email, password .. "y")
      check.status(login(own.email, password .. "z"), 401)
      check.status(login(own.email, password), 401)
    end
    local spaced = person { password = "  " .. GOOD .. " " }
    check.status(login(spaced.email, GOOD), 401)
    sign_in(spaced.email, "  " .. GOOD .. " ")
  end },

  { "login: the same answer for a wrong password and an unknown address", function()
    local own = person()
    local data = sign_in(own.email:upper())
    check.equal(data.user.id, own.user.id)
    check.equal(data.expires_in, 2592000)
    check.equal(data.user.password_hash, nil)
    local wrong = check.status(login(own.email, OTHER), 401, "INVALID_CREDENTIALS").json()
    local unknown = check.status(login("nobody@test.example", OTHER), 401, "INVALID_CREDENTIALS").json()
    check.equal(wrong.error, "Invalid email or password")
    wrong.request_id, unknown.request_id = nil, nil
    check.same(wrong, unknown)
    check.status(login("john@example.com", "Bakery!2026"), 200)     -- hashed with cost 12
  end },

  { "login: an account without a password has none that fits", function()
    client.sql "INSERT INTO users (name, email, role, invited_at) VALUES ('Invited', 'invited@test.example', 'staff', now())"
    check.status(login("invited@test.example", GOOD), 401, "INVALID_CREDENTIALS")
  end },

  { "logout holds on the very next request, in each worker", function()
    local own = person()
    local second = sign_in(own.email)
    everywhere(own.access_token, 200)
    local answer = check.status(post("/logout", nil, own.access_token), 200)
    check.matches(answer.headers["set-cookie"], "^omade_session=; .*Max%-Age=0")
    everywhere(own.access_token, 401)
    everywhere(second.access_token, 200)
    check.status(post("/refresh", { refresh_token = own.refresh_token }), 401)
    check.status(post("/refresh", { refresh_token = second.refresh_token }), 200)
  end },

  { "logout-all ends every session and every refresh token", function()
    local own = person()
    local second = sign_in(own.email)
    check.status(post("/logout-all", nil, second.access_token), 200)
    everywhere(own.access_token, 401)
    everywhere(second.access_token, 401)
    check.status(post("/refresh", { refresh_token = own.refresh_token }), 401)
    check.status(post("/refresh", { refresh_token = second.refresh_token }), 401)
    check.equal(client.redis("SCARD", "session_user:" .. own.user.id), "0")
  end },

  { "refresh: a new pair, the old session is over", function()
    local own = person()
    local pair = check.status(post("/refresh", { refresh_token = own.refresh_token }), 200).json().data
    check.truthy(pair.access_token ~= own.access_token and pair.refresh_token ~= own.refresh_token, "new")
    check.equal(pair.expires_in, 2592000)
    everywhere(own.access_token, 401)
    everywhere(pair.access_token, 200)
    check.status(post("/refresh", { refresh_token = "never" }), 401, "UNAUTHENTICATED")
    check.status(post("/refresh", { refresh_token = pair.access_token }), 401)
  end },

  { "refresh: a token used again ends its family, and nobody else's", function()
    local own = person()
    local other = sign_in(own.email)
    local pair = check.status(post("/refresh", { refresh_token = own.refresh_token }), 200).json().data
    check.status(post("/refresh", { refresh_token = own.refresh_token }), 401, "UNAUTHENTICATED")
    everywhere(pair.access_token, 401)
    check.status(post("/refresh", { refresh_token = pair.refresh_token }), 401)
    everywhere(other.access_token, 200)
  end },

  { "refresh: 20 at once with one token leave no session of its family", function()
    local own = person()
    local requests, good = {}, {}
    for i = 1, 20 do requests[i] = { "POST", AUTH .. "/refresh", { body = { refresh_token = own.refresh_token } } } end
    for _, answer in ipairs(client.parallel(requests)) do
      if answer.status == 200 then good[#good + 1] = answer.json().data else check.status(answer, 401) end
    end
    check.truthy(#good <= 1, "one at most")
    for _, pair in ipairs(good) do
      check.status(client.get(AUTH .. "/me", { token = pair.access_token }), 401)
      check.status(post("/refresh", { refresh_token = pair.refresh_token }), 401)
    end
    check.equal(client.redis("SCARD", "session_user:" .. own.user.id), "0")
  end },

  { "change-password: the other sessions end, this one stays", function()
    local own = person()
    local second = sign_in(own.email)
    local function change(current, new, confirm)
      return client.put(AUTH .. "/change-password", { token = own.access_token, body = {
        current_password = current, new_password = new, confirm_password = confirm or new } })
    end
    local body = check.status(change(OTHER, OTHER), 400, "WRONG_PASSWORD").json()
    check.equal(body.error, "Current password is incorrect")
    refused(change(GOOD, OTHER, GOOD), "confirm_password")
    refused(change(nil, OTHER, GOOD), "current_password", "confirm_password")
    refused(change(GOOD, "Password1!"), "new_password")
    everywhere(second.access_token, 200)
    check.status(change(GOOD, OTHER), 200)
    everywhere(own.access_token, 200)
    everywhere(second.access_token, 401)
    check.status(post("/refresh", { refresh_token = second.refresh_token }), 401)
    check.status(login(own.email, GOOD), 401)
    sign_in(own.email, OTHER)
    check.status(post("/refresh", { refresh_token = own.refresh_token }), 200)
  end },

  { "a login while the password changes leaves no session of the old one", function()
    for round = 1, 5 do
      local own = person()
      local requests = {}
      for i = 1, 12 do
        requests[i] = { "POST", AUTH .. "/login", { body = { email = own.email, password = GOOD } } }
      end
      table.insert(requests, 1 + round * 2, { "PUT", AUTH .. "/change-password", { token = own.access_token, body = {
        current_password = GOOD, new_password = OTHER, confirm_password = OTHER } } })
      local answers = client.parallel(requests)
      local changed = check.status(table.remove(answers, 1 + round * 2), 200)
      check.truthy(changed, "changed")
      for _, answer in ipairs(answers) do
        if answer.status == 200 then
          check.status(client.get(AUTH .. "/me", { token = answer.json().data.access_token }), 401)
          check.status(post("/refresh", { refresh_token = answer.json().data.refresh_token }), 401)
        else
          check.status(answer, 401, "INVALID_CREDENTIALS")
        end
      end
      everywhere(own.access_token, 200)
      check.equal(client.redis("SCARD", "session_user:" .. own.user.id), "1")
    end
  end },

  { "two changes of the password at once: one counts", function()
    local own = person()
    local second = sign_in(own.email)
    local new, good = { "Brioche#31ab", "Focaccia#31ab" }, nil
    local answers = client.parallel {
      { "PUT", AUTH .. "/change-password", { token = own.access_token, body = {
        current_password = GOOD, new_password = new[1], confirm_password = new[1] } } },
      { "PUT", AUTH .. "/change-password", { token = second.access_token, body = {
        current_password = GOOD, new_password = new[2], confirm_password = new[2] } } },
    }
    for i, answer in ipairs(answers) do
      if answer.status == 200 then
        check.equal(good, nil, "one")
        good = i
      end
    end
    sign_in(own.email, new[check.truthy(good, "one counts")])
  end },

  { "forgot and reset: by mail, once, within its time; all sessions end", function()
    local own = person()
    local known = check.status(post("/forgot-password", { email = own.email:upper() }), 200)
    local unknown = check.status(post("/forgot-password", { email = "nobody@test.example" }), 200)
    check.equal(known.body, unknown.body)
    local mail = mailed(own.user.id, "user.password_reset")
    check.equal(mail.email, own.email)
    check.equal(mail.name, "Person")
    check.equal(mail.purpose, "reset_password")
    check.equal(client.sql("SELECT count(*) FROM password_resets WHERE token_sha256 = '" .. mail.token .. "'"), "0")
    check.equal(client.sql("SELECT expires_at - created_at FROM password_resets WHERE user_id = '" .. own.user.id .. "'"),
                "00:30:00")
    check.equal(client.sql "SELECT count(*) FROM outbox WHERE payload ->> 'email' = 'nobody@test.example'", "0")

    check.status(post("/reset-password", { token = "wrong", password = OTHER }), 400, "INVALID_TOKEN")
    refused(post("/reset-password", { token = mail.token, password = "Password1!" }), "password")
    check.status(post("/reset-password", { token = mail.token, password = OTHER }), 200)
    everywhere(own.access_token, 401)
    check.status(post("/refresh", { refresh_token = own.refresh_token }), 401)
    check.status(login(own.email, GOOD), 401)
    sign_in(own.email, OTHER)
    check.status(post("/reset-password", { token = mail.token, password = GOOD }), 400, "INVALID_TOKEN")
  end },

  { "reset: one of many at once, none that is over, none after another change", function()
    local own = person()
    local function token()
      check.status(post("/forgot-password", { email = own.email }), 200)
      return mailed(own.user.id, "user.password_reset").token
    end
    local one, requests, good = token(), {}, 0
    for i = 1, 10 do requests[i] = { "POST", AUTH .. "/reset-password", { body = { token = one, password = OTHER } } } end
    for _, answer in ipairs(client.parallel(requests)) do
      if answer.status == 200 then good = good + 1 else check.status(answer, 400, "INVALID_TOKEN") end
    end
    check.equal(good, 1)

    local late = token()
    client.sql("UPDATE password_resets SET created_at = created_at - interval '31 minutes', "
               .. "expires_at = now() - interval '1 second' WHERE user_id = '" .. own.user.id .. "' AND used_at IS NULL")
    check.status(post("/reset-password", { token = late, password = GOOD }), 400, "INVALID_TOKEN")

    local first, second = token(), token()
    check.status(post("/reset-password", { token = second, password = GOOD }), 200)
    check.status(post("/reset-password", { token = first, password = OTHER }), 400, "INVALID_TOKEN")
  end },

  { "forgot: an account gets five letters a quarter of an hour", function()
    local own = person()
    for _ = 1, 8 do check.status(post("/forgot-password", { email = own.email }), 200) end
    check.equal(client.sql("SELECT count(*) FROM outbox WHERE aggregate_id = '" .. own.user.id .. "'"), "5")
  end },

  { "me: shown and changed, a little of it", function()
    local own = person { phone = "+4915112341111" }
    local other = person { phone = "+4915112342222" }
    local function patch(body) return client.patch(AUTH .. "/me", { token = own.access_token, body = body }) end
    local user = check.status(patch { name = "Neu", avatar_url = "https://cdn.example/a.png" }, 200).json().data
    check.same({ user.name, user.avatar_url, user.phone }, { "Neu", "https://cdn.example/a.png", "+4915112341111" })
    refused(patch { avatar_url = "/uploads/abc.png" }, "avatar_url")
    client.sql "INSERT INTO uploads (name, content_type, size) VALUES ('abc.png', 'image/png', 1)"
    user = check.status(patch { phone = cjson.null, avatar_url = "/uploads/abc.png", role = "admin",
                                email = "x@test.example", password_hash = "x" }, 200).json().data
    check.same({ user.phone, user.role, user.email, user.avatar_url },
               { cjson.null, "customer", own.email, "/uploads/abc.png" })
    check.status(patch { phone = "+4915112342222" }, 409, "PHONE_TAKEN")
    refused(patch { name = cjson.null }, "name")
    refused(patch { avatar_url = "javascript:alert(1)" }, "avatar_url")
    refused(patch {  avatar_url = "http://cdn.example/a.png" }, "avatar_url")
    check.status(patch { role = "admin" }, 400, "VALIDATION_ERROR")
    check.truthy(other.user.id, "other")
    for _, path in ipairs { "/me", "/me/export" } do check.status(client.get(AUTH .. path), 401, "UNAUTHENTICATED") end
  end },

  { "another address counts once it is confirmed", function()
    local own, other = person(), person()
    local second = sign_in(own.email)
    local new = new_email()
    check.status(post("/me/email", { email = new, password = OTHER }, own.access_token), 400, "WRONG_PASSWORD")
    check.status(post("/me/email", { email = other.email, password = GOOD }, own.access_token), 409, "EMAIL_TAKEN")
    check.status(post("/forgot-password", { email = own.email }), 200)
    local reset = mailed(own.user.id, "user.password_reset").token
    check.status(client.post("/api/v1/newsletter/subscribe", { body = { email = own.email } }), 201)
    check.status(post("/me/email", { email = new, password = GOOD }, own.access_token), 200)
    local mail = mailed(own.user.id, "user.email_change")
    check.same({ mail.email, mail.purpose }, { new, "change_email" })
    check.equal(client.get(AUTH .. "/me", { token = own.access_token }).json().data.email, own.email)
    check.status(post("/me/email/confirm", { token = mail.token }, other.access_token), 400, "INVALID_TOKEN")
    check.status(post("/reset-password", { token = mail.token, password = OTHER }), 400, "INVALID_TOKEN")
    check.status(post("/me/email/confirm", { token = reset }, own.access_token), 400, "INVALID_TOKEN")
    local user = check.status(post("/me/email/confirm", { token = mail.token }, own.access_token), 200).json().data
    check.equal(user.email, new)
    check.status(post("/me/email/confirm", { token = mail.token }, own.access_token), 400, "INVALID_TOKEN")
    check.status(login(own.email), 401)
    sign_in(new)
    local data = client.get(AUTH .. "/me/export", { token = own.access_token }).json().data
    check.equal(#data.newsletter, 1, "the newsletter has moved, too")
    check.equal(client.sql("SELECT count(*) FROM newsletter_subscribers WHERE email = '" .. own.email .. "'"), "0")
    everywhere(second.access_token, 200)
    check.status(post("/reset-password", { token = reset, password = OTHER }), 400, "INVALID_TOKEN")
  end },

  { "an address that was taken meanwhile is refused", function()
    local own, new = person(), new_email()
    check.status(post("/me/email", { email = new, password = GOOD }, own.access_token), 200)
    local token = mailed(own.user.id, "user.email_change").token
    person { email = new }
    check.status(post("/me/email/confirm", { token = token }, own.access_token), 409, "EMAIL_TAKEN")
    check.equal(client.get(AUTH .. "/me", { token = own.access_token }).json().data.email, own.email)
  end },

  { "export: everything of oneself, nothing of others", function()
    client.sql [[INSERT INTO payments (provider, event_id, type, order_id, amount, currency, raw)
      SELECT 'generic', 'export-' || user_id, 'payment.succeeded', id, 5, 'USD', '{"payer": "x"}' FROM (
        SELECT DISTINCT ON (user_id) user_id, id FROM orders WHERE user_id IS NOT NULL ORDER BY user_id, id) AS o]]
    local john = sign_in("john@example.com", "Bakery!2026")
    local answer = check.status(client.get(AUTH .. "/me/export", { token = john.access_token }), 200)
    local data = answer.json().data
    check.equal(data.user.email, "john@example.com")
    check.truthy(#data.orders > 0 and #data.order_items > 0 and #data.loyalty == 1, "orders, lines, points")
    for _, order in ipairs(data.orders) do check.equal(order.user_id, john.user.id) end
    check.equal(tostring(#data.orders), client.sql("SELECT count(*) FROM orders WHERE user_id = '" .. john.user.id .. "'"))
    check.truthy(#data.sessions >= 1, "sessions")
    check.equal(#data.payments, 1)
    check.equal(data.payments[1].event_id, "export-" .. john.user.id)
    check.truthy(not answer.body:find "%$2b" and not answer.body:find(john.access_token, 1, true), "no secrets")
    check.equal(answer.headers["cache-control"], "no-store")

    local staff = sign_in("sofia@omadecravings.com", "Bakery!2026")
    data = check.status(client.get(AUTH .. "/me/export", { token = staff.access_token }), 200).json().data
    check.same(data.orders, {})
  end },

  { "delete: the person is gone at once, the sales stay", function()
    local jane = sign_in("jane@example.com", "Bakery!2026")
    local id = jane.user.id
    local sales = client.sql("SELECT count(*), sum(total_amount) FROM orders WHERE user_id = '" .. id .. "'")
    local function delete(body, token) return client.delete(AUTH .. "/me", { token = token, body = body }) end
    refused(client.delete(AUTH .. "/me", { token = jane.access_token, json = "{}" }), "password")
    check.status(delete({ password = GOOD }, jane.access_token), 400, "WRONG_PASSWORD")
    everywhere(jane.access_token, 200)
    check.status(delete({ password = "Bakery!2026" }, jane.access_token), 200)
    everywhere(jane.access_token, 401)
    check.status(post("/refresh", { refresh_token = jane.refresh_token }), 401)
    check.status(login("jane@example.com", "Bakery!2026"), 401)
    check.equal(client.sql("SELECT count(*), sum(total_amount) FROM orders WHERE user_id = '" .. id .. "'"), sales)
    check.equal(client.sql "SELECT count(*) FROM users WHERE email = 'jane@example.com' OR name = 'Jane Smith'", "0")
    person { email = "jane@example.com" }
  end },

  { "delete: the last admin stays", function()
    client.sql "UPDATE users SET role = 'staff' WHERE role = 'admin' AND email <> 'admin@omadecravings.com'"
    local admin = sign_in("admin@omadecravings.com", "Bakery!2026")
    check.status(client.delete(AUTH .. "/me", { token = admin.access_token, body = { password = "Bakery!2026" } }),
                 409, "LAST_ADMIN")
    everywhere(admin.access_token, 200)
  end },

  { "with `cookie` the tokens stay out of the body", function()
    local email = new_email()
    local own = "http://127.0.0.1:" .. client.port
    local cookies = {}
    for _, answer in ipairs {
      check.status(post("/register", { name = "Page", email = email, password = GOOD, cookie = true }), 201),
      check.status(post("/login", { email = email, password = GOOD, cookie = true }), 200),
      check.status(post("/refresh", { refresh_token = sign_in(email).refresh_token, cookie = true }), 200),
    } do
      local cookie = answer.headers["set-cookie"]
      check.matches(cookie, "^omade_session=%x+; Path=/; HttpOnly; SameSite=Lax; Max%-Age=2592000; Secure$")
      check.truthy(not answer.body:find "_token", "no token in " .. answer.body)
      check.equal(answer.json().data.expires_in, 2592000)
      cookies[#cookies + 1] = cookie:match "^[^;]+"
    end
    local function with(method, path, headers, json)
      headers.Cookie = cookies[1]
      return client.request(method, AUTH .. path, { headers = headers, json = json })
    end
    check.status(with("GET", "/me", {}), 200)
    check.status(with("PATCH", "/me", {}, '{"name":"Evil"}'), 403, "FORBIDDEN")
    check.status(with("PATCH", "/me", { Origin = "https://evil.example" }, '{"name":"Evil"}'), 403)
    check.status(with("PATCH", "/me", { Origin = "null" }, '{"name":"Evil"}'), 403)
    check.equal(check.status(with("PATCH", "/me", { Origin = own }, '{"name":"Good"}'), 200).json().data.name, "Good")
    check.status(with("POST", "/logout", { Origin = "https://evil.example" }, "{}"), 403)
    check.status(with("POST", "/logout", { Origin = own }), 200)
    check.status(with("GET", "/me", {}), 401)
  end },

  { "a cookie whose session is over is taken away", function()
    local dead = { Cookie = "omade_session=" .. ("a"):rep(64), Origin = "http://127.0.0.1:" .. client.port }
    for method, path in pairs { GET = AUTH .. "/me", POST = "/api/v1/orders/guest" } do
      local answer = check.status(client.request(method, path, { headers = dead }), 401, "UNAUTHENTICATED")
      check.matches(answer.headers["set-cookie"], "^omade_session=; .*Max%-Age=0", path)
    end
    for _, headers in ipairs { {}, { Authorization = "Bearer x", Cookie = dead.Cookie } } do
      local answer = check.status(client.get(AUTH .. "/me", { headers = headers }), 401)
      check.equal(answer.headers["set-cookie"], nil)
    end
  end },

  { "a session slides, and ends with its account, whatever the age of its set", function()
    local own = person()
    local set = "session_user:" .. own.user.id
    local id = client.redis("SMEMBERS", set)
    client.redis("EXPIRE", "session:" .. id, "100")
    check.status(client.get(AUTH .. "/me", { token = own.access_token }), 200)
    check.truthy(tonumber(client.redis("TTL", "session:" .. id)) > 2591000, "slides")
    local session = cjson.decode(client.redis("GET", "session:" .. id))
    session.last_activity = "2026-01-01T00:00:00.000Z"
    client.redis("SET", "session:" .. id, cjson.encode(session), "EX", "100")
    client.redis("EXPIRE", set, "10")
    check.status(client.get(AUTH .. "/me", { token = own.access_token }), 200)
    check.truthy(tonumber(client.redis("TTL", set)) > tonumber(client.redis("TTL", "session:" .. id)),
                 "the set outlives its sessions")
  end },

  { "many sessions of one person: what ran out goes from the sets", function()
    local own = person()
    local set = "session_user:" .. own.user.id
    for i = 1, 49 do client.redis("SADD", set, "gone" .. i) end
    sign_in(own.email)
    check.equal(client.redis("SCARD", set), "2")
  end },

  { "Redis flushed: everybody is signed out, and nothing else is lost", function()
    local own = person()
    client.redis "FLUSHALL"
    everywhere(own.access_token, 401)
    check.status(post("/refresh", { refresh_token = own.refresh_token }), 401)
    sign_in(own.email)
  end },

  { "Redis away: 503, and no change", function()
    local own, email = person(), new_email()
    check.status(post("/forgot-password", { email = own.email }), 200)
    local token = mailed(own.user.id, "user.password_reset").token
    local function row() return client.sql("SELECT * FROM users WHERE id = '" .. own.user.id .. "'") end
    local before = row()
    redis.stop()
    check.status(post("/register", { name = "Late", email = email, password = GOOD }), 503, "UNAVAILABLE")
    check.status(login(own.email), 503, "UNAVAILABLE")
    check.status(post("/refresh", { refresh_token = own.refresh_token }), 503)
    check.status(client.get(AUTH .. "/me", { token = own.access_token }), 503)
    check.status(post("/reset-password", { token = token, password = OTHER }), 503, "UNAVAILABLE")
    check.status(client.put(AUTH .. "/change-password", { token = own.access_token, body = {
      current_password = GOOD, new_password = OTHER, confirm_password = OTHER } }), 503)
    check.status(client.delete(AUTH .. "/me", { token = own.access_token, body = { password = GOOD } }), 503)
    check.equal(row(), before)
    check.equal(client.sql("SELECT count(*) FROM users WHERE email = '" .. email .. "'"), "0")
    redis.start()
    client.all_healthy()
    sign_in(own.email)
    check.status(post("/register", { name = "Late", email = email, password = GOOD }), 201)
    check.status(post("/reset-password", { token = token, password = OTHER }), 200)
  end },
}
