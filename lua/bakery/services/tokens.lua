--- Tokens that are sent by mail: to set or reset a password, to confirm an address.
-- Only their SHA-256 is kept, in password_resets; each counts once, until it is over.

local crypto = require "omade.crypto"
local db     = require "omade.db"
local web    = require "omade.web"

local tokens = {}

---@alias bakery.purpose "reset_password"|"set_password"|"change_email"

--- How long each counts.
tokens.LIVES = { reset_password = "30 minutes", set_password = "7 days", change_email = "24 hours" }

--- A new one, written in the transaction that is open; older ones for the same are over.
---@param user_id string
---@param purpose bakery.purpose
---@param new_email? string of change_email
---@return string token to be sent, and kept nowhere
function tokens.issue(user_id, purpose, new_email)
  local token = crypto.token()
  db.batch {
    { [[UPDATE password_resets SET used_at = now()
        WHERE user_id = $1 AND purpose = $2 AND used_at IS NULL]], user_id, purpose },
    { [[INSERT INTO password_resets (user_id, purpose, token_sha256, new_email, expires_at)
        VALUES ($1, $2, $3, $4, now() + $5::interval)]],
      user_id, purpose, crypto.sha256(token), new_email, tokens.LIVES[purpose], n = 6 },
  }
  return token
end

--- Ends all tokens of a person, in the transaction that is open: of a password or an
-- address that is no more.
---@param user_id string
function tokens.revoke(user_id)
  db.exec("UPDATE password_resets SET used_at = now() WHERE user_id = $1 AND used_at IS NULL", user_id)
end

local GOOD <const> = "token_sha256 = $1 AND used_at IS NULL AND expires_at > now()"

--- Whose password a token sets; nil when it is not good.  Run as the system.
---@param token string
---@return string? user_id
function tokens.owner(token)
  local row = db.row("SELECT user_id FROM password_resets WHERE purpose <> 'change_email' AND " .. GOOD,
                     crypto.sha256(token))
  return row and row.user_id
end

--- Uses a token up, in the transaction that is open; raises 400 when it is not good.
---@param token string
---@param user_id string
---@param purposes string[]
---@return string? new_email
function tokens.take(token, user_id, purposes)
  local row = db.row([[UPDATE password_resets SET used_at = now()
    WHERE user_id = $2 AND purpose = ANY($3::text[]) AND ]] .. GOOD .. " RETURNING new_email",
    crypto.sha256(token), user_id, "{" .. table.concat(purposes, ",") .. "}")
  return (row or tokens.refuse()).new_email
end

--- 400 for a token that was used, is over, or never was one.
function tokens.refuse()
  web.fail(400, "The link is invalid or has expired", { code = "INVALID_TOKEN" })
end

--- Removes those that are over for a day.  Run as the system.
---@return integer count
function tokens.clean()
  return db.exec "DELETE FROM password_resets WHERE expires_at < now() - interval '1 day'"
end

return tokens
