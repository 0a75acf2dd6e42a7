-- The newsletter: in by an address, out by a token.
-- serve: --workers 2

local check  = require "check"
local client = require "client"

local NEWS <const> = "/api/v1/newsletter"

---- Short ways -----------------------------------------------------------------------------------------

local function sql(text, ...) return client.sql(text:format(...)) end

local function subscribe(email, options)
  options = options or {}
  options.body = { email = email }
  return client.post(NEWS .. "/subscribe", options)
end

local function token_of(email) return sql("SELECT token FROM newsletter_subscribers WHERE email = '%s'", email) end

local function subscribed(email) return sql("SELECT unsubscribed_at IS NULL FROM newsletter_subscribers WHERE email = '%s'", email) end

local function messages(email) return sql("SELECT count(*) FROM outbox WHERE topic = 'newsletter.subscribed' AND payload->>'email' = '%s'", email) end

local function field(answer, ...)
  local fields = check.status(answer, 400, "VALIDATION_ERROR").json().fields
  for _, name in ipairs { ... } do check.truthy(fields[name], "no word of " .. name .. ": " .. answer.body) end
end

return {
  { "in, again, out and in again", function()
    check.same(check.status(subscribe " Reader@Example.com ", 201).json().data, { subscribed = true, alreadySubscribed = false })
    check.same(check.status(subscribe "reader@example.com", 201).json().data, { subscribed = true, alreadySubscribed = true })
    check.equal(messages "reader@example.com", "1")
    local token = token_of "reader@example.com"
    check.equal(sql "SELECT payload->>'token' FROM outbox WHERE payload->>'email' = 'reader@example.com'", token)
    check.status(client.get(NEWS .. "/unsubscribe?token=" .. token), 200)
    check.equal(subscribed "reader@example.com", "f")
    check.status(client.get(NEWS .. "/unsubscribe?token=" .. token), 200)
    check.same(check.status(subscribe "reader@example.com", 201).json().data, { subscribed = true, alreadySubscribed = false })
    check.equal(messages "reader@example.com", "2")
    check.equal(subscribed "reader@example.com", "t")
    check.equal(sql "SELECT count(*) FROM newsletter_subscribers WHERE email = 'reader@example.com'", "1")
  end },

  { "out by a body, and by a mail program's one click", function()
    local one_click = { body = "List-Unsubscribe=One-Click", headers = { ["Content-Type"] = "application/x-www-form-urlencoded" } }
    local multipart = { body = "--x\r\nContent-Disposition: form-data; name=\"List-Unsubscribe\"\r\n\r\nOne-Click\r\n--x--\r\n",
                        headers = { ["Content-Type"] = "multipart/form-data; boundary=x" } }
    for i, how in ipairs { "json", one_click, multipart, {} } do
      local email = "reader" .. i .. "@example.com"
      subscribe(email)
      local token = token_of(email)
      local answer = how == "json" and client.post(NEWS .. "/unsubscribe", { body = { token = token } })
        or client.post(NEWS .. "/unsubscribe?token=" .. token, how)
      check.status(answer, 200)
      check.equal(subscribed(email), "f", email)
    end
  end },

  { "what is wrong is named", function()
    field(client.post(NEWS .. "/subscribe", { json = "{}" }), "email")
    for _, bad in ipairs { '"x"', '"a@b"', "5", "null", "[]", '"a@@b.c"', '"a b@c.de"', '"' .. ("x"):rep(250) .. '@b.com"' } do
      field(client.post(NEWS .. "/subscribe", { json = '{"email":' .. bad .. "}" }), "email")
    end
    field(client.get(NEWS .. "/unsubscribe"), "token")
    field(client.post(NEWS .. "/unsubscribe", { json = "{}" }), "token")
    field(client.get(NEWS .. "/unsubscribe?token=" .. ("x"):rep(65)), "token")
    field(client.post(NEWS .. "/unsubscribe", { json = '{"token":5}' }), "token")
    check.status(client.get(NEWS .. "/unsubscribe?token=nobodys"), 400, "INVALID_TOKEN")
    check.status(client.get(NEWS .. "/unsubscribe?token=%27%20OR%201=1--"), 400, "INVALID_TOKEN")
  end },

  { "signed in or not, and with a session that is over", function()
    for i, token in ipairs { client.session "customer", client.session "admin", "over" } do
      check.equal(check.status(subscribe("signed" .. i .. "@example.com", { token = token }), 201).json().data.alreadySubscribed, false)
    end
  end },

  { "a hundred at once of one address are one, with one mail", function()
    local requests = {}
    for i = 1, 100 do requests[i] = { "POST", NEWS .. "/subscribe", { body = { email = i % 2 == 0 and "many@example.com" or "Many@Example.com" } } } end
    local answers, new = client.parallel(requests), 0
    check.same(client.statuses(answers), { [201] = 100 })
    for _, answer in ipairs(answers) do
      if not answer.json().data.alreadySubscribed then new = new + 1 end
    end
    check.equal(new, 1)
    check.equal(messages "many@example.com", "1")
  end },
}
