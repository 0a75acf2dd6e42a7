--- What payment providers tell us.

local payment = require "bakery.services.payment"
local s       = require "omade.schema"
local v       = require "omade.validate"
local web     = require "omade.web"

local Event <const> = v.shape {
  id        = v.text { min = 1, max = 255 },
  type      = v.one_of { "payment.succeeded", "payment.failed", "refund.succeeded" },
  order_id  = v.uuid(),
  amount    = v.money { min = 0, max = "999999.99" },
  currency  = v.text { min = 3, max = 3 },
  reference = v.text { max = 255, optional = true },
  created   = v.time { optional = true },
}

--- The signature comes before all else, over the bytes as they came.
local function webhook(req)
  local provider = req.params.provider
  payment.check(req, provider)
  payment.take(provider, v.body(req, Event), req.raw)
  return { received = true }
end

return web.routes("/api/v1/payments", {
  { "POST", "/webhook/:provider", webhook, who = "anyone", limit = false, reads = Event,
    answer = s.object { received = s.boolean }, summary = "An event of a provider",
    sends = { ["X-Omade-Signature"] = "t=<unix seconds>,v1=<hex HMAC-SHA256 of t.body>; good for 5 minutes" },
    errors = { [400] = "BAD_REQUEST: the signature is not valid; or what was sent is malformed",
               [503] = "PROVIDER_NOT_CONFIGURED" } },
})
