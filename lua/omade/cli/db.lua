--- omade db COMMAND: looking after the database; each family of commands is a module.

local files = require "omade.core.files"

local USAGE <const> = "usage: omade db size|rows|indexes|slow|bloat|locks|activity [--json] "
  .. "[--watch [SECONDS]], slow --by total|mean|calls, maintain daily|weekly [--dry-run], doctor [--json], "
  .. "conf [--memory MB] [--disk ssd|hdd]"

-- What runs a command: main(arguments, name) returns the exit code.  Wrong usage is
-- nil and what is wrong.
local MODULES <const> = {
  size = "monitor", rows = "monitor", indexes = "monitor", slow = "monitor", bloat = "monitor",
  locks = "monitor", activity = "monitor", maintain = "maintain", doctor = "doctor", conf = "settings",
}

local function wrong(what)
  files.warn("omade db: " .. what .. "; " .. USAGE .. "\n")
  return 2
end

local function main(arguments)
  local name = table.remove(arguments, 1)
  if not name then return wrong "a command is missing" end
  local module = MODULES[name]
  if not module then return wrong("unknown command '" .. name .. "'") end
  local code, why = require("omade.cli.db." .. module).main(arguments, name)
  if not code then return wrong(name .. ": " .. why) end
  return code
end

return { main = main }
