--- Who changed what, when: written in the transaction of the change, by staff and admins.

local db = require "omade.db"

local audit = {}

local INSERT <const> = [[
  INSERT INTO audit_log (action, entity, entity_id, changes, ip, request_id)
  VALUES ($1, $2, $3, $4, $5, $6)]]

--- The statement, for a db.batch.  Actor and role are those of the request.
---@param req omade.request
---@param action string "product.update"
---@param entity string "product"
---@param id? string
---@param changes? table what was and what is; never a secret
---@return omade.statement
function audit.entry(req, action, entity, id, changes)
  return { INSERT, action, entity, id, changes, req.ip, req.id, n = 7, as = "exec" }
end

--- Writes it now.
---@param req omade.request
---@param action string
---@param entity string
---@param id? string
---@param changes? table
function audit.write(req, action, entity, id, changes)
  db.exec(INSERT, action, entity, id, changes, req.ip, req.id)
end

return audit
