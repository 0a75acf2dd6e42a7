-- Custom cakes: the prices, the notice and the rush fees of the contract.
-- env: CLOSED_DAYS=2031-12-25

local check  = require "check"
local client = require "client"

local BASE <const> = "/api/v1/custom-cakes"

local function cake(fields)
  local result = { flavor = "vanilla", size = "small_6", frosting = "buttercream" }
  for name, value in pairs(fields or {}) do result[name] = value end
  return result
end

local function preview(fields, date)
  local answer = client.post(BASE .. "/preview", { body = { configuration = cake(fields), requested_date = date } })
  return check.status(answer, 200).json().data
end

local today = client.sql "SELECT (now() AT TIME ZONE 'UTC')::date"
local function day(n) return client.sql(("SELECT date '%s' + %d"):format(today, n)) end

local function decorations(...)
  local list = {}
  for i, id in ipairs { ... } do list[i] = { id = id } end
  return list
end

return {
  { "prices", function()
    check.equal(preview().unit_price, 25)
    check.equal(preview({ size = "medium_8" }).unit_price, 37.5)
    check.equal(preview({ size = "large_10" }).unit_price, 55)
    check.equal(preview({ size = "xlarge_12" }).unit_price, 75)
    check.equal(preview({ size = "sheet_quarter" }).unit_price, 45)
    check.equal(preview({ size = "sheet_half" }).unit_price, 62.5)
    for flavor, price in pairs { vanilla = 0, chocolate = 2, lemon = 3, carrot = 4, red_velvet = 5, strawberry = 6 } do
      check.equal(preview({ flavor = flavor }).unit_price, 25 + price, flavor)
    end
    for frosting, price in pairs { buttercream = 0, whipped_cream = 2, cream_cheese = 3, chocolate_ganache = 5, fondant = 8 } do
      check.equal(preview({ frosting = frosting }).unit_price, 25 + price, frosting)
    end
    for layers, price in ipairs { 0, 8, 18, 30 } do
      check.equal(preview({ layers = layers }).unit_price, 25 + price, "layers")
    end
    -- 62.50 + 2 + 0 + 30 + (5 + 3 + 8 + 3x4 + 12x2) + (8 + 6)
    local all = preview { size = "sheet_half", flavor = "chocolate", layers = 4, dietary = { "gluten_free", "sugar_free" },
                          decorations = { { id = "piped_borders", quantity = 9 }, { id = "custom_writing" },
                                          { id = "chocolate_drip" }, { id = "fresh_flowers", quantity = 4 },
                                          { id = "themed_toppers", quantity = 2 } } }
    check.equal(all.unit_price, 62.5 + 2 + 30 + 52 + 14)
    check.equal(all.valid, true)
    check.equal(all.price_breakdown.rush_fee, 0)
  end },

  { "notice", function()
    check.equal(preview().lead_days, 2)
    check.equal(preview({ layers = 3 }).lead_days, 3)
    check.equal(preview({ dietary = { "vegan" } }).lead_days, 3)
    check.equal(preview({ dietary = { "vegan" }, layers = 3 }).lead_days, 3)
    check.equal(preview({ decorations = decorations "themed_toppers" }).lead_days, 5)
    check.equal(preview({ decorations = decorations "themed_toppers", layers = 4 }).lead_days, 6)
    check.equal(preview().earliest_date, day(1))
    check.equal(preview({ decorations = decorations "fresh_flowers" }).earliest_date, day(2))
    check.equal(preview({ decorations = decorations "themed_toppers" }).earliest_date, day(5))
  end },

  { "rush fees", function()
    local topped = { decorations = decorations "themed_toppers", layers = 4 }       -- six days, at least five
    local diet = { dietary = { "vegan" }, layers = 1 }                                -- three days
    check.equal(preview(nil, day(2)).unit_price, 25)
    check.equal(preview(nil, day(1)).unit_price, 75)
    check.equal(preview(nil, day(1)).price_breakdown.rush_fee, 50)
    check.equal(preview(diet, day(2)).price_breakdown.rush_fee, 25)
    check.equal(preview(topped, day(5)).price_breakdown.rush_fee, 15)
    check.equal(preview(topped, day(6)).price_breakdown.rush_fee, 0)
    for _, late in ipairs { preview(nil, day(0)), preview(nil, day(-1)), preview(topped, day(4)) } do
      check.equal(late.valid, false)
      check.equal(late.price_breakdown.rush_fee, 0)
      check.equal(#late.issues, 1)
    end
  end },

  { "availability", function()
    local function ask(n)
      return client.post(BASE .. "/check-availability", { body = { configuration = cake(), requested_date = day(n) } }).json().data
    end
    check.equal(ask(2).available, true)
    check.equal(ask(2).rush_fee, 0)
    check.equal(ask(1).available, true)
    check.equal(ask(1).rush_fee, 50)
    check.equal(ask(0).available, false)
    check.matches(ask(0).reason, "cannot be ready")
  end },

  { "what does not go together", function()
    check.equal(preview({ frosting = "whipped_cream", decorations = decorations "piped_borders" }).valid, false)
    check.equal(preview({ frosting = "chocolate_ganache", decorations = decorations "piped_borders" }).valid, false)
    check.equal(preview({ frosting = "fondant", decorations = decorations "piped_borders" }).valid, true)
    check.equal(preview({ dietary = { "gluten_free" }, flavor = "carrot" }).valid, false)
    check.equal(preview({ dietary = { "vegan" }, frosting = "cream_cheese" }).valid, false)
    check.equal(preview({ dietary = { "sugar_free" }, flavor = "lemon" }).valid, false)
    check.equal(preview({ dietary = { "sugar_free" }, frosting = "whipped_cream" }).valid, true)
    check.equal(preview({ decorations = decorations("fresh_flowers", "fresh_flowers") }).valid, false)
  end },

  { "bad input names its field", function()
    local function refused(configuration, field)
      local answer = client.post(BASE .. "/preview", { body = { configuration = configuration } })
      check.status(answer, 400, "VALIDATION_ERROR")
      check.truthy(answer.json().fields[field], field .. " in " .. answer.body)
    end
    refused(cake { flavor = "banana" }, "configuration.flavor")
    refused(cake { size = 6 }, "configuration.size")
    refused(cake { layers = 5 }, "configuration.layers")
    refused(cake { layers = 1.5 }, "configuration.layers")
    refused(cake { message = ("x"):rep(101) }, "configuration.message")
    refused(cake { decorations = { { id = "fresh_flowers", quantity = 21 } } }, "configuration.decorations[0].quantity")
    refused(cake { dietary = { "vegan", "vegan" } }, "configuration.dietary")
    refused(cake { image_reference = "../../etc/passwd" }, "configuration.image_reference")
    refused({}, "configuration.frosting")
    check.status(client.post(BASE .. "/check-availability", { body = { configuration = cake() } }), 400, "VALIDATION_ERROR")
    check.status(client.post(BASE .. "/preview", { body = { configuration = cake(), requested_date = "2026-02-30" } }), 400)
  end },

  { "options", function()
    local answer = check.status(client.get(BASE .. "/options"), 200)
    local data = answer.json().data
    check.equal(#data.sizes, 6)
    check.equal(#data.flavors, 6)
    check.equal(#data.frostings, 5)
    check.equal(#data.decorations, 5)
    check.equal(#data.dietary_options, 3)
    check.matches(answer.body, '"id":"large_10"')
    check.matches(answer.body, '"price":55.00')
  end },

  { "none on a day on which the shop is closed", function()
    local function look(date)
      return check.status(client.post(BASE .. "/check-availability", {
        body = { configuration = cake(), requested_date = date } }), 200).json().data
    end
    local closed = look "2031-12-25"
    check.equal(closed.available, false)
    check.matches(closed.reason, "closed")
    check.equal(look("2031-12-26").available, true)
    check.equal(preview({}, "2031-12-25").valid, false)
    check.matches(preview({}, "2031-12-25").issues[1], "closed")
    check.equal(preview({}, "2031-12-26").valid, true)
  end },
}
