--- Messages to the world, written in the transaction of what they tell about, and
-- delivered by a task: at least once, in order for each aggregate.

local db = require "omade.db"

local outbox = {}

local INSERT <const> = "INSERT INTO outbox (topic, aggregate_id, payload) VALUES ($1, $2, $3)"

--- The statement, for a db.batch.
---@param topic string "order.created"
---@param aggregate_id string uuid of the order, the user ...; the order of delivery is kept for it
---@param payload table small; what a receiver must know when the row may have changed since
---@return omade.statement
function outbox.entry(topic, aggregate_id, payload)
  return { INSERT, topic, aggregate_id, payload, as = "exec" }
end

--- Writes it now, in the transaction that is open.
---@param topic string
---@param aggregate_id string
---@param payload table
function outbox.add(topic, aggregate_id, payload)
  db.exec(INSERT, topic, aggregate_id, payload)
end

return outbox
