--- Routes, and what handlers answer with.
--
-- A handler returns data, which the engine wraps as {success = true, data = ...}, or one
-- of the answers made here.  web.fail ends it with an error answer.

local engine = require "omade.core.engine"

---@class omade.web
local web = {}

---@alias omade.who "anyone"|"optional"|"any"|"customer"|"rider"|"staff"|"admin"|string[]

---@alias omade.fields omade.shape|table<string, omade.rule|omade.shape|fun(): omade.rule>

---@class omade.route
---@field [1] string method: GET, POST, PUT, PATCH, DELETE, OPTIONS, or ANY
---@field [2] string path below the prefix: "/", "/:id", "/files/*rest"
---@field [3] fun(req: omade.request): any the handler
---@field who omade.who who may call; a route without it does not load
---@field params? omade.fields of the path
---@field query? omade.fields of the query
---@field headers? omade.fields of the headers (names in lower case)
---@field body? omade.fields|"stream"|"file" of the body; or how it is read
---@field form? boolean takes a form (urlencoded or multipart) beside JSON
---@field files? string[] parts of a multipart body that may be files: see omade.uploads
---@field reads? omade.shape of a body that the handler checks itself (omade.validate's `body`)
---@field guest_sends? string a header without which a guest is nobody: 401
---@field sends? table<string, string> headers that the handler looks at, and what they are; for the documentation
---@field body_limit? integer bytes; the default is HTTP_BODY_LIMIT
---@field etag? boolean answer with an ETag, and 304 when it is the same
---@field public? boolean caches may keep the answer (no Cache-Control: no-store)
---@field limit? omade.route_limit its rate limit: a name of the app's `limits` (default general), or false
---@field idempotent? boolean takes an Idempotency-Key; see omade.idempotency
---@field summary? string one line for the documentation
---@field description? string more of it
---@field answer? table a shape, or schema (omade.schema), of the data; for the documentation, like what follows
---@field status? integer|integer[] of a success; 200 otherwise
---@field errors? table<integer, string> what else may go wrong
---@field bare? boolean the answer has no envelope
---@field type? string|string[] media type of the answer

---@class omade.data_options
---@field status? integer
---@field message? string
---@field headers? table<string, string>
---@field cookies? string[]

---@class omade.fail_options
---@field code? string the usual one of the status otherwise
---@field fields? table<string, string> what is wrong with which field
---@field errors? string[]
---@field headers? table<string, string>
---@field extra? table its fields join the body
---@field detail? string for the log only

---@class omade.common
---@field who? omade.who
---@field limit? omade.route_limit
---@field before? fun(req: omade.request): any
---@field after? fun(req: omade.request, result: any): any

---@class omade.request
---@field method string
---@field path string decoded
---@field params table<string, any> of the path, as the shape made them
---@field query table<string, any>
---@field headers table<string, string> names in lower case
---@field cookies table<string, string>
---@field body any as the shape made it; JSON, a form, or nil
---@field raw string the body's bytes
---@field files? table<string, omade.file> of a multipart body, on routes with `files`
---@field id string X-Request-Id of the answer
---@field ip string the client's address; what a proxy of TRUSTED_PROXIES says counts
---@field scheme "https"|"http" "https" when such a proxy says so
---@field host string
---@field user? omade.user who asks; not on routes for `anyone`: see auth.user
---@field cancelled boolean the client is gone
---@field header fun(self, name: string): string? one header
---@field add_header fun(self, name: string, value: string) of any answer to it, errors too
---@field read fun(self): string? next piece of a body = "stream"; nil at the end
---@field size? integer bytes of a body = "file"
---@field save fun(self, path: string): true?, string? keeps a body = "file" under a new name on the
---disk of UPLOAD_DIR; nil and a message when it cannot

local Answer <const> = engine.answer

--- Declares routes below a prefix.  The result belongs in app.lua's `routes`.
---@param prefix string "/api/v1/products", or ""
---@param routes omade.route[]
---@return table
function web.routes(prefix, routes)
  return web.group(prefix, {}, routes)
end

--- Like web.routes, with what all of them have in common: who, and functions that run
-- before (after the checks; a non-nil result is the answer) and after (gets req and the
-- handler's result, and returns the answer's).
---@param prefix string
---@param common omade.common
---@param routes omade.route[]
---@return table
function web.group(prefix, common, routes)
  if type(prefix) ~= "string" or type(common) ~= "table" or type(routes) ~= "table" then
    error("web.routes takes a prefix and a list of routes; web.group the common table between them", 2)
  end
  return { prefix = prefix, common = common, routes = routes, is_routes = true }
end

--- Bare JSON, without the envelope.
---@param body any
---@param options? {status?: integer, headers?: table<string, string>, cookies?: string[]}
---@return table answer
function web.json(body, options)
  if not options then return Answer { value = body, bare = true } end
  return Answer { status = options.status, headers = options.headers,
                  cookies = options.cookies, value = body, bare = true }
end

--- Data with another status, message, headers or cookies than the usual.
---@param data any
---@param options omade.data_options
---@return table answer
function web.data(data, options)
  return Answer { status = options.status, message = options.message, value = data,
                  headers = options.headers, cookies = options.cookies }
end

--- 201 with the new thing as data.
---@param data any
---@param message? string
---@return table answer
function web.created(data, message)
  return Answer { status = 201, value = data, message = message }
end

--- 204.
---@return table answer
function web.no_content()
  return Answer { status = 204, empty = true }
end

--- Bytes as they are, with their media type.
---@param body string|omade.bytes a string or bytes (redis.get_bytes, db.json)
---@param type? string default "text/plain; charset=utf-8"
---@param options? {status?: integer, headers?: table<string, string>, cookies?: string[]}
---@return table answer
function web.raw(body, type, options)
  type = type or "text/plain; charset=utf-8"
  if not options then return Answer { value = body, bare = true, type = type } end
  return Answer { status = options.status, headers = options.headers,
                  cookies = options.cookies, value = body, bare = true, type = type }
end

local TYPES <const> = {
  css = "text/css; charset=utf-8", html = "text/html; charset=utf-8", ico = "image/x-icon",
  jpeg = "image/jpeg", jpg = "image/jpeg", js = "text/javascript; charset=utf-8",
  json = "application/json; charset=utf-8", map = "application/json", pdf = "application/pdf", png = "image/png",
  svg = "image/svg+xml", txt = "text/plain; charset=utf-8", webp = "image/webp", woff2 = "font/woff2",
  xml = "application/xml",
}

--- A file's bytes, read off the loop; ETag and Last-Modified are the file's.
---@param path string absolute, or from the app folder
---@param options? {type?: string, headers?: table<string, string>}
---@return table answer
function web.file(path, options)
  options = options or {}
  if path:find("\0", 1, true) then web.fail(404, "There is no such file") end
  if path:sub(1, 1) ~= "/" then path = engine.app() .. "/" .. path end
  local ending = path:match("%.(%w+)$")
  return Answer { file = path, headers = options.headers,
                  type = options.type or TYPES[ending and ending:lower()] or "application/octet-stream" }
end

--- Routes that serve the files below a folder; hidden ones are not there.
---@param prefix string "/assets"
---@param folder string absolute, or from the app folder
---@param options? {who?: omade.who, headers?: table<string, string>, index?: string}
---@return table
function web.static(prefix, folder, options)
  options = options or {}
  local function serve(req)
    local path = req.params.path
    if path == "" or path:sub(-1) == "/" then path = path .. (options.index or "index.html") end
    if ("/" .. path):find("/%.") then web.fail(404, "There is no such file") end
    return web.file(folder .. "/" .. path, { headers = options.headers })
  end

  return web.group(prefix, { who = options.who or "anyone" }, {
    { "GET", "/*path", serve, public = true, summary = "Files" },
  })
end

--- Whether a handler's result was made here, and is not mere data.
---@param result any
---@return boolean
function web.is_answer(result)
  return engine.is_answer(result)
end

--- Sends the client elsewhere.
---@param location string
---@param status? integer 303 by default
---@return table answer
function web.redirect(location, status)
  if type(location) ~= "string" then error("web.redirect takes the URL to go to", 2) end
  return Answer { status = status or 303, empty = true, headers = { Location = location } }
end

--- The list shape of the API: {<name>: rows, total, page, limit, totalPages}.
---@param name string
---@param rows table|omade.bytes rows, or their JSON bytes
---@param total integer
---@param page {page: integer, limit: integer}
---@return table
function web.list(name, rows, total, page)
  if type(name) ~= "string" or math.type(total) ~= "integer" or type(page) ~= "table"
    or not page.page or not page.limit then
    error("web.list takes a name, rows, the total and {page =, limit =}", 2)
  end
  return {
    [name] = rows, total = total, page = page.page, limit = page.limit,
    totalPages = (total + page.limit - 1) // page.limit,
  }
end

--- A Set-Cookie value: HttpOnly, SameSite=Lax, Secure outside development.
---@param name string
---@param value string
---@param options? {max_age?: integer, path?: string, same_site?: string}
---@return string
function web.cookie(name, value, options)
  options = options or {}
  if type(name) ~= "string" or not name:find("^[%w_%-%.]+$") then
    error("web.cookie: malformed name", 2)
  end
  if type(value) ~= "string" or value:find('[%c%s",;\\]') then error("web.cookie: malformed value", 2) end
  local parts = { name .. "=" .. value, "Path=" .. (options.path or "/"), "HttpOnly",
                  "SameSite=" .. (options.same_site or "Lax") }
  if options.max_age then parts[#parts + 1] = "Max-Age=" .. options.max_age end
  if not engine.development() then parts[#parts + 1] = "Secure" end
  return table.concat(parts, "; ")
end

--- Ends the handler with an error answer.
---@param status integer 400 to 599
---@param message string for the client
---@param options? omade.fail_options
function web.fail(status, message, options)
  options = options or {}
  if math.type(status) ~= "integer" or status < 400 or status > 599 then
    error("web.fail: the status is 400 to 599, not " .. tostring(status), 2)
  end
  error(engine.fail { status = status, message = message, code = options.code,
                      fields = options.fields, errors = options.errors,
                      headers = options.headers, extra = options.extra,
                      detail = options.detail }, 0)
end

---@class omade.stream
---Waits while the client reads slowly: while it has more than HTTP_WRITE_BUFFER, or `ahead`
---bytes where that is more, still to take.
---@field write fun(self, bytes: string, ahead?: integer)
---@field event fun(self, data: string, name?: string, id?: string) one Server-Sent Event

--- A streamed answer: fn runs after the head was sent and writes pieces.  It is ended
-- when its client leaves.
---@param req omade.request
---@param fn fun(stream: omade.stream)
---@param options? {type?: string, status?: integer, headers?: table<string, string>}
function web.stream(req, fn, options)
  if type(req) ~= "userdata" or type(fn) ~= "function" then
    error("web.stream takes req, a function that gets the stream, and options", 2)
  end
  options = options or {}
  fn(engine.stream_begin(req, options.status or 200, options.type or "text/event-stream",
                         options.headers))
end

return web
