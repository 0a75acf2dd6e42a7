--- PostgreSQL, as straight-line code: each call suspends the coroutine, never the process.
--
-- Parameters ($1, $2 ...) may be strings, numbers, booleans, nil, money, decimals and
-- tables (sent as JSON).  A failed call raises an error with `status`, `code`,
-- `sqlstate` and `constraint`; uncaught, it becomes the right answer by itself.

---@class omade.db
---@field row fun(sql: string, ...: any): table? the first row, or nil
---@field rows fun(sql: string, ...: any): table[] all rows
---@field exec fun(sql: string, ...: any): integer the number of rows it touched
---@field json fun(sql: string, ...: any): omade.bytes all rows as JSON bytes, made in C
---@field json_row fun(sql: string, ...: any): omade.bytes? the first row as JSON bytes
---@field batch fun(statements: omade.statement[]): any[] all or nothing, in one round trip
---@field all fun(statements: omade.statement[]): any[] side by side, in one round trip
---Commits when fn returns, rolls back when it raises; runs it again after a
---serialisation failure or a deadlock.
---@field transaction fun(fn: fun(): ...): ...
---The last act of fn: a batch that leaves together with COMMIT.  When it raises, nothing of
---the transaction was done; behind it no statement may follow.
---@field commit fun(statements: omade.statement[]): any[]
---Statements of fn (without fn: of the rest of the task) carry that user for row-level
---security.
---@field as fun(who: omade.identity?, fn?: fun(): ...): ...
---@field listen fun(channel: string): omade.subscription notifications of a channel

---@class omade.identity
---@field user_id? string
---@field role? string
---@field order_id? string a guest's order

---@class omade.statement
---@field [1] string SQL; parameters behind it
---@field n? integer how many entries, when nils are among them
---@field as? "rows"|"row"|"exec"|"json"|"json_row" default "rows"
---@field timeout? number seconds, in db.all only; otherwise DB_QUERY_TIMEOUT

---@class omade.subscription
---Waits: a payload; false when some may have been missed (first of all when listening has
---begun: look then, and nothing is missed); nil when the time is over.
---@field next fun(self, seconds?: number): string|false|nil
---@field close fun(self)

return require "omade.core.db"
