--- The newsletter: in by an address, out by the token that each mail carries.

local auth   = require "omade.auth"
local db     = require "omade.db"
local outbox = require "bakery.services.outbox"
local s      = require "omade.schema"
local v      = require "omade.validate"
local web    = require "omade.web"

---- Shapes: what a caller may send -------------------------------------------------------

local Address <const> = v.shape { email = v.email() }

local TOKEN <const> = { token = v.text { min = 1, max = 64, optional = true } }
local Token <const>, TokenBody <const> = v.shape(TOKEN), v.shape(TOKEN, { optional = true })

---- Handlers: request in, answer out ----------------------------------------------------------

local SUBSCRIBE <const> = "SELECT id, token, already FROM subscribe_newsletter($1)"

--- The mail that follows holds the token, for its List-Unsubscribe.
local function subscribe(req)
  local email = req.body.email
  local already = auth.as_guest(nil, function()
    return db.transaction(function()
      local row = db.row(SUBSCRIBE, email)
      if not row.already then
        outbox.add("newsletter.subscribed", row.id, { email = email, token = row.token })
      end
      return row.already
    end)
  end)
  return web.data({ subscribed = true, alreadySubscribed = already },
                  { status = 201, message = already and "Already subscribed" or "Subscribed successfully" })
end

--- By a link (GET), a form, or a mail program's one click (RFC 8058: POST to the same
-- address, with a body that says no more).
local function unsubscribe(req)
  local token = req.query.token or req.body and req.body.token
  if not token then v.refuse { { path = "token", message = "Token is required" } } end
  if not db.row("SELECT unsubscribe_newsletter($1) AS done", token).done then
    web.fail(400, "This link is not valid", { code = "INVALID_TOKEN", fields = { token = "This link is not valid" } })
  end
  return web.data({ subscribed = false }, { message = "Unsubscribed successfully" })
end

---- Routes: the table of contents ---------------------------------------------------------------

local Subscribed <const> = s.object { subscribed = s.boolean, alreadySubscribed = s.boolean }
local Left       <const> = s.object { subscribed = s.boolean }

return web.routes("/api/v1/newsletter", {
  { "POST", "/subscribe",   subscribe,   who = "anyone", body = Address, status = 201, answer = Subscribed,
    summary = "Subscribe" },
  { "GET",  "/unsubscribe", unsubscribe, who = "anyone", query = Token, answer = Left,
    summary = "Unsubscribe by a mail's link" },
  { "POST", "/unsubscribe", unsubscribe, who = "anyone", query = Token, body = TokenBody, form = true, answer = Left,
    summary = "Unsubscribe by a mail program's one click" },
})
