--- Accounts: register, sign in and out, passwords, and one's own account.

local accounts  = require "bakery.services.accounts"
local answers   = require "bakery.rules.answers"
local auth      = require "omade.auth"
local crypto    = require "omade.crypto"
local db        = require "omade.db"
local json      = require "omade.json"
local limits    = require "omade.limits"
local log       = require "omade.log"
local outbox    = require "bakery.services.outbox"
local passwords = require "bakery.rules.passwords"
local pictures  = require "bakery.services.pictures"
local redis     = require "omade.redis"
local s         = require "omade.schema"
local sessions  = require "bakery.services.sessions"
local social    = require "bakery.services.social"
local tokens    = require "bakery.services.tokens"
local v         = require "omade.validate"
local web       = require "omade.web"

---- Shapes: what a caller may send -------------------------------------------------------

--- A new password: text that the rules find good enough.
local function new_password()
  local field = v.text { trim = false, min = passwords.MIN, max = passwords.MAX }
  local is_text = field.check
  field.check = function(...)
    local text, fault = is_text(...)
    if not text then return nil, fault end
    fault = passwords.fault(text)
    if fault then return nil, fault end
    return text
  end
  return field
end

local function password() return v.text { trim = false, min = 1, max = passwords.MAX } end

local Profile <const> = {
  name       = v.text { min = 2, max = 255 },
  phone      = accounts.phone,
  avatar_url = v.url  { max = 500, local_prefixes = { "/uploads/" }, optional = true },
}

local Register <const> = v.shape {
  name = Profile.name, email = v.email(), password = new_password(), phone = Profile.phone,
  cookie = v.boolean { default = false },
}

local Login <const> = v.shape {
  email = v.email(), password = password(), cookie = v.boolean { default = false },
}

local Social <const> = v.shape {
  provider = v.one_of(social.PROVIDERS),
  id_token = v.text { min = 1, max = 16384 },
  nonce    = v.text { min = 1, max = 255, optional = true },
  cookie   = v.boolean { default = false },
}

local TOKEN <const> = v.text { min = 1, max = 255 }

local Refresh <const> = v.shape { refresh_token = TOKEN, cookie = v.boolean { default = false } }
local Forgot <const> = v.shape { email = v.email() }
local Reset <const> = v.shape { token = TOKEN, password = new_password() }
local Email <const> = v.shape { email = v.email(), password = password() }
local Confirm <const> = v.shape { token = TOKEN }
local Leave <const> = v.shape { password = v.text { trim = false, min = 1, max = passwords.MAX, optional = true } }
local ChangePassword <const> = v.shape({
  current_password = password(), new_password = new_password(), confirm_password = password(),
}, { together = function(given, fault)
  if given.new_password and given.new_password ~= given.confirm_password then
    fault("Confirm password must be the new password", "confirm_password")
  end
end })

---- Signing in -----------------------------------------------------------------------------

local function signed_in(row, pair, req, options)
  options = options or {}
  options.cookie = req.body.cookie
  return sessions.answer(pair, { user = accounts.public(row), is_new_user = options.is_new }, options)
end

local function register(req)
  local new = req.body
  local hash = accounts.hash(new.password)
  local row, pair = accounts.saving(function()
    return accounts.create(function()
      return db.row([[INSERT INTO users (name, email, password_hash, role, phone)
        VALUES ($1, $2, $3, 'customer', $4) RETURNING ]] .. accounts.COLUMNS .. ", session_epoch",
        new.name, new.email, hash, new.phone)
    end)
  end)
  return signed_in(row, pair, req, { status = 201, message = "User registered successfully" })
end

local function refuse_credentials(message)
  web.fail(401, message, { code = "INVALID_CREDENTIALS" })
end

local function login(req)
  local given = req.body
  local row = accounts.find(given.email)
  local good = accounts.verify(req, given.email, row, given.password, req)
  local pair = good and auth.as_system(function() return sessions.create(row) end)
  if not pair then refuse_credentials "Invalid email or password" end
  return signed_in(row, pair, req, { message = "Login successful" })
end

local function social_login(req)
  local given = req.body
  limits.peek("sign-in-address", req.ip, req)
  local claims = social.verify(given.provider, given.id_token, given.nonce)
  local step = claims and limits.peek or limits.hit
  limits.tell(req, "sign-in-address", step("sign-in-address", req.ip, req))
  if not claims then refuse_credentials "The id token is not valid" end
  local row, pair, is_new = social.sign_in(given.provider, claims)
  if not pair then refuse_credentials "The account changed meanwhile; sign in again" end
  return signed_in(row, pair, req, { status = is_new and 201 or 200, is_new = is_new })
