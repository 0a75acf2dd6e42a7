-- Users as admins see them: roles take effect at once, one admin stays, traces are left.
-- serve: --workers 2
-- env: BCRYPT_COST=4

local check  = require "check"
local cjson  = require "cjson"
local client = require "client"

local AUTH <const>, USERS <const> = "/api/v1/auth", "/api/v1/users"
local GOOD <const> = "Crumb-les!42"
local NOBODY <const> = "00000000-0000-0000-0000-0000000fffff"

local number = 0

local function new_email()
  number = number + 1
  return ("worker%d@test.example"):format(number)
end

local function mailed(user_id, topic)
  return cjson.decode(client.sql(("SELECT payload FROM outbox WHERE aggregate_id = '%s' AND topic = '%s' ORDER BY id DESC LIMIT 1")
                                 :format(user_id, topic)))
end

--- Somebody with a role and a real session: {user, access_token, refresh_token}.
local function person(role)
  local data = check.status(client.post(AUTH .. "/register", { body = {
    name = "Person " .. role, email = new_email(), password = GOOD } }), 201).json().data
  if role == "customer" then return data end
  client.sql(("UPDATE users SET role = '%s' WHERE id = '%s'"):format(role, data.user.id))
  local again = check.status(client.post(AUTH .. "/login", { body = { email = data.user.email, password = GOOD } }), 200)
  return again.json().data
end

local function everywhere(token, status, path)
  for _ = 1, 12 do check.status(client.get(path or AUTH .. "/me", { token = token }), status) end
end

local function only_admins(...)
  local kept = { ... }
  for i, one in ipairs(kept) do kept[i] = "'" .. one.user.id .. "'" end
  client.sql("UPDATE users SET role = 'staff' WHERE role = 'admin' AND id NOT IN (" .. table.concat(kept, ",") .. ")")
end

local function patch(who, id, body)
  return client.patch(USERS .. "/" .. id, { token = who.access_token, body = body })
end

local function delete(who, id) return client.delete(USERS .. "/" .. id, { token = who.access_token }) end

local function role_of(id) return client.sql("SELECT role FROM users WHERE id = '" .. id .. "'") end

local admin = person "admin"
local others = { person "customer", person "rider", person "staff" }

