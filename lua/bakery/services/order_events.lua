--- The changes of an order as Server-Sent Events, for all workers alike.
--
-- The history table is the truth; a notification only wakes, and without LISTEN the table
-- is looked at every few seconds.  An event's id is its row's: Last-Event-ID resumes.

local db   = require "omade.db"
local json = require "omade.json"
local log  = require "omade.log"
local time = require "omade.time"
local web  = require "omade.web"

local events = {}

local CHANNEL <const> = "order_events"
local WAIT <const> = 15      -- seconds between signs of life
local POLL <const> = 3       -- seconds, where LISTEN is not to be had

local SINCE <const> = [[
  SELECT id, status, payment_status, at, by_role FROM order_status_history
  WHERE order_id = $1 AND id > $2 ORDER BY id LIMIT 500]]

local function last_id(req)
  local text = req:header "Last-Event-ID"
  return text and text:find "^%d+$" and #text <= 18 and math.tointeger(text) or 0
end

--- Sends what came after `last`; returns the newest id.
local function send(stream, id, last)
  for _, row in ipairs(db.rows(SINCE, id, last)) do
    local name = row.payment_status and "payment" or "status"
    stream:event(json.encode { status = row.status, payment_status = row.payment_status, at = row.at,
                               by_role = row.by_role }, name, tostring(row.id))
    last = row.id
  end
  return last
end

local function listen()
  local ok, subscription = pcall(db.listen, CHANNEL)
  if ok then return subscription end
  log.warn("events are polled: LISTEN is not to be had")
  return nil
end

--- Waits until something may have happened to the order; false when only time went by.
local function wait(subscription, id)
  if not subscription then
    sleep(POLL)
    return true
  end
  local ends = time.monotonic() + WAIT      -- also when other orders change all the time
  repeat
    local left = ends - time.monotonic()
    if left <= 0 then return false end
    local payload = subscription:next(left)
    if payload == false then return true end      -- some may have been missed
  until payload == id
  return true
end

--- Answers a request with the events of an order that the caller may see.
---@param req omade.request
---@param id string
function events.stream(req, id)
  local subscription = listen()      -- before the first look, so that nothing falls between
  return web.stream(req, function(stream)
    local last = last_id(req)
    last = send(stream, id, last)
    while not req.cancelled do
      if wait(subscription, id) then last = send(stream, id, last)
      else stream:write ":\n\n" end
    end
  end)
end

return events
