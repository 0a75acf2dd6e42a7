-- Checks tokens with the keys of a URL, which are asked for whenever one is unknown.
local oidc = require "omade.oidc"
local v    = require "omade.validate"
local web  = require "omade.web"

local provider = oidc.provider { client_ids = { "shop" }, issuers = { "https://issuer.test" },
                                 jwks = "APPLE_JWKS", refetch_after = 0 }

local function verify(req)
  local claims, why = oidc.verify(provider, req.body.token)
  return { sub = claims and claims.sub, why = why }
end

return {
  routes = {
    web.routes("", { { "POST", "/verify", verify, who = "anyone",
                       body = v.shape { token = v.text { max = 20000 } } } }),
  },
}
