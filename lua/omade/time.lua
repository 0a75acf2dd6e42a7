--- Clocks and times.

---@class omade.time
---@field now fun(): number seconds since 1970, UTC
---@field monotonic fun(): number seconds; only differences mean something
---@field iso fun(seconds?: number): string "2026-01-15T10:30:00.123Z"
---@field parse fun(text: string): number? seconds of an RFC 3339 time or date; nil when malformed
---@field date fun(seconds?: number): string "2026-01-15"
---@field sleep fun(seconds: number)

return require "omade.core.time"
