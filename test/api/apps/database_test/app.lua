--- For database_test: every way to ask PostgreSQL and Redis.

local cache = require "omade.cache"
local db    = require "omade.db"
local json  = require "omade.json"
local redis = require "omade.redis"
local web   = require "omade.web"

local CAKE <const> = "10000000-0000-0000-0000-000000000001"

local OTHER <const> = "10000000-0000-0000-0000-000000000002"

local BAKE_ONE <const> = { "UPDATE products SET stock = stock + 1 WHERE id = $1", CAKE, as = "exec" }

--- Two that take the same rows in another order wait for each other.
local function cross(first, second)
  return db.transaction(function()
    db.exec("UPDATE products SET stock = stock + 1 WHERE id = $1", first)
    sleep(0.3)
    return db.exec("UPDATE products SET stock = stock + 1 WHERE id = $1", second)
  end)
end

--- A transaction whose first `times` attempts fail with a SQLSTATE; how many there were.
local function failing(sqlstate, times)
  local attempts = 0
  db.transaction(function()
    attempts = attempts + 1
    db.exec("UPDATE products SET stock = stock + 1 WHERE id = $1", CAKE)
    if attempts <= times then
      db.exec("DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '" .. sqlstate .. "'; END $$")
    end
  end)
  return attempts
end

