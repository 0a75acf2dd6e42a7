--- Sign-in by others: the ID tokens of OpenID Connect providers (Google, Apple, ...).
--
-- local google = oidc.provider { client_ids = {...}, issuers = {...}, jwks = "GOOGLE_JWKS" }
-- local claims, why = oidc.verify(google, token, nonce)
--
-- A token counts when its signature is by a key of the provider's set (RS256 or ES256,
-- nothing else), for one of our client ids, by the issuer, and not over.

local engine = require "omade.core.engine"
local http   = require "omade.http"
local json   = require "omade.json"
local jwt    = require "omade.core.jwt"
local log    = require "omade.log"
local time   = require "omade.time"
local web    = require "omade.web"

---@class omade.oidc
local oidc = {}

local TOKEN_MAX     <const> = 16384      -- bytes
local SKEW          <const> = 60         -- seconds that a provider's clock may be ahead
local REFETCH_AFTER <const> = 60         -- seconds between two requests for keys
local STALE_AFTER   <const> = 3600       -- keys that were withdrawn count no longer than this
local FETCH_TIMEOUT <const> = 5

---@class omade.oidc.options
---@field client_ids string[] the audiences that are ours
---@field issuers string[]
---@field jwks string the name of the setting with an https URL, or with a file's path
---@field default_jwks? string when the setting is empty
---@field refetch_after? number seconds between two requests for keys (60)

---@class omade.oidc.provider
---@field client_ids table<string, boolean>
---@field issuers table<string, boolean>
---@field keys omade.oidc.keys

---@class omade.oidc.keys
---@field url? string
---@field list table[] JSON Web Keys
---@field asked_at number when they were fetched, or should have been; monotonic
---@field fresh_at number when they came
---@field refetch_after number
---@field fetching? table while a fetch is under way

---- Keys ------------------------------------------------------------------------------

