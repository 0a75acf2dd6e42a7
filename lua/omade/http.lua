--- Requests to other servers.  Any status is an answer; only a server that cannot be
-- reached (503), that is too slow (504) or whose answer is too large (503) raises.

---@class omade.http
---Waits for the whole answer.  Certificates are verified; redirects are not followed
---unless asked for.
---@field request fun(options: omade.http.options): omade.http.answer

---@class omade.http.options
---@field url string http://... or https://...
---@field method? "GET"|"HEAD"|"POST"|"PUT"|"PATCH"|"DELETE"|"OPTIONS" default "GET"
---@field headers? table<string, string|number>
---@field body? string|omade.bytes text or JSON bytes; set Content-Type for it
---@field timeout? number seconds for all of it (10), up to 120
---@field max_bytes? integer the largest body to take (1,048,576), up to 16,777,216
---@field follow? boolean follow up to 5 redirects; GET and HEAD only

---@class omade.http.answer
---@field status integer
---@field headers table<string, string> by lower-case name; of repeated ones joined by ", "
---@field body string

return require "omade.core.http"
