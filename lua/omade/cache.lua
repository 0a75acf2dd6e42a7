--- Read-through cache in Redis; a Redis failure is a miss.
--
-- A miss takes a lease, and the fill writes only while the lease is its own; cache.drop
-- removes both.  So a reader that began before a change cannot put the old value back.

local engine = require "omade.core.engine"
local log    = require "omade.log"
local redis  = require "omade.redis"
local uuid   = require "omade.uuid"

---@class omade.cache
local cache = {}

local LEASE_MS <const> = 5000

-- KEYS: value, lease.  ARGV: token, bytes, seconds.
local FILL <const> = [[
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
redis.call('DEL', KEYS[2])
return 1]]

--- Keys that this worker loads just now: those who come meanwhile wait for it.
local loading = {}

--- Reads of this worker that cache.tell_reads has not told yet.
local hits, misses = 0, 0

-- KEYS: the sums of all workers.  ARGV: hits, misses.
local TELL <const> = [[
redis.call('HSETNX', KEYS[1], 'since', redis.call('TIME')[1])
redis.call('HINCRBY', KEYS[1], 'hits', ARGV[1])
redis.call('HINCRBY', KEYS[1], 'misses', ARGV[2])]]

local function is_down(fault)
  return type(fault) == "table" and (fault.redis_down or fault.redis_error)
end

--- Removes what should not be there.
local function remove(key)
  local ok, fault = pcall(redis.del, key)
  if not ok and not is_down(fault) then error(fault, 0) end
end

--- The bytes, or nil and whether Redis is of no use.  A value of another kind than it
-- should have, which others must have written, is removed and counts as none.
local function look(key, kind)
  local ok, value = pcall(redis.get_bytes, key)
  if ok then
    if value == nil then return nil end
    local found = engine.json_kind(value)
    if found == kind or found and not kind then return value end
  elseif not is_down(value) then
    error(value, 0)
  elseif not (value.redis_error and value.redis_error:find "^WRONGTYPE") then
    return nil, true
  end
  remove(key)
  return nil
end

local function take_lease(key, token)
  local ok, fault = pcall(redis.call, "SET", key .. ":lease", token, "NX", "PX", LEASE_MS)
  if not ok and not is_down(fault) then error(fault, 0) end
  return ok and fault == "OK"
end

local function fill(key, token, bytes, seconds)
  local ok, fault = pcall(redis.eval, FILL, { key, key .. ":lease" }, token, bytes, seconds)
  if not ok and not is_down(fault) then error(fault, 0) end
end

local function load_and_fill(key, seconds, load)
  local token = uuid.v4()
  local mine = take_lease(key, token)
  local bytes = load()
  if type(bytes) == "string" then
    bytes = engine.json(bytes)
    if not engine.json_kind(bytes) then error("cache.fetch: what was loaded is no JSON; use json.encode", 0) end
  end

  if mine and bytes ~= nil then fill(key, token, bytes, seconds) end
  return bytes
end

--- The bytes under `key`, or what `load` returns, which is then kept for `seconds`.
-- nil from `load` is not kept.
---@param key string
---@param seconds integer life of the entry
---@param load fun(): omade.bytes|string|nil makes the bytes (JSON)
---@param kind? "object"|"array" what the JSON has to be; anything else is loaded anew
---@return omade.bytes? JSON bytes
function cache.fetch(key, seconds, load, kind)
  if type(key) ~= "string" or math.type(seconds) ~= "integer" or type(load) ~= "function" then
    error("cache.fetch takes a key, whole seconds and a function that loads", 2)
  end
  local bytes, down = look(key, kind)
  if bytes ~= nil then
    hits = hits + 1
    return bytes
  end
  if down then
    bytes = load()
    return type(bytes) == "string" and engine.json(bytes) or bytes
  end

  misses = misses + 1
  local tries = 0
  while loading[key] and tries < 50 do       -- one loader per key and worker
    tries = tries + 1
    sleep(0.002 * tries)
    bytes = look(key, kind)
    if bytes ~= nil then return bytes end
  end

  local done <close> = setmetatable({}, { __close = function() loading[key] = nil end })
  loading[key] = done
  return load_and_fill(key, seconds, load)
end

--- Adds what cache.fetch found, and did not find, to the sums in Redis (`cache_reads`), for
-- `omade cache stats`.  A job of each worker.
function cache.tell_reads()
  local found, not_found = hits, misses
  if found + not_found == 0 then return end
  hits, misses = 0, 0
  local ok, fault = pcall(redis.eval, TELL, { "cache_reads" }, found, not_found)
  if ok then return end
  hits, misses = hits + found, misses + not_found
  if not is_down(fault) then error(fault, 0) end
end

--- Forgets keys, after the commit that made them stale.
---@param ... string
function cache.drop(...)
  local keys = {}
  for _, key in ipairs { ... } do
    keys[#keys + 1] = key
    keys[#keys + 1] = key .. ":lease"
  end
  local ok, fault = pcall(redis.del, table.unpack(keys))
  if ok then return end
  if not is_down(fault) then error(fault, 0) end
  log.warn("cache could not be dropped", { keys = table.concat({ ... }, " ") })
end

return cache
