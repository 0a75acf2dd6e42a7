--- Redis.  A call that cannot be answered in time raises 503 (`redis_down`); an error
-- reply raises with `redis_error`: 503 where Redis refuses for now (full, loading ...), else 500.

---@class omade.redis
---@field get fun(key: string): string?
---@field get_bytes fun(key: string): omade.bytes? JSON bytes to pass on, never a Lua string
---@field set fun(key: string, value: string|number|omade.bytes, seconds?: number)
---@field del fun(...: string): integer
---@field call fun(command: string, ...: string|number|omade.bytes): any any command
---@field pipeline fun(commands: any[][]): any[] several at once; nil is false in lists
---A script of Redis, which does nothing else meanwhile: it must be short, and end.  Nothing
---of ours ends one that does not (SCRIPT KILL, or ./omade env, does).
---@field eval fun(script: string, keys: string[], ...: string|number|omade.bytes): any
---@field subscribe fun(channel: string): omade.subscription

return require "omade.core.redis"
