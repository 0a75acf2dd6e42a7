--- One line per event, with the request's id.  Nothing secret belongs here.

---@class omade.log
---@field debug fun(event: string, fields?: table<string, any>)
---@field info fun(event: string, fields?: table<string, any>)
---@field warn fun(event: string, fields?: table<string, any>)
---@field error fun(event: string, fields?: table<string, any>)

return require "omade.core.log"
