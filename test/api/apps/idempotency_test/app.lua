--- For idempotency_test: work whose effects are rows of a table that the test makes.

local auth        = require "omade.auth"
local db          = require "omade.db"
local idempotency = require "omade.idempotency"
local redis       = require "omade.redis"
local v           = require "omade.validate"
local web         = require "omade.web"

local Body <const> = v.shape {
  n = v.integer { min = 1 }, guest_email = v.email { optional = true },
  how = v.text { optional = true },
}

local function work(body)
  local row = db.row("INSERT INTO test_effects (n) VALUES ($1) RETURNING id, n", body.n)
  if body.how == "refuse" then web.fail(409, "not now", { code = "CONFLICT" }) end
  if body.how == "raise" then error "oops" end
  if body.how == "wait" then
    redis.set("started", "1")
    while not redis.get "go" do sleep(0.01) end
  end
  if body.how == "accept" then return web.json({ id = row.id }, { status = 202 }) end
  if body.how == "bad" then return web.json({ id = row.id }, { status = 400 }) end
  return web.created(row, "Done")
end

local function run(req)
  return idempotency.run(req, function() return work(req.body) end)
end

--- The same with batches of its own.
local function batched(req)
  local key = idempotency.key(req)
  local ok, answer = pcall(db.transaction, function()
    local first = idempotency.begin(key, { { "SELECT 7 AS n, pg_advisory_xact_lock(77)::text AS lock", as = "row" } })
    local answer, keep = idempotency.answer(key, web.created { n = first[1].n })
    db.commit { { "INSERT INTO test_effects (n) VALUES (7)", as = "exec" }, table.unpack(keep) }
    return answer
  end)
  if ok then return answer end
  return idempotency.is_taken(answer) and idempotency.replay(key) or error(answer, 0)
end

return { routes = { web.group("", { who = "optional" }, {
  { "POST", "/work",     run,     body = Body, idempotent = true },
  { "POST", "/other",    run,     body = Body, idempotent = true },
  { "POST", "/work/:id", run,     body = Body, idempotent = true },
  { "POST", "/batched",  batched, idempotent = true },
  { "POST", "/clean",    function() return auth.as_system(idempotency.clean) end },
}) } }
