--- omade seed: sample data, which may be loaded again and again; --scale N adds N orders.

local files   = require "omade.core.files"
local session = require "omade.core.session"

local USAGE <const> = "usage: omade seed [--scale N]\n"
local MOST <const> = 100000000

local function load_samples()
  local path = files.home() .. "/seeds/sample_data.sql"
  local text, why = files.read(path)
  if not text then error(path .. ": " .. tostring(why), 0) end
  local s = session.connect()
  local ok, fault = s:run("BEGIN;" .. text .. ";COMMIT")
  if not ok then error("seeds/sample_data.sql: " .. fault, 0) end
  s:close()
  files.print("sample data is in place\n")
end

local function misused(what)
  files.warn("omade seed: " .. what .. "; " .. USAGE)
  return 2
end

local function main(arguments)
  local option, number = arguments[1], arguments[2]
  if option and option ~= "--scale" then return misused("unexpected argument " .. option) end
  if #arguments > 2 then return misused("unexpected argument " .. arguments[3]) end
  local count = number and number:find "^%d+$" and math.tointeger(tonumber(number))
  if option and not (count and count >= 1 and count <= MOST) then
    return misused("--scale is '" .. tostring(number or "") .. "', not a number from 1 to " .. MOST)
  end
  load_samples()
  if count then require("bakery.scale").run(count) end
  return 0
end

return { main = main }
