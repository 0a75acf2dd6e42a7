--- Who asks: sessions in Redis, roles, and the gate in front of every handler.
--
-- A session is `session:{session_id}` in Redis; its id is the SHA-256 of the token, so
-- that who reads Redis cannot sign in.  Role and sign-out take effect on the next
-- request, because the session is read with each.

local crypto = require "omade.crypto"
local db     = require "omade.db"
local json   = require "omade.json"
local redis  = require "omade.redis"
local time   = require "omade.time"
local uuid   = require "omade.uuid"
local web    = require "omade.web"

---@class omade.auth
local auth = {}

--- What a session says about who asks.
---@class omade.user
---@field id string
---@field email string
---@field role "customer"|"rider"|"staff"|"admin"
---@field session_id string

--- The name of the cookie for pages.
auth.COOKIE = "omade_session"

local SESSION_SECONDS <const> = 30 * 24 * 3600      -- sliding, as data.md says
local TOUCH_SECONDS   <const> = 300                 -- last_activity is as exact as this
local ROLES <const> = { customer = true, rider = true, staff = true, admin = true }

--- What a word in `who` stands for.  "any" is everybody who is signed in; "optional" is
-- anybody, "guest" is who sends no session: one that is over is no guest.
local ALLOWED <const> = {
  any      = ROLES,
  optional = { customer = true, rider = true, staff = true, admin = true, guest = true },
  guest    = { guest = true },
  customer = { customer = true },
  rider    = { rider = true },
  staff    = { staff = true, admin = true },
  admin    = { admin = true },
}

---- Sessions -----------------------------------------------------------------------

--- The name of a token's session.
---@param token string
---@return string
function auth.session_id(token)
  return crypto.sha256(token)
end

--- The token that was sent, and whether anything was: a header that holds none, too.
local function sent_token(req)
  local header = req:header("Authorization")
  if header then
    return header:match("^[Bb][Ee][Aa][Rr][Ee][Rr] +([%w%-%._~%+/=]+)$"), true
  end
  local token = req.cookies[auth.COOKIE]
  return token, token ~= nil
end

--- Keeps the session alive, and its last_activity about right, without ever writing one
-- back that was removed meanwhile.
local function touch(key, session)
  local last = time.parse(tostring(session.last_activity)) or 0

  if time.now() - last < TOUCH_SECONDS then
    redis.call("EXPIRE", key, SESSION_SECONDS)
    return
  end
  session.last_activity = time.iso()
  redis.pipeline {
    { "SET", key, json.encode(session), "XX", "EX", SESSION_SECONDS },
    { "EXPIRE", "session_user:" .. session.user_id, 2 * SESSION_SECONDS },   -- it never goes first
  }
end

--- What is under the key: text, nil, or false when it is no text at all.
local function look(key)
  local ok, text = pcall(redis.get, key)
  if ok then return text end
  if type(text) == "table" and tostring(text.redis_error):find "^WRONGTYPE" then return false end
  error(text, 0)
end

local function parse(text)
  local session = json.decode(text)
  if type(session) == "table" and uuid.valid(session.user_id) and ROLES[session.role] then
    return session
  end
end

local function read_session(token)
  local id = auth.session_id(token)
  local text = look("session:" .. id)
  local session = text and parse(text)

  if not session then
    if text ~= nil then redis.del("session:" .. id) end       -- not what it should be
    return nil
  end
  touch("session:" .. id, session)
  return { id = session.user_id, email = session.email, role = session.role, session_id = id }
end

--- The user behind a request, or nil, without acting for them.
---@param req omade.request
---@return omade.user?
function auth.look(req)
  if req.session_user == nil then
    local token = sent_token(req)
    req.session_user = token and read_session(token) or false
  end
  return req.session_user or nil
end

--- The user behind a request, or nil; from then on the request's statements carry them.
-- The gate has done it on all routes but those for `anyone`.
---@param req omade.request
---@return omade.user?
function auth.user(req)
  if req.user then return req.user end
  local user = auth.look(req)
  if not user then return nil end
  req.user = user
  db.as { user_id = user.id, role = user.role }
  return user
end

---- Others than the user ------------------------------------------------------------

--- Runs fn as the shop itself, which sees every row: register, login, refresh, reset,
-- tracking, webhooks, the outbox, schedules.  Each caller is listed in
-- test/api/guards_test.lua.
---@param fn fun(): ...
---@return ...
function auth.as_system(fn)
  return db.as({ role = "system" }, fn)
end

--- Runs fn as a guest, who sees the one order (or, without an id, may place one).
---@param order_id? string
---@param fn fun(): ...
---@return ...
function auth.as_guest(order_id, fn)
  return db.as({ role = "guest", order_id = order_id }, fn)
end

---- The gate -----------------------------------------------------------------------

local function allowed_of(who)
  if type(who) == "string" then who = { who } end
  local allowed = {}
  for _, word in ipairs(who) do
    if not ALLOWED[word] then error("who = \"" .. tostring(word) .. "\" is not known", 0) end
    for role in pairs(ALLOWED[word]) do allowed[role] = true end
  end
  return allowed
end

--- With the cookie, a change must come from our own pages, as JSON or multipart.
local function check_origin(req)
  if req:header("Authorization") or req.method == "GET" or req.method == "HEAD" then return end
  local origin = req:header("Origin")
  local scheme, host = (origin or ""):match("^(https?)://([^/]+)$")
  if host ~= req.host or req.scheme == "https" and scheme ~= "https" then
    web.fail(403, "This must be sent from the shop's own pages", { code = "FORBIDDEN" })
  end
  local type = (req:header("Content-Type") or "application/json"):lower()
  if not type:find("^application/json") and not type:find("^multipart/form%-data") then
    web.fail(415, "The body must be application/json or multipart/form-data")
  end
end

--- The cookie that takes the session's away.
---@return string
function auth.no_cookie()
  return web.cookie(auth.COOKIE, "", { max_age = 0 })
end

--- A cookie whose session is over goes: no script can take it away, and with it nobody is a
-- guest.
local function sign_in_first(req, header)
  local stale = not req:header("Authorization") and req.cookies[auth.COOKIE]
  web.fail(401, header and "Sign in, or send " .. header or "Sign in first", {
    code = "UNAUTHENTICATED",
    headers = { ["WWW-Authenticate"] = "Bearer", ["Set-Cookie"] = stale and auth.no_cookie() or nil },
  })
end

--- For the engine: the check in front of a handler; nil when everybody may call it.
---@param who omade.who
---@param guest_sends? string the header by which a guest shows who he is
---@return fun(req: omade.request)?
function auth.gate(who, guest_sends)
  if who == "anyone" then return nil end
  local allowed = allowed_of(who)

  return function(req)
    if allowed.guest and not select(2, sent_token(req)) then
      if guest_sends and not req:header(guest_sends) then sign_in_first(req, guest_sends) end
      db.as { role = "guest" }
      return
    end
    local user = auth.user(req)
    if not user then sign_in_first(req) end
    check_origin(req)
    if not allowed[user.role] then
      web.fail(403, "You may not do this", { code = "FORBIDDEN" })
    end
  end
end

return auth
