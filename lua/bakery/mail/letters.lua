--- What the shop writes to people: by topic of the outbox a function of what is known,
-- which returns a subject and parts (see layout.lua), or nil for no letter.
--
-- It gets {name, shop, page = function(path) -> url or nil, payload, order?}.

local letters = {}

local function greeting(about) return "Hello " .. about.name .. "," end
local function regards(about) return "Your " .. about.shop end

---- Orders -----------------------------------------------------------------------------------

local function rows_of(order, currency)
  local rows = {}
  for _, item in ipairs(order.items) do
    rows[#rows + 1] = { item.quantity .. " x " .. item.product_name, tostring(item.subtotal) }
  end
  for _, line in ipairs { { "Discount", "discount_amount", "-" }, { "Points", "points_amount", "-" },
                          { "Delivery", "delivery_fee", "" }, { "Tip", "tip_amount", "" }, { "Tax", "tax_amount", "" } } do
    local amount = tostring(order[line[2]])
    if amount ~= "0.00" then rows[#rows + 1] = { line[1], line[3] .. amount } end
  end
  rows[#rows + 1] = { "Total", tostring(order.total_amount) .. " " .. currency }
  return rows
end

local function when(order)
  if order.delivery then
    return ("We bring it on %s, %s."):format(tostring(order.delivery.date), tostring(order.delivery.time))
  end
  return "You can follow it with its number and your e-mail address."
end

letters["order.created"] = function(about)
  local order = about.order
  return "Your order " .. order.order_number, {
    greeting(about), "thank you for your order " .. order.order_number .. ".",
    { rows = rows_of(order, about.currency) }, when(order), regards(about),
  }
end

local STATUS <const> = {
  confirmed  = "has been confirmed.",
  ready      = "is ready: come and get it.",
  dispatched = "is on its way.",
  delivered  = "has been handed over. Enjoy it!",
  cancelled  = "has been cancelled.",
}

letters["order.status_changed"] = function(about)
  local payload = about.payload
  local news = STATUS[payload.to]
  if payload.to == "preparing" and payload.from == "dispatched" then
    news = "could not be delivered. We will be in touch about another time."
  end
  if not news then return nil end
  return ("Your order %s %s"):format(payload.order_number, news:match "^[^.:]+"), {
    greeting(about), "your order " .. payload.order_number .. " " .. news, regards(about),
  }
end

letters["order.refunded"] = function(about)
  local payload = about.payload
  return "A refund for your order " .. payload.order_number, {
    greeting(about),
    ("we have refunded %s %s for your order %s."):format(tostring(payload.amount), about.currency, payload.order_number),
    regards(about),
  }
end

---- Accounts: each with a token, which is good for a while and once ----------------------------

local function with_token(subject, why, path, label)
  return function(about)
    local token = about.payload.token
    local url = about.page(path .. "?token=" .. token)
    return subject:format(about.shop), {
      greeting(about), why:format(about.shop), url and { link = url, label = label } or label .. ": " .. token,
      "If you did not ask for this, there is nothing to do.", regards(about),
    }
  end
end

letters["user.password_reset"] = with_token("Reset your password at %s", "you can set a new password for %s now.",
                                            "/reset-password", "Set a new password")
letters["user.invited"] = with_token("Your account at %s", "there is an account for you at %s. Set its password first.",
                                     "/reset-password", "Set your password")
letters["user.email_change"] = with_token("Confirm your new address at %s", "please confirm your new e-mail address for %s.",
                                          "/confirm-email", "Confirm the address")

---- Newsletter -----------------------------------------------------------------------------------

letters["newsletter.subscribed"] = function(about)
  local url = about.unsubscribe
  return "News from " .. about.shop, {
    "Hello,", "you will get news from " .. about.shop .. " from now on.",
    url and { link = url, label = "Unsubscribe" } or "To unsubscribe, answer this mail.", regards(about),
  }
end

--- Topics whose letters are worth nothing without their token, which is kept only until it was sent.
letters.NEEDS_TOKEN = { ["user.password_reset"] = true, ["user.invited"] = true, ["user.email_change"] = true }

return letters
