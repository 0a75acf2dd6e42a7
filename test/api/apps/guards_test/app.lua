--- For guards_test: who is asked, in which order, and as whom statements run.

local auth = require "omade.auth"
local db   = require "omade.db"
local v    = require "omade.validate"
local web  = require "omade.web"

local Body <const> = v.shape { n = v.integer { min = 1 } }
local Id <const> = v.shape { id = v.uuid() }

local WHO <const> = [[SELECT current_setting('app.current_user_id', true) AS user_id,
  current_setting('app.user_role', true) AS role,
  current_setting('app.current_order_id', true) AS order_id]]

local function as_whom() return db.row(WHO) end

local function lazily(req)
  local before = db.row(WHO)
  local user = auth.user(req)
  return { before = before.role or "", after = db.row(WHO).role or "", email = user and user.email }
end

local function others(req)
  local order = "20000000-0000-0000-0000-000000000009"
  return { system = auth.as_system(function() return db.row(WHO).role end),
           guest = auth.as_guest(order, function() return db.row(WHO) end),
           placing = auth.as_guest(nil, function() return db.transaction(function() return db.row(WHO) end) end),
           after = db.row(WHO), user = req.user.id }
end

local function headers(req)
  req:add_header("X-One", "1")
  req:add_header("X-Two", "2")
  if req.query.how == "fail" then web.fail(409, "no") end
  if req.query.how == "raise" then error "oops" end
  if req.query.how == "split" then req:add_header("X-Three", "a\r\nX-Evil: 1") end
  return "yes"
end

return { routes = { web.routes("", {
  { "GET",  "/anyone",   as_whom, who = "anyone" },
  { "GET",  "/lazily",   lazily,  who = "anyone" },
  { "GET",  "/optional", as_whom, who = "optional" },
  { "POST", "/optional", as_whom, who = "optional" },
  { "POST", "/known/:id", as_whom, who = "optional", guest_sends = "X-Key", params = Id, body = Body },
  { "GET",  "/any",      as_whom, who = "any" },
  { "POST", "/staff/:id", as_whom, who = "staff", params = Id, body = Body },
  { "GET",  "/others",   others,  who = "customer" },
  { "GET",  "/headers",  headers, who = "anyone" },
}) } }
