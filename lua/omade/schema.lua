--- Schemas of answers, for `answer` of a route: JSON Schema as OpenAPI 3.1 takes it.
--
-- answer = schema.object { id = schema.uuid, ["notes?"] = schema.nullable(schema.text) }

local json = require "omade.json"

---@class omade.schema
local schema = {}

schema.any     = json.object { description = "whatever JSON holds" }
schema.null    = { type = "null" }
schema.text    = { type = "string" }
schema.boolean = { type = "boolean" }
schema.integer = { type = "integer" }
schema.count   = { type = "integer", minimum = 0 }
schema.number  = { type = "number" }
schema.money   = { type = "number", multipleOf = 0.01 }
schema.uuid    = { type = "string", format = "uuid" }
schema.date    = { type = "string", format = "date" }
schema.time    = { type = "string", format = "date-time" }

--- What the app calls so in `openapi = {schemas = {...}}`.
---@param name string
---@return table
function schema.ref(name) return { ["$ref"] = "#/components/schemas/" .. name } end

--- The same, or null.
---@param one table
---@return table
function schema.nullable(one) return { anyOf = json.array { one, schema.null } } end

--- One of several.
---@param ... table
---@return table
function schema.either(...) return { anyOf = json.array { ... } } end

--- One of a list of words.
---@param words string[]
---@return table
function schema.one_of(words) return { type = "string", enum = json.array { table.unpack(words) } } end

---@param item table
---@return table
function schema.list(item) return { type = "array", items = item } end

--- Any names, with values of one kind.
---@param value table
---@return table
function schema.map(value) return { type = "object", additionalProperties = value } end

--- Fields by name; all are there but those whose name ends with "?".
---@param fields table<string, table>
---@return table
function schema.object(fields)
  local properties, required = json.object {}, {}
  for name, field in pairs(fields) do
    local plain = name:match "^(.*)%?$"
    properties[plain or name] = field
    if not plain then required[#required + 1] = name end
  end
  table.sort(required)
  return { type = "object", properties = properties, required = #required > 0 and json.array(required) or nil }
end

--- The events of a route whose type is "text/event-stream", as a list: names, and what JSON
-- their data is.
---@param kinds table<string, table>
---@return table
function schema.events(kinds)
  local names, list = {}, {}
  for name in pairs(kinds) do names[#names + 1] = name end
  table.sort(names)
  for i, name in ipairs(names) do
    local data = { type = "string", contentMediaType = "application/json", contentSchema = kinds[name] }
    list[i] = schema.object { id = schema.text, event = { const = name }, data = data }
  end
  return schema.list(schema.either(table.unpack(list)))
end

--- The fields of one with those of another.
---@param one table of schema.object
---@param fields table<string, table>
---@return table
function schema.with(one, fields)
  local all = {}
  for name, field in pairs(one.properties) do all[name .. "?"] = field end
  for _, name in ipairs(one.required or {}) do all[name], all[name .. "?"] = one.properties[name], nil end
  for name, field in pairs(fields) do all[name] = field end
  return schema.object(all)
end

--- What omade.page and web.list answer; more fields beside the list where there are some.
---@param name string
---@param item table
---@param more? table<string, table>
---@return table
function schema.page(name, item, more)
  return schema.with(schema.object {
    [name] = schema.list(item), total = schema.count, page = schema.count, limit = schema.count,
    totalPages = schema.count, ["total_is_estimate?"] = schema.boolean,
  }, more or {})
end

return schema
