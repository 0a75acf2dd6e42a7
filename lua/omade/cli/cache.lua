--- omade cache stats|warm|flush: what Redis holds for the shop.
--
-- stats   hit rates, and number and memory of the keys of each kind
-- warm    loads all products as GET would, each for an hour
-- flush   removes product:* only; sessions and carts stay

local cache     = require "omade.cache"
local catalogue = require "bakery.services.catalogue"
local engine    = require "omade.core.engine"
local files     = require "omade.core.files"
local json      = require "omade.json"
local print     = require "omade.cli.db.print"
local redis     = require "omade.redis"
local time      = require "omade.time"

local USAGE <const> = "usage: omade cache stats [--json], warm, flush"
local PAGE  <const> = 500           -- keys a SCAN
local ASIDE <const> = 16            -- products loaded at the same time

--- fn(keys) for all keys of a pattern, a page at a time: SCAN does not stop Redis, KEYS would.
-- A key may come twice.
local function each_page(pattern, fn)
  local cursor = "0"
  repeat
    local answer = redis.call("SCAN", cursor, "MATCH", pattern, "COUNT", PAGE)
    cursor = answer[1]
    if #answer[2] > 0 then fn(answer[2]) end
  until cursor == "0"
end

---- stats ---------------------------------------------------------------------------------

local KINDS <const> = {
  "product", "cart", "session", "session_user", "refresh", "refresh_family", "refresh_user", "rate_limit",
}

local COLUMNS <const> = {
  { key = "kind" }, { key = "keys", kind = "number" }, { key = "bytes", title = "memory", kind = "bytes" },
}

--- The members of INFO, as texts.
local function info()
  local members = {}
  for name, value in redis.call("INFO"):gmatch "([%w_]+):([^\r\n]*)" do members[name] = value end
  return members
end

