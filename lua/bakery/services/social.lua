--- Sign-in with Google, Apple or Facebook: whose account a verified token is for.
--
-- An account is found by provider and subject only.  A first token is linked to the account
-- of its e-mail address if the provider vouches for the address, and the account has no
-- password.  user_identities.email is the address if it was vouched for, else null.

local accounts = require "bakery.services.accounts"
local auth     = require "omade.auth"
local config   = require "omade.config"
local db       = require "omade.db"
local engine   = require "omade.core.engine"
local log      = require "omade.log"
local oidc     = require "omade.oidc"
local sessions = require "bakery.services.sessions"
local v        = require "omade.validate"
local web      = require "omade.web"

local social = {}

social.PROVIDERS = { "google", "apple", "facebook" }

local providers = {}
for _, name in ipairs(social.PROVIDERS) do
  local prefix = name:upper()
  providers[name] = oidc.provider {
    client_ids = config.get(prefix .. "_CLIENT_ID"), issuers = config.get(prefix .. "_ISSUER"),
    jwks = prefix .. "_JWKS", default_jwks = config.get(prefix .. "_JWKS"),
  }
  if #config.get(prefix .. "_CLIENT_ID") > 0 and not providers[name] then
    error(("%s_CLIENT_ID needs %s_ISSUER and %s_JWKS"):format(prefix, prefix, prefix), 0)
  end
end

---- Tokens ----------------------------------------------------------------------------------

--- What the provider says of a person; nil when the token does not count.
---@param name string
---@param token string
---@param nonce? string
---@return table? claims
function social.verify(name, token, nonce)
  local provider = providers[name]
  if not provider then
    web.fail(503, "Sign-in with this provider is not set up", { code = "PROVIDER_NOT_CONFIGURED" })
  end
  local claims, why = oidc.verify(provider, token, nonce)
  if not claims then log.info("an id token was refused", { provider = name, why = why }) end
  return claims
end

local EMAIL <const> = v.email()

local function text_of(value, max)
  if type(value) ~= "string" then return nil end
  value = engine.trim(value)
  local length = engine.text_length(value)
  if length and length >= 2 and length <= max then return value end
end

local function email_of(claims)
  return (EMAIL.check(claims.email))
end

--- Apple says it as text.
local function is_verified(claims)
  return claims.email_verified == true or claims.email_verified == "true"
end

local function refuse_without_email()
  v.refuse { { path = "id_token", message = "Id token holds no e-mail address" } }
end

---- Accounts --------------------------------------------------------------------------------

local SELECT <const> = "SELECT " .. accounts.COLUMNS .. ", session_epoch FROM users u WHERE "

local BY_SUBJECT <const> = SELECT .. [[deleted_at IS NULL AND id =
  (SELECT user_id FROM user_identities WHERE provider = $1 AND subject = $2)]]

-- Whoever came with an address that nobody vouched for may not be its owner: no second one
-- is let into that account.
local LINKABLE <const> = SELECT .. [[email = $1 AND deleted_at IS NULL AND password_hash IS NULL
  AND NOT EXISTS (SELECT FROM user_identities i WHERE i.user_id = u.id AND i.email IS NULL)
  FOR NO KEY UPDATE]]

local function add_identity(row, name, claims, email)
  db.exec("INSERT INTO user_identities (user_id, provider, subject, email) VALUES ($1, $2, $3, $4)",
          row.id, name, claims.sub, is_verified(claims) and email or nil)
end

local function link(name, claims, email)
  local row = is_verified(claims) and db.row(LINKABLE, email)
  if not row then accounts.refuse_email() end
  add_identity(row, name, claims, email)
  return row
end

local function register(name, claims, email)
  local picture = text_of(claims.picture, 500)
  if picture and not picture:find "^https://[%w%.%-]+/[^%s\"<>\\%c]*$" then picture = nil end
  local row = db.row([[INSERT INTO users (name, email, role, avatar_url, social_provider)
    VALUES ($1, $2, 'customer', $3, $4) RETURNING ]] .. accounts.COLUMNS .. ", session_epoch",
    text_of(claims.name, 255) or text_of(email:match "^[^@]+", 255) or email, email, picture, name)
  add_identity(row, name, claims, email)
  return row
end

--- In a transaction: the account, and whether it is new.
local function find_or_create(name, claims)
  local row = db.row(BY_SUBJECT, name, claims.sub)
  if row then return row, false end
  local email = email_of(claims) or refuse_without_email()
  if db.row("SELECT id FROM find_sign_in($1)", email) then return link(name, claims, email), false end
  return register(name, claims, email), true
end

local function try(name, claims)
  local row, is_new, tokens
  db.transaction(function()
    row, is_new = find_or_create(name, claims)
    tokens = sessions.create(row)
  end)
  return row, tokens, is_new
end

--- Signs in whom the claims name, and makes the account if there is none.
---@param name string the provider
---@param claims table
---@return bakery.account_row
---@return bakery.tokens? nil when the account changed meanwhile
---@return boolean is_new
function social.sign_in(name, claims)
  return auth.as_system(function()
    local ok, row, tokens, is_new = pcall(try, name, claims)
    if not ok and type(row) == "table" and row.sqlstate == "23505" then
      return try(name, claims)                   -- somebody was quicker: it is there now
    end
    if not ok then error(row, 0) end
    return row, tokens, is_new
  end)
end

return social
