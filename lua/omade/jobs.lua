--- every(..., {where = "cluster"}): once for all workers and machines.
--
-- The runs of one job exclude each other by an advisory lock of PostgreSQL, and a mark
-- in Redis that lives for most of the interval keeps the others from running it again.
-- The lock holds one of the connections for transactions as long as the job runs.  There
-- are two at least, and a worker runs its jobs one after the other, so that they never
-- keep out orders, or their own transactions.

local db    = require "omade.db"
local redis = require "omade.redis"

local PAUSE <const> = 0.05      -- seconds between looks at a job that runs

local running = false           -- in this worker

local function first_of_interval(name, seconds)
  local life = math.max(1, math.floor(seconds * 900))       -- ms: nine tenths of it
  local ok, answer = pcall(redis.call, "SET", "job:" .. name, "1", "NX", "PX", life)
  return not ok or answer == "OK"                           -- Redis away: the lock decides
end

local function run_locked(fn, name)
  db.transaction(function()
    db.exec "SET LOCAL idle_in_transaction_session_timeout = 0"      -- it only holds the lock
    local row = db.row("SELECT pg_try_advisory_xact_lock(hashtextextended($1, 0)) AS mine",
                       "omade.job." .. name)
    if row.mine then all(fn) end       -- in a task of its own: outside this transaction
  end)
end

---@param fn fun()
---@param name string
---@param seconds number
---@return fun() for the core
return function(fn, name, seconds)
  return function()
    if not first_of_interval(name, seconds) then return end
    while running do sleep(PAUSE) end
    local done <close> = setmetatable({}, { __close = function() running = false end })
    running = done
    run_locked(fn, name)
  end
end
