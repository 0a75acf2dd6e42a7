--- Rate limits: how often a caller may ask, exact and shared by all workers.
--
-- An app gives its rules in app.lua as `limits = {name = rule}`.  Then every route has
-- exactly one: `limit = "name"`, else `general`; `limit = false` has none.  The count is
-- `rate_limit:{address, or user:id}:{name}` in Redis, which lives for the rule's window.

local auth   = require "omade.auth"
local engine = require "omade.core.engine"
local json   = require "omade.json"
local log    = require "omade.log"
local redis  = require "omade.redis"
local time   = require "omade.time"
local web    = require "omade.web"

---@class omade.limits
local limits = {}

---@class omade.limit_rule
---@field max? integer how often in the window, for everybody
---@field guest? integer instead of max: for who is not signed in, by address
---@field user? integer for a signed-in user
---@field staff? integer for staff and admins
---@field seconds integer the window
---@field by_address? boolean also signed-in users are counted by their address
---@field without_redis? boolean counted in the process while Redis is away; else: not at all

---@alias omade.route_limit string|false|fun(req: omade.request): string?

local rules = {}
local on = false

---- Rules ----------------------------------------------------------------------------

local NUMBERS <const> = { "max", "guest", "user", "staff", "seconds" }

local function check_rule(name, rule)
  for _, field in ipairs(NUMBERS) do
    local value = rule[field]
    if value ~= nil and (math.type(value) ~= "integer" or value < 1 or value > 1 << 31) then
      error(("limit %s: %s must be a whole number above 0"):format(name, field), 0)
    end
  end
  if not rule.seconds or not (rule.max or rule.guest and rule.user and rule.staff) then
    error("limit " .. name .. ": seconds, and max or guest, user and staff are needed", 0)
  end
end

--- RATE_LIMITS names a file: {"cart": {"max": 100}}, what it says counts.
local function read_changes()
  local changes, why = json.decode(engine.setting_file "RATE_LIMITS")
  if type(changes) ~= "table" then
    error("RATE_LIMITS: the file must hold a JSON object: " .. tostring(why), 0)
  end
  return changes
end

local function wanted(setting)
  if setting == nil or setting == "" then return not engine.development() end
  return setting ~= "off"
end

--- For the engine: the app's rules, while its scripts load.
---@param declared table<string, omade.limit_rule>?
function limits.configure(declared)
  local setting = engine.setting "RATE_LIMITS"
  rules = {}
  on = declared ~= nil and wanted(setting)
  for name, rule in pairs(declared or {}) do
    rules[name] = {}
    for field, value in pairs(rule) do rules[name][field] = value end
  end
  if on and setting and setting ~= "" and setting ~= "on" then
    for name, change in pairs(read_changes()) do
      if not rules[name] then error("RATE_LIMITS: there is no limit '" .. name .. "'", 0) end
      for field, value in pairs(change) do rules[name][field] = value end
    end
  end
  for name, rule in pairs(rules) do check_rule(name, rule) end
end

--- For documentation: the rules that count.
---@return table<string, omade.limit_rule>
function limits.rules() return rules end

local function rule_of(name)
  return rules[name] or error("there is no limit '" .. tostring(name) .. "'", 0)
end

---- Counting -------------------------------------------------------------------------

-- A refused one is not counted.  KEYS: count.  ARGV: maximum, window in ms.  Returns: which
-- one this is (maximum + 1: refused), ms that are left.
local TAKE <const> = [[
local n = tonumber(redis.call('GET', KEYS[1]) or '0')
if n < tonumber(ARGV[1]) then n = redis.call('INCR', KEYS[1]) else n = tonumber(ARGV[1]) + 1 end
local left = redis.call('PTTL', KEYS[1])
if left < 0 then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  left = tonumber(ARGV[2])
end
return {n, left}]]

local PEEK <const> = [[
local left = redis.call('PTTL', KEYS[1])
if left < 0 then left = tonumber(ARGV[2]) end
return {tonumber(redis.call('GET', KEYS[1]) or '0'), left}]]

-- Counts of this process, while Redis is away.
local own, own_count = {}, 0
local OWN_MAX <const> = 10000

local function own_entry(key, seconds)
  local now = time.monotonic()
  local entry = own[key]
  if entry and entry.ends > now then return entry, now end
  if own_count >= OWN_MAX then own, own_count = {}, 0 end
  if not own[key] then own_count = own_count + 1 end
  own[key] = { n = 0, ends = now + seconds }
  return own[key], now
end

local function take_own(key, max, seconds)
  local entry, now = own_entry(key, seconds)
  local n = entry.n + 1
  if n <= max then entry.n = n end
  return n, math.ceil((entry.ends - now) * 1000)
