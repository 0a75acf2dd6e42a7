--- For limits_test: the bakery's rules on small routes; limits.json changes two of them.

local limits = require "omade.limits"
local v      = require "omade.validate"
local web    = require "omade.web"

local Body <const> = v.shape { n = v.integer { min = 1 } }
local List <const> = v.shape { page = v.integer { default = 1 }, search = v.text { optional = true } }

local function ok() return "ok" end

--- A sign-in: wrong passwords count, right ones do not.
local function sign_in(req)
  local account = "account:" .. req.query.email
  limits.peek("sign-in", account, req)
  local right = req.query.password == "right"
  limits.tell(req, "sign-in", (right and limits.peek or limits.hit)("sign-in", account, req))
  if not right then web.fail(401, "wrong", { code = "INVALID_CREDENTIALS" }) end
  return "in"
end

local function peek(req)
  limits.peek("sign-in", "account:" .. req.query.email)
  return "may try"
end

local function search_or_general(req) return req.query.search and "search" or "general" end

return {
  limits = require "bakery.rules.limits",
  routes = {
    web.group("", { who = "anyone" }, {
      { "GET",  "/general", ok },
      { "GET",  "/cart",    ok, limit = "cart" },
      { "GET",  "/list",    ok, limit = search_or_general, query = List },
      { "POST", "/promo",   ok, limit = "promo", body = Body },
      { "POST", "/register", ok, limit = "register" },
      { "GET",  "/free",    ok, limit = false },
      { "GET",  "/sign-in", sign_in, limit = false },
      { "GET",  "/peek",    peek, limit = false },
      { "GET",  "/rules",   function() return limits.rules() end, limit = false },
    }),
    web.group("/mine", { who = "any", limit = "cart" }, { { "GET", "/", ok } }),
  },
}
