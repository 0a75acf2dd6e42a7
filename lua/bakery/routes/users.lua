--- Users as admins see them: who works here, and what each may do.

local accounts = require "bakery.services.accounts"
local answers  = require "bakery.rules.answers"
local audit    = require "bakery.services.audit"
local db       = require "omade.db"
local json     = require "omade.json"
local outbox   = require "bakery.services.outbox"
local page     = require "omade.page"
local s        = require "omade.schema"
local sessions = require "bakery.services.sessions"
local tokens   = require "bakery.services.tokens"
local v        = require "omade.validate"
local web      = require "omade.web"

local ROLES   <const> = { "customer", "rider", "staff", "admin" }
local WORKERS <const> = { "rider", "staff", "admin" }

---- Shapes: what a caller may send -------------------------------------------------------

local Id <const> = v.shape { id = v.uuid { label = "User id" } }

local List <const> = v.shape(page.fields {
  role   = v.one_of(ROLES, { optional = true }),        -- default: all but customers
  search = v.text { max = 200, optional = true },
})

local function fields(roles)
  return v.shape {
    name  = v.text { min = 2, max = 255 },
    email = v.email(),
    role  = v.one_of(roles),
    phone = accounts.phone,
  }
end

local NewUser <const>, Change <const> = fields(WORKERS), v.partial(fields(ROLES))

---- Handlers -----------------------------------------------------------------------------------

local function list(req)
  local q, filter = req.query, page.filter()
  audit.write(req, "user.list", "user", nil, { search = q.search, role = q.role, page = q.page })
  filter:add("role = %s", q.role)
  if q.search and q.search ~= "" then filter:add("id IN (SELECT user_id FROM search_customers(%s))", q.search) end
  local where = filter:sql()
  where = where .. (where == "" and " WHERE " or " AND ") .. "deleted_at IS NULL"
  if not q.role then where = where .. " AND role <> 'customer'" end
  return page.list("users", q, { select = accounts.COLUMNS, from = "users" .. where,
                                 order = "name, id", values = filter.values })
end

--- An account without a password, and a letter with a link to set one.
local function create(req)
  local new = req.body
  local row = accounts.saving(function()
    return db.transaction(function()
      local made = db.row([[INSERT INTO users (name, email, role, phone, invited_at)
        VALUES ($1, $2, $3, $4, now()) RETURNING ]] .. accounts.COLUMNS,
        new.name, new.email, new.role, new.phone)
      local token = tokens.issue(made.id, "set_password")
      outbox.add("user.invited", made.id, { email = made.email, name = made.name, role = made.role,
                                            token = token, purpose = "set_password" })
      audit.write(req, "user.create", "user", made.id, { role = made.role })
      return made
    end)
  end)
  return web.created(accounts.public(row), "User created; a link to set the password is on its way")
end

--- Nobody takes his own rights away, and one admin stays; the other admins are locked.
local function check_leaving(req, row)
  if row.role == "admin" and accounts.other_admins(row.id) == 0 then accounts.refuse_last_admin() end
  if row.id == req.user.id then
    web.fail(409, "You cannot demote or delete yourself", { code = "CONFLICT" })
  end
end

local CHANGEABLE <const> = { "name", "email", "role", "phone" }

--- What differs: the assignments with their values, and for the traces the names, and of the
-- role both values: what tells who it was does not outlive the account there.
local function differences(row, new)
  local sets, values, changes = {}, { row.id }, { fields = json.array {} }
  for _, name in ipairs(CHANGEABLE) do
    local old = row[name] == nil and json.null or row[name]
    if new[name] ~= nil and new[name] ~= old then
      values[#values + 1] = new[name]
      sets[#sets + 1] = name .. " = $" .. #values
      changes.fields[#sets] = name
      if name == "role" then changes.role = { from = old, to = new.role } end
    end
  end
  return sets, values, changes
end

--- Whether sessions end by it.
local function save(req, row)
  local new = req.body
  local sets, values, changes = differences(row, new)
  if #sets == 0 then return false end
  local moved = new.email ~= nil and new.email ~= row.email
  if changes.role then check_leaving(req, row) end
  if moved then tokens.revoke(row.id) end             -- they went to the old address
  local ends = changes.role ~= nil or moved
  if ends then sets[#sets + 1] = "session_epoch = session_epoch + 1" end
  db.exec("UPDATE users SET " .. table.concat(sets, ", ") .. " WHERE id = $1", table.unpack(values))
  audit.write(req, "user.update", "user", row.id, changes)
  return ends
end

local LOCK <const> = "SELECT " .. accounts.COLUMNS .. [[ FROM users
  WHERE id = $1 AND deleted_at IS NULL FOR NO KEY UPDATE]]

--- The account, locked; the admins' rows come first, always in the same order.
local function lock(id, may_leave)
  if may_leave then accounts.other_admins(id) end
  return db.row(LOCK, id) or web.fail(404, "User not found")
end

--- Role and address are in the sessions, which end when one of them changes.
local function change(req)
  local id, new = req.params.id, req.body
  local saved = function() return save(req, lock(id, new.role ~= nil)) end
  accounts.saving(function()
    if new.role or new.email then return sessions.change(id, nil, saved) end
    return db.transaction(saved)
  end)
  return accounts.public(accounts.get(id) or web.fail(404, "User not found"))
end

local function delete(req)
  local id = req.params.id
  sessions.change(id, nil, function()
    local row = lock(id, true)
    check_leaving(req, row)
    audit.write(req, "user.delete", "user", id, { role = row.role })
    return db.row("SELECT anonymise_user($1) AS done", id).done
  end)
  return web.data(json.null, { message = "User deleted" })
end

---- Routes: the table of contents ---------------------------------------------------------------

local TAKEN <const> = "EMAIL_TAKEN, PHONE_TAKEN"
local STAYS <const> = "LAST_ADMIN; CONFLICT: nobody demotes or deletes himself"

return web.routes("/api/v1/users", {
  { "GET",    "/",    list,   who = "admin", query = List,
    answer = s.page("users", answers.User), summary = "Who works here" },
  { "POST",   "/",    create, who = "admin", body = NewUser,
    status = 201, answer = answers.User, errors = { [409] = TAKEN },
    summary = "Add somebody, who gets a link to set a password" },
  { "PATCH",  "/:id", change, who = "admin", params = Id, body = Change,
    answer = answers.User, errors = { [409] = TAKEN .. ", " .. STAYS }, summary = "Change somebody's role or data" },
  { "DELETE", "/:id", delete, who = "admin", params = Id,
    answer = s.null, errors = { [409] = STAYS },
    summary = "Delete an account; sales stay, without a name" },
})
