--- Files that clients send: streamed to the disk, bounded, checked by content.
--
-- A route says `files = {"image"}`: then it takes multipart/form-data beside JSON.  The
-- fields are req.body, read as text, where a shape has `image = v.file()`; req.files.image
-- is what was sent.  Nothing is kept until uploads.keep(req, "image") is called: check all
-- else first.

local crypto = require "omade.crypto"
local engine = require "omade.core.engine"
local json   = require "omade.json"
local web    = require "omade.web"

---@class omade.uploads
local uploads = {}

---@class omade.file
---@field filename string as the client calls it; never used for anything
---@field size integer bytes
---@field kind "jpeg"|"png"|"webp" by its content
---@field width integer
---@field height integer

local FILE_MAX   <const> = 10 << 20         -- bytes
local AROUND_MAX <const> = 2 << 20          -- of a form with one such file: fields, boundaries
local SIDE_MAX   <const> = 12000            -- pixels
local AREA_MAX   <const> = 50 * 1000 * 1000

local ENDINGS <const> = { jpeg = "jpg", png = "png", webp = "webp" }
local TYPES <const> = { jpg = "image/jpeg", png = "image/png", webp = "image/webp" }

--- Where a kept file is served.
uploads.prefix = "/uploads/"

--- For the engine: the largest body of a route that takes these files.
---@param names string[]
---@return integer
function uploads.body_limit(names)
  return #names * FILE_MAX + AROUND_MAX
end

---- Receiving ------------------------------------------------------------------------

--- The fault of a file, if any.
local function fault_of(part)
  if not part.kind then return 415, "must be a JPEG, PNG or WebP image" end
  if part.size > FILE_MAX then return 413, "must be at most 10 MB" end
  if part.width > SIDE_MAX or part.height > SIDE_MAX or part.width * part.height > AREA_MAX then
    return 400, ("must be at most %d pixels a side, and 50 megapixels"):format(SIDE_MAX)
  end
  return nil
end

local function refuse(status, name, message)
  message = name:sub(1, 1):upper() .. name:sub(2) .. " " .. message
  web.fail(status, message, { code = status == 400 and "VALIDATION_ERROR" or nil,
                              fields = { [name] = message }, errors = json.array { message } })
end

--- A browser sends an empty part where no file was chosen.
local function is_chosen(part)
  return part.size > 0 or part.filename ~= ""
end

--- For the engine: reads a multipart body; others are left alone.
---@param req omade.request
---@param names string[] the parts that may be files
function uploads.receive(req, names)
  local parts = engine.upload_parts(req)
  if not parts then return end
  local known, body, files = {}, {}, {}
  for _, name in ipairs(names) do known[name] = true end

  for i = 2, #parts do
    local part = parts[i]
    if part.text then
      body[part.name] = part.text
    elseif known[part.name] and is_chosen(part) then
      local status, message = fault_of(part)
      if status then refuse(status, part.name, message) end
      files[part.name], body[part.name] = part, part
    elseif is_chosen(part) then
      body[part.name] = false      -- a file where the route takes none: no rule accepts it
    end
  end
  req.form, req.body, req.files = parts[1], body, files
end

---- Keeping --------------------------------------------------------------------------

--- Keeps a file under a name of its own; raises 507 when there is no room.
---@param req omade.request
---@param name string of the part
---@return string? reference the file's name, nil when none was sent
---@return string? url where it is served
---@return omade.file? file
function uploads.keep(req, name)
  local file = req.files and req.files[name]
  if not file then return nil end
  local reference = crypto.token(16) .. "." .. ENDINGS[file.kind]
  engine.upload_keep(req.form, file.at, engine.upload_dir() .. "/" .. reference)
  return reference, uploads.prefix .. reference, file
end

--- Removes what was kept in vain.
---@param reference string?
function uploads.drop(reference)
  if reference then engine.upload_drop(engine.upload_dir() .. "/" .. reference) end
end

--- Whether a text is the name of a kept file.
---@param text string
---@return boolean
function uploads.is_reference(text)
  local ending = text:match "^%x+%.(%l+)$"
  return #text:match "^%x*" == 32 and TYPES[ending] ~= nil
end

--- A kept file as an answer; caches may keep it for ever, its name never means another.
---@param reference string
---@return table answer
function uploads.answer(reference)
  if not uploads.is_reference(reference) then web.fail(404, "There is no such file") end
  return web.file(engine.upload_dir() .. "/" .. reference, {
    type = TYPES[reference:match "%l+$"],
    headers = { ["Cache-Control"] = "public, max-age=31536000, immutable",
                ["Content-Security-Policy"] = "default-src 'none'" },
  })
end

return uploads
