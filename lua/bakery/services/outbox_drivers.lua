--- Where the outbox's messages go.  A driver takes a message and returns true, or nil, why
-- not, and whether trying again is in vain; what raises is tried again.

local config  = require "omade.config"
local crypto  = require "omade.crypto"
local engine  = require "omade.core.engine"
local http    = require "omade.http"
local letters = require "bakery.services.letters"
local log     = require "omade.log"
local mail    = require "omade.mail"
local time    = require "omade.time"

local drivers = {}

---- For development ---------------------------------------------------------------------------

--- Says that there is a message, not what it holds.
function drivers.log(message)
  log.info("outbox", { id = message.id, topic = message.topic, aggregate = message.aggregate_id })
  return true
end

--- One line of JSON each, appended to OUTBOX_FILE.
function drivers.file(message)
  engine.append_to_setting_file("OUTBOX_FILE", message.body)
  return true
end

---- Other programs ---------------------------------------------------------------------------

--- Signed as payment providers sign what they send us.
local function signature(body)
  local now = ("%d"):format(time.now() // 1)
  return ("t=%s,v1=%s"):format(now, crypto.hmac_sha256(config.get "OUTBOX_WEBHOOK_SECRET", now .. "." .. body))
end

--- Any 2xx takes it.
function drivers.webhook(message)
  local answer = http.request {
    url = config.get "OUTBOX_WEBHOOK_URL", method = "POST", body = message.body, timeout = config.get "OUTBOX_TIMEOUT",
    headers = { ["Content-Type"] = "application/json", ["X-Omade-Signature"] = signature(message.body) },
  }
  if answer.status >= 200 and answer.status < 300 then return true end
  return nil, "the receiver answered " .. answer.status
end

---- Mail ---------------------------------------------------------------------------------------

local function unescape(text)
  return text and text:gsub("%%(%x%x)", function(code) return string.char(tonumber(code, 16)) end)
end

--- SMTP_URL's parts.  A password never travels without TLS.
local function server()
  local scheme, rest = config.get("SMTP_URL"):match "^([%a+]+)://(.+)$"
  local login, host = rest:match "^(.*)@([^@]*)$"
  local user, password = (login or ""):match "^([^:]*):?(.*)$"
  if not login then user, password = nil, nil end
  return {
    url = (scheme == "smtps" and "smtps://" or "smtp://") .. (host or rest),
    starttls = scheme == "smtp+starttls" or scheme == "smtp" and login ~= nil,
    user = unescape(user), password = unescape(password),
    ca_file = config.get "SMTP_CA_FILE" ~= "" and config.get "SMTP_CA_FILE" or nil,
  }
end

--- Refusals of this one mail - no such mailbox, too large -; others, such as a wrong
-- password of ours, may be mended.
local function for_ever(code) return code >= 550 and code <= 553 end

--- Topics without a letter, and people without an address, are done with.
function drivers.smtp(message)
  local letter, why = letters.write(message)
  if not letter then return not why or nil, why, true end
  local options = server()
  options.from, options.to, options.message = config.get "MAIL_FROM", letter.to, letter.bytes
  options.timeout = config.get "OUTBOX_TIMEOUT"
  local code, line = mail.send(options)
  if code == 250 then return true end
  return nil, "the mail server answered " .. line, for_ever(code)
end

---- Settings --------------------------------------------------------------------------------------

local NEEDS <const> = {
  off = {}, log = {}, file = { "OUTBOX_FILE" }, webhook = { "OUTBOX_WEBHOOK_URL", "OUTBOX_WEBHOOK_SECRET" },
  smtp = { "SMTP_URL", "MAIL_FROM" },
}

--- The driver of OUTBOX_DRIVER; nil for "off".  Stops the start when a setting is missing.
---@return (fun(message: bakery.message): true?, string?, boolean?)?
function drivers.configured()
  local name = config.get "OUTBOX_DRIVER"
  if not NEEDS[name] then error("OUTBOX_DRIVER is '" .. name .. "', not off, log, file, webhook or smtp", 0) end
  for _, setting in ipairs(NEEDS[name]) do
    if config.get(setting) == "" then error("OUTBOX_DRIVER=" .. name .. " needs " .. setting, 0) end
  end
  local url = config.get "SMTP_URL"
  if name == "smtp" and not url:find "^smtps?://[^/]" and not url:find "^smtp%+starttls://[^/]" then
    error("SMTP_URL must be smtp://, smtps:// or smtp+starttls://", 0)
  end
  return drivers[name]
end

return drivers
