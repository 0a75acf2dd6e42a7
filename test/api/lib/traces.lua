--- What curl sent and received, as `curl --trace` wrote it down (test/curl/curl): each
-- exchange is shown to a wire of its own.

local contract = require "contract"
local wire     = require "wire"

local traces = {}

--- The bytes of a line such as "0010: 48 6f 73 74 ...  Host".
local function bytes_of(line)
  local bytes = {}
  for hex in line:match "^%x+: (.*)":sub(1, 48):gmatch "%x%x" do bytes[#bytes + 1] = string.char(tonumber(hex, 16)) end
  return table.concat(bytes)
end

local DIRECTIONS <const> = { ["=> Send header"] = "sent", ["=> Send data"] = "sent",
                             ["<= Recv header"] = "received", ["<= Recv data"] = "received" }

--- The exchanges of a file: lists of {"sent" or "received", bytes}.
local function exchanges_of(file)
  local list, direction = {}, nil
  for line in io.lines(file) do
    local title = line:match "^([<=][=>] %u%l+ ?%l*)"
    local last = list[#list]
    if title then
      direction = DIRECTIONS[title]
      if title == "=> Send header" and (not last or last[#last][1] == "received") then list[#list + 1] = {} end
    elseif direction then
      last[#last + 1] = { direction, bytes_of(line) }
    end
  end
  return list
end

local function judge_exchange(exchange)
  local one = wire.new(contract.judge)
  for _, step in ipairs(exchange) do one[step[1]](one, step[2]) end
  one:received(nil)
end

--- Has all answers judged whose traces are in the folder, and removes them; contract.take
-- tells the faults.
---@param folder string
---@return integer exchanges
function traces.judge(folder)
  local count = 0
  local pipe = assert(io.popen("ls '" .. folder .. "'"))
  for name in pipe:lines() do
    local file = folder .. "/" .. name
    local list = exchanges_of(file)
    for _, exchange in ipairs(list) do judge_exchange(exchange) end
    os.remove(file)
    count = count + #list
  end
  pipe:close()
  return count
end

return traces
