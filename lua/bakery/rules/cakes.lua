--- Custom cakes: what there is, what it costs, how long it takes.
--
-- Everything that a bakery changes stands in the tables at the top.  The functions below
-- are pure: a configuration and a number of days in, prices and issues out.

local json  = require "omade.json"
local money = require "omade.money"

local cakes = {}

---- The tables -------------------------------------------------------------------------

cakes.BASE = money "25.00"

-- times the base, in percent
cakes.SIZES = {
  { id = "small_6", name = "6 inch", percent = 100 },
  { id = "medium_8", name = "8 inch", percent = 150 },
  { id = "large_10", name = "10 inch", percent = 220 },
  { id = "xlarge_12", name = "12 inch", percent = 300 },
  { id = "sheet_quarter", name = "Quarter sheet", percent = 180 },
  { id = "sheet_half", name = "Half sheet", percent = 250 },
}

cakes.FLAVORS = {
  { id = "vanilla", name = "Vanilla", price = money "0" },
  { id = "chocolate", name = "Chocolate", price = money "2" },
  { id = "lemon", name = "Lemon", price = money "3" },
  { id = "carrot", name = "Carrot", price = money "4" },
  { id = "red_velvet", name = "Red velvet", price = money "5" },
  { id = "strawberry", name = "Strawberry", price = money "6" },
}

cakes.FROSTINGS = {
  { id = "buttercream", name = "Buttercream", price = money "0" },
  { id = "whipped_cream", name = "Whipped cream", price = money "2", no_piping = true },
  { id = "cream_cheese", name = "Cream cheese", price = money "3" },
  { id = "chocolate_ganache", name = "Chocolate ganache", price = money "5", no_piping = true },
  { id = "fondant", name = "Fondant", price = money "8" },
}

-- per = "piece": the price is for one of `quantity`, else for the cake.
cakes.DECORATIONS = {
  { id = "piped_borders", name = "Piped borders", price = money "5", per = "cake", piping = true },
  { id = "custom_writing", name = "Custom writing", price = money "3", per = "cake" },
  { id = "chocolate_drip", name = "Chocolate drip", price = money "8", per = "cake" },
  { id = "fresh_flowers", name = "Fresh flowers", price = money "3", per = "piece", notice_days = 2 },
  { id = "themed_toppers", name = "Themed toppers", price = money "12", per = "piece", notice_days = 5 },
}

cakes.DIETARY = {
  { id = "gluten_free", name = "Gluten free", price = money "8",
    flavors = { "vanilla", "chocolate", "lemon" },
    frostings = { "buttercream", "cream_cheese", "whipped_cream" } },
  { id = "vegan", name = "Vegan", price = money "12",
    flavors = { "vanilla", "chocolate", "lemon" }, frostings = { "buttercream" } },
  { id = "sugar_free", name = "Sugar free", price = money "6",
    flavors = { "vanilla", "chocolate" }, frostings = { "buttercream", "whipped_cream" } },
}

cakes.LAYERS = { money "0", money "8", money "18", money "30" }

cakes.LEAD_DAYS         = 2
cakes.LEAD_DAYS_DIETARY = 3      -- at least
cakes.TALL_LAYERS       = 3      -- from here a day more

--- What less notice than the lead time costs, by days; the last counts for all above.
cakes.RUSH_FEES = { money "50.00", money "25.00", money "15.00" }

---- Looking up --------------------------------------------------------------------------

local function by_id(list)
  local index = {}
  for _, entry in ipairs(list) do index[entry.id] = entry end
  return index
end

local SIZE <const>, FLAVOR <const> = by_id(cakes.SIZES), by_id(cakes.FLAVORS)
local FROSTING <const>, DECORATION <const> = by_id(cakes.FROSTINGS), by_id(cakes.DECORATIONS)
local DIET <const> = by_id(cakes.DIETARY)

local function contains(words, word)
  for _, one in ipairs(words) do if one == word then return true end end
  return false
end

--- The ids of one of the tables, for a shape.
---@param list {id: string}[]
---@return string[]
function cakes.ids(list)
  local ids = {}
  for i, entry in ipairs(list) do ids[i] = entry.id end
  return ids
end

---- What goes together --------------------------------------------------------------------

