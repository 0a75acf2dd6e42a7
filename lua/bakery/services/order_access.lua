--- Who may act on an order: its buyer, staff, its rider - by row-level security -, or
-- whoever holds its tracking token, as a guest of that one order.

local auth = require "omade.auth"
local db   = require "omade.db"
local web  = require "omade.web"

local access = {}

local function has_token(req, id)
  local token = req:header "X-Tracking-Token"
  return token and db.row("SELECT order_has_token($1, $2) AS is", id, token).is
end

--- Runs fn as whoever may see the order; 404 for a wrong token.
---@param req omade.request
---@param id string
---@param fn fun(): any
---@return any
function access.with(req, id, fn)
  if has_token(req, id) then return auth.as_guest(id, fn) end
  if req.user then return fn() end
  web.fail(404, "Order not found")
end

---@param req omade.request
---@return boolean
function access.is_staff(req)
  return req.user ~= nil and (req.user.role == "staff" or req.user.role == "admin")
end

return access
