--- Days of the shop, as texts ("2026-01-15").

local db   = require "omade.db"
local time = require "omade.time"

local days = {}

local SECONDS <const> = 24 * 3600

--- Today, where the shop is, by PostgreSQL's clock.
---@return string
function days.today()
  return db.row("SELECT (now() AT TIME ZONE shop_timezone())::date AS today").today
end

--- Whole days from one to the other; negative when `to` is before.
---@param from string
---@param to string
---@return integer
function days.between(from, to)
  return math.tointeger((time.parse(to) - time.parse(from)) // SECONDS)
end

--- The day that is so many days later.
---@param day string
---@param count integer
---@return string
function days.after(day, count)
  return time.date(time.parse(day) + count * SECONDS)
end

local WEEKDAYS <const> = { "thursday", "friday", "saturday", "sunday", "monday", "tuesday", "wednesday" }

---@param day string
---@return string "monday" ...
function days.weekday(day)
  return WEEKDAYS[math.tointeger(time.parse(day) // SECONDS) % 7 + 1]
end

return days
