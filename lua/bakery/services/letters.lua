--- The letter of a message in the outbox: to whom, and what it says.

local config  = require "omade.config"
local db      = require "omade.db"
local layout  = require "bakery.mail.layout"
local letters = require "bakery.mail.letters"
local mail    = require "omade.mail"
local view    = require "bakery.services.order_view"

local writer = {}

---@class bakery.message a row of the outbox
---@field id integer
---@field topic string
---@field aggregate_id string
---@field payload table
---@field body string as JSON, for other programs
---@field attempts integer

local BUYER <const> = [[
  SELECT COALESCE(o.guest_email, u.email) AS email, COALESCE(o.guest_name, u.name) AS name
  FROM orders o LEFT JOIN users u ON u.id = o.user_id AND u.deleted_at IS NULL WHERE o.id = $1]]

--- Who gets it: the order's buyer, or whom the message names.
local function receiver_of(message)
  if message.topic:find "^order%." then return db.row(BUYER, message.aggregate_id) end
  return message.payload
end

local function page(path)
  local home = config.get "PUBLIC_URL"
  return home ~= "" and home:gsub("/$", "") .. path or nil
end

--- How to get no more: each subscriber's own link, else a mail to the shop.
local function unsubscribe_headers(from, url)
  local by_mail = ("<mailto:%s?subject=unsubscribe>"):format(from)
  if not url then return { { "List-Unsubscribe", by_mail } } end
  return { { "List-Unsubscribe", ("<%s>, %s"):format(url, by_mail) },
           { "List-Unsubscribe-Post", "List-Unsubscribe=One-Click" } }
end

--- nil: nothing to send.  Run as the system.
---@param message bakery.message
---@return {to: string, bytes: string}?
function writer.write(message)
  local letter, payload = letters[message.topic], message.payload
  local to = letter and receiver_of(message)
  if not to or not to.email then return nil end
  if letters.NEEDS_TOKEN[message.topic] and not payload.token then
    return nil, "its token is gone; it must be asked for again"
  end

  local from = config.get "MAIL_FROM"
  local url = message.topic:find "^newsletter%." and payload.token
    and page("/api/v1/newsletter/unsubscribe?token=" .. payload.token) or nil
  local subject, parts = letter {
    name = to.name or "", shop = config.get "SHOP_NAME", currency = config.get "SHOP_CURRENCY", page = page,
    payload = payload, unsubscribe = url,
    order = message.topic == "order.created" and view.load(message.aggregate_id) or nil,
  }
  if not subject then return nil end
  return { to = to.email, bytes = mail.message {
    from = from, name = config.get "SHOP_NAME", to = to.email, subject = subject, text = layout.text(parts),
    html = layout.html(subject, parts), id = "outbox-" .. message.id, headers = unsubscribe_headers(from, url),
  } }
end

return writer
