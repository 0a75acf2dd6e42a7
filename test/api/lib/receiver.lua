-- A webhook's receiver, in a process of its own: takes POSTs and writes down each, with its
-- begin and end, as a line of JSON.
--
--   lua5.4 receiver.lua PORT FILE DELAY FAILURES REFUSED
--
-- Answers after DELAY seconds; a part FAILURES of the requests gets a 500 or no answer at
-- all, and bodies that hold REFUSED always a 500.

local cjson  = require "cjson"
local socket = require "socket"

local port, file, delay, failures, refused = arg[1], assert(io.open(arg[2], "a")), tonumber(arg[3]), tonumber(arg[4]), arg[5]
local server = assert(socket.bind("127.0.0.1", port, 200))
server:settimeout(0)
math.randomseed(os.time())

local clients = {}      -- socket -> {bytes, body?, begun?}

local function begin(client)
  local head, rest = client.bytes:match "^(.-\r\n\r\n)(.*)$"
  local length = head and tonumber(head:lower():match "content%-length: (%d+)")
  if not length or #rest < length then return end
  client.body, client.begun = rest:sub(1, length), socket.gettime()
  client.signature = head:match "[Xx]%-Omade%-Signature: ([^\r]+)"
  client.bytes = rest:sub(length + 1)
end

local function status_of(body)
  if refused and refused ~= "" and body:find(refused, 1, true) then return 500 end
  local dice = math.random()
  if dice < failures / 2 then return 500 end
  return dice < failures and 0 or 200
end

local function finish(s, client)
  local status = status_of(client.body)
  file:write(cjson.encode { begun = client.begun, ended = socket.gettime(), status = status, body = client.body,
                            signature = client.signature }, "\n")
  file:flush()
  if status ~= 0 then s:send("HTTP/1.1 " .. status .. " Whatever\r\nContent-Length: 0\r\n\r\n") end
  if status == 0 then
    s:close()
    clients[s] = nil
  end
  client.body = nil
end

while true do
  local list = { server }
  for s in pairs(clients) do list[#list + 1] = s end
  for _, s in ipairs((socket.select(list, nil, 0.01))) do
    if s == server then
      local new = server:accept()
      if new then
        new:settimeout(0)
        clients[new] = { bytes = "" }
      end
    else
      local bytes, why, part = s:receive(65536)
      clients[s].bytes = clients[s].bytes .. (bytes or part)
      if why == "closed" then
        s:close()
        clients[s] = nil
      end
    end
  end
  for s, client in pairs(clients) do
    if not client.body then begin(client) end
    if client.body and socket.gettime() >= client.begun + delay then finish(s, client) end
  end
end
