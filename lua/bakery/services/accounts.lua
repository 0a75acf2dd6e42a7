--- Accounts as sign-in, the routes of one's own account, and the users' list share them.

local auth     = require "omade.auth"
local config   = require "omade.config"
local crypto   = require "omade.crypto"
local db       = require "omade.db"
local json     = require "omade.json"
local limits   = require "omade.limits"
local sessions = require "bakery.services.sessions"
local v        = require "omade.validate"
local web      = require "omade.web"

local accounts = {}

local NAMES <const> = { "id", "name", "email", "role", "phone", "avatar_url", "social_provider",
                        "created_at", "updated_at" }

--- The columns of the contract's `user`.
accounts.COLUMNS = table.concat(NAMES, ", ")

--- A phone number that may be absent: 10 to 15 digits, not a national one's leading zero.
accounts.phone = v.text {
  max = 16, pattern = "^%+?[1-9]%d%d%d%d%d%d%d%d%d%d?%d?%d?%d?%d?$",
  message = "must be 10 to 15 digits", optional = true,
}

local COST <const> = config.get "BCRYPT_COST"

--- Fits no password, and takes as long as one that might.
local NOBODY <const> = ("$2b$%02d$"):format(COST) .. ("."):rep(53)

---@class bakery.account_row: bakery.account
---@field name string
---@field password_hash? string
---@field phone? string
---@field avatar_url? string
---@field social_provider? string

---- Reading ---------------------------------------------------------------------------------

--- The contract's `user` of a row that may hold more.
---@param row table
---@return table
function accounts.public(row)
  local user = {}
  for _, name in ipairs(NAMES) do
    user[name] = row[name] == nil and json.null or row[name]
  end
  return user
end

--- The account with an e-mail address, with its hash.  Acts as the system.
---@param email string
---@return bakery.account_row?
function accounts.find(email)
  return auth.as_system(function() return db.row("SELECT * FROM find_sign_in($1)", email) end)
end

--- The account with an id, if the caller may see it.
---@param id string
---@return bakery.account_row?
function accounts.get(id)
  return db.row("SELECT " .. accounts.COLUMNS .. [[, password_hash, session_epoch
    FROM users WHERE id = $1 AND deleted_at IS NULL]], id)
end

--- Who is signed in; 401 when the account is gone.
---@param req omade.request
---@return bakery.account_row
function accounts.own(req)
  return accounts.get(req.user.id)
    or web.fail(401, "Sign in first", { code = "UNAUTHENTICATED" })
end

---- Writing ---------------------------------------------------------------------------------

local TAKEN <const> = {
  users_email_key = { "EMAIL_TAKEN", "Email already registered" },
  users_phone_key = { "PHONE_TAKEN", "Phone number already registered" },
}

--- 409 for an address that has an account.
function accounts.refuse_email()
  web.fail(409, TAKEN.users_email_key[2], { code = TAKEN.users_email_key[1] })
end

--- What fn returns, up to two values; 409 when its address or phone number is somebody else's.
---@param fn fun(): any, any
---@return any, any
function accounts.saving(fn)
  local ok, result, more = pcall(fn)
  if ok then return result, more end
  local taken = type(result) == "table" and result.sqlstate == "23505" and TAKEN[result.constraint]
  if taken then web.fail(409, taken[2], { code = taken[1] }) end
  error(result, 0)
end

--- Writes a new account and its first session: both or neither.  Acts as the system.
---@param insert fun(): bakery.account_row inserts the row and what hangs on it
---@return bakery.account_row, bakery.tokens
function accounts.create(insert)
  local row, tokens
  auth.as_system(function()
    db.transaction(function()
      row = insert()
      tokens = sessions.create(row) or error("the new account changed", 0)
    end)
  end)
  return row, tokens
end

---- Passwords -------------------------------------------------------------------------------

--- A hash to store.
---@param password string
---@return string
function accounts.hash(password)
  return crypto.bcrypt(password, COST)
end

--- Whether it is the account's password: the same work, whether there is an account or not.
-- Raises 429 after too many failures of the account, or from the address; of parallel guesses
-- only those count, right or wrong, that are done before.
---@param req omade.request
---@param email string
---@param account bakery.account_row?
---@param password string
---@param told? omade.request whose answer tells how many failures are left
---@return boolean
function accounts.verify(req, email, account, password, told)
  local who = "account:" .. crypto.sha256(email)
  local function both(step)
    step("sign-in-address", req.ip, told)      -- first: a refused address locks nobody's account
    return step("sign-in", who, told)
  end
  both(limits.peek)
  local good = crypto.verify(password, account and account.password_hash or NOBODY)
  local used, left = both(good and limits.peek or limits.hit)
  if told then limits.tell(told, "sign-in", used, left) end
  return good
end

--- 400 for a password that is not the one.
---@param field string of the body
---@param message string
function accounts.refuse_password(field, message)
  web.fail(400, message, { code = "WRONG_PASSWORD", fields = { [field] = message },
                           errors = json.array { message } })
end

--- 400 unless it is the password of who is signed in.
---@param req omade.request
---@param account bakery.account_row
---@param password string
---@param field string of the body
---@param message string
function accounts.demand(req, account, password, field, message)
  if not accounts.verify(req, account.email, account, password) then
    accounts.refuse_password(field, message)
  end
end

---- Leaving ---------------------------------------------------------------------------------

--- How many admins there are beside one; their rows are locked until the transaction that is
-- open ends, so that of two who go at once the second sees the first gone.
---@param id string
---@return integer
function accounts.other_admins(id)
  local count = 0
  for _, row in ipairs(db.rows [[SELECT id FROM users WHERE role = 'admin' AND deleted_at IS NULL
      ORDER BY id FOR NO KEY UPDATE]]) do
    if row.id ~= id then count = count + 1 end
  end
  return count
end

--- 409 for what would leave no admin.
function accounts.refuse_last_admin()
  web.fail(409, "The last admin must stay", { code = "LAST_ADMIN" })
end

return accounts