end

local function refresh(req)
  local pair = auth.as_system(function() return sessions.renew(req.body.refresh_token, accounts.get) end)
  if not pair then
    web.fail(401, "The refresh token is not valid", { code = "UNAUTHENTICATED" })
  end
  return sessions.answer(pair, {}, { cookie = req.body.cookie })
end

---- Passwords ------------------------------------------------------------------------------

-- One statement, which writes and commits for any address, so that nobody learns from its
-- time who has an account.  Five letters a quarter of an hour are enough for anybody.
local FORGOT <const> = [[
  WITH person AS MATERIALIZED (
    SELECT f.id, f.name, f.email FROM find_sign_in($1) f
    WHERE (SELECT count(*) FROM password_resets r WHERE r.user_id = f.id
           AND r.purpose = 'reset_password' AND r.created_at > now() - interval '15 minutes') < 5
  ), kept AS (
    INSERT INTO password_resets (user_id, purpose, token_sha256, expires_at)
    SELECT id, 'reset_password', $2, now() + $4::interval FROM person
  ), sent AS (
    INSERT INTO outbox (topic, aggregate_id, payload)
    SELECT 'user.password_reset', id, jsonb_build_object('email', email, 'name', name, 'token', $3::text,
                                                         'purpose', 'reset_password') FROM person
  )
  INSERT INTO audit_log (action, entity, entity_id, ip, request_id)
  VALUES ('user.forgot_password', 'user', (SELECT id::text FROM person), $5, $6)]]

local function forgot_password(req)
  local token = crypto.token()
  auth.as_system(function()
    db.exec(FORGOT, req.body.email, crypto.sha256(token), token, tokens.LIVES.reset_password,
            req.ip, req.id)
  end)
  return web.data(json.null, {
    message = "If this address has an account, a link to reset the password is on its way" })
end

local SETS_PASSWORD <const> = { "reset_password", "set_password" }

-- An identity with an address that nobody vouched for may be somebody else's.
local function set_password(user_id, hash)
  db.batch {
    { [[UPDATE users SET password_hash = $2, session_epoch = session_epoch + 1
        WHERE id = $1 AND deleted_at IS NULL]], user_id, hash },
    { "DELETE FROM user_identities WHERE user_id = $1 AND email IS NULL", user_id },
  }
  tokens.revoke(user_id)
end

local function reset_password(req)
  local given = req.body
  auth.as_system(function()
    local user_id = tokens.owner(given.token) or tokens.refuse()
    local hash = accounts.hash(given.password)
    sessions.change(user_id, nil, function()
      tokens.take(given.token, user_id, SETS_PASSWORD)
      set_password(user_id, hash)
    end)
  end)
  return web.data(json.null, { message = "Password changed; sign in with the new one" })
end

local function refuse_field(field, message)
  v.refuse { { path = field, message = message } }
end

local WRONG <const> = "Current password is incorrect"

local function change_password(req)
  local given, own = req.body, accounts.own(req)
  accounts.demand(req, own, given.current_password, "current_password", WRONG)
  local hash = accounts.hash(given.new_password)
  local changed = sessions.change(own.id, req.user.session_id, function()
    local count = db.exec([[UPDATE users SET password_hash = $2, session_epoch = session_epoch + 1
      WHERE id = $1 AND password_hash = $3]], own.id, hash, own.password_hash)
    if count == 0 then return false end          -- somebody else changed it meanwhile
    tokens.revoke(own.id)
    return true
  end)
  if not changed then accounts.refuse_password("current_password", WRONG) end
  return web.data(json.null, { message = "Password changed successfully" })
end

---- One's own account ------------------------------------------------------------------------

local function me(req) return accounts.public(accounts.own(req)) end