local function count_keys()
  local seen, by_kind = {}, {}
  for i, kind in ipairs(KINDS) do by_kind[kind] = { kind = kind, keys = 0, bytes = 0, at = i } end
  by_kind.other = { kind = "other", keys = 0, bytes = 0 }
  each_page("*", function(keys)
    local fresh, ask = {}, {}
    for _, key in ipairs(keys) do
      if not seen[key] then
        seen[key] = true
        fresh[#fresh + 1] = key
        ask[#ask + 1] = { "MEMORY", "USAGE", key }
      end
    end
    if #ask == 0 then return end
    for i, bytes in ipairs(redis.pipeline(ask)) do
      if bytes then                                     -- false: gone since
        local row = by_kind[fresh[i]:match "^([%w_]+):"] or by_kind.other
        row.keys, row.bytes = row.keys + 1, row.bytes + bytes
      end
    end
  end)
  local rows = {}
  for i, kind in ipairs(KINDS) do rows[i] = by_kind[kind] end
  rows[#rows + 1] = by_kind.other
  return rows
end

--- What the server's reads of products found, since the sums began; nil before the first.
local function reads()
  local fields = redis.call("HMGET", "cache_reads", "hits", "misses", "since")
  local hits, misses, since = tonumber(fields[1] or nil), tonumber(fields[2] or nil), tonumber(fields[3] or nil)
  if not (hits and misses and since and hits + misses > 0) then return nil end
  return { hits = hits, misses = misses, hit_percent = 100 * hits / (hits + misses), since = time.iso(since) }
end

local function print_advice(members, of_products)
  local policy, evicted = members.maxmemory_policy or "", tonumber(members.evicted_keys)
  if tonumber(members.redis_version:match "^%d+") < 6 then files.print "- this Redis is too old: 6 or later is needed\n" end
  if policy:find "^allkeys" then
    files.print(("- maxmemory-policy is %s: a full Redis forgets sessions and carts; set volatile-lru or noeviction\n"):format(policy))
  end
  if evicted > 0 then files.print "- keys were evicted, sessions and carts perhaps among them: give Redis more memory\n" end
  if of_products and of_products.hit_percent < 50 and of_products.hits + of_products.misses > 1000 then
    files.print "- most reads of products miss: ./omade cache warm loads all\n"
  end
end

local function percent_of(hits, misses) return hits + misses > 0 and 100 * hits / (hits + misses) or nil end

local function stats(as_json)
  local members, rows, of_products = info(), count_keys(), reads()
  local hits, misses = tonumber(members.keyspace_hits), tonumber(members.keyspace_misses)
  local rate, used = percent_of(hits, misses), tonumber(members.used_memory)
  if as_json then
    print.json { products = of_products or json.null, hits = hits, misses = misses, hit_percent = rate or json.null,
                 evicted = tonumber(members.evicted_keys), memory = used, version = members.redis_version,
                 keys = print.members(COLUMNS, rows) }
    return
  end
  files.print((print.table(COLUMNS, rows, (files.terminal_size()))))
  if of_products then
    files.print(("- products: %d hits, %d misses, %.1f %% hits since %s\n"):format(of_products.hits, of_products.misses,
      of_products.hit_percent, of_products.since))
  else
    files.print "- products: none was asked for yet\n"
  end
  files.print(("- Redis %s: %s in use, %s keys evicted; reads of any key since it started: %d hits, %d misses%s\n"):format(
    members.redis_version, print.bytes(used), members.evicted_keys, hits, misses, rate and (", %.1f %% hits"):format(rate) or ""))
  print_advice(members, of_products)
end

---- warm and flush ------------------------------------------------------------------------

--- Fresh, also where an older one is kept: so all live for an hour from now.
local function warm_one(id)
  cache.drop("product:" .. id)
  catalogue.cached(id)
end

local function warm()
  local ids, kept = catalogue.ids(), 0
  for first = 1, #ids, ASIDE do
    local loads, keys = {}, {}
    for i = first, math.min(first + ASIDE - 1, #ids) do
      keys[#keys + 1] = "product:" .. ids[i]
      loads[#loads + 1] = function() warm_one(ids[i]) end
    end
    all(table.unpack(loads))
    kept = kept + redis.call("EXISTS", table.unpack(keys))
  end
  if kept == 0 and #ids > 0 then error(("Redis kept none of %d products: is it full (maxmemory)?"):format(#ids), 0) end
  files.print(("%d of %d products are in the cache\n"):format(kept, #ids))
end

--- With its lease: who loads one just now does not put the old one back.
local function flush()
  local count = 0
  each_page("product:*", function(keys)
    local values = {}
    for _, key in ipairs(keys) do
      values[#values + 1] = key
      if not key:find ":lease$" then values[#values + 1] = key .. ":lease" end
    end
    redis.del(table.unpack(values))
    for _, key in ipairs(keys) do
      if not key:find ":lease$" then count = count + 1 end
    end
  end)
  files.print(("%d products were removed from the cache\n"):format(count))
end

---- together ------------------------------------------------------------------------------

local COMMANDS <const> = {
  stats = function(as_json) stats(as_json) end, warm = function() warm() end, flush = function() flush() end,
}

--- Failures of the services in one line; the program's own as they are.
local function run(command, as_json)
  local ok, fault = pcall(command, as_json)
  if ok then return end
  if type(fault) ~= "table" then error(fault, 0) end
  if fault.redis_down then error("Redis does not answer (REDIS_URL)", 0) end
  if fault.status == 503 then error("PostgreSQL does not answer (APP_DATABASE_URL)", 0) end
  error(fault.redis_error and "Redis: " .. fault.redis_error or fault.message or tostring(fault), 0)
end

local function main(arguments)
  local command = COMMANDS[arguments[1]]
  local as_json = arguments[1] == "stats" and arguments[2] == "--json"
  if not command or #arguments > (as_json and 2 or 1) then
    files.warn("omade cache: " .. (not arguments[1] and "a command is missing"
      or "unexpected argument '" .. (command and arguments[as_json and 3 or 2] or arguments[1]) .. "'")
      .. "; " .. USAGE .. "\n")
    return 2
  end
  for _, name in ipairs { "REDIS_URL", arguments[1] == "warm" and "APP_DATABASE_URL" or "REDIS_URL" } do
    if (engine.setting(name) or "") == "" then error(name .. " is not set", 0) end
  end
  run(function()
    redis.call "PING"
    command(as_json)
  end)
  return 0
end

return { main = main }
