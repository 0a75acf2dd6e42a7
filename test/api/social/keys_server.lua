-- Serves apple.json of a folder to whoever asks, and counts: a byte in `asked` each time.
local socket = require "socket"

local folder = arg[1]
local server = assert(socket.bind("127.0.0.1", 0))
local _, port = server:getsockname()
local file = assert(io.open(folder .. "/port.new", "w"))
file:write(port)
file:close()
os.rename(folder .. "/port.new", folder .. "/port")

while true do
  local client = server:accept()
  client:settimeout(5)
  repeat local line = client:receive "*l" until not line or line == ""
  local asked = assert(io.open(folder .. "/asked", "a"))
  asked:write "x"
  asked:close()
  local keys = io.open(folder .. "/apple.json")
  local text = keys and keys:read "a" or ""
  if keys then keys:close() end
  client:send(("HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s")
              :format(keys and "200 OK" or "503 Away", #text, text))
  client:close()
end
