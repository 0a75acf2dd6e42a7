-- Mail with TLS: none goes without it, and none to a server that cannot prove who it is.
-- serve: --workers 1
-- port: SMTP_PORT
-- env: OUTBOX_DRIVER=smtp
-- env: SMTP_URL=smtp+starttls://127.0.0.1:@SMTP_PORT@
-- env: SMTP_CA_FILE=@TEST_WORK@/good.pem
-- env: MAIL_FROM=shop@bakery.example
-- env: OUTBOX_RETRY_SECONDS=0
-- env: OUTBOX_ATTEMPTS=2

local check  = require "check"
local client = require "client"

local WORK <const> = os.getenv "TEST_WORK"

local function value(sql, ...) return client.sql((sql:format(...))) end

for _, name in ipairs { "good", "other" } do
  local _, ok = client.shell(("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=%s "
    .. "-addext subjectAltName=IP:127.0.0.1 -keyout '%s/%s.key' -out '%s/%s.pem'"):format(name, WORK, name, WORK, name))
  check.truthy(ok, "openssl makes a certificate")
end

local sink
local function start(options)
  if sink then client.shell("kill " .. sink) end
  client.eventually(60, "the port is free", function()
    return not select(2, client.shell "bash -c 'exec 3<>/dev/tcp/127.0.0.1/'$SMTP_PORT")
  end)
  sink = client.shell(("/usr/bin/aiosmtpd -n %s -c aiosmtpd.handlers.Mailbox -l 127.0.0.1:%s '%s/mails' >'%s/sink.log' 2>&1 & echo $! | tee $TEST_WORK/sink.pid")
    :format(options, os.getenv "SMTP_PORT", WORK, WORK))
  client.eventually(60, "the mail server listens", function()
    return client.shell "timeout 2 bash -c 'exec 3<>/dev/tcp/127.0.0.1/'$SMTP_PORT'; head -c 3 <&3' 2>/dev/null" == "220"
  end)
end

--- Sends one; "sent", or why not.
local function try()
  local id = value [[INSERT INTO outbox (aggregate_id, topic, payload) VALUES (gen_random_uuid(), 'user.invited',
    '{"email": "ann@example.com", "name": "Ann", "token": "t"}') RETURNING id]]
  return client.eventually(60, "it is over", function()
    local how = value([[SELECT CASE WHEN sent_at IS NOT NULL THEN 'sent' WHEN failed_at IS NOT NULL THEN last_error END
      FROM outbox WHERE id = %s]], id)
    return how ~= "" and how
  end)
end

local function mails() return tonumber((client.shell("ls '" .. WORK .. "/mails/new' 2>/dev/null | wc -l"))) end

return {
  { "a server without TLS gets nothing", function()
    start ""
    check.matches(try(), "SSL")
    check.equal(mails(), 0)
  end },

  { "nor one with a certificate that nobody vouches for", function()
    start(("--tlscert '%s/other.pem' --tlskey '%s/other.key'"):format(WORK, WORK))
    check.matches(try(), "certificate")
    check.equal(mails(), 0)
  end },

  { "one that is known does", function()
    start(("--tlscert '%s/good.pem' --tlskey '%s/good.key'"):format(WORK, WORK))
    check.equal(try(), "sent")
    check.equal(mails(), 1)
  end },

  { "what a server refuses for ever is given up at once", function()
    start(("-s 100 --tlscert '%s/good.pem' --tlskey '%s/good.key'"):format(WORK, WORK))
    check.matches(try(), "^the mail server answered 552")
    check.equal(value "SELECT attempts FROM outbox ORDER BY id DESC LIMIT 1", "1")
    client.shell("kill " .. sink)
  end },
}
