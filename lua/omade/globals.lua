---@meta _
--- Functions that every script has without require.

--- Runs 1 to 64 functions side by side and returns their first results, in order.  The
-- first error ends the others.
---@param ... fun(): any
---@return any ...
function all(...) end

--- Runs a function beside the request, in a task of its own; its error is logged.
---@param fn fun()
function spawn(fn) end

--- Declares a background job, at the top of a file.  "cluster", the default, runs it once
-- for all workers and machines.
---@param seconds number
---@param name string
---@param fn fun()
---@param options? {where: "cluster"|"worker"}
function every(seconds, name, fn, options) end

--- Suspends the task.
---@param seconds number
function sleep(seconds) end
