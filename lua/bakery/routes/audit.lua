--- Who changed what, when.

local page = require "omade.page"
local s    = require "omade.schema"
local v    = require "omade.validate"
local web  = require "omade.web"

local List <const> = v.shape(page.fields {
  entity = v.text { min = 1, max = 50, optional = true },       -- such as product
  id     = v.text { min = 1, max = 100, optional = true },      -- of the entity
  actor  = v.uuid { optional = true },
})

local COLUMNS <const> = [[a.id, a.at, a.actor_id, a.actor_role, u.name AS actor_name, a.action,
  a.entity, a.entity_id, a.changes, a.ip, a.request_id]]

--- Newest first.
local function list(req)
  local q, filter = req.query, page.filter()
  filter:add("a.entity = %s", q.entity)
  filter:add("a.entity_id = %s", q.id)
  filter:add("a.actor_id = %s", q.actor)
  return page.list("entries", q, {
    select = COLUMNS, from = "audit_log a LEFT JOIN users u ON u.id = a.actor_id" .. filter:sql(),
    order = "a.id DESC", values = filter.values })
end

local maybe <const> = s.nullable

local Entry <const> = s.object {
  id = s.count, at = s.time, actor_id = maybe(s.uuid), actor_role = maybe(s.text), actor_name = maybe(s.text),
  action = s.text, entity = s.text, entity_id = maybe(s.text), changes = s.any, ip = maybe(s.text),
  request_id = maybe(s.text),
}

return web.routes("/api/v1/admin/audit", {
  { "GET", "/", list, who = "admin", query = List,
    answer = s.page("entries", Entry), summary = "Who changed what, when" },
})