end

local told = -math.huge

local function tell_away(name)
  if time.monotonic() - told < 1 then return end
  told = time.monotonic()
  log.warn("rate limits are not shared: Redis is away", { limit = name })
end

--- Which one in its window, and the ms that are left; nil when nobody counts.
local function run(script, name, who, max)
  local rule = rule_of(name)
  local key = "rate_limit:" .. who .. ":" .. name
  local ok, answer = pcall(redis.eval, script, { key }, max, rule.seconds * 1000)

  if ok then return answer[1], answer[2] end
  if type(answer) ~= "table" or not (answer.redis_down or answer.redis_error) then error(answer, 0) end
  tell_away(name)
  if not rule.without_redis then return nil end
  if script == TAKE then return take_own(key, max, rule.seconds) end
  local entry, now = own_entry(key, rule.seconds)
  return entry.n, math.ceil((entry.ends - now) * 1000)
end

local function refuse(left_ms)
  local seconds = math.max(1, math.ceil(left_ms / 1000))
  web.fail(429, ("Too many requests; try again in %d seconds"):format(seconds),
           { code = "RATE_LIMITED", headers = { ["Retry-After"] = tostring(seconds) } })
end

local function tell(req, max, n, left)
  req:add_header("X-RateLimit-Limit", tostring(max))
  req:add_header("X-RateLimit-Remaining", tostring(math.max(max - n, 0)))
  req:add_header("X-RateLimit-Reset", tostring(math.ceil(time.now() + left / 1000)))
end

---- By name --------------------------------------------------------------------------
-- For what is not a route's own limit, like failures of sign-in: peek before the password is
-- checked, hit when it was wrong, peek again when it was right.  So parallel tries are never
-- more than the rule allows, and those that succeed are no failures, not even for a moment.
-- `who` is any text that names who is counted: an address, "user:" and an id, "account:" and a
-- hash.  A refusal tells the headers of the limit to `req`, whose route must have none itself.

---@param script string
---@param least integer from which count on it is refused, less the maximum
local function step(script, least, name, who, req)
  if not on then return end
  local max = rule_of(name).max
  local n, left = run(script, name, who, max)
  if n and n >= max + least then
    if req then tell(req, max, n, left) end
    refuse(left)
  end
  return n, left
end

--- Raises 429 when nothing is left, and counts nothing.
---@param name string
---@param who string
---@param req? omade.request
---@return integer? used nil when nobody counts
---@return integer? left_ms of the window
function limits.peek(name, who, req) return step(PEEK, 0, name, who, req) end

--- Counts one; raises 429 when nothing was left.
---@param name string
---@param who string
---@param req? omade.request
---@return integer? used nil when nobody counts
---@return integer? left_ms of the window
function limits.hit(name, who, req) return step(TAKE, 1, name, who, req) end

--- Tells what limits.peek or limits.hit returned in the headers of the answer to `req`.
---@param req omade.request
---@param name string
---@param used integer?
---@param left_ms integer?
function limits.tell(req, name, used, left_ms)
  if used and left_ms then tell(req, rule_of(name).max, used, left_ms) end
end

---- Of a route ------------------------------------------------------------------------

--- Who is counted, and how often they may.
local function caller(req, rule)
  local ok, user = pcall(auth.look, req)       -- Redis away: the count will tell
  if not ok or not user then return req.ip, rule.max or rule.guest end
  local staff = user.role == "staff" or user.role == "admin"
  local max = rule.max or staff and rule.staff or rule.user
  return rule.by_address and req.ip or "user:" .. user.id, max
end

--- Counts a request and tells how many are left; raises 429.
---@param req omade.request
---@param name string
function limits.check(req, name)
  local who, max = caller(req, rule_of(name))
  local n, left = run(TAKE, name, who, max)
  if not n then return end
  tell(req, max, n, left)
  if n > max then refuse(left) end
end

--- The limit's name may depend on the request; where that is malformed, the shapes say so.
local function named(fn, req)
  local ok, name = pcall(fn, req)
  return ok and name or "general"
end

--- For the engine: the check in front of a handler; nil when there is none.
---@param limit omade.route_limit?
---@return fun(req: omade.request)?
function limits.gate(limit)
  if type(limit) == "string" and next(rules) then rule_of(limit) end
  if not on or limit == false then return nil end
  if type(limit) == "function" then
    return function(req) limits.check(req, named(limit, req)) end
  end
  limit = limit or "general"
  rule_of(limit)
  return function(req) limits.check(req, limit) end
end

return limits
