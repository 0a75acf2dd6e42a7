--- JSON, the same codec that reads request bodies and writes answers.
--
--   local json = require "omade.json"
--   local value, why = json.decode('{"tags": [], "price": 25.99}')
--   json.encode { tags = json.array(), price = money("25.99") }
--
-- Reading keeps integers exact and empty lists lists, refuses duplicate keys, and
-- gives json.null for null (which is true in an `if`: compare with json.null).
-- Writing sorts keys, so the same value is the same text; rows keep their column
-- order; money and decimals are numbers with their own digits.

---JSON that C made and sends as it is: what db.json, redis.get_bytes and cache.fetch give.
---@class omade.bytes: userdata
---@operator len: integer
---The same as a Lua string, like tostring(bytes).
---@field string fun(self: omade.bytes): string

---@class omade.json.options
---Numbers with a fraction or beyond int64 stay decimals instead of becoming floats.
---@field exact? boolean

---@class omade.json
---Stands for null, also in lists.
---@field null lightuserdata
---Reads one JSON text, nested at most 100 deep.  Bad text gives nil and a message with
---its line and column.  Accepts the bytes that db.json and cache.fetch return.
---@field decode fun(text: string|omade.bytes, options?: omade.json.options): any, string?
---Writes a value.  Raises, naming the place, for functions, NaN, text that is not UTF-8,
---tables with both list and object keys, more than 100 levels or 16 MiB.
---@field encode fun(value: any): string
---Any bytes as text that JSON can hold: U+FFFD stands for what is not UTF-8.
---@field text fun(bytes: string): string
---Marks a table as a list, so that an empty one is [] and not {}.  Without a table: a new one.
---@field array fun(list?: table): table
---Marks a table as an object.  Without a table: a new one.
---@field object fun(members?: table): table
---Whether a table is marked as a list; what decode read from [...] is.
---@field is_array fun(value: any): boolean

return require "omade.core.json"