local function decoration_issues(cake, add)
  local seen, frosting = {}, FROSTING[cake.frosting or ""]
  for i, chosen in ipairs(cake.decorations or {}) do
    local where, decoration = ("decorations[%d]"):format(i - 1), DECORATION[chosen.id or ""]
    if decoration then
      if seen[chosen.id] then add(where, decoration.name .. " is listed twice") end
      seen[chosen.id] = true
      if decoration.piping and frosting and frosting.no_piping then
        add(where, frosting.name .. " takes no piping")
      end
    end
  end
end

local function dietary_issues(cake, add)
  local flavor, frosting = FLAVOR[cake.flavor or ""], FROSTING[cake.frosting or ""]
  for i, id in ipairs(cake.dietary or {}) do
    local where, diet = ("dietary[%d]"):format(i - 1), DIET[id]
    if flavor and not contains(diet.flavors, flavor.id) then
      add(where, ("%s is not to be had with %s"):format(diet.name, flavor.name))
    end
    if frosting and not contains(diet.frostings, frosting.id) then
      add(where, ("%s is not to be had with %s"):format(diet.name, frosting.name))
    end
  end
end

--- What does not go together.
---@param cake table a configuration, as its shape made it; faulty parts are missing
---@return {field: string, message: string}[]
function cakes.issues(cake)
  local issues = {}
  local function add(field, message) issues[#issues + 1] = { field = field, message = message } end
  decoration_issues(cake, add)
  dietary_issues(cake, add)
  return issues
end

---- Time -------------------------------------------------------------------------------------

--- The days that its decorations need, which no fee shortens.
---@param cake table
---@return integer
function cakes.notice_days(cake)
  local days = 0
  for _, chosen in ipairs(cake.decorations or {}) do
    days = math.max(days, DECORATION[chosen.id].notice_days or 0)
  end
  return days
end

--- Days of notice without a rush fee.
---@param cake table
---@return integer
function cakes.lead_days(cake)
  local days = math.max(cakes.LEAD_DAYS, cakes.notice_days(cake))
  if (cake.layers or 1) >= cakes.TALL_LAYERS then days = days + 1 end
  if cake.dietary and #cake.dietary > 0 then days = math.max(days, cakes.LEAD_DAYS_DIETARY) end
  return days
end

--- Days from today to the first day on which it can be had at all.
---@param cake table
---@return integer
function cakes.earliest_days(cake)
  return math.max(1, cakes.notice_days(cake))
end

--- What a hand-over in so many days costs more; nil when it is too soon for any fee.
---@param cake table
---@param days integer whole days of the shop from today
---@return omade.money.amount?
function cakes.rush_fee(cake, days)
  if days < cakes.earliest_days(cake) then return nil end
  if days >= cakes.lead_days(cake) then return money "0" end
  return cakes.RUSH_FEES[math.min(days, #cakes.RUSH_FEES)]
end

---- Prices ------------------------------------------------------------------------------------

local function decoration_prices(cake)
  local list, sum = json.array {}, money "0"
  for i, chosen in ipairs(cake.decorations or {}) do
    local decoration = DECORATION[chosen.id]
    local quantity = decoration.per == "piece" and (chosen.quantity or 1) or 1
    local amount = decoration.price * quantity
    list[i] = { id = chosen.id, quantity = quantity, amount = amount }
    sum = sum + amount
  end
  return list, sum
end

local function dietary_prices(cake)
  local list, sum = json.array {}, money "0"
  for i, id in ipairs(cake.dietary or {}) do
    list[i] = { id = id, amount = DIET[id].price }
    sum = sum + DIET[id].price
  end
  return list, sum
end

--- The price of one cake, and how it comes about.
---@param cake table
---@param rush_fee? omade.money.amount inside the price
---@return omade.money.amount unit_price
---@return table breakdown
function cakes.price(cake, rush_fee)
  local size = SIZE[cake.size]
  local decorations, decoration_sum = decoration_prices(cake)
  local dietary, dietary_sum = dietary_prices(cake)
  local breakdown = {
    base = cakes.BASE, size = { id = size.id, amount = cakes.BASE:percent(size.percent) },
    flavor = FLAVOR[cake.flavor].price, frosting = FROSTING[cake.frosting].price,
    layers = cakes.LAYERS[cake.layers or 1], decorations = decorations, dietary = dietary,
    rush_fee = rush_fee or money "0",
  }
  local price = breakdown.size.amount + breakdown.flavor + breakdown.frosting + breakdown.layers
    + decoration_sum + dietary_sum + breakdown.rush_fee
  return price, breakdown
end

return cakes
