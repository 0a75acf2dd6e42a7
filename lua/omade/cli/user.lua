--- omade user add --role ROLE --email E [--name N] [--password-stdin]
--
-- Makes an account as the owner of the database: the first admin, who can do the rest.  It
-- prints a password, or with --password-stdin reads one line.

local crypto    = require "omade.crypto"
local engine    = require "omade.core.engine"
local files     = require "omade.core.files"
local passwords = require "bakery.rules.passwords"
local session   = require "omade.core.session"
local v         = require "omade.validate"

local USAGE <const> = "usage: omade user add --role ROLE --email E [--name N] [--password-stdin]\n"
local OPTIONS <const> = { ["--role"] = "role", ["--email"] = "email", ["--name"] = "name" }
local ROLES <const> = { customer = true, rider = true, staff = true, admin = true }

local ADD <const> = [[
  WITH made AS (
    INSERT INTO users (name, email, password_hash, role) VALUES ($1, $2, $3, $4)
    ON CONFLICT (email) DO NOTHING RETURNING id, role
  ), traced AS (
    INSERT INTO audit_log (actor_role, action, entity, entity_id, changes)
    SELECT 'system', 'user.create', 'user', id::text, jsonb_build_object('role', role) FROM made
  )
  SELECT id FROM made]]

---- Arguments -----------------------------------------------------------------------------

local function read_options(arguments)
  local given, at = {}, 2
  if arguments[1] ~= "add" then return nil, "only 'add' is known" end
  while at <= #arguments do
    local option, value = arguments[at]:match "^(%-%-%l+)=(.*)$"
    option = option or arguments[at]
    if option == "--password-stdin" then
      given.stdin = true
    elseif OPTIONS[option] then
      if not value then
        at = at + 1
        value = arguments[at]
      end
      if not value then return nil, "a value is missing after " .. option end
      given[OPTIONS[option]] = engine.trim(value)
    else
      return nil, "unknown option " .. option
    end
    at = at + 1
  end
  return given
end

local function fault_of(given)
  if not ROLES[given.role] then return "--role must be customer, rider, staff or admin" end
  if not v.email().check(given.email) then return "--email must be an e-mail address" end
  local length = engine.text_length(given.name or "as the address")
  if not length or length < 2 or length > 255 then return "--name must be 2 to 255 characters" end
end

---- Passwords -------------------------------------------------------------------------------

--- 24 characters of 62, and what the rules ask for.
local function made_password()
  local text = {}
  while #text < 24 do
    for byte in crypto.random(64):gmatch "[0-9A-Za-z]" do
      if #text < 24 then text[#text + 1] = byte end
    end
  end
  return table.concat(text) .. "-aA1"
end

local function read_password()
  local text, why = files.read "/dev/stdin"
  if not text then error("the password could not be read: " .. tostring(why), 0) end
  local password = text:match "^[^\r\n]*"
  local length = engine.text_length(password)
  if not length or length < passwords.MIN or length > passwords.MAX then
    error(("the password must be %d to %d characters"):format(passwords.MIN, passwords.MAX), 0)
  end
  local fault = passwords.fault(password)
  if fault then error("the password " .. fault, 0) end
  return password
end

local function cost()
  local text = engine.setting "BCRYPT_COST"
  if not text or text == "" then return 12 end
  local number = math.tointeger(tonumber(text))
  if not number or number < 4 or number > 15 then
    error("BCRYPT_COST is '" .. text .. "', not a number of 4 to 15", 0)
  end
  return number
end

local function main(arguments)
  local given, why = read_options(arguments)
  why = why or fault_of(given)
  if why then
    files.warn("omade user: " .. why .. "; " .. USAGE)
    return 2
  end
  local password = given.stdin and read_password() or made_password()
  local email, s = given.email:lower(), session.connect()
  local rows, fault = s:query(ADD, given.name or given.email:match "^[^@]+", email,
                              crypto.bcrypt(password, cost()), given.role)
  s:close()
  if not rows then error(fault, 0) end
  if #rows == 0 then error(email .. " has an account already", 0) end
  files.print(("%s is %s now\n"):format(email, given.role))
  if not given.stdin then files.print("password: " .. password .. "\n") end
  return 0
end

return { main = main }
