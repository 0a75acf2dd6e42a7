-- The driver "file": a line of JSON a message.
-- serve: --workers 1
-- env: OUTBOX_DRIVER=file
-- env: OUTBOX_FILE=@TEST_WORK@/outbox.jsonl

local cjson  = require "cjson"
local check  = require "check"
local client = require "client"

local PATH <const> = os.getenv "OUTBOX_FILE"

return {
  { "each message once, in order, in a file that is nobody else's", function()
    client.sql [[INSERT INTO outbox (aggregate_id, topic, payload) SELECT '20000000-0000-0000-0000-000000000001', 'test.line',
      jsonb_build_object('n', n, 'amount', 12.50, 'token', 'abc', 'text', E'two\nlines') FROM generate_series(1, 5) n]]
    client.eventually(60, "all is sent", function()
      return client.sql "SELECT count(*) FROM outbox WHERE sent_at IS NULL" == "0"
    end)
    local n = 0
    for line in io.lines(PATH) do
      local message = cjson.decode(line)
      if message.topic == "test.line" then
        n = n + 1
        check.equal(message.payload.n, n)
        check.equal(message.payload.token, "abc")
        check.matches(line, '"amount": 12%.50')
      end
    end
    check.equal(n, 5)
    check.equal(client.shell("stat -c %a '" .. PATH .. "'"), "600")
  end },
}
