--- How often a caller may ask.  A route names its limit; others have `general`.
--
-- RATE_LIMITS=<file> changes numbers without touching this one; see docs/configuration.md.

local QUARTER <const> = 15 * 60      -- seconds

return {
  general = { guest = 300, user = 1000, staff = 5000, seconds = QUARTER },

  cart    = { max = 300, seconds = QUARTER },
  orders  = { max = 30, seconds = 3600 },
  promo   = { max = 30, seconds = QUARTER },
  reviews = { max = 10, seconds = 24 * 3600 },
  search  = { max = 120, seconds = 5 * 60 },

  register = { max = 20, seconds = QUARTER, by_address = true },
  forgot   = { max = 20, seconds = QUARTER, by_address = true },
  reset    = { max = 20, seconds = QUARTER, by_address = true },

  -- Failures only: of an account, and of an address.
  ["sign-in"]         = { max = 10, seconds = QUARTER, without_redis = true },
  ["sign-in-address"] = { max = 50, seconds = QUARTER, without_redis = true },
}