local function change_me(req)
  local new, sets, values = req.body, {}, { req.user.id }
  pictures.check_url("avatar_url", new.avatar_url)
  for _, name in ipairs { "name", "phone", "avatar_url" } do
    if new[name] ~= nil then
      values[#values + 1] = new[name]
      sets[#sets + 1] = name .. " = $" .. #values
    end
  end
  local row = accounts.saving(function()
    return db.row("UPDATE users SET " .. table.concat(sets, ", ")
      .. " WHERE id = $1 AND deleted_at IS NULL RETURNING " .. accounts.COLUMNS, table.unpack(values))
  end)
  return accounts.public(row or accounts.own(req))
end

local function change_email(req)
  local given, own = req.body, accounts.own(req)
  accounts.demand(req, own, given.password, "password", "Password is incorrect")
  if accounts.find(given.email) then accounts.refuse_email() end
  db.transaction(function()
    local token = tokens.issue(own.id, "change_email", given.email)
    outbox.add("user.email_change", own.id, { email = given.email, name = own.name, token = token,
                                              purpose = "change_email" })
  end)
  return web.data(json.null, { message = "A link to confirm the new address is on its way" })
end

local function confirm_email(req)
  local id, token = req.user.id, req.body.token
  local row = accounts.saving(function()
    return db.transaction(function()
      local email = tokens.take(token, id, { "change_email" })
      tokens.revoke(id)                          -- those that went to the old address
      return db.row("UPDATE users SET email = $2 WHERE id = $1 AND deleted_at IS NULL RETURNING "
                    .. accounts.COLUMNS, id, email) or tokens.refuse()
    end)
  end)
  local ok, fault = pcall(sessions.rename, id, row.email)
  if not ok then log.warn("sessions tell the old e-mail address", { user_id = id, why = tostring(fault) }) end
  return accounts.public(row)
end

local OWN <const> = {
  identities        = "SELECT provider, subject, email, created_at FROM user_identities WHERE user_id = $1",
  orders            = "SELECT * FROM orders WHERE user_id = $1 ORDER BY created_at",
  order_items       = [[SELECT i.* FROM order_items i JOIN orders o ON o.id = i.order_id
                        WHERE o.user_id = $1]],
  custom_cakes      = [[SELECT c.* FROM custom_cake_configurations c JOIN orders o ON o.id = c.order_id
                        WHERE o.user_id = $1]],
  order_history     = [[SELECT h.order_id, h.status, h.payment_status, h.at, h.by_role, h.note
                        FROM order_status_history h JOIN orders o ON o.id = h.order_id
                        WHERE o.user_id = $1 ORDER BY h.id]],
  payments          = [[SELECT p.provider, p.event_id, p.type, p.order_id, p.amount, p.currency, p.reference,
                          p.outcome, p.raw, p.occurred_at, p.created_at
                        FROM payments p JOIN orders o ON o.id = p.order_id WHERE o.user_id = $1]],
  refunds           = [[SELECT r.id, r.order_id, r.amount, r.reason, r.created_at
                        FROM refunds r JOIN orders o ON o.id = r.order_id WHERE o.user_id = $1]],
  promo_redemptions = "SELECT order_id, amount, created_at, returned_at FROM promo_redemptions WHERE user_id = $1",
  reviews           = "SELECT * FROM reviews WHERE user_id = $1 ORDER BY created_at",
  loyalty           = "SELECT points, updated_at FROM loyalty_points WHERE user_id = $1",
  loyalty_history   = [[SELECT points, reason, order_id, note, created_at FROM loyalty_ledger
                        WHERE user_id = $1 ORDER BY id]],
  uploads           = "SELECT name, content_type, size, created_at FROM uploads WHERE user_id = $1",
  newsletter        = [[SELECT n.subscribed_at, n.unsubscribed_at FROM newsletter_subscribers n
                        JOIN users u ON u.email = n.email WHERE u.id = $1]],
}

--- Everything about the person: rows of every table that has some, cart and sessions.
local function export(req)
  local own = accounts.own(req)
  local data, statements, names = { user = accounts.public(own) }, {}, {}
  for name, sql in pairs(OWN) do
    names[#names + 1] = name
    statements[#names] = { sql, own.id, as = "json" }
  end
  for i, rows in ipairs(db.all(statements)) do data[names[i]] = rows end
  local cart = redis.get("cart:" .. own.id)
  data.cart = cart and json.decode(cart) or json.null
  data.sessions = sessions.list(own.id)
  return web.data(data, { headers = {
    ["Content-Disposition"] = 'attachment; filename="my-data.json"' } })
end

--- An account without a password is its session's.
local function demand_to_leave(req, own, given)
  if not own.password_hash then return end
  if not given then refuse_field("password", "Password is required") end
  accounts.demand(req, own, given, "password", "Password is incorrect")
end

local function delete_me(req)
  local own = accounts.own(req)
  demand_to_leave(req, own, req.body and req.body.password)
  sessions.change(own.id, nil, function()
    if own.role == "admin" and accounts.other_admins(own.id) == 0 then accounts.refuse_last_admin() end
    return db.row("SELECT anonymise_user($1) AS done", own.id).done
  end)
  local ok, fault = pcall(redis.del, "cart:" .. own.id)
  if not ok then log.warn("a cart runs out by itself", { user_id = own.id, why = tostring(fault) }) end
  return web.data(json.null, { message = "Account deleted", cookies = { auth.no_cookie() } })
end

---- Signing out -----------------------------------------------------------------------------

local function signed_out(message)
  return web.data(json.null, { message = message, cookies = { auth.no_cookie() } })
end

local function logout(req)
  sessions.finish(req.user.id, req.user.session_id)
  return signed_out "Logged out successfully"
end

local function logout_all(req)
  sessions.finish_all(req.user.id)
  return signed_out "Logged out everywhere"
end

---- Answers ----------------------------------------------------------------------------------

-- With `cookie` in the body the tokens are not in the answer.
local Tokens <const> = s.object { ["access_token?"] = s.text, ["refresh_token?"] = s.text, expires_in = s.count }
local SignedIn <const> = s.with(Tokens, { user = answers.User })

local ROWS <const> = s.list(s.any)

local function export_of()
  local fields = { user = answers.User, cart = s.any,
                   sessions = s.list(s.object { created_at = s.time, last_activity = s.time }) }
  for name in pairs(OWN) do fields[name] = ROWS end
  return s.object(fields)
end

local OFTEN <const> = "RATE_LIMITED: too many failures of this account or address"

local REFUSED <const> = { [401] = "INVALID_CREDENTIALS", [429] = OFTEN }

local GUARDED <const> = {       -- by the password
  [400] = "WRONG_PASSWORD; or what was sent is malformed", [409] = "EMAIL_TAKEN", [429] = OFTEN,
}

---- Routes: the table of contents ------------------------------------------------------------

return web.routes("/api/v1/auth", {
  { "POST",   "/register",        register,        who = "anyone", limit = "register", body = Register,
    status = 201, answer = SignedIn, summary = "Make an account, and sign in",
    errors = { [409] = "EMAIL_TAKEN, PHONE_TAKEN" } },
  { "POST",   "/login",           login,           who = "anyone", limit = false, body = Login,
    answer = SignedIn, errors = REFUSED, summary = "Sign in" },
  { "POST",   "/social",          social_login,    who = "anyone", limit = false, body = Social,
    status = { 200, 201 }, answer = s.with(SignedIn, { is_new_user = s.boolean }),
    summary = "Sign in with a provider's id token",
    errors = { [401] = "INVALID_CREDENTIALS", [409] = "EMAIL_TAKEN", [429] = OFTEN,
               [503] = "PROVIDER_NOT_CONFIGURED" } },
  { "POST",   "/refresh",         refresh,         who = "anyone", body = Refresh,
    answer = Tokens, summary = "A new pair of tokens",
    errors = { [401] = "The token is not valid, or was used before: then all of its family are over" } },
  { "POST",   "/forgot-password", forgot_password, who = "anyone", limit = "forgot", body = Forgot,
    answer = s.null, summary = "Have a link sent that resets the password" },
  { "POST",   "/reset-password",  reset_password,  who = "anyone", limit = "reset", body = Reset,
    answer = s.null, summary = "Set a password with the token of a link",
    errors = { [400] = "INVALID_TOKEN; or what was sent is malformed" } },
  { "GET",    "/me",              me,              who = "any", answer = answers.User, summary = "One's own account" },
  { "PATCH",  "/me",              change_me,       who = "any", body = v.partial(v.shape(Profile)),
    answer = answers.User, summary = "Change one's own account", errors = { [409] = "PHONE_TAKEN" } },
  { "DELETE", "/me",              delete_me,       who = "any", body = Leave,
    answer = s.null, errors = { [400] = GUARDED[400], [409] = "LAST_ADMIN", [429] = OFTEN },
    summary = "Delete one's own account; sales stay, without a name" },
  { "POST",   "/me/email",        change_email,    who = "any", body = Email,
    answer = s.null, errors = GUARDED, summary = "Ask for another e-mail address" },
  { "POST",   "/me/email/confirm", confirm_email,  who = "any", body = Confirm,
    answer = answers.User, summary = "Confirm it with the token of a link",
    errors = { [400] = "INVALID_TOKEN; or what was sent is malformed", [409] = "EMAIL_TAKEN" } },
  { "GET",    "/me/export",       export,          who = "any",
    answer = export_of(), summary = "Everything about oneself, as JSON" },
  { "POST",   "/logout",          logout,          who = "any", answer = s.null, summary = "Sign out" },
  { "POST",   "/logout-all",      logout_all,      who = "any", answer = s.null, summary = "Sign out everywhere" },
  { "PUT",    "/change-password", change_password, who = "any", body = ChangePassword,
    answer = s.null, summary = "Change the password; other sessions end",
    errors = { [400] = GUARDED[400], [429] = OFTEN } },
})
