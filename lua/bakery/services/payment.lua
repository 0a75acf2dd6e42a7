--- Online payment: where the customer pays, and what a provider tells us.

local auth    = require "omade.auth"
local changes = require "bakery.services.order_changes"
local config  = require "omade.config"
local crypto  = require "omade.crypto"
local db      = require "omade.db"
local money   = require "omade.money"
local outbox  = require "bakery.services.outbox"
local rules   = require "bakery.rules.orders"
local time    = require "omade.time"
local web     = require "omade.web"

local payment = {}

local TOLERANCE <const> = 300      -- seconds that a signature is good

---- Where to pay ------------------------------------------------------------------------------

local function not_configured()
  web.fail(503, "Online payment is not configured", { code = "PROVIDER_NOT_CONFIGURED" })
end

local function url_of(order)
  local values = { order_id = order.id, order_number = order.order_number, amount = tostring(order.total_amount),
                   currency = config.get "SHOP_CURRENCY" }
  return (config.get("PAYMENT_URL_TEMPLATE"):gsub("{([%w_]+)}", values))
end

--- Where a locked order is paid.
---@param order table
---@return {provider: string, payment_url: string, expires_at: string}
function payment.begin_in(order)
  if config.get "PAYMENT_URL_TEMPLATE" == "" then not_configured() end
  if order.status == "cancelled" or order.status == "refunded" then
    web.fail(409, "The order is " .. order.status, { code = "INVALID_TRANSITION" })
  end
  if order.payment_status == "paid" then web.fail(409, "The order is paid", { code = "CONFLICT" }) end
  if rules.is_free(order) then web.fail(409, "There is nothing to be paid", { code = "CONFLICT" }) end
  if order.payment_status == "failed" then changes.pay_in(order, "pending") end
  return { provider = config.get "PAYMENT_PROVIDER", payment_url = url_of(order),
           expires_at = time.iso(time.now() + 60 * config.get "UNPAID_ORDER_MINUTES") }
end

---- What a provider tells ---------------------------------------------------------------------

local function bad_signature()
  web.fail(400, "The signature is not valid", { code = "BAD_REQUEST" })
end

--- Checks `t=<seconds>,v1=<hex HMAC-SHA256 of t.body>`.
---@param req omade.request
---@param secret string
local function check_signature(req, secret)
  local header = req:header "X-Omade-Signature" or ""
  local stamp, signature = header:match "^t=(%d+),v1=(%x+)$"
  if not stamp or #stamp > 12 then bad_signature() end
  if math.abs(time.now() - tonumber(stamp)) > TOLERANCE then bad_signature() end
  if not crypto.equal(crypto.hmac_sha256(secret, stamp .. "." .. req.raw), signature:lower()) then
    bad_signature()
  end
end

--- Providers and how their requests are checked.
local PROVIDERS <const> = {
  generic = function(req)
    local secret = config.get "PAYMENT_GENERIC_SECRET"
    if secret == "" then not_configured() end
    check_signature(req, secret)
  end,
}

--- 404 for an unknown provider, 400 for a bad signature.
---@param req omade.request
---@param provider string
function payment.check(req, provider)
  local check = PROVIDERS[provider] or web.fail(404, "There is no such provider")
  check(req)
end

local RECORD <const> = [[
  INSERT INTO payments (provider, event_id, type, order_id, amount, currency, reference, outcome, raw, occurred_at)
  VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
  ON CONFLICT (provider, event_id) DO NOTHING RETURNING id]]

--- For a human to look at.
local function ask_review(id, order, event, why)
  outbox.add("payment.review", order and order.id or id, {
    payment_id = id, order_id = order and order.id, event_id = event.id, type = event.type,
    amount = event.amount, currency = event.currency, why = why,
  })
end

--- Why a success cannot be taken for the order's payment; nil when it can.
local function doubt_of(order, event)
  if event.currency ~= config.get "SHOP_CURRENCY" then return "another currency" end
  if event.amount ~= order.total_amount:money() then return "another amount" end
  if order.status == "cancelled" or order.status == "refunded" then return "the order is " .. order.status end
  if order.payment_status == "refunded" then return "the order was refunded" end
  return nil
end

--- What an event does: outcome, and why it needs a look.  Each is harmless when it comes
-- late or out of order, because it only takes the steps that the order may take.
local decide = {
  ["payment.succeeded"] = function(order, event)
    local doubt = doubt_of(order, event)
    if doubt then return "review", doubt end
    if order.payment_status ~= "paid" then return "applied" end
    if event.reference and event.reference == order.payment_reference then return "ignored" end
    return "review", "the order was paid already"
  end,
  ["payment.failed"] = function(order)
    return order.payment_status == "pending" and "applied" or "ignored"
  end,
  ["refund.succeeded"] = function(order, event)
    local left = order.total_amount:money() - order.refunded_amount:money()
    if event.currency ~= config.get "SHOP_CURRENCY" then return "review", "another currency" end
    if left == money "0" or event.amount == money "0" then return "ignored" end
    if not rules.refundable(order) or event.amount > left then return "review", "more than can be refunded" end
    return "applied"
  end,
}

local apply = {
  ["payment.succeeded"] = function(order, event) changes.pay_in(order, "paid", event.reference) end,
  ["payment.failed"] = function(order, event) changes.pay_in(order, "failed", event.reference) end,
  ["refund.succeeded"] = function(order, event, id)
    changes.refund_in(order, event.amount, { payment_id = id, reason = event.reference })
  end,
}

--- Takes a provider's event, once however often it comes.  As the system.
---@param provider string
---@param event table as its shape made it
---@param raw string the body
function payment.take(provider, event, raw)
  auth.as_system(function()
    db.transaction(function()
      local order = changes.find(event.order_id)
      local outcome, why = "review", "there is no such order"
      if order then outcome, why = decide[event.type](order, event) end
      local row = db.row(RECORD, provider, event.id, event.type, order and order.id, event.amount, event.currency,
                         event.reference, outcome, raw, event.created)
      if not row then return end                       -- it came before
      if outcome == "applied" then apply[event.type](order, event, row.id) end
      if outcome == "review" then ask_review(row.id, order, event, why) end
    end)
  end)
end

return payment
