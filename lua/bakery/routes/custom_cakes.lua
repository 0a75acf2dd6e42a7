--- Custom cakes: what can be chosen, what it costs, when it can be had.  Orders and carts
-- use the same shape and the same rules, so a quote equals the order.

local answers = require "bakery.rules.answers"
local cakes = require "bakery.rules.cakes"
local days  = require "bakery.services.days"
local json  = require "omade.json"
local s     = require "omade.schema"
local shape = require "bakery.rules.cake_shape"
local shop  = require "bakery.services.shop"
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

--- What an order of the cake for this day would be refused for, the day first, and the rush
-- fee; without a day there is none.
local function look_at(cake, today, date)
  local issues, fee = json.array {}, nil
  if date then
    fee = cakes.rush_fee(cake, days.between(today, date))
    if not fee then issues[1] = "This cake cannot be ready by then" end
    if shop.closed_on(date) then issues[#issues + 1] = "The shop is closed on that day" end
  end
  for _, issue in ipairs(cakes.issues(cake)) do issues[#issues + 1] = issue.message end
  return issues, fee
end

--- Price and dates of a configuration.
local function preview(req)
  local cake, today = req.body.configuration, days.today()
  local issues, fee = look_at(cake, today, req.body.requested_date)
  local price, breakdown = cakes.price(cake, fee)
  return {
    unit_price = price, price_breakdown = breakdown, lead_days = cakes.lead_days(cake),
    earliest_date = days.after(today, cakes.earliest_days(cake)),
    valid = #issues == 0, issues = issues,
  }
end

local function availability(req)
  local cake, today = req.body.configuration, days.today()
  local issues, fee = look_at(cake, today, req.body.requested_date)
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
