--- Mail: a message made of text and HTML, and its way to an SMTP server.
--
-- mail.send { url = "smtp://localhost:25", from = "shop@example.com", to = "ann@example.com",
--             message = mail.message { from = "shop@example.com", name = "The Shop",
--               to = "ann@example.com", subject = "Hello", text = "...", html = "..." } }

local core   = require "omade.core.mail"
local crypto = require "omade.crypto"
local time   = require "omade.time"

---@class omade.mail
local mail = {}

---- Encodings -------------------------------------------------------------------------------

local function hex(byte) return ("=%02X"):format(byte:byte()) end

local WORD_MAX <const> = 60      -- of the 75 that an encoded word may have; RFC 2047

--- A header's text: as it is, or in encoded words that break no character.
local function header_text(text)
  text = text:gsub("%c+", " ")
  if not text:find "[^ -~]" and not text:find("=?", 1, true) and #text <= WORD_MAX then return text end
  local words, word = {}, ""
  for char in text:gmatch(utf8.charpattern) do
    local encoded = char:gsub("[^%w]", hex)
    if #word + #encoded > WORD_MAX then words[#words + 1], word = word, "" end
    word = word .. encoded
  end
  words[#words + 1] = word
  for i, one in ipairs(words) do words[i] = "=?UTF-8?Q?" .. one .. "?=" end
  return table.concat(words, "\r\n ")
end

local LINE_MAX <const> = 75      -- and "="; RFC 2045

local function wrap(line)
  local pieces = {}
  while #line > LINE_MAX do
    local cut = line:sub(LINE_MAX - 1, LINE_MAX):find("=", 1, true)
    cut = cut and LINE_MAX - 3 + cut or LINE_MAX
    pieces[#pieces + 1], line = line:sub(1, cut), line:sub(cut + 1)
  end
  pieces[#pieces + 1] = line
  return table.concat(pieces, "=\r\n")
end

--- Quoted-printable: lines of printable ASCII that end with CRLF.
local function quoted_printable(text)
  local lines = {}
  for line in (text:gsub("\r\n?", "\n") .. "\n"):gmatch "(.-)\n" do
    line = line:gsub("[^ -<>-~]", hex):gsub(" $", "=20")
    lines[#lines + 1] = wrap(line)
  end
  return table.concat(lines, "\r\n")
end

---- Messages ---------------------------------------------------------------------------------

local WEEKDAYS <const> = { "Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed" }
local MONTHS <const> = { "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" }

local function date()
  local now = time.now()
  local year, month, day, clock = time.iso(now):match "^(%d+)-(%d+)-(%d+)T(%d+:%d+:%d+)"
  return ("%s, %d %s %s %s +0000"):format(WEEKDAYS[math.tointeger(now // 86400) % 7 + 1], math.tointeger(tonumber(day)),
                                          MONTHS[math.tointeger(tonumber(month))], year, clock)
end

local function header(name, value)
  if value:find "[%c\128-\255]" and not value:find "^=%?UTF%-8%?Q%?[%w=?\r\n -]*$" then
    error("mail.message: the header " .. name .. " must be one line of ASCII", 3)
  end
  return name .. ": " .. value
end

local function part(boundary, kind, text)
  return table.concat({ "--" .. boundary, "Content-Type: text/" .. kind .. "; charset=utf-8",
                        "Content-Transfer-Encoding: quoted-printable", "", quoted_printable(text), "" }, "\r\n")
end

---@class omade.mail.content
---@field from string the shop's address
---@field name? string the shop's name
---@field to string
---@field subject string any text
---@field text string
---@field html string
---@field id? string what stands before the @ of Message-ID
---@field headers? {[1]: string, [2]: string}[] names and values, in order

--- The bytes of a message.  Headers cannot be injected: whatever a subject holds is one line.
---@param content omade.mail.content
---@return string
function mail.message(content)
  local boundary = "=_" .. crypto.token(12)
  local from = "<" .. content.from .. ">"
  local lines = {
    header("Date", date()),
    "From: " .. (content.name and header_text(content.name):gsub("^([^=].*)$", function(plain)
      return '"' .. plain:gsub('["\\]', "\\%0") .. '"'
    end) .. " " or "") .. header("", from):sub(3),
    header("To", "<" .. content.to .. ">"),
    "Subject: " .. header_text(content.subject),
    header("Message-ID", ("<%s@%s>"):format(content.id or crypto.token(16), content.from:match "@(.*)$")),
    "MIME-Version: 1.0",
    "Auto-Submitted: auto-generated",
  }
  for _, one in ipairs(content.headers or {}) do lines[#lines + 1] = header(one[1], one[2]) end
  lines[#lines + 1] = 'Content-Type: multipart/alternative; boundary="' .. boundary .. '"'
  lines[#lines + 1] = ""
  lines[#lines + 1] = part(boundary, "plain", content.text) .. part(boundary, "html", content.html)
    .. "--" .. boundary .. "--\r\n"
  return table.concat(lines, "\r\n")
end

---- Sending ---------------------------------------------------------------------------------------

---@class omade.mail.options
---@field url string smtp://host:port or smtps://host:port
---@field from string
---@field to string
---@field message string
---@field user? string
---@field password? string
---@field starttls? boolean no mail without TLS; certificates are verified, as with smtps
---@field ca_file? string certificates to trust instead of the system's
---@field timeout? number seconds (10)

--- Gives a message to the server.  What the server refuses is an answer; one that is away
-- or slow raises (503, 504).
---@param options omade.mail.options
---@return integer code 250 when it was taken, else what the server said: 4xx for now, 5xx for ever
---@return string line of the server
function mail.send(options) return core.send(options) end

return mail
