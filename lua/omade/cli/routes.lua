--- omade routes: every route and who may call it.

local app     = require "app"
local compile = require "omade.web.compile"
local files   = require "omade.core.files"

local function words(who)
  return type(who) == "table" and table.concat(who, ", ") or who
end

local function main()
  for _, route in ipairs(compile(app)) do
    files.print(("%-7s %-45s %-10s %s\n"):format(route.method, route.path, words(route.who),
                                                 route.summary or ""))
  end
  return 0
end

return { main = main }
