--- Points: the balance, where it comes from, and corrections by admins.  The balance is the
-- sum of the ledger; the database keeps it so.

local answers     = require "bakery.rules.answers"
local audit       = require "bakery.services.audit"
local db          = require "omade.db"
local idempotency = require "omade.idempotency"
local page        = require "omade.page"
local s           = require "omade.schema"
local shop        = require "bakery.services.shop"
local v           = require "omade.validate"
local web         = require "omade.web"

local POINTS_MAX <const> = 2147483647      -- an integer column's
local STEP_MAX   <const> = 1000000         -- of one correction

---- Shapes: what a caller may send -------------------------------------------------------

local List <const> = v.shape(page.fields())

local Adjustment <const> = v.shape({
  user_id = v.uuid(),
  points  = v.integer { min = -STEP_MAX, max = STEP_MAX },
  reason  = v.text { min = 1, max = 500 },
}, { together = function(adjustment, fault)
  if adjustment.points == 0 then fault("Points must not be 0", "points") end
end })

---- Handlers: request in, answer out ----------------------------------------------------------

local BALANCE <const> = [[
  SELECT l.id, l.user_id, l.points, trunc($2::numeric * l.points / 100, 2) AS value, l.updated_at,
    jsonb_build_object('id', u.id, 'name', u.name, 'email', u.email) AS "user"
  FROM loyalty_points l JOIN users u ON u.id = l.user_id WHERE l.user_id = $1]]

local function balance_of(user_id)
  return db.json_row(BALANCE, user_id, shop.HUNDRED_POINTS)
end

local function show(req)
  return balance_of(req.user.id) or web.fail(404, "There is no such account")
end

local function history(req)
  return page.list("history", req.query, {
    select = "l.id, l.points, l.reason, l.order_id, o.order_number, l.note, l.created_at",
    from = "loyalty_ledger l LEFT JOIN orders o ON o.id = l.order_id WHERE l.user_id = $1",
    order = "l.id DESC", values = { req.user.id } })
end

local LOCK <const> = [[
  SELECT lock_points(u.id) AS points FROM users u WHERE u.id = $1 AND u.deleted_at IS NULL]]

--- What the account has, locked; refuses what would leave it below 0, or with too many.
local function check_balance(user_id, points)
  local row = db.row(LOCK, user_id)
  local has = row and row.points or web.fail(404, "User not found")
  if has + points < 0 then
    web.fail(422, "The account has only " .. has .. " points",
             { code = "INSUFFICIENT_POINTS", extra = { available = has } })
  end
  if has + points > POINTS_MAX then
    web.fail(409, "An account holds at most " .. POINTS_MAX .. " points", { code = "CONFLICT" })
  end
end

local ADJUST <const> = [[
  INSERT INTO loyalty_ledger (user_id, points, reason, note) VALUES ($1, $2, 'adjusted', $3)]]

local function adjust(req)
  local user_id, points, reason = req.body.user_id, req.body.points, req.body.reason
  return idempotency.run(req, function()
    check_balance(user_id, points)
    db.batch {
      { ADJUST, user_id, points, reason, as = "exec" },
      audit.entry(req, "loyalty.adjust", "user", user_id, { points = points, reason = reason }),
    }
    return web.data(balance_of(user_id), { message = "Points adjusted successfully" })
  end)
end

---- Routes: the table of contents ---------------------------------------------------------------

local Entry <const> = s.object {
  id = s.integer, points = s.integer, reason = s.one_of { "earned", "redeemed", "returned", "clawed_back", "adjusted" },
  order_id = s.nullable(s.uuid), order_number = s.nullable(s.text), note = s.nullable(s.text), created_at = s.time,
}

return web.routes("/api/v1/loyalty", {
  { "GET",  "/",        show,    who = "any", answer = answers.Loyalty, errors = { [404] = "No such account" },
    summary = "One's points" },
  { "GET",  "/history", history, who = "any", query = List, answer = s.page("history", Entry),
    summary = "Where they come from" },
  { "POST", "/adjust",  adjust,  who = "admin", body = Adjustment, idempotent = true, answer = answers.Loyalty,
    errors = { [404] = "User not found", [409] = "CONFLICT: more points than fit", [422] = "INSUFFICIENT_POINTS" },
    summary = "Correct somebody's points" },
})
