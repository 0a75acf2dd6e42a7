--- Sessions and refresh tokens in Redis: made, renewed, ended.
--
--   session:{sha256 of the access token}   JSON: user_id, email, role, ...; 30 days, sliding
--   session_user:{user_id}                 the set of a user's session ids
--   refresh:{sha256 of the refresh token}  JSON: family, user_id, used?; 60 days
--   refresh_family:{family}                its one session's id; gone: none of its tokens is good
--   refresh_user:{user_id}                 the set of a user's families
--
-- A change of role or password, and a deletion, raise users.session_epoch in PostgreSQL
-- and end the sessions before and after their commit.  A session that is being made
-- meanwhile is taken back by its maker, who looks at the epoch again after writing it.

local auth   = require "omade.auth"
local crypto = require "omade.crypto"
local db     = require "omade.db"
local json   = require "omade.json"
local log    = require "omade.log"
local redis  = require "omade.redis"
local time   = require "omade.time"
local uuid   = require "omade.uuid"
local web    = require "omade.web"

local sessions = {}

local SESSION_SECONDS <const> = 30 * 24 * 3600
local REFRESH_SECONDS <const> = 60 * 24 * 3600

---@class bakery.account
---@field id string
---@field email string
---@field role string
---@field session_epoch integer as it was read with the credentials

---@class bakery.tokens
---@field access_token string
---@field refresh_token string
---@field expires_in integer seconds

---- Scripts: each one step for everybody who looks ----------------------------------------------

-- Names of what has run out by itself go, looked for each 50th time.
local PRUNE <const> = [[
local function prune(set, prefix)
  local n = redis.call('SCARD', set)
  if n == 0 or n % 50 ~= 0 then return end
  for _, name in ipairs(redis.call('SMEMBERS', set)) do
    if redis.call('EXISTS', prefix .. name) == 0 then redis.call('SREM', set, name) end
  end
end
]]

-- KEYS: session, session_user, refresh, family, refresh_user.
-- ARGV: session's JSON, its seconds, its id, refresh's JSON, its seconds, family, "renew" or "".
local MAKE <const> = PRUNE .. [[
prune(KEYS[2], 'session:')
prune(KEYS[5], 'refresh_family:')
if ARGV[7] == 'renew' then
  local old = redis.call('GET', KEYS[4])
  if not old then return 0 end
  redis.call('DEL', 'session:' .. old)
  redis.call('SREM', KEYS[2], old)
end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
redis.call('SADD', KEYS[2], ARGV[3])
redis.call('EXPIRE', KEYS[2], ARGV[5])
redis.call('SET', KEYS[3], ARGV[4], 'EX', ARGV[5])
redis.call('SET', KEYS[4], ARGV[3], 'EX', ARGV[5])
redis.call('SADD', KEYS[5], ARGV[6])
redis.call('EXPIRE', KEYS[5], ARGV[5])
return 1]]

-- KEYS: refresh.  A token is used once; the second time its whole family ends.
local TAKE <const> = [[
local text = redis.call('GET', KEYS[1])
if not text then return false end
local token = cjson.decode(text)
local family = 'refresh_family:' .. token.family
if token.used then
  local session = redis.call('GET', family)
  if session then
    redis.call('DEL', 'session:' .. session, family)
    redis.call('SREM', 'session_user:' .. token.user_id, session)
    redis.call('SREM', 'refresh_user:' .. token.user_id, token.family)
  end
  return 'reused'
end
token.used = true
redis.call('SET', KEYS[1], cjson.encode(token), 'KEEPTTL')
if redis.call('EXISTS', family) == 0 then return false end
return text]]

-- KEYS: session_user, refresh_user.  ARGV: the session that stays, or "".
local END_ALL <const> = [[
for _, id in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  if id ~= ARGV[1] then
    redis.call('DEL', 'session:' .. id)
    redis.call('SREM', KEYS[1], id)
  end
end
for _, family in ipairs(redis.call('SMEMBERS', KEYS[2])) do
  if redis.call('GET', 'refresh_family:' .. family) ~= ARGV[1] then
    redis.call('DEL', 'refresh_family:' .. family)
    redis.call('SREM', KEYS[2], family)
  end
end
return 1]]

-- KEYS: session, session_user, refresh_user.  ARGV: its id.
local END_ONE <const> = [[
local text = redis.call('GET', KEYS[1])
redis.call('DEL', KEYS[1])
redis.call('SREM', KEYS[2], ARGV[1])
if text then
  local family = cjson.decode(text).family
  if family then
    redis.call('DEL', 'refresh_family:' .. family)
    redis.call('SREM', KEYS[3], family)
  end
end
return 1]]

---- Making -----------------------------------------------------------------------------------

local function write(user, family, how)
  local access, refresh = crypto.token(), crypto.token()
  local id, now = auth.session_id(access), time.iso()
  local session = { user_id = user.id, email = user.email, role = user.role, family = family,
                    created_at = now, last_activity = now }

  local made = redis.eval(MAKE, { "session:" .. id, "session_user:" .. user.id,
                                  "refresh:" .. crypto.sha256(refresh),
                                  "refresh_family:" .. family, "refresh_user:" .. user.id },
                          json.encode(session), SESSION_SECONDS, id,
                          json.encode { family = family, user_id = user.id }, REFRESH_SECONDS,
                          family, how)
  if made == 0 then return nil end
  return { access_token = access, refresh_token = refresh, expires_in = SESSION_SECONDS }, id
