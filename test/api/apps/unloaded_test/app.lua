--- For unloaded_test, which writes the missing part.

local part = require "part"
local web  = require "omade.web"

return { routes = web.routes("", { { "GET", "/", function() return part.text end, who = "anyone" } }) }