local ask = {
  row = function() return db.row("SELECT id, name, price, stock, created_at, image_url FROM products WHERE id = $1", CAKE) end,
  none = function() return { row = db.row "SELECT 1 WHERE false" == nil, json = db.json_row "SELECT 1 WHERE false" == nil } end,
  types = function()
    return db.row [[SELECT 1::int2 AS a, 9007199254740993::int8 AS b, 1.50::numeric AS c, true AS d, NULL AS e,
      '{"x": [1, 2.5]}'::jsonb AS f, '{a,"b c",NULL}'::text[] AS g, '{1,2}'::int[] AS h, 0.5::float8 AS i,
      '2026-01-15 10:30:00.123456+00'::timestamptz AS j, '2026-01-15'::date AS k, 'NaN'::numeric AS l, '' AS m]]
  end,
  json = function() return db.json "SELECT 1 AS a, NULL AS b UNION ALL SELECT 2, 'x'" end,
  exec = function() return db.exec("UPDATE products SET description = description WHERE id = $1", CAKE) end,
  batch = function() return db.batch { { "SELECT $1::int AS a", 1 }, { "SELECT 2 AS b", as = "row" } } end,
  all = function() return db.all { { "SELECT 1 AS a" }, { "SELECT $1::text AS b", "x", as = "row" }, { "SELECT 3 AS c", as = "json" } } end,
  params = function()
    return db.row("SELECT $1::text AS s, $2::int AS n, $3::bool AS b, $4::text AS z, $5::jsonb->'a' AS j",
                  "ä'\\\"", 5, true, nil, { a = { 1 } })
  end,
  nul = function() return db.row("SELECT $1::text AS s", "a\0b") end,
  utf8 = function() return db.row("SELECT $1::text AS s", "\xff") end,
  timezone = function() return db.row "SELECT shop_timezone() AS zone" end,
  syntax = function() return db.row "SELEC 1" end,
  unique = function() db.exec("INSERT INTO products (id, name, price) VALUES ($1, 'x', 1)", CAKE) end,
  check = function() db.exec "INSERT INTO products (name, price) VALUES ('x', -1)" end,
  number = function() return db.row("SELECT $1::int AS n", "banana") end,
  slow = function() return db.row "SELECT pg_sleep(120)" end,
  nap = function() return db.row "SELECT pg_sleep(0.005)" end,
  rows_max = function() return db.rows "SELECT * FROM generate_series(1, 150000)" end,
  transaction = function() return db.transaction(function()
    db.exec("UPDATE products SET stock = stock + 1 WHERE id = $1", CAKE)
    return db.row("SELECT stock FROM products WHERE id = $1", CAKE)
  end) end,
  transaction_nap = function() return db.transaction(function()
    db.exec("UPDATE products SET stock = stock + 1 WHERE id = $1", CAKE)
    db.row "SELECT pg_sleep(0.005)"
  end) end,
  commit = function() return db.transaction(function()
    local before = db.row("SELECT stock FROM products WHERE id = $1 FOR UPDATE", CAKE)
    local after = db.commit { { "UPDATE products SET stock = stock + 1 WHERE id = $1", CAKE, as = "exec" },
                              { "SELECT stock FROM products WHERE id = $1", CAKE, as = "row" } }
    return { before.stock, after[1], after[2].stock }
  end) end,
  commit_alone = function() return db.transaction(function() return db.commit { BAKE_ONE } end) end,
  commit_outside = function() db.commit { BAKE_ONE } end,
  commit_fails = function() db.transaction(function()
    db.exec(table.unpack(BAKE_ONE))
    db.commit { BAKE_ONE, { "INSERT INTO products (name, price) VALUES ('x', -1)" } }
  end) end,
  commit_fails_caught = function() db.transaction(function()
    pcall(db.commit, { BAKE_ONE, { "SELECT 1/0" } })
  end) end,
  commit_then = function() return db.transaction(function()
    db.commit { BAKE_ONE }
    local refused, why = pcall(db.exec, table.unpack(BAKE_ONE))
    return { refused, why, pcall(db.commit, { BAKE_ONE }) }
  end) end,
  commit_raises = function()
    local attempts = 0
    local ok, fault = pcall(db.transaction, function()
      attempts = attempts + 1
      db.commit { BAKE_ONE }
      error { sqlstate = "40001", after = "commit" }
    end)
    return { attempts, ok, fault.after, db.row "SELECT 1 AS usable" }
  end,
  commit_too_large = function()
    return { pcall(db.transaction, function() db.commit { BAKE_ONE, { "SELECT * FROM generate_series(1, 150000)" } } end) }
  end,
  commit_serial = function()
    local attempts = 0
    db.transaction(function()
      attempts = attempts + 1
      db.commit { BAKE_ONE, { attempts > 2 and "SELECT 1"
        or "DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '40001'; END $$" } }
    end)
    return attempts
  end,
  commit_deferred = function() db.transaction(function() db.commit { { "INSERT INTO deferred (id) VALUES (1)" } } end) end,
  raises = function() db.transaction(function()
    db.exec("UPDATE products SET stock = stock + 1000 WHERE id = $1", CAKE)
    error "no"
  end) end,
  endless = function() db.transaction(function()
    db.exec("UPDATE products SET stock = stock + 1000 WHERE id = $1", CAKE)
    while true do end
  end) end,
  caught = function() db.transaction(function()
    db.exec("UPDATE products SET stock = stock + 1000 WHERE id = $1", CAKE)
    pcall(db.exec, "SELECT 1/0")
  end) end,
  sleepy = function() db.transaction(function()
    db.exec("UPDATE products SET stock = stock + 1000 WHERE id = $1", CAKE)
    sleep(60)
  end) end,
  identity = function()
    local q = "SELECT current_setting('app.current_user_id', true) AS u, current_setting('app.user_role', true) AS r"
    local outer = db.row(q)
    local inner = db.as({ user_id = CAKE, role = "staff" }, function()
      return { db.row(q), db.transaction(function() return db.row(q) end), db.batch { { q, as = "row" } }[1] }
    end)
    return { outer, inner[1], inner[2], inner[3], db.row(q) }
  end,
  deadlock_ab = function() return cross(CAKE, OTHER) end,
  deadlock_ba = function() return cross(OTHER, CAKE) end,
  serial = function() return failing("40001", 2) end,
  serial_always = function() return failing("40001", 100) end,
  deadlock_lost = function() return failing("40P01", 1) end,
  other_fault = function() return failing("23514", 1) end,
  star = function() return db.row "SELECT * FROM changing" end,
  star_tx = function() return db.transaction(function()
    db.exec "UPDATE changing SET id = id + 1"
    return db.row "SELECT * FROM changing"
  end) end,
  nested = function() db.transaction(function() db.transaction(function() end) end) end,
  listen = function()
    local sub <close> = db.listen "omade_test"
    local begun = sub:next(20)      -- false: from now on nothing is missed
    spawn(function() db.exec "SELECT pg_notify('omade_test', 'hello')" end)
    return { first = sub:next(20), second = sub:next(0.05) == nil, begun = begun == false }
  end,
  subscribe = function()
    local sub <close> = redis.subscribe "omade_test"
    local begun = sub:next(20)
    redis.call("PUBLISH", "omade_test", "hello")
    return begun == false and sub:next(20)
  end,
  counted = function() return db.row "SELECT count(*) AS n FROM orders" end,
  redis = function()
    redis.set("k", "v\0w", 100)
    return { get = redis.get "k" == "v\0w", none = redis.get "nothing" == nil, incr = redis.call("INCR", "n"),
             ttl = redis.call("TTL", "k"), pipe = redis.pipeline { { "SET", "a", "1" }, { "GET", "a" }, { "GET", "zz" } },
             eval = redis.eval("return {KEYS[1], ARGV[1]}", { "key" }, "arg"), del = redis.del("k", "a") }
  end,
  redis_error = function() redis.call("NOSUCH") end,
  cached = function() return cache.fetch("test:cached", 60, function() return json.encode { n = redis.call("INCR", "loads") } end) end,
}

-- Writes need a role that may (docs/data.md); who asks nothing sees nothing.
local function run(req)
  if req.params.name ~= "identity" and req.params.name ~= "counted" then db.as { user_id = CAKE, role = "admin" } end
  return (ask[req.params.name] or web.fail(404, "no"))()
end

--- One statement that fails with the SQLSTATE of the path.
local function fail(req)
  db.exec(("DO $$ BEGIN RAISE EXCEPTION 'secret words' USING ERRCODE = '%s'; END $$"):format(req.params.sqlstate))
end

return { routes = web.routes("/ask", {
  { "GET", "/fault/:sqlstate", fail, who = "anyone" },
  { "GET", "/:name", run, who = "anyone" },
  { "POST", "/:name", run, who = "anyone" },
}) }
