--- omade seed: sample data, which may be loaded again and again.

local files   = require "omade.core.files"
local session = require "omade.core.session"

local function main(arguments)
  if #arguments > 0 then
    files.warn("omade seed: unexpected argument " .. arguments[1] .. "; usage: omade seed\n")
    return 2
  end
  local path = files.home() .. "/seeds/sample_data.sql"
  local text, why = files.read(path)
  if not text then error(path .. ": " .. tostring(why), 0) end
  local s = session.connect()
  local ok, fault = s:run("BEGIN;" .. text .. ";COMMIT")
  if not ok then error("seeds/sample_data.sql: " .. fault, 0) end
  s:close()
  files.print("sample data is in place\n")
  return 0
end

return { main = main }
