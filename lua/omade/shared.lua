--- Values that all requests of a worker share: strings, integers, booleans.  They survive
-- reloads, not crashes; bounded by SHARED_MEMORY.

---@class omade.shared
---@field get fun(key: string): string|integer|boolean|nil
---@field set fun(key: string, value: string|integer|boolean|nil)
---@field incr fun(key: string, by?: integer): integer

return require "omade.core.shared"
