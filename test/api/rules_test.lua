-- docs/rules.md: what it says is done, word for word, to a bakery that serves meanwhile.
-- serve: dev

local check  = require "check"
local client = require "client"

local CAKE <const> = "10000000-0000-0000-0000-000000000001"
local RULES <const> = os.getenv "TEST_APP" .. "/rules/"

local john  = client.session("customer", "00000000-0000-0000-0000-000000000001")
local admin = client.session "admin"

local function read(path)
  local file = assert(io.open(path))
  local text = file:read "a"
  file:close()
  return text
end

--- The Lua blocks of the page, in order.
local blocks = {}
for block in read(os.getenv "OMADE_HOME" .. "/docs/rules.md"):gmatch "```lua\n(.-)```" do blocks[#blocks + 1] = block end

--- Edits a rule file; `change` gets its text.
local function edit(name, change)
  local text = change(read(RULES .. name))
  local file = assert(io.open(RULES .. name, "w"))
  file:write(text)
  file:close()
end

--- Replaces what is between two plain texts, the first included.
local function replace(text, from, to, with)
  local first = assert(text:find(from, 1, true), from)
  local _, last = assert(text:find(to, first, true))
  return text:sub(1, first - 1) .. with .. text:sub(last + 1)
end

local function order(body)
  return check.status(client.post("/api/v1/orders", { token = john, body = body }), 201).json().data
end

--- The number of the scripts that serve.
local function generation()
  return tonumber(client.get("/_dev").body:match "Generation (%d+)")
end

local function slot_on(weekday)
  return client.sql(([[INSERT INTO delivery_schedules (delivery_date, delivery_time)
    SELECT d::date, '10:00-10:30' FROM generate_series(current_date + 7, current_date + 13, interval '1 day') d
    WHERE to_char(d, 'fmday') = '%s' RETURNING id]]):format(weekday))
end

return {
  { "another delivery fee", function()
    local sunday, monday = slot_on "sunday", slot_on "monday"
    local function fee(slot)
      return order { items = { { product_id = CAKE } }, fulfilment = "delivery", delivery_schedule_id = slot,
                     address = { line1 = "1 Oven Street", city = "Baketown", postal_code = "1" } }.delivery_fee
    end
    check.equal(fee(sunday), 5.99)
    local before = generation()
    edit("charges.lua", function(text)
      text = replace(text, "function charges.delivery", "\nend\n", blocks[1])
      return text:gsub("local charges = {}", 'local days = require "bakery.services.days"\nlocal money = require "omade.money"\n\n%0')
    end)
    client.eventually(20, "the new scripts", function() return generation() > before end)
    check.equal(fee(sunday), 7.99)
    check.equal(fee(monday), 5.99)
  end },

  { "another flavour", function()
    local function preview()
      return client.post("/api/v1/custom-cakes/preview", {
        body = { configuration = { flavor = "pistachio", size = "small_6", frosting = "buttercream" } } })
    end
    check.status(preview(), 400, "VALIDATION_ERROR")
    edit("cakes.lua", function(text)
      return (text:gsub("cakes%.FLAVORS = {\n", function(line) return line .. blocks[2] end))
    end)
    client.eventually(20, "the new flavour", function() return preview().status == 200 end)
    check.equal(preview().json().data.unit_price, 30.5)
    check.matches(client.get("/api/v1/custom-cakes/options").body, '"pistachio"')
  end },

  { "another step", function()
    local placed = order { items = { { product_id = CAKE } } }
    local function move(status)
      return client.patch("/api/v1/orders/" .. placed.id .. "/status", { token = admin, body = { status = status } })
    end
    check.status(move "confirmed", 200)
    check.status(move "ready", 409, "INVALID_TRANSITION")
    edit("orders.lua", function(text) return replace(text, "  confirmed  = ", "\n", blocks[3]) end)
    client.eventually(20, "the new step", function() return move "ready".status == 200 end)
    check.status(move "delivered", 200)
  end },
}
