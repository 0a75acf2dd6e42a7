--- The service itself: what it is, and whether it is well.

local crypto = require "omade.crypto"
local db     = require "omade.db"
local engine = require "omade.core.engine"
local json   = require "omade.json"
local redis  = require "omade.redis"
local s      = require "omade.schema"
local time   = require "omade.time"
local web    = require "omade.web"

local VERSION <const> = "1.0.0"

---- Handlers: request in, answer out --------------------------------------------------

local function index()
  return web.json {
    message = "Omade Cravings Bakery API", version = VERSION, documentation = "/api/docs",
    endpoints = {
      auth = "/api/v1/auth", products = "/api/v1/products", cart = "/api/v1/cart",
      orders = "/api/v1/orders", promo = "/api/v1/promo", reviews = "/api/v1/reviews",
      loyalty = "/api/v1/loyalty", delivery = "/api/v1/delivery",
      customCakes = "/api/v1/custom-cakes", health = "/health",
    },
  }
end

local function answers(probe)
  return (pcall(probe))
end

-- Who asks for the health of a thing that hangs wants to know it soon.
local function ask_database() db.all { { "SELECT 1", timeout = 0.5 } } end
local function ask_redis() redis.call "PING" end

--- PostgreSQL away is unhealthy; Redis away only makes the catalogue slower.
local function health()
  local database, cache = all(function() return answers(ask_database) end,
                              function() return answers(ask_redis) end)
  local errors = json.array {}
  if not database then errors[#errors + 1] = "The database does not answer" end
  if not cache then errors[#errors + 1] = "Redis does not answer" end

  return web.json({
    status = not database and "unhealthy" or not cache and "degraded" or "healthy",
    timestamp = time.iso(),
    services = { database = database and "up" or "down", redis = cache and "up" or "down",
                 api = "up" },
    errors = #errors > 0 and errors or nil,
  }, { status = database and 200 or 503 })
end

--- Whether this worker takes traffic.
local function ready()
  local draining = engine.draining()

  return web.json({ status = draining and "draining" or "ready" },
                  { status = draining and 503 or 200 })
end

--- For Prometheus, which sends METRICS_TOKEN; without one the path is not there.
local function metrics(req)
  local token = engine.setting "METRICS_TOKEN"
  if not token or token == "" then web.fail(404, "There is nothing at this path") end
  if not crypto.equal(req:header "Authorization" or "", "Bearer " .. token) then
    web.fail(401, "The token for metrics is needed", { headers = { ["WWW-Authenticate"] = "Bearer" } })
  end
  return web.raw(engine.metrics(), "text/plain; version=0.0.4; charset=utf-8")
end

---- Answers ---------------------------------------------------------------------------

local Index <const> = s.object { message = s.text, version = s.text, documentation = s.text,
                                 endpoints = s.map(s.text) }

local UP <const> = s.one_of { "up", "down" }

local Health <const> = s.object {
  status = s.one_of { "healthy", "degraded", "unhealthy" }, timestamp = s.time,
  services = s.object { database = UP, redis = UP, api = UP }, ["errors?"] = s.list(s.text),
}

local Ready <const> = s.object { status = s.one_of { "ready", "draining" } }

---- Routes: the table of contents -------------------------------------------------------

return web.group("", { limit = false }, {
  { "GET", "/",           index,  who = "anyone", bare = true, answer = Index, summary = "What this is" },
  { "GET", "/health",     health, who = "anyone", bare = true, status = { 200, 503 }, answer = Health, summary = "Is it well?" },
  { "GET", "/api/health", health, who = "anyone", bare = true, status = { 200, 503 }, answer = Health, summary = "Is it well?" },
  { "GET", "/ready",      ready,  who = "anyone", bare = true, status = { 200, 503 }, answer = Ready, summary = "Does it take traffic?" },
  { "GET", "/metrics",    metrics, who = "anyone", bare = true, type = "text/plain",
    errors = { [401] = "The token is not right", [404] = "There is no METRICS_TOKEN" },
    summary = "Figures for Prometheus, with METRICS_TOKEN" },
})
