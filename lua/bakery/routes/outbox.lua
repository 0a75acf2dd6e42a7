--- The outbox for admins: what waits, was sent, was given up; and one more try.

local audit   = require "bakery.services.audit"
local db      = require "omade.db"
local drivers = require "bakery.services.outbox_drivers"
local page    = require "omade.page"
local s       = require "omade.schema"
local v       = require "omade.validate"
local web     = require "omade.web"

drivers.configured()      -- a setting that is missing stops the start

--- Tokens are nobody's but the receiver's.
local COLUMNS <const> = [[o.id, o.topic, o.aggregate_id, o.payload - 'token' AS payload,
  CASE WHEN o.sent_at IS NOT NULL THEN 'sent' WHEN o.failed_at IS NOT NULL THEN 'failed' ELSE 'waiting' END AS status,
  o.attempts, o.last_error, o.created_at, o.available_at, o.sent_at, o.failed_at]]

---- Shapes: what a caller may send --------------------------------------------------------------

local Id <const> = v.shape { id = v.integer { min = 1, label = "Message id" } }

local List <const> = v.shape(page.fields {
  status       = v.one_of({ "waiting", "sent", "failed" }, { optional = true }),
  topic        = v.text { max = 100, optional = true },
  aggregate_id = v.uuid { optional = true },
})

local STATUS <const> = {
  waiting = "o.sent_at IS NULL AND o.failed_at IS NULL",
  sent    = "o.sent_at IS NOT NULL",
  failed  = "o.failed_at IS NOT NULL",
}

---- Handlers: request in, answer out ------------------------------------------------------------

--- Letters say to whom they go: who reads them leaves a trace.
local function list(req)
  local q = req.query
  local filter = page.filter()
  audit.write(req, "outbox.list", "outbox", nil, { topic = q.topic, aggregate_id = q.aggregate_id, page = q.page })
  filter:add("o.topic = %s", q.topic)
  filter:add("o.aggregate_id = %s", q.aggregate_id)
  local where = filter:sql()
  if q.status then where = (where == "" and " WHERE " or where .. " AND ") .. STATUS[q.status] end
  return page.list("messages", q, { select = COLUMNS, from = "outbox o" .. where, order = "o.id DESC",
                                    values = filter.values })
end

local RETRY <const> = [[
  UPDATE outbox SET failed_at = NULL, attempts = 0, available_at = now() WHERE id = $1 AND failed_at IS NOT NULL]]

local ONE <const> = "SELECT " .. COLUMNS .. " FROM outbox o WHERE o.id = $1"

--- Only what was given up: what waits is tried anyway.
local function retry(req)
  local id = req.params.id
  return db.transaction(function()
    local again = db.exec(RETRY, id) == 1
    local message = db.row(ONE, id) or web.fail(404, "Message not found")
    if not again then web.fail(409, "The message is " .. message.status, { code = "CONFLICT" }) end
    audit.write(req, "outbox.retry", "outbox", tostring(id), { topic = message.topic })
    return message
  end)
end

---- Answers -----------------------------------------------------------------------------------------

local Message <const> = s.object {
  id = s.integer, topic = s.text, aggregate_id = s.uuid, payload = s.any, attempts = s.count,
  status = s.one_of { "waiting", "sent", "failed" }, ["last_error?"] = s.nullable(s.text), created_at = s.time,
  available_at = s.time, ["sent_at?"] = s.nullable(s.time), ["failed_at?"] = s.nullable(s.time),
}

---- Routes: the table of contents -----------------------------------------------------------------

return web.routes("/api/v1/admin/outbox", {
  { "GET",  "/", list, who = "admin", query = List, answer = s.page("messages", Message), summary = "Messages to the world" },
  { "POST", "/:id/retry", retry, who = "admin", params = Id, answer = Message, summary = "Try one again that was given up",
    errors = { [409] = "CONFLICT: it waits, or was sent" } },
})
