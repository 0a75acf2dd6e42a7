--- Idempotency-Key: the same request twice has one effect and one answer.
--
-- A route says `idempotent = true`, and its handler does its work inside
-- idempotency.run(req, fn).  The answer is kept in the transaction of the work, so that
-- there are both or neither; a refused request leaves the key free.  Who has a first and
-- a last batch of statements of his own sends ours with them:
--
--   local key = idempotency.key(req)                                 -- nil: none was sent
--   local ok, answer = pcall(db.transaction, function()
--     local first = idempotency.begin(key, { ... })      -- none of them runs for a taken key
--     ...
--     local answer, keep = idempotency.answer(key, web.created(order))
--     db.commit { ..., table.unpack(keep) }
--     return answer
--   end)
--   if ok then return answer end
--   return idempotency.is_taken(answer) and idempotency.replay(key) or error(answer, 0)

local crypto = require "omade.crypto"
local db     = require "omade.db"
local json   = require "omade.json"
local validate = require "omade.validate"
local web    = require "omade.web"

---@class omade.idempotency
local idempotency = {}

---@class omade.idempotency_key
---@field text string as it was sent
---@field scope string method, route and caller
---@field fingerprint string of path and body

local KEY_MAX <const> = 128
local JSON_TYPE <const> = "application/json; charset=utf-8"

---- The key ---------------------------------------------------------------------------

--- For the engine: the header of a route with `idempotent = true`; raises 400.
---@param req omade.request
function idempotency.check(req)
  local text = req:header "Idempotency-Key"
  if text and (#text > KEY_MAX or not text:find "^[ -~]+$") then
    validate.refuse { { path = "Idempotency-Key",
                        message = "Idempotency-Key must be 1 to 128 printable characters" } }
  end
end

--- A user, else a guest's cart, else whom the guest says to be; only user ids as they are.
local function caller_of(req)
  if req.user then return "user:" .. req.user.id end
  local session = req:header "X-Session-Id"
  local token = req:header "X-Tracking-Token"
  local body = type(req.body) == "table" and req.body or {}
  local guest = session and "session:" .. session or token and "token:" .. token
    or "contact:" .. tostring(body.guest_email or body.guest_phone or "")
  return "guest:" .. crypto.sha256(guest)
end

--- The request's key; nil when it has none.
---@param req omade.request
---@return omade.idempotency_key?
function idempotency.key(req)
  local text = req:header "Idempotency-Key"
  if not text then return nil end
  idempotency.check(req)
  return { text = text, scope = req.route .. " " .. caller_of(req),
           fingerprint = crypto.sha256(req.path .. "\n" .. req.raw) }
end

---- Before the work ---------------------------------------------------------------------

local KEPT <const> = [[
  SELECT request_hash, status, convert_from(body, 'UTF8') AS body
  FROM kept_idempotency_answer($1, $2)]]

-- Takes the key for this transaction, never waits, and gives the answer that is kept.
local CLAIM <const> = [[
  SELECT claimed, request_hash, status, convert_from(body, 'UTF8') AS body
  FROM claim_idempotency_key($1, $2)]]

-- Takes the key, or raises: then nothing behind it runs, or waits for the first request.
local TAKE <const> = "SELECT take_idempotency_key($1, $2)"
local TAKEN <const> = "IK001"

--- Sends a transaction's first statements, and returns their results.  Raises what
-- idempotency.is_taken knows when the key is not free.
---@param key omade.idempotency_key?
---@param statements omade.statement[]
---@return any[] results
function idempotency.begin(key, statements)
  if not key then return db.batch(statements) end
  local results = db.batch { { TAKE, key.scope, key.text, as = "exec" }, table.unpack(statements) }
  table.remove(results, 1)
  return results
end

--- Whether a fault says that idempotency.begin found the key taken.
---@param fault any
---@return boolean
function idempotency.is_taken(fault)
  return type(fault) == "table" and fault.sqlstate == TAKEN
end

local function in_flight()
  web.fail(409, "The first request with this Idempotency-Key is still under way",
           { code = "IDEMPOTENCY_IN_FLIGHT", headers = { ["Retry-After"] = "1" } })
end

--- The kept answer; nil when there is none, 422 when it is another request's.
local function answer_of(key, kept)
  if not kept or not kept.request_hash then return nil end
  if kept.request_hash ~= key.fingerprint then
    web.fail(422, "This Idempotency-Key was used for another request",
             { code = "IDEMPOTENCY_MISMATCH" })
  end
  return web.raw(kept.body, JSON_TYPE, { status = kept.status,
                                         headers = { ["Idempotency-Replayed"] = "true" } })
end

--- The answer that is kept under a key, or nil; raises 422 for another request.
---@param key omade.idempotency_key
---@return table? answer
function idempotency.find(key) return answer_of(key, db.row(KEPT, key.scope, key.text)) end

--- The same for a key that was found taken: 409 while there is no answer.
---@param key omade.idempotency_key
---@return table answer
function idempotency.replay(key) return idempotency.find(key) or in_flight() end

---- After it -----------------------------------------------------------------------------

--- Status and bytes of what a handler returns, as the engine would send them.
local function bytes_of(result)
  if not web.is_answer(result) then result = { value = result } end
  if result.empty or result.file or result.type then
    error("idempotency: only JSON answers can be kept", 0)
  end
  local body = json.encode(result.value)
  if not result.bare then
    body = '{"success":true,"data":' .. body
      .. (result.message and ',"message":' .. json.encode(result.message) or "") .. "}"
  end
  return result.status or 200, body, result.headers
end

local KEEP <const> = [[
  INSERT INTO idempotency_keys (scope, key, request_hash, status, body)
  VALUES ($1, $2, $3, $4, convert_to($5, 'UTF8'))]]

--- What to return instead of `result`, and the statements that keep it: one, or none when
-- there is no key, or the status is no success.  Whoever sends them has a role: signed in,
-- or a guest.
---@param key omade.idempotency_key?
---@param result any what the handler would return
---@return any answer
---@return omade.statement[] statements
function idempotency.answer(key, result)
  if not key then return result, {} end
  local status, body, headers = bytes_of(result)
  local answer = web.raw(body, JSON_TYPE, { status = status, headers = headers })
  if status >= 300 then return answer, {} end
  return answer, { { KEEP, key.scope, key.text, key.fingerprint, status, body, as = "exec" } }
end

---- All of it ------------------------------------------------------------------------------

--- Runs fn in a transaction, once per key; returns its answer, or the one of before.
-- Without a key it only runs the transaction.
---@param req omade.request
---@param fn fun(): any
---@return any answer
function idempotency.run(req, fn)
  local key = idempotency.key(req)
  if not key then return db.transaction(fn) end

  return db.transaction(function()
    local kept = db.row(CLAIM, key.scope, key.text)
    local before = answer_of(key, kept)
    if not kept.claimed then return idempotency.replay(key) end
    if before then return before end
    local answer, keep = idempotency.answer(key, fn())
    if #keep > 0 then db.batch(keep) end
    return answer
  end)
end

--- Forgets what is over; for a job of the app, as the shop itself.
---@return integer how many
function idempotency.clean()
  return db.exec "DELETE FROM idempotency_keys WHERE expires_at <= now()"
end

return idempotency