return {
  { "for admins only", function()
    for _, request in ipairs {
      { "GET", USERS }, { "POST", USERS }, { "PATCH", USERS .. "/" .. admin.user.id },
      { "DELETE", USERS .. "/" .. admin.user.id }, { "GET", "/api/v1/admin/audit" },
    } do
      check.status(client.request(request[1], request[2]), 401, "UNAUTHENTICATED")
      for _, other in ipairs(others) do
        check.status(client.request(request[1], request[2], { token = other.access_token }), 403, "FORBIDDEN")
      end
    end
  end },

  { "list: who works here, without hashes; customers when asked for", function()
    local answer = check.status(client.get(USERS, { token = admin.access_token }), 200)
    local data = answer.json().data
    check.truthy(data.total >= 5 and data.page == 1 and data.limit == 20 and data.totalPages == 1, "page")
    for _, user in ipairs(data.users) do
      check.truthy(user.role ~= "customer", "no customer")
      check.equal(user.password_hash, nil)
    end
    check.truthy(not answer.body:find "%$2b", "no hash")
    local function list(query)
      return check.status(client.get(USERS .. query, { token = admin.access_token }), 200).json().data
    end
    for _, user in ipairs(list("?role=customer&limit=100").users) do check.equal(user.role, "customer") end
    check.equal(list("?search=sofia%40omade").users[1].email, "sofia@omadecravings.com")
    check.equal(list("?search=100%25_").total, 0)
    check.status(client.get(USERS .. "?role=king", { token = admin.access_token }), 400, "VALIDATION_ERROR")
  end },

  { "add: an account without password, a letter, a trace", function()
    local email = new_email()
    local function add(body) return client.post(USERS, { token = admin.access_token, body = body }) end
    local user = check.status(add { name = "New Rider", email = email:upper(), role = "rider",
                                    phone = "+4915112343333" }, 201).json().data
    check.same({ user.role, user.email, user.phone }, { "rider", email, "+4915112343333" })
    local mail = mailed(user.id, "user.invited")
    check.same({ mail.email, mail.name, mail.purpose }, { email, "New Rider", "set_password" })
    check.status(client.post(AUTH .. "/login", { body = { email = email, password = GOOD } }), 401)
    check.status(client.post(AUTH .. "/reset-password", { body = { token = mail.token, password = GOOD } }), 200)
    check.equal(check.status(client.post(AUTH .. "/login", { body = { email = email, password = GOOD } }), 200)
                .json().data.user.role, "rider")
    check.status(client.post(AUTH .. "/reset-password", { body = { token = mail.token, password = GOOD } }), 400,
                 "INVALID_TOKEN")

    check.status(add { name = "New Rider", email = email, role = "rider" }, 409, "EMAIL_TAKEN")
    check.status(add { name = "New Rider", email = new_email(), role = "rider", phone = "+4915112343333" }, 409,
                 "PHONE_TAKEN")
    local fields = check.status(add { name = "x", email = 1, role = "customer", phone = {} }, 400).json().fields
    check.truthy(fields.name and fields.email and fields.role and fields.phone, "all faults")
    check.equal(client.sql("SELECT action || actor_role || (actor_id = '" .. admin.user.id .. "') FROM audit_log WHERE "
                .. "entity = 'user' AND entity_id = '" .. user.id .. "'"), "user.createadmintrue")
  end },

  { "a role counts on the very next request, in each worker", function()
    local other = person "staff"
    everywhere(other.access_token, 200, "/api/v1/products/low-stock")
    local user = check.status(patch(admin, other.user.id, { role = "customer" }), 200).json().data
    check.equal(user.role, "customer")
    everywhere(other.access_token, 401, "/api/v1/products/low-stock")
    check.status(client.post(AUTH .. "/refresh", { body = { refresh_token = other.refresh_token } }), 401)
    local again = check.status(client.post(AUTH .. "/login", { body = { email = other.user.email, password = GOOD } }), 200)
    everywhere(again.json().data.access_token, 403, "/api/v1/products/low-stock")
    check.equal(client.sql("SELECT changes FROM audit_log WHERE action = 'user.update' AND entity_id = '" .. user.id .. "'"),
                '{"role": {"to": "customer", "from": "staff"}, "fields": ["role"]}')
  end },

  { "a demotion while the person signs in leaves no session of the old role", function()
    for _ = 1, 5 do
      local other = person "staff"
      local requests = {}
      for i = 1, 8 do
        requests[i] = { "POST", AUTH .. "/login", { body = { email = other.user.email, password = GOOD } } }
      end
      table.insert(requests, 4, { "PATCH", USERS .. "/" .. other.user.id,
                                  { token = admin.access_token, body = { role = "customer" } } })
      local answers = client.parallel(requests)
      check.status(table.remove(answers, 4), 200)
      for _, answer in ipairs(answers) do
        if answer.status == 200 then
          local seen = client.get("/api/v1/products/low-stock", { token = answer.json().data.access_token }).status
          check.truthy(seen == 401 or seen == 403, "no rights of before: " .. seen)
        end
      end
    end
  end },

  { "name, phone and address; the same again is no change", function()
    local other = person "staff"
    local user = check.status(patch(admin, other.user.id, { name = "Renamed", phone = "+4915112344444" }), 200).json().data
    check.same({ user.name, user.phone }, { "Renamed", "+4915112344444" })
    everywhere(other.access_token, 200)
    check.status(patch(admin, other.user.id, { name = "Renamed", role = "staff" }), 200)
    everywhere(other.access_token, 200)
    check.equal(client.sql("SELECT changes FROM audit_log WHERE entity_id = '" .. other.user.id .. "'"),
                '{"fields": ["name", "phone"]}', "no name or number")
    check.equal(check.status(patch(admin, other.user.id, { phone = cjson.null }), 200).json().data.phone, cjson.null)
    local email = new_email()
    check.equal(check.status(patch(admin, other.user.id, { email = email }), 200).json().data.email, email)
    everywhere(other.access_token, 401)
    check.status(patch(admin, other.user.id, { email = admin.user.email }), 409, "EMAIL_TAKEN")
    check.status(patch(admin, other.user.id, {}), 400, "VALIDATION_ERROR")
    check.status(patch(admin, NOBODY, { role = "staff" }), 404, "NOT_FOUND")
    check.status(patch(admin, NOBODY, { name = "Somebody" }), 404, "NOT_FOUND")
    check.status(patch(admin, "1", { role = "staff" }), 400)
  end },

  { "delete: gone at once, sales stay", function()
    local other = person "staff"
    check.status(delete(admin, other.user.id), 200)
    everywhere(other.access_token, 401)
    check.status(client.post(AUTH .. "/login", { body = { email = other.user.email, password = GOOD } }), 401)
    check.status(delete(admin, other.user.id), 404, "NOT_FOUND")
    check.status(delete(admin, NOBODY), 404)
    check.status(patch(admin, other.user.id, { role = "admin" }), 404)
    check.matches(client.sql("SELECT email || name FROM users WHERE id = '" .. other.user.id .. "'"), "@deleted.invalidDeleted user$")
    local john = "00000000-0000-0000-0000-000000000001"
    local sales = client.sql("SELECT count(*), sum(total_amount) FROM orders WHERE user_id = '" .. john .. "'")
    check.status(delete(admin, john), 200)
    check.equal(client.sql("SELECT count(*), sum(total_amount) FROM orders WHERE user_id = '" .. john .. "'"), sales)
  end },

  { "nobody demotes or deletes himself; the last admin stays", function()
    local second = person "admin"
    only_admins(admin, second)
    check.status(patch(admin, admin.user.id, { role = "customer" }), 409, "CONFLICT")
    check.status(delete(admin, admin.user.id), 409, "CONFLICT")
    check.status(patch(admin, admin.user.id, { name = "Still Admin", role = "admin" }), 200)
    check.status(patch(admin, second.user.id, { role = "staff" }), 200)
    check.status(patch(admin, admin.user.id, { role = "staff" }), 409, "LAST_ADMIN")
    check.status(delete(admin, admin.user.id), 409, "LAST_ADMIN")
    everywhere(admin.access_token, 200, USERS)
  end },

  { "two admins who demote or delete each other at once leave one", function()
    for round = 1, 6 do
      local a, b = person "admin", person "admin"
      only_admins(a, b)
      local method = round % 2 == 0 and "DELETE" or "PATCH"
      local body = method == "PATCH" and { role = "staff" } or nil
      local answers = client.parallel {
        { method, USERS .. "/" .. b.user.id, { token = a.access_token, body = body } },
        { method, USERS .. "/" .. a.user.id, { token = b.access_token, body = body } },
      }
      check.equal(client.sql "SELECT count(*) FROM users WHERE role = 'admin' AND deleted_at IS NULL", "1")
      local good = 0
      for _, answer in ipairs(answers) do
        if answer.status == 200 then good = good + 1 else
          check.truthy(answer.status == 409 or answer.status == 401 or answer.status == 404, answer.body)
        end
      end
      check.equal(good, 1)
    end
    check.truthy(role_of(admin.user.id) ~= "admin", "admin")
    client.sql("UPDATE users SET role = 'admin' WHERE id = '" .. admin.user.id .. "'")
  end },

  { "audit: who changed what, filtered and paged", function()
    local function list(query)
      return check.status(client.get("/api/v1/admin/audit" .. query, { token = admin.access_token }), 200).json().data
    end
    local all = list "?limit=3"
    check.equal(#all.entries, 3)
    check.truthy(all.total > 3 and all.entries[1].id > all.entries[2].id, "newest first")
    local entry
    for _, one in ipairs(list("?entity=user&actor=" .. admin.user.id).entries) do
      entry = entry or one.action == "user.update" and one
    end
    check.same({ entry.entity, entry.actor_id, entry.actor_role, entry.ip }, { "user", admin.user.id, "admin", "127.0.0.1" })
    check.equal(entry.actor_name, "Still Admin")
    for _, one in ipairs(list("?entity=user&id=" .. entry.entity_id).entries) do check.equal(one.entity_id, entry.entity_id) end
    check.equal(list("?actor=" .. NOBODY).total, 0)
    check.status(client.get("/api/v1/admin/audit?actor=me", { token = admin.access_token }), 400, "VALIDATION_ERROR")
  end },
}
