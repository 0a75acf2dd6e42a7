--- What is over goes: answers kept by Idempotency-Key for a day.

local auth        = require "omade.auth"
local idempotency = require "omade.idempotency"
local log         = require "omade.log"

every(3600, "cleaning", function()
  local answers = auth.as_system(idempotency.clean)
  if answers > 0 then log.info("cleaned", { idempotency_keys = answers }) end
end)

return {}