--- The list of a key set; nil when the text is none.
local function read_set(text)
  local set = json.decode(text)
  if type(set) ~= "table" or not json.is_array(set.keys) then return nil end
  local list = {}
  for _, key in ipairs(set.keys) do
    if type(key) == "table" then list[#list + 1] = key end
  end
  return list
end

--- Plain http is for tests and a proxy on this machine.
local function is_url(text)
  if text:find "^https://" or text:find "^http://127%.0%.0%.1[:/]" then return true end
  if text:find "^%w+://" then error(text .. " must be an https address", 0) end
  return false
end

local function keys_of(options)
  local place = engine.setting(options.jwks)
  if not place or place == "" then place = options.default_jwks end
  if not place then return nil end
  if is_url(place) then
    return { url = place, list = {}, asked_at = -math.huge, fresh_at = -math.huge,
             refetch_after = options.refetch_after or REFETCH_AFTER }
  end
  local list = read_set(engine.setting_file(options.jwks))
  if not list then error(options.jwks .. ": the file holds no JSON Web Key set", 0) end
  return { list = list }
end

local function fetch(keys)
  local done <close> = setmetatable({}, { __close = function() keys.fetching = nil end })
  keys.fetching, keys.asked_at = done, time.monotonic()
  local ok, answer = pcall(http.request, { url = keys.url, timeout = FETCH_TIMEOUT,
                                           max_bytes = 1 << 18 })
  local list = ok and answer.status == 200 and read_set(answer.body)
  if list then
    keys.list, keys.fresh_at = list, time.monotonic()
    return
  end
  log.warn("a provider's keys could not be fetched",
           { url = keys.url, why = ok and "status " .. answer.status or tostring(answer) })
end

--- Waits for a fetch that is under way.
local function wait_for(keys)
  local over = time.monotonic() + FETCH_TIMEOUT + 1
  while keys.fetching and time.monotonic() < over do sleep(0.02) end
end

local function find(keys, header)
  for _, key in ipairs(keys.list) do
    if key.kid == header.kid and (key.alg == nil or key.alg == header.alg)
      and (key.use == nil or key.use == "sig") then
      return key
    end
  end
end

--- The key that a token names; keys that are unknown, or old, are asked for anew.
local function key_for(keys, header)
  if not keys.url then return find(keys, header) end
  wait_for(keys)
  local now = time.monotonic()
  local known = now - keys.fresh_at < STALE_AFTER and find(keys, header)
  if known then return known end
  if now - keys.asked_at >= keys.refetch_after then fetch(keys) end
  if keys.fresh_at == -math.huge then
    web.fail(503, "The provider cannot be reached; try again later", { code = "UNAVAILABLE" })
  end
  return find(keys, header)
end

---- Signatures --------------------------------------------------------------------------

local function bytes_of(key, name)
  return type(key[name]) == "string" and jwt.decode(key[name]) or ""
end

--- The only ones: never "none", and no key of theirs is ever a shared secret.
local CHECKS <const> = {
  RS256 = function(key, text, signature)
    return key.kty == "RSA" and jwt.rs256(bytes_of(key, "n"), bytes_of(key, "e"), text, signature)
  end,
  ES256 = function(key, text, signature)
    return key.kty == "EC" and key.crv == "P-256"
      and jwt.es256(bytes_of(key, "x"), bytes_of(key, "y"), text, signature)
  end,
}

local function object_of(text)
  local bytes = jwt.decode(text)
  local value = bytes and json.decode(bytes)
  if type(value) == "table" and not json.is_array(value) then return value end
end

---- Claims --------------------------------------------------------------------------------

--- One of our client ids; of several audiences, we must be the one it was made for.
local function is_for_us(provider, claims)
  if claims.azp ~= nil and not provider.client_ids[claims.azp] then return false end
  if type(claims.aud) == "string" then return provider.client_ids[claims.aud] or false end
  if not json.is_array(claims.aud) then return false end
  if #claims.aud > 1 and claims.azp == nil then return false end
  for _, audience in ipairs(claims.aud) do
    if provider.client_ids[audience] then return true end
  end
  return false
end

local function is_text(value, max)
  return type(value) == "string" and #value >= 1 and #value <= max
    and engine.text_length(value) ~= nil
end

local function fault_of(provider, claims, nonce)
  local now = time.now()
  if not provider.issuers[claims.iss] then return "issuer" end
  if not is_for_us(provider, claims) then return "audience" end
  if type(claims.exp) ~= "number" or claims.exp <= now then return "expired" end
  if claims.nbf ~= nil and (type(claims.nbf) ~= "number" or claims.nbf > now + SKEW) then
    return "not yet valid"
  end
  if claims.iat ~= nil and (type(claims.iat) ~= "number" or claims.iat > now + SKEW) then
    return "issued in the future"
  end
  if nonce ~= nil and claims.nonce ~= nonce then return "nonce" end
  if not is_text(claims.sub, 255) then return "subject" end
end

---- By name -------------------------------------------------------------------------------

--- A provider, while scripts load; nil when it lacks client ids, issuers or keys.
---@param options omade.oidc.options
---@return omade.oidc.provider?
function oidc.provider(options)
  if #options.client_ids == 0 or #options.issuers == 0 then return nil end
  local keys = keys_of(options)
  if not keys then return nil end
  local provider = { client_ids = {}, issuers = {}, keys = keys }
  for _, id in ipairs(options.client_ids) do provider.client_ids[id] = true end
  for _, issuer in ipairs(options.issuers) do provider.issuers[issuer] = true end
  return provider
end

--- What a token says, or nil and why it does not count.  Raises 503 when the provider's
-- keys are needed and cannot be had.
---@param provider omade.oidc.provider
---@param token string
---@param nonce? string what the token's must be
---@return table? claims
---@return string? why for the log
function oidc.verify(provider, token, nonce)
  local head, body, signature = token:match "^([%w_-]+)%.([%w_-]+)%.([%w_-]+)$"
  if not head or #token > TOKEN_MAX then return nil, "malformed" end
  local header = object_of(head)
  local check = header and type(header.alg) == "string" and CHECKS[header.alg]
  if not check or header.crit ~= nil then return nil, "algorithm" end
  if not is_text(header.kid, 255) then return nil, "key id" end
  local key = key_for(provider.keys, header)
  if not key then return nil, "unknown key" end
  if not check(key, head .. "." .. body, jwt.decode(signature) or "") then return nil, "signature" end
  local claims = object_of(body)
  if not claims then return nil, "malformed" end
  local fault = fault_of(provider, claims, nonce)
  if fault then return nil, fault end
  return claims
end

return oidc
