--- Custom cakes: what can be chosen, what it costs, when it can be had.  Orders and carts
-- use the same shape and the same rules, so a quote equals the order.

local answers = require "bakery.rules.answers"
local cakes = require "bakery.rules.cakes"
local days  = require "bakery.services.days"
local json  = require "omade.json"
local s     = require "omade.schema"
local shape = require "bakery.rules.cake_shape"
local v     = require "omade.validate"
local web   = require "omade.web"

---- Shapes: what a caller may send -------------------------------------------------------

local Wish <const> = v.shape {
  configuration  = shape,
  requested_date = v.date { optional = true },
}

local Dated <const> = v.shape {
  configuration  = shape,
  requested_date = v.date(),
}

---- Answers ---------------------------------------------------------------------------

local function choices(more)
  local fields = { id = s.text, name = s.text, price = s.money }
  for name, field in pairs(more) do fields[name] = field end
  return s.list(s.object(fields))
end

local Options <const> = s.object {
  base_price      = s.money,
  sizes           = choices { multiplier = s.number },
  flavors         = choices {},
  frostings       = choices { ["no_piping?"] = s.boolean },
  decorations     = choices { per = s.one_of { "cake", "piece" }, ["piping?"] = s.boolean,
                              ["notice_days?"] = s.count },
  dietary_options = choices { flavors = s.list(s.text), frostings = s.list(s.text) },
  layers          = s.list(s.object { layers = s.count, price = s.money }),
  lead_days       = s.count,
  rush_fees       = s.list(s.money),
}

local Preview <const> = s.object {
  unit_price = s.money, price_breakdown = answers.PriceBreakdown, lead_days = s.count, earliest_date = s.date,
  valid = s.boolean, issues = s.list(s.text),
}

local Availability <const> = s.object {
  available = s.boolean, ["reason?"] = s.text, issues = s.list(s.text), rush_fee = s.nullable(s.money),
  lead_days = s.count, earliest_date = s.date,
}

---- Handlers: request in, answer out --------------------------------------------------------

local function options()
  local sizes = json.array {}
  for i, size in ipairs(cakes.SIZES) do
    sizes[i] = { id = size.id, name = size.name, price = cakes.BASE:percent(size.percent),
                 multiplier = size.percent / 100 }
  end
  local layers = json.array {}
  for i, price in ipairs(cakes.LAYERS) do layers[i] = { layers = i, price = price } end

  return {
    base_price = cakes.BASE, sizes = sizes, flavors = json.array(cakes.FLAVORS),
    frostings = json.array(cakes.FROSTINGS), decorations = json.array(cakes.DECORATIONS),
    dietary_options = json.array(cakes.DIETARY), layers = layers,
    lead_days = cakes.LEAD_DAYS, rush_fees = json.array(cakes.RUSH_FEES),
  }
end

local function messages_of(cake)
  local messages = json.array {}
  for i, issue in ipairs(cakes.issues(cake)) do messages[i] = issue.message end
  return messages
end

--- Price and dates of a configuration; without a date there is no rush fee.
local function preview(req)
  local cake, date = req.body.configuration, req.body.requested_date
  local today = days.today()
  local issues, fee = messages_of(cake), nil

  if date then
    fee = cakes.rush_fee(cake, days.between(today, date))
    if not fee then issues[#issues + 1] = "This cake cannot be ready by then" end
  end
  local price, breakdown = cakes.price(cake, fee)
  return {
    unit_price = price, price_breakdown = breakdown, lead_days = cakes.lead_days(cake),
    earliest_date = days.after(today, cakes.earliest_days(cake)),
    valid = #issues == 0, issues = issues,
  }
end

local function availability(req)
  local cake, today = req.body.configuration, days.today()
  local fee = cakes.rush_fee(cake, days.between(today, req.body.requested_date))
  local issues = messages_of(cake)

  if not fee then table.insert(issues, 1, "This cake cannot be ready by then") end
  return {
    available = #issues == 0, reason = issues[1], issues = issues, rush_fee = fee or json.null,
    lead_days = cakes.lead_days(cake),
    earliest_date = days.after(today, cakes.earliest_days(cake)),
  }
end

---- Routes: the table of contents -----------------------------------------------------------

return web.routes("/api/v1/custom-cakes", {
  { "GET",  "/options",             options,      who = "anyone", etag = true, public = true,
    answer = Options, summary = "What can be chosen, with prices" },
  { "POST", "/preview",             preview,      who = "anyone", body = Wish,
    answer = Preview, summary = "Price and dates of a cake" },
  { "POST", "/calculate-pricing",   preview,      who = "anyone", body = Wish,
    answer = Preview, summary = "Price and dates of a cake" },
  { "POST", "/check-availability",  availability, who = "anyone", body = Dated,
    answer = Availability, summary = "Whether a cake can be had on a day" },
})
