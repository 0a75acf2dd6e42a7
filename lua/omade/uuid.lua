--- Ids.

---@class omade.uuid
---@field v4 fun(): string a random one
---@field valid fun(text: any): boolean

return require "omade.core.uuid"
