--- Products in the cache, as GET answers them: what changes one drops it.

local cache = require "omade.cache"

local product_cache = {}

--- What `change` returns, with the products of `ids` dropped from the cache behind its commit - also
-- when it fails: of one whose answer was lost on the way, nobody knows whether it was committed.
---@generic T
---@param ids string[]
---@param change fun(): T
---@return T
function product_cache.changing(ids, change)
  local ok, result = pcall(change)
  local keys = {}
  for i, id in ipairs(ids) do keys[i] = "product:" .. id end
  cache.drop(table.unpack(keys))
  if not ok then error(result, 0) end
  return result
end

return product_cache
