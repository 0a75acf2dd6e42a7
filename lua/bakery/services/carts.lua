--- Carts in Redis: cart:{user_id}, cart:guest:{session_id}; 24 hours, sliding.
--
-- A change is compare-and-set on the bytes, so that of changes at the same time none is
-- lost.  The cart itself stays in C (omade.commerce).

local commerce = require "omade.commerce"
local crypto   = require "omade.crypto"
local plain    = require "bakery.services.plain_carts"
local redis    = require "omade.redis"
local v        = require "omade.validate"
local web      = require "omade.web"

local carts = {}

carts.SECONDS = 24 * 3600

local TRIES <const> = 50

---@class bakery.cart_owner
---@field key string in Redis
---@field user_id? string
---@field session_id? string

-- KEYS: cart.  ARGV: the bytes as they were ("" for none), as they are now, seconds.
local SWAP <const> = [[
local now = redis.pcall('GET', KEYS[1])
if (type(now) == 'string' and now or '') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
return 1]]

-- KEYS: cart, guest's cart.  ARGV: both as they were, the sum, seconds.
local MERGE <const> = [[
local now = redis.pcall('GET', KEYS[1])
if (type(now) == 'string' and now or '') ~= ARGV[1] then return 0 end
if redis.call('GET', KEYS[2]) ~= ARGV[2] then return 0 end
redis.call('SET', KEYS[1], ARGV[3], 'EX', ARGV[4])
redis.call('DEL', KEYS[2])
return 1]]

-- KEYS: cart.  ARGV: the bytes as they were.
local DELETE <const> = [[
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])]]

---- Whose ---------------------------------------------------------------------------------------

---@param session_id string
---@return bakery.cart_owner
function carts.guest(session_id)
  return { key = "cart:guest:" .. session_id, session_id = session_id }
end

--- A new guest's id.
---@return string
function carts.new_session() return crypto.token() end

--- The guest's session of the header, or nil; malformed: 400.
---@param req omade.request
---@return string?
function carts.session_of(req)
  local id = req:header "X-Session-Id"
  if not id then return nil end
  if #id ~= 64 or not id:find "^%x+$" then
    v.refuse { { path = "X-Session-Id",
                 message = "X-Session-Id must be what POST /api/v1/cart/guest answered" } }
  end
  return id:lower()
end

--- Whose cart a request is about; nil for nobody's.
---@param req omade.request
---@return bakery.cart_owner?
function carts.owner(req)
  if req.user then return { key = "cart:" .. req.user.id, user_id = req.user.id } end
  local session = carts.session_of(req)
  return session and carts.guest(session)
end

---- Reading and changing ------------------------------------------------------------------------

--- The answer of a GET; nil for nothing, and for what is no text at all.
local function text_of(...)
  local ok, bytes = pcall(redis.call, ...)
  if ok then return bytes or nil end
  if type(bytes) == "table" and tostring(bytes.redis_error):find "^WRONGTYPE" then return nil end
  error(bytes, 0)
end

local function decode(bytes, owner)
  local who = { user_id = owner.user_id, session_id = owner.session_id }
  return bytes and commerce.cart(bytes, who) or commerce.cart(nil, who)
end

--- Asks for a cart.  A plain one is kept as ours first, so that its ids stay.
local function fetch(owner, ...)
  local bytes = text_of(...)
  local cart = decode(bytes, owner)
  if not bytes or #cart > 0 then return cart, bytes end
  local taken = plain.take(bytes, owner)
  if not taken then return cart, bytes end
  local ours = taken:bytes()
  if redis.eval(SWAP, { owner.key }, bytes, ours, carts.SECONDS) == 1 then return taken, ours end
  return fetch(owner, ...)
end

--- The cart as it is; an empty one when there is none, or what is there is no cart.
---@param owner bakery.cart_owner
---@return omade.commerce.cart cart
---@return string|userdata|nil bytes
function carts.load(owner)
  return fetch(owner, "GETEX", owner.key, "EX", carts.SECONDS)
end

local function too_busy()
  web.fail(503, "The cart is being changed elsewhere; try again",
           { code = "UNAVAILABLE", headers = { ["Retry-After"] = "1" } })
end

--- Waits a random time, which grows with the crowd.
local function step_back(try)
  sleep(math.random() * 0.002 * (1 << math.min(try, 7)))
end

--- Applies fn to the cart, again as often as somebody else was faster; fn may raise.
---@param owner bakery.cart_owner
---@param fn fun(cart: omade.commerce.cart): any
---@return omade.commerce.cart cart
---@return any what fn returned
function carts.change(owner, fn)
  for try = 1, TRIES do
    local cart, bytes = fetch(owner, "GET", owner.key)
    local result = fn(cart)
    cart:touch()
    if redis.eval(SWAP, { owner.key }, bytes or "", cart:bytes(), carts.SECONDS) == 1 then
      return cart, result
    end
    step_back(try)
  end
  too_busy()
end

--- Adds a guest's cart to a user's and deletes it, in one step: a second time nothing is
-- there to add.  fn changes the sum before it is kept.
---@param owner bakery.cart_owner
---@param guest bakery.cart_owner
---@param fn fun(cart: omade.commerce.cart, other: omade.commerce.cart): any
---@return omade.commerce.cart cart
---@return any what fn returned; nil when the guest had no cart
function carts.merge(owner, guest, fn)
  for try = 1, TRIES do
    local theirs = text_of("GET", guest.key)
    local cart, mine = fetch(owner, "GET", owner.key)
    if not theirs then return cart, nil end
    local result = fn(cart, decode(theirs, guest))
    cart:touch()
    if redis.eval(MERGE, { owner.key, guest.key }, mine or "", theirs, cart:bytes(), carts.SECONDS) == 1 then
      return cart, result
    end
    step_back(try)
  end
  too_busy()
end

---- After an order ---------------------------------------------------------------------------------

--- What is left of a cart of which `ordered` was bought, under another cart_id.
local function rest_of(cart, ordered, owner)
  local bought, left = {}, decode(nil, owner)
  for _, line in ipairs(ordered:lines()) do bought[line.line_id] = line.quantity end
  for _, line in ipairs(cart:lines()) do
    line.quantity = line.quantity - (bought[line.line_id] or 0)
    if line.quantity > 0 then left:add(line) end
  end
  return left
end

--- Takes what was ordered out of the cart: all of it, unless it was changed meanwhile.
---@param owner bakery.cart_owner
---@param ordered omade.commerce.cart as it was ordered
---@param bytes string|userdata its bytes
function carts.empty(owner, ordered, bytes)
  if redis.eval(DELETE, { owner.key }, bytes) == 1 then return end
  for _ = 1, TRIES do
    local now = redis.get(owner.key)
    local cart = decode(now, owner)
    if not now or cart:id() ~= ordered:id() then return end
    local left = rest_of(cart, ordered, owner)
    if #left == 0 then
      if redis.eval(DELETE, { owner.key }, now) == 1 then return end
    elseif redis.eval(SWAP, { owner.key }, now, left:touch():bytes(), carts.SECONDS) == 1 then
      return
    end
  end
end

return carts