end

local function epoch_of(user_id)
  local row = db.row("SELECT session_epoch FROM users WHERE id = $1 AND deleted_at IS NULL", user_id)
  return row and row.session_epoch
end

--- A new session; nil when the account changed since it was read.  Run as the system.
---@param user bakery.account
---@return bakery.tokens?
function sessions.create(user)
  local tokens, id = write(user, uuid.v4(), "")
  if epoch_of(user.id) == user.session_epoch then return tokens end
  sessions.finish(user.id, id)
  return nil
end

--- A new pair for a refresh token; nil when it is not good.  Run as the system.
---@param token string
---@param find fun(user_id: string): bakery.account? reads the account as it is now
---@return bakery.tokens?, bakery.account?
function sessions.renew(token, find)
  local text = redis.eval(TAKE, { "refresh:" .. crypto.sha256(token) })
  if not text then return nil end
  if text == "reused" then
    log.warn("a refresh token was used twice; its sessions were ended")
    return nil
  end
  local known = json.decode(text)
  local user = find(known.user_id)
  local tokens, id
  if user then tokens, id = write(user, known.family, "renew") end
  if not tokens then return nil end
  if epoch_of(user.id) == user.session_epoch then return tokens, user end
  sessions.finish(user.id, id)
  return nil
end

---- Ending -----------------------------------------------------------------------------------

--- Ends one session and its refresh tokens.
---@param user_id string
---@param session_id string
function sessions.finish(user_id, session_id)
  redis.eval(END_ONE, { "session:" .. session_id, "session_user:" .. user_id,
                        "refresh_user:" .. user_id }, session_id)
end

--- Ends all sessions of a user but one.
---@param user_id string
---@param keep? string a session's id
function sessions.finish_all(user_id, keep)
  redis.eval(END_ALL, { "session_user:" .. user_id, "refresh_user:" .. user_id }, keep or "")
end

local function finish_all_at_last(user_id, keep)
  if pcall(sessions.finish_all, user_id, keep) then return end
  spawn(function()
    for tries = 1, 60 do
      sleep(math.min(tries, 10))
      if pcall(sessions.finish_all, user_id, keep) then return end
    end
    log.error("sessions could not be ended", { user_id = user_id })
  end)
end

--- Runs fn in a transaction that changes what a user may do, and ends the sessions before
-- and after its commit, also when nobody knows whether it was one.  fn must raise
-- session_epoch, or return false: then they stay.  Redis away: 503, and no change.
---@param user_id string
---@param keep? string the session that stays
---@param fn fun(): any
---@return any what fn returned
function sessions.change(user_id, keep, fn)
  local begun = false
  local ok, result = pcall(db.transaction, function()
    local made = fn()
    if made == false then return false end
    begun = true
    sessions.finish_all(user_id, keep)
    return made
  end)
  if begun then finish_all_at_last(user_id, keep) end
  if not ok then error(result, 0) end
  return result
end

---- Of a user ---------------------------------------------------------------------------------

-- KEYS: session_user.  ARGV: e-mail address.
local RENAME <const> = [[
for _, id in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  local text = redis.call('GET', 'session:' .. id)
  if text then
    local session = cjson.decode(text)
    session.email = ARGV[1]
    redis.call('SET', 'session:' .. id, cjson.encode(session), 'KEEPTTL')
  end
end
return 1]]

--- The sessions tell another e-mail address from now on.
---@param user_id string
---@param email string
function sessions.rename(user_id, email)
  redis.eval(RENAME, { "session_user:" .. user_id }, email)
end

--- When each session began, and was used last.
---@param user_id string
---@return {created_at: string, last_activity: string}[]
function sessions.list(user_id)
  local found, commands = json.array {}, {}
  for i, id in ipairs(redis.call("SMEMBERS", "session_user:" .. user_id)) do
    commands[i] = { "GET", "session:" .. id }
  end
  if #commands == 0 then return found end
  for _, text in ipairs(redis.pipeline(commands)) do
    local session = text and json.decode(text)
    if type(session) == "table" then
      found[#found + 1] = { created_at = session.created_at, last_activity = session.last_activity }
    end
  end
  return found
end

---- Answers ------------------------------------------------------------------------------------

--- The tokens in the body, or with `cookie` in a cookie for pages.
---@param tokens bakery.tokens
---@param data table the rest of the answer
---@param options {cookie?: boolean, status?: integer, message?: string}
---@return table answer
function sessions.answer(tokens, data, options)
  local cookies
  data.expires_in = tokens.expires_in
  if options.cookie then
    cookies = { web.cookie(auth.COOKIE, tokens.access_token, { max_age = SESSION_SECONDS }) }
  else
    data.access_token, data.refresh_token = tokens.access_token, tokens.refresh_token
  end
  return web.data(data, { status = options.status, message = options.message, cookies = cookies })
end

return sessions
