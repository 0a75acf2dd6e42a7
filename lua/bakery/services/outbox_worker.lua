--- Delivers the outbox: at least once, in order for each aggregate, by one worker at a time.
--
-- A round claims the first waiting message of some aggregates - so that none of them waits
-- for another -, which makes them unavailable for a while, and sends them side by side.  No
-- lock and no connection is held meanwhile: whoever dies leaves messages that are available
-- again when their time is up.  A message that fails too often is given up, and its
-- aggregate goes on.

local auth    = require "omade.auth"
local config  = require "omade.config"
local db      = require "omade.db"
local drivers = require "bakery.services.outbox_drivers"
local log     = require "omade.log"

local worker = {}

local BATCH <const>, ROUNDS <const> = 8, 40
local WAIT_MAX <const> = 3600     -- seconds between two tries

-- Heads only: nothing of their aggregate waits before them.
local CLAIM <const> = [[
  WITH heads AS (
    SELECT o.id FROM outbox o
    WHERE o.sent_at IS NULL AND o.failed_at IS NULL AND o.available_at <= now()
      AND NOT EXISTS (SELECT FROM outbox b WHERE b.aggregate_id = o.aggregate_id AND b.id < o.id
                        AND b.sent_at IS NULL AND b.failed_at IS NULL)
    ORDER BY o.id LIMIT $1 FOR UPDATE SKIP LOCKED)
  UPDATE outbox o SET attempts = o.attempts + 1, available_at = now() + $2::int * interval '1 second'
  FROM heads h WHERE o.id = h.id
  RETURNING o.id, o.topic, o.aggregate_id, o.payload, o.attempts,
    jsonb_build_object('id', o.id, 'topic', o.topic, 'aggregate_id', o.aggregate_id, 'payload', o.payload,
      'created_at', to_char(o.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'))::text AS body]]

-- A trigger takes the tokens out of what is sent or given up.
local SENT <const> = [[
  UPDATE outbox SET sent_at = now(), last_error = NULL WHERE id = $1 AND sent_at IS NULL AND failed_at IS NULL]]

local NOT_SENT <const> = [[
  UPDATE outbox SET last_error = $3, failed_at = CASE WHEN $4::boolean THEN now() END,
    available_at = now() + $5::float8 * interval '1 second'
  WHERE id = $1 AND attempts = $2 AND sent_at IS NULL AND failed_at IS NULL]]

--- Seconds, more than a try takes.
local function lease() return 2 * config.get "OUTBOX_TIMEOUT" + 5 end

--- Twice as long after each try, and not all at the same moment.
local function pause(attempts)
  local seconds = config.get "OUTBOX_RETRY_SECONDS" * 2.0 ^ (attempts - 1)
  return math.min(seconds, WAIT_MAX) * (0.75 + math.random() / 2)
end

--- What PostgreSQL takes as text, and a person reads.
local function words(fault)
  return (tostring(fault):gsub("[^ -~]", "?"):sub(1, 500))
end

local function not_sent(message, fault, in_vain)
  local why = words(fault)
  local over = in_vain or message.attempts >= config.get "OUTBOX_ATTEMPTS"
  log.warn(over and "outbox: given up" or "outbox: not sent",
           { id = message.id, topic = message.topic, attempts = message.attempts, error = why })
  return { NOT_SENT, message.id, message.attempts, why, over, pause(message.attempts), as = "exec" }
end

--- Sends one and returns the statement that says how it went.
local function try(send, message)
  local ok, sent, why, in_vain = pcall(send, message)
  if ok and sent then return { SENT, message.id, as = "exec" } end
  return not_sent(message, ok and why or sent, ok and in_vain)
end

--- Claims some messages and sends them; how many there were.
local function round(send)
  local messages = db.rows(CLAIM, BATCH, lease())
  if #messages == 0 then return 0 end
  local tries, statements = {}, {}
  for i, message in ipairs(messages) do
    tries[i] = function() statements[i] = try(send, message) end
  end
  all(table.unpack(tries))
  db.batch(statements)
  return #messages
end

--- One run of the task: until nothing waits, but not for ever.
function worker.run()
  local send = drivers.configured()
  if not send then return end
  auth.as_system(function()
    for _ = 1, ROUNDS do
      if round(send) == 0 then return end
    end
  end)
end

--- What was sent or given up long ago goes.
function worker.forget()
  local days = config.get "OUTBOX_KEEP_DAYS"
  local count = auth.as_system(function()
    return db.exec("DELETE FROM outbox WHERE sent_at < now() - $1::int * interval '1 day'", days)
      + db.exec("DELETE FROM outbox WHERE failed_at < now() - $1::int * interval '1 day'", days)
  end)
  if count > 0 then log.info("cleaned", { outbox = count }) end
end

every(1, "outbox.deliver", worker.run)
every(3600, "outbox.forget", worker.forget)

return worker
